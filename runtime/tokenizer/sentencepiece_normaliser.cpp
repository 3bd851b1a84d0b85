// The compiled map is: u32 bytes of the trie, the trie as u32 units, the replacements. A unit holds a label in its low
// 8 bits, "a value follows" in bit 8, a jump in bits 10..30 (shifted by 8 more if bit 9 is set), and bit 31 marks a
// value. From unit i, byte b leads to unit `i ^ jump ^ b`. The file is not trusted: each step is checked.
#include "runtime/tokenizer/sentencepiece_normaliser.h"

#include <cstring>

#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
constexpr uint32_t kIsValue = 1U << 31;

size_t jumpOf(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & (1U << 9)) >> 6); }

} // namespace

absl::Status SentencePieceNormaliser::load(const Options &chosen, std::string_view rules) {
  options = chosen;
  if (rules.empty())
    return absl::OkStatus();
  uint32_t trieBytes = 0;
  if (rules.size() >= sizeof(trieBytes))
    std::memcpy(&trieBytes, rules.data(), sizeof(trieBytes));
  if (rules.size() < sizeof(trieBytes) || trieBytes > rules.size() - sizeof(trieBytes) || trieBytes % 4 != 0 ||
      trieBytes == 0 || rules.back() != '\0')
    return absl::InvalidArgumentError(cat("SentencePiece model: the normalisation rules claim a trie of ", trieBytes,
                                          " bytes in ", rules.size(),
                                          " or have no end; the file is damaged, get the tokenizer again"));
  units.resize(trieBytes / 4);
  std::memcpy(units.data(), rules.data() + sizeof(trieBytes), trieBytes);
  replacements = rules.substr(sizeof(trieBytes) + trieBytes);
  return absl::OkStatus();
}

// What the text begins with becomes, and how many bytes of it that replaces.
std::pair<std::string_view, size_t> SentencePieceNormaliser::prefixOf(std::string_view text) const {
  if (size_t whole = keptPrefix(text))
    return {text.substr(0, whole), whole};
  size_t longest = 0;
  size_t value = 0;
  size_t at = units.empty() ? 0 : jumpOf(units[0]);
  int found = 0;
  constexpr int kMostRules = 32; // that begin alike; the reference looks no further
  for (size_t i = 0; i < text.size() && !units.empty() && found < kMostRules; ++i) {
    auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (at >= units.size() || (units[at] & (kIsValue | 0xFF)) != byte)
      break;
    bool hasValue = units[at] & (1U << 8);
    at ^= jumpOf(units[at]);
    if (!hasValue)
      continue;
    if (at >= units.size() || (units[at] & ~kIsValue) >= replacements.size())
      break;
    longest = i + 1;
    value = units[at] & ~kIsValue;
    ++found;
  }
  if (longest == 0) {
    size_t bytes = utf8::first(text).bytes;
    return {text.substr(0, bytes), bytes};
  }
  return {std::string_view(replacements.c_str() + value), longest};
}

std::string SentencePieceNormaliser::normalise(std::string_view text) const {
  std::string out;
  std::string_view space = options.escapeSpaces ? kSpaceMark : " ";
  while (options.removeExtraSpaces && !text.empty()) {
    auto [replacement, used] = prefixOf(text);
    if (replacement != " ")
      break;
    text.remove_prefix(used);
  }
  if (text.empty())
    return out;
  if (options.addPrefix && !options.suffix)
    out += space;
  bool afterSpace = options.removeExtraSpaces;
  while (!text.empty()) {
    auto [replacement, used] = prefixOf(text);
    while (afterSpace && replacement.starts_with(' '))
      replacement.remove_prefix(1);
    if (!replacement.empty()) {
      for (char c : replacement)
        c == ' ' ? out += space : out += c;
      afterSpace = options.removeExtraSpaces && replacement.ends_with(' ');
    }
    text.remove_prefix(used);
  }
  while (options.removeExtraSpaces && out.ends_with(space))
    out.resize(out.size() - space.size());
  if (options.addPrefix && options.suffix)
    out += space;
  // Replacements come from the file and may be anything.
  return utf8::replaceBroken(out);
}

} // namespace ingot
