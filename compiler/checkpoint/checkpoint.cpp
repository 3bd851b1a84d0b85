// Chooses the reader for a path, and the helpers that both readers share.
#include "compiler/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {

namespace {

constexpr std::array<std::string_view, 8> kEndNames = {"<|im_end|>",    "<|eot_id|>",    "<|eom_id|>",      "<|end|>",
                                                       "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>"};

// How deep valid JSON is nested. The parser can watch its depth too, but then it looks through all of an array after
// each of its elements, and tokenizers have hundreds of thousands.
int depthOf(std::string_view text) {
  int depth = 0, deepest = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '{' || c == '['))
      deepest = std::max(deepest, ++depth);
    else if (!quoted && (c == '}' || c == ']'))
      --depth;
  }
  return deepest;
}

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string &path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    return absl::NotFoundError(
        cat(path, ": no such file or folder; expected a GGUF file or a folder with config.json and safetensors"));
  if (std::filesystem::is_directory(status))
    return openFolderCheckpoint(path);
  if (path.ends_with(".safetensors"))
    return absl::InvalidArgumentError(
        cat(path, ": give the folder that holds this file and config.json, not the file"));
  return openGgufCheckpoint(path);
}

const TensorInfo *Checkpoint::find(std::string_view name) const {
  const std::vector<TensorInfo> &all = tensors();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const TensorInfo &tensor) { return tensor.name == name; });
  return found == all.end() ? nullptr : &*found;
}

const TensorInfo *Checkpoint::demand(std::string_view name, const std::vector<uint64_t> & /*shape*/) const {
  return find(name);
}

absl::Status Checkpoint::readQuantized(const TensorInfo &tensor, uint64_t /*first*/, uint64_t /*count*/,
                                       QuantizedRows & /*out*/) const {
  return absl::FailedPreconditionError(cat(sourceName(), ": tensor '", tensor.name, "' is stored as ", tensor.storage,
                                           ", which has no codes and scales; read its rows as fp32"));
}

uint64_t TensorInfo::rows() const {
  uint64_t rows = 1;
  for (size_t d = 0; d + 1 < shape.size(); ++d)
    rows *= shape[d];
  return rows;
}

uint64_t TensorInfo::columns() const { return shape.empty() ? 1 : shape.back(); }

absl::StatusOr<nlohmann::json> parseJson(const std::string &where, std::string_view text) {
  constexpr int kMaxDepth = 64;
  if (depthOf(text) > kMaxDepth)
    return absl::InvalidArgumentError(cat(where, ": nested deeper than ", kMaxDepth, " levels"));
  nlohmann::json parsed = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded())
    return absl::InvalidArgumentError(cat(where, ": expected valid JSON; the file is damaged, fetch it again"));
  return parsed;
}

void addEndOfSequence(TokenizerData &tokenizer, int64_t id) {
  if (id < 0 || id >= tokenizer.pieces_size())
    return;
  const auto &ids = tokenizer.end_of_sequence();
  if (std::find(ids.begin(), ids.end(), static_cast<uint32_t>(id)) == ids.end())
    tokenizer.add_end_of_sequence(static_cast<uint32_t>(id));
}

void addNamedEnds(TokenizerData &tokenizer) {
  for (int i = 0; i < tokenizer.pieces_size(); ++i)
    for (std::string_view name : kEndNames)
      if (tokenizer.pieces(i).type() == Piece::CONTROL && tokenizer.pieces(i).text() == name)
        addEndOfSequence(tokenizer, i);
}

absl::Status checkTokenizer(const std::string &where, const TokenizerData &tokenizer) {
  const std::pair<const char *, int32_t> ids[] = {
      {"bos", tokenizer.bos()}, {"eos", tokenizer.eos()}, {"unknown", tokenizer.unknown()}};
  for (const auto &[name, id] : ids)
    if (id < -1 || id >= tokenizer.pieces_size())
      return absl::InvalidArgumentError(cat(where, ": the ", name, " token has id ", id, ", the vocabulary has ",
                                            tokenizer.pieces_size(), " tokens"));
  for (const std::string &merge : tokenizer.merges()) {
    const size_t space = merge.find(' ');
    if (!isValidUtf8(merge) || space == 0 || space == std::string::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos)
      return absl::InvalidArgumentError(
          cat(where, ": the merge '", printable(merge), "' is not two pieces with one space between"));
  }
  for (const std::string &pattern : tokenizer.pre_split())
    if (!isValidUtf8(pattern))
      return absl::InvalidArgumentError(cat(where, ": a pre-tokenizer pattern is not valid UTF-8"));
  if (!isValidUtf8(tokenizer.chat_template()))
    return absl::InvalidArgumentError(cat(where, ": the chat template is not valid UTF-8"));
  return absl::OkStatus();
}

} // namespace ingot
