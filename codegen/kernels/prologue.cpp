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
  return {block, scale};
}

} // namespace ingot
