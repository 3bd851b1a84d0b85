// One pass over the source with Python's idea of whitespace. Newlines become "\n" and one at the end of the template is
// dropped before anything else.
#include "runtime/tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "runtime/tokenizer/jinja_value.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot::jinja {
namespace {

[[noreturn]] void failSyntax(std::string message) { throw Failure{Failure::SYNTAX, std::move(message)}; }

std::string unifyNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n')
      ++i;
  }
  if (!out.empty() && out.back() == '\n')
    out.pop_back();
  return out;
}

size_t spacesAt(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size()) {
    utf8::Sequence sequence = utf8::first(text.substr(end));
    if (!isSpace(sequence.codePoint))
      break;
    end += sequence.bytes;
  }
  return end - at;
}

std::string_view stripRight(std::string_view text) {
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80)
      --begin;
    if (!isSpace(utf8::first(text.substr(begin)).codePoint))
      break;
    text = text.substr(0, begin);
  }
  return text;
}

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isNameChar(char c) {
  return isDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<uint8_t>(c) >= 0x80;
}
int hexDigit(char c) {
  if (isDigit(c))
    return c - '0';
  char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

class Lexer {
public:
  Lexer(std::string_view text, int &lineCounter) : source(text), line(lineCounter) { line = 1; }

  std::vector<Token> run() {
    while (at < source.size())
      lexText();
    push(Token::END, {});
    return std::move(tokens);
  }

private:
  bool here(std::string_view text, size_t offset = 0) const {
    return source.substr(std::min(source.size(), at + offset), text.size()) == text;
  }
  void advance(size_t bytes) {
    line += static_cast<int>(std::count(source.begin() + static_cast<ptrdiff_t>(at),
                                        source.begin() + static_cast<ptrdiff_t>(at + bytes), '\n'));
    at += bytes;
    if (bytes > 0)
      lineStarting = source[at - 1] == '\n';
  }
  void push(Token::Kind kind, std::string text) { tokens.push_back({kind, std::move(text), line}); }

  // Text before a tag with `sign`, as the whitespace rules leave it.
  void pushText(std::string_view text, char sign, bool isOutput) {
    if (sign == '-') {
      text = stripRight(text);
    } else if (sign != '+' && !isOutput) {
      size_t lineBegin = text.rfind('\n') + 1; // npos + 1 is 0
      if ((lineBegin > 0 || lineStarting) && spacesAt(text, lineBegin) == text.size() - lineBegin)
        text = text.substr(0, lineBegin);
    }
    if (!text.empty())
      push(Token::DATA, std::string(text));
  }

  static char signOf(std::string_view text) {
    return !text.empty() && (text[0] == '-' || text[0] == '+') ? text[0] : 0;
  }

  // The bytes of a tag end at the cursor ("%}", "-%}" with what it strips, "+%}"), or 0.
  size_t endAt(std::string_view mark, bool trimsNewline) const {
    if (here("-") && here(mark, 1))
      return 1 + mark.size() + spacesAt(source, at + 1 + mark.size());
    if (trimsNewline && here("+") && here(mark, 1))
      return 1 + mark.size();
    if (here(mark))
      return mark.size() + (trimsNewline && here("\n", mark.size()));
    return 0;
  }

  void lexText() {
    size_t begin = at;
    size_t tag = source.find('{', begin);
    while (tag != std::string_view::npos && !here("{{", tag - at) && !here("{%", tag - at) && !here("{#", tag - at))
      tag = source.find('{', tag + 1);
    if (tag == std::string_view::npos) {
      push(Token::DATA, std::string(source.substr(begin)));
      at = source.size();
      return;
    }
    char type = source[tag + 1];
    char sign = signOf(source.substr(tag + 2));
    pushText(source.substr(begin, tag - begin), sign, type == '{');
    advance(tag - begin);
    if (type == '%' && lexRaw())
      return;
    advance(2 + (sign != 0));
    if (type == '#')
      return lexComment();
    push(type == '{' ? Token::OUTPUT_BEGIN : Token::TAG_BEGIN, {});
    lexTag(type == '{');
  }

  void lexComment() {
    size_t end = source.find("#}", at);
    if (end == std::string_view::npos)
      failSyntax("missing end of comment tag");
    bool hasSign = end > at && signOf(source.substr(end - 1));
    advance(end - at - hasSign);
    advance(endAt("#}", true));
  }

  // At "{%": a raw block as a whole, or false.
  bool lexRaw() {
    size_t end = at + 2 + (signOf(source.substr(at + 2)) != 0);
    end += spacesAt(source, end);
    if (source.substr(end, 3) != "raw")
      return false;
    end += 3;
    end += spacesAt(source, end);
    bool strips = source.substr(end, 3) == "-%}";
    if (!strips && source.substr(end, 2) != "%}")
      return false;
    end += strips ? 3 + spacesAt(source, end + 3) : 2;
    advance(end - at);
    for (size_t tag = source.find("{%", at); tag != std::string_view::npos; tag = source.find("{%", tag + 2)) {
      char sign = signOf(source.substr(tag + 2));
      size_t inside = tag + 2 + (sign != 0);
      inside += spacesAt(source, inside);
      if (source.substr(inside, 6) != "endraw")
        continue;
      inside += 6;
      inside += spacesAt(source, inside);
      size_t begin = at;
      at = inside;
      size_t closing = endAt("%}", true);
      at = begin;
      if (closing == 0)
        continue;
      pushText(source.substr(begin, tag - begin), sign, false);
      advance(inside + closing - begin);
      return true;
    }
    failSyntax("missing end of raw directive");
  }

  void lexTag(bool isOutput) {
    std::vector<char> open;
    int beginLine = line;
    while (at < source.size()) {
      if (open.empty())
        if (size_t end = isOutput ? endAt("}}", false) : endAt("%}", true)) {
          push(isOutput ? Token::OUTPUT_END : Token::TAG_END, {});
          return advance(end);
        }
      if (size_t spaces = spacesAt(source, at)) {
        advance(spaces);
        continue;
      }
      char c = source[at];
      if (isDigit(c))
        lexNumber();
      else if (isNameChar(c))
        lexName();
      else if (c == '\'' || c == '"')
        lexString(c);
      else
        lexOperator(open);
    }
    line = beginLine;
    failSyntax("unexpected end of template inside a tag");
  }

  void lexName() {
    size_t end = at;
    while (end < source.size() && isNameChar(source[end]))
      ++end;
    push(Token::NAME, std::string(source.substr(at, end - at)));
    advance(end - at);
  }

  // Digits with single underscores between them, from `begin`.
  size_t digitsEnd(size_t begin, int base = 10) const {
    size_t end = begin;
    auto isOne = [&](size_t i) {
      int digit = i < source.size() ? hexDigit(source[i]) : -1;
      return digit >= 0 && digit < base;
    };
    while (isOne(end) || (end > begin && end < source.size() && source[end] == '_' && isOne(end + 1)))
      ++end;
    return end;
  }

  void lexNumber() {
    auto take = [&](size_t end, Token::Kind kind) {
      std::string digits(source.substr(at, end - at));
      std::erase(digits, '_');
      push(kind, digits);
      advance(end - at);
    };
    bool afterDot = at > 0 && source[at - 1] == '.';
    size_t end = digitsEnd(at);
    bool isFloat = false;
    if (!afterDot) {
      if (end + 1 < source.size() && source[end] == '.' && isDigit(source[end + 1])) {
        end = digitsEnd(end + 1);
        isFloat = true;
      }
      if (end < source.size() && (source[end] | 0x20) == 'e') {
        size_t power = end + 1;
        if (power < source.size() && (source[power] == '+' || source[power] == '-'))
          ++power;
        if (power < source.size() && isDigit(source[power])) {
          end = digitsEnd(power);
          isFloat = true;
        }
      }
    }
    if (isFloat)
      return take(end, Token::FLOAT);
    char base = at + 1 < source.size() && source[at] == '0' ? static_cast<char>(source[at + 1] | 0x20) : 0;
    int radix = base == 'x' ? 16 : base == 'o' ? 8 : base == 'b' ? 2 : 10;
    if (radix != 10)
      if (size_t stop = digitsEnd(at + 2, radix); stop > at + 2)
        return take(stop, Token::INTEGER);
    take(end, Token::INTEGER);
  }

  void lexString(char mark) {
    size_t end = at + 1;
    while (end < source.size() && source[end] != mark)
      end += source[end] == '\\' ? 2 : 1;
    if (end >= source.size())
      failSyntax("a string has no end");
    push(Token::STRING, unescape(source.substr(at + 1, end - at - 1)));
    advance(end + 1 - at);
  }

  static std::string unescape(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        out.push_back(text[i]);
        continue;
      }
      char c = text[++i];
      constexpr std::string_view kPlain = "\\'\"abfnrtv";
      if (size_t known = kPlain.find(c); known != std::string_view::npos) {
        out.push_back("\\'\"\a\b\f\n\r\t\v"[known]);
      } else if (c == '\n') {
        continue;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        uint32_t value = 0;
        for (size_t k = 1; k <= digits; ++k) {
          int digit = i + k < text.size() ? hexDigit(text[i + k]) : -1;
          if (digit < 0)
            failSyntax("a truncated \\x or \\u escape in a string");
          value = value << 4 | static_cast<uint32_t>(digit);
        }
        if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
          failSyntax("an escape in a string names no character");
        utf8::append(out, value);
        i += digits;
      } else if (c >= '0' && c <= '7') {
        uint32_t value = 0;
        size_t k = 0;
        for (; k < 3 && i + k < text.size() && text[i + k] >= '0' && text[i + k] <= '7'; ++k)
          value = value * 8 + static_cast<uint32_t>(text[i + k] - '0');
        utf8::append(out, value);
        i += k - 1;
      } else if (c == 'N') {
        failUnsupported("a \\N escape in a string");
      } else {
        out += {'\\', c};
      }
    }
    return out;
  }

  void lexOperator(std::vector<char> &open) {
    constexpr std::array<std::string_view, 27> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";", ""};
    std::string_view found;
    for (std::string_view op : kOperators)
      if (here(op)) {
        found = op;
        break;
      }
    if (found.empty())
      failSyntax(cat("unexpected character '", source.substr(at, utf8::first(source.substr(at)).bytes), "'"));
    char c = found[0];
    if (c == '(' || c == '[' || c == '{') {
      open.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c)
        failSyntax(cat("unexpected '", found, "'"));
      open.pop_back();
    }
    push(Token::OPERATOR, std::string(found));
    advance(found.size());
  }

  std::string_view source;
  size_t at = 0;
  int &line;
  bool lineStarting = true;
  std::vector<Token> tokens;
};

} // namespace

std::vector<Token> tokenize(std::string_view source, int &line) {
  std::string text = unifyNewlines(source);
  return Lexer(text, line).run();
}

} // namespace ingot::jinja
