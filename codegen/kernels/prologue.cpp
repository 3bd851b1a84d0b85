// Each workgroup of a decode kernel normalises or quantises the one row again: it reads the row from a cache once more
// than the product would, which is little beside its rows of weights, and a launch and a tensor or two are gone. The
// largest magnitude is the same in whatever order it is found, and the sum of squares keeps its order (row.h), so the
// bits are those of the kernels that stand alone.
#include "codegen/kernels/prologue.h"

#include "codegen/kernels/pieces.h"
#include "codegen/kernels/row.h"

namespace ingot {

Operand prepareOperand(KernelBuilder &k, const LinearConfig &c, const Epilogue &arguments, Val x, unsigned waves) {
  RowPieces row = loadRow(k, c.x, x, c.columns, waves);
  if (c.norm)
    for (auto [i, y] : llvm::enumerate(normalizeRow(k, row, arguments.argument(c.norm), c.columns, c.epsilon, waves))) {
      Val rounded = k.round(y, k.bf16());
      row.values[i] = k.select(row.inside[i], rounded, k.zero(rounded.type()));
    }
  const int64_t bytes = c.quantize ? 8 : 16; // of a piece
  Val block = k.lds(static_cast<unsigned>(prologueBytes(c)), "operand"), factor, scale;
  if (c.quantize) {
    Val most = k.constantF(0);
    for (Val values : row.values)
      most = k.maxF(most, k.maxElements(k.absF(k.extend(values))));
    most = k.reduceWorkgroup(most, KernelBuilder::Combine::MaxF, waves, k.lds(4 * waves, "most"));
    factor = quantizingFactor(k, most);
    scale = scaleOfRow(k, most);
  }
  for (unsigned i = 0; i < row.values.size(); ++i)
    k.ifThen(row.inside[i], [&] {
      Val y = row.values[i];
      k.store(c.quantize ? quantizePiece(k, k.extend(y), factor) : y, block, row.place[i] * bytes);
    });
  k.barrier();
  return {.rows = block, .scale = scale, .scales = {}};
}

Operand quantizeRows(KernelBuilder &k, const LinearConfig &c, Val x, unsigned waves) {
  const auto slots = static_cast<int64_t>(c.experts.slots), stride = static_cast<int64_t>(paddedRow(c.columns));
  const auto lanes = static_cast<int64_t>(k.target().waveSize), pieces = stride / 8;
  Val block = k.lds(static_cast<unsigned>(prologueBytes(c)), "operand");
  Val scales = k.lds(static_cast<unsigned>(4 * slots), "scales");
  k.forLoop(k.wave(), k.constant(slots), k.constant(waves), {}, [&](Val slot, std::vector<Val> none) {
    Val row = c.experts.ownRows ? k.advance(x, k.zext(slot, k.i64()) * (2 * stride)) : x;
    std::vector<Val> place, values;
    Val most = k.constantF(0);
    for (int64_t first = 0; first < pieces; first += lanes) {
      place.push_back(k.lane() + first); // lanes past the last piece repeat it
      values.push_back(loadPiece(k, Element::Bf16, row, k.minI(place.back(), k.constant(pieces - 1))));
      most = k.maxF(most, k.maxElements(k.absF(values.back())));
    }
    most = k.reduceWave(most, KernelBuilder::Combine::MaxF);
    Val factor = quantizingFactor(k, most);
    for (auto [at, y] : llvm::zip(place, values))
      k.ifThen(at < pieces, [&] { k.store(quantizePiece(k, y, factor), block, slot * stride + at * 8); });
    k.ifThen(k.lane() == 0, [&] { k.store(scaleOfRow(k, most), scales, slot * 4); });
    return none;
  });
  k.barrier();
  return {.rows = block, .scale = {}, .scales = scales, .stride = stride};
}

} // namespace ingot
