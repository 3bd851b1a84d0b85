// Kernels that move or combine rows without looking across them: embedding, residual add, gated products, the cap on
// logits, columns in another order, the last token's row.

#include "codegen/kernels/elementwise.h"

#include <numbers>

#include "codegen/kernels/pieces.h"
#include "codegen/kernels/sequences.h"

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
  Val tokens = Sequences(k, c.sequences).own(k.argument(1), token);
  Val id = k.load(k.i32(), tokens, c.sequences ? k.constant(0) : token * 4);
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

Elementwise elementwiseOf(llm::Gate function) {
  switch (function) {
  case llm::Gate::Silu:
    return Elementwise::SiluMul;
  case llm::Gate::GeluTanh:
    return Elementwise::GeluTanhMul;
  case llm::Gate::Sigmoid:
    return Elementwise::SigmoidMul;
  }
  return Elementwise::SiluMul;
}

// 1 / (1 + 2^x); 2^x saturates to infinity for large x, whose reciprocal is 0.
static Val reciprocalOfOnePlusExp2(KernelBuilder &k, Val x) { return k.reciprocal(k.exp2(x) + 1); }

Val applyElementwise(KernelBuilder &k, Elementwise op, Val a, Val b) {
  constexpr double kLog2E = std::numbers::log2e;
  switch (op) {
  case Elementwise::Add:
    return a + b;
  case Elementwise::SiluMul:
    return a * reciprocalOfOnePlusExp2(k, a * k.constantF(-kLog2E)) * b;
  case Elementwise::GeluTanhMul: {
    const double scale = -2 * std::sqrt(2 / std::numbers::pi) * kLog2E;
    Val u = a * k.fma(a * a, k.constantOf(a.type(), 0.044715 * scale), k.constantOf(a.type(), scale));
    return a * reciprocalOfOnePlusExp2(k, u) * b;
  }
  case Elementwise::SigmoidMul:
    return reciprocalOfOnePlusExp2(k, a * k.constantF(-kLog2E)) * b;
  }
  return {};
}

Val applyShortConv(KernelBuilder &k, llvm::ArrayRef<Val> taps, llvm::ArrayRef<Val> rows) {
  Val sum = taps[0] * rows[0];
  for (size_t j = 1; j < taps.size(); ++j)
    sum = k.fma(taps[j], rows[j], sum);
  return applyElementwise(k, Elementwise::SiluMul, sum, k.constantF(1));
}

// 1 - 2 / (e^2|x| + 1) loses digits where it is small, so below 5/8 it is x + x^3 p(x^2), whose p interpolates at the
// Chebyshev nodes of degree 5: 1.7e-8 off, relatively, before rounding. Above, with exp2 and the reciprocal an ulp off,
// the quotient is off by 2.7 ulp, of which four fifths reach the result at 5/8 and less further out: below 2^-21.
Val applyTanh(KernelBuilder &k, Val x) {
  auto constant = [&](double value) { return k.constantOf(x.type(), value); };
  Val size = k.absF(x), square = x * x;
  Val p = constant(-6.0967141633e-3);
  for (double next : {2.0997178997e-2, -5.3850909578e-2, 1.3332769737e-1, -3.3333328944e-1})
    p = k.fma(p, square, constant(next));
  Val small = k.fma(x * square, p, x);
  Val rest = reciprocalOfOnePlusExp2(k, size * k.constantF(2 * std::numbers::log2e));
  Val large = constant(1) - rest * k.constantF(2);
  large = k.select(x < constant(0), constant(0) - large, large);
  return k.select(size < constant(0.625), small, large);
}

Val applySoftcap(KernelBuilder &k, Val x, double cap) {
  Val c = k.constantOf(x.type(), cap);
  return c * applyTanh(k, x / c);
}

LaunchShape emitElementwise(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            const ElementwiseConfig &c) {
  llvm::SmallVector<Access> access{Access::Read, Access::Read, Access::Write};
  if (c.scaled)
    access.insert(access.begin(), Access::Read);
  KernelBuilder k(module, target, name, access, kThreads);
  Val row = k.workgroupY();
  if (c.slots > 1)
    row = row * static_cast<int64_t>(c.slots) + k.workgroupZ();
  Val first = rowOf(k, c.a, k.argument(0), row, c.broadcast ? 1 : c.columns),
      second = rowOf(k, c.b, k.argument(1), row, c.columns),
      out = rowOf(k, c.out, k.argument(c.scaled ? 3 : 2), row, c.columns);
  unsigned x = overPieces(k, c.columns, [&](Val piece) {
    Val a = loadPiece(k, c.a, first, c.broadcast ? k.constant(0) : piece), b = loadPiece(k, c.b, second, piece);
    if (c.broadcast)
      a = k.splat(k.element(a, 0), 8);
    Val y = applyElementwise(k, c.op, a, b);
    if (c.scaled)
      y = y * k.splat(k.load(k.f32(), k.argument(2), k.constant(0)), 8);
    storePiece(k, c.out, y, out, piece);
  });
  k.finish();
  return {.kernel = name.str(),
          .x = x,
          .tokensPerWorkgroup = 1,
          .z = static_cast<unsigned>(c.slots),
          .workgroupSize = kThreads,
          .bound = kBound};
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

LaunchShape emitColumns(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        const ColumnsConfig &c) {
  // An element a lane: nothing says that the first column is aligned to more.
  KernelBuilder k(module, target, name, {Access::Read, Access::Write}, kThreads);
  Val token = k.workgroupY(), column = k.workgroupX() * kThreads + k.thread();
  Val from = rowOf(k, c.x, k.argument(0), token, c.width), to = rowOf(k, c.out, k.argument(1), token, c.columns);
  k.ifThen(column < static_cast<int64_t>(paddedRow(c.columns)), [&] {
    Val inside = k.minI(column, k.constant(static_cast<int64_t>(c.columns - 1))) + static_cast<int64_t>(c.from);
    Val y = widen(k, k.load(c.x == Element::F32 ? k.f32() : k.bf16(), from, inside * bytesOf(c.x)));
    y = k.select(column < static_cast<int64_t>(c.columns), y, k.constantF(0));
    k.store(c.out == Element::F32 ? y : k.round(y, k.bf16()), to, column * bytesOf(c.out));
  });
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>((paddedRow(c.columns) + kThreads - 1) / kThreads),
          .tokensPerWorkgroup = 1,
          .workgroupSize = kThreads,
          .bound = "one lane an element"};
}

LaunchShape emitSoftcap(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        const SoftcapConfig &c) {
  // An element a lane: rows of logits are not aligned to more.
  uint64_t columns = c.logits ? c.columns : paddedRow(c.columns);
  KernelBuilder k(module, target, name, {Access::Read, Access::Write}, kThreads);
  Val token = k.workgroupY(), column = k.workgroupX() * kThreads + k.thread();
  Val x = rowOf(k, Element::F32, k.argument(0), token, c.columns);
  Val out = k.advance(k.argument(1), k.zext(token, k.i64()) * static_cast<int64_t>(columns * 4));
  k.ifThen(column < static_cast<int64_t>(columns),
           [&] { k.store(applySoftcap(k, k.load(k.f32(), x, column * 4), c.cap), out, column * 4); });
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>((columns + kThreads - 1) / kThreads),
          .tokensPerWorkgroup = 1,
          .workgroupSize = kThreads};
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
