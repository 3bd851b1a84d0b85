// Steps that are launched ahead: the tokens are those of single steps, what was launched past the end of a reply leaves
// nothing behind, and a steady step allocates nothing, be it of one sequence or of several.
#include "runtime/executor/batch_runner.h"
#include "runtime/executor/session.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <new>
#include <unistd.h>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "runtime/executor/testing/fake_hip.h"
#include "runtime/executor/testing/toy_device.h"
#include "runtime/executor/testing/toy_model.h"

namespace {
std::atomic<uint64_t> allocations = 0;
}

// Counts every allocation of the program, the fake HIP library's included.
void *operator new(size_t bytes) {
  ++allocations;
  if (void *memory = std::malloc(bytes == 0 ? 1 : bytes))
    return memory;
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

namespace ingot::testing {
namespace {

class SessionAheadTest : public ::testing::Test {
protected:
  void SetUp() override {
    path = std::filesystem::temp_directory_path() / absl::StrCat("ingot-ahead-", ::getpid(), ".ingot");
    auto opened = openToyDevice();
    ASSERT_TRUE(opened.ok()) << opened.status();
    toy = *std::move(opened);
    ASSERT_TRUE(writeToyModel(path, toy.code, {}, 0, 8).ok());
    auto artifact = Artifact::open(path);
    ASSERT_TRUE(artifact.ok());
    SessionOptions options;
    options.sequences = 8;
    auto loaded = Model::load(*std::move(artifact), toy.device, toy.target, options);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model = *std::move(loaded);
    session = sessionOf();
  }
  std::unique_ptr<Session> sessionOf() {
    auto made = Session::create(model);
    EXPECT_TRUE(made.ok()) << made.status();
    (*made)->setAhead(true);
    return *std::move(made);
  }
  void TearDown() override { std::filesystem::remove(path); }

  std::string path;
  ToyDevice toy;
  std::shared_ptr<Model> model;
  std::unique_ptr<Session> session;
  const std::vector<int32_t> prompt = {3, 1, 4, 1, 5};
};

TEST_F(SessionAheadTest, TokensAreThoseOfSingleSteps) {
  for (float temperature : {0.0F, 1.0F}) {
    ASSERT_TRUE(session->reset().ok());
    ASSERT_TRUE(session->setSampling({.temperature = temperature, .seed = 3}).ok());
    ASSERT_TRUE(session->prefill(prompt).ok());
    for (int32_t expected : temperature > 0 ? toySampledReply(prompt, 20, 3) : toyReply(prompt, 20)) {
      auto token = session->next();
      ASSERT_TRUE(token.ok()) << token.status();
      EXPECT_EQ(*token, expected);
    }
  }
}

TEST_F(SessionAheadTest, AReplyThatEndsLeavesNothingBehind) {
  for (int count : {1, 2, 3, 8}) {
    ASSERT_TRUE(session->reset().ok());
    ASSERT_TRUE(session->prefill(prompt).ok());
    std::vector<int32_t> expected = toyReply(prompt, static_cast<size_t>(count));
    for (int32_t token : expected)
      EXPECT_EQ(*session->next(), token);
  }
  EXPECT_EQ(session->prefill(prompt).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(session->decode(1).ok());
  EXPECT_FALSE(session->snapshot().ok());
  ASSERT_TRUE(session->reset().ok());
  ASSERT_TRUE(session->prefill(prompt).ok());
  EXPECT_EQ(*session->next(), toyReply(prompt, 1)[0]);
}

TEST_F(SessionAheadTest, LimitAndContextEndIt) {
  session->limitReply(4);
  ASSERT_TRUE(session->prefill(prompt).ok());
  for (int32_t expected : toyReply(prompt, 4))
    EXPECT_EQ(*session->next(), expected);
  EXPECT_EQ(session->next().status().code(), absl::StatusCode::kOutOfRange);
  session->limitReply(0);
  ASSERT_TRUE(session->reset().ok());
  ASSERT_TRUE(session->prefill(prompt).ok());
  for (int32_t expected : toyReply(prompt, kToyContext - prompt.size() + 1))
    EXPECT_EQ(*session->next(), expected);
  EXPECT_EQ(session->next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(SessionAheadTest, ASteadyStepAllocatesNothing) {
  ASSERT_TRUE(session->prefill(prompt).ok());
  for (int warmUp = 0; warmUp < 3; ++warmUp)
    ASSERT_TRUE(session->next().ok());
  const uint64_t before = allocations;
  int32_t sum = 0;
  for (int step = 0; step < 40; ++step)
    sum += session->next().value_or(-1000);
  EXPECT_EQ(allocations - before, 0u);
  EXPECT_GE(sum, 0);
}

TEST_F(SessionAheadTest, ASteadyStepOfSeveralAllocatesNothing) {
  auto runner = BatchRunner::create(model);
  ASSERT_TRUE(runner.ok()) << runner.status();
  for (bool processed : {false, true}) {
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Session *> together;
    for (int count = 0; count < 5; ++count) {
      sessions.push_back(sessionOf());
      together.push_back(sessions.back().get());
      if (processed)
        ASSERT_TRUE(together.back()->setLogitsProcessor([count](std::span<float>) { return count % 2 > 0; }).ok());
      ASSERT_TRUE(together.back()->prefill(prompt).ok());
      ASSERT_TRUE(together.back()->next().ok());
    }
    // Two groups by turns write the tables anew each time; that allocates nothing either.
    std::span<Session *const> first = std::span(together).first(3), second = std::span(together).last(2);
    for (int warmUp = 0; warmUp < 3; ++warmUp)
      ASSERT_TRUE((*runner)->next(first).ok() && (*runner)->next(second).ok());
    const uint64_t before = allocations;
    int32_t sum = 0;
    for (int step = 0; step < 40; ++step)
      for (std::span<Session *const> group : {first, second})
        if (auto tokens = (*runner)->next(group); tokens.ok())
          for (const std::optional<int32_t> &token : *tokens)
            sum += token.value_or(-1000);
    EXPECT_EQ(allocations - before, 0u) << processed;
    EXPECT_GE(sum, 0);
  }
}

// What the host reuses while the device still has to read or write it would show here.
TEST_F(SessionAheadTest, ASlowDeviceChoosesTheSame) {
  void *library = ::dlopen(INGOT_FAKE_HIP, RTLD_NOW | RTLD_LOCAL);
  auto *setDeferred = reinterpret_cast<decltype(&fakeHipSetDeferred)>(::dlsym(library, "fakeHipSetDeferred"));
  ASSERT_TRUE(setDeferred);
  auto runner = BatchRunner::create(model);
  ASSERT_TRUE(runner.ok()) << runner.status();
  setDeferred(1);
  for (bool processed : {false, true}) {
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<std::vector<int32_t>> prompts, replies;
    std::array<std::vector<std::vector<float>>, 7> seen; // by processors
    for (int32_t index = 0; index < 7; ++index) {
      prompts.emplace_back(static_cast<size_t>(index) + 1, index);
      sessions.push_back(sessionOf());
      if (processed && index % 2 == 1) {
        auto twice = [&rows = seen[static_cast<size_t>(index)]](std::span<float> row) {
          rows.emplace_back(row.begin(), row.end());
          for (float &value : row)
            value *= 2;
          return true;
        };
        ASSERT_TRUE(sessions.back()->setLogitsProcessor(twice).ok());
      }
      ASSERT_TRUE(sessions.back()->prefill(prompts.back()).ok());
      replies.push_back({*sessions.back()->next()});
    }
    // Two groups, whose members change places; and now and then each goes on alone.
    for (size_t round = 0; round < 30; ++round) {
      std::vector<size_t> order;
      order.reserve(sessions.size());
      for (size_t index = 0; index < sessions.size(); ++index)
        order.push_back((index + round / 4) % sessions.size());
      for (auto [begin, count] : {std::pair{size_t{0}, size_t{4}}, {size_t{4}, size_t{3}}}) {
        std::vector<Session *> group;
        for (size_t place = begin; place < begin + count; ++place)
          group.push_back(sessions[order[place]].get());
        if (round % 7 == 6) {
          for (size_t place = 0; place < count; ++place)
            replies[order[begin + place]].push_back(*group[place]->next());
          continue;
        }
        auto tokens = (*runner)->next(group);
        ASSERT_TRUE(tokens.ok()) << tokens.status();
        for (size_t place = 0; place < count; ++place)
          if ((*tokens)[place])
            replies[order[begin + place]].push_back(*(*tokens)[place]);
      }
    }
    for (size_t index = 0; index < sessions.size(); ++index) {
      // Those that come to others whose step is under way wait for it.
      EXPECT_GE(replies[index].size(), processed ? 25u : 31u);
      EXPECT_EQ(replies[index], toyReply(prompts[index], replies[index].size())) << index;
      std::vector<int32_t> tokens = prompts[index];
      for (size_t token = 0; token < seen[index].size(); ++token) {
        EXPECT_EQ(seen[index][token], toyLogitsOf(tokens).back()) << index;
        tokens.push_back(replies[index][token]);
      }
    }
  }
  setDeferred(0);
}

} // namespace
} // namespace ingot::testing
