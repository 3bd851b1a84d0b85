// RMSNorm, per-token int8 quantisation, and both in one: a workgroup a row, the row in registers between its two
// passes.

#include "codegen/kernels/kernels.h"
#include "codegen/kernels/pieces.h"
#include "codegen/kernels/row.h"

namespace ingot {

LaunchShape emitNorm(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                     const NormConfig &c) {
  unsigned waves = wavesOfRow(target, c.columns), threads = waves * target.waveSize;

  std::vector<Access> access{Access::Read};
  if (c.norm)
    access.push_back(Access::Read);
  access.push_back(Access::Write);
  if (c.quantize)
    access.push_back(Access::Write);
  if (c.rows)
    access.push_back(Access::Write);
  KernelBuilder k(module, target, name, access, threads);
  unsigned next = 0;
  Val x = k.argument(next++);
  Val weight = c.norm ? k.argument(next++) : Val();
  Val out = k.argument(next++);
  Val scales = c.quantize ? k.argument(next++) : Val();
  Val rows = c.rows ? k.argument(next++) : Val();
  Val token = k.workgroupY(), thread = k.thread();
  Val scaleAt = token * 4;
  if (c.slots) {
    scaleAt = (token * static_cast<int64_t>(paddedRow(c.slots)) + k.workgroupZ()) * 4;
    token = token * static_cast<int64_t>(c.slots) + k.workgroupZ(); // the row, from here on
  }
  Val row = k.advance(x, k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.columns) * bytesOf(c.x)));
  RowPieces pieces = loadRow(k, c.x, row, c.columns, waves);
  const auto &[piece, inside, loaded] = pieces;
  std::vector<Val> values;
  if (c.norm) {
    values = normalizeRow(k, pieces, weight, c.columns, c.epsilon, waves);
    if (c.quantize) // through bf16, as the two kernels one after the other would
      for (auto [y, mine] : llvm::zip(values, inside))
        y = k.select(mine, k.extend(k.round(y, k.bf16())), k.zero(y.type()));
  } else {
    for (Val x : loaded)
      values.push_back(widen(k, x));
  }
  if (!c.quantize || c.rows) {
    const Element element = c.quantize ? Element::Bf16 : c.out;
    Val destination = k.advance(c.rows ? rows : out,
                                k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.columns) * bytesOf(element)));
    for (unsigned i = 0; i < values.size(); ++i)
      k.ifThen(inside[i], [&] { storePiece(k, element, values[i], destination, piece[i]); });
  }
  if (c.quantize) {
    Val most = k.constantF(0);
    for (Val v : values)
      most = k.maxF(most, k.maxElements(k.absF(v)));
    most = k.reduceWorkgroup(most, KernelBuilder::Combine::MaxF, waves, k.lds(4 * waves, "most"));
    Val factor = quantizingFactor(k, most);
    Val destination = k.advance(out, k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.columns)));
    for (unsigned i = 0; i < values.size(); ++i)
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
