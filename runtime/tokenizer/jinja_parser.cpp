// Recursive descent over Jinja's grammar. Two bounds keep hostile templates off the stack: how deep the parser itself
// may recurse, and how high a tree it may build (a chain "1+1+1+..." is parsed by a loop, but is as high as it is
// long).
#include <algorithm>
#include <charconv>

#include "runtime/tokenizer/jinja_lexer.h"
#include "runtime/tokenizer/jinja_program.h"
#include "runtime/tokenizer/text.h"

namespace ingot::jinja {

int Program::intern(const std::string &name) {
  auto [found, isNew] = nameIds.try_emplace(name, static_cast<int>(names.size()));
  if (isNew)
    names.push_back(name);
  return found->second;
}

int Program::find(const std::string &name) const {
  auto found = nameIds.find(name);
  return found == nameIds.end() ? -1 : found->second;
}

namespace {

constexpr int kMaxRecursion = 200;
constexpr int kMaxHeight = 250;

[[noreturn]] void failSyntax(std::string message) { throw Failure{Failure::SYNTAX, std::move(message)}; }

class Parser {
public:
  Parser(std::string_view source, int &lineCounter) : line(lineCounter), tokens(tokenize(source, lineCounter)) {
    program = std::make_unique<Program>();
  }

  std::unique_ptr<Program> run() {
    program->body = parseBlock({});
    return std::move(program);
  }

private:
  // One level of the parser's own recursion.
  class Level {
  public:
    explicit Level(Parser &owner) : parser(owner) {
      if (++parser.recursion > kMaxRecursion)
        failLimit("the template is nested too deeply");
    }
    Level(const Level &) = delete;
    Level &operator=(const Level &) = delete;
    ~Level() { --parser.recursion; }

  private:
    Parser &parser;
  };

  // Tokens.
  const Token &now() const { return tokens[at]; }
  const Token &next() const { return tokens[std::min(at + 1, tokens.size() - 1)]; }
  void skip() {
    if (at + 1 < tokens.size())
      ++at;
    line = now().line;
  }
  static bool isName(const Token &token, std::string_view text) {
    return token.kind == Token::NAME && token.text == text;
  }
  bool isOp(std::string_view text) const { return now().kind == Token::OPERATOR && now().text == text; }
  bool skipName(std::string_view text) {
    bool found = isName(now(), text);
    if (found)
      skip();
    return found;
  }
  bool skipOp(std::string_view text) {
    bool found = isOp(text);
    if (found)
      skip();
    return found;
  }
  std::string describe() const {
    switch (now().kind) {
    case Token::END:
      return "the end of the template";
    case Token::TAG_END:
    case Token::OUTPUT_END:
      return "the end of the tag";
    case Token::STRING:
      return "a string";
    default:
      return cat("'", now().text, "'");
    }
  }
  void expectOp(std::string_view text) {
    if (!skipOp(text))
      failSyntax(cat("expected '", text, "', got ", describe()));
  }
  void expectName(std::string_view text) {
    if (!skipName(text))
      failSyntax(cat("expected '", text, "', got ", describe()));
  }
  std::string takeName() {
    if (now().kind != Token::NAME)
      failSyntax(cat("expected a name, got ", describe()));
    std::string name = now().text;
    skip();
    return name;
  }
  void expectTagEnd() {
    if (now().kind != Token::TAG_END)
      failSyntax(cat("expected the end of the tag, got ", describe()));
    skip();
  }

  // Nodes.
  Expr *make(Expr::Kind kind, std::vector<Expr *> kids = {}, std::string text = {}) {
    Expr &expr = program->expressions.emplace_back();
    expr.kind = kind;
    expr.line = line;
    expr.text = std::move(text);
    for (const Expr *kid : kids)
      raise(expr.height, kid);
    expr.kids = std::move(kids);
    return &expr;
  }
  template <typename Node> static void raise(int &height, const Node *below) {
    if (below)
      height = std::max(height, below->height + 1);
    if (height > kMaxHeight)
      failLimit("an expression or block of the template is nested too deeply");
  }
  static void raise(int &height, const Block &block) {
    for (const Stmt *stmt : block)
      raise(height, stmt);
  }
  Expr *constant(Value value) {
    Expr *expr = make(Expr::CONSTANT);
    expr->constant = std::move(value);
    return expr;
  }
  Expr *nameNode(const std::string &name) {
    for (MacroInfo *macro : openMacros) {
      macro->usesCaller |= name == "caller";
      macro->usesVarargs |= name == "varargs";
      macro->usesKwargs |= name == "kwargs";
    }
    Expr *expr = make(Expr::NAME);
    expr->name = program->intern(name);
    return expr;
  }

  // Expressions, weakest binding first.
  Expr *parseExpression(bool withChoice = true) {
    Level level(*this);
    return withChoice ? parseChoice() : parseOr();
  }

  Expr *parseChoice() {
    Expr *value = parseOr();
    while (skipName("if")) {
      Expr *condition = parseOr();
      Expr *otherwise = nullptr;
      if (skipName("else")) {
        Level level(*this);
        otherwise = parseChoice();
      }
      value = make(Expr::CHOICE, {value, condition, otherwise});
    }
    return value;
  }

  Expr *parseOr() {
    Expr *left = parseAnd();
    while (skipName("or")) {
      Expr *right = parseAnd();
      left = make(Expr::OR, {left, right});
    }
    return left;
  }

  Expr *parseAnd() {
    Expr *left = parseNot();
    while (skipName("and")) {
      Expr *right = parseNot();
      left = make(Expr::AND, {left, right});
    }
    return left;
  }

  Expr *parseNot() {
    if (!skipName("not"))
      return parseCompare();
    Level level(*this);
    return make(Expr::NOT, {parseNot()});
  }

  Expr *parseCompare() {
    std::vector<Expr *> kids = {parseSum()};
    std::vector<std::string> operators;
    for (;;) {
      if (isOp("==") || isOp("!=") || isOp("<") || isOp("<=") || isOp(">") || isOp(">=")) {
        operators.push_back(now().text);
        skip();
      } else if (skipName("in")) {
        operators.emplace_back("in");
      } else if (isName(now(), "not") && isName(next(), "in")) {
        skip();
        skip();
        operators.emplace_back("not in");
      } else {
        break;
      }
      kids.push_back(parseSum());
    }
    if (operators.empty())
      return kids[0];
    Expr *compare = make(Expr::COMPARE, std::move(kids));
    compare->operators = std::move(operators);
    return compare;
  }

  Expr *parseSum() {
    Expr *left = parseConcat();
    while (isOp("+") || isOp("-")) {
      std::string op = now().text;
      skip();
      Expr *right = parseConcat();
      left = make(Expr::BINARY, {left, right}, op);
    }
    return left;
  }

  Expr *parseConcat() {
    std::vector<Expr *> kids = {parseProduct()};
    while (skipOp("~"))
      kids.push_back(parseProduct());
    return kids.size() == 1 ? kids[0] : make(Expr::CONCAT, std::move(kids));
  }

  Expr *parseProduct() {
    Expr *left = parsePower();
    while (isOp("*") || isOp("/") || isOp("//") || isOp("%")) {
      std::string op = now().text;
      skip();
      Expr *right = parsePower();
      left = make(Expr::BINARY, {left, right}, op);
    }
    return left;
  }

  Expr *parsePower() {
    Expr *left = parseUnary(true);
    while (skipOp("**")) {
      Expr *right = parseUnary(true);
      left = make(Expr::BINARY, {left, right}, "**");
    }
    return left;
  }

  Expr *parseUnary(bool withFilter) {
    Level level(*this);
    Expr *node = nullptr;
    if (skipOp("-"))
      node = make(Expr::NEGATE, {parseUnary(false)});
    else if (skipOp("+"))
      node = make(Expr::PLUS, {parseUnary(false)});
    else
      node = parsePrimary();
    node = parsePostfix(node);
    return withFilter ? parseFilters(node) : node;
  }

  Expr *parsePrimary(bool withMember = false) {
    const Token &token = now();
    switch (token.kind) {
    case Token::NAME:
      return parseNamed(withMember);
    case Token::STRING: {
      std::string text;
      for (; now().kind == Token::STRING; skip())
        text += now().text;
      return constant(Value::string(std::move(text)));
    }
    case Token::INTEGER:
    case Token::FLOAT: {
      Expr *number = constant(token.kind == Token::INTEGER ? integerOf(token.text) : realOf(token.text));
      skip();
      return number;
    }
    default:
      break;
    }
    if (skipOp("(")) {
      Expr *inner = parseTuple({.explicitParentheses = true});
      expectOp(")");
      return inner;
    }
    if (skipOp("["))
      return make(Expr::LIST, parseItems("]"));
    if (skipOp("{"))
      return parseDict();
    failSyntax(cat("unexpected ", describe()));
  }

  static Value integerOf(std::string_view digits) {
    int base = 10;
    if (digits.size() > 2 && digits[0] == '0') {
      char mark = static_cast<char>(digits[1] | 0x20);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (base != 10)
        digits.remove_prefix(2);
    }
    int64_t value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc() || end != digits.data() + digits.size())
      failUnsupported(cat("the integer ", digits, " does not fit into 64 bits"));
    return Value::number(value);
  }

  static Value realOf(std::string_view digits) {
    double value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size())
      failUnsupported(cat("the number ", digits, " does not fit into a double"));
    return Value::real(value);
  }

  Expr *parseNamed(bool withMember) {
    std::string name = takeName();
    if (name == "true" || name == "True" || name == "false" || name == "False")
      return constant(Value::boolean(name[0] == 't' || name[0] == 'T'));
    if (name == "none" || name == "None")
      return constant(Value());
    if (!withMember || !skipOp("."))
      return nameNode(name);
    Expr *member = nameNode(name);
    member->kind = Expr::MEMBER;
    member->text = takeName();
    return member;
  }

  std::vector<Expr *> parseItems(std::string_view close) {
    std::vector<Expr *> items;
    while (!isOp(close)) {
      if (!items.empty())
        expectOp(",");
      if (isOp(close))
        break;
      items.push_back(parseExpression());
    }
    expectOp(close);
    return items;
  }

  Expr *parseDict() {
    std::vector<Expr *> kids;
    while (!isOp("}")) {
      if (!kids.empty())
        expectOp(",");
      if (isOp("}"))
        break;
      kids.push_back(parseExpression());
      expectOp(":");
      kids.push_back(parseExpression());
    }
    expectOp("}");
    return make(Expr::DICT, std::move(kids));
  }

  struct TupleRules {
    bool primariesOnly = false; // assignment targets
    bool withChoice = true;
    bool explicitParentheses = false;
    bool withMember = false;
    std::string_view endName = {};
  };
  Expr *parseTuple(const TupleRules &rules) {
    Level level(*this);
    std::vector<Expr *> items;
    bool isTuple = false;
    for (;;) {
      if (!items.empty())
        expectOp(",");
      if (now().kind == Token::OUTPUT_END || now().kind == Token::TAG_END || isOp(")") ||
          (!rules.endName.empty() && isName(now(), rules.endName)))
        break;
      items.push_back(rules.primariesOnly ? parsePrimary(rules.withMember) : parseExpression(rules.withChoice));
      if (!isOp(","))
        break;
      isTuple = true;
    }
    if (!isTuple) {
      if (!items.empty())
        return items[0];
      if (!rules.explicitParentheses)
        failSyntax(cat("expected an expression, got ", describe()));
    }
    return make(Expr::TUPLE, std::move(items));
  }

  Expr *parsePostfix(Expr *node) {
    for (;;) {
      if (skipOp("."))
        node = parseMember(node);
      else if (skipOp("["))
        node = parseSubscript(node);
      else if (isOp("("))
        node = parseCall(node);
      else
        return node;
    }
  }

  Expr *parseMember(Expr *node) {
    if (now().kind == Token::INTEGER) {
      Expr *index = constant(integerOf(now().text));
      skip();
      return make(Expr::ITEM, {node, index});
    }
    std::string name = takeName();
    return make(Expr::ATTRIBUTE, {node}, std::move(name));
  }

  Expr *parseSubscript(Expr *node) {
    std::vector<Expr *> indices;
    while (!isOp("]")) {
      if (!indices.empty())
        expectOp(",");
      indices.push_back(parseIndex());
    }
    expectOp("]");
    Expr *index = indices.size() == 1 ? indices[0] : make(Expr::TUPLE, std::move(indices));
    if (index->kind == Expr::TUPLE)
      for (const Expr *part : index->kids)
        if (part->kind == Expr::SLICE)
          failUnsupported("a slice in more than one dimension");
    return make(Expr::ITEM, {node, index});
  }

  Expr *parseIndex() {
    Expr *start = isOp(":") ? nullptr : parseExpression();
    if (!skipOp(":"))
      return start;
    auto part = [&]() -> Expr * { return isOp(":") || isOp("]") || isOp(",") ? nullptr : parseExpression(); };
    Expr *stop = part();
    Expr *step = skipOp(":") ? part() : nullptr;
    return make(Expr::SLICE, {start, stop, step});
  }

  Expr *parseCall(Expr *callee) {
    Expr *expr = make(Expr::CALL, {callee});
    parseArguments(expr);
    return expr;
  }

  void parseArguments(Expr *expr) {
    expr->call = std::make_unique<Expr::Call>();
    Expr::Call &call = *expr->call;
    expectOp("(");
    bool needsComma = false;
    while (!isOp(")")) {
      if (needsComma) {
        expectOp(",");
        if (isOp(")"))
          break;
      }
      needsComma = true;
      Expr *value = nullptr;
      if (skipOp("*")) {
        if (call.star || call.doubleStar)
          failSyntax("invalid call: '*' after '*' or '**'");
        value = call.star = parseExpression();
      } else if (skipOp("**")) {
        if (call.doubleStar)
          failSyntax("invalid call: two '**'");
        value = call.doubleStar = parseExpression();
      } else if (now().kind == Token::NAME && next().kind == Token::OPERATOR && next().text == "=") {
        if (call.doubleStar)
          failSyntax("invalid call: a keyword after '**'");
        std::string key = takeName();
        skip();
        value = parseExpression();
        call.named.emplace_back(std::move(key), value);
      } else {
        if (call.star || call.doubleStar || !call.named.empty())
          failSyntax("invalid call: a positional argument after a keyword");
        value = parseExpression();
        call.positional.push_back(value);
      }
      raise(expr->height, value);
    }
    expectOp(")");
  }

  std::string dottedName() {
    std::string name = takeName();
    while (skipOp("."))
      name += "." + takeName();
    return name;
  }

  // `node` null: a chain of filters for a block. The cursor is after "|".
  Expr *parseFilter(Expr *node) {
    std::string name = dottedName();
    Expr *filter = make(Expr::FILTER, {node}, std::move(name));
    if (isOp("("))
      parseArguments(filter);
    return filter;
  }

  Expr *parseFilters(Expr *node) {
    for (;;) {
      if (skipOp("|"))
        node = parseFilter(node);
      else if (skipName("is"))
        node = parseTest(node);
      else if (isOp("("))
        node = parseCall(node);
      else
        return node;
    }
  }

  Expr *parseTest(Expr *node) {
    bool negated = skipName("not");
    Expr *test = make(Expr::TEST, {node}, dottedName());
    Token::Kind kind = now().kind;
    if (isOp("(")) {
      parseArguments(test);
    } else if ((kind == Token::NAME || kind == Token::STRING || kind == Token::INTEGER || kind == Token::FLOAT ||
                isOp("[") || isOp("{")) &&
               !isName(now(), "else") && !isName(now(), "or") && !isName(now(), "and")) {
      if (isName(now(), "is"))
        failSyntax("tests with 'is' cannot be chained");
      test->call = std::make_unique<Expr::Call>();
      Expr *argument = parsePostfix(parsePrimary());
      raise(test->height, argument);
      test->call->positional.push_back(argument);
    }
    return negated ? make(Expr::NOT, {test}) : test;
  }

  // Statements.
  Stmt *makeStmt(Stmt::Kind kind) {
    Stmt &stmt = program->statements.emplace_back();
    stmt.kind = kind;
    stmt.line = line;
    return &stmt;
  }

  // Statements up to a tag that begins with one of `ends`; that tag's name is left for the caller. Without `ends`, all.
  Block parseBlock(const std::vector<std::string_view> &ends) {
    Level level(*this);
    Block block;
    for (;;) {
      switch (now().kind) {
      case Token::END:
        if (!ends.empty())
          failSyntax(cat("expected '", ends.back(), "' before the end of the template"));
        return block;
      case Token::DATA: {
        Stmt *data = makeStmt(Stmt::DATA);
        data->text = now().text;
        block.push_back(data);
        skip();
        break;
      }
      case Token::OUTPUT_BEGIN: {
        skip();
        Stmt *output = makeStmt(Stmt::OUTPUT);
        output->value = parseTuple({});
        raise(output->height, output->value);
        if (now().kind != Token::OUTPUT_END)
          failSyntax(cat("expected the end of the output tag, got ", describe()));
        skip();
        block.push_back(output);
        break;
      }
      default:
        skip(); // TAG_BEGIN: nothing else stands between tags
        if (now().kind != Token::NAME)
          failSyntax(cat("expected a statement's name, got ", describe()));
        if (std::find(ends.begin(), ends.end(), now().text) != ends.end())
          return block;
        block.push_back(parseStatement());
        expectTagEnd();
      }
    }
  }

  // A body: the rest of the opening tag must be over. Leaves the cursor after the name of the closing tag.
  Block parseBody(std::string_view end) {
    expectTagEnd();
    Block body = parseBlock({end});
    skip();
    return body;
  }

  Stmt *parseStatement() {
    std::string tag = takeName();
    Stmt *stmt = nullptr;
    if (tag == "if")
      stmt = parseIf();
    else if (tag == "for")
      stmt = parseFor();
    else if (tag == "set")
      stmt = parseSet();
    else if (tag == "macro")
      stmt = parseMacro();
    else if (tag == "call")
      stmt = parseCallBlock();
    else if (tag == "filter")
      stmt = parseFilterBlock();
    else if (tag == "with")
      stmt = parseWith();
    else if (tag == "generation") {
      stmt = makeStmt(Stmt::SCOPE);
      stmt->body = parseBody("endgeneration");
    } else if (tag == "break" || tag == "continue") {
      if (loops == 0)
        failSyntax(cat("'", tag, "' outside of a loop"));
      stmt = makeStmt(tag == "break" ? Stmt::BREAK : Stmt::CONTINUE);
    } else if (tag == "print" || tag == "include" || tag == "import" || tag == "from" || tag == "extends" ||
               tag == "block" || tag == "autoescape" || tag == "trans" || tag == "do" || tag == "debug") {
      failUnsupported(cat("the statement '", tag, "'"));
    } else {
      failSyntax(cat("unknown tag '", tag, "'"));
    }
    raise(stmt->height, stmt->body);
    raise(stmt->height, stmt->otherwise);
    return stmt;
  }

  Stmt *parseIf() {
    Stmt *stmt = makeStmt(Stmt::IF);
    for (;;) {
      Expr *condition = parseTuple({.withChoice = false});
      raise(stmt->height, condition);
      expectTagEnd();
      Block body = parseBlock({"elif", "else", "endif"});
      raise(stmt->height, body);
      stmt->branches.push_back({condition, std::move(body)});
      std::string end = takeName();
      if (end == "elif")
        continue;
      if (end == "else")
        stmt->otherwise = parseBody("endif");
      return stmt;
    }
  }

  // "a", "a, b", "(a, b)", "ns.a" where allowed.
  Expr *parseTarget(bool withMember, std::string_view endName = {}) {
    Expr *target = parseTuple({.primariesOnly = true, .withMember = withMember, .endName = endName});
    checkTarget(target);
    return target;
  }
  static void checkTarget(const Expr *target) {
    if (target->kind == Expr::TUPLE)
      for (const Expr *part : target->kids)
        checkTarget(part);
    else if (target->kind != Expr::NAME && target->kind != Expr::MEMBER)
      failSyntax("this cannot be assigned to");
  }

  Stmt *parseFor() {
    Stmt *stmt = makeStmt(Stmt::FOR);
    stmt->target = parseTarget(false, "in");
    if (stmt->target->kind == Expr::NAME && program->names[static_cast<size_t>(stmt->target->name)] == "loop")
      failSyntax("the special variable 'loop' cannot be a loop's target");
    expectName("in");
    stmt->value = parseTuple({.withChoice = false, .endName = "recursive"});
    raise(stmt->height, stmt->value);
    if (skipName("if")) {
      stmt->condition = parseExpression();
      raise(stmt->height, stmt->condition);
    }
    stmt->recursive = skipName("recursive");
    expectTagEnd();
    ++loops;
    stmt->body = parseBlock({"else", "endfor"});
    --loops;
    if (takeName() == "else")
      stmt->otherwise = parseBody("endfor");
    return stmt;
  }

  Stmt *parseSet() {
    Expr *target = parseTarget(true);
    if (skipOp("=")) {
      Stmt *stmt = makeStmt(Stmt::SET);
      stmt->target = target;
      stmt->value = parseTuple({});
      raise(stmt->height, stmt->value);
      return stmt;
    }
    Stmt *stmt = makeStmt(Stmt::SET_BLOCK);
    stmt->target = target;
    while (skipOp("|"))
      stmt->value = parseFilter(stmt->value);
    raise(stmt->height, stmt->value);
    stmt->body = parseBody("endset");
    return stmt;
  }

  // "(a, b=1)" or nothing.
  void parseSignature(Stmt *stmt, MacroInfo &macro) {
    expectOp("(");
    while (!isOp(")")) {
      if (!macro.parameters.empty())
        expectOp(",");
      if (isOp(")"))
        break;
      macro.parameters.push_back(program->intern(takeName()));
      if (skipOp("=")) {
        macro.defaults.push_back(parseExpression());
        raise(stmt->height, macro.defaults.back());
      } else if (!macro.defaults.empty()) {
        failSyntax("a parameter without a default after one with a default");
      }
    }
    expectOp(")");
  }

  Block parseMacroBody(MacroInfo &macro, std::string_view end) {
    openMacros.push_back(&macro);
    int outerLoops = std::exchange(loops, 0);
    Block body = parseBody(end);
    loops = outerLoops;
    openMacros.pop_back();
    return body;
  }

  Stmt *parseMacro() {
    Stmt *stmt = makeStmt(Stmt::MACRO);
    stmt->macro = std::make_unique<MacroInfo>();
    stmt->macro->name = takeName();
    stmt->name = program->intern(stmt->macro->name);
    parseSignature(stmt, *stmt->macro);
    stmt->body = parseMacroBody(*stmt->macro, "endmacro");
    return stmt;
  }

  Stmt *parseCallBlock() {
    Stmt *stmt = makeStmt(Stmt::CALL);
    stmt->macro = std::make_unique<MacroInfo>();
    stmt->macro->name = "caller";
    if (isOp("("))
      parseSignature(stmt, *stmt->macro);
    stmt->value = parseExpression();
    raise(stmt->height, stmt->value);
    if (stmt->value->kind != Expr::CALL)
      failSyntax("expected a call");
    stmt->body = parseMacroBody(*stmt->macro, "endcall");
    return stmt;
  }

  Stmt *parseFilterBlock() {
    Stmt *stmt = makeStmt(Stmt::FILTER);
    stmt->value = parseFilter(nullptr);
    while (skipOp("|"))
      stmt->value = parseFilter(stmt->value);
    raise(stmt->height, stmt->value);
    stmt->body = parseBody("endfilter");
    return stmt;
  }

  Stmt *parseWith() {
    Stmt *stmt = makeStmt(Stmt::WITH);
    while (now().kind != Token::TAG_END) {
      if (!stmt->assignments.empty())
        expectOp(",");
      Expr *target = parsePrimary();
      checkTarget(target);
      expectOp("=");
      Expr *value = parseExpression();
      raise(stmt->height, value);
      stmt->assignments.emplace_back(target, value);
    }
    stmt->body = parseBody("endwith");
    return stmt;
  }

  int &line;
  std::vector<Token> tokens;
  size_t at = 0;
  int recursion = 0;
  int loops = 0;
  std::vector<MacroInfo *> openMacros;
  std::unique_ptr<Program> program;
};

} // namespace

std::unique_ptr<Program> parseProgram(std::string_view source, int &line) {
  line = 0;
  if (source.size() > size_t{1} << 20)
    failLimit(cat("the template has ", source.size(), " bytes, more than 1 MiB"));
  Parser parser(source, line);
  return parser.run();
}

} // namespace ingot::jinja
