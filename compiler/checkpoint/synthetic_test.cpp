#include "compiler/checkpoint/synthetic.h"

#include <cmath>

#include <gmock/gmock.h>

namespace ingot {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Le;

std::vector<float> rows(const Checkpoint &checkpoint, const TensorInfo &tensor, uint64_t first, uint64_t count) {
  std::vector<float> out(count * tensor.columns());
  EXPECT_TRUE(checkpoint.readRows(tensor, first, count, out).ok());
  return out;
}

TEST(SyntheticTest, ATensorComesIntoBeingOnDemand) {
  auto made = makeUp({{"model_type", "x"}}, "x", 1);
  EXPECT_EQ(made->find("w"), nullptr);
  const TensorInfo *tensor = made->demand("w", {3, 5, 7});
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->rows(), 15U);
  EXPECT_EQ(made->find("w"), made->demand("w", {3, 5, 7}));
  EXPECT_EQ(made->tensors().size(), 1U);
  std::vector<float> out(7);
  EXPECT_EQ(made->readRows(*tensor, 15, 1, out).code(), absl::StatusCode::kOutOfRange);
}

TEST(SyntheticTest, ValuesDependOnSeedNameAndPlaceAlone) {
  auto one = makeUp({}, "x", 1), two = makeUp({}, "y", 1), other = makeUp({}, "x", 2);
  for (auto *made : {one.get(), two.get(), other.get()})
    made->demand("w", {40, 30});
  const std::vector<float> whole = rows(*one, *one->find("w"), 0, 40);
  EXPECT_EQ(whole, rows(*two, *two->find("w"), 0, 40));
  EXPECT_NE(whole, rows(*other, *other->find("w"), 0, 40));
  EXPECT_NE(whole, rows(*one, *one->demand("v", {40, 30}), 0, 40));
  EXPECT_EQ(std::vector<float>(whole.begin() + 30 * 17, whole.begin() + 30 * 19), rows(*one, *one->find("w"), 17, 2));
}

TEST(SyntheticTest, AMatrixHasTheVarianceItSays) {
  auto made = makeUp({}, "x", 7);
  double sum = 0, squares = 0;
  for (float value : rows(*made, *made->demand("w", {256, 256}), 0, 256)) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  // Of 65536 independent numbers of variance 1 / 256: five standard errors.
  EXPECT_NEAR(sum / 65536, 0, 5 * 0.0625 / 256);
  EXPECT_NEAR(squares / 65536 * 256, 1, 5 * std::sqrt(0.8) / 256);
  EXPECT_THAT(rows(*made, *made->demand("layer.decay", {64}), 0, 1), Each(Le(0.0F)));
}

TEST(SyntheticTest, AConfigurationThatIsNoneIsRefused) {
  EXPECT_THAT(std::string(readConfiguration("/nonexistent").status().message()), HasSubstr("/nonexistent"));
}

} // namespace
} // namespace ingot
