// GPT-2's printable spelling of bytes: byte-level vocabularies write each byte as one character, printable bytes as
// themselves and the other 68 as U+0100 onwards, so that a vocabulary is ordinary text ("Ġ" is a space).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ingot::byte_level {

// The character that stands for `byte`.
uint32_t characterOf(uint8_t byte);

// The bytes that `spelling` stands for; nothing when a character of it stands for no byte.
std::optional<std::string> bytesOf(std::string_view spelling);

} // namespace ingot::byte_level
