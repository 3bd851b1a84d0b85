// Steps of several sequences give each what it gives alone, whoever is beside it: on the fake HIP library and on both
// emulated chips, depending on which toy device is linked in.
#include "runtime/executor/batch_runner.h"

#include <filesystem>
#include <random>
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
using Tokens = std::vector<int32_t>;

// A sequence, and what came out of it so far.
struct Stream {
  std::unique_ptr<Session> session;
  Tokens prompt, reply;
};

class BatchRunnerTest : public ::testing::Test {
protected:
  void SetUp() override {
    path = std::filesystem::temp_directory_path() / absl::StrCat("ingot-batch-", ::getpid(), ".ingot");
    auto opened = openToyDevice();
    ASSERT_TRUE(opened.ok()) << opened.status();
    toy = *std::move(opened);
    load(8);
  }
  void TearDown() override { std::filesystem::remove(path); }
  void load(uint32_t rows, bool graph = true) {
    runner.reset();
    model.reset();
    ASSERT_TRUE(writeToyModel(path, toy.code, {}, 0, rows).ok());
    auto artifact = Artifact::open(path);
    ASSERT_TRUE(artifact.ok()) << artifact.status();
    SessionOptions options;
    options.sequences = 8;
    options.graph = graph;
    auto loaded = Model::load(*std::move(artifact), toy.device, toy.target, options);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model = *std::move(loaded);
    if (rows == 0)
      return;
    auto made = BatchRunner::create(model);
    ASSERT_TRUE(made.ok()) << made.status();
    runner = *std::move(made);
  }
  // A stream whose first token is chosen.
  Stream begin(Tokens prompt, Sampling sampling = {}, uint32_t limit = 0, bool ahead = true) {
    auto session = Session::create(model);
    EXPECT_TRUE(session.ok()) << session.status();
    Stream stream = {*std::move(session), std::move(prompt), {}};
    stream.session->setAhead(ahead);
    stream.session->limitReply(limit);
    EXPECT_TRUE(stream.session->setSampling(sampling).ok());
    EXPECT_TRUE(stream.session->prefill(stream.prompt).ok());
    stream.reply.push_back(*stream.session->next());
    return stream;
  }
  void step(const std::vector<Stream *> &streams) {
    std::vector<Session *> sessions;
    sessions.reserve(streams.size());
    for (Stream *stream : streams)
      sessions.push_back(stream->session.get());
    auto tokens = runner->next(sessions);
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    ASSERT_EQ(tokens->size(), streams.size());
    for (size_t row = 0; row < streams.size(); ++row)
      if ((*tokens)[row])
        streams[row]->reply.push_back(*(*tokens)[row]);
  }

  std::string path;
  ToyDevice toy;
  std::shared_ptr<Model> model;
  std::unique_ptr<BatchRunner> runner;
};

TEST_F(BatchRunnerTest, EachGivesWhatItGivesAlone) {
  for (bool graph : {true, false})
    for (bool ahead : {true, false})
      for (bool sampled : {false, true})
        for (size_t count : {1u, 2u, 3u, 4u, 5u, 8u}) {
          load(8, graph);
          std::vector<Stream> streams;
          std::vector<Stream *> all;
          streams.reserve(count);
          all.reserve(count);
          for (size_t index = 0; index < count; ++index)
            streams.push_back(begin(Tokens(index % 5 + 1, static_cast<int32_t>(index)),
                                    {.temperature = sampled ? 1.0F : 0.0F, .seed = index}, 0, ahead));
          for (Stream &stream : streams)
            all.push_back(&stream);
          for (int round = 0; round < 11; ++round)
            step(all);
          for (size_t index = 0; index < count; ++index)
            EXPECT_EQ(streams[index].reply,
                      sampled ? toySampledReply(streams[index].prompt, 12, static_cast<uint32_t>(index))
                              : toyReply(streams[index].prompt, 12))
                << index << " of " << count;
          // The smallest width that holds them; with a step ahead there is one more than was read.
          const uint64_t rows = count <= 2 ? 2 : count <= 4 ? 4 : 8, steps = 11 + ahead;
          EXPECT_EQ(runner->counts().steps, steps);
          EXPECT_EQ(runner->counts().rows, steps * count);
          EXPECT_EQ(runner->counts().padding, steps * (rows - count));
          EXPECT_EQ(runner->counts().launches, steps * 4);
        }
}

TEST_F(BatchRunnerTest, TheyJoinLeaveAndGoOnAlone) {
  std::mt19937 random(11); // NOLINT(bugprone-random-generator-seed): a test repeats itself
  std::vector<Stream> streams;
  streams.reserve(8);
  for (size_t index = 0; index < 8; ++index)
    streams.push_back(begin(Tokens(index % 3 + 1, static_cast<int32_t>(index)), {}, 40));
  for (int round = 0; round < 200; ++round) {
    std::vector<Stream *> together;
    for (Stream &stream : streams) {
      const bool ended = stream.reply.size() >= 40;
      if (ended || random() % 16 == 0) { // its place is taken by another, whatever it has under way
        EXPECT_EQ(stream.reply, toyReply(stream.prompt, stream.reply.size()));
        stream.prompt = Tokens(random() % 7 + 1, static_cast<int32_t>(random() % kToyVocabulary));
        ASSERT_TRUE(stream.session->reset().ok());
        ASSERT_TRUE(stream.session->prefill(stream.prompt).ok());
        stream.reply = {*stream.session->next()};
      } else if (random() % 8 == 0 || !stream.session->mayJoin()) {
        auto token = stream.session->next();
        ASSERT_TRUE(token.ok()) << token.status();
        stream.reply.push_back(*token);
      } else if (random() % 8 != 0) {
        together.push_back(&stream);
      }
    }
    if (!together.empty())
      step(together);
  }
  for (const Stream &stream : streams)
    EXPECT_EQ(stream.reply, toyReply(stream.prompt, stream.reply.size()));
  EXPECT_GT(runner->counts().padding, 0u);
}

TEST_F(BatchRunnerTest, LimitsAndTheContextEndOneAndNotTheOthers) {
  Stream limited = begin({3}, {}, 6), full = begin(Tokens(50, 2)), free = begin({1, 2});
  std::vector<Stream *> streams = {&limited, &full, &free};
  for (int round = 0; round < 30; ++round) {
    std::vector<Stream *> together;
    for (Stream *stream : streams) {
      if (stream->session->mayJoin()) {
        together.push_back(stream);
      } else if (auto token = stream->session->next(); token.ok()) {
        stream->reply.push_back(*token);
      } else {
        EXPECT_EQ(token.status().code(), absl::StatusCode::kOutOfRange);
      }
    }
    if (!together.empty())
      step(together);
  }
  EXPECT_EQ(limited.reply, toyReply(limited.prompt, 6));
  EXPECT_EQ(full.reply, toyReply(full.prompt, kToyContext - 50 + 1));
  EXPECT_GE(free.reply.size(), 29u);
  EXPECT_EQ(free.reply, toyReply(free.prompt, free.reply.size()));
}

// Greedy and sampled ones with masks that change with each token, and a sampled one that knows none and went ahead.
TEST_F(BatchRunnerTest, MaskedOnesGiveWhatTheyGiveAlone) {
  for (bool graph : {true, false}) {
    load(8, graph);
    auto maskOf = [](size_t stream, size_t token) { return 0x01010101U << (stream + token) % 8 | 0x10U; };
    std::vector<Stream> streams;
    streams.reserve(5);
    for (size_t index = 0; index < 5; ++index)
      streams.push_back(begin({static_cast<int32_t>(index), 3}, {.temperature = index < 3 ? 1.0F : 0.0F, .seed = index},
                              0, index == 0));
    step({&streams[0]});
    std::vector<Stream *> all;
    all.reserve(5);
    for (Stream &stream : streams)
      all.push_back(&stream);
    for (int round = 0; round < 12; ++round) {
      for (size_t index = 1; index < 5; ++index) {
        absl::Status status = streams[index].session->setMask(std::vector{maskOf(index, streams[index].reply.size())});
        ASSERT_TRUE(status.ok()) << status;
      }
      step(all);
    }
    EXPECT_EQ(streams[0].reply, toySampledReply(streams[0].prompt, streams[0].reply.size(), 0));
    EXPECT_GE(streams[0].reply.size(), 13u);
    for (size_t index = 1; index < 5; ++index) {
      std::vector<uint32_t> masks = {~0U}; // of its first token
      while (masks.size() < streams[index].reply.size())
        masks.push_back(maskOf(index, masks.size()));
      EXPECT_GE(masks.size(), 12u);
      EXPECT_EQ(streams[index].reply,
                toyMaskedReply(streams[index].prompt, masks,
                               index < 3 ? std::optional(static_cast<uint32_t>(index)) : std::nullopt))
          << index;
    }
  }
}

// Of what the host makes of rows: it looks, or it changes them, beside some that know nothing of it; now and then each
// goes on alone, and at the end one after the other leaves.
TEST_F(BatchRunnerTest, ProcessedOnesGiveWhatTheyGiveAlone) {
  for (bool graph : {true, false}) {
    load(8, graph);
    const std::vector<uint32_t> masks(24, 0x7f7f7f7fU), open(24, ~0U);
    constexpr size_t kPlain = 2, kLooks = 4, kMasked = 6, kAll = 7;
    auto changeOf = [](size_t stream) -> ToyChange {
      return stream < kLooks ? ToyChange() : [stream](std::span<float> row, size_t token) {
        row[(5 * stream + token) % row.size()] = 1e6F;
        row[(7 * stream + token * token) % row.size()] = 1e7F;
      };
    };
    auto seedOf = [](size_t stream) {
      return stream % 2 ? std::optional(static_cast<uint32_t>(stream)) : std::nullopt;
    };
    std::vector<Stream> streams;
    std::vector<std::vector<std::vector<float>>> seen(kAll);
    std::vector<Stream *> all;
    streams.reserve(kAll);
    all.reserve(kAll);
    for (size_t index = 0; index < kAll; ++index) {
      auto session = Session::create(model);
      ASSERT_TRUE(session.ok()) << session.status();
      streams.push_back({*std::move(session), Tokens(index + 1, static_cast<int32_t>(index)), {}});
      Session &made = *streams.back().session;
      made.setAhead(true);
      made.limitReply(24);
      ASSERT_TRUE(made.setSampling({.temperature = seedOf(index) ? 1.0F : 0.0F, .seed = index}).ok());
      if (index >= kPlain)
        ASSERT_TRUE(made.setLogitsProcessor([&rows = seen[index], change = changeOf(index)](std::span<float> row) {
                          rows.emplace_back(row.begin(), row.end());
                          if (change)
                            change(row, rows.size() - 1);
                          return bool(change);
                        })
                        .ok());
      ASSERT_TRUE(made.prefill(streams.back().prompt).ok());
      if (index >= kMasked)
        ASSERT_TRUE(made.setMask(std::vector{masks.front()}).ok());
      streams.back().reply.push_back(*made.next());
      all.push_back(&streams.back());
    }
    while (!all.empty()) {
      for (size_t index = 0; index < all.size();)
        if (!all[index]->session->mayJoin() || all[index]->reply.size() >= 24 - 2 * all.size()) {
          while (all[index]->reply.size() < 24)
            all[index]->reply.push_back(*all[index]->session->next());
          EXPECT_EQ(all[index]->session->next().status().code(), absl::StatusCode::kOutOfRange);
          all.erase(all.begin() + static_cast<std::ptrdiff_t>(index));
        } else {
          ++index;
        }
      if (!all.empty())
        step(all);
    }
    for (size_t index = 0; index < kAll; ++index) {
      EXPECT_EQ(streams[index].reply,
                toyMaskedReply(streams[index].prompt, index < kMasked ? open : masks, seedOf(index), changeOf(index)))
          << index;
      Tokens tokens = streams[index].prompt;
      ASSERT_EQ(seen[index].size(), index < kPlain ? 0u : 24u);
      for (size_t token = 0; token < seen[index].size(); ++token) {
        EXPECT_EQ(seen[index][token], toyLogitsOf(tokens).back()) << index;
        tokens.push_back(streams[index].reply[token]);
      }
    }
    EXPECT_GE(runner->counts().rows, 7u * 9);
  }
}

// Greedy ones beside those that sample choose by the same step.
TEST_F(BatchRunnerTest, GreedyAndSampledOnesShareAStep) {
  for (bool ahead : {true, false}) {
    load(8);
    Stream greedy = begin({3, 1}, {}, 0, ahead), sampled = begin({4}, {.temperature = 1, .seed = 5}, 0, ahead);
    for (int round = 0; round < 9; ++round)
      step({&greedy, &sampled});
    step({&greedy});
    EXPECT_EQ(greedy.reply, toyReply(greedy.prompt, 11));
    EXPECT_EQ(sampled.reply, toySampledReply(sampled.prompt, 10, 5));
    EXPECT_EQ(runner->counts().steps, ahead ? 11u : 10u);
  }
}

TEST_F(BatchRunnerTest, LogitsAreNotThoseOfAnEarlierStep) {
  Stream first = begin({3, 1}, {.temperature = 1}, 0, false), second = begin({4}, {.temperature = 1}, 0, false);
  step({&first, &second});
  EXPECT_EQ(first.session->logits().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(BatchRunnerTest, WhatCannotBeAStepIsRefused) {
  Stream greedy = begin({3}), ended = begin({3}, {}, 1);
  auto refused = [&](const std::vector<Session *> &sessions) {
    return runner->next(sessions).status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused({}));
  EXPECT_TRUE(refused(std::vector<Session *>(9, greedy.session.get())));
  EXPECT_TRUE(refused({greedy.session.get(), greedy.session.get()}));
  EXPECT_TRUE(refused({greedy.session.get(), ended.session.get()}));
  ASSERT_TRUE(greedy.session->prefill({}).code() == absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(refused({greedy.session.get()}));
  load(0);
  absl::Status status = BatchRunner::create(model).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("compile it with --streams 8"));
}

} // namespace
} // namespace ingot::testing
