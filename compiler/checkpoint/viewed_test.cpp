#include "compiler/checkpoint/viewed.h"

#include <cmath>

#include <gmock/gmock.h>

#include "models/testing/fake_checkpoint.h"

namespace ingot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Function = TensorView::Function;

std::unique_ptr<FakeCheckpoint> base() {
  auto checkpoint = std::make_unique<FakeCheckpoint>(nlohmann::json{{"model_type", "x"}});
  checkpoint->set("packed", {6, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  checkpoint->set("expert.0", {1, 2}, {20, 21});
  checkpoint->set("expert.1", {1, 2}, {22, 23});
  checkpoint->set("vector", {2}, {0.5, -1});
  checkpoint->set("other", {1, 1}, {7});
  return checkpoint;
}

std::vector<float> rows(const Checkpoint &checkpoint, const char *name, uint64_t first, uint64_t count) {
  const TensorInfo *tensor = checkpoint.find(name);
  EXPECT_NE(tensor, nullptr) << name;
  std::vector<float> out(tensor ? count * tensor->columns() : 0);
  if (tensor)
    EXPECT_TRUE(checkpoint.readRows(*tensor, first, count, out).ok());
  return out;
}

TEST(ViewedTest, RowsOfAPackedTensorAreTensors) {
  auto seen = viewed(base(),
                     {{"odd", {3, 2}, {{"packed", 1, 1}, {"packed", 3, 1}, {"packed", 5, 1}}, Function::Same},
                      {"even", {3, 2}, {{"packed", 0, 1}, {"packed", 2, 1}, {"packed", 4, 1}}, Function::Same}},
                     {});
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ((*seen)->find("packed"), nullptr);
  EXPECT_THAT(rows(**seen, "odd", 0, 3), ElementsAre(2, 3, 6, 7, 10, 11));
  EXPECT_THAT(rows(**seen, "even", 1, 2), ElementsAre(4, 5, 8, 9));
  EXPECT_THAT(rows(**seen, "other", 0, 1), ElementsAre(7));
}

TEST(ViewedTest, TensorsApartAreOneOfThreeDimensions) {
  auto seen = viewed(base(), {{"experts", {2, 1, 2}, {{"expert.0", 0, 1}, {"expert.1", 0, 1}}, Function::Same}}, {});
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ((*seen)->find("experts")->rows(), 2U);
  EXPECT_EQ((*seen)->find("experts")->columns(), 2U);
  EXPECT_THAT(rows(**seen, "experts", 0, 2), ElementsAre(20, 21, 22, 23));
  EXPECT_THAT(rows(**seen, "experts", 1, 1), ElementsAre(22, 23));
}

TEST(ViewedTest, FactorsMultiply) {
  auto seen = viewed(base(), {{"half", {2}, {{"vector", 0, 1}}, Function::Same, 0.5F}}, {});
  auto plain = viewed(base(), {}, {});
  ASSERT_TRUE(seen.ok() && plain.ok());
  const std::vector<float> whole = rows(**plain, "vector", 0, 1), halves = rows(**seen, "half", 0, 1);
  EXPECT_THAT(halves, ElementsAre(whole[0] / 2, whole[1] / 2));
}

TEST(ViewedTest, FunctionsAreAppliedOnce) {
  auto seen = viewed(
      base(),
      {{"plus", {2}, {{"vector", 0, 1}}, Function::OnePlus}, {"exp", {2}, {{"vector", 0, 1}}, Function::NegativeExp}},
      {});
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_THAT(rows(**seen, "plus", 0, 1), ElementsAre(1.5F, 0));
  EXPECT_THAT(rows(**seen, "exp", 0, 1), ElementsAre(-std::exp(0.5F), -std::exp(-1.0F)));
}

TEST(ViewedTest, AViewMayReplaceATensorByItsOwnName) {
  auto seen =
      viewed(base(), {{"packed", {6, 2}, {{"packed", 3, 3}, {"packed", 0, 3}}, Function::Same}}, {{"model_type", "y"}});
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_THAT(rows(**seen, "packed", 2, 2), ElementsAre(10, 11, 0, 1));
  EXPECT_EQ((*seen)->config()["model_type"], "y");
  EXPECT_EQ((*seen)->tensors().size(), 5U);
}

TEST(ViewedTest, WhatIsNotThereIsRefusedByName) {
  auto missing = viewed(base(), {{"experts", {2, 1, 2}, {{"expert.0", 0, 1}, {"expert.2", 0, 1}}, Function::Same}}, {});
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("tensor 'expert.2' is missing"));
  auto beyond = viewed(base(), {{"tail", {2, 2}, {{"packed", 5, 2}}, Function::Same}}, {});
  EXPECT_THAT(std::string(beyond.status().message()), HasSubstr("'packed' has 6 rows of 2"));
  auto part = viewed(base(), {{"head", {2, 2}, {{"packed", 0, 2}}, Function::Same}}, {});
  EXPECT_THAT(std::string(part.status().message()), HasSubstr("only 2 are read"));
  auto wide = viewed(base(), {{"tail", {1, 3}, {{"packed", 0, 1}}, Function::Same}}, {});
  EXPECT_THAT(std::string(wide.status().message()), HasSubstr("of 3 are 'tail'"));
  auto twice = viewed(base(), {{"other", {1, 2}, {{"expert.0", 0, 1}}, Function::Same}}, {});
  EXPECT_THAT(std::string(twice.status().message()), HasSubstr("the same name"));
}

} // namespace
} // namespace ingot
