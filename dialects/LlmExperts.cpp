// Verifiers and type inference of the ops of dialects/LlmExperts.td.
#include "dialects/Llm.h"

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
  return success();
}

LogicalResult RouteOp::inferReturnTypes(MLIRContext *context, std::optional<Location>, Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  const SmallVector<int64_t> shape{shapeOf(adaptor.getLogits())[0],
                                   std::max<int64_t>(0, static_cast<int64_t>(adaptor.getTop()))};
  types.push_back(RankedTensorType::get(shape, Float32Type::get(context)));
  types.push_back(RankedTensorType::get(shape, IntegerType::get(context, 32)));
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
