#include "dialects/Sequences.h"

#include "dialects/Llm.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;

namespace ingot::llm {

static FunctionOpInterface functionOf(Operation *op) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  return function ? function : op->getParentOfType<FunctionOpInterface>();
}

static RankedTensorType matrixOfF32(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == 2 && tensor.getElementType().isF32() && tensor.hasStaticShape()
             ? tensor
             : RankedTensorType();
}

// The rows of its tokens or logits, where that is all it takes; else 0.
static int64_t rowsOf(FunctionOpInterface function) {
  if (function.getNumArguments() != 1)
    return 0;
  const Type type = function.getArgumentTypes().front();
  if (RankedTensorType logits = matrixOfF32(type))
    return logits.getDimSize(0);
  auto tokens = dyn_cast<RankedTensorType>(type);
  return tokens && tokens.getRank() == 1 && tokens.getElementType().isInteger(32) && tokens.hasStaticShape()
             ? tokens.getDimSize(0)
             : 0;
}

// Nothing, or logits of as many rows.
static bool returnsRows(FunctionOpInterface function, int64_t rows) {
  if (function.getNumResults() == 0)
    return true;
  RankedTensorType logits = function.getNumResults() == 1 ? matrixOfF32(function.getResultTypes().front()) : nullptr;
  return logits && logits.getDimSize(0) == rows;
}

int64_t sequencesOf(Operation *op) {
  FunctionOpInterface function = functionOf(op);
  return function && function->hasAttr(kSequencesName) ? rowsOf(function) : 0;
}

LogicalResult verifySequences(Operation *op, NamedAttribute attribute) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function)
    return op->emitError() << "'" << kSequencesName << "' belongs to a function, got " << op->getName();
  if (!isa<UnitAttr>(attribute.getValue()))
    return op->emitError() << "'" << kSequencesName << "' expected no value, got " << attribute.getValue();
  const int64_t rows = rowsOf(function);
  if (rows < 2 || rows > kFewRows || !returnsRows(function, rows))
    return op->emitError()
           << "'" << kSequencesName << "' expected a function of 2 to " << kFewRows
           << " tokens (i32) or rows of logits (f32) that returns nothing or as many rows of logits, got "
           << function.getFunctionType();
  return success();
}

} // namespace ingot::llm
