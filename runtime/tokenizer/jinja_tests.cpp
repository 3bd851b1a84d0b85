// Jinja's tests (`x is ...`).
#include <cmath>

#include "absl/container/flat_hash_map.h"

#include "runtime/tokenizer/jinja_machine.h"
#include "runtime/tokenizer/text.h"

namespace ingot::jinja {
namespace {

const Value &other(Args &args) {
  if (args.positional.size() != 1 || !args.named.empty())
    fail("this test takes one argument");
  return args.positional[0];
}

Value modulo(Machine &machine, const Value &value, int64_t by) {
  return binary(machine, "%", value, Value::number(by));
}

bool isCased(Machine &machine, const Value &value, std::string_view wanted, std::string_view opposite) {
  std::string text = toText(machine.meter, value);
  return changeCase(machine, text, wanted) == text && changeCase(machine, text, opposite) != text;
}

using Table = absl::flat_hash_map<std::string, Test>;

const Table &table() {
  static const Table made = [] {
    Table tests;
    tests["defined"] = [](Machine &, const Value &v, Args &) { return !v.isUndefined(); };
    tests["undefined"] = [](Machine &, const Value &v, Args &) { return v.isUndefined(); };
    tests["none"] = [](Machine &, const Value &v, Args &) { return v.isNone(); };
    tests["boolean"] = [](Machine &, const Value &v, Args &) { return v.is(Kind::BOOL); };
    tests["true"] = [](Machine &, const Value &v, Args &) { return v.is(Kind::BOOL) && v.asBool(); };
    tests["false"] = [](Machine &, const Value &v, Args &) { return v.is(Kind::BOOL) && !v.asBool(); };
    tests["integer"] = [](Machine &, const Value &v, Args &) { return v.is(Kind::INT); };
    tests["float"] = [](Machine &, const Value &v, Args &) { return v.is(Kind::FLOAT); };
    tests["number"] = [](Machine &, const Value &v, Args &) { return v.isNumber(); };
    tests["string"] = [](Machine &, const Value &v, Args &) { return v.isString(); };
    tests["mapping"] = [](Machine &, const Value &v, Args &) { return v.isDict(); };
    tests["callable"] = [](Machine &, const Value &v, Args &) {
      return v.is(Kind::CALLABLE) || v.is(Kind::LOOP) || v.isUndefined();
    };
    tests["escaped"] = [](Machine &, const Value &v, Args &) { return v.isMarkup(); };
    tests["sequence"] = [](Machine &, const Value &v, Args &) {
      return v.isString() || v.isDict() || v.isUndefined() || v.isSequence(Flavor::LIST) ||
             v.isSequence(Flavor::TUPLE) || v.isSequence(Flavor::RANGE);
    };
    tests["iterable"] = [](Machine &, const Value &v, Args &) {
      return v.isString() || v.isDict() || v.isUndefined() || v.is(Kind::SEQUENCE) || v.is(Kind::LOOP);
    };
    tests["lower"] = [](Machine &m, const Value &v, Args &) { return isCased(m, v, "lower", "upper"); };
    tests["upper"] = [](Machine &m, const Value &v, Args &) { return isCased(m, v, "upper", "lower"); };
    tests["odd"] = [](Machine &m, const Value &v, Args &) { return equal(m.meter, modulo(m, v, 2), Value::number(1)); };
    tests["even"] = [](Machine &m, const Value &v, Args &) {
      return equal(m.meter, modulo(m, v, 2), Value::number(0));
    };
    tests["divisibleby"] = [](Machine &m, const Value &v, Args &args) {
      return equal(m.meter, binary(m, "%", v, other(args)), Value::number(0));
    };
    tests["in"] = [](Machine &m, const Value &v, Args &args) { return contains(m.meter, other(args), v); };
    tests["sameas"] = [](Machine &m, const Value &v, Args &args) {
      const Value &o = other(args);
      return v.kind() == o.kind() && v.identity() == o.identity() && (v.identity() || equal(m.meter, v, o));
    };
    tests["filter"] = [](Machine &m, const Value &v, Args &) { return findFilter(toText(m.meter, v)) != nullptr; };
    tests["test"] = [](Machine &m, const Value &v, Args &) { return findTest(toText(m.meter, v)) != nullptr; };
    auto alias = [&](std::initializer_list<const char *> names, Test test) {
      for (const char *name : names)
        tests[name] = test;
    };
    alias({"==", "eq", "equalto"}, [](Machine &m, const Value &v, Args &a) { return equal(m.meter, v, other(a)); });
    alias({"!=", "ne"}, [](Machine &m, const Value &v, Args &a) { return !equal(m.meter, v, other(a)); });
    alias({"<", "lt", "lessthan"}, [](Machine &m, const Value &v, Args &a) { return less(m.meter, v, other(a)); });
    alias({">", "gt", "greaterthan"}, [](Machine &m, const Value &v, Args &a) { return less(m.meter, other(a), v); });
    alias({"<=", "le"}, [](Machine &m, const Value &v, Args &a) {
      return less(m.meter, v, other(a)) || equal(m.meter, v, other(a));
    });
    alias({">=", "ge"}, [](Machine &m, const Value &v, Args &a) {
      return less(m.meter, other(a), v) || equal(m.meter, v, other(a));
    });
    return tests;
  }();
  return made;
}

} // namespace

Test findTest(std::string_view name) {
  auto found = table().find(std::string(name));
  return found == table().end() ? nullptr : found->second;
}

} // namespace ingot::jinja
