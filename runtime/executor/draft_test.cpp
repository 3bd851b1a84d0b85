// The policy alone: what a stream's drafts must be worth for it to go on drafting.
#include "runtime/executor/draft.h"

#include <gtest/gtest.h>

using namespace ingot;

namespace {

TEST(DraftPolicy, GoesOnWhileItPays) {
  DraftPolicy policy(3, 1.5);
  for (int step = 0; step < 1000; ++step) {
    ASSERT_TRUE(policy.wanted());
    policy.checked(step % 2 ? 1 : 0); // 1.5 tokens a step
  }
  EXPECT_EQ(policy.counts().steps, 1000U);
  EXPECT_EQ(policy.counts().drafted, 3000U);
  EXPECT_EQ(policy.counts().accepted, 500U);
  EXPECT_EQ(policy.counts().pauses, 0U);
}

// Steps until the policy changes its mind.
int plainSteps(DraftPolicy &policy) {
  int steps = 0;
  for (; !policy.wanted(); ++steps)
    policy.plain();
  return steps;
}
int draftingSteps(DraftPolicy &policy, uint32_t accepted) {
  int steps = 0;
  for (; policy.wanted(); ++steps)
    policy.checked(accepted);
  return steps;
}

TEST(DraftPolicy, PausesLongerEachTimeAndTriesAgain) {
  DraftPolicy policy(3, 1.9);
  for (int pause : {64, 128, 256, 512, 1024, 1024}) {
    EXPECT_EQ(draftingSteps(policy, 0), 16);
    EXPECT_EQ(plainSteps(policy), pause);
  }
  EXPECT_EQ(policy.counts().pauses, 6U);
}

TEST(DraftPolicy, ATrialThatPaysForgivesTheOnesBefore) {
  DraftPolicy policy(3, 1.9);
  for (int round = 0; round < 2; ++round) {
    draftingSteps(policy, 0);
    plainSteps(policy);
  }
  for (int step = 0; step < 16; ++step)
    policy.checked(3);
  draftingSteps(policy, 0);
  EXPECT_EQ(plainSteps(policy), 64);
}

TEST(DraftPolicy, NeverWithoutAHead) { EXPECT_FALSE(DraftPolicy(0, 1).wanted()); }

TEST(DraftPolicy, AStreamKnowsNothingOfTheLast) {
  DraftPolicy policy(3, 1.9);
  draftingSteps(policy, 0);
  policy.reset();
  EXPECT_TRUE(policy.wanted());
  EXPECT_EQ(policy.counts().steps, 0U);
}

} // namespace
