// What every template sees besides its variables, and how arguments meet the names of a signature.
#include <array>

#include "runtime/tokenizer/jinja_machine.h"
#include "runtime/tokenizer/text.h"

namespace ingot::jinja {
namespace {

Value makeRange(Machine &machine, Args &args) {
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty())
    fail("range() takes 1 to 3 integers");
  for (const Value &value : args.positional)
    if (!value.isInteger())
      fail(cat("'", typeName(value), "' object cannot be interpreted as an integer"));
  auto at = [&](size_t i) { return args.positional[i].asInt(); };
  bool startsAtZero = args.positional.size() == 1;
  int64_t start = startsAtZero ? 0 : at(0);
  int64_t stop = startsAtZero ? at(0) : at(1);
  int64_t step = args.positional.size() == 3 ? at(2) : 1;
  if (step == 0)
    fail("range() arg 3 must not be zero");
  constexpr size_t kLongest = 100'000; // the sandbox's own bound
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == kLongest)
      failLimit(cat("a range of more than ", kLongest, " elements"));
    machine.meter.make(sizeof(Value));
    items.push_back(Value::number(i));
    if (__builtin_add_overflow(i, step, &i))
      break;
  }
  Value made = Value::sequence(std::move(items), Flavor::RANGE);
  auto &sequence = made.as<Sequence>();
  sequence.start = start;
  sequence.stop = stop;
  sequence.step = step;
  return made;
}

Value makeDict(Machine &machine, Args &args) {
  auto dict = std::make_shared<Dict>();
  dict->nesting = 1;
  if (args.positional.size() > 1)
    fail("dict() takes one positional argument");
  if (!args.positional.empty()) {
    const Value &from = args.positional[0];
    if (from.isDict()) {
      for (const auto &[key, value] : from.as<Dict>().entries)
        insert(machine.meter, *dict, key, value);
    } else {
      for (const Value &entry : iterate(machine.meter, from)) {
        std::vector<Value> pair = iterate(machine.meter, entry);
        if (pair.size() != 2)
          fail("dict() needs pairs");
        insert(machine.meter, *dict, pair[0], pair[1]);
      }
    }
  }
  for (const auto &[name, value] : args.named)
    insert(machine.meter, *dict, Value::string(name), value);
  return Value::object(Kind::DICT, std::move(dict));
}

Value raiseException(Machine &machine, Args &args) {
  Bound bound("raise_exception", args, {"message"});
  throw Failure{Failure::RAISED, bound.text(machine, 0, "")};
}

Value strftimeNow(Machine &machine, Args &args) {
  Bound bound("strftime_now", args, {"format"});
  std::string format = bound.text(machine, 0, "");
  std::tm local{};
  localtime_r(&machine.now, &local);
  std::array<char, 1024> buffer;
  size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0 && !format.empty())
    fail("strftime_now got a format that gives nothing or too much");
  return Value::string(std::string(buffer.data(), size));
}

Value makeJoiner(Machine &machine, Args &args) {
  Bound bound("joiner", args, {"sep"});
  auto used = std::make_shared<bool>(false);
  return Value::callable("joiner", [used, separator = bound.text(machine, 0, ", ")](Machine &, Args &) {
    return Value::string(std::exchange(*used, true) ? separator : "");
  });
}

} // namespace

Value findGlobal(std::string_view name, bool &found) {
  found = true;
  if (name == "range")
    return Value::callable("range", makeRange);
  if (name == "dict")
    return Value::callable("dict", makeDict);
  if (name == "namespace")
    return Value::callable("namespace", [](Machine &machine, Args &args) { return machine.makeNamespace(args); });
  if (name == "raise_exception")
    return Value::callable("raise_exception", raiseException);
  if (name == "strftime_now")
    return Value::callable("strftime_now", strftimeNow);
  if (name == "joiner")
    return Value::callable("joiner", makeJoiner);
  if (name == "cycler" || name == "lipsum")
    failUnsupported(cat("the global '", name, "'"));
  found = false;
  return {};
}

Bound::Bound(std::string_view name, Args &args, std::initializer_list<std::string_view> names)
    : function(name), parameters(names), values(names.size()) {
  if (args.positional.size() > names.size())
    fail(cat(name, "() takes at most ", names.size(), " argument(s), got ", args.positional.size()));
  for (size_t i = 0; i < args.positional.size(); ++i)
    values[i] = &args.positional[i];
  for (const auto &[key, value] : args.named) {
    size_t i = 0;
    while (i < parameters.size() && parameters[i] != key)
      ++i;
    if (i == parameters.size())
      fail(cat(name, "() got an unexpected keyword argument '", key, "'"));
    if (values[i])
      fail(cat(name, "() got two values for the argument '", key, "'"));
    values[i] = &value;
  }
}

const Value &Bound::need(size_t i) const {
  if (!values[i])
    fail(cat(function, "() misses the argument '", parameters[i], "'"));
  return *values[i];
}

std::string Bound::text(Machine &machine, size_t i, std::string_view otherwise) const {
  return values[i] ? toText(machine.meter, *values[i]) : std::string(otherwise);
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!values[i])
    return otherwise;
  if (!values[i]->isInteger())
    fail(cat(function, "() needs an integer for '", parameters[i], "', got ", typeName(*values[i])));
  return values[i]->asInt();
}

bool Bound::flag(size_t i, bool otherwise) const { return values[i] ? truthy(*values[i]) : otherwise; }

} // namespace ingot::jinja
