// The command as a person or a script meets it: spawned, with its exit code, stdout and stderr. The model is the toy of
// the session tests with letters as its tokens, on the emulator.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

#include "runtime/executor/testing/toy_model.h"

namespace ingot::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// 26 letters, space and full stop in byte-level spelling, and four control tokens.
constexpr int32_t kSpace = 26, kStop = 27;

TokenizerData letters(const std::string &chatTemplate = "") {
  TokenizerData data;
  data.set_kind(TokenizerData::BYTE_LEVEL_BPE);
  for (char letter = 'a'; letter <= 'z'; ++letter)
    data.add_pieces()->set_text(std::string(1, letter));
  data.add_pieces()->set_text("\xc4\xa0");
  data.add_pieces()->set_text(".");
  for (int index = 0; index < 4; ++index) {
    Piece &piece = *data.add_pieces();
    piece.set_text(absl::StrCat("<c", index, ">"));
    piece.set_type(Piece::CONTROL);
  }
  data.set_bos(-1);
  data.set_eos(-1);
  data.set_unknown(-1);
  data.set_chat_template(chatTemplate);
  return data;
}

std::string textOf(const std::vector<int32_t> &ids) {
  std::string text;
  for (int32_t id : ids)
    text += id < kSpace ? std::string(1, static_cast<char>('a' + id)) : id == kSpace ? " " : id == kStop ? "." : "";
  return text;
}

std::vector<int32_t> idsOf(const std::string &text) {
  std::vector<int32_t> ids;
  for (char letter : text)
    ids.push_back(letter == ' ' ? kSpace : letter == '.' ? kStop : letter - 'a');
  return ids;
}

struct Result {
  int exitCode;
  std::string out, err;
};

class IngotTest : public ::testing::Test {
protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / absl::StrCat("ingot-cli-", ::getpid(), "-",
                                                      ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder);
    file = (folder / "toy.ingot").string();
    auto code = readToyCode(INGOT_TOY_CODE);
    ASSERT_TRUE(code.ok()) << code.status();
    toyCode = *code;
    absl::Status status = writeToyModel(file, toyCode, letters());
    ASSERT_TRUE(status.ok()) << status;
  }
  void TearDown() override { fs::remove_all(folder); }
  std::string read(const fs::path &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  Result run(const std::string &arguments, const std::string &before = "") {
    fs::path out = folder / "stdout", err = folder / "stderr";
    std::string line = absl::StrCat("cd ", folder.string(), " && ", before, INGOT_PROGRAM, " ", arguments, " >",
                                    out.string(), " 2>", err.string());
    int status = std::system(line.c_str()); // NOLINT(bugprone-command-processor): redirections and pipes
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
  }
  size_t partialFiles() {
    size_t count = 0;
    for (const auto &entry : fs::directory_iterator(folder))
      count += entry.path().string().find(".partial-") != std::string::npos;
    return count;
  }
  fs::path folder;
  std::string file;
  std::vector<ToyCode> toyCode;
};

TEST_F(IngotTest, WrongUsageIsTwo) {
  for (const char *arguments :
       {"", "bogus", "run", "run toy.ingot", "run toy.ingot --prompt a --no-such-flag",
        "run toy.ingot --prompt a --top-p 2", "run toy.ingot --prompt a --device gpu",
        "run toy.ingot --prompt a --device hip --target gfx1151", "run toy.ingot --prompt a --max-tokens 0",
        "run toy.ingot --prompt a --temperature -1", "logits toy.ingot", "inspect", "bench toy.ingot --repeat 0",
        "eval toy.ingot", "eval toy.ingot --text a --tokens 1", "eval toy.ingot --text a --window 1"}) {
    Result result = run(arguments);
    EXPECT_EQ(result.exitCode, 2) << arguments;
    EXPECT_NE(result.err, "") << arguments;
    EXPECT_EQ(result.out, "") << arguments;
  }
}

TEST_F(IngotTest, HelpIsZeroAndOnStdout) {
  for (const char *arguments :
       {"--help", "run --help", "logits --help", "inspect --help", "doctor --help", "bench --help", "eval --help"}) {
    Result result = run(arguments);
    EXPECT_EQ(result.exitCode, 0) << arguments;
    EXPECT_THAT(result.out, HasSubstr("Usage: ingot"));
  }
}

TEST_F(IngotTest, FailureIsOneWithOneLine) {
  std::string whole = read(file), flipped = whole, newer = whole;
  flipped[4100] ^= 4;
  newer[8] = 9;
  std::ofstream(folder / "flipped.ingot", std::ios::binary) << flipped;
  std::ofstream(folder / "newer.ingot", std::ios::binary) << newer;
  std::ofstream(folder / "cut.ingot", std::ios::binary) << whole.substr(0, whole.size() - 7);
  const std::pair<const char *, const char *> cases[] = {
      {"missing.ingot", "cannot be opened"},
      {"flipped.ingot", "does not match its checksum"},
      {"newer.ingot", "expected format version"},
      {"cut.ingot", "the tail is cut off"},
      {".", "no regular file"},
  };
  for (const auto &[name, message] : cases)
    for (const char *command : {"inspect ", "run --prompt a ", "doctor ", "bench "}) {
      Result result = run(absl::StrCat(command, name));
      EXPECT_EQ(result.exitCode, 1) << command << name;
      EXPECT_THAT(result.out + result.err, HasSubstr(message)) << command << name;
      EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    }
}

TEST_F(IngotTest, OtherChipsOnlyIsRefusedWithTheList) {
  Result result = run("run toy.ingot --prompt a --target gfx90a");
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_THAT(result.err, HasSubstr("has code for gfx1151, gfx1201, not for gfx90a"));
  ASSERT_TRUE(writeToyModel(file, std::vector<ToyCode>{toyCode[1]}, letters()).ok());
  result = run("run toy.ingot --prompt a --target gfx1151");
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_THAT(result.err, HasSubstr("has code for gfx1201, not for gfx1151"));
}

TEST_F(IngotTest, RunPrintsWhatTheModelSaysOnBothChips) {
  std::string prompt = "hello there.";
  std::string expected = textOf(toyReply(idsOf(prompt), 20)) + "\n";
  for (const char *flags : {"--target gfx1151", "--target gfx1201", "--target gfx1151 --no-graph", "--context 40"}) {
    Result result =
        run(absl::StrCat("run toy.ingot --max-tokens 20 --device emulator --prompt '", prompt, "' ", flags));
    EXPECT_EQ(result.exitCode, 0) << result.err;
    EXPECT_EQ(result.out, expected) << flags;
  }
  Result piped = run("run toy.ingot --max-tokens 20 --device emulator --prompt -", "printf 'hello there.' | ");
  EXPECT_EQ(piped.out, expected);
}

TEST_F(IngotTest, AutoFallsBackToTheEmulatorAndSaysSo) {
  Result hip = run("run toy.ingot --prompt a --device hip");
  if (hip.exitCode == 0)
    GTEST_SKIP() << "a card that runs this file is there";
  EXPECT_EQ(hip.exitCode, 1);
  EXPECT_THAT(hip.err, HasSubstr("--device emulator"));
  Result result = run("run toy.ingot --prompt a --max-tokens 3");
  EXPECT_EQ(result.exitCode, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("note: running on the emulated gfx1151, not on a GPU"));
}

TEST_F(IngotTest, SeedsRepeat) {
  auto generate = [&](const char *seed) {
    return run(absl::StrCat("run toy.ingot --prompt abc --max-tokens 12 --device emulator --temperature 1 --seed ",
                            seed))
        .out;
  };
  EXPECT_EQ(generate("5"), textOf(toySampledReply(idsOf("abc"), 12, 5)) + "\n");
  EXPECT_NE(generate("5"), generate("6"));
}

TEST_F(IngotTest, TheReplyEndsAtTheEndToken) {
  std::vector<int32_t> reply = toyReply(idsOf("abc"), 8);
  TokenizerData tokenizer = letters();
  tokenizer.add_end_of_sequence(static_cast<uint32_t>(reply[5]));
  ASSERT_TRUE(writeToyModel(file, toyCode, tokenizer).ok());
  size_t end = static_cast<size_t>(std::ranges::find(reply, reply[5]) - reply.begin());
  reply.resize(end);
  EXPECT_EQ(run("run toy.ingot --prompt abc --device emulator").out, textOf(reply) + "\n");
}

TEST_F(IngotTest, ChatTemplateAppliesUnlessRaw) {
  ASSERT_TRUE(writeToyModel(file, toyCode, letters("{{ messages[-1]['content'] }} yes.")).ok());
  auto generate = [&](const char *flags) {
    return run(absl::StrCat("run toy.ingot --prompt abc --max-tokens 9 --device emulator ", flags)).out;
  };
  EXPECT_EQ(generate(""), textOf(toyReply(idsOf("abc yes."), 9)) + "\n");
  EXPECT_EQ(generate("--raw"), textOf(toyReply(idsOf("abc"), 9)) + "\n");
  Result result = run("run toy.ingot --prompt abc --raw --system x");
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_THAT(result.err, HasSubstr("--raw leaves it out"));
}

TEST_F(IngotTest, PromptsThatDoNotFitAreRefused) {
  Result result = run(absl::StrCat("run toy.ingot --device emulator --prompt ", std::string(64, 'a')));
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_THAT(result.err, HasSubstr("the prompt has 64 tokens and the context 64 positions"));
  result = run("run toy.ingot --device emulator --prompt abcd --context 4");
  EXPECT_THAT(result.err, HasSubstr("give a larger --context"));
  EXPECT_EQ(run("run toy.ingot --prompt a --context 65").exitCode, 1);
  // A reply that reaches the end of the context stops there, which is no failure.
  result = run("run toy.ingot --device emulator --prompt abcd --context 16 --max-tokens 100");
  EXPECT_EQ(result.exitCode, 0);
  EXPECT_EQ(result.out, textOf(toyReply(idsOf("abcd"), 13)) + "\n");
  EXPECT_THAT(result.err, HasSubstr("context of 16 positions is full"));
}

TEST_F(IngotTest, LogitsAreTheModelsByChunksAndBySteps) {
  std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5};
  std::ofstream(folder / "ids.json") << nlohmann::json(ids).dump();
  for (const char *flags : {"", "--steps"}) {
    Result result =
        run(absl::StrCat("logits toy.ingot --device emulator --tokens ids.json -o out.safetensors ", flags));
    ASSERT_EQ(result.exitCode, 0) << result.err;
    std::string bytes = read(folder / "out.safetensors");
    uint64_t length = 0;
    ASSERT_GE(bytes.size(), sizeof length);
    std::memcpy(&length, bytes.data(), sizeof length);
    ASSERT_LE(length, bytes.size() - 8);
    EXPECT_EQ(length % 8, 0u);
    auto header = nlohmann::json::parse(bytes.substr(8, length));
    EXPECT_EQ(header["logits"]["dtype"], "F32");
    EXPECT_EQ(header["logits"]["shape"], (std::vector<size_t>{9, 32}));
    std::vector<float> values(9 * 32);
    ASSERT_EQ(bytes.size(), 8 + length + values.size() * 4);
    EXPECT_EQ(header["logits"]["data_offsets"], (std::vector<size_t>{0, values.size() * 4}));
    std::memcpy(values.data(), &bytes[8 + length], values.size() * 4);
    std::vector<float> expected;
    for (const auto &row : toyLogitsOf(ids))
      expected.insert(expected.end(), row.begin(), row.end());
    EXPECT_EQ(values, expected);
  }
  EXPECT_EQ(partialFiles(), 0u);
}

TEST_F(IngotTest, LogitsRefusesBadIdsAndLeavesNoFile) {
  const std::pair<const char *, const char *> cases[] = {
      {"[1, 2", "expected a JSON array"},
      {"{}", "expected a JSON array"},
      {"[]", "expected a JSON array"},
      {"[1, \"x\"]", "element 1: expected a token id"},
      {"[-1]", "element 0: expected a token id"},
      {"[1.5]", "element 0: expected a token id"},
      {"[32]", "expected an id from 0 to 31, got 32"},
      {"[99999999999999999999]", "expected a token id"},
  };
  for (const auto &[text, message] : cases) {
    std::ofstream(folder / "ids.json") << text;
    Result result = run("logits toy.ingot --device emulator --tokens ids.json -o out.safetensors");
    EXPECT_EQ(result.exitCode, 1) << text;
    EXPECT_THAT(result.err, HasSubstr(message)) << text;
    EXPECT_FALSE(fs::exists(folder / "out.safetensors"));
  }
  std::ofstream(folder / "ids.json") << "[1]";
  EXPECT_EQ(run("logits toy.ingot --device emulator --tokens ids.json -o no/such/folder/x").exitCode, 1);
  EXPECT_EQ(run("logits toy.ingot --device emulator --tokens none.json -o x").exitCode, 1);
  EXPECT_EQ(partialFiles(), 0u);
}

TEST_F(IngotTest, InspectTellsWhatIsInside) {
  Result text = run("inspect toy.ingot");
  EXPECT_EQ(text.exitCode, 0);
  EXPECT_THAT(text.out,
              AllOf(HasSubstr("gfx1151"), HasSubstr("gfx1201"), HasSubstr("toy_embed"), HasSubstr("weights")));
  Result json = run("inspect toy.ingot --json");
  auto parsed = nlohmann::json::parse(json.out, nullptr, false);
  ASSERT_TRUE(parsed.is_object()) << json.out;
  EXPECT_EQ(parsed["targets"].size(), 2u);
  EXPECT_EQ(parsed["targets"][0]["programs"][1]["launches"], 3);
  EXPECT_EQ(parsed["weights_by_scheme"][0]["bytes"], 32);
  EXPECT_EQ(parsed["sections"].size(), 4u);
  EXPECT_EQ(parsed["memory"]["bytes_per_position"], 8);
  EXPECT_EQ(parsed["memory"]["kv_cache"]["bytes"], 0); // its state is a table, and no keys and values
  const uint64_t most = parsed["facts"]["context_length"];
  Result beyond = run(absl::StrCat("inspect toy.ingot --context ", most + 1));
  EXPECT_EQ(beyond.exitCode, 1);
  EXPECT_THAT(beyond.err, HasSubstr(absl::StrCat("a --context of at most the ", most, " positions")));
}

TEST_F(IngotTest, DoctorChecksTheFile) {
  Result result = run("doctor toy.ingot --device emulator");
  EXPECT_EQ(result.exitCode, 0) << result.out;
  EXPECT_THAT(result.out, AllOf(HasSubstr("emulator: "), HasSubstr("every checksum right"), HasSubstr("fits ")));
  EXPECT_EQ(run("doctor").exitCode, 0);
}

TEST_F(IngotTest, BenchCountsOnTheEmulator) {
  Result result = run("bench toy.ingot --device emulator --prompt-tokens 9 --max-tokens 8 --repeat 2 --json");
  ASSERT_EQ(result.exitCode, 0) << result.err;
  auto json = nlohmann::json::parse(result.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << result.out;
  EXPECT_GT(json["decode"]["tokens_per_second"]["median"], 0);
  EXPECT_GT(json["decode"]["emulator"]["wave_instructions_per_second"], 0);
  EXPECT_EQ(json["decode"]["emulator"]["counters"]["totals"]["launches"], 8 * 4);
  EXPECT_EQ(json["decode"]["launches_per_token"], 4);
  // A token's weight is one byte, which nothing else reads.
  EXPECT_EQ(json["decode"]["emulator"]["weight_bytes_read_per_token"], 1);
  EXPECT_EQ(json["decode"]["emulator"]["weight_bytes_ratio"], 1);
  EXPECT_EQ(json["decode"]["emulator"]["counters"]["totals"]["buffers"]["weights"]["written"], 0);
  EXPECT_GT(json["decode"]["emulator"]["cache_bytes_written_per_token"], 0);
  EXPECT_GT(json["decode"]["emulator"]["activation_bytes_read_per_token"], 0);
  result = run("bench toy.ingot --device emulator --prompt-tokens 64");
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_THAT(result.err, HasSubstr("give smaller --depth, --prompt-tokens or --max-tokens"));
}

// The mean of -log p over the tokens of `text` from `first` on, where each window begins anew with token 28.
double toySurprise(const std::vector<int32_t> &text, size_t window, size_t stride) {
  double sum = 0;
  size_t scored = 0;
  for (size_t begin = 0; scored < text.size(); begin += stride) {
    size_t end = std::min(text.size(), begin + window - 1);
    std::vector<int32_t> fed = {28};
    fed.insert(fed.end(), text.begin() + static_cast<ptrdiff_t>(begin), text.begin() + static_cast<ptrdiff_t>(end));
    auto rows = toyLogitsOf(fed);
    for (; scored < end; ++scored) {
      const std::vector<float> &row = rows[scored - begin];
      double largest = *std::ranges::max_element(row), total = 0;
      for (float logit : row)
        total += std::exp(logit - largest);
      sum += largest + std::log(total) - row[static_cast<size_t>(text[scored])];
    }
  }
  return sum / static_cast<double>(text.size());
}

TEST_F(IngotTest, EvalBeginsEachWindowWithTheBeginningOfSequence) {
  TokenizerData tokenizer = letters();
  tokenizer.set_bos(28);
  tokenizer.set_add_bos(true);
  ASSERT_TRUE(writeToyModel(file, toyCode, tokenizer).ok());
  std::string text = "the quick brown fox jumps over it.";
  std::ofstream(folder / "text.txt") << text;
  for (const auto &[flags, window, stride] :
       {std::tuple("", 64, 32), std::tuple("--window 9 --stride 8", 9, 8), std::tuple("--window 12", 12, 6)}) {
    Result result = run(absl::StrCat("eval toy.ingot --device emulator --text text.txt --json --save-tokens ids.json ",
                                     "--against toy.ingot ", flags));
    ASSERT_EQ(result.exitCode, 0) << result.err;
    auto json = nlohmann::json::parse(result.out, nullptr, false);
    ASSERT_TRUE(json.is_object()) << result.out;
    EXPECT_EQ(json["scored_tokens"], text.size());
    EXPECT_EQ(json["bos"], true);
    EXPECT_DOUBLE_EQ(json["mean_surprise"].get<double>(),
                     toySurprise(idsOf(text), static_cast<size_t>(window), static_cast<size_t>(stride)))
        << flags;
    EXPECT_EQ(json["against"]["kl_largest"], 0);
  }
  std::vector<int32_t> saved = {28};
  for (int32_t id : idsOf(text))
    saved.push_back(id);
  EXPECT_EQ(nlohmann::json::parse(read(folder / "ids.json"), nullptr, false), nlohmann::json(saved));
  // Logits of the saved tokens are those that eval compares with.
  ASSERT_EQ(run("logits toy.ingot --device emulator --tokens ids.json -o out.safetensors").exitCode, 0);
  Result result = run("eval toy.ingot --device emulator --text text.txt --against out.safetensors --json");
  ASSERT_EQ(result.exitCode, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["against"]["kl_largest"], 0);
}

TEST_F(IngotTest, EvalRefusesAModelOfOtherTokens) {
  TokenizerData other = letters();
  std::swap(*other.mutable_pieces(0), *other.mutable_pieces(1));
  ASSERT_TRUE(writeToyModel((folder / "other.ingot").string(), toyCode, other).ok());
  std::ofstream(folder / "text.txt") << "abc";
  Result result = run("eval toy.ingot --device emulator --text text.txt --against other.ingot");
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_THAT(result.err, HasSubstr("splits the text into other tokens"));
  EXPECT_EQ(result.out, "");
}

TEST_F(IngotTest, AFolderIsNoInputFile) {
  for (const char *arguments :
       {"logits toy.ingot --device emulator --tokens . -o x", "eval toy.ingot --device emulator --text .",
        "eval toy.ingot --device emulator --text text.txt --against x.safetensors"}) {
    std::ofstream(folder / "text.txt") << "abc";
    fs::create_directories(folder / "x.safetensors");
    Result result = run(arguments);
    EXPECT_EQ(result.exitCode, 1) << arguments;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
  }
}

TEST_F(IngotTest, StatsGoToStderr) {
  Result result = run("run toy.ingot --prompt abc --max-tokens 5 --device emulator --stats");
  EXPECT_EQ(result.out, textOf(toyReply(idsOf("abc"), 5)) + "\n");
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("first token"), HasSubstr("4 launches"), HasSubstr("wave-instructions a token"),
                    HasSubstr("toy_scan"), HasSubstr("weights 1 B read (1.0000 times the planned 1 B)")));
}

TEST_F(IngotTest, AnInterruptStopsAfterTheStep) {
  std::string script = absl::StrCat(
      "cd ", folder.string(), " && { ", INGOT_PROGRAM,
      " bench toy.ingot --device emulator --prompt-tokens 9 --repeat 1000 >/dev/null 2>err & "
      "pid=$!; until grep -q run err || ! kill -0 $pid; do sleep 0.02; done; kill -INT $pid; wait $pid; }");
  int status = std::system(script.c_str()); // NOLINT(bugprone-command-processor): a background job
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(read(folder / "err"), HasSubstr("stopped on request"));
}

} // namespace
} // namespace ingot::testing
