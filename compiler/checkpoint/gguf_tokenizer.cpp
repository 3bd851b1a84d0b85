// The tokenizer inside a GGUF file: `gpt2` (byte-level BPE, the word-splitting rule given by name) and `llama`
// (SentencePiece pieces with scores).
#include <array>

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/pre_tokenizer.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

absl::Status readPieces(const GgufFile &file, const std::string &where, TokenizerData &tokenizer) {
  const auto texts = file.strings("tokenizer.ggml.tokens");
  const auto types = file.integers("tokenizer.ggml.token_type");
  const auto scores = file.floats("tokenizer.ggml.scores");
  for (const absl::Status &status : {texts.status(), types.status(), scores.status()})
    if (!status.ok())
      return status;
  if (!texts->has_value())
    return absl::InvalidArgumentError(cat(where, ": 'tokenizer.ggml.tokens' is missing"));
  const size_t size = (*texts)->size();
  if (size == 0 || size > kMaxVocabulary)
    return absl::InvalidArgumentError(cat(where, ": ", size, " tokens, expected 1 to ", kMaxVocabulary));
  if ((types->has_value() && (*types)->size() != size) || (scores->has_value() && (*scores)->size() != size))
    return absl::InvalidArgumentError(
        cat(where, ": ", size, " tokens, but a different number of token types or scores"));
  constexpr std::array kinds = {Piece::NORMAL,       Piece::NORMAL, Piece::UNKNOWN, Piece::CONTROL,
                                Piece::USER_DEFINED, Piece::UNUSED, Piece::BYTE};
  for (size_t i = 0; i < size; ++i) {
    Piece *piece = tokenizer.add_pieces();
    piece->set_text(std::string((**texts)[i]));
    if (scores->has_value())
      piece->set_score((**scores)[i]);
    if (!types->has_value())
      continue;
    const int64_t type = (**types)[i];
    if (type < 0 || type >= static_cast<int64_t>(kinds.size()))
      return absl::InvalidArgumentError(cat(where, ": token ", i, " has type ", type, ", expected 0 to 6"));
    piece->set_type(kinds[type]);
  }
  return absl::OkStatus();
}

absl::Status readByteLevel(const GgufFile &file, const std::string &where, TokenizerData &tokenizer) {
  tokenizer.set_kind(TokenizerData::BYTE_LEVEL_BPE);
  absl::StatusOr<std::optional<std::string>> pre = file.text("tokenizer.ggml.pre");
  if (!pre.ok())
    return pre.status();
  const PreTokenizer *rule = findPreTokenizer(pre->value_or("default"));
  if (!rule)
    return absl::UnimplementedError(
        cat(where, ": unknown pre-tokenizer '", printable(**pre), "'; known are ", preTokenizerNames()));
  tokenizer.add_pre_split(std::string(rule->pattern));
  tokenizer.set_digits_alone(rule->digitsAlone);
  tokenizer.set_ignore_merges(rule->ignoreMerges);
  tokenizer.set_nfc(rule->nfc);
  tokenizer.set_add_bos(rule->addBos);
  const auto merges = file.strings("tokenizer.ggml.merges");
  if (!merges.ok())
    return merges.status();
  if (!merges->has_value())
    return absl::InvalidArgumentError(cat(where, ": 'tokenizer.ggml.merges' is missing"));
  for (std::string_view merge : **merges)
    tokenizer.add_merges(std::string(merge));
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<TokenizerData> readGgufTokenizer(const GgufFile &file) {
  TokenizerData tokenizer;
  for (auto set : {&TokenizerData::set_bos, &TokenizerData::set_eos, &TokenizerData::set_unknown})
    (tokenizer.*set)(-1);
  absl::StatusOr<std::optional<std::string>> model = file.text("tokenizer.ggml.model");
  if (!model.ok())
    return model.status();
  const std::string kind = model->value_or("none");
  const std::string where = cat(file.path(), ": tokenizer");
  if (kind == "none" || kind == "no_vocab")
    return tokenizer;
  if (kind != "gpt2" && kind != "llama")
    return absl::UnimplementedError(
        cat(where, " of kind '", printable(kind), "'; the kinds 'gpt2' and 'llama' are read"));
  if (absl::Status status = readPieces(file, where, tokenizer); !status.ok())
    return status;
  if (kind == "gpt2") {
    if (absl::Status status = readByteLevel(file, where, tokenizer); !status.ok())
      return status;
  } else {
    tokenizer.set_kind(TokenizerData::SENTENCEPIECE);
    tokenizer.set_add_bos(true);
    tokenizer.set_add_space_prefix(true);
  }

  struct Flag {
    const char *key;
    void (TokenizerData::*set)(bool);
  };
  for (const Flag &flag : {Flag{"tokenizer.ggml.add_bos_token", &TokenizerData::set_add_bos},
                           Flag{"tokenizer.ggml.add_space_prefix", &TokenizerData::set_add_space_prefix}}) {
    absl::StatusOr<std::optional<bool>> value = file.boolean(flag.key);
    if (!value.ok())
      return value.status();
    if (value->has_value())
      (tokenizer.*flag.set)(**value);
  }
  struct Id {
    const char *key;
    void (TokenizerData::*set)(int32_t);
    bool ends;
  };
  for (const Id &id :
       {Id{"tokenizer.ggml.bos_token_id", &TokenizerData::set_bos, false},
        Id{"tokenizer.ggml.eos_token_id", &TokenizerData::set_eos, true},
        Id{"tokenizer.ggml.unknown_token_id", &TokenizerData::set_unknown, false},
        Id{"tokenizer.ggml.eot_token_id", nullptr, true}, Id{"tokenizer.ggml.eom_token_id", nullptr, true}}) {
    absl::StatusOr<std::optional<int64_t>> value = file.integer(id.key);
    if (!value.ok())
      return value.status();
    if (!value->has_value())
      continue;
    if (**value < 0 || **value >= tokenizer.pieces_size())
      return absl::InvalidArgumentError(
          cat(where, ": '", id.key, "' is ", **value, ", the vocabulary has ", tokenizer.pieces_size(), " tokens"));
    if (id.set)
      (tokenizer.*id.set)(static_cast<int32_t>(**value));
    if (id.ends)
      addEndOfSequence(tokenizer, **value);
  }
  // GGUF has fields for two further tokens that end a reply, and many files leave those unset.
  addNamedEnds(tokenizer);

  absl::StatusOr<std::optional<std::string>> chat = file.text("tokenizer.chat_template");
  if (!chat.ok())
    return chat.status();
  tokenizer.set_chat_template(chat->value_or(""));
  if (absl::Status status = checkTokenizer(where, tokenizer); !status.ok())
    return status;
  return tokenizer;
}

} // namespace ingot
