// Many tokens times a weight matrix, on the wave matrix instructions: D[16 rows x 16 tokens] += W[16 rows x K] * X^T.
// Weights are the A operand, so each lane of D holds eight consecutive outputs of one token and stores them at once. A
// wave keeps 2 row tiles x 4 token tiles in registers and reads operands straight from memory: neighbouring waves share
// them in the caches.

#include "codegen/kernels/kernels.h"
#include "codegen/kernels/linear.h"

namespace ingot {

static constexpr unsigned kTokenTiles = 4, kTokens = 16 * kTokenTiles;

// 32 int8 of K as two bf16 fragments. Exact: an int8 needs 8 significant bits, a bf16 has them.
static std::pair<Val, Val> widen(KernelBuilder &k, Val tile) {
  unsigned half = k.lanes(tile) / 2;
  auto one = [&](Val words) {
    Val bytes = k.bitcast(words, k.vec(4 * half, k.i8()));
    return k.bitcast(k.round(k.toFloat(bytes), k.bf16()), k.vec(2 * half, k.i32()));
  };
  return {one(k.slice(tile, 0, half)), one(k.slice(tile, half, half))};
}

LaunchShape emitLinearPrefill(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              const LinearConfig &c) {
  // N is padded to 64 rows, 4 row tiles: one or two waves of two row tiles each always divide it.
  constexpr unsigned rowTiles = 2, waves = 2;
  std::vector<Access> access = linearArguments(c);
  access.insert(access.begin(), Access::Read);
  KernelBuilder k(module, target, name, access, waves * target.waveSize);
  LinearPointers p = linearPointers(k, c, 1);
  bool integer = c.scheme == LinearScheme::Int8PerToken, grouped = c.scheme == LinearScheme::Int8Group32;
  uint64_t steps = stepsOfK(c);
  uint64_t xStride = paddedRow(c.columns) * (integer ? 1 : 2);

  Val tokens = k.stepTokens(k.argument(0));
  Val half = k.laneHalf(), column = k.matrixColumn(), row = k.matrixRow();
  Val firstTile = (k.workgroupX() * waves + k.wave()) * rowTiles;
  Val firstToken = k.workgroupY() * kTokens;
  Val weights = k.advance(p.weight, k.zext(firstTile, k.i64()) * static_cast<int64_t>(steps * kTileBytes));
  Val x = k.advance(p.x, k.zext(firstToken, k.i64()) * static_cast<int64_t>(xStride));
  Val groupScales;
  if (grouped)
    groupScales = k.advance(p.weightScales, k.zext(firstTile, k.i64()) * static_cast<int64_t>(steps * 32));

  mlir::Type resultType = k.vec(8, integer ? k.i32() : k.f32());
  std::vector<Val> zeros(rowTiles * kTokenTiles, k.zero(resultType));
  auto body = [&](Val step, std::vector<Val> acc) {
    std::vector<Val> a, b;
    for (unsigned r = 0; r < rowTiles; ++r)
      a.push_back(k.loadTileFragment(weights, (step + r * steps) * kTileBytes, row));
    unsigned bytesOfK = grouped ? 64 : 32;
    for (unsigned t = 0; t < kTokenTiles; ++t)
      b.push_back(k.loadFragment(x, (column + t * 16) * xStride + step * bytesOfK, bytesOfK));
    for (unsigned r = 0; r < rowTiles; ++r) {
      if (grouped) {
        auto [low, high] = widen(k, a[r]);
        Val scale = k.extend(k.load(k.vec(8, k.f16()), groupScales, (step + r * steps) * 32 + half * 16));
        for (unsigned t = 0; t < kTokenTiles; ++t) {
          unsigned n = k.lanes(b[t]) / 2;
          Val group = k.matrixBf16(low, k.slice(b[t], 0, n), k.zero(resultType));
          group = k.matrixBf16(high, k.slice(b[t], n, n), group);
          Val &sum = acc[r * kTokenTiles + t];
          sum = k.fma(scale, group, sum);
        }
        continue;
      }
      for (unsigned t = 0; t < kTokenTiles; ++t) {
        Val &sum = acc[r * kTokenTiles + t];
        sum = integer ? k.matrixInt8(a[r], b[t], sum) : k.matrixBf16(a[r], b[t], sum);
      }
    }
    return acc;
  };
  std::vector<Val> sums = k.forLoop(k.constant(0), k.constant(steps), k.constant(1), zeros, body);

  for (Val &sum : sums)
    sum = k.pin(sum);

  bool exact = c.output == LinearOutput::Logits && c.rows % 64 != 0; // rows without padding
  uint64_t outStride =
      c.output == LinearOutput::Bf16 ? paddedRow(c.rows) * 2 : (exact ? c.rows : paddedRow(c.rows)) * 4;
  Val out = k.advance(p.out, k.zext(firstToken, k.i64()) * static_cast<int64_t>(outStride));
  for (unsigned r = 0; r < rowTiles; ++r) {
    Val n = (firstTile + r) * 16 + half * 8; // the first of this lane's eight rows
    Val weightScale, bias;
    if (integer)
      weightScale = k.load(k.vec(8, k.f32()), p.weightScales, n * 4, 16);
    if (c.bias)
      bias = k.load(k.vec(8, k.f32()), p.bias, n * 4, 16);
    for (unsigned t = 0; t < kTokenTiles; ++t) {
      Val token = column + t * 16;
      k.ifThen(firstToken + token < tokens, [&] {
        Val y = sums[r * kTokenTiles + t];
        if (integer)
          y = k.toFloat(y) * k.load(k.f32(), p.xScales, (firstToken + token) * 4) * weightScale;
        if (c.bias)
          y = y + bias;
        if (c.output == LinearOutput::Bf16) {
          k.store(k.round(y, k.bf16()), out, token * outStride + n * 2);
        } else if (!exact) {
          k.store(y, out, token * outStride + n * 4);
        } else {
          for (unsigned i = 0; i < 8; ++i)
            k.ifThen(n + i < static_cast<int64_t>(c.rows),
                     [&] { k.store(k.element(y, i), out, token * outStride + n * 4 + i * 4); });
        }
      });
    }
  }
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(paddedRow(c.rows) / 16 / (rowTiles * waves)),
          .tokensPerWorkgroup = kTokens,
          .workgroupSize = waves * target.waveSize};
}

} // namespace ingot
