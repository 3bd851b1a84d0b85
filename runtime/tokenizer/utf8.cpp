// Decoding by Unicode's table of well-formed sequences: the second byte's range depends on the first byte.
#include "runtime/tokenizer/utf8.h"

#include <algorithm>

namespace ingot::utf8 {

Sequence first(std::string_view text) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t lead = at(0);
  if (lead < 0x80)
    return {lead, 1, true, false};
  size_t length = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  uint32_t codePoint = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    codePoint = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    codePoint = lead & 0x0F;
    low = lead == 0xE0 ? 0xA0 : 0x80;
    high = lead == 0xED ? 0x9F : 0xBF;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    codePoint = lead & 0x07;
    low = lead == 0xF0 ? 0x90 : 0x80;
    high = lead == 0xF4 ? 0x8F : 0xBF;
  } else {
    return {0xFFFD, 1, false, false};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size())
      return {0xFFFD, i, false, true};
    uint8_t byte = at(i);
    if (byte < (i == 1 ? low : 0x80) || byte > (i == 1 ? high : 0xBF))
      return {0xFFFD, i, false, false};
    codePoint = codePoint << 6 | (byte & 0x3F);
  }
  return {codePoint, length, true, false};
}

void append(std::string &out, uint32_t codePoint) {
  auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (codePoint < 0x80) {
    put(codePoint);
  } else if (codePoint < 0x800) {
    put(0xC0 | codePoint >> 6);
    put(0x80 | (codePoint & 0x3F));
  } else if (codePoint < 0x10000) {
    put(0xE0 | codePoint >> 12);
    put(0x80 | (codePoint >> 6 & 0x3F));
    put(0x80 | (codePoint & 0x3F));
  } else {
    put(0xF0 | codePoint >> 18);
    put(0x80 | (codePoint >> 12 & 0x3F));
    put(0x80 | (codePoint >> 6 & 0x3F));
    put(0x80 | (codePoint & 0x3F));
  }
}

std::string replaceBroken(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    Sequence sequence = first(text);
    out.append(sequence.valid ? text.substr(0, sequence.bytes) : kReplacement);
    text.remove_prefix(sequence.bytes);
  }
  return out;
}

size_t countCodePoints(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

} // namespace ingot::utf8
