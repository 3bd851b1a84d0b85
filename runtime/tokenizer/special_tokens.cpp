// One walk from each position at which some token can begin.
#include "runtime/tokenizer/special_tokens.h"

#include "runtime/tokenizer/text.h"

namespace ingot {

absl::Status SpecialTokens::add(std::string_view text, int32_t id, bool control) {
  constexpr size_t kLongest = 4096;
  if (text.empty() || text.size() > kLongest)
    return absl::InvalidArgumentError(cat("tokenizer: added token ", id, " has ", text.size(), " bytes; expected 1 to ",
                                          kLongest, ". The tokenizer data is damaged; compile the model again"));
  trie.add(text, id);
  if (control)
    controls.insert(id);
  return absl::OkStatus();
}

void SpecialTokens::split(std::string_view text, bool parseControl, const std::function<void(std::string_view)> &onText,
                          const std::function<void(int32_t)> &onToken) const {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    ByteTrie::Match match = trie.longest(text.substr(at));
    if (match.bytes == 0) {
      ++at;
      continue;
    }
    if (parseControl || !controls.contains(match.value)) {
      if (at > begin)
        onText(text.substr(begin, at - begin));
      onToken(match.value);
      begin = at + match.bytes;
    }
    at += match.bytes;
  }
  if (begin < text.size())
    onText(text.substr(begin));
}

} // namespace ingot
