// Jinja's filters (`x | ...`), and `tojson` as Hugging Face redefines it for chat templates. Filters that are
// generators in Jinja give generators: always true, no length, used up by one iteration.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

#include "unicode/uchar.h"

#include "runtime/tokenizer/jinja_machine.h"
#include "runtime/tokenizer/jinja_sort.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot::jinja {
namespace {

Value text(std::string made) { return Value::string(std::move(made)); }
Value generator(std::vector<Value> items) { return Value::sequence(std::move(items), Flavor::GENERATOR); }

// "a.b.0" or an index, followed through items.
class Getter {
public:
  Getter(Machine &owner, const Value *attribute) : machine(owner) {
    if (!attribute || attribute->isNone())
      return;
    if (!attribute->isString()) {
      parts.push_back(*attribute);
      return;
    }
    std::string_view rest = attribute->text();
    for (;;) {
      size_t dot = rest.find('.');
      std::string part(rest.substr(0, dot));
      bool isIndex = !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string::npos;
      parts.push_back(isIndex ? Value::number(std::stoll(part)) : text(part));
      if (dot == std::string_view::npos)
        break;
      rest.remove_prefix(dot + 1);
    }
  }
  Value operator()(Value value, const Value *otherwise = nullptr) const {
    for (const Value &part : parts) {
      machine.meter.step();
      value = machine.item(value, part);
      if (value.isUndefined() && otherwise && !otherwise->isNone())
        value = *otherwise;
    }
    return value;
  }

private:
  Machine &machine;
  std::vector<Value> parts;
};

Value ignoreCase(Machine &machine, const Value &value) {
  return value.isString() ? text(changeCase(machine, value.text(), "lower")) : value;
}

void sortBy(Machine &machine, std::vector<std::pair<Value, Value>> &keyed, bool reverse) {
  auto before = [&](const auto &a, const auto &b) {
    return reverse ? less(machine.meter, b.first, a.first) : less(machine.meter, a.first, b.first);
  };
  stableSort(keyed, before);
}

Value sortFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<Getter> getters;
  if (bound.has(2) && bound[2].isString()) {
    std::string_view rest = bound[2].text();
    for (;;) {
      size_t comma = rest.find(',');
      Value part = text(std::string(rest.substr(0, comma)));
      getters.emplace_back(machine, &part);
      if (comma == std::string_view::npos)
        break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    getters.emplace_back(machine, bound.has(2) ? &bound[2] : nullptr);
  }
  bool caseSensitive = bound.flag(1, false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value &item : iterate(machine.meter, value)) {
    std::vector<Value> keys;
    keys.reserve(getters.size());
    for (const Getter &getter : getters)
      keys.push_back(caseSensitive ? getter(item) : ignoreCase(machine, getter(item)));
    keyed.emplace_back(Value::sequence(std::move(keys)), item);
  }
  sortBy(machine, keyed, bound.flag(0, false));
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto &entry : keyed)
    items.push_back(std::move(entry.second));
  return Value::sequence(std::move(items));
}

Value dictSort(Machine &machine, const Value &value, Args &args) {
  Bound bound("dictsort", args, {"case_sensitive", "by", "reverse"});
  std::string by = bound.text(machine, 1, "key");
  if (by != "key" && by != "value")
    fail("dictsort sorts by 'key' or 'value'");
  if (!value.isDict())
    fail(cat("'", typeName(value), "' object has no attribute 'items'"));
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto &[key, item] : value.as<Dict>().entries) {
    const Value &chosen = by == "key" ? key : item;
    keyed.emplace_back(bound.flag(0, false) ? chosen : ignoreCase(machine, chosen), Value::tuple({key, item}));
  }
  sortBy(machine, keyed, bound.flag(2, false));
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto &entry : keyed)
    items.push_back(std::move(entry.second));
  return Value::sequence(std::move(items));
}

Value uniqueFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("unique", args, {"case_sensitive", "attribute"});
  Getter getter(machine, bound.has(1) ? &bound[1] : nullptr);
  bool caseSensitive = bound.flag(0, false);
  absl::flat_hash_set<std::string> seenText;
  std::vector<Value> seen;
  std::vector<Value> items;
  for (const Value &item : iterate(machine.meter, value)) {
    Value key = caseSensitive ? getter(item) : ignoreCase(machine, getter(item));
    if (key.isDict() || key.isSequence(Flavor::LIST))
      fail(cat("unhashable type: '", typeName(key), "'"));
    if (key.isString()) {
      machine.meter.make(key.text().size());
      if (seenText.insert(key.text()).second)
        items.push_back(item);
      continue;
    }
    bool known = std::any_of(seen.begin(), seen.end(), [&](const Value &k) { return equal(machine.meter, k, key); });
    if (!known) {
      seen.push_back(key);
      items.push_back(item);
    }
  }
  return generator(std::move(items));
}

Value extreme(Machine &machine, const Value &value, Args &args, bool wantMax) {
  Bound bound(wantMax ? "max" : "min", args, {"case_sensitive", "attribute"});
  Getter getter(machine, bound.has(1) ? &bound[1] : nullptr);
  bool caseSensitive = bound.flag(0, false);
  std::optional<std::pair<Value, Value>> best;
  for (const Value &item : iterate(machine.meter, value)) {
    Value key = caseSensitive ? getter(item) : ignoreCase(machine, getter(item));
    if (!best || (wantMax ? less(machine.meter, best->first, key) : less(machine.meter, key, best->first)))
      best = {key, item};
  }
  return best ? best->second : Value::undefined("No aggregated item, sequence was empty.");
}

Value groupBy(Machine &machine, const Value &value, Args &args) {
  Bound bound("groupby", args, {"attribute", "default", "case_sensitive"});
  Getter getter(machine, &bound.need(0));
  const Value *otherwise = bound.has(1) ? &bound[1] : nullptr;
  bool caseSensitive = bound.flag(2, false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value &item : iterate(machine.meter, value)) {
    Value key = getter(item, otherwise);
    keyed.emplace_back(caseSensitive ? key : ignoreCase(machine, key), item);
  }
  sortBy(machine, keyed, false);
  std::vector<Value> groups;
  for (size_t i = 0; i < keyed.size();) {
    std::vector<Value> members;
    size_t begin = i;
    for (; i < keyed.size() && equal(machine.meter, keyed[i].first, keyed[begin].first); ++i)
      members.push_back(keyed[i].second);
    if (members.empty())
      members.push_back(keyed[i++].second);
    Value key = getter(members[0], otherwise);
    groups.push_back(Value::tuple({key, Value::sequence(std::move(members))}));
  }
  return Value::sequence(std::move(groups));
}

Value mapFilter(Machine &machine, const Value &value, Args &args) {
  std::vector<Value> items;
  if (!truthy(value))
    return generator({});
  if (args.positional.empty()) {
    Bound bound("map", args, {"attribute", "default"});
    if (!bound.has(0))
      fail("map requires a filter argument");
    Getter getter(machine, &bound[0]);
    for (const Value &item : iterate(machine.meter, value))
      items.push_back(getter(item, bound.has(1) ? &bound[1] : nullptr));
    return generator(std::move(items));
  }
  std::string name = toText(machine.meter, args.positional[0]);
  args.positional.erase(args.positional.begin());
  for (const Value &item : iterate(machine.meter, value))
    items.push_back(machine.callFilter(name, item, args));
  return generator(std::move(items));
}

Value choose(Machine &machine, const Value &value, Args &args, bool byAttribute, bool wanted) {
  if (!truthy(value))
    return generator({});
  if (byAttribute && args.positional.empty())
    fail("Missing parameter for attribute name");
  Value attribute = byAttribute ? args.positional[0] : Value();
  Getter getter(machine, byAttribute ? &attribute : nullptr);
  size_t skip = byAttribute ? 1 : 0;
  std::string test;
  if (args.positional.size() > skip)
    test = toText(machine.meter, args.positional[skip++]);
  args.positional.erase(args.positional.begin(), args.positional.begin() + static_cast<ptrdiff_t>(skip));
  std::vector<Value> items;
  for (const Value &item : iterate(machine.meter, value)) {
    Value subject = getter(item);
    if ((test.empty() ? truthy(subject) : machine.callTest(test, subject, args)) == wanted)
      items.push_back(item);
  }
  return generator(std::move(items));
}

Value sliceFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("slice", args, {"slices", "fill_with"});
  std::vector<Value> all = iterate(machine.meter, value);
  int64_t slices = bound.integer(0, 0);
  if (slices < 1)
    fail("slice() needs a positive number of slices");
  machine.meter.make(static_cast<size_t>(std::min<int64_t>(slices, 1 << 24)) * 64);
  auto size = static_cast<int64_t>(all.size());
  int64_t each = size / slices;
  int64_t longer = size % slices;
  std::vector<Value> made;
  int64_t at = 0;
  for (int64_t i = 0; i < slices; ++i) {
    machine.meter.step();
    int64_t end = at + each + (i < longer);
    std::vector<Value> part(all.begin() + at, all.begin() + end);
    if (bound.has(1) && !bound[1].isNone() && i >= longer)
      part.push_back(bound[1]);
    made.push_back(Value::sequence(std::move(part)));
    at = end;
  }
  return generator(std::move(made));
}

Value batchFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("batch", args, {"linecount", "fill_with"});
  bound.need(0);
  int64_t size = bound.integer(0, 0);
  std::vector<Value> made;
  std::vector<Value> part;
  for (Value &item : iterate(machine.meter, value)) {
    if (static_cast<int64_t>(part.size()) == size)
      made.push_back(Value::sequence(std::exchange(part, {})));
    part.push_back(std::move(item));
  }
  if (!part.empty()) {
    if (bound.has(1) && !bound[1].isNone() && static_cast<int64_t>(part.size()) < size) {
      machine.meter.make(static_cast<size_t>(size) * sizeof(Value));
      part.resize(static_cast<size_t>(size), bound[1]);
    }
    made.push_back(Value::sequence(std::move(part)));
  }
  return generator(std::move(made));
}

Value joinFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("join", args, {"d", "attribute"});
  Getter getter(machine, bound.has(1) ? &bound[1] : nullptr);
  std::string separator = bound.text(machine, 0, "");
  std::string out;
  bool isFirst = true;
  for (const Value &item : iterate(machine.meter, value)) {
    if (!std::exchange(isFirst, false)) {
      machine.meter.make(separator.size());
      out += separator;
    }
    out += toText(machine.meter, getter(item));
  }
  return text(std::move(out));
}

Value indentFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("indent", args, {"width", "first", "blank"});
  if (!value.isString())
    fail(cat("indent needs a str, got ", typeName(value)));
  std::string indention;
  if (bound.has(0) && bound[0].isString()) {
    indention = bound[0].text();
  } else {
    int64_t width = std::max<int64_t>(0, bound.integer(0, 4));
    machine.meter.make(static_cast<size_t>(width));
    indention.assign(static_cast<size_t>(width), ' ');
  }
  bool blank = bound.flag(2, false);
  std::string out = bound.flag(1, false) ? indention : "";
  bool isFirst = true;
  for (const std::string &line : splitLines(value.text() + "\n", false)) {
    machine.meter.make(line.size() + indention.size() + 1);
    if (!std::exchange(isFirst, false)) {
      out += "\n";
      if (blank || !line.empty())
        out += indention;
    }
    out += line;
  }
  return text(std::move(out));
}

std::string cleanNumber(Machine &machine, const std::string &whole) {
  std::string digits(stripText(machine, whole, nullptr, true, true));
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_')
      continue;
    auto isDigit = [&](size_t at) { return at < digits.size() && u_isxdigit(static_cast<uint8_t>(digits[at])); };
    if (i == 0 || !isDigit(i - 1) || !isDigit(i + 1))
      return {};
  }
  std::erase(digits, '_');
  return digits;
}

std::optional<double> parseReal(Machine &machine, const std::string &whole) {
  std::string digits = cleanNumber(machine, whole);
  std::string_view rest = digits;
  if (rest.starts_with('+'))
    rest.remove_prefix(1);
  double value = 0;
  auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  bool isPlain = !rest.empty() && rest.find('(') == std::string_view::npos && !rest.starts_with("+-");
  if (end != rest.data() + rest.size() || !isPlain || error == std::errc::invalid_argument)
    return std::nullopt;
  if (error == std::errc::result_out_of_range)
    failUnsupported("a number outside the range of a double");
  return value;
}

std::optional<int64_t> truncate(double value) {
  if (std::isnan(value) || std::isinf(value))
    return std::nullopt;
  if (!(std::abs(value) < 9.2e18))
    failUnsupported("an integer of more than 64 bits");
  return static_cast<int64_t>(value);
}

std::optional<int64_t> parseInteger(Machine &machine, const std::string &whole, int64_t base) {
  std::string digits = cleanNumber(machine, whole);
  std::string_view rest = digits;
  bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+'))
    rest.remove_prefix(1);
  if (rest.size() > 2 && rest[0] == '0') {
    char mark = static_cast<char>(rest[1] | 0x20);
    int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : -1;
    if (marked > 0 && (base == marked || base == 0)) {
      base = marked;
      rest.remove_prefix(2);
    }
  }
  if (base == 0)
    base = 10;
  if (base < 2 || base > 36 || rest.empty() || rest[0] == '-')
    return std::nullopt;
  int64_t value = 0;
  auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value, static_cast<int>(base));
  if (end != rest.data() + rest.size() || error == std::errc::invalid_argument)
    return std::nullopt;
  if (error == std::errc::result_out_of_range)
    failUnsupported("an integer of more than 64 bits");
  return negative ? -value : value;
}

Value intFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("int", args, {"default", "base"});
  Value otherwise = bound.has(0) ? bound[0] : Value::number(0);
  if (value.isUndefined())
    fail(value.text());
  if (value.isInteger())
    return Value::number(value.asInt());
  std::optional<int64_t> result;
  if (value.is(Kind::FLOAT)) {
    result = truncate(value.asReal());
  } else if (value.isString()) {
    result = parseInteger(machine, value.text(), bound.integer(1, 10));
    if (!result)
      if (std::optional<double> real = parseReal(machine, value.text()))
        result = truncate(*real);
  }
  return result ? Value::number(*result) : otherwise;
}

Value floatFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("float", args, {"default"});
  if (value.isUndefined())
    fail(value.text());
  if (value.isNumber())
    return Value::real(value.asReal());
  if (value.isString())
    if (std::optional<double> real = parseReal(machine, value.text()))
      return Value::real(*real);
  return bound.has(0) ? bound[0] : Value::real(0);
}

Value roundFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("round", args, {"precision", "method"});
  int64_t precision = bound.integer(0, 0);
  std::string method = bound.text(machine, 1, "common");
  if (!value.isNumber())
    fail(cat("type ", typeName(value), " doesn't define __round__ method"));
  if (precision > 300 || precision < -300)
    failUnsupported("round with a precision of more than 300 digits");
  double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil" || method == "floor") {
    double scaled = value.asReal() * scale;
    return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (method != "common")
    fail("method must be common, ceil or floor");
  if (value.isInteger() && precision >= 0)
    return Value::number(value.asInt());
  if (value.isInteger() || precision < 0)
    failUnsupported("round to tens and above");
  if (!std::isfinite(value.asReal()))
    return value;
  // Decimal rounding of the exact binary value, ties to even, as Python's.
  std::array<char, 700> buffer;
  char *end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value.asReal(), std::chars_format::fixed,
                            static_cast<int>(precision))
                  .ptr;
  double rounded = 0;
  std::from_chars(buffer.data(), end, rounded);
  return Value::real(rounded);
}

Value toJsonFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.flag(0, false);
  style.sortKeys = bound.flag(3, false);
  if (bound.has(1) && !bound[1].isNone()) {
    style.indented = true;
    if (bound[1].isString()) {
      style.indent = bound[1].text();
    } else {
      int64_t width = std::max<int64_t>(0, bound.integer(1, 0));
      machine.meter.make(static_cast<size_t>(width));
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
    style.itemSeparator = ",";
  }
  if (bound.has(2) && !bound[2].isNone()) {
    std::vector<Value> pair = iterate(machine.meter, bound[2]);
    if (pair.size() != 2 || !pair[0].isString() || !pair[1].isString())
      fail("tojson needs two strings as separators");
    style.itemSeparator = pair[0].text();
    style.keySeparator = pair[1].text();
  }
  return text(toJson(machine.meter, value, style));
}

// The filter, not the method: a word begins after a space, hyphen or opening bracket only.
std::string titleFilter(Machine &machine, const std::string &whole) {
  std::string out;
  std::u32string points = decode(machine.meter, whole);
  auto isBreak = [](char32_t c) { return isSpace(c) || std::u32string_view(U"-({[<").find(c) != std::u32string::npos; };
  for (size_t i = 0; i < points.size();) {
    size_t end = i + 1;
    while (end < points.size() && isBreak(points[end]) == isBreak(points[i]))
      ++end;
    std::u32string_view word = std::u32string_view(points).substr(i, end - i);
    out += changeCase(machine, encode(machine.meter, word.substr(0, 1)), "upper");
    out += changeCase(machine, encode(machine.meter, word.substr(1)), "lower");
    i = end;
  }
  return out;
}

std::string escapeHtml(Machine &machine, const std::string &whole) {
  machine.meter.make(6 * whole.size());
  std::string out;
  for (char c : whole)
    out += c == '&'    ? "&amp;"
           : c == '<'  ? "&lt;"
           : c == '>'  ? "&gt;"
           : c == '"'  ? "&#34;"
           : c == '\'' ? "&#39;"
                       : std::string(1, c);
  return out;
}

int64_t countWords(Machine &machine, const std::string &whole) {
  int64_t words = 0;
  bool inside = false;
  for (char32_t c : decode(machine.meter, whole)) {
    bool isWord = c == '_' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & (U_GC_L_MASK | U_GC_N_MASK));
    words += isWord && !inside;
    inside = isWord;
  }
  return words;
}

Value truncateFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("truncate", args, {"length", "killwords", "end", "leeway"});
  if (!value.isString())
    fail(cat("truncate needs a str, got ", typeName(value)));
  int64_t length = bound.integer(0, 255);
  std::u32string end = decode(machine.meter, bound.text(machine, 2, "..."));
  int64_t leeway = bound.has(3) && !bound[3].isNone() ? bound.integer(3, 5) : 5;
  if (length < static_cast<int64_t>(end.size()) || leeway < 0)
    fail("truncate needs a length of at least the end's and no negative leeway");
  std::u32string points = decode(machine.meter, value.text());
  if (static_cast<int64_t>(points.size()) - leeway <= length)
    return value;
  std::u32string kept = points.substr(0, static_cast<size_t>(length) - end.size());
  if (!bound.flag(1, false))
    kept = kept.substr(0, kept.rfind(U' '));
  return text(encode(machine.meter, kept + end));
}

Value replaceFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("replace", args, {"old", "new", "count"});
  bound.need(0);
  bound.need(1);
  int64_t count = bound.has(2) && !bound[2].isNone() ? bound.integer(2, -1) : -1;
  return text(replaceText(machine, toText(machine.meter, value), bound.text(machine, 0, ""), bound.text(machine, 1, ""),
                          count));
}

Value reverseFilter(Machine &machine, const Value &value, Args &) {
  if (value.isString()) {
    std::u32string points = decode(machine.meter, value.text());
    std::reverse(points.begin(), points.end());
    return text(encode(machine.meter, points));
  }
  bool givesList = value.isSequence(Flavor::GENERATOR) || value.isUndefined();
  std::vector<Value> items = iterate(machine.meter, value);
  std::reverse(items.begin(), items.end());
  return Value::sequence(std::move(items), givesList ? Flavor::LIST : Flavor::GENERATOR);
}

Value firstFilter(Machine &machine, const Value &value, Args &) {
  if (value.isSequence(Flavor::GENERATOR)) {
    auto &sequence = value.as<Sequence>();
    return sequence.used < sequence.items.size() ? sequence.items[sequence.used++]
                                                 : Value::undefined("No first item, sequence was empty.");
  }
  std::vector<Value> items = iterate(machine.meter, value);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value lastFilter(Machine &machine, const Value &value, Args &) {
  if (value.isSequence(Flavor::GENERATOR))
    fail("'generator' object is not reversible");
  std::vector<Value> items = iterate(machine.meter, value);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value sumFilter(Machine &machine, const Value &value, Args &args) {
  Bound bound("sum", args, {"attribute", "start"});
  Getter getter(machine, bound.has(0) ? &bound[0] : nullptr);
  Value total = bound.has(1) ? bound[1] : Value::number(0);
  for (const Value &item : iterate(machine.meter, value))
    total = binary(machine, "+", total, getter(item));
  return total;
}

Value formatFilter(Machine &machine, const Value &value, Args &args) {
  if (!args.named.empty() && !args.positional.empty())
    fail("can't handle positional and keyword arguments at the same time");
  std::string format = toText(machine.meter, value);
  if (args.named.empty())
    return text(formatPercent(machine, format, Value::tuple(args.positional)));
  auto dict = std::make_shared<Dict>();
  dict->nesting = 1;
  for (const auto &[name, item] : args.named)
    insert(machine.meter, *dict, text(name), item);
  return text(formatPercent(machine, format, Value::object(Kind::DICT, dict)));
}

Value itemsFilter(Machine &machine, const Value &value, Args &) {
  std::vector<Value> items;
  if (value.isUndefined())
    return generator({});
  if (!value.isDict())
    fail("Can only get item pairs from a mapping.");
  machine.meter.make(value.as<Dict>().entries.size() * 3 * sizeof(Value));
  for (const auto &[key, item] : value.as<Dict>().entries)
    items.push_back(Value::tuple({key, item}));
  return generator(std::move(items));
}

Value absFilter(Machine &machine, const Value &value, Args &) {
  if (value.is(Kind::FLOAT))
    return Value::real(std::abs(value.asReal()));
  if (!value.isInteger())
    fail(cat("bad operand type for abs(): '", typeName(value), "'"));
  return value.asInt() < 0 ? binary(machine, "-", Value::number(0), value) : Value::number(value.asInt());
}

using Table = absl::flat_hash_map<std::string, Filter>;

const Table &table() {
  static const Table made = [] {
    Table f;
    f["abs"] = absFilter;
    f["attr"] = [](Machine &m, const Value &v, Args &a) {
      Bound bound("attr", a, {"name"});
      bound.need(0);
      // Attributes only: a dict's keys are items.
      bool found = false;
      Value method = v.isDict() ? findMethod(m, v, bound.text(m, 0, ""), found) : Value();
      if (v.isDict())
        return found ? method : Value::undefined("'dict object' has no such attribute");
      return m.attribute(v, bound.text(m, 0, ""));
    };
    f["batch"] = batchFilter;
    f["capitalize"] = [](Machine &m, const Value &v, Args &) {
      return text(changeCase(m, toText(m.meter, v), "capitalize"));
    };
    f["center"] = [](Machine &m, const Value &v, Args &a) {
      Bound bound("center", a, {"width"});
      bool found = false;
      Value self = text(toText(m.meter, v));
      return m.call(findMethod(m, self, "center", found), Args{{Value::number(bound.integer(0, 80))}, {}});
    };
    f["count"] = f["length"] = [](Machine &, const Value &v, Args &) { return Value::number(lengthOf(v)); };
    f["d"] = f["default"] = [](Machine &, const Value &v, Args &a) {
      Bound bound("default", a, {"default_value", "boolean"});
      bool replaced = v.isUndefined() || (bound.flag(1, false) && !truthy(v));
      return !replaced ? v : bound.has(0) ? bound[0] : text("");
    };
    f["dictsort"] = dictSort;
    f["e"] = f["escape"] = [](Machine &m, const Value &v, Args &) {
      return v.isMarkup() ? v : Value::string(escapeHtml(m, toText(m.meter, v)), true);
    };
    f["forceescape"] = [](Machine &m, const Value &v, Args &) {
      return Value::string(escapeHtml(m, toText(m.meter, v)), true);
    };
    f["first"] = firstFilter;
    f["float"] = floatFilter;
    f["format"] = formatFilter;
    f["groupby"] = groupBy;
    f["indent"] = indentFilter;
    f["int"] = intFilter;
    f["items"] = itemsFilter;
    f["join"] = joinFilter;
    f["last"] = lastFilter;
    f["list"] = [](Machine &m, const Value &v, Args &) { return Value::sequence(iterate(m.meter, v)); };
    f["lower"] = [](Machine &m, const Value &v, Args &) { return text(changeCase(m, toText(m.meter, v), "lower")); };
    f["map"] = mapFilter;
    f["max"] = [](Machine &m, const Value &v, Args &a) { return extreme(m, v, a, true); };
    f["min"] = [](Machine &m, const Value &v, Args &a) { return extreme(m, v, a, false); };
    f["reject"] = [](Machine &m, const Value &v, Args &a) { return choose(m, v, a, false, false); };
    f["rejectattr"] = [](Machine &m, const Value &v, Args &a) { return choose(m, v, a, true, false); };
    f["replace"] = replaceFilter;
    f["reverse"] = reverseFilter;
    f["round"] = roundFilter;
    f["safe"] = [](Machine &m, const Value &v, Args &) { return Value::string(toText(m.meter, v), true); };
    f["select"] = [](Machine &m, const Value &v, Args &a) { return choose(m, v, a, false, true); };
    f["selectattr"] = [](Machine &m, const Value &v, Args &a) { return choose(m, v, a, true, true); };
    f["slice"] = sliceFilter;
    f["sort"] = sortFilter;
    f["string"] = [](Machine &m, const Value &v, Args &) { return v.isString() ? v : text(toText(m.meter, v)); };
    f["sum"] = sumFilter;
    f["title"] = [](Machine &m, const Value &v, Args &) { return text(titleFilter(m, toText(m.meter, v))); };
    f["tojson"] = toJsonFilter;
    f["trim"] = [](Machine &m, const Value &v, Args &a) {
      Bound bound("trim", a, {"chars"});
      const Value *chars = bound.has(0) && !bound[0].isNone() ? &bound[0] : nullptr;
      if (chars && !chars->isString())
        fail("trim needs a str of characters");
      std::string whole = toText(m.meter, v);
      return text(std::string(stripText(m, whole, chars, true, true)));
    };
    f["truncate"] = truncateFilter;
    f["unique"] = uniqueFilter;
    f["upper"] = [](Machine &m, const Value &v, Args &) { return text(changeCase(m, toText(m.meter, v), "upper")); };
    f["wordcount"] = [](Machine &m, const Value &v, Args &) {
      return Value::number(countWords(m, toText(m.meter, v)));
    };
    return f;
  }();
  return made;
}

} // namespace

Filter findFilter(std::string_view name) {
  auto found = table().find(std::string(name));
  return found == table().end() ? nullptr : found->second;
}

} // namespace ingot::jinja
