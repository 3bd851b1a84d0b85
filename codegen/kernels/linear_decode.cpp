// One token, or a few, times a weight matrix: memory-bound, so the shape of the weight loads is everything. A wave
// reads whole tile16 tiles, 512 contiguous bytes a load; lane l works on row l % 16 and half l / 16 of the tile's K.
// The waves of a workgroup share the rows and split K, so that a narrow matrix still fills the chip; their partial sums
// meet in LDS in a fixed order. Several tokens meet each tile while it is in registers, and each has the sums it would
// have alone.
//
// With experts a workgroup has one slot of a token, whose expert's index it reads, and with it the address of its
// weights. Where the epilogue combines the experts, a workgroup has all slots of a token instead: groups of waves take
// them in turn, and the products of a row meet in LDS.

#include "codegen/kernels/codes.h"
#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/parts.h"
#include "codegen/kernels/prologue.h"

namespace ingot {

// What the cost function is told: tiles along the grid, bytes and registers of a step.
static StreamedMatrix describe(const LinearConfig &c, LinearLayout layout) {
  const bool zipped = layout == LinearLayout::Zipped, paired = layout == LinearLayout::Paired;
  const uint64_t steps = stepsOfK(c.scheme, c.columns);
  // Of the operand, a lane's bytes: as wide as the weight's codes, or bf16 where those widen.
  const uint64_t operandBytes = widensCodes(c.scheme) ? columnsOfTile(c.scheme) : 16;
  StreamedMatrix matrix{.rowTiles = 0,
                        .streams = zipped ? static_cast<unsigned>(c.parts.size()) : 1,
                        .steps = steps,
                        .bytesPerStep =
                            static_cast<unsigned>(kTileBytes + static_cast<int64_t>(groupsOfK(c.scheme, c.columns) *
                                                                                    bytesOfRecord(c.scheme) / steps)),
                        .operandLoads = static_cast<unsigned>(operandBytes / 16),
                        .registersPerOperand = widensCodes(c.scheme) ? 16U : 4U, // f32, or pairs of bf16 that meet int4
                        .tokens = static_cast<unsigned>(c.tokens),
                        .leastTiles = paired ? 2U : 1U,
                        .mostTiles = zipped || paired ? 2U : 4U};
  for (const LinearPart &part : c.parts)
    matrix.rowTiles += paddedRow(part.rows) / 16;
  matrix.rowTiles /= matrix.streams;
  if (c.experts) {
    matrix.rowTiles *= c.experts.slots; // waves of their own, whether or not in workgroups of their own
    if (combinesExperts(c))
      matrix.mostTiles = 1; // a workgroup has the others' rows in the other slots
  }
  return matrix;
}

// x's share of one step for this lane: what its half of a tile row meets.
struct StepOfX {
  Val words;               // as in memory
  std::vector<Val> values; // as f32, where codes become f32
  Val sum;                 // of them
};

// `x` is in memory or in LDS.
static StepOfX loadX(KernelBuilder &k, llm::SchemeAttr scheme, Val x, Val step) {
  StepOfX share;
  // Elements of x are as wide as those of the weight, or bf16 that meet narrower codes.
  auto bytes = static_cast<int64_t>(widensCodes(scheme) ? columnsOfTile(scheme) : 16);
  share.words = k.load(k.vec(bytes / 4, k.i32()), x, step * (2 * bytes) + k.laneHalf() * bytes, 16);
  if (!widensCodes(scheme))
    return share;
  if (scheme.getStorage() != llm::Storage::Int4) {
    Val wide = k.extend(k.bitcast(share.words, k.vec(bytes / 2, k.bf16())));
    for (unsigned i = 0; i < bytes / 2; ++i)
      share.values.push_back(k.element(wide, i));
  }
  if (scheme.getStorage() != llm::Storage::Fp8) {
    share.sum = k.constantF(0);
    for (unsigned i = 0; i < bytes / 4; ++i)
      share.sum = k.dot2(k.element(share.words, i), k.constant(0x3f803f80), share.sum); // two bf16 ones
  }
  return share;
}

// acc + tile * x for one tile.
static Val accumulate(KernelBuilder &k, const Codes &codes, llm::SchemeAttr scheme, Val tile, const StepOfX &x,
                      const Codes::Group &group, Val acc) {
  if (!widensCodes(scheme)) {
    for (unsigned i = 0; i < 4; ++i) {
      Val a = k.element(tile, i), b = k.element(x.words, i);
      acc = integerDots(scheme) ? k.dot4(a, b, acc) : k.dot2(a, b, acc);
    }
    return acc;
  }
  // sum((code - zero) x) = sum(code x) - zero sum(x), so that codes stay unsigned.
  Val sum = k.constantF(0), zero = group.zero;
  if (scheme.getStorage() == llm::Storage::Int4) {
    // A nibble in the low digits of the bf16 128 is 128 + code: no conversion, and two products an instruction.
    for (unsigned i = 0; i < 16; ++i) {
      Val pair = ((k.element(tile, i / 4) >> 4 * (i % 4)) & 0x000f000f) | k.constant(0x43004300);
      sum = k.dot2(pair, k.element(x.words, i), sum);
    }
    zero = zero + k.constantF(128);
  } else {
    for (unsigned w = 0; w < 4; ++w)
      for (auto [i, number] : llvm::enumerate(codes.numbers(k.element(tile, w))))
        sum = k.fma(number, x.values[w * 4 + i], sum);
  }
  return k.fma(group.scale, zero ? sum - zero * x.sum : sum, acc);
}

// How many slots a workgroup computes side by side, `waves` waves each: as many as 1024 lanes take, and a divisor of
// all.
static unsigned slotsAtOnce(const LinearConfig &c, unsigned waves) {
  constexpr unsigned kMostWaves = 32;
  auto slots = static_cast<unsigned>(c.experts.slots), most = slots;
  while (most * waves > kMostWaves || slots % most != 0)
    --most;
  return most;
}

LaunchShape emitLinearDecode(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                             const LinearConfig &c) {
  using Kind = LinearArgument::Kind;
  LinearLayout layout = layoutOf(c);
  LaunchDecision decision = chooseLaunch(target, describe(c, layout));
  const unsigned tiles = decision.chosen.tiles, waves = decision.chosen.waves;
  bool zipped = layout == LinearLayout::Zipped, integer = integerDots(c.scheme), widens = widensCodes(c.scheme);
  unsigned partCount = c.parts.size(), sums = zipped ? tiles * partCount : tiles;
  std::vector<Access> access;
  for (const LinearArgument &argument : linearArguments(c, /*decode=*/true))
    access.push_back(argument.access(c.sequences));
  // Slots whose products meet in the epilogue, and how many of them have waves at a time.
  const bool combines = combinesExperts(c);
  const unsigned slots = combines ? static_cast<unsigned>(c.experts.slots) : 1;
  const unsigned together = combines ? slotsAtOnce(c, waves) : 1;
  KernelBuilder k(module, target, name, access, waves * together * target.waveSize);
  const auto tokens = static_cast<unsigned>(c.tokens); // of this workgroup
  Val token, firstRow;                                 // with experts: the results' row
  if (tokens > 1)
    firstRow = k.constant(0);
  if (c.experts) {
    token = k.workgroupY();
    firstRow = combines ? token : token * static_cast<int64_t>(c.experts.slots) + k.workgroupZ();
  }
  Epilogue epilogue(k, c, /*decode=*/true, /*width=*/1, firstRow);
  uint64_t steps = stepsOfK(c.scheme, c.columns);
  Codes codes(k, c.scheme, c.columns);
  // The expert of a slot, and where the operand's row and scale are.
  auto expertOf = [&](Val slot) {
    if (!c.experts)
      return Val();
    Val at = token * static_cast<int64_t>(paddedRow(c.experts.slots)) + slot;
    Val index = k.load(k.i32(), epilogue.argument(Kind::Experts), at * 4);
    // An index from elsewhere than llm.route may be anything.
    return k.uniform(k.minI(k.maxI(index, k.constant(0)), k.constant(static_cast<int64_t>(c.experts.count) - 1)));
  };
  const auto bytesOfRow = static_cast<int64_t>(paddedRow(c.columns) * (integer && !c.quantize ? 1 : 2));
  auto rowOfX = [&](Val slot, unsigned mine = 0) {
    Val x = epilogue.argument(Kind::X);
    if (!c.experts)
      return mine == 0 ? x : k.advance(x, k.constant64(mine * bytesOfRow));
    Val at = c.experts.ownRows ? token * static_cast<int64_t>(c.experts.slots) + slot : token;
    return k.advance(x, k.zext(at, k.i64()) * bytesOfRow);
  };
  Operand operand; // of every wave, where the kernel makes it
  auto scaleOfX = [&](Val slot, unsigned mine) {
    if (c.quantize)
      return operand.scaleOf(k, combines ? slot : k.constant(0));
    Val at = k.constant(mine);
    if (c.experts)
      at = c.experts.ownRows ? token * static_cast<int64_t>(paddedRow(c.experts.slots)) + slot : token;
    return k.load(k.f32(), epilogue.argument(Kind::XScales), at * 4);
  };
  Val ownSlot = c.experts && !combines ? k.workgroupZ() : k.constant(0);
  if (combines && c.quantize)
    operand = quantizeRows(k, c, rowOfX(k.constant(0)), waves * together);
  else if (c.norm || c.quantize)
    operand = prepareOperand(k, c, epilogue, rowOfX(ownSlot), waves);

  Val wave = k.wave(), lane = k.lane(), row = lane % 16;
  Val turn = together > 1 ? wave / static_cast<int64_t>(waves) : k.constant(0); // which of the slots at a time
  if (together > 1)
    wave = wave % static_cast<int64_t>(waves);
  auto placesOf = [&](Val slot) {
    Val shared = c.experts.shared ? slot == static_cast<int64_t>(c.experts.slots) - 1 : Val();
    return placeParts(k, c, layout, epilogue, k.workgroupX(), tiles, expertOf(slot), shared);
  };
  std::vector<PartPlaces> placesOfSlot; // where products are finished
  placesOfSlot.reserve(slots);
  for (unsigned slot = 0; slot < slots; ++slot)
    placesOfSlot.push_back(placesOf(combines ? k.constant(slot) : ownSlot));
  const PartPlaces &places = placesOfSlot.front();
  // Tiles of this workgroup, as byte offsets from the part's base: rows may lie beyond 4 GiB, so the base is a scalar
  // address and lanes add 32-bit offsets.
  struct Stream {
    Val weights, scales;
    Codes::Group wholeRow; // where a row has one scale
  };
  Val end = k.constant(steps); // of the loop over K: a row of padding has no experts
  if (c.experts && c.sequences)
    end = k.select(Sequences(k, true).real(token), end, k.constant(0));
  auto groupOf = [&](const Stream &stream, Val group) { return codes.group(stream.scales, group, row, 1, row); };
  // This wave's share of the sums of `slot`: those of a token, then those of the next.
  auto sumsOf = [&](const PartPlaces &at, Val slot) {
    std::vector<Stream> streams;
    streams.reserve(sums);
    for (unsigned i = 0; i < sums; ++i) {
      unsigned part = zipped ? i / tiles : 0;
      Val tile = k.zext(at.tile(k, zipped ? i % tiles : i), k.i64());
      Stream stream{k.advance(at.weights[part], tile * static_cast<int64_t>(steps * kTileBytes)), {}, {}};
      if (widens)
        stream.scales = k.advance(at.scales[part], tile * static_cast<int64_t>(codes.bandStride()));
      if (widens && c.scheme.getGroup() == 0)
        stream.wholeRow = groupOf(stream, k.constant(0));
      streams.push_back(stream);
    }
    std::vector<Val> x;
    x.reserve(tokens);
    for (unsigned mine = 0; mine < tokens; ++mine)
      x.push_back(operand.rows ? operand.rowOf(k, combines ? slot : k.constant(0)) : rowOfX(slot, mine));
    std::vector<Val> zeros(size_t{sums} * tokens, integer ? k.constant(0) : k.constantF(0));
    std::vector<Val> partial = k.forLoop(
        wave, end, k.constant(waves), zeros,
        [&](Val step, std::vector<Val> acc) {
          std::vector<Val> tile;
          tile.reserve(sums);
          for (const Stream &stream : streams)
            tile.push_back(k.load(k.vec(4, k.i32()), stream.weights, step * kTileBytes + lane * 16));
          std::vector<StepOfX> share;
          share.reserve(tokens);
          for (Val row : x)
            share.push_back(loadX(k, c.scheme, row, step));
          // Each half of the lanes has half the columns of a tile, which may be a group of their own.
          Val group;
          if (widens && c.scheme.getGroup() != 0)
            group = c.scheme.getGroup() < static_cast<int64_t>(columnsOfTile(c.scheme))
                        ? codes.groupOf(step * 2 + k.laneHalf(), columnsOfTile(c.scheme) / 2)
                        : codes.groupOf(step, columnsOfTile(c.scheme));
          for (unsigned i = 0; i < sums; ++i) {
            Codes::Group scales = group ? groupOf(streams[i], group) : streams[i].wholeRow;
            for (unsigned mine = 0; mine < tokens; ++mine) {
              Val &sum = acc[mine * sums + i];
              sum = accumulate(k, codes, c.scheme, tile[i], share[mine], scales, sum);
            }
          }
          return acc;
        },
        decision.chosen.unroll);
    for (Val &sum : partial)
      sum = sum + k.otherHalf(sum);
    return partial;
  };

  // Row `r` of tile `t`, of a token: its sum becomes a product and goes through the epilogue. `of(half, part, slot)` is
  // the sum; paired tiles, half a head apart, are finished together.
  unsigned halves = layout == LinearLayout::Paired ? 2 : 1, units = tiles / halves;
  using SumOf = std::function<Val(unsigned half, unsigned part, unsigned slot)>;
  auto finishPart = [&](unsigned part, const std::vector<Site> &sites, unsigned mine, const SumOf &of) {
    std::vector<Val> products;
    products.reserve(slots * halves);
    for (unsigned slot = 0; slot < slots; ++slot)
      for (unsigned half = 0; half < halves; ++half) {
        Val n = sites[half].n, y = of(half, zipped ? part : 0, slot);
        if (integer)
          y = k.toFloat(y) * k.load(k.f32(), placesOfSlot[slot].ownScales[part], n * 4) *
              scaleOfX(combines ? k.constant(slot) : ownSlot, mine);
        if (c.parts[part].bias)
          y = y + k.load(k.f32(), epilogue.argument(Kind::Bias, part), n * 4);
        products.push_back(y);
      }
    return products;
  };
  auto finish = [&](Val t, Val r, unsigned mine, const SumOf &of) {
    std::vector<Site> sites;
    sites.reserve(halves);
    for (unsigned half = 0; half < halves; ++half)
      sites.push_back({k.constant(mine), places.tile(k, t + half * units) * 16 + r, mine});
    if (zipped || partCount == 1) {
      std::vector<std::vector<Val>> products;
      products.reserve(partCount);
      for (unsigned part = 0; part < partCount; ++part)
        products.push_back(finishPart(part, sites, mine, of));
      epilogue.finish(sites, products);
      return;
    }
    for (unsigned part = 0; part < partCount; ++part)
      k.ifThen(places.mine[part], [&] {
        std::vector<std::vector<Val>> products(partCount);
        products[part] = finishPart(part, sites, mine, of);
        epilogue.finish(sites, products);
      });
  };
  if (waves == 1 && !combines) {
    std::vector<Val> partial = sumsOf(places, ownSlot);
    k.ifThen(lane < 16, [&] {
      for (unsigned mine = 0; mine < tokens; ++mine)
        for (unsigned t = 0; t < units; ++t)
          finish(k.constant(t), row, mine, [&](unsigned half, unsigned part, unsigned) {
            return partial[mine * sums + part * tiles + t + half * units];
          });
    });
  } else {
    unsigned rows = 16 * sums * tokens;
    Val block = k.lds(slots * waves * rows * 4, "partial");
    mlir::Type type = integer ? k.i32() : k.f32();
    for (unsigned first = 0; first < slots; first += together) {
      Val slot = combines ? k.uniform(turn + first) : ownSlot;
      std::vector<Val> partial = sumsOf(combines ? placesOf(slot) : places, slot);
      Val at = combines ? slot * static_cast<int64_t>(waves) + wave : wave;
      k.ifThen(lane < 16, [&] {
        for (unsigned i = 0; i < sums * tokens; ++i)
          k.store(partial[i], block, (at * rows + i * 16 + row) * 4);
      });
    }
    k.barrier();
    Val thread = k.thread();
    k.ifThen(thread < int64_t{16} * units, [&] {
      Val t = thread / 16, r = thread % 16;
      for (unsigned mine = 0; mine < tokens; ++mine)
        finish(t, r, mine, [&](unsigned half, unsigned part, unsigned slot) {
          Val at = ((t + mine * sums + part * tiles + half * units) * 16 + r) * 4 + slot * waves * rows * 4;
          Val total = k.load(type, block, at);
          for (unsigned w = 1; w < waves; ++w)
            total = total + k.load(type, block, at + w * rows * 4);
          return total;
        });
    });
  }
  k.finish();
  LaunchShape shape{.kernel = name.str(),
                    .x = workgroupsOf(c, layout, tiles),
                    .workgroupSize = waves * together * target.waveSize,
                    .bound = decision.narrow,
                    .decision = decision};
  if (c.experts)
    shape.tokensPerWorkgroup = 1;
  if (c.experts && !combines)
    shape.z = static_cast<unsigned>(c.experts.slots);
  if (combines && shape.bound.empty())
    shape.bound = "a workgroup adds up all experts of its rows";
  return shape;
}

} // namespace ingot
