// What a session does is the same on every device: these tests run on the fake HIP library and on both emulated chips,
// depending on which toy device is linked in.
#include "runtime/executor/session.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "runtime/executor/testing/toy_device.h"
#include "runtime/executor/testing/toy_kernels.h"
#include "runtime/executor/testing/toy_model.h"

namespace ingot::testing {
namespace {

using ::testing::HasSubstr;

class SessionTest : public ::testing::Test {
protected:
  void SetUp() override {
    path = std::filesystem::temp_directory_path() / absl::StrCat("ingot-session-", ::getpid(), ".ingot");
    auto opened = openToyDevice();
    ASSERT_TRUE(opened.ok()) << opened.status();
    toy = *std::move(opened);
    absl::Status status = writeToyModel(path, toy.code);
    ASSERT_TRUE(status.ok()) << status;
  }
  void TearDown() override { std::filesystem::remove(path); }
  absl::StatusOr<std::unique_ptr<Session>> load(const SessionOptions &options = {}) {
    auto artifact = Artifact::open(path);
    if (!artifact.ok())
      return artifact.status();
    return Session::load(*std::move(artifact), toy.device, toy.target, options);
  }
  std::vector<int32_t> generate(Session &session, const std::vector<int32_t> &prompt, size_t count) {
    std::vector<int32_t> reply;
    EXPECT_TRUE(session.reset().ok());
    absl::Status status = session.prefill(prompt);
    EXPECT_TRUE(status.ok()) << status;
    while (status.ok() && reply.size() < count) {
      auto token = session.next();
      EXPECT_TRUE(token.ok()) << token.status();
      if (!token.ok())
        break;
      reply.push_back(*token);
    }
    return reply;
  }

  std::string path;
  ToyDevice toy;
};

std::vector<int32_t> somePrompt() { return {3, 1, 4, 1, 5, 9, 2, 6, 5}; }

TEST_F(SessionTest, GeneratesWhatTheModelSays) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  for (size_t length : {1u, 3u, 4u, 5u, 8u, 9u}) {
    std::vector<int32_t> prompt = somePrompt();
    prompt.resize(length);
    EXPECT_EQ(generate(**session, prompt, 12), toyReply(prompt, 12)) << length;
    EXPECT_EQ((*session)->position(), length + 11);
  }
}

TEST_F(SessionTest, ReplayGivesWhatPlainLaunchesGive) {
  SessionOptions plain;
  plain.graph = false;
  auto graph = load(), launches = load(plain);
  ASSERT_TRUE(graph.ok() && launches.ok());
  for (float temperature : {0.0F, 1.0F}) {
    for (Session *session : {graph->get(), launches->get()})
      ASSERT_TRUE(session->setSampling({.temperature = temperature}).ok());
    EXPECT_EQ(generate(**graph, somePrompt(), 20), generate(**launches, somePrompt(), 20));
    if (temperature > 0)
      EXPECT_EQ(*(*graph)->logits(), *(*launches)->logits());
  }
}

TEST_F(SessionTest, GreedyStepsLeaveNoLogits) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
  std::vector<int32_t> tokens = somePrompt();
  tokens.push_back(*(*session)->next()); // from the prefill's logits, which stay
  EXPECT_EQ(*(*session)->logits(), toyLogitsOf(somePrompt()).back());
  int32_t second = *(*session)->next();
  EXPECT_THAT(std::string((*session)->logits().status().message()), HasSubstr("greedy steps"));
  EXPECT_EQ(second, toyReply(somePrompt(), 2)[1]);
  // A step that is asked for its logits leaves them again, and the greedy ones go on from there.
  tokens.push_back(second);
  ASSERT_TRUE((*session)->decode(second).ok());
  EXPECT_EQ(*(*session)->logits(), toyLogitsOf(tokens).back());
  EXPECT_EQ(*(*session)->next(), toyReply(somePrompt(), 3)[2]);
  EXPECT_EQ(*(*session)->next(), toyReply(somePrompt(), 4)[3]);
}

TEST_F(SessionTest, SamplingDependsOnTheSeedAlone) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  Sampling sampling = {1.0F, 0, 1.0F, 5};
  ASSERT_TRUE((*session)->setSampling(sampling).ok());
  std::vector<int32_t> five = generate(**session, somePrompt(), 10);
  EXPECT_EQ(five, toySampledReply(somePrompt(), 10, 5));
  EXPECT_EQ(five, generate(**session, somePrompt(), 10));
  sampling.seed = 6;
  ASSERT_TRUE((*session)->setSampling(sampling).ok());
  EXPECT_EQ(generate(**session, somePrompt(), 10), toySampledReply(somePrompt(), 10, 6));
  // Back to greedy: the graph of the other sampler is still there.
  ASSERT_TRUE((*session)->setSampling({}).ok());
  EXPECT_EQ(generate(**session, somePrompt(), 10), toyReply(somePrompt(), 10));
  EXPECT_FALSE((*session)->setSampling({-1.0F, 0, 1.0F, 0}).ok());
  EXPECT_FALSE((*session)->setSampling({1.0F, -1, 1.0F, 0}).ok());
  EXPECT_FALSE((*session)->setSampling({1.0F, 0, 0.0F, 0}).ok());
}

TEST_F(SessionTest, AllLogitsByChunksAndBySteps) {
  SessionOptions options;
  options.allLogits = true;
  auto session = load(options);
  ASSERT_TRUE(session.ok()) << session.status();
  for (bool steps : {false, true}) {
    std::vector<std::vector<float>> rows;
    absl::Status status = (*session)->allLogits(somePrompt(), steps, [&](std::span<const float> row) {
      rows.emplace_back(row.begin(), row.end());
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(rows, toyLogitsOf(somePrompt()));
  }
  auto bare = load();
  ASSERT_TRUE(bare.ok());
  EXPECT_FALSE((*bare)->allLogits(somePrompt(), false, [](auto) { return absl::OkStatus(); }).ok());
}

TEST_F(SessionTest, DecodeOfGivenTokensThenGeneration) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  for (int32_t token : somePrompt())
    ASSERT_TRUE((*session)->decode(token).ok());
  EXPECT_EQ(*(*session)->logits(), toyLogitsOf(somePrompt()).back());
  EXPECT_EQ(*(*session)->next(), toyReply(somePrompt(), 1)[0]);
}

TEST_F(SessionTest, TheContextIsABorder) {
  SessionOptions options;
  options.context = 10; // rounded up to 12
  auto session = load(options);
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->context(), 12u);
  std::vector<int32_t> tooLong(17, 1);
  absl::Status status = (*session)->prefill(tooLong);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("at most 12 more tokens for a context of 12, got 17"));
  EXPECT_EQ((*session)->position(), 0u);
  ASSERT_TRUE((*session)->prefill(std::vector<int32_t>(11, 1)).ok());
  EXPECT_TRUE((*session)->next().ok());
  EXPECT_TRUE((*session)->next().ok());
  EXPECT_EQ((*session)->next().status().code(), absl::StatusCode::kOutOfRange);
  options.context = kToyContext + 1;
  EXPECT_THAT(std::string(load(options).status().message()), HasSubstr("at most the 64 positions"));
}

TEST_F(SessionTest, TokensOutsideTheVocabularyAreRefused) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_THAT(std::string((*session)->prefill(std::vector<int32_t>{1, 32}).message()),
              HasSubstr("token 1: expected an id from 0 to 31, got 32"));
  EXPECT_FALSE((*session)->prefill(std::vector<int32_t>{-1}).ok());
  EXPECT_FALSE((*session)->prefill({}).ok());
  EXPECT_FALSE((*session)->next().ok());
  EXPECT_FALSE((*session)->logits().ok());
}

TEST_F(SessionTest, OtherChipsAndDamagedWeightsAreRefused) {
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok());
  EXPECT_EQ(Session::load(*std::move(artifact), toy.device, "gfx90a", {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  auto opened = Artifact::open(path);
  ASSERT_TRUE(opened.ok());
  for (const ArtifactSection &section : (*opened)->sections())
    if (section.name == "weights")
      bytes[section.offset + 5] ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
  for (bool map : {false, true}) {
    SessionOptions options;
    options.mapWeights = map;
    EXPECT_EQ(load(options).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(SessionTest, MappedAndCopiedWeightsGiveTheSame) {
  SessionOptions copy;
  copy.mapWeights = false;
  auto mapped = load(), copied = load(copy);
  ASSERT_TRUE(mapped.ok() && copied.ok());
  EXPECT_FALSE((*copied)->weightsMapped());
  EXPECT_EQ((*mapped)->weightsMapped(), toy.device->info().integrated);
  EXPECT_EQ(generate(**mapped, somePrompt(), 5), generate(**copied, somePrompt(), 5));
}

TEST_F(SessionTest, SequencesOfOneModelDoNotDisturbEachOther) {
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok());
  SessionOptions options;
  options.sequences = 5;
  auto model = Model::load(*std::move(artifact), toy.device, toy.target, options);
  ASSERT_TRUE(model.ok()) << model.status();
  struct Stream {
    std::unique_ptr<Session> session;
    std::vector<int32_t> prompt, reply;
    float temperature;
  };
  std::vector<Stream> streams;
  for (int32_t index = 0; index < 5; ++index) {
    auto session = Session::create(*model);
    ASSERT_TRUE(session.ok()) << session.status();
    auto temperature = static_cast<float>(index % 2);
    std::vector<int32_t> prompt(static_cast<size_t>(3 + 2 * index), index + 1);
    ASSERT_TRUE((*session)->setSampling({temperature, 0, 1.0F, uint64_t(index)}).ok());
    streams.push_back({*std::move(session), prompt, {}, temperature});
  }
  // Prompts chunk by chunk and steps, in turn; each stream starts a round later than the one before.
  for (size_t round = 0; round < 20; ++round) {
    for (size_t index = 0; index < std::min(round + 1, streams.size()); ++index) {
      Stream &stream = streams[index];
      uint32_t done = stream.session->position();
      if (done < stream.prompt.size()) {
        size_t count = std::min<size_t>(kToyChunk, stream.prompt.size() - done);
        ASSERT_TRUE(stream.session->prefill(std::span(stream.prompt).subspan(done, count)).ok());
      } else if (stream.reply.size() < 10) {
        auto token = stream.session->next();
        ASSERT_TRUE(token.ok()) << token.status();
        stream.reply.push_back(*token);
      }
    }
  }
  for (size_t index = 0; index < streams.size(); ++index) {
    const Stream &stream = streams[index];
    EXPECT_EQ(stream.reply, stream.temperature > 0 ? toySampledReply(stream.prompt, 10, static_cast<uint32_t>(index))
                                                   : toyReply(stream.prompt, 10))
        << index;
  }
}

TEST_F(SessionTest, ASequenceGoesOnFromASnapshotOfAnother) {
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok());
  SessionOptions options;
  options.sequences = 2;
  auto model = Model::load(*std::move(artifact), toy.device, toy.target, options);
  ASSERT_TRUE(model.ok()) << model.status();
  auto first = Session::create(*model), second = Session::create(*model);
  ASSERT_TRUE(first.ok() && second.ok());
  const std::vector<int32_t> prompt = somePrompt();
  ASSERT_TRUE((*first)->prefill(std::span(prompt).first(4)).ok());
  auto snapshot = (*first)->snapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const std::vector<Page> pages((*first)->pages().begin(), (*first)->pages().end());
  ASSERT_EQ(pages.size(), 1u);
  ASSERT_TRUE((*first)->prefill(std::vector<int32_t>{7, 7, 7}).ok());
  // Another ending, in another sequence and then in the one that the snapshot is of.
  for (Session *session : {second->get(), first->get()}) {
    absl::Status status = session->resume(pages, *snapshot);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(session->position(), 4u);
    EXPECT_FALSE(session->next().ok());
    ASSERT_TRUE(session->prefill(std::span(prompt).subspan(4)).ok());
    for (int32_t expected : toyReply(prompt, 5))
      EXPECT_EQ(*session->next(), expected);
  }
  EXPECT_EQ((*first)->pages().front().index(), (*second)->pages().front().index());
  EXPECT_FALSE((*first)->resume({}, *snapshot).ok());
  EXPECT_FALSE((*first)->resume(std::vector<Page>(kToyContext / kToyPage + 1, pages[0]), *snapshot).ok());
  EXPECT_FALSE((*first)->resume(pages, std::vector<std::byte>(1)).ok());
}

TEST_F(SessionTest, PagesAreTakenAsASequenceGrows) {
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok());
  SessionOptions options;
  options.sequences = 2;
  options.positions = 5 * kToyPage - 1;
  auto model = Model::load(*std::move(artifact), toy.device, toy.target, options);
  ASSERT_TRUE(model.ok()) << model.status();
  PagePool &pool = (*model)->pages();
  EXPECT_EQ(pool.size(), 5u);
  auto first = Session::create(*model), second = Session::create(*model);
  ASSERT_TRUE(first.ok() && second.ok());
  const std::vector<int32_t> prompt = somePrompt();
  const auto needed = static_cast<uint32_t>((prompt.size() + kToyPage - 1) / kToyPage);
  ASSERT_LE(needed, 4u);
  ASSERT_TRUE((*first)->prefill(prompt).ok());
  EXPECT_EQ(pool.free(), 5 - needed);
  // What does not fit takes nothing, and the other sequence goes on.
  absl::Status status = (*second)->prefill(std::vector<int32_t>(4 * kToyPage, 1));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--kv-tokens"));
  for (int32_t expected : toyReply(prompt, 3))
    EXPECT_EQ(*(*first)->next(), expected);
  // Nor does it matter what was in a page before.
  std::vector<Page> all((*first)->pages().begin(), (*first)->pages().end());
  ASSERT_TRUE(
      (*model)->write(all, std::vector<std::byte>(all.size() * pageBytes((*model)->manifest()), std::byte{9})).ok());
  all.clear();
  ASSERT_TRUE((*first)->reset().ok());
  ASSERT_TRUE((*second)->reset().ok());
  EXPECT_EQ(pool.free(), 5u);
  EXPECT_EQ(generate(**second, prompt, 4), toyReply(prompt, 4));
  (*second)->end();
  EXPECT_EQ(pool.free(), 5u);
}

TEST_F(SessionTest, AProcessorSeesEachRowAndMayChangeIt) {
  const ToyChange change = [](std::span<float> row, size_t token) {
    for (size_t id = token % 3; id < row.size(); id += 3)
      row[id] = -1;
  };
  const std::vector<uint32_t> masks = {~0U, ~0U, 0x0ff00ff0, ~0U, 0x55555555, ~0U};
  for (bool graph : {true, false})
    for (bool changes : {true, false})
      for (float temperature : {0.0F, 1.0F}) {
        SessionOptions options;
        options.graph = graph;
        auto session = load(options);
        ASSERT_TRUE(session.ok()) << session.status();
        std::vector<std::vector<float>> seen;
        (*session)->setAhead(true); // which it then does not go
        ASSERT_TRUE((*session)->setSampling({.temperature = temperature, .seed = 3}).ok());
        ASSERT_TRUE((*session)
                        ->setLogitsProcessor([&](std::span<float> row) {
                          seen.emplace_back(row.begin(), row.end());
                          if (changes)
                            change(row, seen.size() - 1);
                          return changes;
                        })
                        .ok());
        ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
        std::vector<int32_t> tokens = somePrompt(), reply;
        for (uint32_t mask : masks) {
          ASSERT_TRUE((*session)->setMask(mask == ~0U ? std::vector<uint32_t>() : std::vector{mask}).ok());
          reply.push_back(*(*session)->next());
          EXPECT_EQ(seen.size(), reply.size());
          EXPECT_EQ(seen.back(), toyLogitsOf(tokens).back());
          tokens.push_back(reply.back());
        }
        EXPECT_EQ(reply, toyMaskedReply(somePrompt(), masks, temperature > 0 ? std::optional(3U) : std::nullopt,
                                        changes ? change : nullptr));
        // Without one it goes ahead, and then none may come.
        ASSERT_TRUE((*session)->setLogitsProcessor(nullptr).ok());
        EXPECT_EQ(generate(**session, somePrompt(), 6),
                  temperature > 0 ? toySampledReply(somePrompt(), 6, 3) : toyReply(somePrompt(), 6));
        EXPECT_EQ((*session)->setLogitsProcessor(nullptr).code(), absl::StatusCode::kFailedPrecondition);
        EXPECT_EQ(seen.size(), masks.size());
      }
}

TEST_F(SessionTest, LimitAndContextEndAProcessedReply) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_TRUE((*session)->setLogitsProcessor([](std::span<float>) { return false; }).ok());
  for (uint32_t limit : {4U, 0U}) {
    ASSERT_TRUE((*session)->reset().ok());
    (*session)->limitReply(limit);
    ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
    for (int32_t expected : toyReply(somePrompt(), limit > 0 ? limit : kToyContext - somePrompt().size() + 1))
      EXPECT_EQ(*(*session)->next(), expected);
    EXPECT_EQ((*session)->next().status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ((*session)->pages().size(), ((*session)->position() + kToyPage - 1) / kToyPage);
  }
}

TEST_F(SessionTest, AMaskLeavesTokensOut) {
  const std::vector<uint32_t> masks = {0x00ff00ff, 0x00ff00ff, 1U << 31, 1U << 5, 0xaaaaaaaa, ~0U, 0xaaaaaaaa, 0x30};
  for (bool graph : {true, false}) {
    SessionOptions options;
    options.graph = graph;
    auto session = load(options);
    ASSERT_TRUE(session.ok()) << session.status();
    for (float temperature : {0.0F, 1.0F}) {
      ASSERT_TRUE((*session)->setSampling({.temperature = temperature, .seed = 3}).ok());
      ASSERT_TRUE((*session)->reset().ok());
      ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
      std::vector<int32_t> reply;
      for (uint32_t mask : masks) {
        // One that is replaced before any step leaves nothing behind.
        ASSERT_TRUE((*session)->setMask(std::vector{~mask | 1}).ok());
        ASSERT_TRUE((*session)->setMask(std::vector{mask}).ok());
        reply.push_back(*(*session)->next());
      }
      EXPECT_EQ(reply, toyMaskedReply(somePrompt(), masks, temperature > 0 ? std::optional(3U) : std::nullopt));
      // Without one, and in the next sequence, any token may come again.
      ASSERT_TRUE((*session)->setMask({}).ok());
      std::vector<uint32_t> open = masks;
      open.push_back(~0U);
      reply.push_back(*(*session)->next());
      EXPECT_EQ(reply, toyMaskedReply(somePrompt(), open, temperature > 0 ? std::optional(3U) : std::nullopt));
      ASSERT_TRUE((*session)->setMask(std::vector{1U}).ok());
      EXPECT_EQ(generate(**session, somePrompt(), 6),
                temperature > 0 ? toySampledReply(somePrompt(), 6, 3) : toyReply(somePrompt(), 6));
      // The mask that was there last is there again.
      ASSERT_TRUE((*session)->setMask(std::vector{1U}).ok());
      EXPECT_EQ(*(*session)->next(), 0);
    }
  }
}

TEST_F(SessionTest, AMaskHoldsForTheChunksBehindIt) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_TRUE((*session)->setMask(std::vector{0xf0U}).ok());
  ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
  std::vector<int32_t> reply;
  reply.reserve(4);
  for (int step = 0; step < 4; ++step)
    reply.push_back(*(*session)->next());
  EXPECT_EQ(reply, toyMaskedReply(somePrompt(), std::vector(4, 0xf0U)));
}

TEST_F(SessionTest, MasksThatAllowNothingAreRefused) {
  auto session = load();
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_TRUE((*session)->prefill(somePrompt()).ok());
  absl::Status status = (*session)->setMask(std::vector{0U});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("at least one token of the vocabulary, got none"));
  EXPECT_THAT(std::string((*session)->setMask(std::vector{1U, 1U}).message()),
              HasSubstr("a mask of 1 words for a vocabulary of 32, got 2"));
  EXPECT_EQ(*(*session)->next(), toyReply(somePrompt(), 1)[0]);
  (*session)->setAhead(true);
  ASSERT_TRUE((*session)->next().ok());
  EXPECT_EQ((*session)->setMask(std::vector{1U}).code(), absl::StatusCode::kFailedPrecondition);
  // Bits behind the vocabulary are no tokens.
  EXPECT_FALSE(checkMask(std::vector{0U, 0xfffffff0U}, 36).ok());
  EXPECT_TRUE(checkMask(std::vector{0U, 8U}, 36).ok());
  EXPECT_TRUE(checkMask(std::vector{1U, 0U}, 64).ok());
}

TEST_F(SessionTest, CancelStops) {
  std::atomic<bool> cancel = false;
  SessionOptions options;
  options.cancel = &cancel;
  auto session = load(options);
  ASSERT_TRUE(session.ok()) << session.status();
  cancel = true;
  EXPECT_EQ((*session)->prefill(somePrompt()).code(), absl::StatusCode::kCancelled);
  cancel = false;
  EXPECT_EQ(generate(**session, somePrompt(), 4), toyReply(somePrompt(), 4));
}

} // namespace
} // namespace ingot::testing
