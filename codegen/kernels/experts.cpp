// What happens around the products of experts: choosing them, sorting a chunk's rows by them, adding up their results.

#include "codegen/kernels/kernels.h"

#include <limits>
#include <numbers>

#include "codegen/kernels/elementwise.h"
#include "codegen/kernels/linear.h"
#include "codegen/kernels/pieces.h"

namespace ingot {

using Combine = KernelBuilder::Combine;

// A wave a token. A lane holds every 32nd logit as an integer that compares as the float does; k times the largest is
// found, of equal ones the lowest index, and lane j keeps the j-th.
LaunchShape emitRoute(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const RouteConfig &c) {
  constexpr int64_t kTaken = std::numeric_limits<int32_t>::min(), kNoIndex = std::numeric_limits<int32_t>::max();
  std::vector<Access> access(1 + c.shared + c.scaled, Access::Read);
  access.insert(access.end(), {Access::Write, Access::Write});
  KernelBuilder k(module, target, name, access, target.waveSize);
  const auto lanes = static_cast<int64_t>(target.waveSize), experts = static_cast<int64_t>(c.experts);
  const auto perLane = static_cast<unsigned>((experts + lanes - 1) / lanes);
  Val lane = k.lane(), token = k.workgroupY();
  Val logits = k.advance(k.argument(0), k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.experts) * 4));
  const double lowest = -std::numeric_limits<double>::infinity();

  std::vector<Val> keys, values;
  Val most = k.constantF(lowest);
  for (unsigned i = 0; i < perLane; ++i) {
    Val index = lane + i * lanes;
    Val x = k.load(k.f32(), logits, k.minI(index, k.constant(experts - 1)) * 4);
    x = k.select(x == x, x, k.constantF(lowest)) + k.constantF(0); // no number: the smallest; -0: 0
    x = k.select(index < experts, x, k.constantF(lowest));
    Val bits = k.bitcast(x, k.i32());
    keys.push_back(k.select(index < experts, k.select(bits < 0, bits ^ 0x7fffffff, bits), k.constant(kTaken)));
    values.push_back(x);
    most = k.maxF(most, x);
  }
  most = k.reduceWave(most, Combine::MaxF);
  // exp(x - most), also where both are infinite.
  auto share = [&](Val x) {
    return k.select(x == most, k.constantF(1), k.exp2((x - most) * k.constantF(std::numbers::log2e)));
  };
  Val sum = k.constantF(0);
  for (unsigned i = 0; i < perLane; ++i)
    sum = sum + k.select(lane + i * lanes < experts, share(values[i]), k.constantF(0));
  sum = k.reduceWave(sum, Combine::SumF);

  std::vector<Val> state = keys;
  state.push_back(k.constant(0)); // this lane's index
  state.push_back(k.constant(0)); // and key
  state = k.forLoop(k.constant(0), k.constant(static_cast<int64_t>(c.top)), k.constant(1), state,
                    [&](Val round, std::vector<Val> s) {
                      Val best = s[0];
                      for (unsigned i = 1; i < perLane; ++i)
                        best = k.maxI(best, s[i]);
                      best = k.reduceWave(best, Combine::MaxI);
                      Val index = k.constant(kNoIndex);
                      for (unsigned i = perLane; i-- > 0;)
                        index = k.select(s[i] == best, lane + i * lanes, index);
                      index = k.reduceWave(index, Combine::MinI);
                      for (unsigned i = 0; i < perLane; ++i)
                        s[i] = k.select(lane + i * lanes == index, k.constant(kTaken), s[i]);
                      s[perLane] = k.select(lane == round, index, s[perLane]);
                      s[perLane + 1] = k.select(lane == round, best, s[perLane + 1]);
                      return s;
                    });
  Val index = state[perLane], key = state[perLane + 1], chosen = lane < static_cast<int64_t>(c.top);
  Val weight = share(k.bitcast(k.select(key < 0, key ^ 0x7fffffff, key), k.f32())) / sum;
  weight = k.select(chosen, weight, k.constantF(0));
  if (c.normalize)
    weight = weight / k.reduceWave(weight, Combine::SumF);
  if (c.scaled)
    weight = k.select(
        chosen, weight * k.load(k.f32(), k.argument(c.shared ? 2 : 1), k.select(chosen, index, k.constant(0)) * 4),
        k.constantF(0));
  if (c.shared) { // as the product with 1 of an `llm.gated_mul`
    Val gate =
        k.load(k.f32(), k.advance(k.argument(1), k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(1) * 4)),
               k.constant(0));
    weight = k.select(lane == static_cast<int64_t>(c.top),
                      applyElementwise(k, Elementwise::SigmoidMul, gate, k.constantF(1)), weight);
  }
  // At most a wave is chosen, half of what a padded row holds.
  Val row = k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.top) * 4);
  const unsigned first = 1 + c.shared + c.scaled; // of the results
  Val weights = k.advance(k.argument(first), row), indices = k.advance(k.argument(first + 1), row);
  k.store(weight, weights, lane * 4);
  k.store(k.select(chosen, index, k.constant(0)), indices, lane * 4);
  k.store(k.constantF(0), weights, (lane + lanes) * 4);
  k.store(k.constant(0), indices, (lane + lanes) * 4);
  k.finish();
  return {.kernel = name.str(),
          .tokensPerWorkgroup = 1,
          .workgroupSize = target.waveSize,
          .bound = "one wave a token: each choice is among all experts"};
}

// A lane an expert: it counts its rows, and from everybody's counts knows where its part of the list and of the tiles
// begins. Then it goes through the indices again and writes its rows in their order, so the list is the same on every
// run, without an atomic.
LaunchShape emitGroup(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const LinearExperts &c) {
  const auto experts = static_cast<int64_t>(c.count), slots = static_cast<int64_t>(c.slots);
  const auto tiles = static_cast<int64_t>(groupTiles(c.count, c.slots, c.chunkRows));
  constexpr auto kRows = static_cast<int64_t>(kGroupRows);
  const auto threads = static_cast<unsigned>((experts + target.waveSize - 1) / target.waveSize * target.waveSize);
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, threads);
  Val tokens = k.stepTokens(k.argument(0)), indices = k.argument(1), groups = k.argument(2);
  Val list = k.advance(groups, k.constant64(tiles * 16));
  Val expert = k.thread();

  // Calls `body(row, mine)` with each row of the chunk, and whether it goes to this lane's expert; carries an i32.
  auto overRows = [&](Val start, const std::function<Val(Val row, Val mine, Val carried)> &body) {
    return k.forLoop(k.constant(0), tokens, k.constant(1), {start}, [&](Val token, std::vector<Val> carried) {
      Val row = k.advance(indices, k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.slots) * 4));
      for (int64_t first = 0; first < slots; first += 4) {
        Val four = k.load(k.vec(4, k.i32()), row, k.constant(first * 4));
        for (int64_t j = first; j < std::min(first + 4, slots); ++j) {
          Val index = k.element(four, static_cast<unsigned>(j - first));
          index = k.minI(k.maxI(index, k.constant(0)), k.constant(experts - 1)); // as the linear does
          carried[0] = body(token * slots + j, index == expert, carried[0]);
        }
      }
      return carried;
    })[0];
  };
  Val count =
      overRows(k.constant(0), [&](Val, Val mine, Val n) { return n + k.select(mine, k.constant(1), k.constant(0)); });

  Val counts = k.lds(threads * 4, "counts");
  k.store(count, counts, expert * 4);
  k.barrier();
  auto tilesOf = [&](Val n) { return (n + (kRows - 1)) / kRows; };
  std::vector<Val> before = // rows and tiles of the experts before this one, and all tiles
      k.forLoop(k.constant(0), k.constant(experts), k.constant(1), {k.constant(0), k.constant(0), k.constant(0)},
                [&](Val other, std::vector<Val> s) {
                  Val n = k.load(k.i32(), counts, other * 4), mine = tilesOf(n), zero = k.constant(0);
                  return std::vector<Val>{s[0] + k.select(other < expert, n, zero),
                                          s[1] + k.select(other < expert, mine, zero), s[2] + mine};
                });
  auto storeTile = [&](Val tile, Val first, Val n) {
    k.store(k.build({expert, first, n, k.constant(0)}), groups, tile * 16);
  };
  k.ifThen(expert < experts, [&] {
    k.forLoop(k.constant(0), tilesOf(count), k.constant(1), {}, [&](Val i, std::vector<Val> none) {
      storeTile(before[1] + i, before[0] + i * kRows, k.minI(count - i * kRows, k.constant(kRows)));
      return none;
    });
    overRows(before[0], [&](Val row, Val mine, Val at) {
      k.ifThen(mine, [&] { k.store(row, list, at * 4); });
      return at + k.select(mine, k.constant(1), k.constant(0));
    });
  });
  k.forLoop(before[2] + expert, k.constant(tiles), k.constant(threads), {}, [&](Val i, std::vector<Val> none) {
    storeTile(i, k.constant(0), k.constant(0));
    return none;
  });
  k.finish();
  return {.kernel = name.str(),
          .workgroupSize = threads,
          .bound = "one workgroup: an expert's place in the list follows from all counts"};
}

LaunchShape emitCombine(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        const CombineConfig &c) {
  constexpr unsigned kThreads = 128;
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, kThreads);
  const auto slots = static_cast<int64_t>(c.slots);
  const auto stride = static_cast<int64_t>(paddedRow(c.columns)), pieces = stride / 8;
  Val token = k.workgroupY(), wide = k.zext(token, k.i64());
  Val rows = k.advance(k.argument(0), wide * (slots * stride * bytesOf(c.x)));
  Val weights = k.advance(k.argument(1), wide * static_cast<int64_t>(paddedRow(c.slots) * 4));
  Val out = k.advance(k.argument(2), wide * (stride * bytesOf(c.out)));
  Val piece = k.workgroupX() * kThreads + k.thread();
  k.ifThen(piece < pieces, [&] {
    Val sum = k.zero(k.vec(8, k.f32()));
    for (int64_t slot = 0; slot < slots; ++slot) {
      Val row = k.advance(rows, k.constant64(slot * stride * bytesOf(c.x)));
      sum = sum + loadPiece(k, c.x, row, piece) * k.load(k.f32(), weights, k.constant(slot * 4));
    }
    storePiece(k, c.out, sum, out, piece);
  });
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>((pieces + kThreads - 1) / kThreads),
          .tokensPerWorkgroup = 1,
          .workgroupSize = kThreads,
          .bound = "a row has no more pieces of eight elements, one a lane"};
}

} // namespace ingot
