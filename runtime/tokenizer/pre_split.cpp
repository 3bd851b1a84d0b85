// PCRE2 with Unicode properties. Three differences from Oniguruma are translated before compiling: `\s` and `\S` (PCRE2
// also counts U+180E as space), `\uXXXX`, and `^`/`$`, which match at every line. The engines' Unicode tables may
// differ by a version.
#include "runtime/tokenizer/pre_split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/status/status.h"
#include "unicode/uchar.h"

#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

// Unicode's White_Space.
constexpr std::string_view kSpaces = R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029})"
                                     R"(\x{202F}\x{205F}\x{3000})";

absl::StatusOr<std::string> translate(std::string_view pattern) {
  std::string out;
  bool inClass = false;
  size_t classBegin = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      char next = pattern[++i];
      if (next == 's')
        out += inClass ? std::string(kSpaces) : cat("[", kSpaces, "]");
      else if (next == 'S' && !inClass)
        out += cat("[^", kSpaces, "]");
      else if (next == 'u' && i + 4 < pattern.size()) {
        out += cat("\\x{", pattern.substr(i + 1, 4), "}");
        i += 4;
      } else {
        out.push_back('\\');
        out.push_back(next);
      }
      continue;
    }
    if (inClass) {
      bool isPosix = c == '[' && pattern.substr(i, 2) == "[:";
      if ((c == '[' && !isPosix) || pattern.substr(i, 2) == "&&")
        return absl::UnimplementedError(cat("tokenizer: pre-split pattern '", pattern,
                                            "' uses a set operation inside brackets at byte ", i,
                                            ", which Ingot does not support; expected plain character classes"));
      if (isPosix) {
        size_t end = pattern.find(":]", i);
        if (end == std::string_view::npos)
          end = i;
        out += pattern.substr(i, end + 2 - i);
        i = end + 1;
        continue;
      }
      if (c == ']' && i > classBegin)
        inClass = false;
    } else if (c == '[') {
      inClass = true;
      classBegin = i + (pattern.substr(i, 2) == "[^" ? 2 : 1);
    }
    out.push_back(c);
  }
  return out;
}

struct MatchState {
  pcre2_match_data *data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context *context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack *stack = pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, nullptr);
  MatchState() {
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, 10'000'000);
  }
  MatchState(const MatchState &) = delete;
  MatchState &operator=(const MatchState &) = delete;
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

using Words = std::vector<std::string_view>;

Words splitDigits(std::string_view text) {
  Words words;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    utf8::Sequence sequence = utf8::first(text.substr(at));
    if (U_GET_GC_MASK(static_cast<UChar32>(sequence.codePoint)) & U_GC_N_MASK) {
      if (at > begin)
        words.push_back(text.substr(begin, at - begin));
      words.push_back(text.substr(at, sequence.bytes));
      begin = at + sequence.bytes;
    }
    at += sequence.bytes;
  }
  if (begin < text.size())
    words.push_back(text.substr(begin));
  return words;
}

} // namespace

struct PreSplit::Code {
  pcre2_code *code;
  explicit Code(pcre2_code *compiled) : code(compiled) {}
  Code(const Code &) = delete;
  Code &operator=(const Code &) = delete;
  ~Code() { pcre2_code_free(code); }

  void split(std::string_view text, MatchState &state, Words &words) const {
    size_t begin = 0;
    size_t at = 0;
    auto flush = [&](size_t end) {
      if (end > begin)
        words.push_back(text.substr(begin, end - begin));
      begin = end;
    };
    while (at < text.size()) {
      int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_NO_UTF_CHECK,
                              state.data, state.context);
      // No match, or the engine's budget ran out: the rest is one word.
      if (found < 0)
        break;
      const size_t *ends = pcre2_get_ovector_pointer(state.data);
      if (ends[1] < ends[0] || ends[1] < at)
        break;
      flush(ends[0]);
      flush(ends[1]);
      at = ends[1];
      if (ends[0] == ends[1] && at < text.size())
        at += utf8::first(text.substr(at)).bytes;
    }
    flush(text.size());
  }
};

absl::StatusOr<PreSplit> PreSplit::create(std::span<const std::string> patterns, bool digitsAlone) {
  PreSplit made;
  made.digitsAlone = digitsAlone;
  for (const std::string &pattern : patterns) {
    absl::StatusOr<std::string> translated = translate(pattern);
    if (!translated.ok())
      return translated.status();
    int error = 0;
    size_t offset = 0;
    pcre2_code *code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    if (!code) {
      PCRE2_UCHAR text[256] = {};
      pcre2_get_error_message(error, text, sizeof(text));
      return absl::InvalidArgumentError(cat("tokenizer: pre-split pattern '", utf8::replaceBroken(*translated),
                                            "' does not compile at byte ", offset, ": ",
                                            std::string_view(reinterpret_cast<const char *>(text))));
    }
    made.codes.push_back(std::make_shared<const Code>(code));
    // Without the just-in-time compiler (not on every machine) PCRE2 interprets: same matches, slower.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  }
  return made;
}

std::vector<std::string_view> PreSplit::split(std::string_view text) const {
  Words words = digitsAlone ? splitDigits(text) : Words{text};
  MatchState state;
  for (const std::shared_ptr<const Code> &code : codes) {
    Words finer;
    for (std::string_view word : words)
      code->split(word, state, finer);
    words = std::move(finer);
  }
  return words;
}

} // namespace ingot
