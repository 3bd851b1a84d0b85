// The engine on the toy model, whose answers are worked out apart: what streams say does not depend on each other, and
// every way a request can end gives its slot back.
#include "runtime/server/engine.h"

#include <condition_variable>
#include <dlfcn.h>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "runtime/executor/testing/fake_hip.h"
#include "runtime/executor/testing/toy_device.h"
#include "runtime/executor/testing/toy_kernels.h"
#include "runtime/executor/testing/toy_model.h"

namespace ingot::testing {
namespace {

using ::testing::HasSubstr;
using Tokens = std::vector<int32_t>;

class Collector : public Listener {
public:
  explicit Collector(size_t stopAfter = SIZE_MAX) : stopAfter(stopAfter) {}
  bool onToken(const ChosenToken &token) override {
    std::unique_lock lock(mutex);
    tokens.push_back(token.id);
    details.push_back(token);
    changed.notify_all();
    changed.wait(lock, [this] { return tokens.size() < heldFrom; });
    return tokens.size() < stopAfter;
  }
  void onFinish(const Outcome &result) override {
    std::lock_guard lock(mutex);
    outcome = result;
    changed.notify_all();
  }
  Outcome wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return outcome.has_value(); });
    return *outcome;
  }
  // The engine's thread waits in the next onToken(), or in that of token number `from`, until release().
  void hold(size_t from = 0) {
    std::lock_guard lock(mutex);
    heldFrom = from;
  }
  void release() {
    std::lock_guard lock(mutex);
    heldFrom = SIZE_MAX;
    changed.notify_all();
  }
  void waitForTokens(size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return tokens.size() >= count; });
  }

  std::mutex mutex;
  std::condition_variable changed;
  size_t stopAfter;
  Tokens tokens;
  std::vector<ChosenToken> details;
  std::optional<Outcome> outcome;
  size_t heldFrom = SIZE_MAX;
};

GenerationRequest requestOf(Tokens prompt, uint32_t count, float temperature = 0, uint64_t seed = 0) {
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.maxTokens = count;
  request.sampling.temperature = temperature;
  request.sampling.seed = seed;
  return request;
}

// Allows for each token what it is told: a mask, or any token where there is none.
class Masks : public TokenFilter {
public:
  explicit Masks(std::vector<std::vector<uint32_t>> masks) : masks(std::move(masks)) {}
  std::span<const uint32_t> mask(uint32_t) override { return masks[accepted.size()]; }
  void accept(int32_t token) override { accepted.push_back(token); }
  absl::Status status() const override {
    return accepted.size() < failsAfter ? absl::OkStatus() : absl::InvalidArgumentError("it cannot go on");
  }

  std::vector<std::vector<uint32_t>> masks;
  Tokens accepted;
  size_t failsAfter = SIZE_MAX;
};

class EngineTest : public ::testing::Test {
protected:
  void SetUp() override {
    path = std::filesystem::temp_directory_path() / absl::StrCat("ingot-engine-", ::getpid(), ".ingot");
    auto opened = openToyDevice();
    ASSERT_TRUE(opened.ok()) << opened.status();
    toy = *std::move(opened);
    write(0);
  }
  // `streams`: requests that one step of the model takes.
  void write(uint32_t streams) { ASSERT_TRUE(writeToyModel(path, toy.code, {}, 0, streams).ok()); }
  void TearDown() override { std::filesystem::remove(path); }
  // `positions`: of all sequences together; 0: each may fill its context.
  std::unique_ptr<Engine> engineOf(uint32_t sequences, EngineOptions options = {}, uint64_t positions = 0) {
    auto artifact = Artifact::open(path);
    EXPECT_TRUE(artifact.ok());
    SessionOptions settings;
    settings.sequences = sequences;
    settings.positions = positions;
    auto model = Model::load(*std::move(artifact), toy.device, toy.target, settings);
    EXPECT_TRUE(model.ok()) << model.status();
    auto engine = Engine::create(*std::move(model), std::move(options));
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  static absl::StatusOr<std::shared_ptr<Engine::Job>> submit(Engine &engine, GenerationRequest request,
                                                             const std::shared_ptr<Collector> &listener) {
    auto jobs = engine.submit({{std::move(request), listener}});
    if (!jobs.ok())
      return jobs.status();
    return jobs->front();
  }

  std::string path;
  ToyDevice toy;
};

TEST_F(EngineTest, SixteenStreamsGiveWhatEachGivesAlone) {
  for (uint32_t together : {0u, 2u, 8u}) {
    write(together);
    auto engine = engineOf(16);
    EXPECT_EQ(engine->requestsPerStep(), std::max(together, 1u));
    std::vector<std::shared_ptr<Collector>> streams;
    std::vector<Tokens> prompts;
    for (int32_t index = 0; index < 32; ++index) {
      Tokens prompt;
      for (int32_t token = 0; token <= index % 13; ++token)
        prompt.push_back((7 * index + token * token) % kToyVocabulary);
      prompts.push_back(prompt);
      streams.push_back(std::make_shared<Collector>());
      GenerationRequest request = requestOf(prompt, 20, static_cast<float>(index % 2), uint64_t(index));
      if (index % 5 == 4) // the host looks at its logits, which changes no token
        request.logprobs = 1;
      ASSERT_TRUE(submit(*engine, request, streams.back()).ok());
    }
    for (int32_t index = 0; index < 32; ++index) {
      const Tokens &prompt = prompts[static_cast<size_t>(index)];
      Outcome outcome = streams[static_cast<size_t>(index)]->wait();
      EXPECT_EQ(outcome.finish, Finish::kLength);
      EXPECT_EQ(outcome.replyTokens, 20u);
      EXPECT_EQ(streams[static_cast<size_t>(index)]->tokens,
                index % 2 ? toySampledReply(prompt, 20, static_cast<uint32_t>(index)) : toyReply(prompt, 20))
          << index;
    }
    engine->drain(std::chrono::seconds(10));
    EngineCounters counters = engine->counters();
    EXPECT_EQ(counters.running, 0u);
    EXPECT_EQ(counters.waiting, 0u);
    EXPECT_EQ(counters.finishedByLength, 32u);
    EXPECT_EQ(counters.replyTokens, 32u * 20);
    EXPECT_EQ(counters.batches.steps > 0, together > 0);
    EXPECT_LE(counters.batches.rows + counters.batches.padding, together * counters.batches.steps);
  }
}

// Each of sixteen gives a token in each round: eight at a time, so by two steps.
TEST_F(EngineTest, StepsOfSeveralTakeAllOfThem) {
  write(8);
  auto engine = engineOf(16);
  std::vector<std::shared_ptr<Collector>> streams;
  for (int32_t index = 0; index < 16; ++index) {
    streams.push_back(std::make_shared<Collector>());
    if (index == 0)
      streams.back()->hold();
    ASSERT_TRUE(submit(*engine, requestOf({index}, 60), streams.back()).ok());
  }
  streams.front()->release();
  for (int32_t index = 0; index < 16; ++index) {
    streams[static_cast<size_t>(index)]->wait();
    EXPECT_EQ(streams[static_cast<size_t>(index)]->tokens, toyReply({index}, 60));
  }
  engine->drain(std::chrono::seconds(10));
  EngineCounters counters = engine->counters();
  // 16 x 59 tokens after the first ones; now and then one of them is alone.
  EXPECT_GE(counters.batches.rows, 14u * 59);
  EXPECT_LE(counters.batches.rows, 16u * 60);
  EXPECT_LE(counters.decodeSteps, 16u * 60 / 3);
}

TEST_F(EngineTest, RandomArrivalsCancelsAndSharedPrefixes) {
  write(4);
  auto engine = engineOf(6, {.maxQueue = 1000, .cacheBytes = 1 << 20, .cacheFolder = {}, .endOfSequence = {}});
  std::mt19937 random(7); // NOLINT(bugprone-random-generator-seed): a test repeats itself
  struct Case {
    Tokens prompt;
    std::shared_ptr<Collector> listener;
    std::shared_ptr<Engine::Job> job;
    bool sampled, cancelled, stops;
  };
  std::vector<Case> cases;
  for (int index = 0; index < 300; ++index) {
    // One of three beginnings, then a few tokens of its own.
    Tokens prompt(random() % 30, static_cast<int32_t>(random() % 3));
    for (size_t own = random() % 5 + 1; own > 0; --own)
      prompt.push_back(static_cast<int32_t>(random() % kToyVocabulary));
    bool stops = random() % 4 == 0;
    auto listener = std::make_shared<Collector>(stops ? 3 : SIZE_MAX);
    const bool sampled = random() % 3 == 0;
    auto job = submit(*engine, requestOf(prompt, 10, sampled ? 1 : 0, 5), listener);
    ASSERT_TRUE(job.ok()) << job.status();
    bool cancel = random() % 3 == 0;
    if (cancel)
      (*job)->cancel();
    cases.push_back({prompt, listener, *job, sampled, cancel, stops});
    if (random() % 8 == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (Case &each : cases) {
    Outcome outcome = each.listener->wait();
    const size_t length = each.stops ? 3 : 10;
    Tokens expected = each.sampled ? toySampledReply(each.prompt, length, 5) : toyReply(each.prompt, length);
    if (outcome.finish == Finish::kCancelled) {
      EXPECT_TRUE(each.cancelled);
      expected.resize(each.listener->tokens.size());
    } else {
      EXPECT_EQ(outcome.finish, each.stops ? Finish::kStopped : Finish::kLength);
    }
    EXPECT_EQ(each.listener->tokens, expected);
  }
  engine->drain(std::chrono::seconds(10));
  EngineCounters counters = engine->counters();
  EXPECT_EQ(counters.running + counters.waiting, 0u);
  EXPECT_EQ(counters.finishedByLength + counters.stopped + counters.cancelled, 300u);
  EXPECT_GT(counters.hits, 20u);
  EXPECT_GT(counters.batches.steps, 20u);
}

// Filters beside each other and beside plain requests: by steps of several where the model has them. Of every third the
// host looks at the logits too.
TEST_F(EngineTest, FilteredRequestsGiveWhatEachGivesAlone) {
  for (uint32_t together : {0u, 2u, 8u}) {
    write(together);
    auto engine = engineOf(16);
    struct Case {
      Tokens prompt;
      std::vector<uint32_t> masks;
      std::optional<uint32_t> seed;
      bool filtered;
      std::shared_ptr<Masks> filter;
      std::shared_ptr<Collector> listener = std::make_shared<Collector>();
    };
    std::vector<Case> cases;
    for (uint32_t index = 0; index < 16; ++index) {
      Case one{{static_cast<int32_t>(index), 2}, {}, {}, index % 5 != 4, nullptr};
      for (uint32_t token = 0; token < 30; ++token) // after two tokens of any kind
        one.masks.push_back(!one.filtered || token < 2 ? ~0U : 0x11111111U << (token + index) % 4 | 0x80U);
      const bool logprobs = index % 3 == 2;
      if (index % 2 == 0)
        one.seed = index;
      GenerationRequest request = requestOf(one.prompt, 30, one.seed ? 1 : 0, index);
      if (one.filtered) {
        std::vector<std::vector<uint32_t>> told(2);
        for (size_t token = 2; token < one.masks.size(); ++token)
          told.push_back({one.masks[token]});
        request.filter = one.filter = std::make_shared<Masks>(told);
      }
      if (logprobs)
        request.logprobs = 1;
      if (index == 0)
        one.listener->hold();
      ASSERT_TRUE(submit(*engine, std::move(request), one.listener).ok());
      cases.push_back(std::move(one));
    }
    cases.front().listener->release();
    for (size_t index = 0; index < cases.size(); ++index) {
      const Case &one = cases[index];
      EXPECT_EQ(one.listener->wait().finish, Finish::kLength);
      EXPECT_EQ(one.listener->tokens, toyMaskedReply(one.prompt, one.masks, one.seed)) << index << " of " << together;
      if (one.filter)
        EXPECT_EQ(one.filter->accepted, one.listener->tokens);
    }
    engine->drain(std::chrono::seconds(10));
    // Now and then one of sixteen is alone.
    EngineCounters counters = engine->counters();
    EXPECT_EQ(counters.batches.rows >= 14u * 27, together > 0) << counters.batches.rows;
  }
}

// Requests whose logits the host sees or changes, each in a way of its own.
std::vector<GenerationRequest> hostedRequests(uint32_t count) {
  std::vector<GenerationRequest> requests;
  requests.reserve(10);
  for (uint32_t index = 0; index < 8; ++index)
    requests.push_back(requestOf({static_cast<int32_t>(index), 2}, count, index % 2 ? 1 : 0, index));
  requests[0].rules.repetition = 100;
  requests[1].rules.bias = {{7, 50}, {9, -50}};
  requests[2].rules = {.presence = 2, .frequency = -2, .repetition = 3, .minP = 0, .bias = {}};
  requests[3].rules.minP = 0.5F;
  requests[4].logprobs = 2;
  requests[5].logprobs = 0;
  requests[5].rules.repetition = 10;
  std::vector<std::vector<uint32_t>> masks(count, {0x0f0f0f0fU});
  requests[6].filter = std::make_shared<Masks>(masks);
  requests[6].logprobs = 1;
  requests[7].filter = std::make_shared<Masks>(masks);
  requests[7].rules.minP = 0.9F;
  requests.push_back(requestOf({3, 1}, count));
  requests.push_back(requestOf({4, 1}, count, 1, 4));
  return requests;
}

TEST_F(EngineTest, HostedRequestsShareStepsAndGiveWhatEachGivesAlone) {
  constexpr uint32_t kTokens = 40;
  std::vector<std::shared_ptr<Collector>> alone;
  {
    auto engine = engineOf(1); // by a model that knows no steps of several
    for (GenerationRequest &request : hostedRequests(kTokens)) {
      alone.push_back(std::make_shared<Collector>());
      ASSERT_TRUE(submit(*engine, std::move(request), alone.back()).ok());
      EXPECT_EQ(alone.back()->wait().finish, Finish::kLength);
    }
  }
  EXPECT_NE(alone[0]->tokens, toyReply({0, 2}, kTokens));
  EXPECT_NE(alone[5]->tokens, toySampledReply({5, 2}, kTokens, 5));
  EXPECT_EQ(alone[8]->tokens, toyReply({3, 1}, kTokens));
  // Min-p leaves the likeliest of those that may come; it would leave none if it saw the others.
  EXPECT_EQ(alone[7]->tokens, toyMaskedReply({7, 2}, std::vector<uint32_t>(kTokens, 0x0f0f0f0fU), 7));
  for (int32_t index : {4, 5, 6}) { // of what the model gave, whatever became of it
    Tokens sequence = {index, 2};
    for (const ChosenToken &token : alone[static_cast<size_t>(index)]->details) {
      EXPECT_EQ(token.logprob, logprobOf(toyLogitsOf(sequence).back(), token.id).logprob) << index;
      sequence.push_back(token.id);
    }
  }
  for (uint32_t together : {2u, 8u}) {
    write(together);
    auto engine = engineOf(16);
    std::vector<std::shared_ptr<Collector>> beside;
    for (GenerationRequest &request : hostedRequests(kTokens)) {
      beside.push_back(std::make_shared<Collector>());
      if (beside.size() == 1)
        beside.back()->hold();
      ASSERT_TRUE(submit(*engine, std::move(request), beside.back()).ok());
    }
    beside.front()->release();
    for (size_t index = 0; index < beside.size(); ++index) {
      EXPECT_EQ(beside[index]->wait().finish, Finish::kLength);
      EXPECT_EQ(beside[index]->tokens, alone[index]->tokens) << index << " of " << together;
      for (size_t token = 0; token < kTokens; ++token) {
        const ChosenToken &a = alone[index]->details[token], &b = beside[index]->details[token];
        EXPECT_EQ(a.logprob, b.logprob);
        ASSERT_EQ(a.likeliest.size(), b.likeliest.size());
        for (size_t place = 0; place < a.likeliest.size(); ++place)
          EXPECT_EQ(a.likeliest[place].logprob, b.likeliest[place].logprob);
      }
    }
    engine->drain(std::chrono::seconds(10));
    // Each gives all but its first token by steps of several, but for a round or two when they come.
    EngineCounters counters = engine->counters();
    EXPECT_GE(counters.batches.rows, 10u * (kTokens - 4));
    EXPECT_LE(counters.decodeSteps, 10u * kTokens * 2 / 3);
  }
}

// A listener that has enough, a cancelled one and the context's end, each in the middle of such a set.
TEST_F(EngineTest, HostedRequestsLeaveTheOthersAsTheyAre) {
  write(8);
  auto engine = engineOf(8);
  std::vector<std::shared_ptr<Collector>> listeners;
  std::vector<std::shared_ptr<Engine::Job>> jobs;
  std::vector<Tokens> prompts = {{1}, {2}, {3, 1}, Tokens(50, 4), {5}, {6}};
  for (size_t index = 0; index < prompts.size(); ++index) {
    listeners.push_back(std::make_shared<Collector>(index == 1 ? 7 : SIZE_MAX));
    GenerationRequest request = requestOf(prompts[index], index == 3 ? 1000 : 45, index % 2 ? 1 : 0, index);
    if (index < 5)
      request.logprobs = 0;
    if (index < 5)
      request.rules.bias = {{1, 0}}; // which sends the row back as it was
    if (index == 0)
      listeners.back()->hold(12);
    auto job = submit(*engine, std::move(request), listeners.back());
    ASSERT_TRUE(job.ok()) << job.status();
    jobs.push_back(*job);
  }
  listeners[0]->waitForTokens(12);
  jobs[2]->cancel();
  listeners[0]->release();
  std::vector<Finish> ends;
  ends.reserve(listeners.size());
  for (const auto &listener : listeners)
    ends.push_back(listener->wait().finish);
  EXPECT_EQ(ends, (std::vector{Finish::kLength, Finish::kStopped, Finish::kCancelled, Finish::kLength, Finish::kLength,
                               Finish::kLength}));
  for (size_t index = 0; index < prompts.size(); ++index) {
    const Tokens &reply = listeners[index]->tokens;
    const size_t length = index == 1 ? 7 : index == 2 ? reply.size() : index == 3 ? kToyContext - 50 + 1 : 45;
    EXPECT_EQ(reply, index % 2 ? toySampledReply(prompts[index], length, static_cast<uint32_t>(index))
                               : toyReply(prompts[index], length))
        << index;
  }
  EXPECT_LT(listeners[2]->tokens.size(), 45u);
  EXPECT_GT(engine->counters().batches.rows, 100u);
}

TEST_F(EngineTest, AFilterThatCannotGoOnEndsItsRequestAlone) {
  write(4);
  auto engine = engineOf(4);
  auto other = std::make_shared<Collector>();
  other->hold();
  ASSERT_TRUE(submit(*engine, requestOf({5}, 40, 1, 9), other).ok());
  std::vector<std::shared_ptr<Collector>> listeners;
  for (bool logprobs : {false, true})
    for (size_t failsAfter : {size_t{4}, SIZE_MAX}) {
      GenerationRequest request = requestOf({3}, 20);
      // The fourth token fails it, or the mask of the fifth allows none.
      auto filter = std::make_shared<Masks>(std::vector<std::vector<uint32_t>>{{}, {~0U}, {}, {~0U}, {0}});
      filter->failsAfter = failsAfter;
      request.filter = filter;
      if (logprobs)
        request.logprobs = 0;
      listeners.push_back(std::make_shared<Collector>());
      ASSERT_TRUE(submit(*engine, std::move(request), listeners.back()).ok());
    }
  other->release();
  for (size_t index = 0; index < listeners.size(); ++index) {
    Outcome outcome = listeners[index]->wait();
    EXPECT_EQ(outcome.finish, Finish::kFailed);
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr(index % 2 ? "at least one token" : "it cannot go on"));
    EXPECT_EQ(listeners[index]->tokens, toyReply({3}, index % 2 ? 4 : 3));
  }
  EXPECT_EQ(other->wait().finish, Finish::kLength);
  EXPECT_EQ(other->tokens, toySampledReply({5}, 40, 9));
}

TEST_F(EngineTest, ASharedPrefixIsNotComputedAgain) {
  auto engine = engineOf(2);
  Tokens prefix(40, 5), first = prefix, second = prefix;
  first.push_back(1);
  second.push_back(2);
  auto run = [&](const Tokens &prompt) {
    auto listener = std::make_shared<Collector>();
    EXPECT_TRUE(submit(*engine, requestOf(prompt, 6), listener).ok());
    Outcome outcome = listener->wait();
    EXPECT_EQ(listener->tokens, toyReply(prompt, 6));
    return outcome;
  };
  EXPECT_EQ(run(first).reusedTokens, 0u);
  engine->drain(std::chrono::milliseconds(0)); // settles the counters; the next submit must still be refused
  EXPECT_EQ(engine->submit({{requestOf(second, 6), std::make_shared<Collector>()}}).status().code(),
            absl::StatusCode::kUnavailable);
  engine = engineOf(2);
  EXPECT_EQ(run(first).reusedTokens, 0u);
  EXPECT_EQ(run(second).reusedTokens, 40u);
  // The same prompt again: all whole chunks before its last token.
  EXPECT_EQ(run(first).reusedTokens, 40u);
  // A longer conversation goes on from the end of the first turn's prompt.
  Tokens longer = first;
  for (int32_t token : toyReply(first, 6))
    longer.push_back(token);
  longer.insert(longer.end(), {9, 9});
  EXPECT_EQ(run(longer).reusedTokens, 40u);
  EXPECT_EQ(run({3, 3, 3}).reusedTokens, 0u);
  engine->drain(std::chrono::seconds(1));
  EngineCounters counters = engine->counters();
  EXPECT_EQ(counters.hits, 3u);
  EXPECT_EQ(counters.lookups, 5u);
  EXPECT_EQ(counters.reusedTokens, 120u);
  // 41 tokens are 11 chunks of 4; those that hit ran one (three for the longer one).
  EXPECT_EQ(counters.prefillChunks, 11u + 1 + 1 + 3 + 1);
}

TEST_F(EngineTest, APrefixIsTakenFromARequestThatStillRuns) {
  auto engine = engineOf(2);
  Tokens prompt(20, 4);
  auto slow = std::make_shared<Collector>();
  slow->hold();
  ASSERT_TRUE(submit(*engine, requestOf(prompt, 30), slow).ok());
  slow->waitForTokens(1);
  prompt.push_back(8);
  auto quick = std::make_shared<Collector>();
  ASSERT_TRUE(submit(*engine, requestOf(prompt, 5), quick).ok());
  slow->release();
  EXPECT_EQ(quick->wait().reusedTokens, 20u);
  EXPECT_EQ(quick->tokens, toyReply(prompt, 5));
  prompt.pop_back();
  slow->wait();
  EXPECT_EQ(slow->tokens, toyReply(prompt, 30));
}

TEST_F(EngineTest, SnapshotsStayWithinTheirMemory) {
  constexpr uint64_t kState = 100'000; // beside it what else a block takes is little
  ASSERT_TRUE(writeToyModel(path, toy.code, {}, kState).ok());
  auto engine = engineOf(2, {.maxQueue = 9, .cacheBytes = 4 * kState, .cacheFolder = {}, .endOfSequence = {}});
  auto run = [&](const Tokens &prompt) {
    auto listener = std::make_shared<Collector>();
    EXPECT_TRUE(submit(*engine, requestOf(prompt, 2), listener).ok());
    Outcome outcome = listener->wait();
    EXPECT_EQ(listener->tokens, toyReply(prompt, 2));
    return outcome.reusedTokens;
  };
  Tokens prompt(50, 6);
  EXPECT_EQ(run(prompt), 0u);
  // Of twelve borders some are left, the last of them among these.
  prompt.push_back(7);
  EXPECT_EQ(run(prompt), 48u);
  Tokens half(prompt.begin(), prompt.begin() + 30);
  half.push_back(1);
  uint32_t kept = run(half);
  EXPECT_LE(kept, 28u);
  EXPECT_EQ(kept % kToyChunk, 0u);
  engine->drain(std::chrono::seconds(1));
  EXPECT_LE(engine->counters().cacheBytes, 4 * kState);
  EXPECT_GT(engine->counters().cacheBytes, 0u);
  engine = engineOf(1, {.maxQueue = 9, .cacheBytes = 0, .cacheFolder = {}, .endOfSequence = {}});
  EXPECT_EQ(run(prompt), 0u);
  EXPECT_EQ(run(prompt), 0u);
}

TEST_F(EngineTest, RequestsWaitForPages) {
  for (uint32_t together : {0U, 4U}) {
    write(together);
    auto engine = engineOf(6, {}, 20 * kToyPage);
    auto slow = std::make_shared<Collector>();
    slow->hold();
    const Tokens prompt(20, 2);
    ASSERT_TRUE(submit(*engine, requestOf(prompt, 20), slow).ok());
    slow->waitForTokens(1);
    // Slots are idle, but the second needs more pages than nobody was promised; the small third does not overtake it.
    auto large = std::make_shared<Collector>(), small = std::make_shared<Collector>();
    const Tokens other(24, 3);
    ASSERT_TRUE(submit(*engine, requestOf(other, 19), large).ok());
    ASSERT_TRUE(submit(*engine, requestOf({7}, 2), small).ok());
    EngineCounters now = engine->counters();
    EXPECT_EQ(now.running, 1u);
    EXPECT_EQ(now.waiting, 2u);
    EXPECT_EQ(now.pages, 20u);
    EXPECT_EQ(now.promisedPages, 11u);
    slow->release();
    for (const auto &[listener, reply] :
         {std::pair{slow, toyReply(prompt, 20)}, {large, toyReply(other, 19)}, {small, toyReply({7}, 2)}}) {
      listener->wait();
      EXPECT_EQ(listener->tokens, reply);
    }
    // Each has a beginning of its own, so that what is remembered must give way too.
    std::vector<std::pair<Tokens, std::shared_ptr<Collector>>> many;
    for (int32_t index = 0; index < 30; ++index) {
      many.emplace_back(Tokens(static_cast<size_t>(8 + index), index), std::make_shared<Collector>());
      ASSERT_TRUE(submit(*engine, requestOf(many.back().first, 9), many.back().second).ok());
    }
    for (auto &[tokens, listener] : many) {
      listener->wait();
      EXPECT_EQ(listener->tokens, toyReply(tokens, 9));
    }
    engine->drain(std::chrono::seconds(1));
    now = engine->counters();
    EXPECT_EQ(now.promisedPages, 0u);
    EXPECT_EQ(now.freePages + now.cacheBlocks, now.pages);
    EXPECT_GT(now.cacheForgotten, 0u);
  }
  // No request can have more positions than there are, whatever its context.
  auto engine = engineOf(2, {}, 30);
  EXPECT_EQ(engine->context(), 32u);
  EXPECT_EQ(submit(*engine, requestOf(Tokens(32, 1), 1), std::make_shared<Collector>()).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto listener = std::make_shared<Collector>();
  ASSERT_TRUE(submit(*engine, requestOf(Tokens(30, 1), 100), listener).ok());
  EXPECT_EQ(listener->wait().finish, Finish::kLength);
  EXPECT_EQ(listener->tokens, toyReply(Tokens(30, 1), 3));
}

TEST_F(EngineTest, ALongPromptLetsOthersGoOn) {
  auto engine = engineOf(2);
  auto speaking = std::make_shared<Collector>();
  speaking->hold();
  ASSERT_TRUE(submit(*engine, requestOf({1}, 60), speaking).ok());
  speaking->waitForTokens(1);
  auto reading = std::make_shared<Collector>();
  ASSERT_TRUE(submit(*engine, requestOf(Tokens(60, 2), 1), reading).ok());
  speaking->release();
  reading->wait();
  // 60 tokens are 15 chunks; in each of those rounds the other stream gave a token.
  std::lock_guard lock(speaking->mutex);
  EXPECT_GE(speaking->tokens.size(), 15u);
}

TEST_F(EngineTest, EndOfSequenceStopsUnlessIgnored) {
  Tokens prompt = {3, 1, 4}, reply = toyReply(prompt, 12);
  EngineOptions options;
  options.endOfSequence = {reply[4]};
  auto engine = engineOf(1, options);
  size_t length = static_cast<size_t>(std::ranges::find(reply, reply[4]) - reply.begin());
  auto listener = std::make_shared<Collector>();
  ASSERT_TRUE(submit(*engine, requestOf(prompt, 12), listener).ok());
  EXPECT_EQ(listener->wait().finish, Finish::kEnd);
  EXPECT_EQ(listener->tokens, Tokens(reply.begin(), reply.begin() + static_cast<std::ptrdiff_t>(length)));
  GenerationRequest request = requestOf(prompt, 12);
  request.ignoreEnd = true;
  listener = std::make_shared<Collector>();
  ASSERT_TRUE(submit(*engine, request, listener).ok());
  EXPECT_EQ(listener->wait().finish, Finish::kLength);
  EXPECT_EQ(listener->tokens, reply);
}

TEST_F(EngineTest, LogprobsDoNotChangeTheTokens) {
  auto engine = engineOf(1);
  Tokens prompt = {3, 1, 4, 1, 5};
  for (float temperature : {0.0F, 1.0F}) {
    GenerationRequest request = requestOf(prompt, 8, temperature, 3);
    request.logprobs = 2;
    auto listener = std::make_shared<Collector>();
    ASSERT_TRUE(submit(*engine, request, listener).ok());
    listener->wait();
    Tokens expected = temperature > 0 ? toySampledReply(prompt, 8, 3) : toyReply(prompt, 8), sequence = prompt;
    EXPECT_EQ(listener->tokens, expected);
    for (const ChosenToken &token : listener->details) {
      std::vector<float> row = toyLogitsOf(sequence).back();
      EXPECT_EQ(token.logprob, logprobOf(row, token.id).logprob);
      ASSERT_EQ(token.likeliest.size(), 2u);
      EXPECT_EQ(token.likeliest[0].id, likeliest(row, 1)[0].id);
      sequence.push_back(token.id);
    }
  }
}

TEST_F(EngineTest, BiasAndPenaltiesReachTheChoice) {
  auto engine = engineOf(1);
  GenerationRequest request = requestOf({3, 1}, 5);
  // The toy's logits are integers up to 65535: only a bias of more than that would win, so the others are pushed down
  // by dividing.
  request.rules.repetition = 100;
  auto listener = std::make_shared<Collector>();
  ASSERT_TRUE(submit(*engine, request, listener).ok());
  listener->wait();
  Tokens sequence = {3, 1};
  for (int32_t token : listener->tokens) {
    std::vector<float> row = toyLogitsOf(sequence).back();
    for (int32_t seen : std::set<int32_t>(sequence.begin(), sequence.end()))
      row[static_cast<size_t>(seen)] /= 100;
    EXPECT_EQ(token, std::ranges::max_element(row) - row.begin());
    sequence.push_back(token);
  }
}

TEST_F(EngineTest, TheContextEndsAReply) {
  auto engine = engineOf(1);
  for (bool withLogits : {false, true}) {
    GenerationRequest request = requestOf(Tokens(60, 1), 1000);
    if (withLogits)
      request.logprobs = 0;
    auto listener = std::make_shared<Collector>();
    ASSERT_TRUE(submit(*engine, request, listener).ok());
    EXPECT_EQ(listener->wait().finish, Finish::kLength);
    EXPECT_EQ(listener->tokens, toyReply(Tokens(60, 1), 5)) << withLogits;
  }
}

TEST_F(EngineTest, WhatCannotRunIsRefused) {
  auto engine = engineOf(1, {.maxQueue = 2, .cacheBytes = 0, .cacheFolder = {}, .endOfSequence = {}});
  auto listener = std::make_shared<Collector>();
  auto refused = [&](const GenerationRequest &request) {
    return std::string(engine->submit({{request, listener}}).status().message());
  };
  EXPECT_THAT(refused(requestOf({}, 1)), HasSubstr("at least one token"));
  EXPECT_THAT(refused(requestOf(Tokens(64, 1), 1)), HasSubstr("no room for a reply"));
  EXPECT_THAT(refused(requestOf({32}, 1)), HasSubstr("from 0 to 31, got 32"));
  EXPECT_THAT(refused(requestOf({1}, 0)), HasSubstr("at least one token to generate"));
  EXPECT_THAT(refused(requestOf({1}, 1, -1)), HasSubstr("temperature"));
  GenerationRequest request = requestOf({1}, 1);
  request.rules.minP = 2;
  EXPECT_THAT(refused(request), HasSubstr("min_p"));

  auto holder = std::make_shared<Collector>();
  holder->hold();
  ASSERT_TRUE(submit(*engine, requestOf({1}, 3), holder).ok());
  holder->waitForTokens(1);
  std::vector<std::shared_ptr<Collector>> queued;
  for (int count = 0; count < 2; ++count) {
    queued.push_back(std::make_shared<Collector>());
    ASSERT_TRUE(submit(*engine, requestOf({2}, 3), queued.back()).ok());
  }
  absl::Status full = submit(*engine, requestOf({2}, 3), listener).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("2 wait already"));
  EXPECT_EQ(engine->counters().waiting, 2u);
  holder->release();
  for (const auto &each : queued)
    EXPECT_EQ(each->wait().finish, Finish::kLength);
}

TEST_F(EngineTest, DestructionCancelsEverything) {
  auto engine = engineOf(1);
  std::vector<std::shared_ptr<Collector>> streams;
  for (int count = 0; count < 5; ++count) {
    streams.push_back(std::make_shared<Collector>());
    ASSERT_TRUE(submit(*engine, requestOf({1}, 60), streams.back()).ok());
  }
  engine.reset();
  for (const auto &stream : streams)
    stream->wait();
}

TEST_F(EngineTest, ADeviceErrorEndsEveryRequestWithItsReason) {
  void *library = ::dlopen(INGOT_FAKE_HIP, RTLD_NOW | RTLD_LOCAL);
  auto *failAt = reinterpret_cast<decltype(&fakeHipFailAt)>(::dlsym(library, "fakeHipFailAt"));
  ASSERT_TRUE(failAt);
  for (bool together : {false, true}) { // in a prompt or a step alone; in a step of both
    write(together ? 2 : 0);
    auto engine = engineOf(2);
    auto first = std::make_shared<Collector>(), second = std::make_shared<Collector>();
    first->hold();
    ASSERT_TRUE(submit(*engine, requestOf({1}, 60), first).ok());
    first->waitForTokens(1);
    second->hold(together ? 5 : SIZE_MAX);
    ASSERT_TRUE(submit(*engine, requestOf({2}, 50), second).ok());
    if (together) {
      first->release();
      second->waitForTokens(5);
      EXPECT_GT(engine->counters().batches.steps, 2u);
      failAt(2);
      second->release();
    } else {
      failAt(5);
      first->release();
    }
    for (const auto &stream : {first, second}) {
      Outcome outcome = stream->wait();
      EXPECT_EQ(outcome.finish, Finish::kFailed);
      EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("hipErrorUnknown"));
    }
    failAt(0);
    EXPECT_FALSE(engine->status().ok());
    EXPECT_THAT(std::string(submit(*engine, requestOf({2}, 5), first).status().message()),
                HasSubstr("the device failed"));
  }
}

} // namespace
} // namespace ingot::testing
