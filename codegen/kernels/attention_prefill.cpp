// Attention of a chunk of queries on the matrix instructions: a wave holds 16 queries of one KV head, each a token and
// one of its query heads, and walks the blocks of 16 positions once with an online softmax. The facts it turns on: the
// product K * Q^T leaves each lane eight scores of one query, in the very order in which V^T * P^T wants them as its
// operand, so scores never leave registers and the softmax needs one exchange between the halves of a wave; and the
// waves of a workgroup want the same keys and values, of a few tokens too. Heads that leave registers for many loads at
// a time read them from memory, where nearby caches serve all but the first wave; a workgroup of wider heads has the
// block in LDS. Cache positions not yet written hold finite values (`llm.state`).
#include "codegen/kernels/cache.h"
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/shared_block.h"
#include "codegen/kernels/split.h"

#include <limits>
#include <numbers>
#include <numeric>

namespace ingot {

namespace {

constexpr unsigned kQueries = 16; // of a wave

// Whose queries a workgroup has: those of so many tokens and query heads of a KV head, which `workgroups` serve.
struct Queries {
  unsigned tokens, heads, workgroups, waves;
};

// So many waves or more, whose queries are whole tokens'. Where eight would not be enough for that, lanes are left
// over.
Queries queriesOfWorkgroup(const AttentionConfig &c, unsigned fewest) {
  constexpr unsigned kMost = 8;
  const auto ratio = static_cast<unsigned>(c.heads / c.kvHeads);
  unsigned tokens = kQueries / std::gcd(ratio, kQueries);
  while (tokens * ratio < fewest * kQueries)
    tokens *= 2;
  if (tokens * ratio <= kMost * kQueries)
    return {tokens, ratio, 1, tokens * ratio / kQueries};
  const auto workgroups = static_cast<unsigned>(llvm::divideCeil(ratio, kMost * kQueries)),
             heads = static_cast<unsigned>(llvm::divideCeil(ratio, workgroups));
  return {kMost * kQueries / heads, heads, workgroups, kMost};
}

// Probabilities as two bf16 (split.h), in the operand order of the value product, which so keeps fp32-like
// probabilities at the price of a second matrix instruction.
SplitBf16 split(KernelBuilder &kb, Val p) {
  SplitBf16 parts = splitBf16(kb, p);
  return {kb.fragmentOfResult(parts.high), kb.fragmentOfResult(parts.low)};
}

} // namespace

uint64_t attentionSplit(const TargetInfo &target, const AttentionConfig &c) {
  // A chunk of 16 tokens has a wave for each head.
  constexpr uint64_t kWaves = 4; // for each workgroup of a decode kernel
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
  // Queries that do not fit in registers are read again for each block of positions. With more than half of them held
  // throughout, loads for a few tiles at a time are all that fit; codes take some thirty more as they become bf16.
  const unsigned fragment = target.matrix == MatrixLayout::Replicated ? 8 : 4,
                 held = tiles * (fragment + 8) + (layout.codes() ? 32 : 0), tilesInFlight = layout.codes() ? 1 : 2;
  const bool queriesHeld = held <= 160, crowded = held >= 144;
  const Queries queries = queriesOfWorkgroup(c, crowded ? 5 : 3);
  // The sums of the output live in registers throughout. Of the widest heads a wave has some of the dims only, and
  // those that have the others compute the scores anew.
  constexpr unsigned kOutput = 128;
  const auto parts = static_cast<unsigned>(llvm::divideCeil(tiles * 8, kOutput)),
             tilesOfPart = static_cast<unsigned>(llvm::divideCeil(tiles, parts)), waves = queries.waves * parts;
  KernelBuilder kb(module, target, name, access, waves * target.waveSize);
  Val position = kb.stepPosition(kb.argument(0)), tokens = kb.stepTokens(kb.argument(0));
  // Of this workgroup, by tokens and then heads: where this wave's begin, and this lane's, which may be nobody's.
  Val kvHead = kb.workgroupX() / static_cast<int64_t>(queries.workgroups),
      share = kb.workgroupX() % static_cast<int64_t>(queries.workgroups);
  Val firstToken = kb.workgroupY() * queries.tokens, wave = kb.wave() % static_cast<int64_t>(queries.waves) * kQueries,
      mine = wave + kb.matrixColumn();
  Val lastToken = kb.minI(firstToken + (queries.tokens - 1), tokens - 1);
  Val token = firstToken + mine / static_cast<int64_t>(queries.heads),
      head = share * queries.heads + mine % static_cast<int64_t>(queries.heads);
  Val real = (token <= lastToken) & (head < ratio);
  Val query = kb.minI(token, lastToken);
  head = kvHead * ratio + kb.minI(head, kb.constant(ratio - 1));
  // Units take blocks in turn; of a chunk that is not split one takes them all.
  const auto units = static_cast<int64_t>(std::max<uint64_t>(c.split, 1));
  Val unit = kb.constant(0), working = kb.constant(1), splits;
  if (c.split > 0) {
    unit = kb.workgroupZ();
    splits = isSplit(kb, position, tokens);
    working = kb.select(splits, kb.constant(units), working);
  }

  std::optional<SharedBlock> shared;
  if (crowded)
    shared.emplace(kb, layout, waves);

  // Waves that share a block walk together, also those that nobody's queries are left for.
  auto tokenOf = [&](Val place) {
    return kb.minI(firstToken + place / static_cast<int64_t>(queries.heads), lastToken);
  };
  Val first = shared ? firstToken : firstToken + wave / static_cast<int64_t>(queries.heads),
      last = shared ? lastToken : tokenOf(wave + (kQueries - 1));
  Val works = first <= lastToken;
  if (c.split > 0)
    works = works & (unit < working);
  kb.ifThen(works, [&] {
    Val firstTile = kb.constant(0);
    if (parts > 1)
      firstTile =
          kb.minI(kb.wave() / static_cast<int64_t>(queries.waves) * tilesOfPart, kb.constant(tiles - tilesOfPart));
    Val firstOfQuery = query * (stride * 2) + head * (headDim * 2);
    std::vector<Val> q;
    for (unsigned t = 0; queriesHeld && t < tiles; ++t)
      q.push_back(kb.loadFragment(kb.argument(1), firstOfQuery + t * 32));

    Val queryPosition = position + query;
    Val begin = kb.constant(0), end = (position + last) / 16 + 1;
    if (c.window > 0)
      begin = kb.maxI(position + first - static_cast<int64_t>(c.window - 1), begin) / 16;
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
      bytes = bytes + kb.zext(kvHead * layout.headBytes(), kb.i64());
      Val k = kb.advance(kb.argument(2), bytes), v = kb.advance(kb.argument(3), bytes);
      if (shared) {
        shared->copy(k, v);
        k = shared->keys;
        v = shared->values;
      }
      auto widened = [&](Val fragment) { return layout.codes() ? codesAsBf16(kb, c.element, fragment) : fragment; };
      // Of this lane's eight positions.
      auto scalesOf = [&](Val half) {
        return kb.load(kb.vec(8, kb.f32()), half, kb.laneHalf() * 32 + layout.scales(), 16);
      };
      Val scores = kb.zero(kb.vec(8, kb.f32()));
      // Pinned, so that the loads stay in the loop.
      Val again = queriesHeld ? firstOfQuery : kb.pin(firstOfQuery);
      for (unsigned t = 0; t < tiles; ++t) {
        if (crowded && t % tilesInFlight == 0)
          kb.scheduleFence();
        Val fragmentOfQ = queriesHeld ? q[t] : kb.loadFragment(kb.argument(1), again + t * 32);
        Val keys = widened(kb.loadTileFragment(k, kb.constant(t * layout.tileBytes()), matrixRow, bytesOfK));
        scores = kb.matrixBf16(keys, fragmentOfQ, scores);
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
        Val values = widened(kb.loadFragment(v, (firstTile + t) * layout.tileBytes() + matrixRow * bytesOfK, bytesOfK));
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
      kb.ifThen(real, finish);
      return;
    }
    // Every part of a head has its maximum and sum, bit for bit the same.
    kb.ifThen(real & splits, [&] {
      Val entry = ((query * static_cast<int64_t>(c.heads) + head) * units + unit) * ((headDim + 2) * 4);
      for (unsigned t = 0; t < tilesOfPart; ++t)
        kb.store(state[2 + t], kb.argument(5), entry + kb.laneHalf() * 32 + (firstTile + t) * 64, 8);
      kb.store(state[0], kb.argument(5), entry + headDim * 4);
      kb.store(sum, kb.argument(5), entry + (headDim + 1) * 4);
    });
    kb.ifThen(real & (working == 1), finish);
  });
  kb.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(c.kvHeads) * queries.workgroups,
          .tokensPerWorkgroup = queries.tokens,
          .z = static_cast<unsigned>(units),
          .workgroupSize = waves * target.waveSize,
          .bound = std::to_string(queries.tokens * queries.heads) + " queries of one KV head a workgroup"};
}

} // namespace ingot
