// Steps that draft against single steps, on the trained checkpoints: the same tokens, greedily and by samples, and
// after each step the same bits in every state that cannot be cut back (convolutions, recurrences, what the head
// remembers), whether drafts were accepted or not; and replies that end in the middle of a step end where single steps
// end them.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <unistd.h>

#include <gtest/gtest.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "compiler/pipeline.h"
#include "runtime/executor/session.h"

using namespace ingot;

namespace {

std::string targetName() {
  const char *name = std::getenv("INGOT_EMULATOR_TARGET");
  return name ? name : "gfx1151";
}

// Token ids that the tokenizer of the trained models makes words of; what they say does not matter.
std::vector<int32_t> somePrompt(int32_t seed) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 24; ++i)
    prompt.push_back((seed * 131 + i * i * 7 + i) % 900 + 100);
  return prompt;
}

class Drafting : public testing::TestWithParam<const char *> {
protected:
  static std::shared_ptr<const Device> device() {
    static absl::StatusOr<std::shared_ptr<const Hip>> hip = Hip::openEmulator(targetName());
    EXPECT_TRUE(hip.ok()) << hip.status();
    auto opened = Device::open(*hip);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *opened;
  }

  // Compiled and loaded once: the tests of a model come one after another, so one is kept.
  static absl::StatusOr<std::shared_ptr<Model>> load(const std::string &name) {
    static std::string loaded;
    static absl::StatusOr<std::shared_ptr<Model>> kept;
    if (loaded == name)
      return kept;
    loaded = name;
    const std::string path =
        std::filesystem::temp_directory_path() / absl::StrCat("ingot-drafting-", ::getpid(), ".ingot");
    absl::Cleanup remove = [&] { std::filesystem::remove(path); };
    CompileRequest request;
    request.model = absl::StrCat(INGOT_SOURCE_DIR "/models/trained/", name);
    request.output = path;
    request.targets = {targetName()};
    request.streams = 1;
    CompileReport report;
    if (absl::Status compiled = compileModel(request, report); !compiled.ok())
      return kept = compiled;
    auto artifact = Artifact::open(path);
    if (!artifact.ok())
      return kept = artifact.status();
    SessionOptions options;
    options.context = 256;
    options.sequences = 2;
    return kept = Model::load(*std::move(artifact), device(), targetName(), options);
  }

  void SetUp() override {
    auto loaded = load(GetParam());
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model = *loaded;
    length = model->manifest().facts().draft_length();
    ASSERT_EQ(length, 3U);
  }

  // A sequence that begins with `prompt`, and its first token.
  std::unique_ptr<Session> begin(const std::vector<int32_t> &prompt, ingot::Drafting mode, uint32_t limit,
                                 int32_t &first, const Sampling &sampling = {}) {
    auto session = Session::create(model);
    EXPECT_TRUE(session.ok()) << session.status();
    EXPECT_TRUE((*session)->setSampling(sampling).ok());
    (*session)->setDrafting(mode);
    (*session)->limitReply(limit);
    EXPECT_TRUE((*session)->prefill(prompt).ok());
    auto token = (*session)->next();
    EXPECT_TRUE(token.ok()) << token.status();
    first = *token;
    return *std::move(session);
  }

  static std::vector<std::byte> statesOf(Session &session) {
    auto snapshot = session.snapshot();
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    EXPECT_FALSE(snapshot->empty());
    return *std::move(snapshot);
  }

  std::shared_ptr<Model> model;
  uint32_t length = 0;
};

INSTANTIATE_TEST_SUITE_P(Models, Drafting, testing::Values("tiny-qwen3.6", "tiny-qwen3.6-moe"), [](const auto &info) {
  return std::string(info.param) == "tiny-qwen3.6" ? "Dense" : "Experts";
});

// Positions after the last are masked, whatever lies there must be finite.
TEST_P(Drafting, PagesHoldNothingOfWhatWasThere) {
  const std::vector<int32_t> prompt = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
  auto reply = [&] {
    int32_t token = 0;
    auto session = begin(prompt, ingot::Drafting::Always, 24, token);
    std::vector<int32_t> tokens = {token};
    while (tokens.size() < 24) {
      auto next = session->nextTokens();
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok())
        break;
      tokens.insert(tokens.end(), next->begin(), next->end());
    }
    return tokens;
  };
  const std::vector<int32_t> before = reply();
  {
    std::vector<Page> all;
    while (auto page = model->pages().take())
      all.push_back(*page);
    ASSERT_EQ(all.size(), model->pages().size());
    const std::vector<std::byte> nan(all.size() * pageBytes(model->manifest()), std::byte{0xff});
    ASSERT_TRUE(model->write(all, nan).ok());
  }
  EXPECT_EQ(reply(), before);
}

TEST_P(Drafting, LeavesTheStatesOfSingleSteps) {
  std::vector<unsigned> keptOf(length + 1); // steps by how many drafts they kept
  for (int32_t seed : {1, 2}) {
    int32_t first = 0, plainFirst = 0;
    auto drafting = begin(somePrompt(seed), ingot::Drafting::Always, 0, first);
    auto plain = begin(somePrompt(seed), ingot::Drafting::Never, 0, plainFirst);
    ASSERT_EQ(first, plainFirst);
    for (int step = 0; step < 24; ++step) {
      auto tokens = drafting->nextTokens();
      ASSERT_TRUE(tokens.ok()) << tokens.status();
      ++keptOf[tokens->size() - 1];
      for (int32_t token : *tokens) {
        auto wanted = plain->next();
        ASSERT_TRUE(wanted.ok()) << wanted.status();
        ASSERT_EQ(token, *wanted) << "step " << step << " of prompt " << seed;
      }
      ASSERT_EQ(drafting->position(), plain->position());
      ASSERT_EQ(statesOf(*drafting), statesOf(*plain)) << "step " << step << " of prompt " << seed;
    }
    EXPECT_EQ(drafting->drafts().counts().steps, 23U); // the first has nothing to check
    // Whoever goes on without drafts finds everything in its place, and so does whoever begins again.
    for (int token = 0; token < 3; ++token)
      ASSERT_EQ(*drafting->next(), *plain->next());
    auto again = drafting->nextTokens();
    ASSERT_TRUE(again.ok()) << again.status();
    for (int32_t token : *again)
      ASSERT_EQ(token, *plain->next());
    ASSERT_EQ(statesOf(*drafting), statesOf(*plain));
  }
  EXPECT_GT(keptOf[0], 0U) << "no step rejected its first draft";
  EXPECT_GT(*std::max_element(keptOf.begin() + 1, keptOf.end()), 0U) << "no draft was accepted";
}

TEST_P(Drafting, SamplesWhatSingleStepsSample) {
  std::vector<unsigned> keptOf(length + 1);
  for (const Sampling &sampling : {Sampling{.temperature = 0.6F, .seed = 1}, Sampling{.temperature = 1, .seed = 2},
                                   Sampling{.temperature = 0.8F, .topK = 20, .seed = 3},
                                   Sampling{.temperature = 1.2F, .topK = 200, .topP = 0.9F, .seed = 1ULL << 40}}) {
    SCOPED_TRACE(testing::Message() << "temperature " << sampling.temperature << ", top-k " << sampling.topK
                                    << ", top-p " << sampling.topP);
    int32_t first = 0, plainFirst = 0;
    auto drafting = begin(somePrompt(4), ingot::Drafting::Always, 0, first, sampling);
    auto plain = begin(somePrompt(4), ingot::Drafting::Never, 0, plainFirst, sampling);
    ASSERT_EQ(first, plainFirst);
    for (int step = 0; step < 16; ++step) {
      auto tokens = drafting->nextTokens();
      ASSERT_TRUE(tokens.ok()) << tokens.status();
      ++keptOf[tokens->size() - 1];
      for (int32_t token : *tokens)
        ASSERT_EQ(token, *plain->next()) << "step " << step;
      ASSERT_EQ(statesOf(*drafting), statesOf(*plain)) << "step " << step;
    }
    EXPECT_EQ(drafting->drafts().counts().steps, 15U);
    EXPECT_TRUE(absl::IsFailedPrecondition(drafting->logits().status()));
    ASSERT_EQ(*drafting->next(), *plain->next());
    EXPECT_EQ(*drafting->logits(), *plain->logits());
  }
  EXPECT_GT(keptOf[0], 0U) << "no step rejected its first draft";
  EXPECT_GT(*std::max_element(keptOf.begin() + 1, keptOf.end()), 0U) << "no draft was accepted";
}

TEST_P(Drafting, EndsAReplyAtItsLimit) {
  for (uint32_t limit = 2; limit < 12; ++limit) {
    int32_t first = 0;
    auto drafting = begin(somePrompt(3), ingot::Drafting::Always, limit, first);
    auto plain = begin(somePrompt(3), ingot::Drafting::Never, limit, first);
    std::vector<int32_t> reply{first}, wanted{first};
    for (auto tokens = drafting->nextTokens(); tokens.ok(); tokens = drafting->nextTokens())
      reply.insert(reply.end(), tokens->begin(), tokens->end());
    for (auto token = plain->next(); token.ok(); token = plain->next())
      wanted.push_back(*token);
    EXPECT_EQ(reply.size(), limit);
    EXPECT_EQ(reply, wanted);
    EXPECT_EQ(drafting->position(), plain->position());
    EXPECT_EQ(statesOf(*drafting), statesOf(*plain)) << "a limit of " << limit;
  }
}

TEST_P(Drafting, StopsBeforeTheContextIsFull) {
  int32_t first = 0;
  std::vector<int32_t> prompt;
  while (prompt.size() < 230) {
    std::vector<int32_t> more = somePrompt(static_cast<int32_t>(prompt.size()));
    prompt.insert(prompt.end(), more.begin(), more.end());
  }
  auto drafting = begin(prompt, ingot::Drafting::Always, 0, first);
  auto plain = begin(prompt, ingot::Drafting::Never, 0, first);
  std::vector<int32_t> reply, wanted;
  auto tokens = drafting->nextTokens();
  for (; tokens.ok(); tokens = drafting->nextTokens())
    reply.insert(reply.end(), tokens->begin(), tokens->end());
  EXPECT_TRUE(absl::IsOutOfRange(tokens.status())) << tokens.status();
  for (auto token = plain->next(); token.ok(); token = plain->next())
    wanted.push_back(*token);
  EXPECT_EQ(reply, wanted);
  EXPECT_EQ(drafting->position(), 256U);
  EXPECT_EQ(statesOf(*drafting), statesOf(*plain));
}

} // namespace
