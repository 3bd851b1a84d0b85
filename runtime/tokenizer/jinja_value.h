// The values of a running template, with Python's meaning: what is true, equal, ordered, iterable, and how it prints.
// Containers know how deep they nest and refuse to go deeper than `kMaxNesting`, so walking or destroying one cannot
// overflow the stack; namespaces and macro scopes, which can form cycles, are owned by the render that made them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

namespace ingot::jinja {

// How a render or parse ends early; becomes a status at the border.
struct Failure {
  enum Kind { RAISED, PYTHON, UNSUPPORTED, LIMIT, SYNTAX };
  Kind kind;
  std::string message;
};
[[noreturn]] void fail(std::string message);
[[noreturn]] void failUnsupported(std::string message);
[[noreturn]] void failLimit(std::string message);

inline constexpr int kMaxNesting = 100;

class Machine;
class Value;
struct Args;

struct Object {
  int nesting = 0; // 0 for what holds no values
  virtual ~Object() = default;
};

enum class Kind : uint8_t { UNDEFINED, NONE, BOOL, INT, FLOAT, STRING, SEQUENCE, DICT, NAMESPACE, CALLABLE, LOOP };
// What a sequence was made as; a generator is used up by iterating.
enum class Flavor : uint8_t { LIST, TUPLE, RANGE, KEYS, VALUES, ITEMS, GENERATOR };

struct Text final : Object {
  std::string text;
  bool markup = false; // came from `safe` or `escape`
};

class Value {
public:
  Value() : type(Kind::NONE), integer(0) {}
  static Value undefined(std::string message);
  static Value boolean(bool value);
  static Value number(int64_t value);
  static Value real(double value);
  static Value string(std::string text, bool markup = false);
  static Value sequence(std::vector<Value> items, Flavor flavor = Flavor::LIST);
  static Value tuple(std::vector<Value> items) { return sequence(std::move(items), Flavor::TUPLE); }
  static Value callable(std::string name, std::function<Value(Machine &, Args &)> function, int nesting = 0);
  static Value object(Kind kind, std::shared_ptr<Object> object);
  static Value fromJson(const nlohmann::ordered_json &json);

  Kind kind() const { return type; }
  bool is(Kind kind) const { return type == kind; }
  bool isUndefined() const { return type == Kind::UNDEFINED; }
  bool isNone() const { return type == Kind::NONE; }
  bool isString() const { return type == Kind::STRING; }
  bool isDict() const { return type == Kind::DICT; }
  bool isSequence(Flavor flavor) const;
  bool isInteger() const { return type == Kind::INT || type == Kind::BOOL; } // as Python sees bool
  bool isNumber() const { return isInteger() || type == Kind::FLOAT; }

  bool asBool() const { return integer != 0; }
  int64_t asInt() const { return integer; }
  double asReal() const { return type == Kind::FLOAT ? floating : static_cast<double>(integer); }
  const std::string &text() const { return static_cast<const Text &>(*held).text; } // string, or why undefined
  bool isMarkup() const { return isString() && static_cast<const Text &>(*held).markup; }
  template <typename T> T &as() const { return static_cast<T &>(*held); }
  const void *identity() const { return held.get(); }
  const std::shared_ptr<Object> &pointer() const { return held; }
  int nesting() const { return held ? held->nesting : 0; }

private:
  Kind type;
  union {
    int64_t integer;
    double floating;
  };
  std::shared_ptr<Object> held;
};

struct Sequence final : Object {
  Flavor flavor = Flavor::LIST;
  std::vector<Value> items;
  size_t used = 0;                       // generators
  int64_t start = 0, stop = 0, step = 1; // ranges: how they print
};

struct Dict final : Object {
  std::vector<std::pair<Value, Value>> entries; // in insertion order
  void raiseNesting(const Value &value);
};

struct Namespace final : Object {
  std::vector<std::pair<std::string, Value>> attributes;
  Value *find(std::string_view name);
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable final : Object {
  std::string name;
  std::function<Value(Machine &, Args &)> function;
};

// Counts what a render may use. Each function below that walks or makes something unbounded charges it.
class Meter {
public:
  Meter(int64_t stepLimit, int64_t byteLimit) : steps(stepLimit), bytes(byteLimit) {}
  void step(int64_t count = 1) {
    steps -= count;
    if (steps < 0)
      failLimit("the template ran too many steps");
  }
  void make(size_t count) {
    if (count > static_cast<size_t>(bytes))
      failLimit("the template made too much text or data");
    bytes -= static_cast<int64_t>(count);
  }

private:
  int64_t steps;
  int64_t bytes;
};

std::string_view typeName(const Value &value); // Python's: "str", "dict", ...
bool truthy(const Value &value);
bool equal(Meter &meter, const Value &a, const Value &b);
bool less(Meter &meter, const Value &a, const Value &b); // fails for types that Python does not order
bool contains(Meter &meter, const Value &container, const Value &value);
std::string toText(Meter &meter, const Value &value); // str()
std::string toRepr(Meter &meter, const Value &value); // repr()
// The elements as Python's iter() gives them; uses generators up. Fails for what is not iterable.
std::vector<Value> iterate(Meter &meter, const Value &value);
int64_t lengthOf(const Value &value); // len(); fails for what has none
void insert(Meter &meter, Dict &dict, const Value &key, Value value);
const Value *lookup(Meter &meter, const Dict &dict, const Value &key); // null: no such key
std::string realRepr(double value);

struct JsonStyle {
  bool ascii = false;
  bool sortKeys = false;
  bool indented = false;
  std::string indent;
  std::string itemSeparator = ", ";
  std::string keySeparator = ": ";
};
std::string toJson(Meter &meter, const Value &value, const JsonStyle &style);

// Code points of a string and back.
std::u32string decode(Meter &meter, std::string_view text);
std::string encode(Meter &meter, std::u32string_view text);
bool isSpace(char32_t c); // str.isspace
bool isPrintable(char32_t c);

} // namespace ingot::jinja
