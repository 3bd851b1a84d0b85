// Mistral's tekken.json: pieces as base64 bytes in the order of their ranks, the pattern that cuts words, and how many
// of the first ids are special. Ids are ranks after the special ones. The file may list more pieces than the model has,
// and fewer special tokens: the rest are called `<SPECIAL_n>`. Older files list none; they mean the twenty of the third
// version.
#include <array>

#include "absl/strings/escaping.h"

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 20> kSpecialTokensOfOldFiles = {"<unk>",
                                                                       "<s>",
                                                                       "</s>",
                                                                       "[INST]",
                                                                       "[/INST]",
                                                                       "[AVAILABLE_TOOLS]",
                                                                       "[/AVAILABLE_TOOLS]",
                                                                       "[TOOL_RESULTS]",
                                                                       "[/TOOL_RESULTS]",
                                                                       "[TOOL_CALLS]",
                                                                       "[IMG]",
                                                                       "<pad>",
                                                                       "[IMG_BREAK]",
                                                                       "[IMG_END]",
                                                                       "[PREFIX]",
                                                                       "[MIDDLE]",
                                                                       "[SUFFIX]",
                                                                       "[SYSTEM_PROMPT]",
                                                                       "[/SYSTEM_PROMPT]",
                                                                       "[TOOL_CONTENT]"};

// As byte-level vocabularies spell bytes (GPT-2): printable ones as themselves, the others as U+0100 and so on.
std::string spelled(std::string_view bytes) {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> made;
    const auto encode = [](uint32_t c) {
      return c < 0x80 ? std::string(1, static_cast<char>(c))
                      : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    };
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < made.size(); ++byte) {
      const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      made[byte] = encode(printable ? byte : next++);
    }
    return made;
  }();
  std::string text;
  for (const char c : bytes)
    text += characters[static_cast<uint8_t>(c)];
  return text;
}

class Tekken {
public:
  Tekken(const std::string &where, const json &file, TokenizerData &tokenizer)
      : where(where), file(file), tokenizer(tokenizer) {}

  absl::Status read() {
    tokenizer.set_kind(TokenizerData::BYTE_LEVEL_BPE);
    tokenizer.set_ignore_merges(true); // and no merges: by rank
    tokenizer.set_add_bos(true);
    for (const auto &step : {&Tekken::readSizes, &Tekken::readSpecialTokens, &Tekken::readPieces, &Tekken::nameIds})
      if (absl::Status status = (this->*step)(); !status.ok())
        return status;
    return absl::OkStatus();
  }

private:
  absl::Status damaged(std::string_view what) const { return absl::InvalidArgumentError(cat(where, ": ", what)); }

  absl::Status readSizes() {
    const auto config = file.find("config");
    if (config == file.end() || !config->is_object())
      return damaged("expected an object 'config'");
    for (const auto &[key, out] :
         {std::pair<const char *, uint64_t *>{"default_vocab_size", &size}, {"default_num_special_tokens", &special}}) {
      const auto value = config->find(key);
      if (value == config->end() || !value->is_number_unsigned() || value->get<uint64_t>() > kMaxVocabulary)
        return damaged(cat("expected 'config.", key, "', a number up to ", kMaxVocabulary));
      *out = value->get<uint64_t>();
    }
    if (size < special + 256)
      return damaged(cat(special, " special tokens of ", size, " ids leave less than one for each byte"));
    const auto pattern = config->find("pattern");
    if (pattern == config->end() || !pattern->is_string() || pattern->get_ref<const std::string &>().empty())
      return damaged("expected 'config.pattern', a regular expression");
    tokenizer.add_pre_split(pattern->get<std::string>());
    return absl::OkStatus();
  }

  absl::Status readSpecialTokens() {
    for (uint64_t id = 0; id < special; ++id) {
      Piece *piece = tokenizer.add_pieces();
      piece->set_text(cat("<SPECIAL_", id, ">"));
      piece->set_type(Piece::CONTROL);
    }
    const auto listed = file.find("special_tokens");
    if (listed == file.end() || listed->is_null()) {
      for (size_t id = 0; id < kSpecialTokensOfOldFiles.size() && id < special; ++id)
        tokenizer.mutable_pieces(static_cast<int>(id))->set_text(std::string(kSpecialTokensOfOldFiles[id]));
      return absl::OkStatus();
    }
    if (!listed->is_array())
      return damaged("'special_tokens' should be an array");
    for (const json &token : *listed) {
      const auto rank = token.is_object() ? token.find("rank") : token.end();
      const auto text = token.is_object() ? token.find("token_str") : token.end();
      if (!token.is_object() || rank == token.end() || text == token.end() || !rank->is_number_unsigned() ||
          !text->is_string() || text->get_ref<const std::string &>().empty() || rank->get<uint64_t>() >= special)
        return damaged(cat("a special token should have a 'token_str' and a 'rank' less than ", special));
      tokenizer.mutable_pieces(static_cast<int>(rank->get<uint64_t>()))->set_text(text->get<std::string>());
    }
    return absl::OkStatus();
  }

  absl::Status readPieces() {
    const auto vocabulary = file.find("vocab");
    if (vocabulary == file.end() || !vocabulary->is_array() || vocabulary->size() < size - special)
      return damaged(cat("expected an array 'vocab' of at least ", size - special, " pieces"));
    for (uint64_t rank = 0; rank < size - special; ++rank) {
      const json &entry = (*vocabulary)[rank];
      const auto own = entry.is_object() ? entry.find("rank") : entry.end();
      const auto encoded = entry.is_object() ? entry.find("token_bytes") : entry.end();
      if (!entry.is_object() || own == entry.end() || encoded == entry.end() || !own->is_number_unsigned() ||
          own->get<uint64_t>() != rank || !encoded->is_string())
        return damaged(cat("entry ", rank, " of 'vocab' should have 'rank' ", rank, " and 'token_bytes'"));
      std::string bytes;
      const std::string &text = encoded->get_ref<const std::string &>();
      if (!absl::Base64Unescape(text, &bytes) || bytes.empty())
        return damaged(cat("'token_bytes' of entry ", rank, " of 'vocab' is not base64"));
      if (rank < 256 && (bytes.size() != 1 || static_cast<uint8_t>(bytes.front()) != rank))
        return damaged(cat("entry ", rank, " of 'vocab' should be the byte ", rank));
      tokenizer.add_pieces()->set_text(spelled(bytes));
    }
    return absl::OkStatus();
  }

  absl::Status nameIds() {
    for (int id = 0; id < static_cast<int>(special); ++id) {
      const std::string &text = tokenizer.pieces(id).text();
      if (text == "<s>")
        tokenizer.set_bos(id);
      else if (text == "</s>")
        tokenizer.set_eos(id);
      else if (text == "<unk>")
        tokenizer.set_unknown(id);
    }
    if (tokenizer.bos() < 0 || tokenizer.eos() < 0)
      return damaged("expected the special tokens <s> and </s>");
    return absl::OkStatus();
  }

  const std::string &where;
  const json &file;
  TokenizerData &tokenizer;
  uint64_t size = 0, special = 0; // all ids, and those before the first piece of text
};

} // namespace

absl::Status readTekken(const std::string &where, const json &file, TokenizerData &tokenizer) {
  return Tekken(where, file, tokenizer).read();
}

} // namespace ingot
