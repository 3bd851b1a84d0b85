// What SentencePiece does to text before it looks for pieces: replacement rules, white space, the mark for a space.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "runtime/tokenizer/byte_trie.h"

namespace ingot {

class SentencePieceNormaliser {
public:
  struct Options {
    bool addPrefix = true;         // a space before the text (after it with `suffix`)
    bool suffix = false;           // spaces belong to the word before them
    bool removeExtraSpaces = true; // at both ends, and all but one between words
    bool escapeSpaces = true;      // U+2581 for a space
  };
  // `rules` is a model's compiled map, maybe empty. InvalidArgument if it is damaged.
  absl::Status load(const Options &chosen, std::string_view rules);
  // Text that stays as it is and whole.
  void keepWhole(std::string_view text) { kept.add(text, 0); }

  std::string normalise(std::string_view text) const;
  // The bytes at the beginning of `text` that stay whole; 0 if none do.
  size_t keptPrefix(std::string_view text) const { return kept.longest(text).bytes; }

  bool addsPrefix() const { return options.addPrefix; }
  bool removesExtraSpaces() const { return options.removeExtraSpaces; }

private:
  std::pair<std::string_view, size_t> prefixOf(std::string_view text) const;

  Options options;
  std::vector<uint32_t> units; // a double-array trie
  std::string replacements;    // each ended by a zero byte
  ByteTrie kept;
};

} // namespace ingot
