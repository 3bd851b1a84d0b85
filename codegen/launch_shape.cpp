#include "codegen/launch_shape.h"

#include <algorithm>
#include <functional>
#include <tuple>

#include "absl/strings/str_format.h"

namespace ingot {

namespace {

constexpr unsigned kMostWaves = 8, kFewestSteps = 4, kMostUnroll = 4;
constexpr unsigned kRowTilesOfGroup = 4; // a padded matrix has a multiple of 64 rows
constexpr unsigned kMostProductUnroll = 2;
constexpr double kLoadBytes = 512;        // of a wave, into registers
constexpr unsigned kMostRegisters = 224;  // that a wave should need, of the 256 it can have
constexpr unsigned kFixedRegisters = 24;  // addresses, lane numbers and what the epilogue needs
constexpr unsigned kRegistersPerLoad = 4; // 16 bytes a lane
constexpr unsigned kRegistersPerSum = 8;  // of a 16 x 16 result
// Partial sums to LDS, the barrier, and back: three trips of 64 clocks, assumed. It shows only where a wave has few
// steps.
constexpr double kMergeClocks = 192;

uint64_t ceilDiv(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

unsigned registersOf(const StreamedMatrix &matrix, unsigned tiles, unsigned unroll) {
  unsigned sums = tiles * matrix.streams;
  return kFixedRegisters + sums * matrix.tokens +
         unroll * (sums * kRegistersPerLoad + matrix.registersPerOperand * matrix.tokens);
}

unsigned registersOf(const MatrixProduct &product, unsigned tiles, unsigned tokenTiles, unsigned unroll) {
  const unsigned rows = tiles * product.streams;
  return kFixedRegisters + product.workRegisters + rows * tokenTiles * kRegistersPerSum +
         unroll * (rows * product.rowRegisters + tokenTiles * product.tokenRegisters);
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
                      .tokenTiles = 0,
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

LaunchChoice modelLaunch(const TargetInfo &target, const MatrixProduct &product, unsigned tiles, unsigned tokenTiles,
                         unsigned waves, unsigned unroll) {
  LaunchChoice choice{.tiles = tiles,
                      .tokenTiles = tokenTiles,
                      .waves = waves,
                      .unroll = unroll,
                      .workgroups =
                          ceilDiv(product.rowTiles, uint64_t{tiles} * waves) * ceilDiv(product.tokenTiles, tokenTiles),
                      .wavesPerSimd = 0,
                      .bytesInFlight = 0,
                      .seconds = 0};
  const unsigned rows = tiles * product.streams;
  choice.wavesPerSimd = occupancy(target, registersOf(product, tiles, tokenTiles, unroll), 0, waves);
  const uint64_t residentOfUnit =
      std::max<uint64_t>(1, uint64_t{choice.wavesPerSimd} * target.simdsPerComputeUnit / waves);
  const uint64_t resident = std::min(choice.workgroups, residentOfUnit * target.computeUnits);
  choice.bytesInFlight = resident * waves * rows * unroll * product.bytesPerStep;

  const double bytes = static_cast<double>(product.steps) *
                       static_cast<double>(product.rowTiles * product.streams * product.bytesPerStep +
                                           product.tokenTiles * product.tokenBytesPerStep);
  const double memory = bytes / target.bandwidth;
  // Of the busiest compute unit, in clocks.
  const auto steps = static_cast<double>(ceilDiv(choice.workgroups, target.computeUnits) * waves * product.steps);
  const double bytesToRegisters =
      4.0 * target.waveSize * (rows * product.rowRegisters + tokenTiles * product.tokenRegisters);
  const double loads = steps * bytesToRegisters / target.loadBytesPerClock;
  const double matrix =
      steps * rows * (tokenTiles * product.matrixClocks + product.convertClocks) / target.simdsPerComputeUnit;
  const uint64_t waits = product.steps / unroll + product.steps % unroll;
  const uint64_t rounds = ceilDiv(choice.workgroups, residentOfUnit * target.computeUnits);
  choice.seconds =
      std::max(memory, static_cast<double>(rounds * waits) * target.latency + (loads + matrix) / target.clock);
  return choice;
}

namespace {

struct Candidate {
  LaunchChoice choice;
  unsigned registers;
};

// A grid as wide as wanted is worth more than the model's time; past that, width is worth nothing by itself.
LaunchDecision best(const TargetInfo &target, std::vector<Candidate> all) {
  auto rank = [&](const Candidate &one) {
    return std::tuple(-static_cast<int64_t>(std::min(one.choice.workgroups, workgroupsWanted(target))),
                      one.choice.seconds, one.registers);
  };
  std::ranges::sort(all, std::less<>(), rank);
  LaunchDecision decision{.chosen = all.front().choice};
  decision.considered = static_cast<unsigned>(all.size());
  if (all.size() > 1)
    decision.runnerUp = all[1].choice;
  return decision;
}

} // namespace

LaunchDecision chooseLaunch(const TargetInfo &target, const StreamedMatrix &matrix) {
  const uint64_t stepsOfWave = ceilDiv(matrix.steps, wavesAlongK(matrix.steps));
  std::vector<Candidate> all;
  for (unsigned tiles = matrix.leastTiles; tiles <= matrix.mostTiles; tiles *= 2)
    for (unsigned unroll = 1; unroll <= std::min<uint64_t>(kMostUnroll, stepsOfWave); unroll *= 2) {
      const unsigned registers = registersOf(matrix, tiles, unroll);
      if (matrix.rowTiles % tiles == 0 && (all.empty() || registers <= kMostRegisters)) // else it would spill
        all.push_back({modelLaunch(target, matrix, tiles, unroll), registers});
    }
  LaunchDecision decision = best(target, std::move(all));
  if (decision.chosen.workgroups < workgroupsWanted(target))
    decision.narrow = absl::StrFormat("only %d row tiles, taken %d at a time (K's split follows from K)",
                                      matrix.rowTiles, decision.chosen.tiles);
  return decision;
}

LaunchDecision chooseLaunch(const TargetInfo &target, const MatrixProduct &product) {
  std::vector<Candidate> all;
  for (unsigned tiles = product.leastTiles; tiles <= product.mostTiles; tiles *= 2)
    for (unsigned tokenTiles = product.leastTokenTiles; tokenTiles <= product.mostTokenTiles; tokenTiles *= 2)
      for (unsigned waves = 1; waves * tiles <= kRowTilesOfGroup; waves *= 2)
        for (unsigned unroll = 1; unroll <= std::min<uint64_t>(kMostProductUnroll, product.steps); unroll *= 2) {
          const unsigned registers = registersOf(product, tiles, tokenTiles, unroll);
          if (all.empty() || registers <= kMostRegisters) // else it would spill
            all.push_back({modelLaunch(target, product, tiles, tokenTiles, waves, unroll), registers});
        }
  LaunchDecision decision = best(target, std::move(all));
  const LaunchChoice &chosen = decision.chosen;
  if (chosen.workgroups < workgroupsWanted(target))
    decision.narrow =
        absl::StrFormat("only %d row tiles and %d tiles of tokens, taken %d and %d at a time", product.rowTiles,
                        product.tokenTiles, chosen.tiles * chosen.waves, chosen.tokenTiles);
  return decision;
}

} // namespace ingot
