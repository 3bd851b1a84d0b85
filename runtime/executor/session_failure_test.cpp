// Every HIP call fails once: each failure must come back as a status that names it, leak nothing, and leave the session
// able to begin again.
#include <array>
#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <new>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/executor/batch_runner.h"
#include "runtime/executor/session.h"
#include "runtime/executor/testing/fake_hip.h"
#include "runtime/executor/testing/toy_device.h"
#include "runtime/executor/testing/toy_model.h"

namespace {
std::atomic<size_t> allocations = 0;
} // namespace

// Counts what the program allocates; operator new[] and the standard containers end here.
void *operator new(size_t bytes) {
  ++allocations;
  if (void *memory = std::malloc(bytes))
    return memory;
  std::abort();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

namespace ingot::testing {
namespace {

using ::testing::HasSubstr;

struct Switches {
  void *library = ::dlopen(INGOT_FAKE_HIP, RTLD_NOW | RTLD_LOCAL);
  template <typename Function> Function *find(const char *name) {
    return reinterpret_cast<Function *>(::dlsym(library, name));
  }
  decltype(&fakeHipFailAt) failAt = find<decltype(fakeHipFailAt)>("fakeHipFailAt");
  decltype(&fakeHipCalls) calls = find<decltype(fakeHipCalls)>("fakeHipCalls");
  decltype(&fakeHipLive) live = find<decltype(fakeHipLive)>("fakeHipLive");
  decltype(&fakeHipSetFreeBytes) setFreeBytes = find<decltype(fakeHipSetFreeBytes)>("fakeHipSetFreeBytes");
  decltype(&fakeHipSetIntegrated) setIntegrated = find<decltype(fakeHipSetIntegrated)>("fakeHipSetIntegrated");
};

std::vector<int32_t> somePrompt() { return {3, 1, 4, 1, 5, 9}; }

// Of the tokens of a reply.
constexpr std::array<uint32_t, 3> kMasks = {0xff, 0xff00, 0x10};

class SessionFailureTest : public ::testing::Test {
protected:
  void SetUp() override {
    path = std::filesystem::temp_directory_path() / absl::StrCat("ingot-failure-", ::getpid(), ".ingot");
    fake.failAt(0);
    auto opened = openToyDevice();
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_TRUE(writeToyModel(path, opened->code).ok());
  }
  void TearDown() override {
    std::filesystem::remove(path);
    fake.failAt(0);
    fake.setIntegrated(0);
    fake.setFreeBytes(uint64_t(1) << 30);
  }
  // Opens the device, loads, generates with masks and reads logits.
  absl::StatusOr<std::vector<int32_t>> everything() {
    auto toy = openToyDevice();
    if (!toy.ok())
      return toy.status();
    auto artifact = Artifact::open(path);
    if (!artifact.ok())
      return artifact.status();
    auto session = Session::load(*std::move(artifact), toy->device, toy->target, {});
    if (!session.ok())
      return session.status();
    if (absl::Status status = (*session)->prefill(somePrompt()); !status.ok())
      return status;
    std::vector<int32_t> reply;
    for (uint32_t mask : kMasks) {
      if (absl::Status status = (*session)->setMask(std::vector{mask}); !status.ok())
        return status;
      auto token = (*session)->next();
      if (!token.ok())
        return token.status();
      reply.push_back(*token);
    }
    if (absl::Status status = (*session)->decode(reply.back()); !status.ok())
      return status;
    if (auto row = (*session)->logits(); !row.ok())
      return row.status();
    return reply;
  }
  // Two sequences, by steps of both, and then one alone; with `processed` the host changes the logits of one.
  absl::StatusOr<std::vector<int32_t>> together(bool processed) {
    auto toy = openToyDevice();
    if (!toy.ok())
      return toy.status();
    auto artifact = Artifact::open(path);
    if (!artifact.ok())
      return artifact.status();
    auto model = Model::load(*std::move(artifact), toy->device, toy->target, {});
    if (!model.ok())
      return model.status();
    auto first = Session::create(*model), second = Session::create(*model);
    auto runner = BatchRunner::create(*model);
    for (const absl::Status &status : {first.status(), second.status(), runner.status()})
      if (!status.ok())
        return status;
    std::array<Session *, 2> sessions = {first->get(), second->get()};
    if (processed)
      if (absl::Status status = sessions[0]->setLogitsProcessor([](std::span<float>) { return true; }); !status.ok())
        return status;
    for (Session *session : sessions) {
      session->setAhead(true);
      if (absl::Status status = session->prefill(somePrompt()); !status.ok())
        return status;
      if (auto token = session->next(); !token.ok())
        return token.status();
    }
    std::vector<int32_t> reply;
    for (int count = 0; count < 3; ++count) {
      auto tokens = (*runner)->next(sessions);
      if (!tokens.ok())
        return tokens.status();
      for (const std::optional<int32_t> &token : *tokens)
        reply.push_back(token.value_or(-1));
    }
    auto token = sessions[0]->next();
    if (!token.ok())
      return token.status();
    reply.push_back(*token);
    return reply;
  }
  Switches fake;
  std::string path;
};

TEST_F(SessionFailureTest, EachCallFailsOnce) {
  for (int integrated : {0, 1}) {
    fake.setIntegrated(integrated);
    fake.failAt(0);
    auto reply = everything();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(*reply, toyMaskedReply(somePrompt(), kMasks));
    int calls = fake.calls();
    EXPECT_GT(calls, 40);
    EXPECT_EQ(fake.live(), 0);
    int survived = 0;
    for (int call = 1; call <= calls; ++call) {
      fake.failAt(call);
      auto result = everything();
      EXPECT_EQ(fake.live(), 0) << "leak after the failure of call " << call;
      if (result.ok())
        ++survived;
      else
        EXPECT_THAT(std::string(result.status().message()), HasSubstr("hipErrorUnknown")) << call;
    }
    // The last synchronisations, before a sequence ends and before its model does, are of no consequence; a failed
    // mapping falls back to a copy.
    EXPECT_LE(survived, integrated ? 4 : 2);
  }
}

TEST_F(SessionFailureTest, EachCallOfAStepOfSeveralFailsOnce) {
  ASSERT_TRUE(writeToyModel(path, openToyDevice()->code, {}, 0, 2).ok());
  std::vector<int32_t> alone = toyReply(somePrompt(), 5);
  for (bool processed : {false, true}) {
    fake.failAt(0);
    auto reply = together(processed);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(*reply, std::vector<int32_t>({alone[1], alone[1], alone[2], alone[2], alone[3], alone[3], alone[4]}));
    int calls = fake.calls(), survived = 0;
    for (int call = 1; call <= calls; ++call) {
      fake.failAt(call);
      auto result = together(processed);
      EXPECT_EQ(fake.live(), 0) << "leak after the failure of call " << call;
      survived += result.ok();
      if (!result.ok())
        EXPECT_THAT(std::string(result.status().message()), HasSubstr("hipErrorUnknown")) << call;
    }
    // The last synchronisations, of the runner, of each sequence and of the model.
    EXPECT_LE(survived, 4);
  }
}

TEST_F(SessionFailureTest, ASessionSurvivesAFailedCapture) {
  auto toy = openToyDevice();
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(toy.ok() && artifact.ok());
  auto session = Session::load(*std::move(artifact), toy->device, toy->target, {});
  ASSERT_TRUE(session.ok());
  ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
  ASSERT_TRUE((*session)->next().ok());
  fake.failAt(3);
  EXPECT_FALSE((*session)->next().ok());
  fake.failAt(0);
  ASSERT_TRUE((*session)->reset().ok());
  ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
  for (int32_t expected : toyReply(somePrompt(), 4))
    EXPECT_EQ(*(*session)->next(), expected);
}

TEST_F(SessionFailureTest, AMaskWhoseCopyFailedIsSentAgain) {
  auto toy = openToyDevice();
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(toy.ok() && artifact.ok());
  auto session = Session::load(*std::move(artifact), toy->device, toy->target, {});
  ASSERT_TRUE(session.ok());
  for (int call : {1, 2}) { // the copy of the bits, and that of the word which says that they count
    const std::vector<uint32_t> mask = {1U << (call + 3)};
    ASSERT_TRUE((*session)->reset().ok());
    ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
    fake.failAt(call);
    EXPECT_FALSE((*session)->setMask(mask).ok());
    fake.failAt(0);
    ASSERT_TRUE((*session)->setMask(mask).ok());
    EXPECT_EQ(*(*session)->next(), call + 3);
  }
}

TEST_F(SessionFailureTest, SteadyDecodeAllocatesNothing) {
  auto toy = openToyDevice();
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(toy.ok() && artifact.ok());
  auto session = Session::load(*std::move(artifact), toy->device, toy->target, {});
  ASSERT_TRUE(session.ok());
  ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
  ASSERT_TRUE((*session)->next().ok());
  ASSERT_TRUE((*session)->next().ok());
  size_t before = allocations;
  bool good = true;
  for (int step = 0; step < 10; ++step)
    good &= (*session)->next().ok();
  EXPECT_EQ(allocations, before);
  EXPECT_TRUE(good);
}

TEST_F(SessionFailureTest, TooLittleMemoryIsRefusedWithTheNumbers) {
  auto toy = openToyDevice();
  ASSERT_TRUE(toy.ok());
  auto load = [&]() -> absl::Status {
    auto artifact = Artifact::open(path);
    return artifact.ok() ? Session::load(*std::move(artifact), toy->device, toy->target, {}).status()
                         : artifact.status();
  };
  // 32 weights + 64 step + 64 page table + 16 tokens + 128 logits + 16 arena + 4 mask = 324, and 8 a position.
  fake.setFreeBytes(324 + 8 * 64);
  EXPECT_TRUE(load().ok());
  fake.setFreeBytes(324 + 8 * 64 - 1);
  absl::Status status = load();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--context 60 would fit"));
  fake.setFreeBytes(323);
  EXPECT_THAT(std::string(load().message()), HasSubstr("no context fits"));
}

TEST_F(SessionFailureTest, SeveralSequencesAreCounted) {
  auto toy = openToyDevice();
  ASSERT_TRUE(toy.ok());
  auto load = [&]() -> absl::Status {
    auto artifact = Artifact::open(path);
    SessionOptions options;
    options.sequences = 3;
    return artifact.ok() ? Model::load(*std::move(artifact), toy->device, toy->target, options).status()
                         : artifact.status();
  };
  // 32 weights + 16 arena, and for each 64 step + 64 page table + 16 tokens + 128 logits + 4 mask + 8 a position.
  fake.setFreeBytes(48 + 3 * (276 + 8 * 64));
  EXPECT_TRUE(load().ok());
  fake.setFreeBytes(48 + 3 * (276 + 8 * 64) - 1);
  absl::Status status = load();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 sequences of 64 positions"));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("--context 60 would fit, and so would --streams 2, or --kv-tokens 188 for all streams"));
}

TEST_F(SessionFailureTest, AChipWithoutANameIsFoundByTrying) {
  auto toy = openToyDevice();
  ASSERT_TRUE(toy.ok());
  std::string right = "toy code for gfx1151", wrong = "toy code for gfx1201";
  EXPECT_TRUE(*toy->device->accepts(std::as_bytes(std::span(right))));
  EXPECT_FALSE(*toy->device->accepts(std::as_bytes(std::span(wrong))));
}

} // namespace
} // namespace ingot::testing
