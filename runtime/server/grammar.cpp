#include "runtime/server/grammar.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace ingot {

using Symbol = Grammar::Symbol;
using Alternative = Grammar::Alternative;

namespace {

constexpr size_t kMostRules = 100'000;
constexpr int64_t kMostItems = 256;
constexpr size_t kMostMasks = 256;
constexpr size_t kMostStacks = 1'000'000; // about 100 MB
constexpr unsigned kMostSpace = 16;       // white space in a row: without a bound a model can write it for ever
constexpr unsigned kMostDigits = 15;      // in a row, for the same reason

Symbol rangeOf(uint8_t first, uint8_t last) {
  Symbol symbol;
  for (unsigned byte = first; byte <= last; ++byte)
    symbol.bytes.set(byte);
  return symbol;
}

Symbol anyOf(std::string_view bytes) {
  Symbol symbol;
  for (char byte : bytes)
    symbol.bytes.set(static_cast<uint8_t>(byte));
  return symbol;
}

Symbol ruleOf(uint32_t rule) {
  Symbol symbol;
  symbol.rule = rule;
  return symbol;
}

void append(Alternative &to, std::string_view text) {
  for (char byte : text)
    to.push_back(anyOf({&byte, 1}));
}

void append(Alternative &to, const Alternative &more) { to.insert(to.end(), more.begin(), more.end()); }

absl::Status unsupported(const std::string &where, const std::string &what) {
  return absl::UnimplementedError(absl::StrCat("response_format: schema", where, ": ", what));
}
absl::Status wrong(const std::string &where, const std::string &what) {
  return absl::InvalidArgumentError(absl::StrCat("response_format: schema", where, ": ", what));
}

} // namespace

// Makes a grammar's rules of a schema. Rules 1 on are those of JSON itself.
class SchemaReader {
public:
  explicit SchemaReader(const Json &schema) : root(&schema), grammar(std::make_shared<Grammar>()) {
    add(); // rule 0 comes last
    space = repeated(anyOf(" \t\n"), 0, kMostSpace);
    makeString();
    makeNumbers();
    makeValues();
  }

  absl::StatusOr<std::shared_ptr<const Grammar>> read() {
    auto rule = ruleFor(*root, "");
    if (!rule.ok())
      return rule.status();
    return finish(*rule);
  }
  std::shared_ptr<const Grammar> any() { return finish(object); }
  absl::StatusOr<std::shared_ptr<const Grammar>> call(const Json &tools, std::string_view name, std::string_view open,
                                                      std::string_view close) {
    std::vector<Alternative> functions;
    for (const Json &tool : tools) {
      const Json &function = tool["function"];
      if (!name.empty() && function["name"] != name)
        continue;
      uint32_t arguments = object;
      if (auto parameters = function.find("parameters"); parameters != function.end() && parameters->is_object()) {
        root = &*parameters;
        referred.clear();
        auto rule = ruleFor(*parameters, "");
        if (rule.ok())
          arguments = *rule;
        else if (!absl::IsUnimplemented(rule.status()))
          return rule.status();
      }
      Alternative &made = functions.emplace_back();
      append(made, absl::StrCat("{\"name\": ", dumpJson(function["name"]), ", \"arguments\": "));
      append(made, {ruleOf(arguments), anyOf("}")});
    }
    if (functions.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("tool_choice: there is no function ", std::string(name), " in tools"));
    // A notation without a closing marker is an array of calls.
    Alternative text;
    append(text, {ruleOf(space)});
    append(text, open);
    append(text, {ruleOf(space)});
    append(text, close.empty() ? "[" : "");
    append(text, {ruleOf(add(std::move(functions)))});
    append(text, close.empty() ? "]" : "");
    append(text, {ruleOf(space)});
    append(text, close);
    at(0) = {text};
    return grammar;
  }

private:
  std::vector<Alternative> &at(uint32_t rule) { return grammar->all[rule]; }
  uint32_t add(std::vector<Alternative> alternatives = {}) {
    grammar->all.push_back(std::move(alternatives));
    return static_cast<uint32_t>(grammar->all.size() - 1);
  }
  std::shared_ptr<const Grammar> finish(uint32_t rule) {
    at(0) = {{ruleOf(space), ruleOf(rule), ruleOf(space)}};
    return grammar;
  }
  // Between `least` and `most` of `symbol`.
  uint32_t repeated(const Symbol &symbol, unsigned least, unsigned most) {
    uint32_t rule = add({{}});
    for (unsigned count = most; count > 0; --count) {
      std::vector<Alternative> alternatives = {{symbol, ruleOf(rule)}};
      if (count > least)
        alternatives.emplace_back();
      rule = add(std::move(alternatives));
    }
    return rule;
  }
  uint32_t literal(std::string_view text) {
    Alternative made;
    append(made, text);
    return add({made});
  }

  void makeString() {
    Symbol plain = rangeOf(0x20, 0x7F);
    plain.bytes.reset('"').reset('\\');
    Symbol more = rangeOf(0x80, 0xBF), hex = anyOf("0123456789abcdefABCDEF");
    // The well-formed sequences of UTF-8, and escapes; of surrogates only whole pairs.
    Symbol low = anyOf("cdefCDEF"), high = anyOf("89abAB"), surrogate = anyOf("dD");
    Symbol notD = hex, below8 = anyOf("01234567");
    notD.bytes.reset('d').reset('D');
    Alternative escape, pair;
    append(escape, "\\u");
    append(pair, "\\u");
    append(pair, {surrogate, high, hex, hex});
    append(pair, "\\u");
    append(pair, {surrogate, low, hex, hex});
    Alternative basic = escape, underD800 = escape;
    append(basic, {notD, hex, hex, hex});
    append(underD800, {surrogate, below8, hex, hex});
    uint32_t character = add({{plain},
                              {rangeOf(0xC2, 0xDF), more},
                              {rangeOf(0xE0, 0xE0), rangeOf(0xA0, 0xBF), more},
                              {rangeOf(0xE1, 0xEC), more, more},
                              {rangeOf(0xED, 0xED), rangeOf(0x80, 0x9F), more},
                              {rangeOf(0xEE, 0xEF), more, more},
                              {rangeOf(0xF0, 0xF0), rangeOf(0x90, 0xBF), more, more},
                              {rangeOf(0xF1, 0xF3), more, more, more},
                              {rangeOf(0xF4, 0xF4), rangeOf(0x80, 0x8F), more, more},
                              {anyOf("\\"), anyOf("\"\\/bfnrt")},
                              basic,
                              underD800,
                              pair});
    uint32_t rest = add();
    at(rest) = {{anyOf("\"")}, {ruleOf(character), ruleOf(rest)}};
    text = add({{anyOf("\""), ruleOf(rest)}});
  }

  void makeNumbers() {
    Symbol digit = rangeOf('0', '9');
    uint32_t digits = repeated(digit, 0, kMostDigits);
    uint32_t whole = add({{anyOf("0")}, {rangeOf('1', '9'), ruleOf(digits)}});
    integer = add({{ruleOf(whole)}, {anyOf("-"), ruleOf(whole)}});
    uint32_t fraction = add({{}, {anyOf("."), digit, ruleOf(digits)}});
    uint32_t sign = add({{}, {anyOf("+-")}});
    uint32_t exponent = add({{}, {anyOf("eE"), ruleOf(sign), digit, ruleOf(repeated(digit, 0, 2))}});
    number = add({{ruleOf(integer), ruleOf(fraction), ruleOf(exponent)}});
  }

  void makeValues() {
    boolean = add({{ruleOf(literal("true"))}, {ruleOf(literal("false"))}});
    null = literal("null");
    value = add();
    array = add({listOf(value, 0, -1)});
    // Members, at least one, with commas between.
    uint32_t member = add({{ruleOf(text), ruleOf(space), anyOf(":"), ruleOf(space), ruleOf(value), ruleOf(space)}});
    uint32_t more = add();
    at(more) = {{}, {anyOf(","), ruleOf(space), ruleOf(member), ruleOf(more)}};
    object = add({{anyOf("{"), ruleOf(space), anyOf("}")},
                  {anyOf("{"), ruleOf(space), ruleOf(member), ruleOf(more), anyOf("}")}});
    at(value) = {{ruleOf(object)}, {ruleOf(array)},   {ruleOf(text)},
                 {ruleOf(number)}, {ruleOf(boolean)}, {ruleOf(null)}};
  }

  // An array of `least` to `most` items; most below 0: without bound.
  Alternative listOf(uint32_t item, int64_t least, int64_t most) {
    uint32_t close = add({{anyOf("]")}});
    uint32_t more = close;
    if (most < 0) {
      more = add();
      at(more) = {{anyOf("]")}, {anyOf(","), ruleOf(space), ruleOf(item), ruleOf(space), ruleOf(more)}};
    }
    // From the last item that must or may be there to the second.
    for (int64_t count = most < 0 ? least : most; count > 1; --count) {
      std::vector<Alternative> alternatives = {{anyOf(","), ruleOf(space), ruleOf(item), ruleOf(space), ruleOf(more)}};
      if (count > least)
        alternatives.push_back({anyOf("]")});
      more = add(std::move(alternatives));
    }
    std::vector<Alternative> bodies;
    if (most != 0)
      bodies.push_back({ruleOf(item), ruleOf(space), ruleOf(more)});
    if (least == 0)
      bodies.push_back({anyOf("]")});
    return {anyOf("["), ruleOf(space), ruleOf(add(std::move(bodies)))};
  }

  absl::StatusOr<uint32_t> ruleFor(const Json &schema, const std::string &where) {
    if (schema.is_boolean() && schema.get<bool>())
      return value;
    if (!schema.is_object())
      return wrong(where, "expected an object");
    if (grammar->all.size() > kMostRules)
      return wrong(where, "expected a smaller schema");
    if (absl::Status status = checkKeywords(schema, where); !status.ok())
      return status;
    if (schema.contains("$ref"))
      return refer(schema["$ref"], where);
    if (schema.contains("const"))
      return literal(dumpJson(schema["const"]));
    if (schema.contains("enum"))
      return choice(schema["enum"], where);
    for (const char *key : {"anyOf", "oneOf"})
      if (schema.contains(key))
        return oneOf(schema[key], absl::StrCat(where, ".", key));
    if (!schema.contains("type"))
      return schema.contains("properties") ? objectOf(schema, where) : value;
    if (!schema["type"].is_array())
      return typed(schema["type"], schema, where);
    std::vector<Alternative> alternatives;
    for (const Json &each : schema["type"]) {
      auto rule = typed(each, schema, where);
      if (!rule.ok())
        return rule.status();
      alternatives.push_back({ruleOf(*rule)});
    }
    return add(std::move(alternatives));
  }

  static absl::Status checkKeywords(const Json &schema, const std::string &where) {
    static const std::set<std::string> known = {"type",      "properties",  "required",   "additionalProperties",
                                                "items",     "minItems",    "maxItems",   "enum",
                                                "const",     "anyOf",       "oneOf",      "$ref",
                                                "$defs",     "definitions", "title",      "description",
                                                "default",   "examples",    "format",     "$schema",
                                                "$id",       "$comment",    "deprecated", "readOnly",
                                                "writeOnly", "$anchor"};
    for (const auto &[key, ignored] : schema.items())
      if (!known.contains(key))
        return unsupported(where, absl::StrCat(key, " is not supported"));
    return absl::OkStatus();
  }

  absl::StatusOr<uint32_t> refer(const Json &target, const std::string &where) {
    if (!target.is_string() || !target.get<std::string>().starts_with('#'))
      return unsupported(where, "$ref: expected a reference into the schema itself, such as #/$defs/name");
    const auto name = target.get<std::string>();
    if (auto found = referred.find(name); found != referred.end())
      return found->second;
    try {
      const Json &inner = root->at(Json::json_pointer(name.substr(1)));
      // Known before it is read: it may refer to itself.
      uint32_t rule = referred[name] = add();
      auto made = ruleFor(inner, absl::StrCat(" at ", name));
      if (!made.ok())
        return made.status();
      at(rule) = {{ruleOf(*made)}};
      return rule;
    } catch (const Json::exception &) {
      return wrong(where, absl::StrCat("$ref: there is no ", name));
    }
  }

  absl::StatusOr<uint32_t> choice(const Json &values, const std::string &where) {
    if (!values.is_array() || values.empty())
      return wrong(where, "enum: expected an array that is not empty");
    std::vector<Alternative> alternatives;
    for (const Json &each : values)
      append(alternatives.emplace_back(), dumpJson(each));
    return add(std::move(alternatives));
  }

  absl::StatusOr<uint32_t> oneOf(const Json &schemas, const std::string &where) {
    if (!schemas.is_array() || schemas.empty())
      return wrong(where, "expected an array that is not empty");
    std::vector<Alternative> alternatives;
    for (const Json &each : schemas) {
      auto rule = ruleFor(each, where);
      if (!rule.ok())
        return rule.status();
      alternatives.push_back({ruleOf(*rule)});
    }
    return add(std::move(alternatives));
  }

  absl::StatusOr<uint32_t> typed(const Json &type, const Json &schema, const std::string &where) {
    const std::array<std::pair<const char *, uint32_t>, 5> simple = {
        {{"string", text}, {"number", number}, {"integer", integer}, {"boolean", boolean}, {"null", null}}};
    for (const auto &[name, rule] : simple)
      if (type == name)
        return rule;
    if (type == "object")
      return schema.contains("properties") ? objectOf(schema, where) : absl::StatusOr<uint32_t>(object);
    if (type == "array")
      return arrayOf(schema, where);
    return wrong(where, "type: expected object, array, string, number, integer, boolean or null");
  }

  absl::StatusOr<uint32_t> arrayOf(const Json &schema, const std::string &where) {
    auto bound = [&](const char *key, int64_t otherwise) -> absl::StatusOr<int64_t> {
      if (!schema.contains(key))
        return otherwise;
      if (!schema[key].is_number_integer() || schema[key] < 0 || schema[key] > kMostItems)
        return unsupported(where, absl::StrCat(key, ": expected an integer from 0 to ", kMostItems));
      return schema[key].get<int64_t>();
    };
    auto least = bound("minItems", 0), most = bound("maxItems", -1);
    if (!least.ok() || !most.ok())
      return least.ok() ? most.status() : least.status();
    if (*most >= 0 && *least > *most)
      return wrong(where, "expected minItems of at most maxItems");
    uint32_t item = value;
    if (schema.contains("items")) {
      auto rule = ruleFor(schema["items"], absl::StrCat(where, ".items"));
      if (!rule.ok())
        return rule.status();
      item = *rule;
    }
    return add({listOf(item, *least, *most)});
  }

  absl::StatusOr<uint32_t> objectOf(const Json &schema, const std::string &where) {
    const Json &properties = schema["properties"];
    if (!properties.is_object())
      return wrong(where, "properties: expected an object");
    std::set<std::string> required;
    for (const Json &name : schema.value("required", Json::array())) {
      if (!name.is_string() || !properties.contains(name.get<std::string>()))
        return wrong(where, "required: expected names of properties");
      required.insert(name.get<std::string>());
    }
    // From the last property to the first: what may come from there on, with and without one before it.
    uint32_t afterSome = add({{anyOf("}")}}), afterNone = afterSome;
    std::vector<std::string> names;
    for (const auto &[name, ignored] : properties.items())
      names.push_back(name);
    std::ranges::reverse(names);
    for (const std::string &name : names) {
      auto rule = ruleFor(properties[name], absl::StrCat(where, ".", name));
      if (!rule.ok())
        return rule.status();
      Alternative member;
      append(member, dumpJson(name));
      append(member, {ruleOf(space), anyOf(":"), ruleOf(space), ruleOf(*rule), ruleOf(space), ruleOf(afterSome)});
      Alternative first = member, later = {anyOf(","), ruleOf(space)};
      append(later, member);
      std::vector<Alternative> none = {first}, some = {later};
      if (!required.contains(name)) {
        none.push_back({ruleOf(afterNone)});
        some.push_back({ruleOf(afterSome)});
      }
      afterNone = add(std::move(none));
      afterSome = add(std::move(some));
    }
    return add({{anyOf("{"), ruleOf(space), ruleOf(afterNone)}});
  }

  const Json *root;
  std::shared_ptr<Grammar> grammar;
  std::map<std::string, uint32_t> referred;
  uint32_t space = 0, text = 0, integer = 0, number = 0, boolean = 0, null = 0, value = 0, array = 0, object = 0;
};

absl::StatusOr<std::shared_ptr<const Grammar>> Grammar::ofSchema(const Json &schema) {
  return SchemaReader(schema).read();
}

absl::StatusOr<std::shared_ptr<const Grammar>> Grammar::ofCall(const Json &tools, std::string_view name,
                                                               std::string_view open, std::string_view close) {
  return SchemaReader(Json()).call(tools, name, open, close);
}

std::shared_ptr<const Grammar> Grammar::ofObject() { return SchemaReader(Json()).any(); }

Matcher::Matcher(std::shared_ptr<const Grammar> followed) : grammar(std::move(followed)) {}

int32_t Matcher::intern(const Node &node) {
  auto [place, isNew] = known.try_emplace(node, static_cast<int32_t>(nodes.size()));
  if (isNew)
    nodes.push_back(node);
  return place->second;
}

const Grammar::Alternative &Matcher::alternativeOf(const Node &node) const {
  return grammar->rules()[node.rule][node.alternative];
}

// Expands rules at the top of a stack until a byte is on top or nothing is left.
void Matcher::close(int32_t stack, std::set<int32_t> &seen, std::set<int32_t> &found) {
  std::vector<int32_t> open = {stack};
  while (!open.empty()) {
    int32_t top = open.back();
    open.pop_back();
    if (left == 0 || nodes.size() > kMostStacks) {
      tired = true;
      return;
    }
    --left;
    // A rule that leads to itself without a byte adds nothing.
    if (!seen.insert(top).second)
      continue;
    if (top == kDone) {
      found.insert(kDone);
      continue;
    }
    Node node = nodes[static_cast<size_t>(top)];
    const Alternative &symbols = alternativeOf(node);
    if (node.symbol == symbols.size()) {
      open.push_back(node.next);
      continue;
    }
    const Grammar::Symbol &symbol = symbols[node.symbol];
    if (symbol.bytes.any()) {
      found.insert(top);
      continue;
    }
    // The last symbol needs no place to come back to: so a list of any length has a stack of the same depth.
    int32_t next = node.symbol + 1 == symbols.size()
                       ? node.next
                       : intern({node.rule, node.alternative, node.symbol + 1, node.next});
    for (uint32_t each = 0; each < grammar->rules()[symbol.rule].size(); ++each)
      open.push_back(intern({symbol.rule, each, 0, next}));
  }
}

Matcher::State Matcher::start() {
  std::set<int32_t> seen, found;
  for (uint32_t each = 0; each < grammar->rules()[0].size(); ++each)
    close(intern({0, each, 0, kDone}), seen, found);
  return {found.begin(), found.end()};
}

Matcher::State Matcher::step(const State &state, uint8_t byte) {
  std::set<int32_t> seen, found;
  for (int32_t stack : state) {
    if (stack == kDone)
      continue;
    Node node = nodes[static_cast<size_t>(stack)];
    if (alternativeOf(node)[node.symbol].bytes.test(byte))
      close(intern({node.rule, node.alternative, node.symbol + 1, node.next}), seen, found);
  }
  return tired ? State() : State(found.begin(), found.end());
}

TokenTable::TokenTable(const Tokenizer &tokenizer, const std::function<bool(std::string_view piece)> &markers)
    : size(static_cast<size_t>(tokenizer.size())) {
  for (int32_t id = 0; id < tokenizer.size(); ++id)
    if (std::string_view bytes = tokenizer.pieceBytes(id);
        !bytes.empty() && (!tokenizer.isControl(id) || (markers && markers(bytes))))
      tokens.emplace_back(bytes, id);
  std::ranges::sort(tokens);
}

void TokenTable::allow(Matcher &matcher, const Matcher::State &state, std::vector<bool> &allowed) const {
  allow(matcher, state, 0, tokens.size(), 0, allowed);
}

// Tokens `first` to `last` have their first `depth` bytes in common, which led to `state`.
void TokenTable::allow(Matcher &matcher, const Matcher::State &state, size_t first, size_t last, size_t depth,
                       std::vector<bool> &allowed) const {
  for (; first < last && tokens[first].first.size() == depth; ++first)
    allowed[static_cast<size_t>(tokens[first].second)] = true;
  while (first < last) {
    char byte = tokens[first].first[depth];
    size_t end = first;
    while (end < last && tokens[end].first[depth] == byte)
      ++end;
    if (Matcher::State next = matcher.step(state, static_cast<uint8_t>(byte)); !next.empty())
      allow(matcher, next, first, end, depth + 1, allowed);
    first = end;
  }
}

GrammarFilter::GrammarFilter(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTable> tokens,
                             const Tokenizer &tokenizer, std::set<int32_t> ends, std::string marker)
    : matcher(std::move(grammar)), table(std::move(tokens)), tokenizer(tokenizer), ends(std::move(ends)),
      after(std::move(marker)), state(matcher.start()) {}

std::span<const uint32_t> GrammarFilter::mask(uint32_t vocabulary) {
  if (!after.empty())
    return {};
  if (auto found = masks.find(state); found != masks.end())
    return found->second;
  if (masks.size() >= kMostMasks)
    masks.clear();
  std::vector<bool> allowed(std::max<size_t>(vocabulary, table->vocabulary()));
  matcher.allowWork(Matcher::kWork);
  table->allow(matcher, state, allowed);
  // Where this vocabulary has no token that goes on, the text can only end.
  const bool mayEnd = Matcher::mayEnd(state) || std::ranges::find(allowed, true) == allowed.end();
  std::vector<uint32_t> bits(maskWords(vocabulary));
  for (uint32_t id = 0; id < vocabulary; ++id)
    if (ends.contains(static_cast<int32_t>(id)) ? mayEnd : allowed[id])
      bits[id / 32] |= 1U << id % 32;
  return masks.emplace(state, std::move(bits)).first->second;
}

absl::Status GrammarFilter::status() const {
  return matcher.gaveUp() ? absl::InvalidArgumentError("the grammar can be read in too many ways at once to follow it")
                          : absl::OkStatus();
}

void GrammarFilter::accept(int32_t token) {
  std::string_view bytes = tokenizer.pieceBytes(token);
  if (after.empty())
    return follow(bytes);
  before += bytes;
  if (size_t at = before.find(after); at != std::string::npos) {
    std::string rest = before.substr(at + after.size());
    after.clear();
    follow(rest);
  }
}

void GrammarFilter::follow(std::string_view bytes) {
  for (char byte : bytes)
    state = matcher.step(state, static_cast<uint8_t>(byte));
}

} // namespace ingot
