// One token times a weight matrix: memory-bound, so the shape of the weight loads is everything. A wave reads whole
// tile16 tiles, 512 contiguous bytes a load; lane l works on row l % 16 and half l / 16 of the tile's K. The waves of a
// workgroup share the rows and split K, so that a narrow matrix still fills the chip; their partial sums meet in LDS in
// a fixed order.

#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/parts.h"

namespace ingot {

// Row tiles of each part that a wave keeps in registers (they share each load of x), and waves that split K.
struct DecodeShape {
  unsigned tiles, waves;
};

static DecodeShape chooseDecodeShape(const TargetInfo &target, const LinearConfig &c, LinearLayout layout) {
  uint64_t rowTiles = 0, most = layout == LinearLayout::Zipped ? 2 : 4, steps = stepsOfK(c.scheme, c.columns);
  for (const LinearPart &part : c.parts)
    rowTiles += paddedRow(part.rows) / 16;
  if (layout == LinearLayout::Zipped)
    rowTiles /= c.parts.size();
  DecodeShape shape{1, 8};
  // Wide matrices: more rows a wave, as long as there are two workgroups for each compute unit.
  while (shape.tiles < most && rowTiles % (shape.tiles * 2) == 0 &&
         rowTiles / (shape.tiles * 2) >= 2 * target.computeUnits)
    shape.tiles *= 2;
  if (layout == LinearLayout::Paired)
    shape.tiles = 2;
  // A wave with fewer than four steps of K does more adding up than multiplying. Nothing but K decides, so that the
  // order of each sum, and with it the result, does not depend on what shares the launch.
  while (shape.waves > 1 && steps / shape.waves < 4)
    shape.waves /= 2;
  return shape;
}

// x's share of one step for this lane: what its half of a tile row meets.
static Val loadX(KernelBuilder &k, const LinearConfig &c, Val x, Val step) {
  if (c.scheme == LinearScheme::Int8Group32) // 16 int8 weights meet 16 bf16
    return k.load(k.vec(16, k.bf16()), x, step * 64 + k.laneHalf() * 32, 16);
  return k.load(k.vec(4, k.i32()), x, step * 32 + k.laneHalf() * 16);
}

// acc + tile * x for one tile. `scale` is the group's, for the scheme that has one.
static Val accumulate(KernelBuilder &k, const LinearConfig &c, Val tile, Val x, Val scale, Val correction, Val acc) {
  if (c.scheme == LinearScheme::Int8Group32) {
    // Signed bytes become unsigned by flipping the sign bit, since bytes convert to float in one instruction only when
    // unsigned; sum((q + 128) x) - 128 sum(x) = sum(q x).
    Val sum = k.constantF(0);
    for (unsigned i = 0; i < 16; ++i) {
      Val word = k.element(tile, i / 4) ^ 0x80808080LL;
      sum = k.fma(k.toFloatUnsigned((word >> 8 * (i % 4)) & 0xff), k.element(x, i), sum); // v_cvt_f32_ubyteN
    }
    return k.fma(scale, sum - correction, acc);
  }
  for (unsigned i = 0; i < 4; ++i) {
    Val a = k.element(tile, i), b = k.element(x, i);
    acc = c.scheme == LinearScheme::Bf16 ? k.dot2(a, b, acc) : k.dot4(a, b, acc);
  }
  return acc;
}

LaunchShape emitLinearDecode(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                             const LinearConfig &c) {
  using Kind = LinearArgument::Kind;
  LinearLayout layout = layoutOf(c);
  auto [tiles, waves] = chooseDecodeShape(target, c, layout);
  bool zipped = layout == LinearLayout::Zipped, integer = c.scheme == LinearScheme::Int8PerToken,
       grouped = c.scheme == LinearScheme::Int8Group32;
  unsigned partCount = c.parts.size(), sums = zipped ? tiles * partCount : tiles;
  std::vector<Access> access;
  for (const LinearArgument &argument : linearArguments(c, /*decode=*/true))
    access.push_back(argument.access());
  KernelBuilder k(module, target, name, access, waves * target.waveSize);
  Epilogue epilogue(k, c, /*decode=*/true, /*width=*/1, {});
  uint64_t steps = stepsOfK(c.scheme, c.columns);

  Val wave = k.wave(), lane = k.lane(), row = lane % 16;
  PartPlaces places = placeParts(k, c, layout, epilogue, k.workgroupX(), tiles);
  // Tiles of this workgroup, as byte offsets from the part's base: rows may lie beyond 4 GiB, so the base is a scalar
  // address and lanes add 32-bit offsets.
  struct Stream {
    Val weights, scales;
  };
  std::vector<Stream> streams;
  streams.reserve(sums);
  for (unsigned i = 0; i < sums; ++i) {
    unsigned part = zipped ? i / tiles : 0;
    Val tile = k.zext(places.tile(k, zipped ? i % tiles : i), k.i64());
    Stream stream{k.advance(places.weights[part], tile * static_cast<int64_t>(steps * kTileBytes)), {}};
    if (grouped)
      stream.scales = k.advance(places.scales[part], tile * static_cast<int64_t>(steps * 32));
    streams.push_back(stream);
  }

  std::vector<Val> zeros(sums, integer ? k.constant(0) : k.constantF(0));
  std::vector<Val> partial =
      k.forLoop(wave, k.constant(steps), k.constant(waves), zeros, [&](Val step, std::vector<Val> acc) {
        std::vector<Val> tile;
        tile.reserve(sums);
        for (const Stream &stream : streams)
          tile.push_back(k.load(k.vec(4, k.i32()), stream.weights, step * kTileBytes + lane * 16));
        Val x = loadX(k, c, epilogue.argument(Kind::X), step), correction;
        if (grouped) {
          x = k.extend(x);
          correction = k.sumElements(x) * 128;
        }
        for (unsigned i = 0; i < sums; ++i) {
          Val scale;
          if (grouped)
            scale = k.extend(k.load(k.f16(), streams[i].scales, step * 32 + row * 2));
          acc[i] = accumulate(k, c, tile[i], x, scale, correction, acc[i]);
        }
        return acc;
      });
  for (Val &sum : partial)
    sum = sum + k.otherHalf(sum);

  // Row `r` of tile `t`: its sum becomes a product and goes through the epilogue. `of(half, part)` is the sum; paired
  // tiles, half a head apart, are finished together.
  unsigned halves = layout == LinearLayout::Paired ? 2 : 1, units = tiles / halves;
  auto finishPart = [&](unsigned part, const std::vector<Site> &sites,
                        const std::function<Val(unsigned, unsigned)> &of) {
    std::vector<Val> products;
    products.reserve(halves);
    for (unsigned half = 0; half < halves; ++half) {
      Val n = sites[half].n, y = of(half, zipped ? part : 0);
      if (integer)
        y = k.toFloat(y) * k.load(k.f32(), places.ownScales[part], n * 4) *
            k.load(k.f32(), epilogue.argument(Kind::XScales), k.constant(0));
      if (c.parts[part].bias)
        y = y + k.load(k.f32(), epilogue.argument(Kind::Bias, part), n * 4);
      products.push_back(y);
    }
    return products;
  };
  auto finish = [&](Val t, Val r, const std::function<Val(unsigned, unsigned)> &of) {
    std::vector<Site> sites;
    sites.reserve(halves);
    for (unsigned half = 0; half < halves; ++half)
      sites.push_back({k.constant(0), places.tile(k, t + half * units) * 16 + r});
    if (zipped || partCount == 1) {
      std::vector<std::vector<Val>> products;
      products.reserve(partCount);
      for (unsigned part = 0; part < partCount; ++part)
        products.push_back(finishPart(part, sites, of));
      epilogue.finish(sites, products);
      return;
    }
    for (unsigned part = 0; part < partCount; ++part)
      k.ifThen(places.mine[part], [&] {
        std::vector<std::vector<Val>> products(partCount);
        products[part] = finishPart(part, sites, of);
        epilogue.finish(sites, products);
      });
  };
  if (waves == 1) {
    k.ifThen(lane < 16, [&] {
      for (unsigned t = 0; t < units; ++t)
        finish(k.constant(t), row,
               [&](unsigned half, unsigned part) { return partial[part * tiles + t + half * units]; });
    });
  } else {
    unsigned rows = 16 * sums;
    Val block = k.lds(waves * rows * 4, "partial");
    k.ifThen(lane < 16, [&] {
      for (unsigned i = 0; i < sums; ++i)
        k.store(partial[i], block, (wave * rows + i * 16 + row) * 4);
    });
    k.barrier();
    Val thread = k.thread();
    k.ifThen(thread < int64_t{16} * units, [&] {
      Val t = thread / 16, r = thread % 16;
      finish(t, r, [&](unsigned half, unsigned part) {
        Val at = ((t + part * tiles + half * units) * 16 + r) * 4;
        Val total = k.load(partial[0].type(), block, at);
        for (unsigned w = 1; w < waves; ++w)
          total = total + k.load(partial[0].type(), block, at + w * rows * 4);
        return total;
      });
    });
  }
  k.finish();
  return {.kernel = name.str(), .x = workgroupsOf(c, layout, tiles), .workgroupSize = waves * target.waveSize};
}

} // namespace ingot
