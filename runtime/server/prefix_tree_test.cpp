// What is put into the tree is found again, as long as the budget has room; what is forgotten is what was used longest
// ago; and a saved tree comes back as it was, or not at all.
#include "runtime/server/prefix_tree.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "runtime/server/prefix_file.h"

namespace ingot {
namespace {

using Tokens = std::vector<int32_t>;
using Bytes = std::vector<std::byte>;
using ::testing::HasSubstr;

constexpr uint32_t kBlock = 4;
constexpr uint64_t kPages = 1000, kState = 5000;
constexpr PrefixTree::Shape kShape = {kBlock, kPages, kState};

// Bytes that say which tokens they are of.
Bytes mark(std::span<const int32_t> prefix, uint64_t size, int32_t kind) {
  uint64_t sum = static_cast<uint64_t>(kind);
  for (int32_t token : prefix)
    sum = sum * 31 + static_cast<uint64_t>(token);
  return Bytes(size, static_cast<std::byte>(sum % 251));
}

// A device's pages; each block of a tree has one.
struct Memory {
  PagePool pool{5000};
  std::map<uint32_t, Bytes> lie; // by page

  std::vector<Page> hold(Bytes bytes) {
    Page page = pool.take().value();
    lie[page.index()] = std::move(bytes);
    return {page};
  }
  const Bytes &in(std::span<const Page> pages) {
    EXPECT_EQ(pages.size(), 1u);
    return lie[pages.front().index()];
  }
};

// What a request does with all whole blocks of its prompt. Gives the tokens that were found.
uint32_t run(Memory &memory, PrefixTree &tree, const Tokens &prompt) {
  std::vector<const PrefixTree::Block *> path = tree.find(prompt);
  const uint32_t found = path.empty() ? 0 : path.back()->position;
  EXPECT_LT(found, prompt.size());
  for (const PrefixTree::Block *block : path)
    EXPECT_EQ(memory.in(block->pages), mark(std::span(prompt).first(block->position), kPages, 1));
  if (!path.empty()) {
    EXPECT_EQ(*path.back()->state, mark(std::span(prompt).first(found), kState, 2));
  }
  for (uint32_t end = found + kBlock; end <= prompt.size(); end += kBlock) {
    std::span<const int32_t> prefix = std::span(prompt).first(end);
    PrefixTree::Missing missing = tree.missing(prefix);
    if (missing.pages || missing.state)
      tree.put(prefix, missing.pages ? memory.hold(mark(prefix, kPages, 1)) : std::vector<Page>(),
               mark(prefix, kState, 2));
  }
  EXPECT_EQ(tree.blocks() + memory.pool.free(), memory.pool.size());
  return found;
}

TEST(PrefixTreeTest, PromptsAreFoundAgain) {
  Memory treeMemory;
  PrefixTree tree(kShape, 1 << 20);
  EXPECT_TRUE(tree.find({}).empty());
  EXPECT_EQ(run(treeMemory, tree, Tokens(10, 1)), 0u);
  EXPECT_EQ(run(treeMemory, tree, Tokens(10, 1)), 8u);
  // Never all of a prompt: its last token must go through the model.
  EXPECT_EQ(run(treeMemory, tree, Tokens(8, 1)), 4u);
  EXPECT_EQ(run(treeMemory, tree, Tokens(4, 1)), 0u);
  Tokens parts = {1, 1, 1, 1, 2, 2, 2, 2, 3};
  EXPECT_EQ(run(treeMemory, tree, parts), 4u);
  EXPECT_EQ(run(treeMemory, tree, parts), 8u);
  EXPECT_EQ(tree.blocks(), 3u);
}

TEST(PrefixTreeTest, WhatWasUsedLongestAgoIsForgotten) {
  Memory treeMemory;
  PrefixTree tree(kShape, 10 * (kPages + kState));
  Tokens first(17, 1), second(17, 2), third(17, 3);
  run(treeMemory, tree, first);
  run(treeMemory, tree, second);
  EXPECT_EQ(run(treeMemory, tree, first), 16u);
  run(treeMemory, tree, third);
  // Room for nine or so: the second one paid, at first with states within it.
  EXPECT_EQ(run(treeMemory, tree, first), 16u);
  EXPECT_EQ(run(treeMemory, tree, third), 16u);
  EXPECT_LE(tree.bytes(), 10 * (kPages + kState));
  EXPECT_GT(tree.blocks(), 8u);
}

TEST(PrefixTreeTest, OneLongPromptKeepsItsEndAndSomeOfItsWay) {
  Memory treeMemory;
  PrefixTree tree(kShape, 40 * kPages + 4 * kState);
  Tokens prompt(121, 7);
  run(treeMemory, tree, prompt);
  EXPECT_EQ(run(treeMemory, tree, prompt), 120u);
  Tokens half(prompt.begin(), prompt.begin() + 70);
  half.push_back(8);
  EXPECT_GT(run(treeMemory, tree, half), 0u);
}

TEST(PrefixTreeTest, NothingIsRememberedWithoutABudget) {
  Memory treeMemory;
  PrefixTree tree(kShape, 0);
  Tokens prompt(9, 1);
  EXPECT_FALSE(tree.missing(std::span(prompt).first(4)).pages);
  EXPECT_EQ(run(treeMemory, tree, prompt), 0u);
  EXPECT_EQ(run(treeMemory, tree, prompt), 0u);
  // A budget that not even one block fits.
  Memory smallMemory;
  PrefixTree small(kShape, 100);
  EXPECT_EQ(run(smallMemory, small, prompt), 0u);
  EXPECT_EQ(run(smallMemory, small, prompt), 0u);
  EXPECT_EQ(small.blocks(), 0u);
  EXPECT_EQ(small.bytes(), 0u);
}

TEST(PrefixTreeTest, RandomPromptsUnderEveryBudget) {
  for (uint64_t budget : {uint64_t{20'000}, uint64_t{60'000}, uint64_t{1} << 30}) {
    Memory treeMemory;
    PrefixTree tree(kShape, budget);
    std::mt19937 random(3); // NOLINT(bugprone-random-generator-seed): a test repeats itself
    uint64_t found = 0;
    for (int round = 0; round < 2000; ++round) {
      Tokens prompt(random() % 24 + 1);
      for (int32_t &token : prompt)
        token = random() % 8 == 0 ? static_cast<int32_t>(random() % 3) : 5;
      found += run(treeMemory, tree, prompt);
      ASSERT_LE(tree.bytes(), budget);
    }
    EXPECT_GT(found, 0u);
    uint64_t visited = 0;
    tree.visit([&](const PrefixTree::Block &) { ++visited; });
    EXPECT_EQ(visited, tree.blocks());
  }
}

class PrefixFileTest : public ::testing::Test {
protected:
  void SetUp() override {
    path = std::filesystem::temp_directory_path() / absl::StrCat("ingot-prefixes-", ::getpid());
    for (int32_t start : {1, 2, 3}) {
      Tokens prompt(13, 9);
      prompt[5] = start;
      run(treeMemory, tree, prompt);
    }
    run(treeMemory, tree, Tokens(9, 4));
    ASSERT_TRUE(savePrefixes(tree, 77, [&](std::span<const Page> pages) { return treeMemory.in(pages); }, path).ok());
    std::ifstream in(path, std::ios::binary);
    saved.assign(std::istreambuf_iterator<char>(in), {});
  }
  void TearDown() override { std::filesystem::remove(path); }
  static absl::Status restore(const std::string &bytes, Memory &memory, PrefixTree &into, uint64_t identity = 77) {
    std::istringstream in(bytes);
    auto make = [&](std::span<const std::byte> pages) -> absl::StatusOr<std::vector<Page>> {
      return memory.hold({pages.begin(), pages.end()});
    };
    return restorePrefixes(in, identity, make, into);
  }

  Memory treeMemory;
  PrefixTree tree{kShape, 1 << 20};
  std::string path, saved;
};

TEST_F(PrefixFileTest, ASavedTreeComesBack) {
  Memory backMemory;
  PrefixTree back(kShape, 1 << 20);
  ASSERT_TRUE(restore(saved, backMemory, back).ok());
  EXPECT_EQ(back.blocks(), tree.blocks());
  EXPECT_EQ(back.bytes(), tree.bytes());
  for (int32_t start : {1, 2, 3}) {
    Tokens prompt(13, 9);
    prompt[5] = start;
    EXPECT_EQ(run(backMemory, back, prompt), 12u);
  }
  // With less room what was used last is kept.
  Memory smallMemory;
  PrefixTree small(kShape, 3 * (kPages + kState));
  ASSERT_TRUE(restore(saved, smallMemory, small).ok());
  EXPECT_LE(small.bytes(), 3 * (kPages + kState));
  EXPECT_EQ(run(smallMemory, small, Tokens(9, 4)), 8u);
}

TEST_F(PrefixFileTest, AnotherFileIsNotUsed) {
  Memory backMemory;
  PrefixTree back(kShape, 1 << 20);
  EXPECT_TRUE(absl::IsFailedPrecondition(restore(saved, backMemory, back, 78)));
  Memory otherMemory;
  PrefixTree other({kBlock, kPages + 1, kState}, 1 << 20);
  EXPECT_TRUE(absl::IsFailedPrecondition(restore(saved, otherMemory, other)));
  EXPECT_TRUE(absl::IsDataLoss(restore("", backMemory, back)));
  EXPECT_TRUE(absl::IsDataLoss(restore(std::string(100, 'x'), backMemory, back)));
  EXPECT_EQ(back.blocks() + other.blocks(), 0u);
}

TEST_F(PrefixFileTest, DamageNeverComesBackAsAPrompt) {
  std::mt19937 random(5); // NOLINT(bugprone-random-generator-seed): a test repeats itself
  for (int round = 0; round < 300; ++round) {
    std::string damaged = saved;
    if (round % 3 == 0)
      damaged.resize(random() % saved.size());
    else
      damaged[random() % saved.size()] ^= static_cast<char>(1 << random() % 8);
    Memory backMemory;
    PrefixTree back(kShape, 1 << 20);
    EXPECT_FALSE(restore(damaged, backMemory, back).ok());
    for (int32_t start : {1, 2, 3}) {
      Tokens prompt(13, 9);
      prompt[5] = start;
      run(backMemory, back, prompt); // compares every byte that is found
    }
  }
  Memory backMemory;
  PrefixTree back(kShape, 1 << 20);
  EXPECT_THAT(std::string(restore(saved + "x", backMemory, back).message()), HasSubstr("follow"));
}

} // namespace
} // namespace ingot
