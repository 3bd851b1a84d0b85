// Steps that are launched ahead: the tokens are those of single steps, what was launched past the end of a reply leaves
// nothing behind, and a steady step allocates nothing.
#include "runtime/executor/session.h"

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <unistd.h>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

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
    ASSERT_TRUE(writeToyModel(path, toy.code).ok());
    auto artifact = Artifact::open(path);
    ASSERT_TRUE(artifact.ok());
    auto loaded = Session::load(*std::move(artifact), toy.device, toy.target, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    session = *std::move(loaded);
    session->setAhead(true);
  }
  void TearDown() override { std::filesystem::remove(path); }

  std::string path;
  ToyDevice toy;
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

} // namespace
} // namespace ingot::testing
