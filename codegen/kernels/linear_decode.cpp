// One token times a weight matrix: memory-bound, so the shape of the weight loads is everything. A wave reads whole
// tile16 tiles, 512 contiguous bytes a load; lane l works on row l % 16 and half l / 16 of the tile's K. The waves of a
// workgroup share the rows and split K, so that a narrow matrix still fills the chip; their partial sums meet in LDS in
// a fixed order.

#include "codegen/kernels/kernels.h"
#include "codegen/kernels/linear.h"

namespace ingot {

// Row tiles a wave keeps in registers (they share each load of x), and waves that split K.
struct DecodeShape {
  unsigned tiles, waves;
};

static DecodeShape chooseDecodeShape(const TargetInfo &target, const LinearConfig &c) {
  uint64_t rowTiles = paddedRow(c.rows) / 16, steps = stepsOfK(c);
  DecodeShape shape{1, 8};
  // Wide matrices: more rows a wave, as long as there are two workgroups for each compute unit.
  while (shape.tiles < 4 && rowTiles % (shape.tiles * 2) == 0 &&
         rowTiles / (shape.tiles * 2) >= 2 * target.computeUnits)
    shape.tiles *= 2;
  // A wave with fewer than four steps of K does more adding up than multiplying.
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
  DecodeShape shape = chooseDecodeShape(target, c);
  unsigned tiles = shape.tiles, waves = shape.waves;
  std::vector<Access> access = linearArguments(c);
  KernelBuilder k(module, target, name, access, waves * target.waveSize);
  LinearPointers p = linearPointers(k, c, 0);
  bool integer = c.scheme == LinearScheme::Int8PerToken;
  uint64_t steps = stepsOfK(c);

  Val wave = k.wave(), lane = k.lane(), row = lane % 16;
  Val firstTile = k.workgroupX() * tiles;
  // The whole block of rows may lie beyond 4 GiB: its base is a scalar address, lanes add 32-bit offsets.
  Val weights = k.advance(p.weight, k.zext(firstTile, k.i64()) * static_cast<int64_t>(steps * kTileBytes));
  Val scales;
  if (c.scheme == LinearScheme::Int8Group32)
    scales = k.advance(p.weightScales, k.zext(firstTile, k.i64()) * static_cast<int64_t>(steps * 32));

  std::vector<Val> zeros(tiles, integer ? k.constant(0) : k.constantF(0));
  std::vector<Val> sums =
      k.forLoop(wave, k.constant(steps), k.constant(waves), zeros, [&](Val step, std::vector<Val> acc) {
        std::vector<Val> tile;
        for (unsigned t = 0; t < tiles; ++t)
          tile.push_back(k.load(k.vec(4, k.i32()), weights, (step + t * steps) * kTileBytes + lane * 16));
        Val x = loadX(k, c, p.x, step), correction;
        if (c.scheme == LinearScheme::Int8Group32) {
          x = k.extend(x);
          correction = k.sumElements(x) * 128;
        }
        for (unsigned t = 0; t < tiles; ++t) {
          Val scale;
          if (c.scheme == LinearScheme::Int8Group32)
            scale = k.extend(k.load(k.f16(), scales, (step + t * steps) * 32 + row * 2));
          acc[t] = accumulate(k, c, tile[t], x, scale, correction, acc[t]);
        }
        return acc;
      });

  for (Val &sum : sums)
    sum = sum + k.otherHalf(sum);
  auto finish = [&](Val n, Val sum) {
    Val y = integer
                ? k.toFloat(sum) * k.load(k.f32(), p.xScales, k.constant(0)) * k.load(k.f32(), p.weightScales, n * 4)
                : sum;
    if (c.bias)
      y = y + k.load(k.f32(), p.bias, n * 4);
    switch (c.output) {
    case LinearOutput::Bf16:
      k.store(k.round(y, k.bf16()), p.out, n * 2);
      break;
    case LinearOutput::F32:
      k.store(y, p.out, n * 4);
      break;
    case LinearOutput::Logits:
      k.ifThen(n < static_cast<int64_t>(c.rows), [&] { k.store(y, p.out, n * 4); });
      break;
    }
  };
  Val firstRow = firstTile * 16;
  if (waves == 1) {
    k.ifThen(lane < 16, [&] {
      for (unsigned t = 0; t < tiles; ++t)
        finish(firstRow + t * 16 + row, sums[t]);
    });
  } else {
    unsigned rows = 16 * tiles;
    Val block = k.lds(waves * rows * 4, "partial");
    k.ifThen(lane < 16, [&] {
      for (unsigned t = 0; t < tiles; ++t)
        k.store(sums[t], block, (wave * rows + t * 16 + row) * 4);
    });
    k.barrier();
    Val thread = k.thread();
    k.ifThen(thread < static_cast<int64_t>(rows), [&] {
      Val total = k.load(sums[0].type(), block, thread * 4);
      for (unsigned w = 1; w < waves; ++w)
        total = total + k.load(sums[0].type(), block, thread * 4 + w * rows * 4);
      finish(firstRow + thread, total);
    });
  }
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(paddedRow(c.rows) / 16 / tiles),
          .workgroupSize = waves * target.waveSize};
}

} // namespace ingot
