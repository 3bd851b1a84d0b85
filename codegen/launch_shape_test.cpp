// The cost function by itself: what it must get right whatever the constants are, and figures worked by hand.
#include "codegen/launch_shape.h"

#include <gtest/gtest.h>

namespace ingot {
namespace {

const TargetInfo &chip(const char *name) { return **findTarget(name); }

// bf16, one part: rows and columns as of a weight.
StreamedMatrix matrix(uint64_t rows, uint64_t columns) {
  return {.rowTiles = rows / 16,
          .steps = columns / 16,
          .bytesPerStep = 512,
          .operandLoads = 1,
          .registersPerOperand = 4,
          .mostTiles = 4};
}

TEST(WavesAlongK, FollowFromStepsAlone) {
  EXPECT_EQ(wavesAlongK(1), 1U);
  EXPECT_EQ(wavesAlongK(7), 1U);
  EXPECT_EQ(wavesAlongK(8), 2U);
  EXPECT_EQ(wavesAlongK(16), 4U);
  EXPECT_EQ(wavesAlongK(31), 4U);
  EXPECT_EQ(wavesAlongK(32), 8U);
  EXPECT_EQ(wavesAlongK(100000), 8U);
}

// The sum's order must not depend on the chip, on rows, or on what shares the launch.
TEST(ChooseLaunch, SplitsKTheSameWhateverElseDiffers) {
  for (uint64_t columns : {64, 576, 1536, 4096, 14336})
    for (const TargetInfo &target : allTargets())
      for (uint64_t rows : {64, 576, 6144, 131072})
        for (unsigned streams : {1, 2}) {
          StreamedMatrix m = matrix(rows, columns);
          m.streams = streams;
          EXPECT_EQ(chooseLaunch(target, m).chosen.waves, wavesAlongK(columns / 16)) << rows << " x " << columns;
        }
}

TEST(ChooseLaunch, GivesTwoWorkgroupsAComputeUnitOrSaysWhyNot) {
  for (const TargetInfo &target : allTargets())
    for (uint64_t tiles = 4; tiles <= 1024; tiles += 4) {
      LaunchDecision decision = chooseLaunch(target, matrix(tiles * 16, 4096));
      SCOPED_TRACE(tiles);
      EXPECT_EQ(decision.chosen.workgroups * decision.chosen.tiles, tiles);
      EXPECT_EQ(decision.narrow.empty(), decision.chosen.workgroups >= 2 * target.computeUnits);
      if (!decision.narrow.empty()) {
        EXPECT_EQ(decision.chosen.tiles, 1U) << "as wide as it goes";
      }
    }
}

TEST(ChooseLaunch, SaysWhatBoundsANarrowGrid) {
  LaunchDecision decision = chooseLaunch(chip("gfx1151"), matrix(576, 576));
  EXPECT_EQ(decision.narrow, "only 36 row tiles, taken 1 at a time (K's split follows from K)");
}

TEST(ChooseLaunch, KeepsToTheTilesAllowed) {
  StreamedMatrix m = matrix(131072, 4096);
  m.leastTiles = m.mostTiles = 2;
  LaunchDecision decision = chooseLaunch(chip("gfx1201"), m);
  EXPECT_EQ(decision.chosen.tiles, 2U);
  ASSERT_TRUE(decision.runnerUp);
  EXPECT_EQ(decision.runnerUp->tiles, 2U);
  EXPECT_NE(decision.runnerUp->unroll, decision.chosen.unroll);
}

TEST(ChooseLaunch, RunnerUpIsNoBetter) {
  for (const TargetInfo &target : allTargets())
    for (uint64_t rows : {5120, 14336, 131072}) {
      LaunchDecision decision = chooseLaunch(target, matrix(rows, 4096));
      ASSERT_TRUE(decision.runnerUp);
      EXPECT_LE(decision.chosen.seconds, decision.runnerUp->seconds);
      EXPECT_GT(decision.considered, 2U);
    }
}

// A wide matrix is bound by memory: 14336 x 4096 x 2 bytes at 256 GB/s are 458.75 us. On top, each of 896 / tiles
// workgroups makes 256 loads of the operand, 512 bytes each at 64 bytes a clock of 2.9 GHz on 40 ways.
TEST(ModelLaunch, WideIsBoundByMemory) {
  LaunchChoice one = modelLaunch(chip("gfx1151"), matrix(14336, 4096), 1, 2),
               four = modelLaunch(chip("gfx1151"), matrix(14336, 4096), 4, 2);
  EXPECT_NEAR(one.seconds, 458.752e-6 + 896 * 256 * 8 / 2.9e9 / 40, 1e-8);
  EXPECT_NEAR(four.seconds, 458.752e-6 + 224 * 256 * 8 / 2.9e9 / 40, 1e-8);
}

// A narrow one is bound by latency: 4 steps a wave are 4 round trips, or 1 where all are loaded at once; then the
// waves' sums meet. 4 workgroups are alone on their compute units, so 8 waves take turns.
TEST(ModelLaunch, NarrowIsBoundByLatency) {
  const double load = 8 / 2.9e9, merge = 192 / 2.9e9;
  EXPECT_NEAR(modelLaunch(chip("gfx1151"), matrix(64, 512), 1, 1).seconds, 4 * (600e-9 + 8 * 2 * load) + merge, 1e-10);
  EXPECT_NEAR(modelLaunch(chip("gfx1151"), matrix(64, 512), 1, 4).seconds, 600e-9 + 8 * 4 * 2 * load + merge, 1e-10);
  EXPECT_EQ(chooseLaunch(chip("gfx1151"), matrix(64, 512)).chosen.unroll, 4U);
}

// 5 steps are one block of 4 and a rest of one: two waits, as 2 blocks of 2 and a rest are three.
TEST(ModelLaunch, WaitsForEachStepOfTheRest) {
  const double rest = 5 * 8 * 2 * 8 / 2.9e9 + 192 / 2.9e9;
  auto modelled = [](unsigned unroll) { return modelLaunch(chip("gfx1151"), matrix(64, 640), 1, unroll).seconds; };
  EXPECT_NEAR(modelled(1), 5 * 600e-9 + rest, 1e-10);
  EXPECT_NEAR(modelled(2), 3 * 600e-9 + rest, 1e-10);
  EXPECT_NEAR(modelled(4), 2 * 600e-9 + rest, 1e-10);
}

TEST(ModelLaunch, CountsBytesInFlight) {
  // 36 workgroups of 8 waves, all resident, with 2 steps of 512 bytes each.
  EXPECT_EQ(modelLaunch(chip("gfx1151"), matrix(576, 576), 1, 2).bytesInFlight, 36U * 8 * 2 * 512);
  // 16 waves a SIMD, 2 SIMDs, 40 compute units.
  LaunchChoice wide = modelLaunch(chip("gfx1151"), matrix(131072, 4096), 1, 1);
  EXPECT_EQ(wide.wavesPerSimd, 16U);
  EXPECT_EQ(wide.bytesInFlight, 16U * 2 * 40 * 512);
}

// A shape that needs more registers has fewer waves resident.
TEST(ModelLaunch, RegistersCostOccupancy) {
  StreamedMatrix m = matrix(131072, 4096);
  m.streams = 2;
  EXPECT_LT(modelLaunch(chip("gfx1151"), m, 4, 4).wavesPerSimd, modelLaunch(chip("gfx1151"), m, 1, 1).wavesPerSimd);
}

// bf16 of gfx1151, one part and a chunk of so many tokens: fragments of 32 bytes a row, the same in both half-waves.
MatrixProduct product(uint64_t rows, uint64_t columns, uint64_t tokens) {
  return {.rowTiles = rows / 16,
          .tokenTiles = tokens / 16,
          .steps = columns / 16,
          .bytesPerStep = 512,
          .tokenBytesPerStep = 512,
          .rowRegisters = 8,
          .tokenRegisters = 8,
          .workRegisters = 0,
          .matrixClocks = 32,
          .convertClocks = 0};
}

TEST(ChooseLaunch, GivesManyTokensTwoWorkgroupsAComputeUnitOrSaysWhyNot) {
  for (const TargetInfo &target : allTargets())
    for (uint64_t tiles = 4; tiles <= 1024; tiles += 4)
      for (uint64_t tokens : {16, 64, 512}) {
        LaunchDecision decision = chooseLaunch(target, product(tiles * 16, 4096, tokens));
        SCOPED_TRACE(tiles);
        EXPECT_EQ(4 % (decision.chosen.tiles * decision.chosen.waves), 0U);
        EXPECT_EQ(decision.narrow.empty(), decision.chosen.workgroups >= 2 * target.computeUnits);
      }
}

TEST(ChooseLaunch, GivesNarrowMatricesSmallTiles) {
  const LaunchChoice narrow = chooseLaunch(chip("gfx1151"), product(256, 4096, 64)).chosen,
                     wide = chooseLaunch(chip("gfx1151"), product(14336, 4096, 512)).chosen;
  EXPECT_LT(narrow.tiles * narrow.tokenTiles, wide.tiles * wide.tokenTiles);
  EXPECT_EQ(wide.tiles * wide.tokenTiles, 16U);
}

// Of 4 x 4 tiles a wave, 16 matrix instructions of 32 clocks on two SIMDs, and 2 x 4 x 8 registers of 128 bytes, at 64
// bytes a clock; 224 x 8 = 1792 workgroups of one wave, so the busiest of 40 compute units has 45, for 256 steps each.
// About 216 registers a wave are 7 waves a SIMD, 560 workgroups a round: 4 rounds of 256 waits.
TEST(ModelLaunch, ManyTokensAreBoundByWorkAndLatency) {
  const LaunchChoice large = modelLaunch(chip("gfx1151"), product(14336, 4096, 512), 4, 4, 1, 1);
  EXPECT_EQ(large.workgroups, 1792U);
  EXPECT_EQ(large.wavesPerSimd, 7U);
  const double work = 45 * 256 * (16 * 32 / 2 + 2 * 4 * 8 * 128 / 64) / 2.9e9;
  EXPECT_NEAR(large.seconds, work + 4 * 256 * 600e-9, 1e-9);
  // Of one tile each, 28672 workgroups: 717 at most, and 16 waves a SIMD, 1280 workgroups a round: 23.
  const LaunchChoice small = modelLaunch(chip("gfx1151"), product(14336, 4096, 512), 1, 1, 1, 2);
  EXPECT_EQ(small.workgroups, 28672U);
  EXPECT_EQ(small.wavesPerSimd, 16U);
  EXPECT_NEAR(small.seconds, 717 * 256 * (32 / 2 + 2 * 8 * 128 / 64) / 2.9e9 + 23 * 128 * 600e-9, 1e-9);
}

// Where memory answers at once and instructions take no time, tokens wait for its bytes.
TEST(ModelLaunch, ManyTokensMayBeBoundByMemory) {
  TargetInfo fast = chip("gfx1151");
  fast.latency = 0;
  fast.clock = 1e15;
  const LaunchChoice choice = modelLaunch(fast, product(14336, 4096, 512), 1, 1, 1, 2);
  EXPECT_NEAR(choice.seconds, (14336 * 4096 * 2.0 + 512 * 4096 * 2.0) / 256e9, 1e-9);
}

TEST(ModelLaunch, ConversionsCountBesideMatrixInstructions) {
  MatrixProduct codes = product(14336, 4096, 512);
  const double without = modelLaunch(chip("gfx1151"), codes, 4, 4, 1, 1).seconds;
  codes.convertClocks = 64;
  EXPECT_NEAR(modelLaunch(chip("gfx1151"), codes, 4, 4, 1, 1).seconds - without, 45 * 256 * 4 * 64 / 2 / 2.9e9, 1e-9);
}

} // namespace
} // namespace ingot
