// Kernels that move or combine rows without looking across them: embedding, residual add, gated SiLU, columns in
// another order, the last token's row.

#include "codegen/kernels/kernels.h"
#include "codegen/kernels/pieces.h"

namespace ingot {

static constexpr unsigned kThreads = 128;
static constexpr const char *kBound = "a row has no more pieces of eight elements, one a lane";

// Calls `body` with each piece of eight elements of a row, spread over the workgroups along x.
static unsigned overPieces(KernelBuilder &k, uint64_t columns, const std::function<void(Val)> &body) {
  uint64_t pieces = paddedRow(columns) / 8;
  Val piece = k.workgroupX() * kThreads + k.thread();
  k.ifThen(piece < static_cast<int64_t>(pieces), [&] { body(piece); });
  return static_cast<unsigned>((pieces + kThreads - 1) / kThreads);
}

static Val rowOf(KernelBuilder &k, Element element, Val rows, Val index, uint64_t columns) {
  return k.advance(rows, k.zext(index, k.i64()) * static_cast<int64_t>(paddedRow(columns) * bytesOf(element)));
}

LaunchShape emitEmbed(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const EmbedConfig &c) {
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Read, Access::Write}, kThreads);
  Val token = k.workgroupY();
  Val id = k.load(k.i32(), k.argument(1), token * 4);
  // Ids are checked before a launch; this keeps a corrupted one inside the table.
  id = k.minI(k.maxI(id, k.constant(0)), k.constant(c.vocabulary - 1));
  Val from = rowOf(k, Element::Bf16, k.argument(2), k.uniform(id), c.hidden),
      to = rowOf(k, c.out, k.argument(3), token, c.hidden);
  unsigned x = overPieces(k, c.hidden, [&](Val piece) {
    Val v = loadPiece(k, Element::Bf16, from, piece);
    if (c.scale != 1)
      v = v * k.constantF(c.scale);
    storePiece(k, c.out, v, to, piece);
  });
  k.finish();
  return {.kernel = name.str(), .x = x, .tokensPerWorkgroup = 1, .workgroupSize = kThreads, .bound = kBound};
}

Val applyElementwise(KernelBuilder &k, Elementwise op, Val a, Val b) {
  switch (op) {
  case Elementwise::Add:
    return a + b;
  case Elementwise::SiluMul:
    // a * sigmoid(a) * b; exp2 saturates to infinity for very negative a, whose reciprocal is 0.
    return a * k.reciprocal(k.exp2(a * k.constantF(-1.4426950408889634)) + 1) * b;
  }
  return {};
}

LaunchShape emitElementwise(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            Elementwise op, Element in, Element result, uint64_t columns) {
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, kThreads);
  Val token = k.workgroupY();
  Val first = rowOf(k, in, k.argument(0), token, columns), second = rowOf(k, in, k.argument(1), token, columns);
  Val out = rowOf(k, result, k.argument(2), token, columns);
  unsigned x = overPieces(k, columns, [&](Val piece) {
    Val a = loadPiece(k, in, first, piece), b = loadPiece(k, in, second, piece);
    Val y = applyElementwise(k, op, a, b);
    storePiece(k, result, y, out, piece);
  });
  k.finish();
  return {.kernel = name.str(), .x = x, .tokensPerWorkgroup = 1, .workgroupSize = kThreads, .bound = kBound};
}

LaunchShape emitGatherColumns(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              uint64_t columns) {
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, kThreads);
  Val token = k.workgroupY();
  Val from = rowOf(k, Element::Bf16, k.argument(0), token, columns);
  Val to = rowOf(k, Element::Bf16, k.argument(2), token, columns);
  unsigned x = overPieces(k, columns, [&](Val piece) {
    Val order = k.load(k.vec(8, k.i32()), k.argument(1), piece * 32, 16);
    std::vector<Val> gathered;
    for (unsigned i = 0; i < 8; ++i) {
      Val column = k.element(order, i);
      // An artifact may hold anything.
      column = k.select((column >= 0) & (column < static_cast<int64_t>(paddedRow(columns))), column,
                        k.constant(paddedRow(columns) - 1));
      gathered.push_back(k.load(k.bf16(), from, column * 2));
    }
    k.store(k.build(gathered), to, piece * 16);
  });
  k.finish();
  return {.kernel = name.str(), .x = x, .tokensPerWorkgroup = 1, .workgroupSize = kThreads, .bound = kBound};
}

LaunchShape emitLastToken(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                          Element element, uint64_t columns) {
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, kThreads);
  Val last = rowOf(k, element, k.argument(1), k.stepTokens(k.argument(0)) - 1, columns);
  unsigned x = overPieces(
      k, columns, [&](Val piece) { storePiece(k, element, loadPiece(k, element, last, piece), k.argument(2), piece); });
  k.finish();
  return {.kernel = name.str(), .x = x, .workgroupSize = kThreads, .bound = kBound};
}

} // namespace ingot
