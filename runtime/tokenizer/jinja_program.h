// A parsed template. Nodes live in the program's arenas and point to each other, so destroying a program never
// recurses; every node knows its height, and the parser refuses trees too high for the interpreter's stack.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "runtime/tokenizer/jinja_value.h"

namespace ingot::jinja {

struct Expr {
  enum Kind {
    CONSTANT,  // constant
    NAME,      // name
    TUPLE,     // kids
    LIST,      // kids
    DICT,      // kids: key, value, key, value, ...
    ATTRIBUTE, // kids[0] . text
    ITEM,      // kids[0] [kids[1]]
    SLICE,     // kids: start, stop, step, each maybe null; only as kids[1] of ITEM
    CALL,      // kids[0] (call)
    FILTER,    // kids[0] | text (call); kids[0] null in filter and set blocks
    TEST,      // kids[0] is text (call)
    NOT,
    NEGATE,
    PLUS,
    AND,
    OR,
    BINARY,  // text: + - * / // % **
    CONCAT,  // kids
    COMPARE, // kids, operators between them
    CHOICE,  // kids: value, condition, otherwise (maybe null)
    MEMBER   // name . text as the target of a set
  };
  struct Call {
    std::vector<Expr *> positional;
    std::vector<std::pair<std::string, Expr *>> named;
    Expr *star = nullptr;
    Expr *doubleStar = nullptr;
  };
  Kind kind = CONSTANT;
  int line = 0;
  int height = 1;
  int name = -1; // index into Program::names
  std::string text;
  Value constant;
  std::vector<Expr *> kids;
  std::vector<std::string> operators;
  std::unique_ptr<Call> call;
};

struct Stmt;
using Block = std::vector<Stmt *>;

struct MacroInfo {
  std::string name;
  std::vector<int> parameters;
  std::vector<Expr *> defaults; // of the last parameters
  bool usesCaller = false;
  bool usesVarargs = false;
  bool usesKwargs = false;
};

struct Stmt {
  enum Kind { DATA, OUTPUT, IF, FOR, SET, SET_BLOCK, MACRO, CALL, FILTER, WITH, SCOPE, BREAK, CONTINUE };
  struct Branch {
    Expr *condition;
    Block body;
  };
  Kind kind = DATA;
  int line = 0;
  int height = 1;
  std::string text;                 // DATA
  Expr *target = nullptr;           // FOR, SET, SET_BLOCK
  Expr *value = nullptr;            // OUTPUT, FOR: the iterable, SET, SET_BLOCK and FILTER: the filters, CALL: the call
  Expr *condition = nullptr;        // FOR
  bool recursive = false;           // FOR
  std::vector<Branch> branches;     // IF
  Block body;                       // but IF
  Block otherwise;                  // IF, FOR
  int name = -1;                    // MACRO
  std::unique_ptr<MacroInfo> macro; // MACRO, CALL
  std::vector<std::pair<Expr *, Expr *>> assignments; // WITH
};

struct Program {
  std::deque<Expr> expressions;
  std::deque<Stmt> statements;
  std::vector<std::string> names;
  absl::flat_hash_map<std::string, int> nameIds;
  Block body;

  int intern(const std::string &name);
  int find(const std::string &name) const; // -1: the template never names it
};

// Parses `source`; throws Failure (SYNTAX, UNSUPPORTED, LIMIT) with the line in `line`.
std::unique_ptr<Program> parseProgram(std::string_view source, int &line);

} // namespace ingot::jinja
