// Finds added tokens (control and user-defined pieces) in text before anything else looks at it: leftmost first, and
// the longest of those that begin at the same place, as Hugging Face's matcher does.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"

#include "runtime/tokenizer/byte_trie.h"

namespace ingot {

class SpecialTokens {
public:
  // An added token of `text` with id `id`; `control` ones can be left unparsed. The first of two equal texts stays.
  // InvalidArgument for a text that is empty or longer than 4096 bytes (matching costs length x text).
  absl::Status add(std::string_view text, int32_t id, bool control);

  // Calls `onText` for each stretch between tokens (never empty) and `onToken` for each token, in order. With
  // `parseControl` false a control token that matches is skipped over as plain text: nothing inside it matches either.
  void split(std::string_view text, bool parseControl, const std::function<void(std::string_view)> &onText,
             const std::function<void(int32_t)> &onToken) const;

private:
  ByteTrie trie;
  absl::flat_hash_set<int32_t> controls;
};

} // namespace ingot
