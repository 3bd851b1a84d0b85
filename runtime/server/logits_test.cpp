#include "runtime/server/logits.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ingot {
namespace {

TEST(LogitsTest, PenaltiesByHand) {
  TokenCounts counts;
  counts.addPrompt(std::vector<int32_t>{0, 1});
  for (int32_t token : {2, 2, 1})
    counts.addReply(token);
  LogitRules rules;
  rules.repetition = 2;
  rules.presence = 0.5F;
  rules.frequency = 0.25F;
  rules.bias = {{3, 10.0F}};
  std::vector<float> row = {4, -4, 4, 1, 1};
  counts.apply(rules, 1, row);
  // 0: prompt, positive; 1: prompt and once in the reply, negative; 2: twice in the reply; 3: bias; 4: nothing.
  EXPECT_EQ(row, (std::vector<float>{2, -8.75F, 1, 11, 1}));
}

TEST(LogitsTest, MinPKeepsWhatIsLikelyEnough) {
  LogitRules rules;
  rules.minP = 0.5F;
  // Relative to the first: 1, 0.51, 0.49 at temperature 1.
  std::vector<float> row = {0, std::log(0.51F), std::log(0.49F)};
  std::vector<float> warm = row, hot = row, greedy = row;
  TokenCounts().apply(rules, 1, warm);
  EXPECT_EQ(warm[1], row[1]);
  EXPECT_LT(warm[2], -1e29F);
  // Hotter, the third comes nearer to the first: 0.49 ^ (1/2) = 0.7.
  TokenCounts().apply(rules, 2, hot);
  EXPECT_EQ(hot, row);
  TokenCounts().apply(rules, 0, greedy);
  EXPECT_EQ(greedy, row);
}

TEST(LogitsTest, LogprobsAreOfTheWholeRow) {
  std::vector<float> row = {std::log(0.5F), std::log(0.25F), std::log(0.125F), std::log(0.125F)};
  EXPECT_NEAR(logprobOf(row, 1).logprob, std::log(0.25), 1e-6);
  std::vector<TokenLogprob> top = likeliest(row, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 0);
  EXPECT_EQ(top[1].id, 1);
  EXPECT_EQ(top[2].id, 2); // of equal ones the lower id
  EXPECT_NEAR(top[2].logprob, std::log(0.125), 1e-6);
  EXPECT_EQ(likeliest(row, 9).size(), 4u);
}

TEST(LogitsTest, ValuesOutOfRangeAreRefused) {
  auto message = [](const LogitRules &rules) { return std::string(checkRules(rules, 8).message()); };
  LogitRules rules;
  EXPECT_TRUE(rules.none());
  EXPECT_EQ(message(rules), "");
  rules.presence = 2.5F;
  EXPECT_EQ(message(rules), "presence_penalty: expected a number from -2 to 2, got 2.5");
  rules = {};
  rules.frequency = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message(rules), ::testing::StartsWith("frequency_penalty"));
  rules = {};
  rules.repetition = 0;
  EXPECT_THAT(message(rules), ::testing::StartsWith("repetition_penalty"));
  rules = {};
  rules.minP = -0.1F;
  EXPECT_THAT(message(rules), ::testing::StartsWith("min_p"));
  rules = {};
  rules.bias = {{8, 1.0F}};
  EXPECT_EQ(message(rules), "logit_bias: expected token ids from 0 to 7, got 8");
  rules.bias = {{7, 101.0F}};
  EXPECT_THAT(message(rules), ::testing::HasSubstr("from -100 to 100, got 101"));
}

} // namespace
} // namespace ingot
