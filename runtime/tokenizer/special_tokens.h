// Finds added tokens (control and user-defined pieces) in text before anything else looks at it: leftmost first, and
// the longest of those that begin at the same place, as Hugging Face's matcher does.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

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
  struct Node {
    int32_t id = -1;
    bool control = false;
  };
  struct Match {
    int32_t id = -1;
    size_t bytes = 0;
    bool control = false;
  };
  Match longestAt(std::string_view text) const;

  absl::flat_hash_map<uint64_t, uint32_t> edges; // node << 8 | byte -> node
  std::vector<Node> nodes = std::vector<Node>(1);
  std::array<bool, 256> firstBytes{};
};

} // namespace ingot
