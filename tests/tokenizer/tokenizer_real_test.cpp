// SmolLM2's own vocabulary, read from its GGUF, against ids that Hugging Face's tokenizers gave for the same
// vocabulary. The GGUF is too large for the repository: INGOT_TEST_GGUF names it, and without it the test says that it
// was skipped.
#include <cstdlib>

#include "compiler/checkpoint/checkpoint.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/golden_file.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ingot {
namespace {

TEST(RealTokenizerTest, EqualsTheReference) {
  const char *path = std::getenv("INGOT_TEST_GGUF");
  if (!path || !*path)
    GTEST_SKIP() << "set INGOT_TEST_GGUF to a GGUF of SmolLM2 to run this";
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create((*checkpoint)->tokenizer());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  golden::Json file = golden::readJson("real_smollm2");
  ASSERT_GT(file["cases"].size(), 150U);
  for (const golden::Json &test : file["cases"]) {
    std::string text = golden::fromBase64(test["text"]);
    bool special = test["special"];
    EXPECT_EQ((*tokenizer)->encode(text, {.parseSpecial = special}), test["ids"].get<std::vector<int32_t>>())
        << testing::PrintToString(text) << " special " << special;
  }
  for (const golden::Json &test : file["decodes"])
    EXPECT_EQ((*tokenizer)->decode(test["ids"].get<std::vector<int32_t>>(), test["skip"]),
              golden::fromBase64(test["text"]));

  absl::StatusOr<ChatTemplate> chat = ChatTemplate::create((*checkpoint)->tokenizer().chat_template());
  ASSERT_TRUE(chat.ok()) << chat.status();
  absl::StatusOr<std::string> prompt =
      chat->render(golden::Json::parse(R"([{"role": "user", "content": "Hi"}])"), true);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_TRUE(prompt->ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")) << *prompt;
  std::vector<int32_t> ids = (*tokenizer)->encode(*prompt, {.parseSpecial = true});
  ASSERT_FALSE(ids.empty());
  EXPECT_EQ(ids[0], (*tokenizer)->find("<|im_start|>"));
}

} // namespace
} // namespace ingot
