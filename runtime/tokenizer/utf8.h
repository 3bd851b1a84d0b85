// UTF-8 as every part of the tokenizer agrees on it: what is well formed, how long a broken piece is, and how broken
// bytes are replaced. A broken piece is the longest prefix of some well-formed sequence (Unicode's "maximal subpart"),
// and each becomes one U+FFFD; Rust's from_utf8_lossy and Python's errors="replace" do the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ingot::utf8 {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Sequence {
  uint32_t codePoint = 0; // U+FFFD unless `valid`
  size_t bytes = 0;       // at least 1 for text that is not empty
  bool valid = false;
  bool truncated = false; // the text ends inside a sequence that more bytes could complete
};

// The first sequence of `text`, which must not be empty.
Sequence first(std::string_view text);

void append(std::string &out, uint32_t codePoint);

// `text` with each broken piece replaced by U+FFFD.
std::string replaceBroken(std::string_view text);

size_t countCodePoints(std::string_view text);

} // namespace ingot::utf8
