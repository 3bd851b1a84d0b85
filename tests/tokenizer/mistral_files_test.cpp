// A tekken.json against the ids and texts of mistral-common, Mistral's own reader (make_goldens.py makes both).
#include <filesystem>
#include <fstream>
#include <functional>

#include "gmock/gmock.h"

#include "compiler/checkpoint/readers.h"
#include "runtime/tokenizer/golden_file.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ingot {
namespace {

class TekkenTest : public testing::Test {
protected:
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }

  absl::StatusOr<TokenizerData> read(const golden::Json &file) {
    std::ofstream(folder / "tekken.json") << file.dump();
    return readFolderTokenizer(folder.string(), nlohmann::json::object());
  }
  // The message about a file in which `change` was made.
  std::string refusal(const std::function<void(golden::Json &)> &change) {
    golden::Json broken = file;
    change(broken);
    return std::string(read(broken).status().message());
  }

  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "ingot-tekken-test";
  const golden::Json file = golden::readJson("tekken_file");
};

TEST_F(TekkenTest, EqualsTheReference) {
  absl::StatusOr<TokenizerData> data = read(file);
  ASSERT_TRUE(data.ok()) << data.status();
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(*data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const golden::Json expected = golden::readJson("tekken");
  EXPECT_EQ((*tokenizer)->size(), expected["size"]);
  EXPECT_EQ((*tokenizer)->bos(), 1);
  EXPECT_EQ((*tokenizer)->eos(), 2);
  EXPECT_TRUE((*tokenizer)->addsBos());
  ASSERT_GT(expected["cases"].size(), 150U);
  for (const golden::Json &test : expected["cases"]) {
    const std::string text = golden::fromBase64(test["text"]);
    EXPECT_EQ((*tokenizer)->encode(text), test["ids"].get<std::vector<int32_t>>()) << testing::PrintToString(text);
  }
  ASSERT_GT(expected["decodes"].size(), 150U);
  for (const golden::Json &test : expected["decodes"])
    EXPECT_EQ((*tokenizer)->decode(test["ids"].get<std::vector<int32_t>>(), test["skip"]),
              golden::fromBase64(test["text"]))
        << test["ids"];
}

TEST_F(TekkenTest, SpecialTokensComeFirstAndOnlyFromTemplates) {
  absl::StatusOr<TokenizerData> data = read(file);
  ASSERT_TRUE(data.ok()) << data.status();
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(*data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->encode("[INST]", {.parseSpecial = true}), std::vector<int32_t>{3});
  for (const int32_t id : (*tokenizer)->encode("[INST]<s>"))
    EXPECT_FALSE((*tokenizer)->isControl(id));
  EXPECT_EQ((*tokenizer)->pieceText(25), "<SPECIAL_25>");
  // Files from before special tokens were listed have the same twenty.
  golden::Json old = file;
  old.erase("special_tokens");
  absl::StatusOr<TokenizerData> same = read(old);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->SerializeAsString(), data->SerializeAsString());
}

TEST_F(TekkenTest, RefusesWhatIsDamaged) {
  using golden::Json;
  const auto contains = [](const char *part) { return testing::HasSubstr(part); };
  EXPECT_THAT(refusal([](Json &f) { f.erase("config"); }), contains("expected an object 'config'"));
  EXPECT_THAT(refusal([](Json &f) { f["config"]["default_vocab_size"] = -1; }), contains("default_vocab_size"));
  EXPECT_THAT(refusal([](Json &f) { f["config"]["default_vocab_size"] = 100; }), contains("less than one for each"));
  EXPECT_THAT(refusal([](Json &f) { f["config"]["default_vocab_size"] = 9999; }), contains("'vocab' of at least"));
  EXPECT_THAT(refusal([](Json &f) { f["config"]["pattern"] = ""; }), contains("config.pattern"));
  EXPECT_THAT(refusal([](Json &f) { f["special_tokens"][0]["rank"] = 30; }), contains("less than 30"));
  EXPECT_THAT(refusal([](Json &f) { f["special_tokens"][1]["token_str"] = "x"; }), contains("<s> and </s>"));
  EXPECT_THAT(refusal([](Json &f) { f["vocab"][300]["rank"] = 301; }), contains("entry 300"));
  EXPECT_THAT(refusal([](Json &f) { f["vocab"][300]["token_bytes"] = "*"; }), contains("not base64"));
  EXPECT_THAT(refusal([](Json &f) { f["vocab"][65]["token_bytes"] = "QkI="; }), contains("should be the byte 65"));
  EXPECT_THAT(refusal([](Json &f) { f["vocab"][3] = 3; }), contains("entry 3"));
}

} // namespace
} // namespace ingot
