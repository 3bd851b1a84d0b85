#include "codegen/kernels/row.h"

#include "codegen/kernels/pieces.h"

namespace ingot {

static unsigned piecesOf(uint64_t columns) { return static_cast<unsigned>(paddedRow(columns) / 8); }

// Pieces a lane of one share.
static unsigned piecesOfLane(const TargetInfo &target, uint64_t columns) {
  unsigned lanes = wavesOfRow(target, columns) * target.waveSize;
  return (piecesOf(columns) + lanes - 1) / lanes;
}

unsigned wavesOfRow(const TargetInfo &target, uint64_t columns) {
  return std::min(8U, (piecesOf(columns) + target.waveSize - 1) / target.waveSize);
}

RowPieces loadRow(KernelBuilder &k, Element element, Val x, uint64_t columns, unsigned waves) {
  const unsigned shares = wavesOfRow(k.target(), columns), lanes = shares * k.target().waveSize;
  const auto pieces = static_cast<int64_t>(piecesOf(columns)), waveSize = static_cast<int64_t>(k.target().waveSize);
  const auto bytes = static_cast<int64_t>(bytesOf(element)); // of an element
  RowPieces row;
  for (unsigned first = 0; first < shares; first += waves)
    for (unsigned i = 0; i < piecesOfLane(k.target(), columns); ++i) {
      Val lane = k.thread() + first * waveSize, piece = lane + i * lanes;
      Val inside = piece < pieces;
      if (first + waves > shares) // some waves have no share
        inside = inside & (lane < static_cast<int64_t>(lanes));
      Val place = k.minI(piece, k.constant(pieces - 1));
      mlir::Type type = k.vec(8, element == Element::Bf16 ? k.bf16() : k.f32());
      Val values = k.load(type, x, place * (8 * bytes), 16);
      row.place.push_back(place);
      row.inside.push_back(inside);
      row.values.push_back(k.select(inside, values, k.zero(type)));
    }
  return row;
}

std::vector<Val> normalizeRow(KernelBuilder &k, const RowPieces &row, Val weight, uint64_t columns, double epsilon,
                              unsigned waves) {
  const unsigned shares = wavesOfRow(k.target(), columns), each = piecesOfLane(k.target(), columns);
  std::vector<Val> x;
  x.reserve(row.values.size());
  for (Val values : row.values)
    x.push_back(widen(k, values));
  // Of each share a wave's sum, then the shares in order.
  Val sum, block;
  if (shares > 1 || waves > 1)
    block = k.lds(4 * shares, "squares");
  for (unsigned first = 0; first < shares; first += waves) {
    sum = k.constantF(0);
    for (unsigned i = 0; i < each; ++i) {
      Val v = x[first / waves * each + i];
      sum = sum + k.sumElements(v * v);
    }
    sum = k.reduceWave(sum, KernelBuilder::Combine::SumF);
    if (block) {
      Val share = k.wave() + static_cast<int64_t>(first);
      k.ifThen((k.lane() == 0) & (share < static_cast<int64_t>(shares)), [&] { k.store(sum, block, share * 4); });
    }
  }
  if (block) {
    k.barrier();
    sum = k.load(k.f32(), block, k.constant(0));
    for (unsigned share = 1; share < shares; ++share)
      sum = sum + k.load(k.f32(), block, k.constant(4 * share));
  }
  // Once a row, so the exact forms cost nothing.
  Val mean = sum * k.constantF(1.0 / static_cast<double>(columns));
  Val factor = k.constantF(1) / k.sqrt(mean + k.constantF(epsilon));
  for (auto [v, place] : llvm::zip(x, row.place))
    v = v * factor * k.load(k.vec(8, k.f32()), weight, place * 32, 16);
  return x;
}

} // namespace ingot
