// Verifiers and type inference of the ops of dialects/LlmDraft.td.
#include "dialects/LlmChecks.h"

using namespace mlir;

namespace ingot::llm {

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

LogicalResult ConcatOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  RankedTensorType a = typeOf(adaptor.getA());
  types.push_back(RankedTensorType::get({a.getDimSize(0), a.getDimSize(1) + typeOf(adaptor.getB()).getDimSize(1)},
                                        a.getElementType()));
  return success();
}

LogicalResult ConcatOp::verify() {
  for (Value part : {getA(), getB()})
    if (typeOf(part).getDimSize(1) % 8 != 0)
      return emitOpError() << "expected widths that are multiples of 8, got " << part.getType();
  if (typeOf(getA()).getDimSize(0) == typeOf(getB()).getDimSize(0))
    return success();
  return emitOpError() << "expected operands with the same first dimension, got " << getA().getType() << " and "
                       << getB().getType();
}

LogicalResult DelayOp::verifySymbolUses(SymbolTableCollection &tables) {
  return checkState(*this, tables, getStateAttr(), StateKind::Conv, {1, typeOf(getX()).getDimSize(1)});
}

LogicalResult AcceptOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  types.push_back(typeOf(adaptor.getBest()).clone({1}));
  return success();
}

LogicalResult AcceptOp::verify() {
  const int64_t rows = typeOf(getTokens()).getDimSize(0);
  if (rows >= 2 && rows <= kFewRows)
    return success();
  return emitOpError() << "expected from 2 to " << kFewRows << " tokens, got " << getTokens().getType();
}

LogicalResult DraftOp::verify() {
  if (typeOf(getToken()).getDimSize(0) != 1)
    return emitOpError() << "expected exactly one token, got " << getToken().getType();
  const auto index = static_cast<int64_t>(getIndex()), count = static_cast<int64_t>(getCount());
  if (count >= 1 && count < kFewRows && index >= 1 && index <= count)
    return success();
  return emitOpError() << "expected a count from 1 to " << kFewRows - 1 << " and an index from 1 to it, got " << index
                       << " of " << count;
}

} // namespace ingot::llm
