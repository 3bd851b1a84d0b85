// Many tokens times a weight matrix, on the wave matrix instructions: D[16 rows x 16 tokens] += W[16 rows x K] * X^T.
// Weights are the A operand, so each lane of D holds eight consecutive outputs of one token and stores them at once. A
// wave keeps 2 row tiles x 4 token tiles in registers and reads operands straight from memory: neighbouring waves share
// them in the caches.

#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/parts.h"

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
  using Kind = LinearArgument::Kind;
  LinearLayout layout = layoutOf(c);
  bool zipped = layout == LinearLayout::Zipped;
  // N is padded to 64 rows, 4 row tiles: two waves of two row tiles each always divide it. Zipped, a wave has one row
  // tile of each part.
  constexpr unsigned rowTiles = 2, waves = 2;
  std::vector<Access> access;
  for (const LinearArgument &argument : linearArguments(c, /*decode=*/false))
    access.push_back(argument.access());
  KernelBuilder k(module, target, name, access, waves * target.waveSize);
  bool integer = c.scheme == LinearScheme::Int8PerToken, grouped = c.scheme == LinearScheme::Int8Group32;
  uint64_t steps = stepsOfK(c.scheme, c.columns);
  uint64_t xStride = paddedRow(c.columns) * (integer ? 1 : 2);

  Val tokens = k.stepTokens(k.argument(0));
  Val half = k.laneHalf(), column = k.matrixColumn(), row = k.matrixRow();
  Val firstToken = k.workgroupY() * kTokens;
  Epilogue epilogue(k, c, /*decode=*/false, /*width=*/8, firstToken);
  unsigned tilesOfPart = zipped ? 1 : rowTiles;
  PartPlaces places = placeParts(k, c, layout, epilogue, k.workgroupX() * waves + k.wave(), tilesOfPart);
  Val x = k.advance(epilogue.argument(Kind::X), k.zext(firstToken, k.i64()) * static_cast<int64_t>(xStride));
  std::vector<Val> tile, weights, groupScales;
  for (unsigned r = 0; r < rowTiles; ++r) {
    unsigned part = zipped ? r : 0;
    tile.push_back(places.tile(k, zipped ? 0 : r));
    Val wide = k.zext(tile[r], k.i64());
    weights.push_back(k.advance(places.weights[part], wide * static_cast<int64_t>(steps * kTileBytes)));
    if (grouped)
      groupScales.push_back(k.advance(places.scales[part], wide * static_cast<int64_t>(steps * 32)));
  }

  mlir::Type resultType = k.vec(8, integer ? k.i32() : k.f32());
  std::vector<Val> zeros(rowTiles * kTokenTiles, k.zero(resultType));
  auto body = [&](Val step, std::vector<Val> acc) {
    std::vector<Val> a, b;
    for (unsigned r = 0; r < rowTiles; ++r)
      a.push_back(k.loadTileFragment(weights[r], step * kTileBytes, row));
    unsigned bytesOfK = grouped ? 64 : 32;
    for (unsigned t = 0; t < kTokenTiles; ++t)
      b.push_back(k.loadFragment(x, (column + t * 16) * xStride + step * bytesOfK, bytesOfK));
    for (unsigned r = 0; r < rowTiles; ++r) {
      if (grouped) {
        auto [low, high] = widen(k, a[r]);
        Val scale = k.extend(k.load(k.vec(8, k.f16()), groupScales[r], step * 32 + half * 16));
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

  auto productsOf = [&](unsigned part, unsigned r, Val n, unsigned t) {
    Val y = sums[r * kTokenTiles + t];
    if (integer)
      y = k.toFloat(y) * k.load(k.vec(8, k.f32()), places.ownScales[part], n * 4, 16) *
          k.load(k.f32(), epilogue.argument(Kind::XScales), (firstToken + column + t * 16) * 4);
    if (c.parts[part].bias)
      y = y + k.load(k.vec(8, k.f32()), epilogue.argument(Kind::Bias, part), n * 4, 16);
    return y;
  };
  auto rowsOf = [&](unsigned r) { return tile[r] * 16 + half * 8; }; // the first of this lane's eight
  unsigned partCount = c.parts.size();
  auto finish = [&](unsigned mine) {
    for (unsigned t = 0; t < kTokenTiles; ++t) {
      Val token = column + t * 16;
      k.ifThen(firstToken + token < tokens, [&] {
        std::vector<std::vector<Val>> products(partCount);
        std::vector<Site> sites;
        if (zipped) {
          sites.push_back({token, rowsOf(0)});
          for (unsigned part = 0; part < partCount; ++part)
            products[part].push_back(productsOf(part, part, sites[0].n, t));
        } else {
          for (unsigned r = 0; r < rowTiles; ++r) {
            sites.push_back({token, rowsOf(r)});
            products[mine].push_back(productsOf(mine, r, sites[r].n, t));
          }
        }
        epilogue.finish(sites, products);
      });
    }
  };
  if (places.mine.empty())
    finish(0);
  for (unsigned part = 0; part < places.mine.size(); ++part)
    k.ifThen(places.mine[part], [&] { finish(part); });
  k.finish();
  return {.kernel = name.str(),
          .x = workgroupsOf(c, layout, tilesOfPart) / waves,
          .tokensPerWorkgroup = kTokens,
          .workgroupSize = waves * target.waveSize};
}

} // namespace ingot
