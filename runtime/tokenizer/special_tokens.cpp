// A trie over bytes, walked from each position at which some token can begin.
#include "runtime/tokenizer/special_tokens.h"

#include "runtime/tokenizer/text.h"

namespace ingot {

absl::Status SpecialTokens::add(std::string_view text, int32_t id, bool control) {
  constexpr size_t kLongest = 4096;
  if (text.empty() || text.size() > kLongest)
    return absl::InvalidArgumentError(cat("tokenizer: added token ", id, " has ", text.size(), " bytes; expected 1 to ",
                                          kLongest, ". The tokenizer data is damaged; compile the model again"));
  uint32_t node = 0;
  firstBytes[static_cast<uint8_t>(text[0])] = true;
  for (char c : text) {
    uint64_t key = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(c);
    auto [edge, isNew] = edges.try_emplace(key, static_cast<uint32_t>(nodes.size()));
    node = edge->second;
    if (isNew)
      nodes.emplace_back();
  }
  if (nodes[node].id < 0)
    nodes[node] = {id, control};
  return absl::OkStatus();
}

SpecialTokens::Match SpecialTokens::longestAt(std::string_view text) const {
  Match best;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    auto edge = edges.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[i]));
    if (edge == edges.end())
      break;
    node = edge->second;
    if (nodes[node].id >= 0)
      best = {nodes[node].id, i + 1, nodes[node].control};
  }
  return best;
}

void SpecialTokens::split(std::string_view text, bool parseControl, const std::function<void(std::string_view)> &onText,
                          const std::function<void(int32_t)> &onToken) const {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    Match match;
    if (firstBytes[static_cast<uint8_t>(text[at])])
      match = longestAt(text.substr(at));
    if (match.bytes == 0) {
      ++at;
      continue;
    }
    if (!match.control || parseControl) {
      if (at > begin)
        onText(text.substr(begin, at - begin));
      onToken(match.id);
      begin = at + match.bytes;
    }
    at += match.bytes;
  }
  if (begin < text.size())
    onText(text.substr(begin));
}

} // namespace ingot
