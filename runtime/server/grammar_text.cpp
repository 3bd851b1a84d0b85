// Grammars as text, in the notation of llama.cpp's server (GBNF). They become rules over bytes: a class of characters
// is the sequences of UTF-8 that spell them.
#include <algorithm>
#include <cctype>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "runtime/server/grammar.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

using Symbol = Grammar::Symbol;
using Alternative = Grammar::Alternative;

constexpr size_t kMostSymbols = 50'000;
constexpr unsigned kMostRepeats = 1000;
constexpr int kMostDepth = 64; // of parentheses
constexpr uint32_t kLastCharacter = 0x10FFFF;

struct CharacterRange {
  uint32_t first, last;
};

Symbol bytesFrom(uint8_t first, uint8_t last) {
  Symbol symbol;
  for (unsigned byte = first; byte <= last; ++byte)
    symbol.bytes.set(byte);
  return symbol;
}

// The sequences of bytes that spell the characters from `first` to `last`, each of `size` bytes. Splits the range until
// every byte has one of its own, whatever the others are.
void addSequences(uint32_t first, uint32_t last, unsigned size, std::vector<Alternative> &to) {
  for (unsigned low = 1; low < size; ++low) {
    const uint32_t span = (1U << (6 * low)) - 1;
    if ((first & ~span) == (last & ~span))
      continue;
    if ((first & span) != 0) {
      addSequences(first, first | span, size, to);
      addSequences((first | span) + 1, last, size, to);
      return;
    }
    if ((last & span) != span) {
      addSequences(first, (last & ~span) - 1, size, to);
      addSequences(last & ~span, last, size, to);
      return;
    }
  }
  Alternative sequence;
  for (unsigned index = 0; index < size; ++index) {
    const unsigned shift = 6 * (size - 1 - index);
    const uint32_t mark = size == 1 ? 0 : index > 0 ? 0x80 : size == 2 ? 0xC0 : size == 3 ? 0xE0 : 0xF0;
    const uint32_t mask = index > 0 ? 0x3F : 0xFF;
    sequence.push_back(bytesFrom(static_cast<uint8_t>(mark | ((first >> shift) & mask)),
                                 static_cast<uint8_t>(mark | ((last >> shift) & mask))));
  }
  to.push_back(std::move(sequence));
}

std::vector<Alternative> spellings(const std::vector<CharacterRange> &ranges) {
  // Borders of the length of a spelling; surrogates are no characters.
  constexpr CharacterRange kParts[] = {
      {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
  constexpr unsigned kSizes[] = {1, 2, 3, 3, 4};
  std::vector<Alternative> made;
  Symbol ascii;
  for (const CharacterRange &range : ranges)
    for (size_t part = 0; part < std::size(kParts); ++part) {
      const uint32_t first = std::max(range.first, kParts[part].first), last = std::min(range.last, kParts[part].last);
      if (first > last)
        continue;
      if (part == 0)
        ascii.bytes |= bytesFrom(static_cast<uint8_t>(first), static_cast<uint8_t>(last)).bytes;
      else
        addSequences(first, last, kSizes[part], made);
    }
  if (ascii.bytes.any())
    made.push_back({ascii});
  return made;
}

std::vector<CharacterRange> othersThan(std::vector<CharacterRange> ranges) {
  std::ranges::sort(ranges, {}, &CharacterRange::first);
  std::vector<CharacterRange> others;
  uint32_t next = 0;
  for (const CharacterRange &range : ranges) {
    if (range.first > next)
      others.push_back({next, range.first - 1});
    next = std::max(next, range.last + 1);
  }
  if (next <= kLastCharacter)
    others.push_back({next, kLastCharacter});
  return others;
}

} // namespace

class GrammarReader {
public:
  explicit GrammarReader(std::string_view text) : text(text), grammar(std::make_shared<Grammar>()) {
    grammar->all.emplace_back(); // rule 0 is root's
    named["root"] = {0, 0};
  }

  absl::StatusOr<std::shared_ptr<const Grammar>> read() {
    for (skip(true); at < text.size(); skip(true))
      if (absl::Status status = rule(); !status.ok())
        return status;
    for (const auto &[name, entry] : named)
      if (!entry.defined)
        return absl::InvalidArgumentError(name == "root"
                                              ? "grammar: expected a rule `root`, which a text begins with"
                                              : cat("grammar: line ", entry.line, ": there is no rule `", name, "`"));
    if (absl::Status status = checkRecursion(); !status.ok())
      return status;
    return grammar;
  }

private:
  struct Named {
    uint32_t rule = 0;
    size_t line = 0; // of its first use
    bool defined = false;
  };

  absl::Status wrong(std::string_view what) const {
    return absl::InvalidArgumentError(cat("grammar: line ", lineOf(at), ": ", what));
  }
  size_t lineOf(size_t place) const {
    return 1 + static_cast<size_t>(std::ranges::count(text.substr(0, std::min(place, text.size())), '\n'));
  }
  bool sees(std::string_view mark) const { return text.substr(at).starts_with(mark); }
  bool take(std::string_view mark) {
    if (!sees(mark))
      return false;
    at += mark.size();
    return true;
  }
  // White space and comments; line ends only where a rule goes on over them.
  void skip(bool lines) {
    for (; at < text.size(); ++at) {
      if (text[at] == '#')
        at = std::min(text.find('\n', at), text.size());
      if (at == text.size() ||
          !(text[at] == ' ' || text[at] == '\t' || (lines && (text[at] == '\n' || text[at] == '\r'))))
        return;
    }
  }
  std::string name() {
    const size_t first = at;
    while (at < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '-' || text[at] == '_'))
      ++at;
    return std::string(text.substr(first, at - first));
  }
  uint32_t add(std::vector<Alternative> alternatives = {}) {
    for (const Alternative &each : alternatives)
      symbols += 1 + each.size();
    grammar->all.push_back(std::move(alternatives));
    ++symbols;
    return static_cast<uint32_t>(grammar->all.size() - 1);
  }
  static Symbol ruleOf(uint32_t rule) {
    Symbol symbol;
    symbol.rule = rule;
    return symbol;
  }
  Named &lookUp(const std::string &called) {
    auto [place, isNew] = named.try_emplace(called);
    if (isNew)
      place->second.rule = add();
    if (place->second.line == 0)
      place->second.line = lineOf(at);
    return place->second;
  }

  absl::Status rule() {
    const std::string called = name();
    if (called.empty())
      return wrong("expected the name of a rule");
    skip(false);
    if (!take("::="))
      return wrong(cat("expected ::= after `", called, "`"));
    skip(true);
    Named &entry = lookUp(called);
    if (std::exchange(entry.defined, true))
      return wrong(cat("the rule `", called, "` is there twice"));
    const uint32_t number = entry.rule;
    std::vector<Alternative> body;
    if (absl::Status status = alternatives(body, 0); !status.ok())
      return status;
    grammar->all[number] = std::move(body);
    if (at < text.size() && text[at] != '\n' && text[at] != '\r')
      return wrong(cat("expected the end of the rule `", called, "`, got `", text.substr(at, 1), "`"));
    return absl::OkStatus();
  }

  absl::Status alternatives(std::vector<Alternative> &found, int depth) {
    if (depth > kMostDepth)
      return wrong(cat("expected at most ", kMostDepth, " parentheses within each other"));
    do {
      skip(depth > 0 || !found.empty());
      Alternative sequence;
      if (absl::Status status = sequenceOf(sequence, depth); !status.ok())
        return status;
      symbols += 1 + sequence.size();
      found.push_back(std::move(sequence));
    } while (take("|"));
    return absl::OkStatus();
  }

  absl::Status sequenceOf(Alternative &sequence, int depth) {
    for (;;) {
      skip(depth > 0);
      if (symbols > kMostSymbols)
        return wrong("expected a smaller grammar");
      const char next = at < text.size() ? text[at] : '\n';
      Alternative item;
      absl::Status status;
      if (next == '"') {
        status = literal(item);
      } else if (next == '[') {
        status = characterClass(item);
      } else if (next == '.') {
        ++at;
        item = {ruleOf(add(spellings({{0, kLastCharacter}})))};
      } else if (next == '(') {
        ++at;
        std::vector<Alternative> inner;
        status = alternatives(inner, depth + 1);
        if (status.ok() && !take(")"))
          status = wrong("expected )");
        if (status.ok())
          item = {ruleOf(add(std::move(inner)))};
      } else if (std::isalnum(static_cast<unsigned char>(next))) {
        item = {ruleOf(lookUp(name()).rule)};
      } else {
        return absl::OkStatus();
      }
      if (status.ok())
        status = repeat(item);
      if (!status.ok())
        return status;
      sequence.insert(sequence.end(), item.begin(), item.end());
    }
  }

  absl::StatusOr<uint32_t> hexadecimal(size_t digits) {
    uint32_t value = 0;
    const size_t first = at;
    for (; at < first + digits && at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at])); ++at)
      value = 16 * value + static_cast<uint32_t>(std::isdigit(static_cast<unsigned char>(text[at]))
                                                     ? text[at] - '0'
                                                     : (text[at] | 0x20) - 'a' + 10);
    if (at != first + digits || value > kLastCharacter || (value >= 0xD800 && value <= 0xDFFF))
      return wrong(cat("expected ", digits, " hexadecimal digits of a character"));
    return value;
  }

  // The next character of a literal or class, which is not at its end.
  absl::StatusOr<uint32_t> character() {
    if (take("\\")) {
      const char escaped = at < text.size() ? text[at++] : '\0';
      switch (escaped) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return hexadecimal(2);
      case 'u':
        return hexadecimal(4);
      case 'U':
        return hexadecimal(8);
      default:
        if (std::string_view("\\\"[]-^").find(escaped) == std::string_view::npos || escaped == '\0')
          return wrong("expected an escape, one of \\n \\r \\t \\xHH \\uHHHH \\UHHHHHHHH \\\\ \\\" \\[ \\] \\- \\^");
        return static_cast<uint32_t>(escaped);
      }
    }
    const utf8::Sequence next = utf8::first(text.substr(at));
    if (!next.valid)
      return wrong("expected text in UTF-8");
    at += next.bytes;
    return next.codePoint;
  }

  absl::Status literal(Alternative &item) {
    const size_t begin = at++;
    while (at < text.size() && text[at] != '"' && text[at] != '\n') {
      auto next = character();
      if (!next.ok())
        return next.status();
      const std::vector<Alternative> spelled = spellings({{*next, *next}});
      item.insert(item.end(), spelled.front().begin(), spelled.front().end());
    }
    if (!take("\"")) {
      at = begin;
      return wrong("expected a closing \" on the same line");
    }
    return absl::OkStatus();
  }

  absl::Status characterClass(Alternative &item) {
    ++at;
    const bool negated = take("^");
    std::vector<CharacterRange> ranges;
    while (at < text.size() && text[at] != ']' && text[at] != '\n') {
      auto first = character();
      if (!first.ok())
        return first.status();
      absl::StatusOr<uint32_t> last = *first;
      if (sees("-") && !sees("-]")) {
        ++at;
        if (at == text.size() || text[at] == '\n')
          break;
        last = character();
      }
      if (!last.ok())
        return last.status();
      if (*last < *first)
        return wrong("expected a range of characters in rising order");
      ranges.push_back({*first, *last});
    }
    if (!take("]"))
      return wrong("expected a closing ] on the same line");
    if (negated)
      ranges = othersThan(ranges);
    std::vector<Alternative> spelled = spellings(ranges);
    if (spelled.empty())
      return wrong("expected at least one character in a class");
    if (spelled.size() == 1)
      item = std::move(spelled.front());
    else
      item = {ruleOf(add(std::move(spelled)))};
    return absl::OkStatus();
  }

  absl::StatusOr<unsigned> count() {
    unsigned value = 0;
    const size_t first = at;
    for (; at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) && value <= kMostRepeats; ++at)
      value = 10 * value + static_cast<unsigned>(text[at] - '0');
    if (at == first || value > kMostRepeats)
      return wrong(cat("expected a number of at most ", kMostRepeats));
    return value;
  }

  // What *, +, ?, {n}, {n,} and {n,m} make of the item before them.
  absl::Status repeat(Alternative &item) {
    unsigned least = 0, most = 0;
    bool bounded = false;
    if (take("*")) {
    } else if (take("+")) {
      least = 1;
    } else if (take("?")) {
      most = 1;
      bounded = true;
    } else if (take("{")) {
      auto low = count();
      if (!low.ok())
        return low.status();
      least = most = *low;
      bounded = !take(",");
      if (!bounded && !sees("}")) {
        auto high = count();
        if (!high.ok())
          return high.status();
        most = *high;
        bounded = true;
      }
      if (!take("}") || (bounded && most < least))
        return wrong("expected {n}, {n,} or {n,m} with m of at least n");
    } else {
      return absl::OkStatus();
    }
    // Each further one is a choice to end here or to go on.
    const Alternative once = item.size() == 1 ? item : Alternative{ruleOf(add({item}))};
    item.clear();
    if (symbols + most + least > kMostSymbols)
      return wrong("expected a smaller grammar");
    for (unsigned index = 0; index < least; ++index)
      item.push_back(once.front());
    if (!bounded) {
      const uint32_t more = add();
      grammar->all[more] = {{}, {once.front(), ruleOf(more)}};
      symbols += 4;
      item.push_back(ruleOf(more));
    } else if (most > least) {
      uint32_t more = add({{}, {once.front()}});
      for (unsigned index = least + 1; index < most; ++index)
        more = add({{}, {once.front(), ruleOf(more)}});
      item.push_back(ruleOf(more));
    }
    return absl::OkStatus();
  }

  // A rule that comes back to itself before any byte, with something behind it, would never end. (As the last symbol it
  // does: the matcher keeps no place for it.)
  absl::Status checkRecursion() const {
    const auto &rules = grammar->all;
    // Rules that can be nothing, and rules that can come to an end.
    const std::vector<bool> empty = closure([](const Symbol &symbol) { return symbol.bytes.none(); });
    if (!closure([](const Symbol &) { return true; })[0])
      return absl::InvalidArgumentError("grammar: the rule `root` never comes to an end");
    // For each rule those that may come first in it, and whether something is behind them.
    std::vector<std::vector<std::pair<uint32_t, bool>>> first(rules.size());
    for (size_t rule = 0; rule < rules.size(); ++rule)
      for (const Alternative &each : rules[rule])
        for (size_t index = 0; index < each.size() && each[index].bytes.none(); ++index) {
          first[rule].emplace_back(each[index].rule, index + 1 < each.size());
          if (!empty[each[index].rule])
            break;
        }
    const std::vector<uint32_t> circle = components(first);
    for (size_t rule = 0; rule < rules.size(); ++rule)
      for (auto [next, followed] : first[rule])
        if (followed && circle[next] == circle[rule])
          return absl::InvalidArgumentError(cat("grammar: a rule", nameOf(circle, circle[rule]),
                                                " begins with itself; write it so that it ends with itself"));
    return absl::OkStatus();
  }

  // The rules with an alternative of which every symbol is taken, and is bytes or such a rule.
  std::vector<bool> closure(bool (*taken)(const Symbol &symbol)) const {
    const auto &rules = grammar->all;
    std::vector<bool> found(rules.size(), false);
    auto isFound = [&](const Symbol &symbol) { return taken(symbol) && (symbol.bytes.any() || found[symbol.rule]); };
    auto look = [&](size_t rule) {
      return !found[rule] && std::ranges::any_of(rules[rule], [&](const Alternative &each) {
        return std::ranges::all_of(each, isFound);
      }) && (found[rule] = true);
    };
    // In both directions, so that a chain of rules takes two rounds either way.
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t rule = 0; rule < rules.size(); ++rule)
        changed |= look(rule);
      for (size_t rule = rules.size(); rule-- > 0;)
        changed |= look(rule);
    }
    return found;
  }

  std::string nameOf(const std::vector<uint32_t> &circle, uint32_t which) const {
    for (const auto &[called, entry] : named)
      if (circle[entry.rule] == which)
        return cat(" (`", called, "`)");
    return "";
  }

  // A number for each rule, the same for those that lead to each other (Tarjan's components, without recursion).
  static std::vector<uint32_t> components(const std::vector<std::vector<std::pair<uint32_t, bool>>> &edges) {
    std::vector<uint32_t> order(edges.size(), 0), low(edges.size(), 0), component(edges.size(), UINT32_MAX), open;
    uint32_t visited = 0, made = 0;
    std::vector<std::pair<uint32_t, size_t>> path;
    for (uint32_t start = 0; start < edges.size(); ++start) {
      if (order[start] != 0)
        continue;
      path.emplace_back(start, 0);
      while (!path.empty()) {
        auto &[rule, edge] = path.back();
        if (edge == 0 && order[rule] == 0) {
          order[rule] = low[rule] = ++visited;
          open.push_back(rule);
        }
        if (edge < edges[rule].size()) {
          const uint32_t next = edges[rule][edge++].first;
          if (order[next] == 0)
            path.emplace_back(next, 0);
          else if (component[next] == UINT32_MAX)
            low[rule] = std::min(low[rule], order[next]);
          continue;
        }
        const uint32_t done = rule;
        path.pop_back();
        if (!path.empty())
          low[path.back().first] = std::min(low[path.back().first], low[done]);
        if (low[done] != order[done])
          continue;
        while (component[done] == UINT32_MAX) {
          component[open.back()] = made;
          open.pop_back();
        }
        ++made;
      }
    }
    return component;
  }

  std::string_view text;
  size_t at = 0, symbols = 0;
  std::shared_ptr<Grammar> grammar;
  std::map<std::string, Named> named;
};

absl::StatusOr<std::shared_ptr<const Grammar>> Grammar::ofText(std::string_view text) {
  return GrammarReader(text).read();
}

} // namespace ingot
