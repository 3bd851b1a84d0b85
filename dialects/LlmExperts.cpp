// Verifiers and type inference of the ops of dialects/LlmExperts.td.
#include "dialects/Llm.h"

#include "dialects/LlmChecks.h"

using namespace mlir;

namespace ingot::llm {

static constexpr int64_t kMostExperts = 1024, kMostChosen = 32;

static ArrayRef<int64_t> shapeOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }

LogicalResult RouteOp::verify() {
  const int64_t experts = shapeOf(getLogits())[1], top = static_cast<int64_t>(getTop());
  if (experts > kMostExperts)
    return emitOpError() << "expected at most " << kMostExperts << " experts, got " << getLogits().getType();
  if (top < 1 || top > kMostChosen || top > experts)
    return emitOpError() << "expected 'top' from 1 to " << std::min(kMostChosen, experts) << ", got " << top;
  if (!getShared())
    return success();
  if (shapeOf(getShared()) != ArrayRef<int64_t>{shapeOf(getLogits())[0], 1})
    return emitOpError() << "expected 'shared' to have one column and a row for each of " << getLogits().getType()
                         << ", got " << getShared().getType();
  if (top == kMostChosen)
    return emitOpError() << "expected 'top' of at most " << kMostChosen - 1 << " beside 'shared', got " << top;
  return success();
}

LogicalResult RouteOp::verifySymbolUses(SymbolTableCollection &tables) {
  return getFactors() ? checkWeight(*this, tables, getFactorsAttr(), {shapeOf(getLogits())[1]}) : success();
}

LogicalResult RouteOp::inferReturnTypes(MLIRContext *context, std::optional<Location>, Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  const int64_t rows = shapeOf(adaptor.getLogits())[0],
                top = std::max<int64_t>(0, static_cast<int64_t>(adaptor.getTop()));
  types.push_back(RankedTensorType::get({rows, top + (adaptor.getShared() ? 1 : 0)}, Float32Type::get(context)));
  types.push_back(RankedTensorType::get({rows, top}, IntegerType::get(context, 32)));
  return success();
}

LogicalResult CombineOp::verify() {
  ArrayRef<int64_t> rows = shapeOf(getX()), result = shapeOf(getResult());
  if (shapeOf(getWeights()) != rows.drop_back())
    return emitOpError() << "expected a weight for each row of " << getX().getType() << ", got "
                         << getWeights().getType();
  if (result.front() != rows.front() || result.back() != rows.back())
    return emitOpError() << "expected a result with the tokens and columns of " << getX().getType() << ", got "
                         << getResult().getType();
  return success();
}

} // namespace ingot::llm
