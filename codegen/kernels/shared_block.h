// What the waves of a workgroup read of a KV cache, read once for all of them.
#pragma once

#include "codegen/kernels/cache.h"

namespace ingot {

/// A block of a KV head in the LDS of a workgroup: half of the LDS its keys, half its values, as they lie in the cache.
class SharedBlock {
public:
  SharedBlock(KernelBuilder &builder, const CacheLayout &layout, unsigned waves)
      : keys(builder.lds(static_cast<unsigned>(layout.headBytes()), "keys")),
        values(builder.lds(static_cast<unsigned>(layout.headBytes()), "values")), k(builder),
        pieces(layout.headBytes() / kPiece), lanes(static_cast<int64_t>(waves) * builder.target().waveSize) {}

  // Takes the place of the block before, once nobody reads that any more. All waves of the workgroup come here; when
  // they go on the block is there.
  void copy(Val keysOfHead, Val valuesOfHead) {
    struct Piece {
      Val from, to, index;
      bool all; // lanes have one
    };
    std::vector<Piece> mine;
    for (int64_t first = 0; first < pieces; first += lanes)
      for (auto [from, to] : {std::pair(keysOfHead, keys), std::pair(valuesOfHead, values)})
        mine.push_back({from, to, k.thread() + first, first + lanes <= pieces});
    const mlir::Type type = k.vec(4, k.i32());
    constexpr size_t kAtOnce = 8;
    for (size_t begin = 0; begin < mine.size(); begin += kAtOnce) {
      const size_t end = std::min(begin + kAtOnce, mine.size());
      std::vector<Val> loaded;
      if (begin > 0)
        k.scheduleFence();
      for (size_t i = begin; i < end; ++i) {
        auto load = [&, &piece = mine[i]] { return std::vector{k.load(type, piece.from, piece.index * kPiece)}; };
        loaded.push_back(mine[i].all ? load()[0] : k.ifElse(mine[i].index < pieces, load, [&] {
          return std::vector{k.zero(type)};
        })[0]);
      }
      if (begin == 0)
        k.barrier();
      for (size_t i = begin; i < end; ++i) {
        auto store = [&, &piece = mine[i]] { k.store(loaded[i - begin], piece.to, piece.index * kPiece); };
        mine[i].all ? store() : k.ifThen(mine[i].index < pieces, store);
      }
    }
    k.barrier();
  }

  const Val keys, values;

private:
  static constexpr int64_t kPiece = 16; // bytes
  KernelBuilder &k;
  int64_t pieces, lanes;
};

} // namespace ingot
