// The table of named pre-tokenizers. Patterns are facts of the tokenizers that the models were trained with; each is a
// list of alternatives, written apart here so that the differences between families show.
#include "compiler/checkpoint/pre_tokenizer.h"

namespace ingot {

// Contractions, letters, numbers, other signs, and white space that leaves one space to the word after it.
#define LETTER_CASED_HEAD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
#define LETTER_CASED_TAIL R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
#define CONTRACTIONS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define SPACES R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::string_view kLlama3 =
    CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" SPACES;
constexpr std::string_view kQwen2 = CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)" SPACES;
constexpr std::string_view kQwen35 =
    CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" SPACES;
constexpr std::string_view kTekken =
    LETTER_CASED_HEAD "|" LETTER_CASED_TAIL R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" SPACES;
constexpr std::string_view kO200k = LETTER_CASED_HEAD CONTRACTIONS "?|" LETTER_CASED_TAIL CONTRACTIONS
                                                                   R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" SPACES;

#undef LETTER_CASED_HEAD
#undef LETTER_CASED_TAIL
#undef CONTRACTIONS
#undef SPACES

//   name                pattern   digits alone, ignore merges, NFC, bos
constexpr PreTokenizer kPreTokenizers[] = {
    {"default", kGpt2Pattern, false, false, false, false},  {"gpt-2", kGpt2Pattern, false, false, false, false},
    {"phi-2", kGpt2Pattern, false, false, false, false},    {"olmo", kGpt2Pattern, false, false, true, false},
    {"mpt", kGpt2Pattern, false, false, true, false},       {"smollm", kGpt2Pattern, true, false, false, false},
    {"starcoder", kGpt2Pattern, true, false, false, false}, {"refact", kGpt2Pattern, true, false, false, false},
    {"codeshell", kGpt2Pattern, true, false, false, false}, {"llama-bpe", kLlama3, false, true, false, true},
    {"llama3", kLlama3, false, true, false, true},          {"llama-v3", kLlama3, false, true, false, true},
    {"falcon3", kLlama3, false, true, false, true},         {"smaug-bpe", kLlama3, false, false, false, false},
    {"qwen2", kQwen2, false, false, true, false},           {"deepseek-r1-qwen", kQwen2, false, false, true, false},
    {"stablelm2", kQwen2, false, false, false, false},      {"qwen35", kQwen35, false, false, true, false},
    {"tekken", kTekken, false, true, false, true},          {"mistral-bpe", kTekken, false, true, false, true},
    {"gpt-4o", kO200k, false, false, false, false},
};

} // namespace

const PreTokenizer *findPreTokenizer(std::string_view name) {
  for (const PreTokenizer &rule : kPreTokenizers)
    if (rule.name == name)
      return &rule;
  return nullptr;
}

std::string preTokenizerNames() {
  std::string names;
  for (const PreTokenizer &rule : kPreTokenizers)
    names.append(names.empty() ? "" : ", ").append(rule.name);
  return names;
}

} // namespace ingot
