// The table and its inverse, made once.
#include "runtime/tokenizer/byte_level.h"

#include <array>

#include "runtime/tokenizer/utf8.h"

namespace ingot::byte_level {
namespace {

bool isPrintable(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr uint32_t kFirstExtra = 0x100;
constexpr uint32_t kLastExtra = 0x143; // 68 bytes are not printable

struct Tables {
  std::array<uint32_t, 256> character{};
  std::array<uint8_t, kLastExtra - kFirstExtra + 1> extra{};
  Tables() {
    uint32_t next = kFirstExtra;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      if (!isPrintable(byte))
        extra[next - kFirstExtra] = static_cast<uint8_t>(byte);
      character[byte] = isPrintable(byte) ? byte : next++;
    }
  }
};

const Tables &tables() {
  static const Tables made;
  return made;
}

} // namespace

uint32_t characterOf(uint8_t byte) { return tables().character[byte]; }

std::optional<std::string> bytesOf(std::string_view spelling) {
  std::string bytes;
  while (!spelling.empty()) {
    utf8::Sequence sequence = utf8::first(spelling);
    spelling.remove_prefix(sequence.bytes);
    uint32_t c = sequence.codePoint;
    if (!sequence.valid)
      return std::nullopt;
    if (c >= kFirstExtra && c <= kLastExtra)
      bytes.push_back(static_cast<char>(tables().extra[c - kFirstExtra]));
    else if (isPrintable(c) && c < 0x100)
      bytes.push_back(static_cast<char>(c));
    else
      return std::nullopt;
  }
  return bytes;
}

} // namespace ingot::byte_level
