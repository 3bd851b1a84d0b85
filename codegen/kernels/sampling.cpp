// Choosing the next token on the device: argmax in two stages, sampling in one workgroup, and the advance of the step.
// The fact that sampling turns on: top-k and top-p need no sort, only the one logit at which the kept set ends. It is
// found digit by digit on the logits' bits, read as ordered integers, by counting (top-k) or weighing (top-p) what lies
// above. Every sum is taken in a fixed order, so a seed gives the same token on every run.
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/sequences.h"

#include <array>
#include <cstddef>
#include <limits>
#include <numbers>
#include <utility>

#include "runtime/artifact/step.h"

namespace ingot {

namespace {

using Combine = KernelBuilder::Combine;

// A value and its index.
struct Best {
  Val value, index;
};

// The larger value; of equal ones the lower index. A NaN on the right never wins.
Best better(KernelBuilder &kb, Best a, Best b) {
  Val wins = (b.value > a.value) | ((b.value == a.value) & (b.index < a.index));
  return {kb.select(wins, b.value, a.value), kb.select(wins, b.index, a.index)};
}

Best nothing(KernelBuilder &kb) {
  return {kb.constantF(-std::numeric_limits<double>::infinity()), kb.constant(kNoIndex)};
}

// The best of all lanes, in every lane.
Best bestOfWorkgroup(KernelBuilder &kb, Best mine, unsigned waves, Val scratch) {
  Val value = kb.reduceWorkgroup(mine.value, Combine::MaxF, waves, scratch);
  Val index = kb.reduceWorkgroup(kb.select(mine.value == value, mine.index, kb.constant(kNoIndex)), Combine::MinI,
                                 waves, scratch);
  return {value, index};
}

// Nothing but NaN: some token there must be.
Val tokenOf(KernelBuilder &kb, Best best) { return kb.select(best.index == kNoIndex, kb.constant(0), best.index); }

// What `llm.advance` does, by one lane.
void advance(KernelBuilder &kb, Val step, Val token, Val tokens, Val output) {
  Val generated = kb.load(kb.i32(), step, kb.constant(offsetof(Step, generated)));
  Val capacity = kb.load(kb.i32(), step, kb.constant(offsetof(Step, capacity)));
  Val position = kb.stepPosition(step) + kb.stepTokens(step);
  kb.store(token, tokens, kb.constant(0));
  kb.ifThen(generated < capacity, [&] { kb.store(token, output, generated * 4); });
  kb.store(position, step, kb.constant(offsetof(Step, position)));
  kb.store(kb.constant(1), step, kb.constant(offsetof(Step, tokens)));
  kb.store(generated + 1, step, kb.constant(offsetof(Step, generated)));
}

// The words of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) for the counter
// (counter, 0, 0, 0): the first of them.
Val philox(KernelBuilder &kb, Val counter, Val key0, Val key1) {
  constexpr int64_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57, kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  std::array<Val, 4> x = {counter, kb.constant(0), kb.constant(0), kb.constant(0)};
  auto product = [&](Val a, int64_t b) {
    Val wide = kb.zext(a, kb.i64()) * kb.constant64(b);
    return std::pair{kb.trunc(wide >> 32, kb.i32()), kb.trunc(wide, kb.i32())};
  };
  for (unsigned round = 0; round < 10; ++round) {
    auto [high0, low0] = product(x[0], kMultiply0);
    auto [high1, low1] = product(x[2], kMultiply1);
    x = {high1 ^ x[1] ^ key0, low1, high0 ^ x[3] ^ key1, low0};
    key0 = key0 + kWeyl0;
    key1 = key1 + kWeyl1;
  }
  return x[0];
}

// One sampling kernel while it is written.
class Sampler {
public:
  static constexpr unsigned kLanes = 1024;

  // `several`: rows are of several sequences.
  Sampler(KernelBuilder &builder, uint64_t vocabulary, bool areSeveral)
      : kb(builder), several(areSeveral), size(static_cast<int64_t>(vocabulary)),
        waves(kLanes / builder.target().waveSize), row(builder.workgroupY()),
        logits(builder.advance(builder.argument(2),
                               builder.zext(row, builder.i64()) * static_cast<int64_t>(paddedRow(vocabulary) * 4))),
        scratch(builder.lds(3 * 4 * waves, "sums")), scanned(builder.lds(2 * 4 * kLanes, "scan")) {}

  void emit() {
    const Sequences sequences(kb, several);
    Val step = sequences.step(row);
    kb.ifThen(kb.load(kb.i32(), step, kb.constant(offsetof(Step, masked))) != 0,
              [&] { exclude(sequences.own(kb.argument(1), row)); });
    Val temperature = kb.load(kb.f32(), step, kb.constant(offsetof(Step, temperature)));
    // A temperature near 0 must not make 0 * infinity of the largest logit.
    const Val samples = temperature > kb.constantF(0);
    slope = kb.select(
        samples,
        kb.minF(kb.constantF(std::numbers::log2e) / temperature, kb.constantF(std::numeric_limits<float>::max())),
        kb.constantF(0));

    largest = sweep({kb.constantF(-std::numeric_limits<float>::max())}, {Combine::MaxF},
                    [&](Val x, const std::vector<Val> &s) { return std::vector<Val>{kb.maxF(s[0], x)}; })[0];

    // Greedily: the first of the largest.
    auto likeliest = [&] { return std::vector<Val>{key(largest), kb.constant(1)}; };
    auto sampled = [&] {
      Cut cut = topK(kb.load(kb.i32(), step, kb.constant(offsetof(Step, top_k))));
      cut = topP(cut, kb.load(kb.f32(), step, kb.constant(offsetof(Step, top_p))));
      return std::vector<Val>{cut.key, cut.ties};
    };
    auto kept = kb.ifElse(samples, sampled, likeliest);
    const Cut cut{kept[0], kept[1]};

    Val counter = kb.stepPosition(step) + kb.stepTokens(step);
    if (!several)
      counter = counter + row;
    Val random = philox(kb, counter, kb.load(kb.i32(), step, kb.constant(offsetof(Step, seed))),
                        kb.load(kb.i32(), step, kb.constant(offsetof(Step, seed) + 4)));
    choose(cut, kb.toFloatUnsigned(random >> 8) * kb.constantF(0x1p-24));
  }

private:
  // Writes over the logits that the mask leaves out, once instead of in every sweep. A wave's lanes share a word of it.
  void exclude(Val mask) {
    kb.forLoop(kb.thread(), kb.constant(size), kb.constant(kLanes), {}, [&](Val i, const std::vector<Val> &) {
      Val allowed = (kb.load(kb.i32(), mask, (i >> 5) * 4) >> (i & 31)) & 1;
      kb.ifThen(allowed == 0, [&] { kb.store(kb.constantF(kExcludedLogit), logits, i * 4); });
      return std::vector<Val>{};
    });
    kb.barrier();
  }

  // What is kept: every key above `key`, and the first `ties` indices of those equal to it.
  struct Cut {
    Val key, ties;
  };
  static constexpr int64_t kLowest = std::numeric_limits<int32_t>::min();

  // A logit as it counts: NaN and -infinity as the lowest float, infinity as the highest, -0 as 0.
  Val clean(Val x) {
    constexpr double kMost = std::numeric_limits<float>::max();
    return kb.minF(kb.maxF(x, kb.constantF(-kMost)), kb.constantF(kMost)) + kb.constantF(0);
  }

  // Integers that compare, signed, as the floats do. Temperature is positive, so the order of the logits is the order
  // of z; where the division would round two logits to one z, the larger logit still counts as larger.
  Val key(Val x) {
    Val bits = kb.bitcast(x, kb.i32());
    return kb.select(bits < 0, bits ^ 0x7fffffff, bits);
  }

  Val weight(Val x) { return kb.exp2((x - largest) * slope); }

  Val weightOfKey(Val k) { return weight(kb.bitcast(kb.select(k < 0, k ^ 0x7fffffff, k), kb.f32())); }

  // Folds `body(x, state)` over the vocabulary, the lanes side by side, then over the workgroup; at most three values.
  std::vector<Val> sweep(std::vector<Val> state, const std::vector<Combine> &combine,
                         const std::function<std::vector<Val>(Val, const std::vector<Val> &)> &body) {
    constexpr int64_t kPiece = 4;
    const int64_t whole = size / kPiece, tail = size % kPiece;
    std::vector<Val> start = state;
    state = kb.forLoop(kb.thread(), kb.constant(whole), kb.constant(kLanes), state, [&](Val i, std::vector<Val> s) {
      // A row alone is exactly `size` elements. Device buffers are aligned, and so are padded rows, so the pieces are
      // too.
      Val x = kb.load(kb.vec(kPiece, kb.f32()), logits, i * (kPiece * 4));
      for (unsigned e = 0; e < kPiece; ++e)
        s = body(clean(kb.element(x, e)), s);
      return s;
    });
    if (tail > 0)
      state = kb.ifElse(
          kb.thread() < tail,
          [&] { return body(clean(kb.load(kb.f32(), logits, kb.thread() * 4 + whole * kPiece * 4)), state); },
          [&] { return state; });
    return combineWorkgroup(state, combine);
  }

  // Every lane gets the workgroup's result. The butterfly inside a wave and the one over the waves' results add in an
  // order that depends on nothing but the lane's number, and give all lanes the same bits.
  std::vector<Val> combineWorkgroup(std::vector<Val> values, const std::vector<Combine> &combine) {
    kb.barrier();
    for (unsigned i = 0; i < values.size(); ++i) {
      values[i] = kb.reduceWave(values[i], combine[i]);
      kb.ifThen(kb.lane() == 0, [&] { kb.store(values[i], scratch, kb.wave() * 4 + i * waves * 4); });
    }
    kb.barrier();
    for (unsigned i = 0; i < values.size(); ++i) {
      Val ofWave = kb.load(values[i].type(), scratch, kb.lane() % waves * 4 + i * waves * 4);
      values[i] = kb.uniform(kb.reduceWave(ofWave, combine[i]));
    }
    return values;
  }

  // The largest key, digit by digit from the top, at which `above` holds: above({k0, k1, k2}) answers for three keys
  // with one sweep, and holds for every key below one for which it holds.
  Val search(const std::function<std::vector<Val>(const std::vector<Val> &)> &above) {
    return kb.forLoop(kb.constant(0), kb.constant(16), kb.constant(1), {kb.constant(0)},
                      [&](Val digit, std::vector<Val> s) -> std::vector<Val> {
                        Val shift = kb.constant(30) - digit * 2, result = s[0];
                        std::vector<Val> candidates;
                        for (int64_t value = 1; value <= 3; ++value)
                          candidates.push_back((s[0] + (kb.constant(value) << shift)) ^ kLowest);
                        for (Val holds : above(candidates))
                          result = result + (kb.zext(holds, kb.i32()) << shift);
                        return {result};
                      })[0] ^
           kLowest;
  }

  Cut topK(Val k) {
    auto all = [&] { return std::vector<Val>{kb.constant(kLowest), kb.constant(0)}; };
    auto some = [&] {
      auto count = [&](const std::vector<Val> &keys, bool strictly) {
        std::vector<Val> zeros(keys.size(), kb.constant(0));
        return sweep(zeros, std::vector<Combine>(keys.size(), Combine::SumI), [&](Val x, std::vector<Val> s) {
          for (unsigned i = 0; i < s.size(); ++i)
            s[i] = s[i] + kb.zext(strictly ? key(x) > keys[i] : key(x) >= keys[i], kb.i32());
          return s;
        });
      };
      Val cut = search([&](const std::vector<Val> &keys) {
        std::vector<Val> holds;
        for (Val n : count(keys, false))
          holds.push_back(n >= k);
        return holds;
      });
      return std::vector<Val>{cut, k - count({cut}, true)[0]};
    };
    auto result = kb.ifElse((k > 0) & (k < size), some, all);
    return {result[0], result[1]};
  }

  // Narrows the cut that top-k left.
  Cut topP(Cut kept, Val share) {
    auto all = [&] { return std::vector<Val>{kept.key, kept.ties}; };
    auto some = [&] {
      // Where top-k kept all there are no ties, and the key below all keys is no number.
      Val ofTies = kb.select(kept.ties > 0, kb.toFloat(kept.ties) * weightOfKey(kept.key), kb.constantF(0));
      // Of the kept, the weight of the keys at or above each of `keys`, or strictly above.
      auto weigh = [&](const std::vector<Val> &keys, bool strictly) {
        std::vector<Val> zeros(keys.size(), kb.constantF(0));
        auto sums = sweep(zeros, std::vector<Combine>(keys.size(), Combine::SumF), [&](Val x, std::vector<Val> s) {
          Val k = key(x), w = kb.select(k > kept.key, weight(x), kb.constantF(0));
          for (unsigned i = 0; i < s.size(); ++i)
            s[i] = s[i] + kb.select(strictly ? k > keys[i] : k >= keys[i], w, kb.constantF(0));
          return s;
        });
        for (unsigned i = 0; i < sums.size(); ++i)
          sums[i] = sums[i] + kb.select(strictly ? keys[i] < kept.key : keys[i] <= kept.key, ofTies, kb.constantF(0));
        return sums;
      };
      Val goal = weigh({kb.constant(kLowest)}, false)[0] * share;
      Val cut = search([&](const std::vector<Val> &keys) {
        std::vector<Val> holds;
        for (Val w : weigh(keys, false))
          holds.push_back(w >= goal);
        return holds;
      });
      cut = kb.minI(cut, key(largest));
      // Of the keys equal to the cut, the fewest whose weight reaches the goal: at least one.
      Val missing = (goal - weigh({cut}, true)[0]) / weightOfKey(cut);
      Val most = kb.select(cut == kept.key, kb.toFloat(kept.ties), kb.constantF(static_cast<double>(size)));
      Val rounded = kb.constantF(0) - kb.floor(kb.constantF(0) - missing);
      return std::vector<Val>{cut, kb.toInt(kb.maxF(kb.minF(rounded, most), kb.constantF(1)))};
    };
    auto result = kb.ifElse(share < kb.constantF(1), some, all);
    return {result[0], result[1]};
  }

  // Folds `body(x, index, state)` over this lane's slice of the vocabulary, in the order of the indices.
  std::vector<Val> sweepSlice(const std::vector<Val> &state,
                              const std::function<std::vector<Val>(Val, Val, std::vector<Val>)> &body) {
    const int64_t piece = size % 4 == 0 ? 4 : 1;
    const int64_t slice = (size / piece + kLanes - 1) / kLanes * piece;
    Val begin = kb.thread() * slice, end = kb.minI(begin + slice, kb.constant(size));
    return kb.forLoop(begin, end, kb.constant(piece), state, [&](Val i, std::vector<Val> s) {
      if (piece == 1)
        return body(clean(kb.load(kb.f32(), logits, i * 4)), i, s);
      Val x = kb.load(kb.vec(static_cast<unsigned>(piece), kb.f32()), logits, i * 4);
      for (unsigned e = 0; e < piece; ++e)
        s = body(clean(kb.element(x, e)), i + e, s);
      return s;
    });
  }

  // The sum of `value` over the lanes up to and with this one.
  Val scan(Val value) {
    unsigned from = 0;
    for (unsigned distance = 1; distance < kLanes; distance *= 2, from ^= 1) {
      Val place = kb.thread() * 4 + from * 4 * kLanes;
      kb.store(value, scanned, place);
      kb.barrier();
      value = kb.ifElse(
          kb.thread() >= distance,
          [&] { return std::vector<Val>{value + kb.load(value.type(), scanned, place - 4 * distance)}; },
          [&] { return std::vector<Val>{value}; })[0];
    }
    kb.barrier();
    return value;
  }

  // The value of the lane before, and 0 in the first.
  Val before(Val value) {
    kb.store(value, scanned, kb.thread() * 4);
    kb.barrier();
    Val result = kb.load(value.type(), scanned, kb.maxI(kb.thread() - 1, kb.constant(0)) * 4);
    kb.barrier();
    return kb.select(kb.thread() == 0, kb.zero(value.type()), result);
  }

  // Inverts the running sum over the kept at `u` of the total.
  void choose(Cut cut, Val u) {
    // Pass 1: each lane's ties, so that each knows which of its own are among the first.
    Val ownTies = sweepSlice({kb.constant(0)}, [&](Val x, Val, std::vector<Val> s) -> std::vector<Val> {
      return {s[0] + kb.zext(key(x) == cut.key, kb.i32())};
    })[0];
    Val tiesBefore = scan(ownTies) - ownTies;
    // Walks the slice with the weight of each element, 0 where it is not kept: carried are the ties met so far and the
    // caller's state.
    auto overKept = [&](std::vector<Val> state,
                        const std::function<std::vector<Val>(Val, Val, std::vector<Val>)> &body) {
      state.insert(state.begin(), tiesBefore);
      state = sweepSlice(state, [&](Val x, Val index, std::vector<Val> s) {
        Val k = key(x), tie = k == cut.key;
        Val kept = (k > cut.key) | (tie & (s[0] < cut.ties));
        std::vector<Val> next = body(kb.select(kept, weight(x), kb.constantF(0)), index, {s.begin() + 1, s.end()});
        next.insert(next.begin(), s[0] + kb.zext(tie, kb.i32()));
        return next;
      });
      state.erase(state.begin());
      return state;
    };

    // Pass 2: each lane's weight, and the last index it keeps that has any.
    auto own =
        overKept({kb.constantF(0), kb.constant(-1)}, [&](Val w, Val index, std::vector<Val> s) -> std::vector<Val> {
          return {s[0] + w, kb.select(w > kb.constantF(0), index, s[1])};
        });
    Val upTo = scan(own[0]), start = before(upTo), last = own[1];
    Val total = combineWorkgroup({upTo}, {Combine::MaxF})[0];
    Val goal = total * u;
    // The first lane whose running sum exceeds the goal walks its slice again; the last lane that keeps anything where
    // none does.
    Val exceeds = kb.select((upTo > goal) & (last >= 0), kb.thread(), kb.constant(kNoIndex));
    auto lanes =
        combineWorkgroup({exceeds, kb.select(last >= 0, kb.thread(), kb.constant(-1))}, {Combine::MinI, Combine::MaxI});
    Val chosen = kb.select(lanes[0] == kNoIndex, lanes[1], lanes[0]);
    kb.ifThen(kb.thread() == chosen, [&] {
      auto found = overKept({start, kb.constant(-1)}, [&](Val w, Val index, std::vector<Val> s) -> std::vector<Val> {
        Val sum = s[0] + w;
        return {sum, kb.select((s[1] < 0) & (w > kb.constantF(0)) & (sum > goal), index, s[1])};
      });
      kb.store(kb.select(found[1] < 0, last, found[1]), kb.argument(3), row * 4);
    });
  }

  KernelBuilder &kb;
  const bool several;
  const int64_t size;
  const unsigned waves;
  Val row, logits; // of this workgroup
  Val scratch, scanned;
  Val slope;   // log2(e) / temperature
  Val largest; // logit
};

} // namespace

LaunchShape emitArgmaxPartial(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              uint64_t vocabulary) {
  constexpr unsigned kLanes = 256;
  KernelBuilder kb(module, target, name, {Access::Read, Access::Write}, kLanes);
  Best best = nothing(kb);
  Val row = kb.zext(kb.workgroupY(), kb.i64());
  Val logits = kb.advance(kb.argument(0), row * static_cast<int64_t>(paddedRow(vocabulary) * 4)),
      partials = kb.advance(kb.argument(1), row * int64_t{kArgmaxWorkgroups * 8});
  auto found = kb.forLoop(kb.workgroupX() * kLanes + kb.thread(), kb.constant(static_cast<int64_t>(vocabulary)),
                          kb.constant(kArgmaxWorkgroups * kLanes), {best.value, best.index},
                          [&](Val i, std::vector<Val> s) -> std::vector<Val> {
                            Best b = better(kb, {s[0], s[1]}, {kb.load(kb.f32(), logits, i * 4), i});
                            return {b.value, b.index};
                          });
  const unsigned waves = kLanes / target.waveSize;
  best = bestOfWorkgroup(kb, {found[0], found[1]}, waves, kb.lds(4 * waves, "best"));
  kb.ifThen(kb.thread() == 0, [&] {
    kb.store(best.value, partials, kb.workgroupX() * 8);
    kb.store(best.index, partials, kb.workgroupX() * 8 + 4);
  });
  kb.finish();
  return {.kernel = name.str(),
          .x = kArgmaxWorkgroups,
          .tokensPerWorkgroup = 1,
          .workgroupSize = kLanes,
          .bound = "a partial result each, which one wave then compares"};
}

LaunchShape emitArgmaxFinal(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name) {
  KernelBuilder kb(module, target, name, {Access::Read, Access::Write}, target.waveSize);
  Best best = nothing(kb);
  Val row = kb.workgroupY();
  Val partials = kb.advance(kb.argument(0), kb.zext(row, kb.i64()) * int64_t{kArgmaxWorkgroups * 8});
  for (unsigned first = 0; first < kArgmaxWorkgroups; first += target.waveSize) {
    Val place = (kb.lane() + first) * 8;
    best = better(kb, best, {kb.load(kb.f32(), partials, place), kb.load(kb.i32(), partials, place + 4)});
  }
  Val token = tokenOf(kb, bestOfWorkgroup(kb, best, 1, {}));
  kb.ifThen(kb.lane() == 0, [&] { kb.store(token, kb.argument(1), row * 4); });
  kb.finish();
  return {.kernel = name.str(),
          .tokensPerWorkgroup = 1,
          .workgroupSize = target.waveSize,
          .bound = "one wave compares all partial results"};
}

LaunchShape emitSample(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       uint64_t vocabulary, bool sequences) {
  KernelBuilder kb(module, target, name, {Access::Read, Access::Read, Access::ReadWrite, Access::Write},
                   Sampler::kLanes);
  Sampler sampler(kb, vocabulary, sequences);
  Sequences(kb, sequences).unlessPadding(kb.workgroupY(), [&] { sampler.emit(); });
  kb.finish();
  return {.kernel = name.str(),
          .tokensPerWorkgroup = 1,
          .workgroupSize = Sampler::kLanes,
          .bound = "one workgroup: every pass over the logits needs a sum of the one before"};
}

LaunchShape emitAdvanceBest(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            uint64_t candidates) {
  const auto lanes = static_cast<unsigned>(std::clamp<uint64_t>(
      (candidates + target.waveSize - 1) / target.waveSize * target.waveSize, target.waveSize, 1024));
  KernelBuilder kb(module, target, name, {Access::ReadWrite, Access::Read, Access::Read, Access::Write, Access::Write},
                   lanes);
  Best best = nothing(kb);
  auto found = kb.forLoop(kb.thread(), kb.constant(static_cast<int64_t>(candidates)), kb.constant(lanes),
                          {best.value, best.index}, [&](Val i, std::vector<Val> s) -> std::vector<Val> {
                            Best b = better(
                                kb, {s[0], s[1]},
                                {kb.load(kb.f32(), kb.argument(1), i * 4), kb.load(kb.i32(), kb.argument(2), i * 4)});
                            return {b.value, b.index};
                          });
  const unsigned waves = lanes / target.waveSize;
  Val token = tokenOf(kb, bestOfWorkgroup(kb, {found[0], found[1]}, waves, kb.lds(4 * waves, "best")));
  kb.ifThen(kb.thread() == 0, [&] { advance(kb, kb.argument(0), token, kb.argument(3), kb.argument(4)); });
  kb.finish();
  return {.kernel = name.str(), .workgroupSize = lanes, .bound = "one workgroup compares what each 16 logits left"};
}

LaunchShape emitAdvance(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name, bool several) {
  const Access write = Sequences::access(several, Access::Write);
  KernelBuilder kb(module, target, name, {Sequences::access(several, Access::ReadWrite), Access::Read, write, write},
                   target.waveSize);
  const Sequences sequences(kb, several);
  Val row = several ? kb.workgroupY() : kb.constant(0);
  sequences.unlessPadding(row, [&] {
    kb.ifThen(kb.lane() == 0, [&] {
      advance(kb, sequences.step(row), kb.load(kb.i32(), kb.argument(1), row * 4), sequences.own(kb.argument(2), row),
              sequences.own(kb.argument(3), row));
    });
  });
  kb.finish();
  return {.kernel = name.str(),
          .tokensPerWorkgroup = several ? 1U : 0U,
          .workgroupSize = target.waveSize,
          .bound = "a few words of the step"};
}

} // namespace ingot
