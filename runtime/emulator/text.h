// Messages: a pattern with {} (text or number) and {:#x} (number in hexadecimal) filled in order. The standard's own
// formatter is missing from the C++ library of Debian 12.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace ingot::emu {

class TextArgument {
public:
  TextArgument(std::string_view text) : text(text) {}
  TextArgument(const std::string &text) : text(text) {}
  TextArgument(const char *text) : text(text) {}
  TextArgument(std::integral auto value)
      : number(uint64_t(value)), isNumber(true), negative(std::signed_integral<decltype(value)> && value < 0) {}

  void append(std::string &out, bool hexadecimal) const {
    if (!isNumber) {
      out += text;
      return;
    }
    char digits[24];
    if (hexadecimal)
      out += "0x";
    else if (negative)
      out += '-';
    uint64_t magnitude = negative && !hexadecimal ? 0 - number : number;
    out.append(digits, std::to_chars(digits, digits + sizeof digits, magnitude, hexadecimal ? 16 : 10).ptr);
  }

private:
  std::string_view text;
  uint64_t number = 0;
  bool isNumber = false, negative = false;
};

inline std::string formatList(std::string_view pattern, std::initializer_list<TextArgument> arguments) {
  std::string out;
  const TextArgument *next = arguments.begin();
  while (!pattern.empty()) {
    bool plain = pattern.starts_with("{}"), hexadecimal = pattern.starts_with("{:#x}");
    if ((plain || hexadecimal) && next != arguments.end()) {
      (next++)->append(out, hexadecimal);
      pattern.remove_prefix(plain ? 2 : 5);
    } else {
      out += pattern.front();
      pattern.remove_prefix(1);
    }
  }
  return out;
}

template <typename... Arguments> std::string format(std::string_view pattern, const Arguments &...arguments) {
  return formatList(pattern, {TextArgument(arguments)...});
}

} // namespace ingot::emu
