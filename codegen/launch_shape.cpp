#include "codegen/launch_shape.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_format.h"

namespace ingot {

namespace {

constexpr unsigned kMostWaves = 8, kFewestSteps = 4, kMostUnroll = 4;
constexpr double kLoadBytes = 512;        // of a wave, into registers
constexpr unsigned kMostRegisters = 224;  // that a wave should need, of the 256 it can have
constexpr unsigned kFixedRegisters = 24;  // addresses, lane numbers and what the epilogue needs
constexpr unsigned kRegistersPerLoad = 4; // 16 bytes a lane
// Partial sums to LDS, the barrier, and back: three trips of 64 clocks, assumed. It shows only where a wave has few
// steps.
constexpr double kMergeClocks = 192;

uint64_t ceilDiv(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

unsigned registersOf(const StreamedMatrix &matrix, unsigned tiles, unsigned unroll) {
  unsigned sums = tiles * matrix.streams;
  return kFixedRegisters + sums * matrix.tokens +
         unroll * (sums * kRegistersPerLoad + matrix.registersPerOperand * matrix.tokens);
}

} // namespace

unsigned wavesAlongK(uint64_t steps) {
  unsigned waves = kMostWaves;
  while (waves > 1 && steps / waves < kFewestSteps)
    waves /= 2;
  return waves;
}

LaunchChoice modelLaunch(const TargetInfo &target, const StreamedMatrix &matrix, unsigned tiles, unsigned unroll) {
  LaunchChoice choice{.tiles = tiles,
                      .waves = wavesAlongK(matrix.steps),
                      .unroll = unroll,
                      .workgroups = ceilDiv(matrix.rowTiles, tiles),
                      .wavesPerSimd = 0,
                      .bytesInFlight = 0,
                      .seconds = 0};
  const unsigned sums = tiles * matrix.streams;
  const unsigned lds = choice.waves > 1 ? choice.waves * sums * matrix.tokens * 16 * 4 : 0;
  choice.wavesPerSimd = occupancy(target, registersOf(matrix, tiles, unroll), lds, choice.waves);
  const uint64_t wavesOfUnit = uint64_t{choice.wavesPerSimd} * target.simdsPerComputeUnit;
  const uint64_t residentOfUnit = std::max<uint64_t>(1, wavesOfUnit / choice.waves);
  const uint64_t resident = std::min(choice.workgroups, residentOfUnit * target.computeUnits);
  choice.bytesInFlight = resident * choice.waves * sums * unroll * matrix.bytesPerStep;

  const double loadSeconds =
      kLoadBytes / (target.loadBytesPerClock * target.clock); // of one load, its compute unit's path
  const unsigned loadsOfOperands = matrix.operandLoads * matrix.tokens;
  const double operandLoads = static_cast<double>(choice.workgroups * matrix.steps * loadsOfOperands);
  const double matrixBytes = static_cast<double>(matrix.rowTiles * matrix.streams * matrix.steps * matrix.bytesPerStep);
  const double memory = matrixBytes / target.bandwidth + operandLoads * loadSeconds / target.computeUnits;

  const uint64_t stepsOfWave = ceilDiv(matrix.steps, choice.waves); // whole blocks, then the rest one by one
  const uint64_t waits = stepsOfWave / unroll + stepsOfWave % unroll;
  // The waves of a compute unit take turns on its path.
  const double turns = static_cast<double>(ceilDiv(resident, target.computeUnits) * choice.waves);
  const double loads = static_cast<double>(stepsOfWave * (sums + loadsOfOperands)) * turns * loadSeconds;
  const double merge = choice.waves > 1 ? kMergeClocks / target.clock : 0;
  const double rounds = static_cast<double>(ceilDiv(choice.workgroups, residentOfUnit * target.computeUnits));
  choice.seconds = std::max(memory, rounds * (static_cast<double>(waits) * target.latency + loads + merge));
  return choice;
}

LaunchDecision chooseLaunch(const TargetInfo &target, const StreamedMatrix &matrix) {
  const uint64_t stepsOfWave = ceilDiv(matrix.steps, wavesAlongK(matrix.steps));
  std::vector<LaunchChoice> all;
  for (unsigned tiles = matrix.leastTiles; tiles <= matrix.mostTiles; tiles *= 2)
    for (unsigned unroll = 1; unroll <= std::min<uint64_t>(kMostUnroll, stepsOfWave); unroll *= 2)
      if (matrix.rowTiles % tiles == 0 &&
          (all.empty() || registersOf(matrix, tiles, unroll) <= kMostRegisters)) // else it would spill
        all.push_back(modelLaunch(target, matrix, tiles, unroll));
  // A grid as wide as wanted is worth more than the model's time; past that, width is worth nothing by itself.
  auto rank = [&](const LaunchChoice &choice) {
    return std::tuple(-static_cast<int64_t>(std::min(choice.workgroups, workgroupsWanted(target))), choice.seconds,
                      registersOf(matrix, choice.tiles, choice.unroll));
  };
  std::sort(all.begin(), all.end(), [&](const LaunchChoice &a, const LaunchChoice &b) { return rank(a) < rank(b); });
  LaunchDecision decision{.chosen = all.front(), .runnerUp = std::nullopt, .considered = 0, .narrow = {}};
  decision.considered = static_cast<unsigned>(all.size());
  if (all.size() > 1)
    decision.runnerUp = all[1];
  if (decision.chosen.workgroups < workgroupsWanted(target))
    decision.narrow = absl::StrFormat("only %d row tiles, taken %d at a time (K's split follows from K)",
                                      matrix.rowTiles, decision.chosen.tiles);
  return decision;
}

} // namespace ingot
