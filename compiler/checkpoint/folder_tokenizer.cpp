// The tokenizer of a folder. tokenizer.json is read when it is a byte-level BPE, whose steps are translated to the few
// facts that the runtime needs; a step that has no such fact is refused by name, because a tokenizer that is nearly
// right is wrong. A SentencePiece vocabulary comes from tokenizer.model, or from a tokenizer.json that was converted
// from one. Mistral's own folders have a tekken.json, or a tokenizer.model with their version behind its name.
#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/pre_tokenizer.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxTokenizerBytes = 256 << 20;
constexpr std::string_view kSpaceMark = "\xe2\x96\x81"; // U+2581, SentencePiece's space

// Members that are not there, or of another type, read as these.
std::string stringOr(const json &object, const char *key, std::string fallback = "") {
  if (!object.is_object())
    return fallback;
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
}

bool boolOr(const json &object, const char *key, bool fallback) {
  if (!object.is_object())
    return fallback;
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

const json &member(const json &object, const char *key) {
  static const json null;
  if (!object.is_object())
    return null;
  const auto found = object.find(key);
  return found != object.end() ? *found : null;
}

// The parts of a step that may be a Sequence, in order; nothing for null.
std::vector<const json *> flatten(const json &step, const char *listKey) {
  std::vector<const json *> parts;
  if (step.is_null())
    return parts;
  if (stringOr(step, "type") != "Sequence")
    return {&step};
  for (const json &part : member(step, listKey))
    for (const json *inner : flatten(part, listKey))
      parts.push_back(inner);
  return parts;
}

// A token given as a string or as an object with "content".
std::string tokenText(const json &token) {
  return token.is_string() ? token.get<std::string>() : stringOr(token, "content");
}

class FolderTokenizer {
public:
  FolderTokenizer(std::string folder, const json &config) : folder(std::move(folder)), config(config) {}

  absl::StatusOr<TokenizerData> read() {
    tokenizer.set_bos(-1);
    tokenizer.set_eos(-1);
    tokenizer.set_unknown(-1);
    for (const auto &[name, out] : {std::pair<const char *, json *>{"tokenizer.json", &main},
                                    {"tokenizer_config.json", &settings},
                                    {"special_tokens_map.json", &specialMap},
                                    {"generation_config.json", &generation}})
      if (absl::Status status = readOptional(name, *out); !status.ok())
        return status;
    const std::string model = modelFile();
    const bool ranked = main.is_null() && exists("tekken.json");
    if (main.is_null() && model.empty() && !ranked)
      return tokenizer;
    absl::Status status = ranked           ? readRanks()
                          : isByteLevel()  ? readByteLevel()
                          : !model.empty() ? readModelFile(model)
                                           : readConvertedSentencePiece();
    if (!status.ok())
      return status;
    if (absl::Status more = readSpecialIds(); !more.ok())
      return more;
    if (absl::Status more = readChatTemplate(); !more.ok())
      return more;
    if (absl::Status more = checkTokenizer(cat(folder, ": tokenizer"), tokenizer); !more.ok())
      return more;
    return tokenizer;
  }

private:
  std::string file(const char *name) const { return cat(folder, "/", name); }
  bool exists(const char *name) const {
    std::error_code error;
    return std::filesystem::exists(file(name), error);
  }
  absl::Status unsupported(std::string_view what, const std::string &value) const {
    return absl::UnimplementedError(
        cat(file("tokenizer.json"), ": ", what, " '", printable(value), "' is not supported"));
  }
  absl::Status damaged(std::string_view what) const {
    return absl::InvalidArgumentError(cat(file("tokenizer.json"), ": ", what));
  }

  absl::Status readOptional(const char *name, json &out) {
    if (!exists(name))
      return absl::OkStatus();
    absl::StatusOr<std::string> text = readWholeFile(file(name), kMaxTokenizerBytes);
    if (!text.ok())
      return text.status();
    absl::StatusOr<json> parsed = parseJson(file(name), *text);
    if (!parsed.ok())
      return parsed.status();
    if (!parsed->is_object())
      return absl::InvalidArgumentError(cat(file(name), ": expected a JSON object"));
    out = std::move(*parsed);
    return absl::OkStatus();
  }

  bool isByteLevel() const {
    if (stringOr(member(main, "model"), "type", "BPE") != "BPE" || !member(main, "model").is_object())
      return false;
    for (const json *step : flatten(member(main, "pre_tokenizer"), "pretokenizers"))
      if (stringOr(*step, "type") == "ByteLevel")
        return true;
    return false;
  }

  absl::Status readByteLevel() {
    tokenizer.set_kind(TokenizerData::BYTE_LEVEL_BPE);
    const json &model = member(main, "model");
    for (const char *key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!stringOr(model, key).empty())
        return unsupported(key, stringOr(model, key));
    if (boolOr(model, "byte_fallback", false))
      return unsupported("byte-level BPE with", "byte_fallback");
    tokenizer.set_ignore_merges(boolOr(model, "ignore_merges", false));
    for (const auto &read :
         {&FolderTokenizer::readVocabulary, &FolderTokenizer::readMerges, &FolderTokenizer::readAddedTokens,
          &FolderTokenizer::readNormalizer, &FolderTokenizer::readPreTokenizer, &FolderTokenizer::readPostProcessor})
      if (absl::Status status = (this->*read)(); !status.ok())
        return status;
    return absl::OkStatus();
  }

  // Makes room for token `id`; ids that no one names stay UNUSED.
  absl::StatusOr<Piece *> place(uint64_t id, const std::string &text) {
    if (id >= kMaxVocabulary)
      return damaged(cat("token '", printable(text), "' has id ", id, ", expected less than ", kMaxVocabulary));
    while (tokenizer.pieces_size() <= static_cast<int>(id))
      tokenizer.add_pieces()->set_type(Piece::UNUSED);
    return tokenizer.mutable_pieces(static_cast<int>(id));
  }

  absl::Status readVocabulary() {
    const json &vocabulary = member(member(main, "model"), "vocab");
    if (!vocabulary.is_object() || vocabulary.empty())
      return damaged("model.vocab should be an object from token to id");
    for (const auto &[text, id] : vocabulary.items()) {
      if (!id.is_number_unsigned())
        return damaged(cat("token '", printable(text), "' has no proper id"));
      absl::StatusOr<Piece *> piece = place(id.get<uint64_t>(), text);
      if (!piece.ok())
        return piece.status();
      if ((*piece)->type() != Piece::UNUSED)
        return damaged(cat("tokens '", printable((*piece)->text()), "' and '", printable(text), "' have the same id"));
      (*piece)->set_text(text);
      (*piece)->set_type(Piece::NORMAL);
      ids.emplace(text, static_cast<int32_t>(id.get<uint64_t>()));
    }
    return absl::OkStatus();
  }

  absl::Status readMerges() {
    const json &merges = member(member(main, "model"), "merges");
    if (!merges.is_array())
      return damaged("model.merges should be an array");
    for (const json &merge : merges) {
      if (merge.is_string())
        tokenizer.add_merges(merge.get<std::string>());
      else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
        tokenizer.add_merges(
            cat(merge[0].get_ref<const std::string &>(), " ", merge[1].get_ref<const std::string &>()));
      else
        return damaged(cat("merge ", tokenizer.merges_size(), " is neither \"left right\" nor a pair"));
    }
    return absl::OkStatus();
  }

  absl::Status readAddedTokens() {
    const json &added = member(main, "added_tokens");
    if (added.is_null())
      return absl::OkStatus();
    if (!added.is_array())
      return damaged("added_tokens should be an array");
    for (const json &token : added) {
      const std::string text = stringOr(token, "content");
      const json &id = member(token, "id");
      if (text.empty() || !id.is_number_unsigned())
        return damaged("an added token has no content or no id");
      for (const char *flag : {"single_word", "lstrip", "rstrip"})
        if (boolOr(token, flag, false))
          return unsupported(cat("'", flag, "' of added token"), text);
      absl::StatusOr<Piece *> piece = place(id.get<uint64_t>(), text);
      if (!piece.ok())
        return piece.status();
      if ((*piece)->type() != Piece::UNUSED && (*piece)->text() != text)
        return damaged(cat("added token '", printable(text), "' has the id of '", printable((*piece)->text()), "'"));
      (*piece)->set_text(text);
      (*piece)->set_type(boolOr(token, "special", false) ? Piece::CONTROL : Piece::USER_DEFINED);
      ids[text] = static_cast<int32_t>(id.get<uint64_t>());
    }
    return absl::OkStatus();
  }

  absl::Status readNormalizer() {
    for (const json *step : flatten(member(main, "normalizer"), "normalizers")) {
      if (stringOr(*step, "type") != "NFC")
        return unsupported("normalizer", stringOr(*step, "type"));
      tokenizer.set_nfc(true);
    }
    return absl::OkStatus();
  }

  absl::Status readPreTokenizer() {
    bool bytesSeen = false;
    for (const json *step : flatten(member(main, "pre_tokenizer"), "pretokenizers")) {
      const std::string type = stringOr(*step, "type");
      if (bytesSeen)
        return unsupported("a pre-tokenizer after ByteLevel:", type);
      if (type == "ByteLevel") {
        bytesSeen = true;
        if (boolOr(*step, "add_prefix_space", true))
          return unsupported("pre-tokenizer ByteLevel with", "add_prefix_space");
        if (boolOr(*step, "use_regex", true))
          tokenizer.add_pre_split(std::string(kGpt2Pattern));
      } else if (type == "Digits") {
        const bool individual = boolOr(*step, "individual_digits", false);
        if (individual && tokenizer.pre_split().empty())
          tokenizer.set_digits_alone(true);
        else
          tokenizer.add_pre_split(individual ? R"(\p{N})" : R"(\p{N}+)");
      } else if (type == "Punctuation" && stringOr(*step, "behavior", "Isolated") == "Isolated") {
        tokenizer.add_pre_split(R"([\p{P}$+<=>^`|~])");
      } else if (type == "Split") {
        if (absl::Status status = readSplit(*step); !status.ok())
          return status;
      } else {
        return unsupported("pre-tokenizer", type);
      }
    }
    return absl::OkStatus();
  }

  absl::Status readSplit(const json &step) {
    const json &pattern = member(step, "pattern");
    std::string regex = stringOr(pattern, "Regex");
    if (regex.empty())
      for (const char c : stringOr(pattern, "String")) {
        if (std::string_view(R"(\^$.|?*+()[]{}-#&~ )").find(c) != std::string_view::npos)
          regex += '\\';
        regex += c;
      }
    if (regex.empty())
      return damaged("a Split pre-tokenizer has no pattern");
    const std::string behavior = stringOr(step, "behavior");
    // Both keep every match as a word. They differ only in text that the pattern does not match, and a pattern that
    // ends in "any white space" leaves none.
    const bool keepsMatches =
        behavior == "Isolated" || (behavior == "Removed" && boolOr(step, "invert", false) && regex.ends_with(R"(\s+)"));
    if (!keepsMatches)
      return unsupported("pre-tokenizer Split with behavior", behavior);
    tokenizer.add_pre_split(regex);
    return absl::OkStatus();
  }

  // A template that begins with a special token is what puts bos before a prompt.
  absl::Status readPostProcessor() {
    for (const json *step : flatten(member(main, "post_processor"), "processors")) {
      const std::string type = stringOr(*step, "type");
      if (type == "ByteLevel")
        continue;
      if (type != "TemplateProcessing")
        return unsupported("post-processor", type);
      const json &single = member(*step, "single");
      if (!single.is_array() || single.empty())
        return damaged("TemplateProcessing has no 'single' array");
      const std::string first = stringOr(member(single[0], "SpecialToken"), "id");
      if (const auto found = ids.find(first); found != ids.end()) {
        tokenizer.set_add_bos(true);
        tokenizer.set_bos(found->second);
      }
    }
    return absl::OkStatus();
  }

  // tokenizer.model, or else the last of tokenizer.model.v1 and so on; "" if there is none.
  std::string modelFile() const {
    constexpr const char *stem = "tokenizer.model";
    if (exists(stem))
      return stem;
    std::string found;
    std::error_code error;
    for (const auto &entry : std::filesystem::directory_iterator(folder, error))
      if (std::string name = entry.path().filename().string(); name.starts_with(cat(stem, ".v")))
        found = std::max(found, name);
    return found;
  }

  absl::Status readRanks() {
    json tekken;
    if (absl::Status status = readOptional("tekken.json", tekken); !status.ok())
      return status;
    if (absl::Status status = readTekken(file("tekken.json"), tekken, tokenizer); !status.ok())
      return status;
    for (int i = 0; i < tokenizer.pieces_size(); ++i)
      if (tokenizer.pieces(i).type() == Piece::CONTROL)
        ids.emplace(tokenizer.pieces(i).text(), i);
    return absl::OkStatus();
  }

  absl::Status readModelFile(const std::string &name) {
    absl::StatusOr<std::string> bytes = readWholeFile(file(name.c_str()), kMaxTokenizerBytes);
    if (!bytes.ok())
      return bytes.status();
    if (absl::Status status = readSentencePieceModel(file(name.c_str()), std::move(*bytes), tokenizer); !status.ok())
      return status;
    tokenizer.set_add_bos(boolOr(settings, "add_bos_token", true) && tokenizer.bos() >= 0);
    for (int i = 0; i < tokenizer.pieces_size(); ++i)
      ids.emplace(tokenizer.pieces(i).text(), i);
    return readAddedTokens();
  }

  // A tokenizer.json made from a SentencePiece BPE: the rank of the merge that makes a piece stands for its score.
  absl::Status readConvertedSentencePiece() {
    const json &model = member(main, "model");
    if (stringOr(model, "type") != "BPE" || !boolOr(model, "byte_fallback", false))
      return unsupported("without a tokenizer.model, a tokenizer of type", stringOr(model, "type", "none"));
    tokenizer.set_kind(TokenizerData::SENTENCEPIECE);
    if (absl::Status status = readVocabulary(); !status.ok())
      return status;
    if (absl::Status status = readMerges(); !status.ok())
      return status;
    for (Piece &piece : *tokenizer.mutable_pieces()) {
      piece.set_score(-1e9f);
      const std::string &text = piece.text();
      if (text.size() == 6 && text.starts_with("<0x") && text.ends_with(">"))
        piece.set_type(Piece::BYTE);
    }
    for (int rank = tokenizer.merges_size() - 1; rank >= 0; --rank) {
      std::string whole = tokenizer.merges(rank);
      whole.erase(std::min(whole.find(' '), whole.size()), 1);
      if (const auto found = ids.find(whole); found != ids.end())
        tokenizer.mutable_pieces(found->second)->set_score(static_cast<float>(-rank));
    }
    tokenizer.clear_merges();
    if (absl::Status status = readAddedTokens(); !status.ok())
      return status;
    if (const auto found = ids.find(stringOr(model, "unk_token")); found != ids.end()) {
      tokenizer.set_unknown(found->second);
      tokenizer.mutable_pieces(found->second)->set_type(Piece::UNKNOWN);
    }
    for (const json *step : flatten(member(main, "normalizer"), "normalizers")) {
      const std::string type = stringOr(*step, "type");
      if (type == "Prepend" && stringOr(*step, "prepend") == kSpaceMark)
        tokenizer.set_add_space_prefix(true);
      else if (type != "Replace" || stringOr(member(*step, "pattern"), "String") != " " ||
               stringOr(*step, "content") != kSpaceMark)
        return unsupported("normalizer", type);
    }
    for (const json *step : flatten(member(main, "pre_tokenizer"), "pretokenizers")) {
      if (stringOr(*step, "type") != "Metaspace")
        return unsupported("pre-tokenizer", stringOr(*step, "type"));
      tokenizer.set_add_space_prefix(stringOr(*step, "prepend_scheme", "always") != "never");
    }
    return readPostProcessor();
  }

  int32_t idOf(const std::string &text) const {
    const auto found = text.empty() ? ids.end() : ids.find(text);
    return found == ids.end() ? -1 : found->second;
  }

  // The special token `key` ("bos_token"), from the files that name it, or -1.
  int32_t namedId(const char *key) const {
    for (const json *source : {&settings, &specialMap})
      if (const int32_t id = idOf(tokenText(member(*source, key))); id >= 0)
        return id;
    return -1;
  }

  absl::Status readSpecialIds() {
    const auto firstOf = [&](const json &value) -> int64_t {
      const json &id = value.is_array() && !value.empty() ? value[0] : value;
      return id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(tokenizer.pieces_size())
                 ? id.get<int64_t>()
                 : -1;
    };
    if (const int32_t id = namedId("bos_token"); id >= 0)
      tokenizer.set_bos(id);
    else if (tokenizer.bos() < 0)
      tokenizer.set_bos(static_cast<int32_t>(firstOf(member(config, "bos_token_id"))));
    if (const int32_t id = namedId("eos_token"); id >= 0)
      tokenizer.set_eos(id);
    else if (tokenizer.eos() < 0)
      tokenizer.set_eos(static_cast<int32_t>(firstOf(member(config, "eos_token_id"))));
    if (const int32_t id = namedId("unk_token"); id >= 0)
      tokenizer.set_unknown(id);
    addEndOfSequence(tokenizer, tokenizer.eos());
    for (const json *source : {static_cast<const json *>(&generation), &config}) {
      const json &end = member(*source, "eos_token_id");
      for (const json &id : end.is_array() ? end : json::array({end}))
        if (id.is_number_unsigned() && id.get<uint64_t>() < kMaxVocabulary)
          addEndOfSequence(tokenizer, id.get<int64_t>());
    }
    return absl::OkStatus();
  }

  absl::Status readChatTemplate() {
    if (exists("chat_template.jinja")) {
      absl::StatusOr<std::string> text = readWholeFile(file("chat_template.jinja"), kMaxTokenizerBytes);
      if (!text.ok())
        return text.status();
      tokenizer.set_chat_template(std::move(*text));
      return absl::OkStatus();
    }
    const json &chat = member(settings, "chat_template");
    if (chat.is_string())
      tokenizer.set_chat_template(chat.get<std::string>());
    else if (chat.is_array())
      for (const json &entry : chat) // a list of {name, template}: the one called "default", or else the first
        if (stringOr(entry, "name") == "default" || tokenizer.chat_template().empty())
          tokenizer.set_chat_template(stringOr(entry, "template"));
    return absl::OkStatus();
  }

  std::string folder;
  const json &config;
  json main, settings, specialMap, generation;
  TokenizerData tokenizer;
  std::unordered_map<std::string, int32_t> ids;
};

} // namespace

absl::StatusOr<TokenizerData> readFolderTokenizer(const std::string &folder, const json &config) {
  return FolderTokenizer(folder, config).read();
}

} // namespace ingot
