// The state of one render: scopes, output, limits. Filters, tests and methods get it to charge for what they do and to
// call back into the template.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "runtime/tokenizer/jinja.h"
#include "runtime/tokenizer/jinja_program.h"

namespace ingot::jinja {

struct Scope {
  absl::flat_hash_map<int, Value> variables; // name id -> value
  std::shared_ptr<Scope> parent;
};

struct Loop final : Object {
  std::shared_ptr<Sequence> items;
  size_t index = 0;
  int depth = 0;
  const Stmt *stmt = nullptr;
  std::shared_ptr<Scope> scope; // around the loop, if it is recursive
  std::vector<Value> changed;   // what changed() saw last
  bool hasChanged = false;
};

class Machine {
public:
  Machine(const Program &parsed, const RenderOptions &options);
  Machine(const Machine &) = delete;
  Machine &operator=(const Machine &) = delete;
  ~Machine();

  std::string run(const nlohmann::ordered_json &variables);

  Value call(const Value &callee, Args args);
  Value callFilter(std::string_view name, const Value &value, Args args);
  bool callTest(std::string_view name, const Value &value, Args args);
  // `object.name` and `object[key]` as Jinja's environment looks them up: attributes and items fall back to each other.
  Value attribute(const Value &object, std::string_view name);
  Value item(const Value &object, const Value &key);
  Value makeNamespace(const Args &args);
  // Holds what can be part of a cycle or a long chain until the render ends, when each lets go of its values.
  void keep(const std::shared_ptr<Scope> &kept);
  void keep(const std::shared_ptr<Loop> &kept);

  Meter meter;
  std::time_t now;
  int line = 0; // of the node that runs

private:
  enum class Flow { NORMAL, BREAK, CONTINUE };
  class Level;

  Flow execute(const Block &block);
  Flow execute(const Stmt &stmt);
  Flow executeFor(const Stmt &stmt);
  Flow runLoop(const Stmt &stmt, const Value &iterable, std::shared_ptr<Scope> around, int depth);
  void executeCallBlock(const Stmt &stmt);
  std::string capture(const Block &block);
  std::string captureIn(const std::shared_ptr<Scope> &scope, const Block &block);
  Value makeMacro(const Stmt &stmt);
  Value callMacro(const Stmt &stmt, const std::shared_ptr<Scope> &around, Args &args);
  void assign(const Expr &target, const Value &value);
  void write(std::string_view text);

  Value eval(const Expr &expr);
  Value evalCall(const Expr &expr);
  Value evalItem(const Expr &expr);
  Value evalSlice(const Value &object, const Expr &slice);
  Value evalBinary(const Expr &expr);
  Value evalCompare(const Expr &expr);
  Value evalDict(const Expr &expr);
  Value evalFilter(const Expr &expr, const Value *input);
  Args evalArguments(const Expr &expr);
  Value evalLoopAttribute(const Value &loop, std::string_view name);
  Value *findVariable(int name);
  Value resolve(int name);

  const Program &program;
  std::shared_ptr<Scope> scope;
  std::string *output = nullptr;
  int depth = 0;
  uintptr_t stackBase = 0;
  std::vector<std::shared_ptr<Scope>> keptScopes;
  std::vector<std::shared_ptr<Namespace>> keptNamespaces;
  std::vector<std::shared_ptr<Loop>> keptLoops;
};

// jinja_filters.cpp, jinja_tests.cpp, jinja_methods.cpp, jinja_globals.cpp. A null function: no such name.
using Filter = Value (*)(Machine &, const Value &, Args &);
using Test = bool (*)(Machine &, const Value &, Args &);
Filter findFilter(std::string_view name);
Test findTest(std::string_view name);
// The same, but what is not known fails as UNSUPPORTED.
Filter demandFilter(std::string_view name);
Test demandTest(std::string_view name);
// The method or attribute `name` that Python's type of `object` has; `found` is false if it has none.
Value findMethod(Machine &machine, const Value &object, std::string_view name, bool &found);
Value findGlobal(std::string_view name, bool &found);

Value add(Machine &machine, const Value &a, const Value &b);
Value binary(Machine &machine, std::string_view op, const Value &a, const Value &b);
std::string formatPercent(Machine &machine, std::string_view format, const Value &values);

// Arguments matched with a signature's names. Missing ones are null; too many or unknown ones fail.
class Bound {
public:
  Bound(std::string_view function, Args &args, std::initializer_list<std::string_view> names);
  bool has(size_t i) const { return values[i] != nullptr; }
  const Value &operator[](size_t i) const { return *values[i]; } // only if has(i)
  const Value &need(size_t i) const;                             // fails if missing
  std::string text(Machine &machine, size_t i, std::string_view otherwise) const;
  int64_t integer(size_t i, int64_t otherwise) const;
  bool flag(size_t i, bool otherwise) const;

private:
  std::string function;
  std::vector<std::string_view> parameters;
  std::vector<const Value *> values;
};

// Text with Python's str methods, shared by methods and filters.
std::string changeCase(Machine &machine, std::string_view text, std::string_view how); // upper lower title capitalize
                                                                                       // swapcase casefold
std::string_view stripText(Machine &machine, std::string_view text, const Value *chars, bool left, bool right);
std::string replaceText(Machine &machine, std::string_view text, std::string_view from, std::string_view to,
                        int64_t count);
std::vector<std::string> splitLines(std::string_view text, bool keepEnds);

} // namespace ingot::jinja
