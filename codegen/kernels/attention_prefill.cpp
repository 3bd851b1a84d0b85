// Attention of a chunk of queries on the matrix instructions, without LDS: a wave holds 16 queries of one head and
// walks the blocks of 16 positions once with an online softmax. The fact it turns on: the product K * Q^T leaves each
// lane eight scores of one query, in the very order in which V^T * P^T wants them as its operand, so scores never leave
// registers and the softmax needs one exchange between the halves of a wave. Cache positions not yet written hold
// finite values (`llm.state`).
#include "codegen/kernels/cache.h"
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/split.h"

#include <limits>
#include <numbers>

namespace ingot {

namespace {

constexpr unsigned kWaves = 4;    // of a workgroup
constexpr unsigned kQueries = 16; // of a wave

// Probabilities as two bf16 (split.h), in the operand order of the value product, which so keeps fp32-like
// probabilities at the price of a second matrix instruction.
SplitBf16 split(KernelBuilder &kb, Val p) {
  SplitBf16 parts = splitBf16(kb, p);
  return {kb.fragmentOfResult(parts.high), kb.fragmentOfResult(parts.low)};
}

} // namespace

uint64_t attentionSplit(const TargetInfo &target, const AttentionConfig &c) {
  // Of a chunk of 16 tokens a workgroup has one wave that works.
  const uint64_t wanted = workgroupsWanted(target) * kWaves;
  return std::clamp<uint64_t>((wanted + c.heads - 1) / c.heads, 2, kSplitBlocks);
}

LaunchShape emitAttentionPrefill(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                                 const AttentionConfig &c) {
  const auto tiles = static_cast<unsigned>(c.headDim / 16);
  const auto headDim = static_cast<int64_t>(c.headDim), ratio = static_cast<int64_t>(c.heads / c.kvHeads);
  const auto width = static_cast<int64_t>(c.heads * c.headDim), stride = static_cast<int64_t>(paddedRow(width));
  const CacheLayout layout{.kvHeads = c.kvHeads, .headDim = c.headDim, .ring = c.ring, .element = c.element};
  // A fragment of keys or values: codes become bf16, exactly, and their scales wait for the product.
  const unsigned bytesOfK = layout.codes() ? 16 : 32;

  std::vector<Access> access{Access::Read, Access::Read, Access::Read, Access::Read, Access::Write};
  if (c.split > 0)
    access.push_back(Access::Write);
  KernelBuilder kb(module, target, name, access, kWaves * target.waveSize);
  Val position = kb.stepPosition(kb.argument(0)), tokens = kb.stepTokens(kb.argument(0));
  Val head = kb.workgroupX(), kvHead = kb.workgroupX() / ratio;
  Val firstQuery = (kb.workgroupY() * kWaves + kb.wave()) * kQueries;
  Val query = firstQuery + kb.matrixColumn();
  // Units take blocks in turn; of a chunk that is not split one takes them all.
  const auto units = static_cast<int64_t>(std::max<uint64_t>(c.split, 1));
  Val part = kb.workgroupZ(), unit = kb.constant(0), working = kb.constant(1), splits;
  if (c.split > 0) {
    unit = part % units;
    part = part / units;
    splits = isSplit(kb, position, tokens);
    working = kb.select(splits, kb.constant(units), working);
  }

  // The fragments of q and the sums of the output live in registers throughout. Where both do not fit, the grid's z
  // cuts the output's dims, and each part computes the scores anew.
  unsigned fragment = 0;
  {
    Val probe = kb.loadFragment(kb.argument(1), kb.constant(0));
    fragment = kb.lanes(probe);
    probe.value().getDefiningOp()->erase();
  }
  constexpr unsigned kRegisters = 160;
  // A head whose fragments alone would take most of them reads them again for each block of positions. Codes take some
  // thirty registers as they become bf16.
  const bool queriesHeld = tiles * fragment <= (layout.codes() ? kRegisters * 3 / 5 : kRegisters * 4 / 5);
  const unsigned held = queriesHeld ? tiles * fragment : 0;
  unsigned parts = 1, tilesOfPart = tiles;
  // Such a head also has more addresses than immediate offsets reach, which take registers of their own.
  const unsigned room = queriesHeld ? kRegisters : layout.codes() ? kRegisters * 3 / 8 : kRegisters / 2;
  while (held + tilesOfPart * 8 > room && tilesOfPart > 1) {
    parts *= 2;
    tilesOfPart = (tiles + parts - 1) / parts;
  }
  // With more than half the registers held throughout, loads for a few tiles at a time are all that fit.
  const unsigned tilesInFlight = layout.codes() ? 1 : 2;
  const bool crowded = !queriesHeld || held + tilesOfPart * 8 >= 144;

  Val works = firstQuery < tokens;
  if (c.split > 0)
    works = works & (unit < working);
  kb.ifThen(works, [&] {
    Val firstTile = kb.constant(0);
    if (parts > 1)
      firstTile = kb.minI(part * tilesOfPart, kb.constant(tiles - tilesOfPart));
    Val firstOfQuery = query * (stride * 2) + head * (headDim * 2);
    std::vector<Val> q;
    for (unsigned t = 0; queriesHeld && t < tiles; ++t)
      q.push_back(kb.loadFragment(kb.argument(1), firstOfQuery + t * 32));

    Val queryPosition = position + query;
    Val lastPosition = position + kb.minI(firstQuery + (kQueries - 1), tokens - 1);
    Val begin = kb.constant(0), end = lastPosition / 16 + 1;
    if (c.window > 0)
      begin = kb.maxI(position + firstQuery - static_cast<int64_t>(c.window - 1), begin) / 16;
    Val matrixRow = kb.matrixRow();

    // Carried: the maximum, this lane's share of the sum of p, the sums of p * v; and where the block lies, which is
    // looked up a round ahead. The first maximum is finite, so that a block in which a query sees nothing (it lies
    // before the query's window) leaves everything as it was.
    std::vector<Val> state = {kb.constantF(-1e30), kb.constantF(0)};
    for (unsigned t = 0; t < tilesOfPart; ++t)
      state.push_back(kb.zero(kb.vec(8, kb.f32())));

    auto placeOf = [&](Val block) { return kb.uniform(cacheBlock(kb, kb.argument(0), block, c.ring)); };
    begin = begin + unit;
    state.push_back(placeOf(begin));

    state = kb.forLoop(begin, end, working, state, [&](Val block, std::vector<Val> s) {
      Val bytes = layout.block(kb, s.back()), ahead = placeOf(kb.minI(block + working, end - 1));
      Val k = kb.advance(kb.argument(2), bytes), v = kb.advance(kb.argument(3), bytes);
      Val headStart = kvHead * layout.headBytes();
      auto widened = [&](Val fragment) { return layout.codes() ? codesAsBf16(kb, c.element, fragment) : fragment; };
      // Of this lane's eight positions.
      auto scalesOf = [&](Val half) {
        return kb.load(kb.vec(8, kb.f32()), half, headStart + kb.laneHalf() * 32 + layout.scales(), 16);
      };
      Val scores = kb.zero(kb.vec(8, kb.f32()));
      // Pinned, so that the loads stay in the loop.
      Val again = queriesHeld ? firstOfQuery : kb.pin(firstOfQuery);
      for (unsigned t = 0; t < tiles; ++t) {
        if (crowded && t % tilesInFlight == 0)
          kb.scheduleFence();
        Val queries = queriesHeld ? q[t] : kb.loadFragment(kb.argument(1), again + t * 32);
        Val keys = widened(kb.loadTileFragment(k, headStart + t * layout.tileBytes(), matrixRow, bytesOfK));
        scores = kb.matrixBf16(keys, queries, scores);
      }

      if (layout.codes())
        scores = scores * scalesOf(k);

      // Element e is the score of position 16 block + 8 half + e.
      Val distance = queryPosition - (block * 16 + kb.laneHalf() * 8);
      Val scale = kb.constantF(c.scale * std::numbers::log2e),
          masked = kb.constantF(-std::numeric_limits<double>::infinity());
      std::vector<Val> visible;
      for (unsigned e = 0; e < 8; ++e) {
        Val seen = distance >= e;
        if (c.window > 0)
          seen = seen & (distance < static_cast<int64_t>(c.window) + e);
        if (c.first > 0) // its position is queryPosition - distance + e
          seen = seen &
                 (queryPosition - distance + e >= kb.minI(queryPosition, kb.constant(static_cast<int64_t>(c.first))));
        visible.push_back(kb.select(seen, kb.element(scores, e) * scale, masked));
      }
      scores = kb.build(visible);
      Val maximum = kb.maxElements(scores);
      maximum = kb.maxF(s[0], kb.maxF(maximum, kb.otherHalf(maximum)));
      Val rescale = kb.exp2(s[0] - maximum), p = kb.exp2(scores - maximum);
      std::vector<Val> next = {maximum, kb.fma(s[1], rescale, kb.sumElements(p))};
      auto [high, low] = split(kb, layout.codes() ? p * scalesOf(v) : p);
      for (unsigned t = 0; t < tilesOfPart; ++t) {
        if (crowded && t % tilesInFlight == 0)
          kb.scheduleFence();
        Val values = widened(
            kb.loadFragment(v, headStart + (firstTile + t) * layout.tileBytes() + matrixRow * bytesOfK, bytesOfK));
        next.push_back(kb.matrixBf16(values, low, kb.matrixBf16(values, high, s[2 + t] * rescale)));
      }
      next.push_back(ahead);
      return next;
    });

    Val sum = state[1] + kb.otherHalf(state[1]);
    auto finish = [&] {
      Val inverse = kb.constantF(1) / sum;
      Val row = query * (stride * 2) + kb.laneHalf() * 16;
      for (unsigned t = 0; t < tilesOfPart; ++t)
        kb.store(kb.round(state[2 + t] * inverse, kb.bf16()), kb.argument(4),
                 row + head * (headDim * 2) + (firstTile + t) * 32);
      if (stride > width)
        kb.ifThen(head == static_cast<int64_t>(c.heads - 1), [&] {
          for (int64_t column = width; column < stride; column += 16)
            kb.store(kb.zero(kb.vec(4, kb.i32())), kb.argument(4), row + column * 2);
        });
    };
    if (c.split == 0) {
      finish();
      return;
    }
    // Every part of a head has its maximum and sum, bit for bit the same.
    kb.ifThen(splits, [&] {
      Val entry = ((query * static_cast<int64_t>(c.heads) + head) * units + unit) * ((headDim + 2) * 4);
      for (unsigned t = 0; t < tilesOfPart; ++t)
        kb.store(state[2 + t], kb.argument(5), entry + kb.laneHalf() * 32 + (firstTile + t) * 64, 8);
      kb.store(state[0], kb.argument(5), entry + headDim * 4);
      kb.store(sum, kb.argument(5), entry + (headDim + 1) * 4);
    });
    kb.ifThen(working == 1, finish);
  });
  kb.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(c.heads),
          .tokensPerWorkgroup = kWaves * kQueries,
          .z = parts * static_cast<unsigned>(units),
          .workgroupSize = kWaves * target.waveSize,
          .bound = "64 queries of one head a workgroup"};
}

} // namespace ingot
