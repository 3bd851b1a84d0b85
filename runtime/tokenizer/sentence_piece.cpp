// Encoding as SentencePiece does it. BPE merges the pair whose joined piece has the best score, leftmost first among
// equals, by a queue over a linked list; unigram takes the path of the best sum of scores.
#include "runtime/tokenizer/sentence_piece.h"

#include <algorithm>
#include <cfloat>
#include <functional>
#include <queue>

#include "absl/status/status.h"

#include "runtime/tokenizer/sentencepiece_model.pb.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

Piece::Type pieceType(spm::Model::Piece::Type type) {
  switch (type) {
  case spm::Model::Piece::UNKNOWN:
    return Piece::UNKNOWN;
  case spm::Model::Piece::CONTROL:
    return Piece::CONTROL;
  case spm::Model::Piece::USER_DEFINED:
    return Piece::USER_DEFINED;
  case spm::Model::Piece::BYTE:
    return Piece::BYTE;
  case spm::Model::Piece::UNUSED:
    return Piece::UNUSED;
  default:
    return Piece::NORMAL;
  }
}

struct Symbol {
  size_t begin;
  size_t bytes; // 0: merged into the one before
  int32_t previous;
  int32_t next;
  bool whole; // never merged
};

struct Candidate {
  float score;
  int32_t left;
  int32_t right;
  size_t bytes;
  bool operator<(const Candidate &other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

} // namespace

absl::StatusOr<SentencePiece> SentencePiece::create(const TokenizerData &data) {
  SentencePiece made;
  spm::Model model;
  SentencePieceNormaliser::Options options;
  if (data.sentencepiece_model().empty()) {
    made.own.assign(data.pieces().begin(), data.pieces().end());
    made.unknown = data.unknown();
    made.byteFallback = true;
    made.surface = model.trainer_spec().unk_surface();
    options.addPrefix = data.add_space_prefix();
    options.removeExtraSpaces = false;
  } else {
    if (!model.ParseFromString(data.sentencepiece_model()))
      return absl::InvalidArgumentError(
          cat("SentencePiece model: its ", data.sentencepiece_model().size(),
              " bytes are not a serialized model; the file is damaged, get the tokenizer again"));
    if (model.trainer_spec().model_type() != spm::TrainerSpec::BPE &&
        model.trainer_spec().model_type() != spm::TrainerSpec::UNIGRAM)
      return absl::UnimplementedError(
          "SentencePiece model: it splits by words or characters; Ingot reads BPE and unigram");
    for (const spm::Model::Piece &piece : model.pieces()) {
      Piece &out = made.own.emplace_back();
      out.set_text(piece.piece());
      out.set_score(piece.score());
      out.set_type(pieceType(piece.type()));
    }
    made.isBpe = model.trainer_spec().model_type() == spm::TrainerSpec::BPE;
    made.byteFallback = model.trainer_spec().byte_fallback();
    made.surface = model.trainer_spec().unk_surface();
    options.addPrefix = model.normalizer_spec().add_dummy_prefix();
    options.removeExtraSpaces = model.normalizer_spec().remove_extra_whitespaces();
    options.escapeSpaces = model.normalizer_spec().escape_whitespaces();
    options.suffix = model.trainer_spec().treat_whitespace_as_suffix();
  }
  if (made.own.empty())
    return absl::InvalidArgumentError(
        "SentencePiece model: it has no pieces; the file is damaged, get the tokenizer again");
  if (absl::Status status = made.normaliser.load(options, model.normalizer_spec().precompiled_charsmap()); !status.ok())
    return status;
  made.byteIds.fill(-1);
  made.lowest = FLT_MAX;
  made.highest = FLT_MIN;
  absl::flat_hash_map<std::string, int32_t> bytePieces;
  for (size_t i = 0; i < made.own.size(); ++i) {
    const Piece &piece = made.own[i];
    auto id = static_cast<int32_t>(i);
    if (piece.type() == Piece::UNKNOWN)
      made.unknown = id;
    if (piece.type() == Piece::BYTE)
      bytePieces.try_emplace(piece.text(), id);
    bool isNormal = piece.type() == Piece::NORMAL;
    bool isText = isNormal || piece.type() == Piece::USER_DEFINED || piece.type() == Piece::UNUSED;
    if (!isText || piece.text().empty() || id == made.unknown)
      continue;
    made.vocabulary.try_emplace(piece.text(), id);
    if (!made.isBpe)
      made.trie.add(piece.text(), id);
    if (piece.type() == Piece::USER_DEFINED)
      made.normaliser.keepWhole(piece.text());
    if (isNormal) {
      made.lowest = std::min(made.lowest, piece.score());
      made.highest = std::max(made.highest, piece.score());
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    auto found = bytePieces.find(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">");
    if (found != bytePieces.end())
      made.byteIds[byte] = found->second;
  }
  if (made.unknown >= static_cast<int32_t>(made.own.size()))
    return absl::InvalidArgumentError(cat("tokenizer: the unknown piece is id ", made.unknown,
                                          ", but the vocabulary has ", made.own.size(),
                                          " pieces; compile the model again"));
  return made;
}

int32_t SentencePiece::find(std::string_view text) const {
  auto found = vocabulary.find(absl::string_view(text.data(), text.size()));
  return found == vocabulary.end() ? -1 : found->second;
}

std::vector<SentencePiece::Part> SentencePiece::mergePairs(std::string_view text) const {
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < text.size();) {
    size_t whole = normaliser.keptPrefix(text.substr(at));
    size_t bytes = whole ? whole : utf8::first(text.substr(at)).bytes;
    auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({at, bytes, index - 1, index + 1, whole > 0});
    at += bytes;
  }
  if (symbols.empty())
    return {};
  symbols.back().next = -1;
  std::priority_queue<Candidate> queue;
  // An unused piece is merged like others and taken apart again at the end, along the merge that made it.
  absl::flat_hash_map<std::string_view, size_t> unusedSplit;
  auto offer = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0 || symbols[left].whole || symbols[right].whole)
      return;
    std::string_view joined = text.substr(symbols[left].begin, symbols[left].bytes + symbols[right].bytes);
    int32_t id = find(joined);
    if (id < 0)
      return;
    queue.push({own[id].score(), left, right, joined.size()});
    if (own[id].type() == Piece::UNUSED)
      unusedSplit[joined] = symbols[left].bytes;
  };
  for (int32_t i = 1; i < static_cast<int32_t>(symbols.size()); ++i)
    offer(i - 1, i);
  while (!queue.empty()) {
    Candidate best = queue.top();
    queue.pop();
    Symbol &left = symbols[best.left];
    Symbol &right = symbols[best.right];
    if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != best.bytes)
      continue;
    left.bytes = best.bytes;
    left.next = right.next;
    right.bytes = 0;
    if (left.next >= 0)
      symbols[left.next].previous = best.left;
    offer(left.previous, best.left);
    offer(best.left, left.next);
  }
  std::vector<Part> parts;
  std::vector<std::string_view> open;
  for (int32_t i = 0; i >= 0; i = symbols[i].next) {
    open.push_back(text.substr(symbols[i].begin, symbols[i].bytes));
    while (!open.empty()) {
      std::string_view part = open.back();
      open.pop_back();
      int32_t id = find(part);
      auto split = id >= 0 && own[id].type() == Piece::UNUSED ? unusedSplit.find(part) : unusedSplit.end();
      if (split == unusedSplit.end()) {
        parts.push_back({part, id});
        continue;
      }
      open.push_back(part.substr(split->second));
      open.push_back(part.substr(0, split->second));
    }
  }
  return parts;
}

std::vector<SentencePiece::Part> SentencePiece::bestPath(std::string_view text) const {
  constexpr size_t kNone = static_cast<size_t>(-1);
  struct End {
    size_t begin = kNone;
    float score = 0;
    int32_t id = -1;
  };
  std::vector<End> ends(text.size() + 1);
  const float unknownScore = lowest - 10.0F;
  auto reach = [&](size_t begin, size_t end, int32_t id, double score) {
    if (ends[end].begin == kNone || score > ends[end].score)
      ends[end] = {begin, static_cast<float>(score), id};
  };
  for (size_t begin = 0; begin < text.size();) {
    float before = ends[begin].score;
    size_t character = utf8::first(text.substr(begin)).bytes;
    bool hasCharacter = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t at = begin; at < text.size();) {
      std::optional<uint32_t> next = trie.step(node, text[at]);
      if (!next)
        break;
      node = *next;
      ++at;
      int32_t id = trie.value(node);
      if (id < 0 || own[id].type() == Piece::UNUSED)
        continue;
      size_t bytes = at - begin;
      // A user-defined piece wins against any path over the same text.
      double score = own[id].type() == Piece::USER_DEFINED
                         ? static_cast<double>(static_cast<float>(bytes) * highest) - 0.1
                         : static_cast<double>(own[id].score());
      reach(begin, at, id, score + before);
      hasCharacter |= bytes == character;
    }
    if (!hasCharacter)
      reach(begin, begin + character, -1, static_cast<double>(unknownScore + before));
    begin += character;
  }
  std::vector<Part> parts;
  for (size_t end = text.size(); end > 0; end = ends[end].begin) {
    if (ends[end].begin == kNone)
      return {};
    parts.push_back({text.substr(ends[end].begin, end - ends[end].begin), ends[end].id});
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

void SentencePiece::encode(std::string_view text, std::vector<int32_t> &ids) const {
  std::string normalised = normaliser.normalise(text);
  bool afterUnknown = false;
  for (const Part &part : isBpe ? mergePairs(normalised) : bestPath(normalised)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      afterUnknown = false;
      continue;
    }
    bool hasBytes = byteFallback && std::all_of(part.text.begin(), part.text.end(),
                                                [&](char c) { return byteIds[static_cast<uint8_t>(c)] >= 0; });
    if (hasBytes) {
      for (char c : part.text)
        ids.push_back(byteIds[static_cast<uint8_t>(c)]);
    } else if (!afterUnknown && unknown >= 0) {
      ids.push_back(unknown);
    }
    afterUnknown = !hasBytes;
  }
}

} // namespace ingot
