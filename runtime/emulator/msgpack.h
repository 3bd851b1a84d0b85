// A reader for MessagePack, as much of it as code-object metadata uses. It exists because the bytes are untrusted:
// nesting and sizes are bounded, and a wrong byte is an empty answer, never an assertion.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ingot::emu {

struct MsgPack {
  enum class Kind { nil, boolean, integer, number, text, list, map };
  Kind kind = Kind::nil;
  uint64_t integer = 0; // also booleans; negative integers as their two's complement
  double number = 0;
  std::string text;              // binary strings too
  std::vector<MsgPack> list;     // elements of a list, or values of a map
  std::vector<std::string> keys; // of a map, beside its values; an entry whose key is no string has the key ""

  // The value under `key`, or null if this is no map or has no such key.
  const MsgPack *find(std::string_view key) const;
  // The text or integer under `key`, or the default if it is missing or of another kind.
  std::string textAt(std::string_view key) const;
  uint64_t integerAt(std::string_view key, uint64_t otherwise) const;
};

// The first value in `bytes`, or nothing if they are malformed or nested deeper than 32.
std::optional<MsgPack> readMsgPack(std::span<const uint8_t> bytes);

} // namespace ingot::emu
