// A set of byte strings with a number each, walked byte by byte.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace ingot {

class ByteTrie {
public:
  static constexpr uint32_t kRoot = 0;

  // The first of two equal strings stays. `text` is not empty.
  void add(std::string_view text, int32_t value) {
    uint32_t node = kRoot;
    mayBegin[static_cast<uint8_t>(text[0])] = true;
    for (char c : text) {
      auto [edge, isNew] = edges.try_emplace(key(node, c), static_cast<uint32_t>(values.size()));
      node = edge->second;
      if (isNew)
        values.push_back(-1);
    }
    if (values[node] < 0)
      values[node] = value;
  }

  // The node after `c`; nothing if no string goes on so.
  std::optional<uint32_t> step(uint32_t node, char c) const {
    if (node == kRoot && !mayBegin[static_cast<uint8_t>(c)])
      return std::nullopt;
    auto edge = edges.find(key(node, c));
    return edge == edges.end() ? std::nullopt : std::optional<uint32_t>(edge->second);
  }
  // The number of the string that ends at `node`; -1 for none.
  int32_t value(uint32_t node) const { return values[node]; }

  struct Match {
    int32_t value = -1;
    size_t bytes = 0;
  };
  // The longest string that `text` begins with.
  Match longest(std::string_view text) const {
    Match best;
    uint32_t node = kRoot;
    for (size_t i = 0; i < text.size(); ++i) {
      std::optional<uint32_t> next = step(node, text[i]);
      if (!next)
        break;
      node = *next;
      if (values[node] >= 0)
        best = {values[node], i + 1};
    }
    return best;
  }

private:
  static uint64_t key(uint32_t node, char c) { return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(c); }

  absl::flat_hash_map<uint64_t, uint32_t> edges;
  std::vector<int32_t> values = {-1};
  std::array<bool, 256> mayBegin{};
};

} // namespace ingot
