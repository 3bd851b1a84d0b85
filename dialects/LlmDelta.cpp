// Verifiers of the ops of dialects/LlmDelta.td.
#include "dialects/LlmChecks.h"

using namespace mlir;

namespace ingot::llm {

// Rows that may be taken back are those of one step.
static LogicalResult checkPeek(Operation *op, Value rows) {
  const int64_t count = cast<RankedTensorType>(rows.getType()).getDimSize(0);
  if (!ShapedType::isDynamic(count) && count <= kFewRows)
    return success();
  return op->emitOpError() << "expected `peek` on at most " << kFewRows << " rows, got " << rows.getType();
}

LogicalResult ShortConvOp::verify() { return getPeek() ? checkPeek(*this, getX()) : success(); }

LogicalResult ShortConvOp::verifySymbolUses(SymbolTableCollection &tables) {
  const int64_t channels = cast<RankedTensorType>(getX().getType()).getDimSize(1);
  // Only the weight knows how many taps there are.
  auto weight = lookupWeight(*this, getWeightAttr());
  const bool matrix = weight && weight.getTensorType().getRank() == 2;
  const int64_t taps = matrix ? weight.getTensorType().getDimSize(1) : 2;
  if (failed(checkWeight(*this, tables, getWeightAttr(), {channels, taps})))
    return failure();
  if (taps < 2 || taps > 8)
    return emitOpError() << "expected a weight of 2 to 8 taps, got " << weight.getTensorType();
  return checkState(*this, tables, getStateAttr(), StateKind::Conv, {taps - 1, channels});
}

LogicalResult DeltaRuleOp::verify() {
  const auto keyHeads = static_cast<int64_t>(getKeyHeads()), valueHeads = static_cast<int64_t>(getValueHeads());
  const auto keyDim = static_cast<int64_t>(getKeyDim()), valueDim = static_cast<int64_t>(getValueDim());
  if (keyHeads < 1 || valueHeads < 1 || valueHeads > 65536 || valueHeads % keyHeads != 0)
    return emitOpError() << "expected key_heads of at least 1 that divide value_heads of at most 65536, got "
                         << keyHeads << " and " << valueHeads;
  for (int64_t dim : {keyDim, valueDim})
    if (dim < 16 || dim > 256 || dim % 16 != 0)
      return emitOpError() << "expected key_dim and value_dim to be multiples of 16 from 16 to 256, got " << keyDim
                           << " and " << valueDim;
  if (getPeek() && failed(checkPeek(*this, getQkv())))
    return failure();
  auto expect = [&](Value value, StringRef name, int64_t width) -> LogicalResult {
    auto type = cast<RankedTensorType>(value.getType());
    auto expected = type.clone({cast<RankedTensorType>(getQkv().getType()).getDimSize(0), width});
    if (type == expected)
      return success();
    return emitOpError() << "expected " << name << " of type " << expected << ", got " << type;
  };
  if (failed(expect(getQkv(), "qkv", 2 * keyHeads * keyDim + valueHeads * valueDim)) ||
      failed(expect(getB(), "b", valueHeads)) || failed(expect(getA(), "a", valueHeads)))
    return failure();
  const int64_t width = valueHeads * valueDim;
  if (!hasEpilogue()) {
    if (!getElementTypeOrSelf(getResult()).isF32())
      return emitOpError() << "expected a result of f32 without an epilogue, got " << getResult().getType();
    return expect(getResult(), "a result", width);
  }
  Block &block = getEpilogue().front();
  if (block.getNumArguments() != 1 || failed(expect(block.getArgument(0), "a block argument", width)))
    return emitOpError() << "expected one block argument in the epilogue: the rows of all heads";
  for (Operation &op : block) {
    auto norm = dyn_cast<RmsNormOp>(op);
    auto gated = dyn_cast<GatedMulOp>(op);
    if (!isa<YieldOp>(op) && !(norm && norm.getHeads() && static_cast<int64_t>(*norm.getHeads()) == valueHeads) &&
        !(gated && !gated.isBroadcast()))
      return emitOpError() << "expected norms of " << valueHeads << " heads and gated products in the epilogue, got "
                           << op.getName();
  }
  auto yield = dyn_cast<YieldOp>(block.back());
  if (!yield || yield.getOperandTypes() != getOperation()->getResultTypes())
    return emitOpError() << "expected the epilogue to yield the result's type";
  return success();
}

LogicalResult DeltaRuleOp::verifySymbolUses(SymbolTableCollection &tables) {
  const auto valueHeads = static_cast<int64_t>(getValueHeads());
  if (failed(checkWeight(*this, tables, getDecayAttr(), {valueHeads})) ||
      failed(checkWeight(*this, tables, getDtBiasAttr(), {valueHeads})))
    return failure();
  return checkState(*this, tables, getStateAttr(), StateKind::Recurrent,
                    {valueHeads, static_cast<int64_t>(getKeyDim()), static_cast<int64_t>(getValueDim())});
}

} // namespace ingot::llm
