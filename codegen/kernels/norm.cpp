// RMSNorm, per-token int8 quantisation, and both in one: a workgroup a row, the row in registers between its two
// passes.

#include "codegen/kernels/kernels.h"
#include "codegen/kernels/pieces.h"

namespace ingot {

LaunchShape emitNorm(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                     const NormConfig &c) {
  // A lane takes pieces of 8 elements, 16 bytes.
  uint64_t pieces = paddedRow(c.columns) / 8;
  unsigned waves = static_cast<unsigned>(std::min<uint64_t>(8, (pieces + target.waveSize - 1) / target.waveSize));
  unsigned threads = waves * target.waveSize;
  unsigned perLane = static_cast<unsigned>((pieces + threads - 1) / threads);

  std::vector<Access> access{Access::Read};
  if (c.norm)
    access.push_back(Access::Read);
  access.push_back(Access::Write);
  if (c.quantize)
    access.push_back(Access::Write);
  KernelBuilder k(module, target, name, access, threads);
  unsigned next = 0;
  Val x = k.argument(next++);
  Val weight = c.norm ? k.argument(next++) : Val();
  Val out = k.argument(next++);
  Val scales = c.quantize ? k.argument(next++) : Val();
  Val token = k.workgroupY(), thread = k.thread();
  Val scaleAt = token * 4;
  if (c.slots) {
    scaleAt = (token * static_cast<int64_t>(paddedRow(c.slots)) + k.workgroupZ()) * 4;
    token = token * static_cast<int64_t>(c.slots) + k.workgroupZ(); // the row, from here on
  }
  Val row = k.advance(x, k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.columns) * bytesOf(c.x)));
  Val block = k.lds(4 * waves, "reduce");

  // Lanes past the row's end work on a clamped piece, whose values count as zero and are not stored.
  std::vector<Val> piece, inside, values;
  mlir::Type eight = k.vec(8, k.f32());
  for (unsigned i = 0; i < perLane; ++i) {
    Val p = thread + i * threads;
    inside.push_back(p < static_cast<int64_t>(pieces));
    piece.push_back(k.minI(p, k.constant(pieces - 1)));
    Val loaded = loadPiece(k, c.x, row, piece[i]);
    values.push_back(k.select(inside[i], loaded, k.zero(eight)));
  }
  if (c.norm) {
    Val sum = k.constantF(0);
    for (Val v : values)
      sum = sum + k.sumElements(v * v);
    sum = k.reduceWorkgroup(sum, KernelBuilder::Combine::SumF, waves, block);
    // Once a row, so the exact forms cost nothing.
    Val mean = sum * k.constantF(1.0 / static_cast<double>(c.columns));
    Val factor = k.constantF(1) / k.sqrt(mean + k.constantF(c.epsilon));
    for (unsigned i = 0; i < perLane; ++i) {
      Val y = values[i] * factor * k.load(eight, weight, piece[i] * 32, 16);
      // Where it is quantised, through bf16, as the two kernels one after the other would.
      values[i] = c.quantize ? k.select(inside[i], k.extend(k.round(y, k.bf16())), k.zero(eight)) : y;
    }
  }
  if (!c.quantize) {
    Val destination =
        k.advance(out, k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.columns) * bytesOf(c.out)));
    for (unsigned i = 0; i < perLane; ++i)
      k.ifThen(inside[i], [&] { storePiece(k, c.out, values[i], destination, piece[i]); });
  } else {
    Val most = k.constantF(0);
    for (Val v : values)
      most = k.maxF(most, k.maxElements(k.absF(v)));
    most = k.reduceWorkgroup(most, KernelBuilder::Combine::MaxF, waves, block);
    Val factor = quantizingFactor(k, most);
    Val destination = k.advance(out, k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.columns)));
    for (unsigned i = 0; i < perLane; ++i)
      k.ifThen(inside[i], [&] { k.store(quantizePiece(k, values[i], factor), destination, piece[i] * 8); });
    k.ifThen(thread == 0, [&] { k.store(scaleOfRow(k, most), scales, scaleAt); });
  }
  k.finish();
  return {.kernel = name.str(),
          .tokensPerWorkgroup = 1,
          .z = static_cast<unsigned>(std::max<uint64_t>(c.slots, 1)),
          .workgroupSize = threads,
          .bound = "one workgroup a row: it is scaled by a figure of all of it"};
}

} // namespace ingot
