// The word-splitting rules of byte-level BPE tokenizers, by the names that GGUF files give them. A tokenizer.json
// spells its rules out; a GGUF only names them, so the table here is the one place that knows what a name means.
#pragma once

#include <string>
#include <string_view>

namespace ingot {

// GPT-2's pattern: what tokenizer.json's ByteLevel step applies when its use_regex is set.
extern const std::string_view kGpt2Pattern;

struct PreTokenizer {
  std::string_view name;
  std::string_view pattern;
  bool digitsAlone;
  bool ignoreMerges;
  bool nfc;
  bool addBos; // when the file does not say
};

// Null when the name is not known.
const PreTokenizer *findPreTokenizer(std::string_view name);
std::string preTokenizerNames(); // for messages

} // namespace ingot
