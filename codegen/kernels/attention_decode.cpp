// Attention of one query a head, or of a few tokens', over a long cache, split over positions so that few KV heads
// still fill the chip: a unit takes every `units`-th block of 16 positions, and leaves a partial softmax that a second
// kernel combines. The fact it turns on: decode is bound by reading K and V, so each is loaded once for all query heads
// of its KV head, 16 bytes a lane, from a layout made for it. A unit is a wave where registers hold a block beside the
// queries of all these heads; where they do not, it is a workgroup, whose waves have some of the heads each and find
// the block in LDS. Cache positions not yet written hold finite values (`llm.state`: zero at first); their scores are
// masked and their probabilities are 0. Queries of several tokens have units of their own, split as each would be
// alone: they meet the cache's bytes on the chip.
#include "codegen/kernels/cache.h"
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/sequences.h"
#include "codegen/kernels/shared_block.h"

#include <algorithm>
#include <limits>
#include <numbers>

namespace ingot {

namespace {

constexpr unsigned kWaves = 4; // of a workgroup, where each is a unit
constexpr unsigned kMostUnits = 64;

// How the query heads of a KV head are dealt out.
struct HeadGroups {
  unsigned heads;      // of a wave
  unsigned sharing;    // waves that are one unit and share its blocks; 1: a wave is a unit
  unsigned workgroups; // that a unit of a KV head has, where one would have too many waves

  bool shared() const { return sharing > 1; }
  unsigned waves() const { return shared() ? sharing : kWaves; }
  unsigned unitsOfWorkgroup() const { return shared() ? 1 : kWaves; }
};

// Held in registers at once, per lane, of each head: q (headDim / 4) and the sums (headDim / 32). Beside them one block
// of K and V (headDim / 4 each), or, where it lies in LDS, a piece of it on its way there and one on its way back, of
// 32 registers each. Past about 208 the compiler would spill.
HeadGroups headGroups(const AttentionConfig &c) {
  constexpr unsigned kRegisters = 208, kMostHeads = 4, kMostSharing = 8, kPieces = 64;
  const auto d = static_cast<unsigned>(c.headDim), ratio = static_cast<unsigned>(c.heads / c.kvHeads);
  auto fit = [&](unsigned block) {
    return std::clamp((kRegisters - block) / (d / 4 + llvm::divideCeil(d, 32)), 1U, kMostHeads);
  };
  // A wave alone does not hold a block of the widest heads at all.
  if (ratio == 1 || (d <= 256 && fit(d / 2) >= ratio))
    return {ratio, 1, 1};
  // As few heads a wave as there can be: waves that wait hide one another's waiting.
  auto cut = [](unsigned whole, unsigned most) { return static_cast<unsigned>(llvm::divideCeil(whole, most)); };
  const unsigned workgroups = cut(ratio, kMostSharing * fit(kPieces)), ofWorkgroup = cut(ratio, workgroups),
                 heads = cut(ofWorkgroup, kMostSharing);
  return {heads, cut(ofWorkgroup, heads), workgroups};
}

// The blocks a query at `position` sees: the first, and one past the last. Each holds a visible position.
std::pair<Val, Val> visibleBlocks(KernelBuilder &kb, Val position, uint64_t window) {
  Val first = kb.constant(0);
  if (window > 0)
    first = kb.maxI(position - static_cast<int64_t>(window - 1), first) / 16;
  return {first, position / 16 + 1};
}

} // namespace

unsigned attentionUnits(const TargetInfo &target, const AttentionConfig &c) {
  // As wide as wanted, as far as the limit allows; whole workgroups. While one that shares a block works on it, it has
  // nothing on its way, so there are twice as many.
  const HeadGroups groups = headGroups(c);
  const uint64_t wanted = workgroupsWanted(target) * (groups.shared() ? 2 : 1), across = c.kvHeads * groups.workgroups,
                 each = groups.unitsOfWorkgroup();
  return static_cast<unsigned>(std::clamp<uint64_t>(llvm::divideCeil(wanted, across) * each, each, kMostUnits));
}

LaunchShape emitAttentionDecode(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                                const AttentionConfig &c) {
  const unsigned units = attentionUnits(target, c), tiles = static_cast<unsigned>(c.headDim / 16);
  const auto headDim = static_cast<int64_t>(c.headDim), ratio = static_cast<int64_t>(c.heads / c.kvHeads);
  const unsigned rows = (static_cast<unsigned>(headDim) + target.waveSize - 1) / target.waveSize;
  const HeadGroups groups = headGroups(c);
  const unsigned heads = groups.heads, waves = groups.waves();
  // Of a block in LDS, and of a head too wide for its block of K and V to lie in registers beside q, a part is loaded
  // at a time.
  const bool inParts = groups.shared() || headDim > 256;
  const unsigned tilesAtOnce = inParts ? 8 : tiles, rowsAtOnce = inParts ? 4 : rows;

  KernelBuilder kb(module, target, name, {Access::Read, Access::Read, Access::Read, Access::Read, Access::Write},
                   waves * target.waveSize);
  const Sequences sequences(kb, c.sequences);
  const unsigned across = units / groups.unitsOfWorkgroup();
  const bool few = c.tokens > 1; // then a token has a plane of the grid, and the units lie beside the groups
  Val token = kb.constant(0), group = kb.workgroupZ(), unit = kb.workgroupY(), q0 = kb.argument(1),
      partials = kb.argument(4);
  if (few) {
    token = kb.workgroupY();
    unit = group % static_cast<int64_t>(across);
    group = group / static_cast<int64_t>(across);
    q0 = kb.advance(q0, kb.zext(token, kb.i64()) * static_cast<int64_t>(paddedRow(c.heads * c.headDim) * 2));
    partials =
        kb.advance(partials, kb.zext(token, kb.i64()) * (static_cast<int64_t>(c.heads * units) * (headDim + 2) * 4));
  }
  Val step = sequences.step(token), position = sequences.position(token),
      kCache = cacheOf(sequences, kb.argument(2), token, c.ring),
      vCache = cacheOf(sequences, kb.argument(3), token, c.ring);
  auto [first, end] = visibleBlocks(kb, position, c.window);
  const CacheLayout layout{.kvHeads = c.kvHeads, .headDim = c.headDim, .ring = c.ring, .element = c.element};
  Val lane = kb.lane(), kvHead = kb.workgroupX();
  std::optional<SharedBlock> shared;
  if (groups.shared()) {
    group = group * groups.sharing + kb.wave();
    shared.emplace(kb, layout, waves);
  } else {
    unit = unit * kWaves + kb.wave();
  }
  Val begin = first + unit, works = begin < end;
  if (c.sequences)
    works = works & sequences.real(token);

  kb.ifThen(works, [&] {
    // A ragged last group serves its last head more than once, with the same result.
    std::vector<Val> head(heads);
    for (unsigned g = 0; g < heads; ++g)
      head[g] = kvHead * ratio + kb.minI(group * heads + g, kb.constant(ratio - 1));

    mlir::Type piece = kb.vec(4, kb.i32()), codePiece = kb.vec(2, kb.i32());
    std::vector<std::vector<Val>> q(heads);
    for (unsigned g = 0; g < heads; ++g)
      for (unsigned t = 0; t < tiles; ++t)
        q[g].push_back(kb.load(piece, q0, head[g] * (headDim * 2) + kb.laneHalf() * 16 + t * 32));

    // Carried: for each head the maximum, this lane's share of the sum of p, and its rows of the sum of p * v; and
    // where the block lies, which is looked up a round ahead.
    std::vector<Val> state;
    for (unsigned g = 0; g < heads; ++g) {
      state.push_back(kb.constantF(-std::numeric_limits<double>::infinity()));
      for (unsigned i = 0; i < 1 + rows; ++i)
        state.push_back(kb.constantF(0));
    }

    auto placeOf = [&](Val block) { return kb.uniform(cacheBlock(kb, step, block, c.ring)); };
    state.push_back(placeOf(begin));

    state = kb.forLoop(begin, end, kb.constant(units), state, [&](Val block, std::vector<Val> s) {
      Val bytes = layout.block(kb, s.back()), ahead = placeOf(kb.minI(block + units, end - 1));
      bytes = bytes + kb.zext(kvHead * layout.headBytes(), kb.i64());
      Val k = kb.advance(kCache, bytes), v = kb.advance(vCache, bytes);
      if (shared) {
        shared->copy(k, v);
        k = shared->keys;
        v = shared->values;
      }
      std::vector<Val> keys(tiles), values(2 * rows); // of codes, a row's 16 values in the first of its two
      auto loadKey = [&](unsigned t) {
        keys[t] = kb.load(layout.codes() ? codePiece : piece, k, lane * layout.pieceBytes() + t * layout.tileBytes());
      };
      // What the dots of keys meet; of codes only after all that is loaded at once is on its way.
      auto widenKey = [&](unsigned t) {
        if (layout.codes())
          keys[t] = codesAsBf16(kb, c.element, keys[t]);
      };
      auto loadValues = [&](unsigned i) {
        Val d = lane + i * target.waveSize;
        if (headDim % target.waveSize != 0 && i + 1 == rows)
          d = kb.minI(d, kb.constant(headDim - 1));
        if (layout.codes()) {
          values[2 * i] = kb.load(piece, v, d * 16);
          return;
        }
        mlir::Type eight = kb.vec(8, kb.bf16());
        values[2 * i] = kb.load(eight, v, d * 32);
        values[2 * i + 1] = kb.load(eight, v, d * 32 + 16);
      };
      // The values of positions n ... n + 3 in row i.
      auto valuesAt = [&](unsigned i, unsigned n) {
        if (layout.codes())
          return codesAsFloat(kb, c.element, kb.element(values[2 * i], n / 4));
        return kb.extend(kb.slice(values[2 * i + n / 8], n % 8, 4));
      };
      for (unsigned t = 0; !inParts && t < tiles; ++t)
        loadKey(t);
      for (unsigned i = 0; !inParts && i < rows; ++i)
        loadValues(i);
      Val keyScale, valueScale;
      if (layout.codes()) {
        Val scale = lane % 16 * 4 + layout.scales();
        keyScale = kb.load(kb.f32(), k, scale);
        valueScale = kb.load(kb.f32(), v, scale);
      }
      for (unsigned t = 0; !inParts && t < tiles; ++t)
        widenKey(t);
      Val place = block * 16 + lane % 16;
      Val visible = place <= position;
      if (c.window > 0)
        visible = visible & (place > position - static_cast<int64_t>(c.window));
      if (c.first > 0)
        visible = visible & (place >= kb.minI(position, kb.constant(static_cast<int64_t>(c.first))));

      std::vector<Val> dots(heads, kb.constantF(0));
      for (unsigned t = 0; t < tiles; ++t) {
        if (inParts && t % tilesAtOnce == 0)
          kb.scheduleFence();
        if (inParts) {
          loadKey(t);
          widenKey(t);
        }
        for (unsigned g = 0; g < heads; ++g)
          for (unsigned i = 0; i < 4; ++i)
            dots[g] = kb.dot2(kb.element(keys[t], i), kb.element(q[g][t], i), dots[g]);
      }
      std::vector<Val> next, weights; // a probability, times the scale of its value, a position and head
      for (unsigned g = 0; g < heads; ++g) {
        Val *old = &s[g * (2 + rows)];
        Val score = (dots[g] + kb.otherHalf(dots[g])) * kb.constantF(c.scale * std::numbers::log2e);
        if (layout.codes())
          score = score * keyScale;
        score = kb.select(visible, score, kb.constantF(-std::numeric_limits<double>::infinity()));
        Val maximum = kb.maxF(old[0], kb.reduceHalf(score, KernelBuilder::Combine::MaxF));
        Val rescale = kb.exp2(old[0] - maximum), p = kb.exp2(score - maximum);
        next.push_back(maximum);
        next.push_back(kb.fma(old[1], rescale, p));
        for (unsigned i = 0; i < rows; ++i)
          next.push_back(old[2 + i] * rescale);
        weights.push_back(layout.codes() ? p * valueScale : p);
      }
      // A value becomes a number once, for all heads.
      for (unsigned begin = 0; begin < rows; begin += rowsAtOnce) {
        const unsigned end = std::min(begin + rowsAtOnce, rows);
        if (inParts)
          kb.scheduleFence();
        for (unsigned i = begin; inParts && i < end; ++i)
          loadValues(i);
        for (unsigned n = 0; n < 16; n += 4) {
          if (layout.codes())
            kb.scheduleFence();
          std::vector<Val> mine; // of position n + e and head g
          for (unsigned e = 0; e < 4; ++e)
            for (unsigned g = 0; g < heads; ++g)
              mine.push_back(kb.readLane(weights[g], n + e));
          for (unsigned i = begin; i < end; ++i) {
            Val four = valuesAt(i, n);
            for (unsigned e = 0; e < 4; ++e)
              for (unsigned g = 0; g < heads; ++g) {
                Val &sum = next[g * (2 + rows) + 2 + i];
                sum = kb.fma(kb.element(four, e), mine[e * heads + g], sum);
              }
          }
        }
      }
      next.push_back(ahead);
      return next;
    });

    for (unsigned g = 0; g < heads; ++g) {
      const Val *s = &state[g * (2 + rows)];
      Val partial = (head[g] * units + unit) * ((headDim + 2) * 4);
      for (unsigned i = 0; i < rows; ++i) {
        Val d = lane + i * target.waveSize;
        if (headDim % target.waveSize != 0 && i + 1 == rows)
          kb.ifThen(d < headDim, [&] { kb.store(s[2 + i], partials, partial + d * 4); });
        else
          kb.store(s[2 + i], partials, partial + d * 4);
      }
      Val sum = kb.reduceHalf(s[1], KernelBuilder::Combine::SumF);
      kb.ifThen(lane == 0, [&] { kb.store(kb.build({s[0], sum}), partials, partial + headDim * 4); });
    }
  });
  kb.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(c.kvHeads),
          .y = few ? 1 : across,
          .tokensPerWorkgroup = few ? 1U : 0U,
          .z = groups.workgroups * (few ? across : 1),
          .workgroupSize = waves * target.waveSize,
          .bound = "positions are split " + std::to_string(kMostUnits) + " ways at most, which a second kernel reads"};
}

LaunchShape emitAttentionCombine(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                                 const AttentionConfig &c) {
  const auto units = static_cast<unsigned>(c.split > 0 ? c.split : attentionUnits(target, c));
  const auto headDim = static_cast<int64_t>(c.headDim), entry = (headDim + 2) * 4;
  const auto width = static_cast<int64_t>(c.heads * c.headDim),
             padding = static_cast<int64_t>(paddedRow(width)) - width;
  const unsigned lanes = (static_cast<unsigned>(headDim) + target.waveSize - 1) / target.waveSize * target.waveSize;

  KernelBuilder kb(module, target, name, {Access::Read, Access::Read, Access::Write}, lanes);
  const Sequences sequences(kb, c.sequences);
  Val head = kb.workgroupX(), zero = kb.constant(0), one = kb.constant(1);
  // The first `filled` units of a token are its own.
  auto combine = [&](Val token, Val filled) {
    Val out = kb.advance(kb.argument(2), kb.zext(token, kb.i64()) * ((width + padding) * 2));
    Val partials =
        kb.advance(kb.argument(1), kb.zext(token * static_cast<int64_t>(c.heads) + head, kb.i64()) * (units * entry));
    Val maximum = kb.forLoop(zero, filled, one, {kb.constantF(-std::numeric_limits<double>::infinity())},
                             [&](Val u, std::vector<Val> s) -> std::vector<Val> {
                               return {kb.maxF(s[0], kb.load(kb.f32(), partials, u * entry + headDim * 4))};
                             })[0];
    kb.ifThen(kb.thread() < headDim, [&] {
      auto sums = kb.forLoop(zero, filled, one, {kb.constantF(0), kb.constantF(0)},
                             [&](Val u, std::vector<Val> s) -> std::vector<Val> {
                               Val at = u * entry;
                               Val weight = kb.exp2(kb.load(kb.f32(), partials, at + headDim * 4) - maximum);
                               return {kb.fma(kb.load(kb.f32(), partials, at + kb.thread() * 4), weight, s[0]),
                                       kb.fma(kb.load(kb.f32(), partials, at + (headDim * 4 + 4)), weight, s[1])};
                             });
      kb.store(kb.round(sums[0] / sums[1], kb.bf16()), out, (head * headDim + kb.thread()) * 2);
    });
    if (padding > 0)
      kb.ifThen((head == static_cast<int64_t>(c.heads - 1)) & (kb.thread() < padding / 2),
                [&] { kb.store(kb.constant(0), out, kb.thread() * 4 + width * 2); });
  };
  LaunchShape shape{.kernel = name.str(),
                    .x = static_cast<unsigned>(c.heads),
                    .workgroupSize = lanes,
                    .bound = "one workgroup a head"};
  if (c.split > 0) {
    // A plane of the grid takes every so many tokens, of one chunk of them.
    constexpr unsigned kPlanes = 16;
    Val tokens = kb.stepTokens(kb.argument(0));
    kb.ifThen(isSplit(kb, kb.stepPosition(kb.argument(0)), tokens), [&] {
      kb.forLoop(kb.workgroupZ(), tokens, kb.constant(kPlanes), {}, [&](Val token, const std::vector<Val> &) {
        combine(token, kb.constant(units));
        return std::vector<Val>{};
      });
    });
    shape.z = kPlanes;
  } else {
    Val token = kb.workgroupY();
    auto [first, end] = visibleBlocks(kb, sequences.position(token), c.window);
    sequences.unlessPadding(token, [&] { combine(token, kb.minI(end - first, kb.constant(units))); });
    shape.tokensPerWorkgroup = 1;
  }
  kb.finish();
  return shape;
}

} // namespace ingot
