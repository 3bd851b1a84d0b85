// Each workgroup of a decode kernel quantises the one row again: it reads the row from a cache once more than the
// product would, which is little beside its rows of weights, and a launch and two small tensors are gone. The largest
// magnitude is the same in whatever order it is found, so the bits are those of the kernel that stands alone.
#include "codegen/kernels/prologue.h"

#include "codegen/kernels/pieces.h"

namespace ingot {

QuantizedRow quantizeRow(KernelBuilder &k, Val x, uint64_t columns, unsigned waves) {
  unsigned pieces = static_cast<unsigned>(paddedRow(columns) / 8), threads = waves * k.target().waveSize;
  unsigned perLane = (pieces + threads - 1) / threads;
  Val block = k.lds(pieces * 8, "quantized"), reduce = k.lds(4 * waves, "reduce");
  // Lanes past the row's end read its last piece again, which changes no maximum, and do not store it.
  std::vector<Val> piece, values;
  Val most = k.constantF(0);
  for (unsigned i = 0; i < perLane; ++i) {
    Val p = k.thread() + i * threads;
    piece.push_back(p);
    values.push_back(k.load(k.vec(8, k.bf16()), x, k.minI(p, k.constant(pieces - 1)) * 16));
    most = k.maxF(most, k.maxElements(k.absF(k.extend(values[i]))));
  }
  most = k.reduceWorkgroup(most, KernelBuilder::Combine::MaxF, waves, reduce);
  Val factor = quantizingFactor(k, most);
  for (unsigned i = 0; i < perLane; ++i)
    k.ifThen(piece[i] < static_cast<int64_t>(pieces),
             [&] { k.store(quantizePiece(k, k.extend(values[i]), factor), block, piece[i] * 8); });
  k.barrier();
  return {block, scaleOfRow(k, most)};
}

} // namespace ingot
