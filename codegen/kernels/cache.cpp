#include "codegen/kernels/cache.h"

#include "codegen/kernels/pieces.h"
#include "runtime/artifact/step.h"

namespace ingot {

CacheElement cacheElementOf(llm::StateOp state) {
  mlir::Type type = state.getTensorType().getElementType();
  if (type.isBF16())
    return CacheElement::Bf16;
  return type.isInteger(8) ? CacheElement::Int8 : CacheElement::Fp8;
}

uint64_t cacheBytes(llm::StateOp state) {
  llvm::ArrayRef<int64_t> shape = state.getTensorType().getShape();
  CacheLayout layout{.kvHeads = static_cast<uint64_t>(shape[1]),
                     .headDim = static_cast<uint64_t>(shape[2]),
                     .element = cacheElementOf(state)};
  return static_cast<uint64_t>(layout.blockBytes()) / 16;
}

Val cacheBlock(KernelBuilder &k, Val step, Val block, uint64_t ring) {
  static_assert(kPagePositions == 16);
  if (ring != 0)
    return block % static_cast<int64_t>(ring / 16);
  return k.load(k.i32(), step, block * 4 + static_cast<int64_t>(sizeof(Step)));
}

Val codesAsFloat(KernelBuilder &k, CacheElement element, Val word) {
  return element == CacheElement::Fp8 ? k.fp8(word) : k.toFloat(k.bitcast(word, k.vec(4, k.i8())));
}

Val codesAsBf16(KernelBuilder &k, CacheElement element, Val words) {
  std::vector<Val> pairs;
  for (unsigned w = 0, n = k.lanes(words); w < n; ++w) {
    Val four = codesAsFloat(k, element, k.element(words, w));
    pairs.push_back(k.packBf16(k.element(four, 0), k.element(four, 1)));
    pairs.push_back(k.packBf16(k.element(four, 2), k.element(four, 3)));
  }
  return k.build(pairs);
}

void storeCodes(KernelBuilder &k, const CacheLayout &layout, bool keys, Val cache, Val block, Val position, Val head,
                const std::vector<Val> &x) {
  Val most = k.constantF(0);
  for (Val v : x)
    most = k.maxF(most, k.absF(v));
  most = k.reduceHalf(most, KernelBuilder::Combine::MaxF);
  const bool integer = layout.element == CacheElement::Int8;
  const double top = integer ? 127 : 448;
  Val factor = quantizingFactor(k, most, top);

  Val inBlock = position % 16, lane = k.lane() % 16;
  Val start = layout.block(k, block) + k.zext(head * layout.headBytes(), k.i64());
  // Of keys a tile has 16 dims in two pieces, each for 16 positions; of values 16 positions of each dim.
  Val mine = keys ? lane / 8 * 128 + inBlock * 8 + lane % 8 : lane * 16 + inBlock;
  for (auto [i, v] : llvm::enumerate(x)) {
    Val y = v * factor;
    Val code = integer ? k.trunc(k.toInt(k.roundEven(y)), k.i8()) : k.toFp8(y);
    k.store(code, cache, start + k.zext(mine + static_cast<int64_t>(i) * layout.tileBytes(), k.i64()));
  }
  k.ifThen(lane == 0,
           [&] { k.store(scaleOfRow(k, most, top), cache, start + k.zext(inBlock * 4 + layout.scales(), k.i64())); });
}

} // namespace ingot
