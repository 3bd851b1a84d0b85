// Byte-level byte-pair encoding inside one word: by a list of merges, best first, or by the ranks of pieces (tiktoken),
// where any two neighbours merge that spell a piece, and a piece of smaller id comes first. Merging keeps a linked list
// of symbols and a queue of candidate pairs, so a word of n bytes costs O(n log n) however long it is.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

class Bpe {
public:
  // Takes pieces and merges of `data`. Control pieces are left out of the vocabulary, so no text merges into one. Data
  // that ignores merges and has none goes by ranks. Errors: a merge that is not two pieces of the vocabulary with a
  // joined form in it; the message names the merge.
  static absl::StatusOr<Bpe> create(const TokenizerData &data);

  // Appends the ids of `word` (raw bytes). A byte that no piece spells gives the unknown id, or nothing if there is
  // none.
  void encode(std::string_view word, std::vector<int32_t> &ids) const;

private:
  struct Merge {
    int32_t rank;
    int32_t result;
  };
  std::optional<Merge> mergeOf(int32_t left, int32_t right) const;

  absl::flat_hash_map<std::string, int32_t> whole; // raw bytes -> id, only with ignore_merges
  absl::flat_hash_map<uint64_t, Merge> merges;     // left id << 32 | right id
  std::vector<std::string> spellings;              // with ranks only: the bytes of each id, none of control pieces
  size_t longest = 0;                              // of them
  std::array<int32_t, 256> byteIds{};
  int32_t unknown = -1;
};

} // namespace ingot
