#include "dialects/Sequences.h"

#include "dialects/Llm.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;

namespace ingot::llm {

static FunctionOpInterface functionOf(Operation *op) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  return function ? function : op->getParentOfType<FunctionOpInterface>();
}

// Its tokens, where that is all it takes; else 0.
static int64_t tokensOf(FunctionOpInterface function) {
  if (function.getNumArguments() != 1)
    return 0;
  auto type = dyn_cast<RankedTensorType>(function.getArgumentTypes().front());
  return type && type.getRank() == 1 && type.getElementType().isInteger(32) && type.hasStaticShape()
             ? type.getDimSize(0)
             : 0;
}

int64_t sequencesOf(Operation *op) {
  FunctionOpInterface function = functionOf(op);
  return function && function->hasAttr(kSequencesName) ? tokensOf(function) : 0;
}

LogicalResult verifySequences(Operation *op, NamedAttribute attribute) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function)
    return op->emitError() << "'" << kSequencesName << "' belongs to a function, got " << op->getName();
  if (!isa<UnitAttr>(attribute.getValue()))
    return op->emitError() << "'" << kSequencesName << "' expected no value, got " << attribute.getValue();
  const int64_t tokens = tokensOf(function);
  if (tokens < 2 || tokens > kFewRows || function.getNumResults() != 0)
    return op->emitError() << "'" << kSequencesName << "' expected a function of a tensor of 2 to " << kFewRows
                           << " i32 that returns nothing, got " << function.getFunctionType();
  return success();
}

} // namespace ingot::llm
