// Candidates leave the queue best rank first, leftmost first among equals; one whose symbols have changed since it was
// queued is recognised by what the pair would now merge into.
#include "runtime/tokenizer/bpe.h"

#include <algorithm>
#include <queue>

#include "absl/status/status.h"

#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

uint64_t pairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

struct Symbol {
  int32_t id;
  int32_t previous;
  int32_t next;
  bool alive;
};

struct Candidate {
  int32_t rank;
  int32_t position;
  int32_t result;
  bool operator<(const Candidate &other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

} // namespace

absl::StatusOr<Bpe> Bpe::create(const TokenizerData &data) {
  Bpe made;
  made.unknown = data.unknown() >= 0 && data.unknown() < data.pieces_size() ? data.unknown() : -1;
  absl::flat_hash_map<std::string_view, int32_t> vocabulary;
  absl::flat_hash_map<std::string_view, int32_t> control;
  vocabulary.reserve(static_cast<size_t>(data.pieces_size()));
  const bool ranked = data.ignore_merges() && data.merges().empty();
  if (ranked)
    made.spellings.resize(static_cast<size_t>(data.pieces_size()));
  for (int32_t id = 0; id < data.pieces_size(); ++id) {
    const Piece &piece = data.pieces(id);
    bool isControl = piece.type() == Piece::CONTROL;
    (isControl ? control : vocabulary).try_emplace(piece.text(), id);
    if (data.ignore_merges() && !isControl)
      if (std::optional<std::string> bytes = byte_level::bytesOf(piece.text())) {
        made.longest = std::max(made.longest, bytes->size());
        if (ranked)
          made.spellings[static_cast<size_t>(id)] = *bytes;
        made.whole.try_emplace(*std::move(bytes), id);
      }
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    std::string spelling;
    utf8::append(spelling, byte_level::characterOf(static_cast<uint8_t>(byte)));
    auto found = vocabulary.find(spelling);
    made.byteIds[byte] = found == vocabulary.end() ? -1 : found->second;
  }
  made.merges.reserve(static_cast<size_t>(data.merges_size()));
  std::string joined;
  for (int32_t rank = 0; rank < data.merges_size(); ++rank) {
    std::string_view merge = data.merges(rank);
    size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos)
      return absl::InvalidArgumentError(cat("tokenizer: merge ", rank, " is '", utf8::replaceBroken(merge),
                                            "'; expected two pieces with one space between them"));
    std::string_view left = merge.substr(0, space);
    std::string_view right = merge.substr(space + 1);
    joined.assign(left);
    joined.append(right);
    auto leftId = vocabulary.find(left);
    auto rightId = vocabulary.find(right);
    auto result = vocabulary.find(joined);
    bool touchesControl = control.contains(left) || control.contains(right) || control.contains(joined);
    if (leftId == vocabulary.end() || rightId == vocabulary.end() || result == vocabulary.end()) {
      if (touchesControl)
        continue;
      return absl::InvalidArgumentError(
          cat("tokenizer: merge ", rank, " '", utf8::replaceBroken(merge),
              "' names a piece that is not in the vocabulary; expected both halves and their joined form there"));
    }
    made.merges[pairKey(leftId->second, rightId->second)] = {rank, result->second};
  }
  return made;
}

std::optional<Bpe::Merge> Bpe::mergeOf(int32_t left, int32_t right) const {
  if (spellings.empty()) {
    const auto found = merges.find(pairKey(left, right));
    return found == merges.end() ? std::nullopt : std::optional(found->second);
  }
  const std::string &first = spellings[static_cast<size_t>(left)], &second = spellings[static_cast<size_t>(right)];
  if (first.empty() || second.empty() || first.size() + second.size() > longest)
    return std::nullopt;
  const auto found = whole.find(first + second);
  return found == whole.end() ? std::nullopt : std::optional(Merge{found->second, found->second});
}

void Bpe::encode(std::string_view word, std::vector<int32_t> &ids) const {
  if (auto found = whole.find(absl::string_view(word.data(), word.size())); found != whole.end()) {
    ids.push_back(found->second);
    return;
  }
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (char c : word) {
    int32_t id = byteIds[static_cast<uint8_t>(c)];
    if (id < 0)
      id = unknown;
    if (id < 0)
      continue;
    int32_t at = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, at - 1, at + 1, true});
  }
  if (symbols.empty())
    return;
  symbols.back().next = -1;
  std::priority_queue<Candidate> queue;
  auto offer = [&](int32_t at) {
    if (at < 0 || symbols[at].next < 0)
      return;
    if (const std::optional<Merge> merge = mergeOf(symbols[at].id, symbols[symbols[at].next].id))
      queue.push({merge->rank, at, merge->result});
  };
  for (size_t at = 0; at + 1 < symbols.size(); ++at)
    offer(static_cast<int32_t>(at));
  while (!queue.empty()) {
    Candidate best = queue.top();
    queue.pop();
    Symbol &left = symbols[best.position];
    if (!left.alive || left.next < 0)
      continue;
    Symbol &right = symbols[left.next];
    const std::optional<Merge> merge = mergeOf(left.id, right.id);
    if (!merge || merge->result != best.result)
      continue;
    left.id = best.result;
    left.next = right.next;
    right.alive = false;
    if (left.next >= 0)
      symbols[left.next].previous = best.position;
    offer(left.previous);
    offer(best.position);
  }
  for (const Symbol &symbol : symbols)
    if (symbol.alive)
      ids.push_back(symbol.id);
}

} // namespace ingot
