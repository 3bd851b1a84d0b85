// Where the positions of a KV cache lie (docs/design/layouts.md): in blocks of 16. Those of a ring, which a sequence
// has for itself, follow one another again from the first; others are pages of one pool, which the sequence's page
// table names (runtime/artifact/step.h). A cache of codes has 16 scales behind each head of a block.
#pragma once

#include "codegen/kernels/kernels.h"
#include "codegen/kernels/sequences.h"

namespace ingot {

/// Where in a cache positions [16 block, 16 block + 16) of the sequence of `step` lie, in blocks. `ring`: positions of
/// the ring, a multiple of 16; 0: the cache has pages.
Val cacheBlock(KernelBuilder &k, Val step, Val block, uint64_t ring);

/// How a kernel accesses a cache, and what the cache of a row is.
inline Access cacheAccess(bool sequences, Access own, uint64_t ring) {
  return ring == 0 ? own : Sequences::access(sequences, own);
}
inline Val cacheOf(const Sequences &sequences, Val argument, Val row, uint64_t ring) {
  return ring == 0 ? argument : sequences.own(argument, row);
}

/// Whether what a chunk sees is split among units (`AttentionConfig::split`).
inline Val isSplit(KernelBuilder &k, Val position, Val tokens) {
  return (tokens <= kSplitTokens) & (position + tokens > 16 * (kSplitBlocks - 1));
}

/// Half of a cache: keys or values. Offsets and sizes are in bytes, from the start of a block or of a head of it.
struct CacheLayout {
  uint64_t kvHeads, headDim;
  uint64_t ring = 0; ///< positions; 0: no ring
  CacheElement element = CacheElement::Bf16;

  bool codes() const { return element != CacheElement::Bf16; }
  /// Eight dims of a key, the piece that lies together.
  int64_t pieceBytes() const { return codes() ? 8 : 16; }
  /// 16 dims of 16 keys (a tile), or 16 values of 16 positions.
  int64_t tileBytes() const { return 32 * pieceBytes(); }
  /// The 16 scales of a head of codes come after its elements.
  int64_t scales() const { return static_cast<int64_t>(headDim / 16) * tileBytes(); }
  int64_t headBytes() const { return scales() + (codes() ? 64 : 0); }
  int64_t blockBytes() const { return static_cast<int64_t>(kvHeads) * headBytes(); }
  /// From the cache's start to what `cacheBlock` says.
  Val block(KernelBuilder &k, Val block) const { return k.zext(block, k.i64()) * blockBytes(); }
};

/// Words of codes as pairs of bf16, which hold each of them exactly.
Val codesAsBf16(KernelBuilder &k, CacheElement element, Val words);

/// Codes n ... n + 3 of a word as f32, exactly.
Val codesAsFloat(KernelBuilder &k, CacheElement element, Val word);

/// Writes a head to a cache of codes, as `llm.append` says. 16 lanes, half a wave, have the head: lane l its elements
/// l, l + 16, l + 32 ... in `x`, f32. `cache` is the state; `block` is where `position` lies in it; these and `head`
/// are i32 and the same in the 16 lanes.
void storeCodes(KernelBuilder &k, const CacheLayout &layout, bool keys, Val cache, Val block, Val position, Val head,
                const std::vector<Val> &x);

} // namespace ingot
