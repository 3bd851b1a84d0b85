// Walks the program. Names resolve through scopes as Jinja compiles them: loops, macros and blocks open a scope, `if`
// does not; a macro sees the scopes it was written in, not those it is called from.
#include "runtime/tokenizer/jinja_machine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "runtime/tokenizer/text.h"

namespace ingot::jinja {
namespace {

constexpr int kMaxDepth = 700;
// Frames differ by a factor of ten between a release and a sanitizer build, so bytes are bounded too.
constexpr uintptr_t kMaxStackBytes = 3 << 20;

} // namespace

// One level of evaluation; bounds the stack whatever calls what.
class Machine::Level {
public:
  explicit Level(Machine &owner) : machine(owner) {
    auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    uintptr_t used = machine.stackBase > here ? machine.stackBase - here : here - machine.stackBase;
    if (++machine.depth > kMaxDepth || used > kMaxStackBytes) {
      --machine.depth;
      failLimit("the template recursed too deeply");
    }
  }
  Level(const Level &) = delete;
  Level &operator=(const Level &) = delete;
  ~Level() { --machine.depth; }

private:
  Machine &machine;
};

Machine::Machine(const Program &parsed, const RenderOptions &options)
    : meter(options.limits.steps, options.limits.bytes), now(options.now.value_or(std::time(nullptr))),
      program(parsed) {}

Machine::~Machine() {
  // All are held here while each lets go of what it holds, so nothing is destroyed through a chain.
  for (const std::shared_ptr<Namespace> &kept : keptNamespaces)
    kept->attributes.clear();
  for (const std::shared_ptr<Loop> &kept : keptLoops)
    kept->changed.clear();
  for (const std::shared_ptr<Scope> &kept : keptScopes)
    kept->variables.clear();
}

void Machine::keep(const std::shared_ptr<Scope> &kept) {
  meter.make(256);
  if (keptScopes.back() != kept)
    keptScopes.push_back(kept);
}

void Machine::keep(const std::shared_ptr<Loop> &kept) {
  meter.make(64);
  keptLoops.push_back(kept);
}

std::string Machine::run(const nlohmann::ordered_json &variables) {
  stackBase = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  scope = std::make_shared<Scope>();
  keptScopes.push_back(scope);
  for (const auto &[key, json] : variables.items())
    if (int name = program.find(key); name >= 0)
      scope->variables[name] = Value::fromJson(json);
  // What the template sets at its top level hides a variable of that name, in a scope of its own.
  auto top = std::make_shared<Scope>();
  top->parent = scope;
  scope = top;
  keptScopes.push_back(top);
  std::string text;
  output = &text;
  execute(program.body);
  return text;
}

void Machine::write(std::string_view text) {
  meter.make(text.size());
  output->append(text);
}

Machine::Flow Machine::execute(const Block &block) {
  for (const Stmt *stmt : block)
    if (Flow flow = execute(*stmt); flow != Flow::NORMAL)
      return flow;
  return Flow::NORMAL;
}

Machine::Flow Machine::execute(const Stmt &stmt) {
  Level level(*this);
  meter.step();
  line = stmt.line;
  switch (stmt.kind) {
  case Stmt::DATA:
    write(stmt.text);
    return Flow::NORMAL;
  case Stmt::OUTPUT: {
    Value value = eval(*stmt.value);
    if (value.isString())
      write(value.text());
    else
      write(toText(meter, value));
    return Flow::NORMAL;
  }
  case Stmt::IF:
    for (const Stmt::Branch &branch : stmt.branches)
      if (truthy(eval(*branch.condition)))
        return execute(branch.body);
    return execute(stmt.otherwise);
  case Stmt::FOR:
    return executeFor(stmt);
  case Stmt::SET:
    assign(*stmt.target, eval(*stmt.value));
    return Flow::NORMAL;
  case Stmt::SET_BLOCK: {
    Value text = Value::string(capture(stmt.body));
    assign(*stmt.target, stmt.value ? evalFilter(*stmt.value, &text) : text);
    return Flow::NORMAL;
  }
  case Stmt::MACRO:
    scope->variables[stmt.name] = makeMacro(stmt);
    return Flow::NORMAL;
  case Stmt::CALL:
    executeCallBlock(stmt);
    return Flow::NORMAL;
  case Stmt::FILTER: {
    Value text = Value::string(capture(stmt.body));
    write(toText(meter, evalFilter(*stmt.value, &text)));
    return Flow::NORMAL;
  }
  case Stmt::WITH: {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    std::vector<Value> values;
    values.reserve(stmt.assignments.size());
    for (const auto &assignment : stmt.assignments)
      values.push_back(eval(*assignment.second));
    std::shared_ptr<Scope> outer = std::exchange(scope, inner);
    for (size_t i = 0; i < values.size(); ++i)
      assign(*stmt.assignments[i].first, values[i]);
    Flow flow = execute(stmt.body);
    scope = outer;
    return flow;
  }
  case Stmt::SCOPE: {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    std::shared_ptr<Scope> outer = std::exchange(scope, inner);
    Flow flow = execute(stmt.body);
    scope = outer;
    return flow;
  }
  case Stmt::BREAK:
    return Flow::BREAK;
  case Stmt::CONTINUE:
    return Flow::CONTINUE;
  }
  return Flow::NORMAL;
}

Machine::Flow Machine::executeFor(const Stmt &stmt) {
  Value iterable = eval(*stmt.value);
  return runLoop(stmt, iterable, scope, 0);
}

// `around` is a copy: the caller's may be `scope` itself, which changes here.
Machine::Flow Machine::runLoop(const Stmt &stmt, const Value &iterable, std::shared_ptr<Scope> around, int loopDepth) {
  std::vector<Value> items = iterate(meter, iterable);
  std::shared_ptr<Scope> outer = scope;
  auto enter = [&] {
    meter.make(sizeof(Scope));
    scope = std::make_shared<Scope>();
    scope->parent = around;
  };
  if (stmt.condition) {
    std::vector<Value> chosen;
    for (Value &candidate : items) {
      enter();
      assign(*stmt.target, candidate);
      if (truthy(eval(*stmt.condition)))
        chosen.push_back(std::move(candidate));
    }
    items = std::move(chosen);
  }
  scope = outer;
  if (items.empty()) {
    scope = around;
    Flow flow = execute(stmt.otherwise);
    scope = outer;
    return flow;
  }
  Value held = Value::sequence(std::move(items));
  auto loop = std::make_shared<Loop>();
  loop->nesting = held.nesting();
  loop->items = std::static_pointer_cast<Sequence>(held.pointer());
  loop->stmt = &stmt;
  if (stmt.recursive) {
    loop->scope = around;
    keep(around);
  }
  loop->depth = loopDepth;
  int loopName = program.find("loop");
  for (size_t i = 0; i < loop->items->items.size(); ++i) {
    loop->index = i;
    enter();
    if (loopName >= 0)
      scope->variables[loopName] = Value::object(Kind::LOOP, loop);
    assign(*stmt.target, loop->items->items[i]);
    if (execute(stmt.body) == Flow::BREAK)
      break;
  }
  scope = outer;
  return Flow::NORMAL;
}

std::string Machine::captureIn(const std::shared_ptr<Scope> &inner, const Block &block) {
  std::string text;
  std::string *outerOutput = std::exchange(output, &text);
  std::shared_ptr<Scope> outer = std::exchange(scope, inner);
  execute(block);
  scope = outer;
  output = outerOutput;
  return text;
}

std::string Machine::capture(const Block &block) {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope;
  return captureIn(inner, block);
}

Value Machine::makeMacro(const Stmt &stmt) {
  keep(scope);
  // The scope is kept until the end; a plain pointer in the closure makes no cycle with it.
  std::weak_ptr<Scope> around = scope;
  return Value::callable(cat("Macro ", stmt.macro->name), [&stmt, around](Machine &machine, Args &args) {
    return machine.callMacro(stmt, around.lock(), args);
  });
}

Value Machine::callMacro(const Stmt &stmt, const std::shared_ptr<Scope> &around, Args &args) {
  const MacroInfo &macro = *stmt.macro;
  auto inner = std::make_shared<Scope>();
  inner->parent = around;
  size_t count = macro.parameters.size();
  size_t given = std::min(count, args.positional.size());
  auto takeNamed = [&](std::string_view name) -> std::optional<Value> {
    for (size_t i = 0; i < args.named.size(); ++i)
      if (args.named[i].first == name) {
        Value value = args.named[i].second;
        args.named.erase(args.named.begin() + static_cast<ptrdiff_t>(i));
        return value;
      }
    return std::nullopt;
  };
  std::shared_ptr<Scope> outer = std::exchange(scope, inner);
  size_t firstDefault = count - macro.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    const std::string &name = program.names[macro.parameters[i]];
    Value value;
    if (i < given) {
      value = args.positional[i];
    } else if (std::optional<Value> named = takeNamed(name)) {
      value = *std::move(named);
    } else if (i >= firstDefault) {
      value = eval(*macro.defaults[i - firstDefault]);
    } else {
      value = Value::undefined(cat("parameter '", name, "' was not provided"));
    }
    inner->variables[macro.parameters[i]] = std::move(value);
  }
  if (macro.usesCaller && !inner->variables.contains(program.find("caller")))
    inner->variables[program.find("caller")] = takeNamed("caller").value_or(Value::undefined("No caller defined"));
  if (macro.usesKwargs) {
    auto dict = std::make_shared<Dict>();
    dict->nesting = 1;
    for (const auto &[name, value] : args.named)
      insert(meter, *dict, Value::string(name), value);
    inner->variables[program.find("kwargs")] = Value::object(Kind::DICT, dict);
  } else if (!args.named.empty()) {
    fail(cat("macro '", macro.name, "' takes no keyword argument '", args.named[0].first, "'"));
  }
  if (macro.usesVarargs)
    inner->variables[program.find("varargs")] =
        Value::tuple({args.positional.begin() + static_cast<ptrdiff_t>(given), args.positional.end()});
  else if (args.positional.size() > count)
    fail(cat("macro '", macro.name, "' takes not more than ", count, " argument(s)"));
  std::string text = captureIn(inner, stmt.body);
  scope = outer;
  return Value::string(std::move(text));
}

void Machine::executeCallBlock(const Stmt &stmt) {
  Value callee = eval(*stmt.value->kids[0]);
  Args args = evalArguments(*stmt.value);
  args.named.emplace_back("caller", makeMacro(stmt));
  write(toText(meter, call(callee, std::move(args))));
}

void Machine::assign(const Expr &target, const Value &value) {
  if (target.kind == Expr::NAME) {
    scope->variables[target.name] = value;
    return;
  }
  if (target.kind == Expr::MEMBER) {
    Value object = resolve(target.name);
    if (!object.is(Kind::NAMESPACE))
      fail("cannot assign attribute on non-namespace object");
    auto &names = object.as<Namespace>();
    meter.step(static_cast<int64_t>(names.attributes.size() / 4));
    if (Value *known = names.find(target.text)) {
      *known = value;
    } else {
      meter.make(sizeof(Value));
      names.attributes.emplace_back(target.text, value);
    }
    return;
  }
  std::vector<Value> parts = iterate(meter, value);
  if (parts.size() != target.kids.size())
    fail(cat("cannot unpack ", parts.size(), " values into ", target.kids.size(), " names"));
  for (size_t i = 0; i < parts.size(); ++i)
    assign(*target.kids[i], parts[i]);
}

Value *Machine::findVariable(int name) {
  for (Scope *at = scope.get(); at; at = at->parent.get()) {
    meter.step();
    if (auto found = at->variables.find(name); found != at->variables.end())
      return &found->second;
  }
  return nullptr;
}

Value Machine::resolve(int name) {
  if (Value *variable = findVariable(name))
    return *variable;
  bool found = false;
  Value global = findGlobal(program.names[name], found);
  return found ? global : Value::undefined(cat("'", program.names[name], "' is undefined"));
}

Value Machine::eval(const Expr &expr) {
  Level level(*this);
  meter.step();
  line = expr.line;
  switch (expr.kind) {
  case Expr::CONSTANT:
    return expr.constant;
  case Expr::NAME:
  case Expr::MEMBER:
    return resolve(expr.name);
  case Expr::TUPLE:
  case Expr::LIST: {
    std::vector<Value> items;
    meter.make(expr.kids.size() * sizeof(Value));
    items.reserve(expr.kids.size());
    for (const Expr *kid : expr.kids)
      items.push_back(eval(*kid));
    return Value::sequence(std::move(items), expr.kind == Expr::LIST ? Flavor::LIST : Flavor::TUPLE);
  }
  case Expr::DICT:
    return evalDict(expr);
  case Expr::ATTRIBUTE:
    return attribute(eval(*expr.kids[0]), expr.text);
  case Expr::ITEM:
    return evalItem(expr);
  case Expr::SLICE:
    failUnsupported("a slice outside of brackets");
  case Expr::CALL:
    return evalCall(expr);
  case Expr::FILTER:
    return evalFilter(expr, nullptr);
  case Expr::TEST: {
    Value value = eval(*expr.kids[0]);
    return Value::boolean(callTest(expr.text, value, evalArguments(expr)));
  }
  case Expr::NOT:
    return Value::boolean(!truthy(eval(*expr.kids[0])));
  case Expr::NEGATE:
  case Expr::PLUS: {
    Value value = eval(*expr.kids[0]);
    if (value.isUndefined())
      fail(value.text());
    if (!value.isNumber())
      fail(cat("bad operand type for unary ", expr.kind == Expr::NEGATE ? "-" : "+", ": '", typeName(value), "'"));
    if (expr.kind == Expr::NEGATE && value.is(Kind::FLOAT))
      return Value::real(-value.asReal());
    return expr.kind == Expr::NEGATE ? binary(*this, "-", Value::number(0), value)
                                     : binary(*this, "+", Value::number(0), value);
  }
  case Expr::AND: {
    Value left = eval(*expr.kids[0]);
    return truthy(left) ? eval(*expr.kids[1]) : left;
  }
  case Expr::OR: {
    Value left = eval(*expr.kids[0]);
    return truthy(left) ? left : eval(*expr.kids[1]);
  }
  case Expr::BINARY:
    return evalBinary(expr);
  case Expr::CONCAT: {
    std::string text;
    for (const Expr *kid : expr.kids)
      text += toText(meter, eval(*kid));
    return Value::string(std::move(text));
  }
  case Expr::COMPARE:
    return evalCompare(expr);
  case Expr::CHOICE:
    if (truthy(eval(*expr.kids[1])))
      return eval(*expr.kids[0]);
    return expr.kids[2]
               ? eval(*expr.kids[2])
               : Value::undefined("the inline if-expression evaluated to false and no else section was defined");
  }
  return {};
}

Value Machine::evalDict(const Expr &expr) {
  auto dict = std::make_shared<Dict>();
  dict->nesting = 1;
  for (size_t i = 0; i + 1 < expr.kids.size(); i += 2) {
    Value key = eval(*expr.kids[i]);
    insert(meter, *dict, key, eval(*expr.kids[i + 1]));
  }
  return Value::object(Kind::DICT, std::move(dict));
}

Value Machine::evalBinary(const Expr &expr) {
  Value left = eval(*expr.kids[0]);
  Value right = eval(*expr.kids[1]);
  line = expr.line;
  return binary(*this, expr.text, left, right);
}

Value Machine::evalCompare(const Expr &expr) {
  Value left = eval(*expr.kids[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = eval(*expr.kids[i + 1]);
    std::string_view op = expr.operators[i];
    line = expr.line;
    bool holds = false;
    if (op == "==")
      holds = equal(meter, left, right);
    else if (op == "!=")
      holds = !equal(meter, left, right);
    else if (op == "<")
      holds = less(meter, left, right);
    else if (op == ">")
      holds = less(meter, right, left);
    else if (op == "<=")
      holds = less(meter, left, right) || equal(meter, left, right);
    else if (op == ">=")
      holds = less(meter, right, left) || equal(meter, left, right);
    else
      holds = contains(meter, right, left) == (op == "in");
    if (!holds)
      return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Args Machine::evalArguments(const Expr &expr) {
  Args args;
  if (!expr.call)
    return args;
  for (const Expr *argument : expr.call->positional)
    args.positional.push_back(eval(*argument));
  for (const auto &[name, argument] : expr.call->named)
    args.named.emplace_back(name, eval(*argument));
  if (expr.call->star)
    for (Value &value : iterate(meter, eval(*expr.call->star)))
      args.positional.push_back(std::move(value));
  if (expr.call->doubleStar) {
    Value dict = eval(*expr.call->doubleStar);
    if (!dict.isDict())
      fail(cat("argument after ** must be a mapping, not ", typeName(dict)));
    for (const auto &[key, value] : dict.as<Dict>().entries) {
      if (!key.isString())
        fail("keywords must be strings");
      args.named.emplace_back(key.text(), value);
    }
  }
  meter.make((args.positional.size() + args.named.size()) * sizeof(Value));
  return args;
}

Value Machine::evalCall(const Expr &expr) {
  Value callee = eval(*expr.kids[0]);
  Args args = evalArguments(expr);
  line = expr.line;
  return call(callee, std::move(args));
}

Value Machine::call(const Value &callee, Args args) {
  Level level(*this);
  if (callee.isUndefined())
    fail(callee.text());
  if (callee.is(Kind::CALLABLE)) {
    // A copy: the callee may go away while it runs.
    std::function<Value(Machine &, Args &)> function = callee.as<Callable>().function;
    return function(*this, args);
  }
  if (callee.is(Kind::LOOP)) {
    auto &loop = callee.as<Loop>();
    if (!loop.stmt->recursive)
      fail("the loop must have the 'recursive' marker to be called recursively");
    if (args.positional.size() != 1 || !args.named.empty())
      fail("loop() takes one argument");
    std::string text;
    std::string *outerOutput = std::exchange(output, &text);
    runLoop(*loop.stmt, args.positional[0], loop.scope, loop.depth + 1);
    output = outerOutput;
    return Value::string(std::move(text));
  }
  fail(cat("'", typeName(callee), "' object is not callable"));
}

Value Machine::evalFilter(const Expr &expr, const Value *input) {
  Value value = expr.kids[0] ? (input && expr.kids[0]->kind == Expr::FILTER ? evalFilter(*expr.kids[0], input)
                                                                            : eval(*expr.kids[0]))
                : input      ? *input
                             : Value();
  Args args = evalArguments(expr);
  line = expr.line;
  return callFilter(expr.text, value, std::move(args));
}

Filter demandFilter(std::string_view name) {
  Filter filter = findFilter(name);
  if (!filter)
    failUnsupported(cat("the filter '", name, "'"));
  return filter;
}

Test demandTest(std::string_view name) {
  Test test = findTest(name);
  if (!test)
    failUnsupported(cat("the test '", name, "'"));
  return test;
}

Value Machine::callFilter(std::string_view name, const Value &value, Args args) {
  Level level(*this);
  const Filter filter = demandFilter(name);
  return filter(*this, value, args);
}

bool Machine::callTest(std::string_view name, const Value &value, Args args) {
  Level level(*this);
  const Test test = demandTest(name);
  return test(*this, value, args);
}

namespace {

std::string owner(const Value &object) { return object.isNone() ? "'None'" : cat("'", typeName(object), " object'"); }

} // namespace

Value Machine::attribute(const Value &object, std::string_view name) {
  if (object.isUndefined())
    fail(object.text());
  bool found = false;
  if (object.is(Kind::LOOP))
    return evalLoopAttribute(object, name);
  if (object.is(Kind::NAMESPACE)) {
    meter.step(static_cast<int64_t>(object.as<Namespace>().attributes.size() / 4));
    if (const Value *value = object.as<Namespace>().find(name))
      return *value;
  } else {
    Value method = findMethod(*this, object, name, found);
    if (found)
      return method;
  }
  if (object.isDict())
    if (const Value *value = lookup(meter, object.as<Dict>(), Value::string(std::string(name))))
      return *value;
  return Value::undefined(cat(owner(object), " has no attribute '", name, "'"));
}

Value Machine::item(const Value &object, const Value &key) {
  if (object.isUndefined())
    fail(object.text());
  if (object.isDict()) {
    bool hashable = !key.isDict() && !key.isSequence(Flavor::LIST);
    if (const Value *value = hashable ? lookup(meter, object.as<Dict>(), key) : nullptr)
      return *value;
  } else if (key.isInteger() && (object.isString() || object.is(Kind::SEQUENCE))) {
    bool indexable = object.isString() || object.isSequence(Flavor::LIST) || object.isSequence(Flavor::TUPLE) ||
                     object.isSequence(Flavor::RANGE);
    int64_t length = indexable ? lengthOf(object) : 0;
    int64_t index = key.asInt() < 0 ? key.asInt() + length : key.asInt();
    if (index >= 0 && index < length) {
      if (!object.isString())
        return object.as<Sequence>().items[static_cast<size_t>(index)];
      std::u32string points = decode(meter, object.text());
      return Value::string(encode(meter, std::u32string_view(points).substr(static_cast<size_t>(index), 1)));
    }
  }
  if (key.isString()) {
    bool found = false;
    Value method;
    if (object.is(Kind::LOOP) || object.is(Kind::NAMESPACE))
      return attribute(object, key.text());
    method = findMethod(*this, object, key.text(), found);
    if (found)
      return method;
    return Value::undefined(cat(owner(object), " has no attribute '", key.text(), "'"));
  }
  return Value::undefined(cat(owner(object), " has no element ", toRepr(meter, key)));
}

Value Machine::evalItem(const Expr &expr) {
  Value object = eval(*expr.kids[0]);
  if (expr.kids[1]->kind == Expr::SLICE)
    return evalSlice(object, *expr.kids[1]);
  Value key = eval(*expr.kids[1]);
  line = expr.line;
  return item(object, key);
}

Value Machine::evalSlice(const Value &object, const Expr &slice) {
  if (object.isUndefined())
    fail(object.text());
  auto part = [&](size_t i) -> std::optional<int64_t> {
    Value value = slice.kids[i] ? eval(*slice.kids[i]) : Value();
    if (value.isNone())
      return std::nullopt;
    if (!value.isInteger())
      fail("slice indices must be integers or None");
    return value.asInt();
  };
  std::optional<int64_t> start = part(0);
  std::optional<int64_t> stop = part(1);
  int64_t step = part(2).value_or(1);
  if (step == 0)
    fail("slice step cannot be zero");
  bool isText = object.isString();
  if (!isText && !object.isSequence(Flavor::LIST) && !object.isSequence(Flavor::TUPLE) &&
      !object.isSequence(Flavor::RANGE))
    return Value::undefined(cat(owner(object), " has no such element"));
  std::u32string points = isText ? decode(meter, object.text()) : std::u32string();
  int64_t length = isText ? static_cast<int64_t>(points.size()) : lengthOf(object);
  auto clamp = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound)
      return otherwise;
    int64_t low = step < 0 ? -1 : 0;
    int64_t high = step < 0 ? length - 1 : length;
    int64_t index = *bound < 0 ? std::max(*bound, -length - 1) + length : *bound;
    return std::clamp(index, low, high);
  };
  int64_t from = clamp(start, step < 0 ? length - 1 : 0);
  int64_t to = clamp(stop, step < 0 ? -1 : length);
  step = std::clamp(step, -length - 1, length + 1); // one step past the end either way; nothing can overflow
  std::u32string text;
  std::vector<Value> items;
  for (int64_t i = from; step > 0 ? i < to : i > to; i += step) {
    meter.step();
    if (isText)
      text.push_back(points[static_cast<size_t>(i)]);
    else
      items.push_back(object.as<Sequence>().items[static_cast<size_t>(i)]);
  }
  if (isText)
    return Value::string(encode(meter, text));
  meter.make(items.size() * sizeof(Value));
  return Value::sequence(std::move(items), object.isSequence(Flavor::TUPLE) ? Flavor::TUPLE : Flavor::LIST);
}

Value Machine::evalLoopAttribute(const Value &value, std::string_view name) {
  auto &loop = value.as<Loop>();
  int64_t count = static_cast<int64_t>(loop.items->items.size());
  int64_t index = static_cast<int64_t>(loop.index);
  if (name == "index")
    return Value::number(index + 1);
  if (name == "index0")
    return Value::number(index);
  if (name == "revindex")
    return Value::number(count - index);
  if (name == "revindex0")
    return Value::number(count - index - 1);
  if (name == "first")
    return Value::boolean(index == 0);
  if (name == "last")
    return Value::boolean(index + 1 == count);
  if (name == "length")
    return Value::number(count);
  if (name == "depth")
    return Value::number(loop.depth + 1);
  if (name == "depth0")
    return Value::number(loop.depth);
  if (name == "previtem")
    return index > 0 ? loop.items->items[loop.index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < count ? loop.items->items[loop.index + 1] : Value::undefined("there is no next item");
  if (name == "cycle")
    return Value::callable("cycle", [index](Machine &, Args &args) {
      if (args.positional.empty())
        fail("no items for cycling given");
      return args.positional[static_cast<size_t>(index) % args.positional.size()];
    });
  if (name == "changed") {
    return Value::callable(
        "changed",
        [self = value](Machine &machine, Args &args) {
          auto &state = self.as<Loop>();
          bool same = state.hasChanged && state.changed.size() == args.positional.size() &&
                      std::equal(state.changed.begin(), state.changed.end(), args.positional.begin(),
                                 [&](const Value &a, const Value &b) { return equal(machine.meter, a, b); });
          machine.keep(std::static_pointer_cast<Loop>(self.pointer()));
          state.changed = args.positional;
          state.hasChanged = true;
          return Value::boolean(!same);
        },
        value.nesting());
  }
  return Value::undefined(cat("'LoopContext object' has no attribute '", name, "'"));
}

Value Machine::makeNamespace(const Args &args) {
  meter.make(256);
  auto made = std::make_shared<Namespace>();
  keptNamespaces.push_back(made);
  auto set = [&](const std::string &name, const Value &value) {
    if (Value *known = made->find(name))
      *known = value;
    else
      made->attributes.emplace_back(name, value);
  };
  for (const Value &value : args.positional) {
    if (!value.isDict())
      fail("namespace() takes keywords or a dict");
    for (const auto &[key, item] : value.as<Dict>().entries)
      set(toText(meter, key), item);
  }
  for (const auto &[name, value] : args.named)
    set(name, value);
  return Value::object(Kind::NAMESPACE, made);
}

} // namespace ingot::jinja
