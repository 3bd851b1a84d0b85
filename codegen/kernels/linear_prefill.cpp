// Many tokens times a weight matrix, on the wave matrix instructions: D[16 rows x 16 tokens] += W[16 rows x K] * X^T.
// Weights are the A operand, so each lane of D holds eight consecutive outputs of one token and stores them at once. A
// wave keeps 2 row tiles x 4 token tiles in registers and reads operands straight from memory: neighbouring waves share
// them in the caches.

#include "codegen/kernels/codes.h"
#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/parts.h"

namespace ingot {

static constexpr unsigned kTokenTiles = 4, kTokens = 16 * kTokenTiles;

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
  bool integer = integerDots(c.scheme), widens = widensCodes(c.scheme), grouped = widens && c.scheme.getGroup() != 0;
  // A step takes 32 bytes of x, or 32 columns of codes that become two fragments of bf16.
  unsigned columnsOfStep = widens ? 32 : columnsOfTile(c.scheme), bytesOfX = widens ? 64 : 32;
  int64_t bytesOfStep = int64_t{2} * columnsOfStep * c.scheme.bits(); // of 16 rows of the weight
  uint64_t steps = paddedRow(c.columns) / columnsOfStep;
  Codes codes(k, c.scheme, c.columns);
  uint64_t xStride = paddedRow(c.columns) * (integer ? 1 : 2);

  Val tokens = k.stepTokens(k.argument(0));
  Val half = k.laneHalf(), column = k.matrixColumn(), row = k.matrixRow();
  Val firstToken = k.workgroupY() * kTokens;
  Epilogue epilogue(k, c, /*decode=*/false, /*width=*/8, firstToken);
  unsigned tilesOfPart = zipped ? 1 : rowTiles;
  PartPlaces places = placeParts(k, c, layout, epilogue, k.workgroupX() * waves + k.wave(), tilesOfPart);
  Val x = k.advance(epilogue.argument(Kind::X), k.zext(firstToken, k.i64()) * static_cast<int64_t>(xStride));
  std::vector<Val> tile, weights, scales;
  std::vector<Val> zeroOfRow; // where a row has one scale, which waits until the end
  auto groupOf = [&](unsigned r, Val group) { return codes.group(scales[r], group, half * 8, 8, row); };
  for (unsigned r = 0; r < rowTiles; ++r) {
    unsigned part = zipped ? r : 0;
    tile.push_back(places.tile(k, zipped ? 0 : r));
    Val wide = k.zext(tile[r], k.i64());
    weights.push_back(k.advance(places.weights[part], wide * (static_cast<int64_t>(steps) * bytesOfStep)));
    if (!widens)
      continue;
    scales.push_back(k.advance(places.scales[part], wide * static_cast<int64_t>(codes.bandStride())));
    if (!grouped)
      zeroOfRow.push_back(groupOf(r, k.constant(0)).zero);
  }

  mlir::Type resultType = k.vec(8, integer ? k.i32() : k.f32());
  std::vector<Val> zeros(rowTiles * kTokenTiles, k.zero(resultType));
  auto body = [&](Val step, std::vector<Val> acc) {
    std::vector<Val> a, b;
    for (unsigned r = 0; r < rowTiles; ++r)
      a.push_back(bytesOfStep == kTileBytes ? k.loadTileFragment(weights[r], step * bytesOfStep, row)
                                            : k.loadFragment(weights[r], step * bytesOfStep + row * 16, 16));
    for (unsigned t = 0; t < kTokenTiles; ++t)
      b.push_back(k.loadFragment(x, (column + t * 16) * xStride + step * bytesOfX, bytesOfX));
    for (unsigned r = 0; r < rowTiles; ++r) {
      if (!widens) {
        for (unsigned t = 0; t < kTokenTiles; ++t) {
          Val &sum = acc[r * kTokenTiles + t];
          sum = integer ? k.matrixInt8(a[r], b[t], sum) : k.matrixBf16(a[r], b[t], sum);
        }
        continue;
      }
      Codes::Group group = grouped ? groupOf(r, codes.groupOf(step, columnsOfStep)) : Codes::Group{{}, zeroOfRow[r]};
      Val wide = codes.asBf16(a[r], group.zero);
      unsigned n = k.lanes(wide) / 2;
      for (unsigned t = 0; t < kTokenTiles; ++t) {
        Val &sum = acc[r * kTokenTiles + t];
        // A group's sum apart from the others, since its scale is applied to it.
        Val product = grouped ? k.zero(resultType) : sum;
        for (unsigned i : {0U, n})
          product = k.matrixBf16(k.slice(wide, i, n), k.slice(b[t], i, n), product);
        sum = grouped ? k.fma(group.scale, product, sum) : product;
      }
    }
    return acc;
  };
  std::vector<Val> sums = k.forLoop(k.constant(0), k.constant(steps), k.constant(1), zeros, body);

  for (Val &sum : sums)
    sum = k.pin(sum);

  auto productsOf = [&](unsigned part, unsigned r, Val n, unsigned t) {
    Val y = sums[r * kTokenTiles + t];
    if (widens && !grouped)
      y = y * groupOf(r, k.constant(0)).scale;
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
          .workgroupSize = waves * target.waveSize,
          .bound = "64 rows and 64 tokens a workgroup"};
}

} // namespace ingot
