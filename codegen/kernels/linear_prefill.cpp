// Many tokens times a weight matrix, on the wave matrix instructions: D[16 rows x 16 tokens] += W[16 rows x K] * X^T.
// Weights are the A operand, so each lane of D holds eight consecutive outputs of one token and stores them at once. A
// wave keeps tiles of rows and of tokens in registers, as many as the cost function says, and reads operands straight
// from memory: neighbouring waves share them in the caches.
//
// With experts a workgroup has a tile of `emitGroup`'s list: rows of any tokens that go to one expert. Each lane reads
// and writes the rows that the list names.

#include "codegen/kernels/codes.h"
#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/parts.h"

namespace ingot {

// What one step along K takes: 32 bytes of a row of x, or 32 columns of codes that become two fragments of bf16.
static unsigned columnsOfStep(llm::SchemeAttr scheme) { return widensCodes(scheme) ? 32 : columnsOfTile(scheme); }

// What the cost function is told.
static MatrixProduct describe(const TargetInfo &target, const LinearConfig &c, LinearLayout layout) {
  const bool zipped = layout == LinearLayout::Zipped, widens = widensCodes(c.scheme);
  const unsigned columns = columnsOfStep(c.scheme), codeBytes = columns * c.scheme.bits() / 8,
                 tokenBytes = integerDots(c.scheme) ? columns : columns * 2;
  // Registers of `bytes` of each of 16 rows, or tokens.
  auto registers = [&](unsigned bytes) { return bytes / 4 / (target.matrix == MatrixLayout::Replicated ? 1 : 2); };
  // Two instructions a code that becomes bf16, of a lane's share: assumed.
  const unsigned codesOfLane = columns / (target.matrix == MatrixLayout::Replicated ? 1 : 2);
  const uint64_t steps = paddedRow(c.columns) / columns;
  // Of a group a lane holds the scales of its eight rows, and their zero points.
  const bool grouped = widens && c.scheme.getGroup() != 0;
  const unsigned scaleRegisters = grouped ? (c.scheme.getZeros() ? 16 : 8) : 0;
  MatrixProduct product{
      .rowTiles = 0,
      .streams = zipped ? static_cast<unsigned>(c.parts.size()) : 1,
      .tokenTiles = c.experts ? kGroupRows / 16 * groupTiles(c.experts.count, c.experts.slots, c.experts.chunkRows)
                              : (c.chunkRows + 15) / 16,
      .steps = steps,
      .bytesPerStep =
          static_cast<unsigned>(16 * codeBytes + groupsOfK(c.scheme, c.columns) * bytesOfRecord(c.scheme) / steps),
      .tokenBytesPerStep = 16 * tokenBytes,
      .rowRegisters = registers(codeBytes) + scaleRegisters,
      .tokenRegisters = registers(tokenBytes),
      .workRegisters = widens ? registers(tokenBytes) + (grouped ? 8U : 0U) : 0U,
      .matrixClocks = columns / 16 * (integerDots(c.scheme) ? target.int8MatrixClocks : target.bf16MatrixClocks),
      .convertClocks = widens ? 2 * codesOfLane : 0};
  for (const LinearPart &part : c.parts)
    product.rowTiles += paddedRow(part.rows) / 16;
  product.rowTiles /= product.streams;
  if (layout == LinearLayout::Paired)
    product.leastTiles = product.mostTiles = 2; // a row and the one it is rotated with
  else if (zipped)
    product.mostTiles = 2;
  if (c.experts)
    product.leastTokenTiles = product.mostTokenTiles = kGroupRows / 16;
  return product;
}

LaunchShape emitLinearPrefill(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              const LinearConfig &c) {
  using Kind = LinearArgument::Kind;
  LinearLayout layout = layoutOf(c);
  bool zipped = layout == LinearLayout::Zipped;
  const LaunchDecision decision = chooseLaunch(target, describe(target, c, layout));
  const unsigned tiles = decision.chosen.tiles, waves = decision.chosen.waves;
  const unsigned rowTiles = zipped ? tiles * static_cast<unsigned>(c.parts.size()) : tiles;
  std::vector<Access> access;
  for (const LinearArgument &argument : linearArguments(c, /*decode=*/false))
    access.push_back(argument.access());
  const unsigned tokenTiles = decision.chosen.tokenTiles;
  const int64_t rowsOfTile = int64_t{16} * tokenTiles;
  KernelBuilder k(module, target, name, access, waves * target.waveSize);
  bool integer = integerDots(c.scheme), widens = widensCodes(c.scheme), grouped = widens && c.scheme.getGroup() != 0;
  const unsigned columns = columnsOfStep(c.scheme), bytesOfX = widens ? 64 : 32;
  int64_t bytesOfStep = int64_t{2} * columns * c.scheme.bits(); // of 16 rows of the weight
  uint64_t steps = paddedRow(c.columns) / columns;
  Codes codes(k, c.scheme, c.columns);
  auto xStride = static_cast<int64_t>(paddedRow(c.columns) * (integer ? 1 : 2));

  Val half = k.laneHalf(), column = k.matrixColumn(), row = k.matrixRow();
  Val firstRow = c.experts ? k.constant(0) : k.workgroupY() * rowsOfTile;
  Epilogue epilogue(k, c, /*decode=*/false, /*width=*/8, firstRow);
  // A row of the tile: where this lane finds the operand's and its scale, which row of the results it writes (from
  // `firstRow` on), and whether there is such a row.
  struct Row {
    Val x, scale, result, exists;
  };
  auto multiply = [&](Val x, Val expert, const std::vector<Row> &lanes) {
    PartPlaces places = placeParts(k, c, layout, epilogue, k.workgroupX() * waves + k.wave(), tiles, expert);
    std::vector<Val> tile, weights, scales;
    std::vector<Val> zeroOfRow; // where a row has one scale, which waits until the end
    auto groupOf = [&](unsigned r, Val group) { return codes.group(scales[r], group, half * 8, 8, row); };
    for (unsigned r = 0; r < rowTiles; ++r) {
      unsigned part = zipped ? r / tiles : 0;
      tile.push_back(places.tile(k, r % tiles));
      Val wide = k.zext(tile[r], k.i64());
      weights.push_back(k.advance(places.weights[part], wide * (static_cast<int64_t>(steps) * bytesOfStep)));
      if (!widens)
        continue;
      scales.push_back(k.advance(places.scales[part], wide * static_cast<int64_t>(codes.bandStride())));
      if (!grouped)
        zeroOfRow.push_back(groupOf(r, k.constant(0)).zero);
    }

    mlir::Type resultType = k.vec(8, integer ? k.i32() : k.f32());
    std::vector<Val> zeros(rowTiles * tokenTiles, k.zero(resultType));
    auto body = [&](Val step, std::vector<Val> acc) {
      std::vector<Val> a, b;
      for (unsigned r = 0; r < rowTiles; ++r)
        a.push_back(bytesOfStep == kTileBytes ? k.loadTileFragment(weights[r], step * bytesOfStep, row)
                                              : k.loadFragment(weights[r], step * bytesOfStep + row * 16, 16));
      for (unsigned t = 0; t < tokenTiles; ++t)
        b.push_back(k.loadFragment(x, lanes[t].x + step * bytesOfX, bytesOfX));
      for (unsigned r = 0; r < rowTiles; ++r) {
        if (!widens) {
          for (unsigned t = 0; t < tokenTiles; ++t) {
            Val &sum = acc[r * tokenTiles + t];
            sum = integer ? k.matrixInt8(a[r], b[t], sum) : k.matrixBf16(a[r], b[t], sum);
          }
          continue;
        }
        Codes::Group group = grouped ? groupOf(r, codes.groupOf(step, columns)) : Codes::Group{{}, zeroOfRow[r]};
        Val wide = codes.asBf16(a[r], group.zero);
        unsigned n = k.lanes(wide) / 2;
        for (unsigned t = 0; t < tokenTiles; ++t) {
          Val &sum = acc[r * tokenTiles + t];
          // A group's sum apart from the others, since its scale is applied to it.
          Val product = grouped ? k.zero(resultType) : sum;
          for (unsigned i : {0U, n})
            product = k.matrixBf16(k.slice(wide, i, n), k.slice(b[t], i, n), product);
          sum = grouped ? k.fma(group.scale, product, sum) : product;
        }
      }
      return acc;
    };
    std::vector<Val> sums =
        k.forLoop(k.constant(0), k.constant(steps), k.constant(1), zeros, body, decision.chosen.unroll);

    for (Val &sum : sums)
      sum = k.pin(sum);

    auto productsOf = [&](unsigned part, unsigned r, Val n, unsigned t) {
      Val y = sums[r * tokenTiles + t];
      if (widens && !grouped)
        y = y * groupOf(r, k.constant(0)).scale;
      if (integer)
        y = k.toFloat(y) * k.load(k.vec(8, k.f32()), places.ownScales[part], n * 4, 16) *
            k.load(k.f32(), epilogue.argument(Kind::XScales), lanes[t].scale);
      if (c.parts[part].bias)
        y = y + k.load(k.vec(8, k.f32()), epilogue.argument(Kind::Bias, part), n * 4, 16);
      return y;
    };
    auto rowsOf = [&](unsigned r) { return tile[r] * 16 + half * 8; }; // the first of this lane's eight
    unsigned partCount = c.parts.size();
    auto finish = [&](unsigned mine) {
      for (unsigned t = 0; t < tokenTiles; ++t) {
        k.ifThen(lanes[t].exists, [&] {
          std::vector<std::vector<Val>> products(partCount);
          std::vector<Site> sites;
          for (unsigned r = 0; r < tiles; ++r) {
            sites.push_back({lanes[t].result, rowsOf(r)});
            for (unsigned part = 0; part < partCount; ++part)
              if (zipped || part == mine)
                products[part].push_back(productsOf(part, zipped ? part * tiles + r : r, sites[r].n, t));
          }
          epilogue.finish(sites, products);
        });
      }
    };
    if (places.mine.empty())
      finish(0);
    for (unsigned part = 0; part < places.mine.size(); ++part)
      k.ifThen(places.mine[part], [&] { finish(part); });
  };

  std::vector<Row> lanes;
  Val x = epilogue.argument(Kind::X);
  if (!c.experts) {
    Val tokens = k.stepTokens(k.argument(0));
    for (unsigned t = 0; t < tokenTiles; ++t) {
      Val at = column + t * 16;
      lanes.push_back({at * xStride, (firstRow + at) * 4, at, firstRow + at < tokens});
    }
    multiply(k.advance(x, k.zext(firstRow, k.i64()) * xStride), {}, lanes);
  } else {
    const auto slots = static_cast<int64_t>(c.experts.slots);
    const uint64_t tiles = groupTiles(c.experts.count, c.experts.slots, c.experts.chunkRows);
    Val groups = epilogue.argument(Kind::Groups);
    auto field = [&](unsigned i) { return k.uniform(k.load(k.i32(), groups, k.workgroupY() * 16 + i * 4)); };
    Val expert = field(0), first = field(1), count = field(2);
    Val list = k.advance(groups, k.zext(first, k.i64()) * 4 + static_cast<int64_t>(tiles * 16));
    k.ifThen(count > 0, [&] { // the grid covers the worst case
      for (unsigned t = 0; t < tokenTiles; ++t) {
        Val at = column + t * 16;
        // Lanes without a row multiply the last one again, and do not store it.
        Val slot = k.load(k.i32(), list, k.minI(at, count - 1) * 4);
        Val token = slot / slots, own = c.experts.ownRows ? slot : token;
        Val scale = c.experts.ownRows ? token * static_cast<int64_t>(paddedRow(c.experts.slots)) + slot % slots : token;
        lanes.push_back({own * xStride, scale * 4, slot, at < count});
      }
      multiply(x, expert, lanes);
    });
  }
  k.finish();
  LaunchShape shape{.kernel = name.str(),
                    .x = workgroupsOf(c, layout, tiles) / waves,
                    .workgroupSize = waves * target.waveSize,
                    .bound = decision.narrow,
                    .decision = decision};
  if (c.experts) {
    shape.y = static_cast<unsigned>(groupTiles(c.experts.count, c.experts.slots, c.experts.chunkRows));
  } else {
    shape.tokensPerWorkgroup = static_cast<unsigned>(rowsOfTile);
  }
  return shape;
}

} // namespace ingot
