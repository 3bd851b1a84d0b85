// What the parts of this library say to each other: one function that opens each kind of checkpoint and those that make
// its tokenizer. Users of the library include checkpoint.h only.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "compiler/checkpoint/checkpoint.h"
#include "compiler/checkpoint/gguf_file.h"

namespace ingot {

absl::StatusOr<std::unique_ptr<Checkpoint>> openGgufCheckpoint(const std::string &path);
absl::StatusOr<std::unique_ptr<Checkpoint>> openFolderCheckpoint(const std::string &folder);

// Kind NONE when the file has no vocabulary.
absl::StatusOr<TokenizerData> readGgufTokenizer(const GgufFile &file);

// From tokenizer.json, tokenizer.model (or tokenizer.model.v3 and the like), tekken.json, tokenizer_config.json,
// chat_template.jinja, generation_config.json of `folder`; `config` is the model's, whose token ids count where the
// others are silent. Kind NONE when there is none of the first three.
absl::StatusOr<TokenizerData> readFolderTokenizer(const std::string &folder, const nlohmann::json &config);

// Fills pieces, special ids and the model's bytes from a serialised SentencePiece model. `where` begins the messages.
absl::Status readSentencePieceModel(const std::string &where, std::string bytes, TokenizerData &tokenizer);

// Fills kind, pieces, pattern and special ids from a parsed tekken.json. `where` begins the messages.
absl::Status readTekken(const std::string &where, const nlohmann::json &file, TokenizerData &tokenizer);

// config.json's keys for a Mistral folder's params.json. Errors name the key: missing, of another kind, or one that
// asks for what a Mistral or Ministral 3 of text does not have.
absl::StatusOr<nlohmann::json> readMistralParams(const std::string &where, const nlohmann::json &params);

// Parses `text`; errors begin with `where`. Refuses nesting deeper than any real file has.
absl::StatusOr<nlohmann::json> parseJson(const std::string &where, std::string_view text);

// Adds an id to end_of_sequence once.
void addEndOfSequence(TokenizerData &tokenizer, int64_t id);

// The last checks that hold for every tokenizer: ids inside the vocabulary, merges and patterns valid UTF-8.
absl::Status checkTokenizer(const std::string &where, const TokenizerData &tokenizer);

inline constexpr uint64_t kMaxVocabulary = 1 << 21;

} // namespace ingot
