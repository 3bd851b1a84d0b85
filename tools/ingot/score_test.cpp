#include "tools/ingot/score.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace ingot::cli {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Score, LogSumExpNeitherOverflowsNorLosesPrecision) {
  EXPECT_DOUBLE_EQ(logSumExp(std::vector<float>{0, 0, 0, 0}), std::log(4.0));
  EXPECT_DOUBLE_EQ(logSumExp(std::vector<float>{3e38f, 3e38f}), static_cast<double>(3e38f));
  EXPECT_DOUBLE_EQ(logSumExp(std::vector<float>{1000, 1000}), 1000 + std::log(2.0));
  EXPECT_DOUBLE_EQ(logSumExp(std::vector<float>{-1000, -1001}), -1000 + std::log1p(std::exp(-1.0)));
  EXPECT_DOUBLE_EQ(logSumExp(std::vector<float>{5, -kInfinity}), 5);
  // A tail of many small terms that an fp32 sum would drop. Each fp64 addition may round by 2^-53.
  std::vector<float> tail(1 << 17, -20);
  tail[0] = 0;
  EXPECT_NEAR(logSumExp(tail), std::log1p(((1 << 17) - 1) * std::exp(-20.0)), 0x1p17 * 0x1p-53);
}

TEST(Score, WhatIsNotANumberStaysVisible) {
  EXPECT_TRUE(std::isnan(surprise(std::vector<float>{1, NAN, 2}, 0)));
  EXPECT_TRUE(std::isnan(divergence(std::vector<float>{1, 2}, std::vector<float>{NAN, 2})));
  EXPECT_FALSE(std::isfinite(surprise(std::vector<float>{1, kInfinity}, 0)));
  EXPECT_FALSE(std::isfinite(surprise(std::vector<float>{1, -kInfinity}, 1)));
}

TEST(Score, SurpriseIsMinusLogProbability) {
  std::vector<float> row = {0, static_cast<float>(std::log(3.0))};
  EXPECT_NEAR(surprise(row, 0), std::log(4.0), 1e-7);
  EXPECT_NEAR(surprise(row, 1), std::log(4.0 / 3), 1e-7);
}

TEST(Score, DivergenceOfKnownDistributions) {
  std::vector<float> even = {1, 1}, odd = {0, static_cast<float>(std::log(3.0))};
  EXPECT_EQ(divergence(even, even), 0);
  // 1/2 log(1/2 / 1/4) + 1/2 log(1/2 / 3/4), and the other way round.
  EXPECT_NEAR(divergence(even, odd), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-7);
  EXPECT_NEAR(divergence(odd, even), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
  // A constant added to all logits changes nothing.
  EXPECT_NEAR(divergence(std::vector<float>{7, 9}, std::vector<float>{-1, 1}), 0, 1e-12);
  EXPECT_EQ(divergence(std::vector<float>{0, -kInfinity}, std::vector<float>{0, -kInfinity}), 0);
}

TEST(Score, LikeliestIsTheFirstOfEquals) {
  EXPECT_EQ(likeliest(std::vector<float>{1, 3, 2, 3}), 1u);
  EXPECT_EQ(likeliest(std::vector<float>{-5}), 0u);
}

TEST(Score, ComparisonSumsUp) {
  Comparison comparison;
  std::vector<float> even = {0, 0}, odd = {0, static_cast<float>(std::log(3.0))}, other = {1, 0};
  for (int position = 0; position < 198; ++position)
    comparison.add(even, even, 0);
  comparison.add(odd, even, 1);
  comparison.add(other, odd, 0);
  EXPECT_EQ(comparison.positions(), 200u);
  EXPECT_DOUBLE_EQ(comparison.topAgreement(), 198.0 / 200);
  EXPECT_EQ(comparison.largestAt(), 199u);
  EXPECT_DOUBLE_EQ(comparison.largestDivergence(), divergence(other, odd));
  EXPECT_DOUBLE_EQ(comparison.meanDivergence(), (divergence(odd, even) + divergence(other, odd)) / 200);
  // Two of 200 lie above the rest: 99 % of the positions are those 198.
  EXPECT_EQ(comparison.divergencePercentile(0.99), 0);
  EXPECT_DOUBLE_EQ(comparison.divergencePercentile(0.995), divergence(odd, even));
  EXPECT_DOUBLE_EQ(comparison.divergencePercentile(1), comparison.largestDivergence());
  EXPECT_NEAR(std::log(comparison.referencePerplexity()) * 200,
              198 * std::log(2.0) + surprise(odd, 1) + surprise(other, 0), 1e-9);
}

TEST(Score, WindowsScoreEachTokenOnceWithRoomBefore) {
  for (bool bos : {false, true})
    for (size_t tokens = 1; tokens <= 40; ++tokens)
      for (size_t length = 2; length <= 12; ++length)
        for (size_t stride = 1; stride < length; ++stride) {
          size_t next = bos ? 0 : 1;
          for (const Window &window : makeWindows(tokens, length, stride, bos)) {
            EXPECT_EQ(window.first, next);
            EXPECT_LT(window.first, window.end);
            // The logits before the first scored token are of this window.
            EXPECT_GE(window.first + (bos ? 1 : 0), window.begin + 1);
            EXPECT_LE(window.end - window.begin + (bos ? 1 : 0), length);
            EXPECT_EQ(window.begin % stride, 0u);
            next = window.end;
          }
          EXPECT_EQ(next, std::max<size_t>(tokens, bos ? 0 : 1)) << tokens << " " << length << " " << stride;
        }
  EXPECT_TRUE(makeWindows(1, 8, 4, false).empty());
  EXPECT_EQ(makeWindows(8, 8, 4, false).size(), 1u);
  EXPECT_EQ(makeWindows(8, 8, 4, true).size(), 2u);
}

} // namespace
} // namespace ingot::cli
