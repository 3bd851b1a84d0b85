// Cuts text into the words that byte-level BPE merges within: by single digits, then by regular expressions written for
// Hugging Face's engine (Oniguruma), run here by PCRE2. What a pattern does not match stays a word of its own.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ingot {

class PreSplit {
public:
  // `patterns` apply one after the other, each inside the words of the one before. Errors: a pattern PCRE2 cannot
  // compile or that means something else there (set operations inside brackets); the message names the pattern and
  // offset.
  static absl::StatusOr<PreSplit> create(std::span<const std::string> patterns, bool digitsAlone);

  // The words of well-formed UTF-8 `text`, in order, covering it without gaps. Thread-safe.
  std::vector<std::string_view> split(std::string_view text) const;

private:
  struct Code;
  std::vector<std::shared_ptr<const Code>> codes;
  bool digitsAlone = false;
};

} // namespace ingot
