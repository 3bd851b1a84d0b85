// The methods of Python's str, dict, list and tuple. A method that would change its object is not given out, as in the
// sandbox; one that exists in Python but not here is an error, not an undefined value.
#include <algorithm>
#include <array>

#include "unicode/locid.h"
#include "unicode/stringoptions.h"
#include "unicode/uchar.h"
#include "unicode/unistr.h"

#include "absl/container/flat_hash_map.h"

#include "runtime/tokenizer/jinja_machine.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot::jinja {
namespace {

using Method = Value (*)(Machine &, const Value &self, Args &);
using Table = absl::flat_hash_map<std::string, Method>;

icu::UnicodeString wide(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

std::string narrow(const icu::UnicodeString &text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

std::string titleCaseOf(char32_t c) {
  icu::UnicodeString one(static_cast<UChar32>(c));
  return narrow(
      one.toTitle(nullptr, icu::Locale::getRoot(), U_TITLECASE_NO_LOWERCASE | U_TITLECASE_NO_BREAK_ADJUSTMENT));
}

std::string lower(std::string_view text) { return narrow(wide(text).toLower(icu::Locale::getRoot())); }
std::string upper(std::string_view text) { return narrow(wide(text).toUpper(icu::Locale::getRoot())); }

bool isCasedChar(char32_t c) { return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_CASED); }

// A capital sigma ends a word if a cased character is before it and none after, not counting what case ignores.
bool isFinalSigma(Machine &machine, std::u32string_view points, size_t at) {
  auto ignored = [&](size_t i) {
    machine.meter.step();
    return u_hasBinaryProperty(static_cast<UChar32>(points[i]), UCHAR_CASE_IGNORABLE);
  };
  size_t before = at;
  while (before > 0 && ignored(before - 1))
    --before;
  if (before == 0 || !isCasedChar(points[before - 1]))
    return false;
  size_t after = at + 1;
  while (after < points.size() && ignored(after))
    ++after;
  return after == points.size() || !isCasedChar(points[after]);
}

std::string lowerAt(Machine &machine, std::u32string_view points, size_t at) {
  if (points[at] == U'\u03A3')
    return isFinalSigma(machine, points, at) ? "\xCF\x82" : "\xCF\x83";
  return narrow(icu::UnicodeString(static_cast<UChar32>(points[at])).toLower(icu::Locale::getRoot()));
}

// str.title: a cased character begins a word unless another cased one is before it.
std::string titleText(Machine &machine, std::string_view text) {
  std::u32string points = decode(machine.meter, text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i)
    out += i > 0 && isCasedChar(points[i - 1]) ? lowerAt(machine, points, i) : titleCaseOf(points[i]);
  return out;
}

std::string capitalizeText(Machine &machine, std::string_view text) {
  std::u32string points = decode(machine.meter, text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i)
    out += i == 0 ? titleCaseOf(points[i]) : lowerAt(machine, points, i);
  return out;
}

std::string swapCase(Machine &machine, std::string_view text) {
  std::u32string points = decode(machine.meter, text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i) {
    auto c = static_cast<UChar32>(points[i]);
    std::string one;
    utf8::append(one, points[i]);
    out += u_isUUppercase(c) ? lowerAt(machine, points, i) : u_isULowercase(c) ? upper(one) : one;
  }
  return out;
}

Value text(std::string made) { return Value::string(std::move(made)); }

const std::string &wantString(const Value &value, std::string_view method) {
  if (!value.isString())
    fail(cat(method, "() needs a str, got ", typeName(value)));
  return value.text();
}

template <bool (*accepts)(char32_t)> Value allOf(Machine &machine, const Value &self, Args &) {
  std::u32string points = decode(machine.meter, self.text());
  return Value::boolean(!points.empty() && std::all_of(points.begin(), points.end(), accepts));
}

bool isAlpha(char32_t c) { return U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_L_MASK; }
bool isDecimal(char32_t c) { return u_charType(static_cast<UChar32>(c)) == U_DECIMAL_DIGIT_NUMBER; }
int32_t numericType(char32_t c) { return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE); }
bool isDigitChar(char32_t c) { return numericType(c) == U_NT_DECIMAL || numericType(c) == U_NT_DIGIT; }
bool isNumeric(char32_t c) { return numericType(c) != U_NT_NONE; }
bool isAlnum(char32_t c) { return isAlpha(c) || isNumeric(c); }

Value isCased(Machine &machine, const Value &self, bool wantUpper) {
  bool any = false;
  for (char32_t c : decode(machine.meter, self.text())) {
    auto point = static_cast<UChar32>(c);
    bool isUpper = u_isUUppercase(point);
    bool isLower = u_isULowercase(point);
    if ((wantUpper ? isLower : isUpper) || u_charType(point) == U_TITLECASE_LETTER)
      return Value::boolean(false);
    any |= wantUpper ? isUpper : isLower;
  }
  return Value::boolean(any);
}

// Parts of `whole` between separators; an empty `separator` is none given: runs of whitespace.
std::vector<Value> splitText(Machine &machine, const std::string &whole, const Value *separator, int64_t limit,
                             bool fromRight) {
  std::vector<std::string_view> parts;
  std::string_view rest = whole;
  machine.meter.step(static_cast<int64_t>(whole.size() / 8));
  auto room = [&] { return limit < 0 || static_cast<int64_t>(parts.size()) < limit; };
  if (separator && !separator->isNone()) {
    const std::string &mark = wantString(*separator, "split");
    if (mark.empty())
      fail("empty separator");
    while (room()) {
      size_t found = fromRight ? rest.rfind(mark) : rest.find(mark);
      if (found == std::string_view::npos)
        break;
      parts.push_back(fromRight ? rest.substr(found + mark.size()) : rest.substr(0, found));
      rest = fromRight ? rest.substr(0, found) : rest.substr(found + mark.size());
    }
    parts.push_back(rest);
  } else {
    for (;;) {
      rest = stripText(machine, rest, nullptr, !fromRight, fromRight);
      if (rest.empty())
        break;
      if (!room()) {
        parts.push_back(rest);
        break;
      }
      size_t length = 0;
      if (fromRight) {
        size_t begin = rest.size();
        while (begin > 0) {
          size_t at = begin - 1;
          while (at > 0 && (static_cast<uint8_t>(rest[at]) & 0xC0) == 0x80)
            --at;
          if (isSpace(utf8::first(rest.substr(at)).codePoint))
            break;
          begin = at;
        }
        parts.push_back(rest.substr(begin));
        rest = rest.substr(0, begin);
        continue;
      }
      while (length < rest.size()) {
        utf8::Sequence sequence = utf8::first(rest.substr(length));
        if (isSpace(sequence.codePoint))
          break;
        length += sequence.bytes;
      }
      parts.push_back(rest.substr(0, length));
      rest = rest.substr(length);
    }
  }
  if (fromRight)
    std::reverse(parts.begin(), parts.end());
  machine.meter.make(whole.size() + parts.size() * (sizeof(Value) + sizeof(Text)));
  std::vector<Value> made;
  made.reserve(parts.size());
  for (std::string_view part : parts)
    made.push_back(text(std::string(part)));
  return made;
}

Value split(Machine &machine, const Value &self, Args &args, bool fromRight) {
  Bound bound("split", args, {"sep", "maxsplit"});
  return Value::sequence(
      splitText(machine, self.text(), bound.has(0) ? &bound[0] : nullptr, bound.integer(1, -1), fromRight));
}

Value strip(Machine &machine, const Value &self, Args &args, bool left, bool right) {
  Bound bound("strip", args, {"chars"});
  const Value *chars = bound.has(0) && !bound[0].isNone() ? &bound[0] : nullptr;
  if (chars)
    wantString(*chars, "strip");
  std::string_view stripped = stripText(machine, self.text(), chars, left, right);
  machine.meter.make(stripped.size());
  return text(std::string(stripped));
}

// The code points [start, end) that optional arguments choose, as slices do.
struct Window {
  std::u32string points;
  size_t begin = 0;
  size_t end = 0;
  bool inside = true; // start is not past the end
};
Window windowOf(Machine &machine, const Value &self, const Bound &bound) {
  Window window;
  window.points = decode(machine.meter, self.text());
  auto size = static_cast<int64_t>(window.points.size());
  auto place = [&](size_t i, int64_t otherwise) {
    int64_t index = bound.has(i) && !bound[i].isNone() ? bound.integer(i, 0) : otherwise;
    return std::max<int64_t>(0, index < 0 ? std::max(index, -size - 1) + size : index);
  };
  int64_t begin = place(1, 0);
  window.inside = begin <= size;
  window.begin = static_cast<size_t>(std::min(begin, size));
  window.end = std::max(window.begin, static_cast<size_t>(std::min(place(2, size), size)));
  return window;
}

Value affix(Machine &machine, const Value &self, Args &args, bool atEnd) {
  Bound bound(atEnd ? "endswith" : "startswith", args, {atEnd ? "suffix" : "prefix", "start", "end"});
  std::vector<Value> wanted = {bound.need(0)};
  if (wanted[0].isSequence(Flavor::TUPLE))
    wanted = std::vector<Value>(wanted[0].as<Sequence>().items);
  std::string inside;
  std::string_view whole = self.text();
  if (bound.has(1) || bound.has(2)) {
    Window window = windowOf(machine, self, bound);
    if (!window.inside)
      return Value::boolean(false);
    inside = encode(machine.meter, std::u32string_view(window.points).substr(window.begin, window.end - window.begin));
    whole = inside;
  }
  return Value::boolean(std::any_of(wanted.begin(), wanted.end(), [&](const Value &value) {
    const std::string &part = wantString(value, atEnd ? "endswith" : "startswith");
    machine.meter.step();
    return atEnd ? whole.ends_with(part) : whole.starts_with(part);
  }));
}

Value findText(Machine &machine, const Value &self, Args &args, bool last, bool mustExist) {
  Bound bound("find", args, {"sub", "start", "end"});
  std::u32string wanted = decode(machine.meter, wantString(bound.need(0), "find"));
  Window window = windowOf(machine, self, bound);
  std::u32string_view inside = std::u32string_view(window.points).substr(window.begin, window.end - window.begin);
  machine.meter.step(static_cast<int64_t>(inside.size() / 8));
  size_t found = !window.inside ? std::u32string_view::npos : last ? inside.rfind(wanted) : inside.find(wanted);
  if (found != std::u32string_view::npos)
    return Value::number(static_cast<int64_t>(found + window.begin));
  if (mustExist)
    fail("substring not found");
  return Value::number(-1);
}

Value countText(Machine &machine, const Value &self, Args &args) {
  Bound bound("count", args, {"sub", "start", "end"});
  std::u32string wanted = decode(machine.meter, wantString(bound.need(0), "count"));
  Window window = windowOf(machine, self, bound);
  std::u32string_view inside = std::u32string_view(window.points).substr(window.begin, window.end - window.begin);
  machine.meter.step(static_cast<int64_t>(inside.size() / 8));
  if (wanted.empty())
    return Value::number(window.inside ? static_cast<int64_t>(inside.size()) + 1 : 0);
  int64_t count = 0;
  for (size_t at = inside.find(wanted); at != std::u32string_view::npos; at = inside.find(wanted, at + wanted.size()))
    ++count;
  return Value::number(count);
}

Value partition(Machine &machine, const Value &self, Args &args, bool last) {
  Bound bound("partition", args, {"sep"});
  const std::string &mark = wantString(bound.need(0), "partition");
  if (mark.empty())
    fail("empty separator");
  const std::string &whole = self.text();
  machine.meter.make(2 * whole.size());
  size_t at = last ? whole.rfind(mark) : whole.find(mark);
  if (at == std::string::npos)
    return last ? Value::tuple({text(""), text(""), self}) : Value::tuple({self, text(""), text("")});
  return Value::tuple({text(whole.substr(0, at)), text(mark), text(whole.substr(at + mark.size()))});
}

Value pad(Machine &machine, const Value &self, Args &args, int side) {
  Bound bound("center", args, {"width", "fillchar"});
  bound.need(0);
  int64_t size = lengthOf(self);
  int64_t missing = std::max<int64_t>(0, bound.integer(0, 0) - size);
  std::string fill = bound.text(machine, 1, " ");
  if (utf8::countCodePoints(fill) != 1)
    fail("the fill character must be exactly one character long");
  int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & (size + missing) & 1);
  machine.meter.make(static_cast<size_t>(std::min<int64_t>(missing, int64_t{1} << 40)) * fill.size());
  std::string out;
  for (int64_t i = 0; i < left; ++i)
    out += fill;
  out += self.text();
  for (int64_t i = left; i < missing; ++i)
    out += fill;
  return text(std::move(out));
}

Value zeroFill(Machine &machine, const Value &self, Args &args) {
  Bound bound("zfill", args, {"width"});
  bound.need(0);
  int64_t missing = std::max<int64_t>(0, bound.integer(0, 0) - lengthOf(self));
  machine.meter.make(static_cast<size_t>(missing));
  std::string out = self.text();
  bool hasSign = !out.empty() && (out[0] == '-' || out[0] == '+');
  out.insert(hasSign ? 1 : 0, static_cast<size_t>(missing), '0');
  return text(std::move(out));
}

Value joinStrings(Machine &machine, const Value &self, Args &args) {
  Bound bound("join", args, {"iterable"});
  std::string out;
  bool isFirst = true;
  for (const Value &part : iterate(machine.meter, bound.need(0))) {
    const std::string &piece = wantString(part, "join");
    machine.meter.make(self.text().size() + piece.size());
    if (!std::exchange(isFirst, false))
      out += self.text();
    out += piece;
  }
  return text(std::move(out));
}

// str.format with "{}", "{0}" and "{name}", without attributes, conversions or format specifications.
Value formatBraces(Machine &machine, const Value &self, Args &args) {
  std::string_view format = self.text();
  std::string out;
  size_t automatic = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    char c = format[i];
    if (c != '{' && c != '}') {
      out.push_back(c);
      continue;
    }
    if (i + 1 < format.size() && format[i + 1] == c) {
      out.push_back(c);
      ++i;
      continue;
    }
    size_t end = format.find('}', i);
    if (c == '}' || end == std::string_view::npos)
      fail("a single brace in a format string");
    std::string_view field = format.substr(i + 1, end - i - 1);
    if (field.find_first_of(".[!:{") != std::string_view::npos)
      failUnsupported(cat("the format field '{", field, "}'"));
    const Value *value = nullptr;
    bool isIndex = field.empty() || (field[0] >= '0' && field[0] <= '9');
    if (isIndex) {
      size_t index = field.empty() ? automatic++ : 0;
      for (char digit : field)
        index = std::min<size_t>(index * 10 + static_cast<size_t>(digit - '0'), 1'000'000);
      value = index < args.positional.size() ? &args.positional[index] : nullptr;
    } else {
      for (const auto &[name, given] : args.named)
        if (name == field)
          value = &given;
    }
    if (!value)
      fail(cat("format() misses the argument '", field, "'"));
    out += toText(machine.meter, *value);
    i = end;
  }
  machine.meter.make(out.size());
  return text(std::move(out));
}

const Table &stringMethods() {
  static const Table made = [] {
    Table methods;
    for (const char *how : {"upper", "lower", "title", "capitalize", "swapcase", "casefold"})
      methods[how] = nullptr; // changeCase by name
    methods["strip"] = [](Machine &m, const Value &s, Args &a) { return strip(m, s, a, true, true); };
    methods["lstrip"] = [](Machine &m, const Value &s, Args &a) { return strip(m, s, a, true, false); };
    methods["rstrip"] = [](Machine &m, const Value &s, Args &a) { return strip(m, s, a, false, true); };
    methods["split"] = [](Machine &m, const Value &s, Args &a) { return split(m, s, a, false); };
    methods["rsplit"] = [](Machine &m, const Value &s, Args &a) { return split(m, s, a, true); };
    methods["splitlines"] = [](Machine &m, const Value &s, Args &a) {
      Bound bound("splitlines", a, {"keepends"});
      std::vector<Value> lines;
      for (std::string &line : splitLines(s.text(), bound.flag(0, false))) {
        m.meter.make(line.size() + sizeof(Value) + sizeof(Text));
        lines.push_back(text(std::move(line)));
      }
      return Value::sequence(std::move(lines));
    };
    methods["startswith"] = [](Machine &m, const Value &s, Args &a) { return affix(m, s, a, false); };
    methods["endswith"] = [](Machine &m, const Value &s, Args &a) { return affix(m, s, a, true); };
    methods["replace"] = [](Machine &m, const Value &s, Args &a) {
      Bound bound("replace", a, {"old", "new", "count"});
      return text(replaceText(m, s.text(), wantString(bound.need(0), "replace"), wantString(bound.need(1), "replace"),
                              bound.integer(2, -1)));
    };
    methods["find"] = [](Machine &m, const Value &s, Args &a) { return findText(m, s, a, false, false); };
    methods["rfind"] = [](Machine &m, const Value &s, Args &a) { return findText(m, s, a, true, false); };
    methods["index"] = [](Machine &m, const Value &s, Args &a) { return findText(m, s, a, false, true); };
    methods["rindex"] = [](Machine &m, const Value &s, Args &a) { return findText(m, s, a, true, true); };
    methods["count"] = countText;
    methods["partition"] = [](Machine &m, const Value &s, Args &a) { return partition(m, s, a, false); };
    methods["rpartition"] = [](Machine &m, const Value &s, Args &a) { return partition(m, s, a, true); };
    methods["removeprefix"] = [](Machine &, const Value &s, Args &a) {
      Bound bound("removeprefix", a, {"prefix"});
      const std::string &part = wantString(bound.need(0), "removeprefix");
      return s.text().starts_with(part) ? text(s.text().substr(part.size())) : s;
    };
    methods["removesuffix"] = [](Machine &, const Value &s, Args &a) {
      Bound bound("removesuffix", a, {"suffix"});
      const std::string &part = wantString(bound.need(0), "removesuffix");
      return s.text().ends_with(part) ? text(s.text().substr(0, s.text().size() - part.size())) : s;
    };
    methods["ljust"] = [](Machine &m, const Value &s, Args &a) { return pad(m, s, a, -1); };
    methods["rjust"] = [](Machine &m, const Value &s, Args &a) { return pad(m, s, a, 1); };
    methods["center"] = [](Machine &m, const Value &s, Args &a) { return pad(m, s, a, 0); };
    methods["zfill"] = zeroFill;
    methods["join"] = joinStrings;
    methods["format"] = formatBraces;
    methods["isalpha"] = allOf<isAlpha>;
    methods["isdecimal"] = allOf<isDecimal>;
    methods["isdigit"] = allOf<isDigitChar>;
    methods["isnumeric"] = allOf<isNumeric>;
    methods["isalnum"] = allOf<isAlnum>;
    methods["isspace"] = allOf<isSpace>;
    methods["isprintable"] = [](Machine &m, const Value &s, Args &a) {
      return s.text().empty() ? Value::boolean(true) : allOf<isPrintable>(m, s, a);
    };
    methods["isascii"] = [](Machine &, const Value &s, Args &) {
      return Value::boolean(
          std::all_of(s.text().begin(), s.text().end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }));
    };
    methods["isupper"] = [](Machine &m, const Value &s, Args &) { return isCased(m, s, true); };
    methods["islower"] = [](Machine &m, const Value &s, Args &) { return isCased(m, s, false); };
    return methods;
  }();
  return made;
}

Value dictView(Machine &machine, const Value &self, Flavor flavor) {
  std::vector<Value> items;
  machine.meter.make(self.as<Dict>().entries.size() * 2 * sizeof(Value));
  for (const auto &[key, value] : self.as<Dict>().entries)
    items.push_back(flavor == Flavor::KEYS ? key : flavor == Flavor::VALUES ? value : Value::tuple({key, value}));
  return Value::sequence(std::move(items), flavor);
}

const Table &dictMethods() {
  static const Table made = [] {
    Table methods;
    methods["keys"] = [](Machine &m, const Value &s, Args &) { return dictView(m, s, Flavor::KEYS); };
    methods["values"] = [](Machine &m, const Value &s, Args &) { return dictView(m, s, Flavor::VALUES); };
    methods["items"] = [](Machine &m, const Value &s, Args &) { return dictView(m, s, Flavor::ITEMS); };
    methods["copy"] = [](Machine &, const Value &s, Args &) { return s; };
    methods["get"] = [](Machine &m, const Value &s, Args &a) {
      Bound bound("get", a, {"key", "default"});
      const Value *found = lookup(m.meter, s.as<Dict>(), bound.need(0));
      return found ? *found : bound.has(1) ? bound[1] : Value();
    };
    return methods;
  }();
  return made;
}

const Table &listMethods() {
  static const Table made = [] {
    Table methods;
    methods["copy"] = [](Machine &, const Value &s, Args &) { return s; };
    methods["count"] = [](Machine &m, const Value &s, Args &a) {
      Bound bound("count", a, {"value"});
      int64_t count = 0;
      for (const Value &item : s.as<Sequence>().items)
        count += equal(m.meter, item, bound.need(0));
      return Value::number(count);
    };
    methods["index"] = [](Machine &m, const Value &s, Args &a) {
      Bound bound("index", a, {"value"});
      const std::vector<Value> &items = s.as<Sequence>().items;
      for (size_t i = 0; i < items.size(); ++i)
        if (equal(m.meter, items[i], bound.need(0)))
          return Value::number(static_cast<int64_t>(i));
      fail("the value is not in the list");
    };
    return methods;
  }();
  return made;
}

bool isOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

} // namespace

std::string changeCase(Machine &machine, std::string_view whole, std::string_view how) {
  machine.meter.make(4 * whole.size());
  if (how == "upper")
    return upper(whole);
  if (how == "lower")
    return lower(whole);
  if (how == "title")
    return titleText(machine, whole);
  if (how == "swapcase")
    return swapCase(machine, whole);
  if (how == "casefold")
    return narrow(wide(whole).foldCase());
  return capitalizeText(machine, whole);
}

std::string_view stripText(Machine &machine, std::string_view whole, const Value *chars, bool left, bool right) {
  std::u32string set = chars ? decode(machine.meter, chars->text()) : std::u32string();
  auto drops = [&](char32_t c) { return chars ? set.find(c) != std::u32string::npos : isSpace(c); };
  machine.meter.step(static_cast<int64_t>((whole.size() / 16) * (set.size() / 16)));
  while (left && !whole.empty()) {
    utf8::Sequence sequence = utf8::first(whole);
    if (!drops(sequence.codePoint))
      break;
    whole.remove_prefix(sequence.bytes);
  }
  while (right && !whole.empty()) {
    size_t begin = whole.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(whole[begin]) & 0xC0) == 0x80)
      --begin;
    if (!drops(utf8::first(whole.substr(begin)).codePoint))
      break;
    whole = whole.substr(0, begin);
  }
  return whole;
}

std::string replaceText(Machine &machine, std::string_view whole, std::string_view from, std::string_view to,
                        int64_t count) {
  std::string out;
  machine.meter.make(whole.size());
  while (count != 0) {
    // An empty pattern matches before each character and at the end.
    size_t at = from.empty() ? 0 : whole.find(from);
    if (at == std::string_view::npos)
      break;
    machine.meter.make(to.size());
    out += whole.substr(0, at);
    out += to;
    whole.remove_prefix(at + from.size());
    if (count > 0)
      --count;
    if (from.empty()) {
      if (whole.empty())
        break;
      size_t bytes = utf8::first(whole).bytes;
      out += whole.substr(0, bytes);
      whole.remove_prefix(bytes);
    }
  }
  return out += whole;
}

std::vector<std::string> splitLines(std::string_view whole, bool keepEnds) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t at = 0; at < whole.size();) {
    utf8::Sequence sequence = utf8::first(whole.substr(at));
    uint32_t c = sequence.codePoint;
    size_t end = at;
    at += sequence.bytes;
    bool isEnd = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!isEnd)
      continue;
    if (c == '\r' && at < whole.size() && whole[at] == '\n')
      ++at;
    lines.emplace_back(whole.substr(begin, (keepEnds ? at : end) - begin));
    begin = at;
  }
  if (begin < whole.size())
    lines.emplace_back(whole.substr(begin));
  return lines;
}

Value findMethod(Machine &machine, const Value &object, std::string_view name, bool &found) {
  const Table *table = nullptr;
  if (object.isString()) {
    table = &stringMethods();
    if (isOneOf(name, {"encode", "expandtabs", "format_map", "isidentifier", "istitle", "maketrans", "translate"}))
      failUnsupported(cat("the str method '", name, "'"));
  } else if (object.isDict()) {
    table = &dictMethods();
    found = isOneOf(name, {"clear", "pop", "popitem", "setdefault", "update"});
    if (name == "fromkeys")
      failUnsupported("the dict method 'fromkeys'");
  } else if (object.isSequence(Flavor::LIST) || object.isSequence(Flavor::TUPLE)) {
    table = &listMethods();
    bool isList = object.isSequence(Flavor::LIST);
    found = isList && isOneOf(name, {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"});
    if (!isList && name == "copy")
      return {};
  }
  if (found)
    return Value::undefined(cat("access to attribute '", name, "' of '", typeName(object), "' object is unsafe"));
  if (!table)
    return {};
  auto method = table->find(std::string(name));
  if (method == table->end())
    return {};
  found = true;
  machine.meter.make(64);
  if (!method->second)
    return Value::callable(std::string(name), [object, how = std::string(name)](Machine &m, Args &args) {
      Bound bound(how, args, {});
      return Value::string(changeCase(m, object.text(), how));
    });
  return Value::callable(
      std::string(name), [object, call = method->second](Machine &m, Args &args) { return call(m, object, args); },
      object.nesting());
}

} // namespace ingot::jinja
