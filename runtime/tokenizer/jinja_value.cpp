// Python's rules for values. Depth is bounded by `kMaxNesting` for containers; printing follows namespaces too and
// counts.
#include "runtime/tokenizer/jinja_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "unicode/uchar.h"

#include "runtime/tokenizer/jinja_sort.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot::jinja {

void fail(std::string message) { throw Failure{Failure::PYTHON, std::move(message)}; }
void failUnsupported(std::string message) { throw Failure{Failure::UNSUPPORTED, std::move(message)}; }
void failLimit(std::string message) { throw Failure{Failure::LIMIT, std::move(message)}; }

namespace {

int nestingAbove(int inner) {
  if (inner >= kMaxNesting)
    failLimit(cat("values are nested deeper than ", kMaxNesting));
  return inner + 1;
}

} // namespace

Value Value::object(Kind kind, std::shared_ptr<Object> object) {
  Value made;
  made.type = kind;
  made.held = std::move(object);
  return made;
}

Value Value::undefined(std::string message) {
  auto text = std::make_shared<Text>();
  text->text = std::move(message);
  return object(Kind::UNDEFINED, std::move(text));
}

Value Value::boolean(bool value) {
  Value made;
  made.type = Kind::BOOL;
  made.integer = value;
  return made;
}

Value Value::number(int64_t value) {
  Value made;
  made.type = Kind::INT;
  made.integer = value;
  return made;
}

Value Value::real(double value) {
  Value made;
  made.type = Kind::FLOAT;
  made.floating = value;
  return made;
}

Value Value::string(std::string text, bool markup) {
  auto made = std::make_shared<Text>();
  made->text = std::move(text);
  made->markup = markup;
  return object(Kind::STRING, std::move(made));
}

Value Value::sequence(std::vector<Value> items, Flavor flavor) {
  auto made = std::make_shared<Sequence>();
  made->flavor = flavor;
  int inner = 0;
  for (const Value &item : items)
    inner = std::max(inner, item.nesting());
  made->nesting = nestingAbove(inner);
  made->items = std::move(items);
  return object(Kind::SEQUENCE, std::move(made));
}

Value Value::callable(std::string name, std::function<Value(Machine &, Args &)> function, int nesting) {
  auto made = std::make_shared<Callable>();
  made->name = std::move(name);
  made->function = std::move(function);
  made->nesting = nestingAbove(nesting);
  return object(Kind::CALLABLE, std::move(made));
}

Value Value::fromJson(const nlohmann::ordered_json &json) {
  // nlohmann's parser limits no depth; this recursion does.
  std::function<Value(const nlohmann::ordered_json &, int)> convert = [&](const nlohmann::ordered_json &node,
                                                                          int depth) -> Value {
    if (depth > kMaxNesting)
      failLimit(cat("the variables are nested deeper than ", kMaxNesting));
    switch (node.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return boolean(node.get<bool>());
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (node.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail(cat("the integer ", node.get<uint64_t>(), " does not fit into 64 signed bits"));
      return number(static_cast<int64_t>(node.get<uint64_t>()));
    case nlohmann::ordered_json::value_t::number_integer:
      return number(node.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_float:
      return real(node.get<double>());
    case nlohmann::ordered_json::value_t::string:
      return string(utf8::replaceBroken(node.get_ref<const std::string &>()));
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(node.size());
      for (const nlohmann::ordered_json &item : node)
        items.push_back(convert(item, depth + 1));
      return sequence(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      dict->nesting = 1;
      for (const auto &[key, item] : node.items()) {
        dict->entries.emplace_back(string(utf8::replaceBroken(key)), convert(item, depth + 1));
        dict->raiseNesting(dict->entries.back().second);
      }
      return object(Kind::DICT, std::move(dict));
    }
    default:
      return {};
    }
  };
  return convert(json, 0);
}

bool Value::isSequence(Flavor flavor) const { return type == Kind::SEQUENCE && as<Sequence>().flavor == flavor; }

void Dict::raiseNesting(const Value &value) { nesting = std::max(nesting, nestingAbove(value.nesting())); }

Value *Namespace::find(std::string_view name) {
  for (auto &[key, value] : attributes)
    if (key == name)
      return &value;
  return nullptr;
}

std::string_view typeName(const Value &value) {
  switch (value.kind()) {
  case Kind::UNDEFINED:
    return "Undefined";
  case Kind::NONE:
    return "NoneType";
  case Kind::BOOL:
    return "bool";
  case Kind::INT:
    return "int";
  case Kind::FLOAT:
    return "float";
  case Kind::STRING:
    return "str";
  case Kind::SEQUENCE: {
    constexpr std::array<std::string_view, 7> names = {"list",        "tuple",      "range",    "dict_keys",
                                                       "dict_values", "dict_items", "generator"};
    return names[static_cast<size_t>(value.as<Sequence>().flavor)];
  }
  case Kind::DICT:
    return "dict";
  case Kind::NAMESPACE:
    return "Namespace";
  case Kind::CALLABLE:
    return "function";
  case Kind::LOOP:
    return "LoopContext";
  }
  return "object";
}

bool truthy(const Value &value) {
  switch (value.kind()) {
  case Kind::UNDEFINED:
  case Kind::NONE:
    return false;
  case Kind::BOOL:
  case Kind::INT:
    return value.asInt() != 0;
  case Kind::FLOAT:
    return value.asReal() != 0;
  case Kind::STRING:
    return !value.text().empty();
  case Kind::SEQUENCE:
    return value.isSequence(Flavor::GENERATOR) || !value.as<Sequence>().items.empty();
  case Kind::DICT:
    return !value.as<Dict>().entries.empty();
  default:
    return true;
  }
}

bool equal(Meter &meter, const Value &a, const Value &b) {
  meter.step();
  if (a.isNumber() && b.isNumber())
    return a.isInteger() && b.isInteger() ? a.asInt() == b.asInt() : a.asReal() == b.asReal();
  if (a.kind() != b.kind())
    return false;
  switch (a.kind()) {
  case Kind::UNDEFINED:
  case Kind::NONE:
    return true;
  case Kind::STRING:
    meter.step(static_cast<int64_t>(a.text().size() / 64));
    return a.text() == b.text();
  case Kind::SEQUENCE: {
    const auto &left = a.as<Sequence>();
    const auto &right = b.as<Sequence>();
    if (left.flavor != right.flavor || left.flavor == Flavor::GENERATOR || left.flavor == Flavor::VALUES)
      return &left == &right;
    return std::equal(left.items.begin(), left.items.end(), right.items.begin(), right.items.end(),
                      [&](const Value &x, const Value &y) { return equal(meter, x, y); });
  }
  case Kind::DICT: {
    const auto &left = a.as<Dict>();
    const auto &right = b.as<Dict>();
    if (left.entries.size() != right.entries.size())
      return false;
    return std::all_of(left.entries.begin(), left.entries.end(), [&](const auto &entry) {
      const Value *other = lookup(meter, right, entry.first);
      return other && equal(meter, entry.second, *other);
    });
  }
  default:
    return a.identity() == b.identity();
  }
}

bool less(Meter &meter, const Value &a, const Value &b) {
  meter.step();
  if (a.isNumber() && b.isNumber())
    return a.isInteger() && b.isInteger() ? a.asInt() < b.asInt() : a.asReal() < b.asReal();
  if (a.isString() && b.isString()) {
    meter.step(static_cast<int64_t>(std::min(a.text().size(), b.text().size()) / 64));
    return a.text() < b.text(); // the order of UTF-8 bytes is the order of code points
  }
  if (a.isUndefined() || b.isUndefined())
    fail((a.isUndefined() ? a : b).text());
  bool lists = a.isSequence(Flavor::LIST) && b.isSequence(Flavor::LIST);
  bool tuples = a.isSequence(Flavor::TUPLE) && b.isSequence(Flavor::TUPLE);
  if (!lists && !tuples)
    fail(cat("'", typeName(a), "' and '", typeName(b), "' have no order"));
  const auto &left = a.as<Sequence>().items;
  const auto &right = b.as<Sequence>().items;
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i)
    if (!equal(meter, left[i], right[i]))
      return less(meter, left[i], right[i]);
  return left.size() < right.size();
}

bool contains(Meter &meter, const Value &container, const Value &value) {
  if (container.isString()) {
    if (!value.isString())
      fail(cat("'in <string>' requires string as left operand, not ", typeName(value)));
    meter.step(static_cast<int64_t>(container.text().size() / 16));
    return container.text().find(value.text()) != std::string::npos;
  }
  if (container.isDict())
    return lookup(meter, container.as<Dict>(), value) != nullptr;
  for (const Value &item : iterate(meter, container))
    if (equal(meter, item, value))
      return true;
  return false;
}

std::string realRepr(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  std::string_view shortest(buffer.data(), static_cast<size_t>(end - buffer.data()));
  size_t mark = shortest.find('e');
  int exponent = 0;
  std::string_view power = shortest.substr(mark + 1 + (shortest[mark + 1] == '+'));
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  if (exponent < -4 || exponent >= 16)
    return std::string(shortest);
  end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed).ptr;
  std::string fixed(buffer.data(), end);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

namespace {

std::string hex(uint32_t value, int digits) {
  std::string out(static_cast<size_t>(digits), '0');
  for (int i = digits - 1; i >= 0; --i, value >>= 4)
    out[static_cast<size_t>(i)] = "0123456789abcdef"[value & 15];
  return out;
}

std::string quote(std::string_view text) {
  bool useDouble = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  char mark = useDouble ? '"' : '\'';
  std::string out(1, mark);
  while (!text.empty()) {
    utf8::Sequence sequence = utf8::first(text);
    uint32_t c = sequence.codePoint;
    if (c == static_cast<uint32_t>(mark) || c == '\\')
      out += {'\\', static_cast<char>(c)};
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (isPrintable(c))
      out += text.substr(0, sequence.bytes);
    else
      out += c < 0x100 ? "\\x" + hex(c, 2) : c < 0x10000 ? "\\u" + hex(c, 4) : "\\U" + hex(c, 8);
    text.remove_prefix(sequence.bytes);
  }
  return out += mark;
}

class Printer {
public:
  explicit Printer(Meter &charged) : meter(charged) {}

  void print(const Value &value, int depth) {
    meter.step();
    if (depth > 3 * kMaxNesting)
      failLimit("a value to print is nested too deeply");
    switch (value.kind()) {
    case Kind::UNDEFINED:
      return put("Undefined");
    case Kind::NONE:
      return put("None");
    case Kind::BOOL:
      return put(value.asBool() ? "True" : "False");
    case Kind::INT:
      return put(std::to_string(value.asInt()));
    case Kind::FLOAT:
      return put(realRepr(value.asReal()));
    case Kind::STRING:
      return put(value.isMarkup() ? "Markup(" + quote(value.text()) + ")" : quote(value.text()));
    case Kind::SEQUENCE:
      return printSequence(value.as<Sequence>(), depth);
    case Kind::DICT: {
      put("{");
      std::string_view separator;
      for (const auto &[key, item] : value.as<Dict>().entries) {
        put(separator);
        print(key, depth + 1);
        put(": ");
        print(item, depth + 1);
        separator = ", ";
      }
      return put("}");
    }
    case Kind::NAMESPACE: {
      put("<Namespace {");
      std::string_view separator;
      for (const auto &[key, item] : value.as<Namespace>().attributes) {
        put(separator);
        put(quote(key));
        put(": ");
        print(item, depth + 1);
        separator = ", ";
      }
      return put("}>");
    }
    case Kind::CALLABLE:
      return put(cat("<", value.as<Callable>().name, ">"));
    case Kind::LOOP:
      return put("<LoopContext>");
    }
  }

  std::string out;

private:
  void put(std::string_view text) {
    meter.make(text.size());
    out += text;
  }

  void printItems(const std::vector<Value> &items, int depth) {
    std::string_view separator;
    for (const Value &item : items) {
      put(separator);
      print(item, depth + 1);
      separator = ", ";
    }
  }

  void printSequence(const Sequence &sequence, int depth) {
    switch (sequence.flavor) {
    case Flavor::LIST:
      put("[");
      printItems(sequence.items, depth);
      return put("]");
    case Flavor::TUPLE:
      put("(");
      printItems(sequence.items, depth);
      return put(sequence.items.size() == 1 ? ",)" : ")");
    case Flavor::RANGE:
      put(cat("range(", sequence.start, ", ", sequence.stop));
      if (sequence.step != 1)
        put(cat(", ", sequence.step));
      return put(")");
    case Flavor::GENERATOR:
      return put("<generator>");
    default:
      put(sequence.flavor == Flavor::KEYS     ? "dict_keys(["
          : sequence.flavor == Flavor::VALUES ? "dict_values(["
                                              : "dict_items([");
      printItems(sequence.items, depth);
      return put("])");
    }
  }

  Meter &meter;
};

} // namespace

std::string toRepr(Meter &meter, const Value &value) {
  Printer printer(meter);
  printer.print(value, 0);
  return std::move(printer.out);
}

std::string toText(Meter &meter, const Value &value) {
  if (value.isUndefined())
    return {};
  if (value.isString()) {
    meter.make(value.text().size());
    return value.text();
  }
  return toRepr(meter, value);
}

std::vector<Value> iterate(Meter &meter, const Value &value) {
  std::vector<Value> items;
  switch (value.kind()) {
  case Kind::UNDEFINED:
    return items;
  case Kind::STRING: {
    std::string_view text = value.text();
    while (!text.empty()) {
      size_t bytes = utf8::first(text).bytes;
      meter.make(sizeof(Value) + sizeof(Text));
      items.push_back(Value::string(std::string(text.substr(0, bytes))));
      text.remove_prefix(bytes);
    }
    break;
  }
  case Kind::SEQUENCE: {
    auto &sequence = value.as<Sequence>();
    size_t begin = sequence.used;
    if (sequence.flavor == Flavor::GENERATOR)
      sequence.used = sequence.items.size();
    meter.make((sequence.items.size() - begin) * sizeof(Value));
    items.assign(sequence.items.begin() + static_cast<ptrdiff_t>(begin), sequence.items.end());
    break;
  }
  case Kind::DICT:
    meter.make(value.as<Dict>().entries.size() * sizeof(Value));
    for (const auto &entry : value.as<Dict>().entries)
      items.push_back(entry.first);
    break;
  default:
    fail(cat("'", typeName(value), "' object is not iterable"));
  }
  meter.step(static_cast<int64_t>(items.size()));
  return items;
}

int64_t lengthOf(const Value &value) {
  switch (value.kind()) {
  case Kind::UNDEFINED:
    return 0;
  case Kind::STRING:
    return static_cast<int64_t>(utf8::countCodePoints(value.text()));
  case Kind::SEQUENCE:
    if (!value.isSequence(Flavor::GENERATOR))
      return static_cast<int64_t>(value.as<Sequence>().items.size());
    break;
  case Kind::DICT:
    return static_cast<int64_t>(value.as<Dict>().entries.size());
  default:
    break;
  }
  fail(cat("object of type '", typeName(value), "' has no len()"));
}

const Value *lookup(Meter &meter, const Dict &dict, const Value &key) {
  if (key.isDict() || key.isSequence(Flavor::LIST))
    fail(cat("unhashable type: '", typeName(key), "'"));
  for (size_t i = 0; i < dict.entries.size(); ++i)
    if (const Value &known = dict.entries[i].first;
        known.isString() && key.isString() ? known.text() == key.text() : equal(meter, known, key)) {
      meter.step(static_cast<int64_t>(i / 4));
      return &dict.entries[i].second;
    }
  meter.step(static_cast<int64_t>(dict.entries.size() / 4));
  return nullptr;
}

void insert(Meter &meter, Dict &dict, const Value &key, Value value) {
  dict.raiseNesting(key);
  dict.raiseNesting(value);
  if (const Value *known = lookup(meter, dict, key)) {
    *const_cast<Value *>(known) = std::move(value);
    return;
  }
  meter.make(2 * sizeof(Value));
  dict.entries.emplace_back(key, std::move(value));
}

namespace {

class JsonWriter {
public:
  JsonWriter(Meter &charged, const JsonStyle &chosen) : meter(charged), style(chosen) {}

  void write(const Value &value, size_t level) {
    meter.step();
    switch (value.kind()) {
    case Kind::NONE:
      return put("null");
    case Kind::BOOL:
      return put(value.asBool() ? "true" : "false");
    case Kind::INT:
      return put(std::to_string(value.asInt()));
    case Kind::FLOAT:
      return put(realText(value.asReal()));
    case Kind::STRING:
      return writeString(value.text());
    case Kind::SEQUENCE:
      if (value.isSequence(Flavor::LIST) || value.isSequence(Flavor::TUPLE))
        return writeList(value.as<Sequence>().items, level);
      break;
    case Kind::DICT:
      return writeDict(value.as<Dict>(), level);
    default:
      break;
    }
    fail(cat("Object of type ", typeName(value), " is not JSON serializable"));
  }

  std::string out;

private:
  void put(std::string_view text) {
    meter.make(text.size());
    out += text;
  }

  static std::string realText(double value) {
    if (std::isnan(value))
      return "NaN";
    return std::isinf(value) ? (value < 0 ? "-Infinity" : "Infinity") : realRepr(value);
  }

  void newLine(size_t level) {
    if (!style.indented)
      return;
    put("\n");
    for (size_t i = 0; i < level; ++i)
      put(style.indent);
  }

  void writeString(std::string_view text) {
    std::string quoted = "\"";
    while (!text.empty()) {
      utf8::Sequence sequence = utf8::first(text);
      uint32_t c = sequence.codePoint;
      constexpr std::string_view kShort = "\"\\\n\r\t\b\f";
      size_t known = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
      if (known != std::string_view::npos)
        quoted += {'\\', "\"\\nrtbf"[known]};
      else if (c < 0x20 || (style.ascii && c > 0x7E && c < 0x10000))
        quoted += "\\u" + hex(c, 4);
      else if (style.ascii && c >= 0x10000)
        quoted += "\\u" + hex(0xD800 + ((c - 0x10000) >> 10), 4) + "\\u" + hex(0xDC00 + ((c - 0x10000) & 0x3FF), 4);
      else
        quoted += text.substr(0, sequence.bytes);
      text.remove_prefix(sequence.bytes);
    }
    put(quoted += '"');
  }

  void writeList(const std::vector<Value> &items, size_t level) {
    if (items.empty())
      return put("[]");
    put("[");
    std::string_view separator;
    for (const Value &item : items) {
      put(separator);
      newLine(level + 1);
      write(item, level + 1);
      separator = style.itemSeparator;
    }
    newLine(level);
    put("]");
  }

  std::string keyText(const Value &key) {
    switch (key.kind()) {
    case Kind::STRING:
      return key.text();
    case Kind::NONE:
      return "null";
    case Kind::BOOL:
      return key.asBool() ? "true" : "false";
    case Kind::INT:
      return std::to_string(key.asInt());
    case Kind::FLOAT:
      return realText(key.asReal());
    default:
      fail(cat("keys must be str, int, float, bool or None, not ", typeName(key)));
    }
  }

  void writeDict(const Dict &dict, size_t level) {
    if (dict.entries.empty())
      return put("{}");
    std::vector<const std::pair<Value, Value> *> order;
    order.reserve(dict.entries.size());
    for (const auto &entry : dict.entries)
      order.push_back(&entry);
    if (style.sortKeys)
      stableSort(order, [&](const auto *a, const auto *b) { return less(meter, a->first, b->first); });
    put("{");
    std::string_view separator;
    for (const auto *entry : order) {
      put(separator);
      newLine(level + 1);
      writeString(keyText(entry->first));
      put(style.keySeparator);
      write(entry->second, level + 1);
      separator = style.itemSeparator;
    }
    newLine(level);
    put("}");
  }

  Meter &meter;
  const JsonStyle &style;
};

} // namespace

std::string toJson(Meter &meter, const Value &value, const JsonStyle &style) {
  JsonWriter writer(meter, style);
  writer.write(value, 0);
  return std::move(writer.out);
}

std::u32string decode(Meter &meter, std::string_view text) {
  meter.make(4 * text.size());
  std::u32string out;
  out.reserve(text.size());
  while (!text.empty()) {
    utf8::Sequence sequence = utf8::first(text);
    out.push_back(sequence.codePoint);
    text.remove_prefix(sequence.bytes);
  }
  return out;
}

std::string encode(Meter &meter, std::u32string_view text) {
  meter.make(text.size());
  std::string out;
  out.reserve(text.size());
  for (char32_t c : text)
    utf8::append(out, c);
  return out;
}

bool isSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool isPrintable(char32_t c) {
  return c == ' ' || !(U_GET_GC_MASK(static_cast<UChar32>(c)) & (U_GC_C_MASK | U_GC_Z_MASK));
}

} // namespace ingot::jinja
