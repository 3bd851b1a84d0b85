// A chat template from a file takes the place of the tokenizer's, and the control tokens that end turns end replies. What
// is refused: tests/e2e/errors.py.
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compiler/chat_template_file.h"

namespace ingot {
namespace {

TEST(ChatTemplateFile, ReplacesTheTemplateAndEndsTurns) {
  const std::string path = ::testing::TempDir() + "chat_template_file_test.jinja";
  std::ofstream(path) << "{{ messages[0].content }}<end_of_turn>";
  absl::StatusOr<ChatTemplateFile> file = readChatTemplate(path);
  std::remove(path.c_str());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->origin, ::testing::MatchesRegex("chat_template_file_test.jinja, xxh3 [0-9a-f]{16}"));

  TokenizerData tokenizer;
  EXPECT_EQ(setChatTemplate(tokenizer, *file).code(), absl::StatusCode::kFailedPrecondition);
  tokenizer.set_kind(TokenizerData::BYTE_LEVEL_BPE);
  tokenizer.set_chat_template("{% broken");
  for (const auto &[text, type] : {std::pair("</s>", Piece::CONTROL),
                                   {"<|im_end|>", Piece::NORMAL}, // only text that looks so
                                   {"<end_of_turn>", Piece::CONTROL}}) {
    Piece *piece = tokenizer.add_pieces();
    piece->set_text(text);
    piece->set_type(type);
  }
  tokenizer.add_end_of_sequence(0);
  ASSERT_TRUE(setChatTemplate(tokenizer, *file).ok());
  EXPECT_EQ(tokenizer.chat_template(), "{{ messages[0].content }}<end_of_turn>");
  EXPECT_THAT(tokenizer.end_of_sequence(), ::testing::ElementsAre(0, 2));
}

} // namespace
} // namespace ingot
