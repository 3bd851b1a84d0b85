// Texts are accepted or not as JSON and the schema say; and whatever a filter lets through, a reader of JSON takes.
#include "runtime/server/grammar.h"

#include <array>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/tokenizer/golden_file.h"
#include "runtime/tokenizer/special_tokens.h" // Tokenizer's inline destructor needs it
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const Grammar> grammarOf(const std::string &schema) {
  auto grammar = Grammar::ofSchema(*parseJson(schema));
  EXPECT_TRUE(grammar.ok()) << schema << ": " << grammar.status();
  return grammar.ok() ? *grammar : Grammar::ofObject();
}

bool accepts(const std::shared_ptr<const Grammar> &grammar, std::string_view text) {
  Matcher matcher(grammar);
  Matcher::State state = matcher.start();
  for (char byte : text)
    state = matcher.step(state, static_cast<uint8_t>(byte));
  return Matcher::mayEnd(state);
}

void expectTexts(const std::string &schema, const std::vector<std::string> &good, const std::vector<std::string> &bad) {
  auto grammar = grammarOf(schema);
  for (const std::string &text : good)
    EXPECT_TRUE(accepts(grammar, text)) << schema << " should take " << text;
  for (const std::string &text : bad)
    EXPECT_FALSE(accepts(grammar, text)) << schema << " should not take " << text;
}

TEST(GrammarTest, PlainTypes) {
  expectTexts(R"({"type": "string"})",
              {R"("")", R"("a\n\u00e9\ud83d\ude00")", "\"\xC3\xA9\xF0\x9F\x98\x80\"", "  \"a\"\n"},
              {"a", "\"", "\"\n\"", R"("\x")", R"("\ud83d")", R"("\u12")", "\"\xff\"", "\"\xC3\"", "\"\xED\xA0\x80\"",
               R"("a" "b")", ""});
  expectTexts(R"({"type": "integer"})", {"0", "-7", "120"}, {"01", "1.0", "1e3", "-", "+1"});
  expectTexts(R"({"type": "number"})", {"0", "-0.5", "1e10", "3.25E-7"}, {".5", "1.", "1e", "NaN", "--1"});
  expectTexts(R"({"type": "boolean"})", {"true", "false"}, {"True", "tru", "1"});
  expectTexts(R"({"type": ["null", "integer"]})", {"null", "3"}, {"true", ""});
  expectTexts("true", {"1", "[]", "{}"}, {"x"});
}

TEST(GrammarTest, ObjectsHaveTheirPropertiesInOrder) {
  expectTexts(R"({"type": "object", "required": ["b"],
                  "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {}}})",
              {R"({"b":"x"})", R"({"a":1,"b":"x"})", R"({ "a" : 1 , "b" : "x" , "c" : [null] })", R"({"b":"","c":{}})"},
              {"{}", R"({"a":1})", R"({"b":"x","a":1})", R"({"b":"x",})", R"({"b":"x","d":1})", R"({,"b":"x"})",
               R"({"a":"1","b":"x"})"});
  expectTexts(R"({"properties": {}})", {"{}", "{ }"}, {R"({"a":1})"});
  expectTexts(R"({"type": "object"})", {"{}", R"({"a":{"b":[1,"x"]},"c":null})"}, {R"({"a"})", R"({a:1})", "[]"});
}

TEST(GrammarTest, ArraysHaveTheirLength) {
  expectTexts(R"({"type": "array", "items": {"type": "integer"}})", {"[]", "[1]", "[ 1 , 2 , 3 ]"},
              {"[1,]", "[,1]", "[\"a\"]", "[1"});
  expectTexts(R"({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3})", {"[1,2]", "[1,2,3]"},
              {"[]", "[1]", "[1,2,3,4]"});
  expectTexts(R"({"type": "array", "items": {"type": "integer"}, "minItems": 2})", {"[1,2]", "[1,2,3,4]"},
              {"[]", "[1]"});
  expectTexts(R"({"type": "array", "maxItems": 1})", {"[]", "[{}]"}, {"[1,2]"});
  expectTexts(R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"});
}

TEST(GrammarTest, ChoicesAndReferences) {
  expectTexts(R"({"enum": ["red", 3, null, {"a": [1]}]})", {R"("red")", "3", "null", R"({"a":[1]})"},
              {R"("re")", "4", "{}"});
  expectTexts(R"({"const": "x"})", {R"("x")"}, {R"("y")"});
  expectTexts(R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]})", {"1", "[null]"},
              {"[1]", "x"});
  // A tree, which refers to itself.
  expectTexts(R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["value"], "properties": {
                  "value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}})",
              {R"({"value":1})", R"({"value":1,"children":[{"value":2,"children":[]},{"value":3}]})"},
              {R"({"value":1,"children":[1]})"});
  // One that says nothing but itself takes nothing, and ends.
  EXPECT_FALSE(accepts(grammarOf(R"({"$ref": "#"})"), "1"));
}

TEST(GrammarTest, WhatCannotBeHeldIsRefused) {
  auto message = [](const std::string &schema) {
    return std::string(Grammar::ofSchema(*parseJson(schema)).status().message());
  };
  EXPECT_THAT(message(R"({"type": "string", "pattern": "a+"})"), HasSubstr("pattern is not supported"));
  EXPECT_THAT(message(R"({"properties": {"a": {"type": "integer", "minimum": 3}}})"), HasSubstr("schema.a: minimum"));
  EXPECT_THAT(message(R"({"type": "word"})"), HasSubstr("type: expected"));
  EXPECT_THAT(message(R"({"$ref": "#/nowhere"})"), HasSubstr("there is no #/nowhere"));
  EXPECT_THAT(message(R"({"$ref": "http://other"})"), HasSubstr("into the schema itself"));
  EXPECT_THAT(message(R"({"type": "array", "maxItems": 1000000000})"), HasSubstr("maxItems: expected"));
  EXPECT_THAT(message(R"({"enum": []})"), HasSubstr("enum: expected"));
  EXPECT_THAT(message(R"({"properties": {"a": 3}})"), HasSubstr("schema.a: expected an object"));
  EXPECT_THAT(message(R"({"properties": {}, "required": ["a"]})"), HasSubstr("required: "));
}

std::shared_ptr<const Grammar> textGrammar(const std::string &text) {
  auto grammar = Grammar::ofText(text);
  EXPECT_TRUE(grammar.ok()) << text << ": " << grammar.status();
  return grammar.ok() ? *grammar : Grammar::ofObject();
}

void expectWords(const std::string &text, const std::vector<std::string> &good, const std::vector<std::string> &bad) {
  auto grammar = textGrammar(text);
  for (const std::string &word : good)
    EXPECT_TRUE(accepts(grammar, word)) << text << " should take " << word;
  for (const std::string &word : bad)
    EXPECT_FALSE(accepts(grammar, word)) << text << " should not take " << word;
}

TEST(GrammarTextTest, LiteralsClassesAndRepetitions) {
  expectWords(R"(root ::= "yes" | "no")", {"yes", "no"}, {"", "y", "yesno"});
  expectWords("# a comment\nroot ::= [a-c]+ [^a-c]? # another\n", {"a", "abc", "cab-", "a\xC3\xA9"},
              {"", "-", "a--", "ad d"});
  expectWords(R"(root ::= "a"{2} "b"{1,3} "c"{2,} "d"*)", {"aabcc", "aabbbccccddd"},
              {"abcc", "aabbbbcc", "aabc", "aacc"});
  expectWords(R"(root ::= "a"{0,0} "b")", {"b"}, {"ab", ""});
  expectWords(R"(root ::= ("a" | "b" "c")+)", {"a", "bc", "abca"}, {"b", ""});
  expectWords(R"(root ::= "\"\\\n\x41\u00e9\U0001F600")", {"\"\\\nA\xC3\xA9\xF0\x9F\x98\x80"}, {"\"\\\nA"});
  expectWords(R"(root ::= [\]\-x-z])", {"]", "-", "y"}, {"w", "\\"});
  expectWords("root ::= .", {"a", "\n", "\xC3\xA9", "\xF4\x8F\xBF\xBF"},
              {"", "ab", "\xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80"});
}

// Every character, in ranges that begin and end anywhere.
TEST(GrammarTextTest, ClassesAreTheirCharacters) {
  std::mt19937 random = golden::repeatable(5);
  auto character = [&] {
    const uint32_t limit = std::array{0x80U, 0x800U, 0x10000U, 0x110000U}[random() % 4];
    for (;;)
      if (uint32_t value = static_cast<uint32_t>(random()) % limit; value < 0xD800 || value > 0xDFFF)
        return value;
  };
  for (int round = 0; round < 200; ++round) {
    uint32_t first = character(), last = character();
    if (first > last)
      std::swap(first, last);
    auto grammar = textGrammar(absl::StrFormat("root ::= [\\U%08x-\\U%08x]", first, last));
    for (uint32_t value :
         {first, last, first ? first - 1 : 0, last + 1, character(), character(), (first + last) / 2}) {
      if ((value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF)
        continue;
      std::string spelled;
      utf8::append(spelled, value);
      EXPECT_EQ(accepts(grammar, spelled), first <= value && value <= last) << first << " " << value << " " << last;
    }
  }
}

TEST(GrammarTextTest, RulesReferToEachOther) {
  expectWords("root ::= expr\nexpr ::= term (\"+\" term)*\nterm ::= [0-9]+ | \"(\" expr \")\"\n",
              {"1", "1+22", "(1+(2))+3"}, {"", "1+", "(1", "1)"});
  // Over several lines, with a rule that is used before it is there and one that ends with itself.
  expectWords("root ::= (\n  list |\n  \"none\"\n)\nlist ::= \"x\" | \"x,\" list", {"none", "x", "x,x,x"}, {"x,", ""});
  // Something that may be nothing, any number of times.
  expectWords(R"(root ::= ("a"? "b"?)* "c")", {"c", "abbac"}, {"ab"});
}

TEST(GrammarTextTest, WhatIsNoGrammarIsRefusedWithItsLine) {
  auto message = [](const std::string &text) { return std::string(Grammar::ofText(text).status().message()); };
  EXPECT_THAT(message(""), HasSubstr("rule `root`"));
  EXPECT_THAT(message("root ::= a\n\na ::= b"), HasSubstr("line 3: there is no rule `b`"));
  EXPECT_THAT(message("root ::= \"a"), HasSubstr("line 1: expected a closing \""));
  EXPECT_THAT(message("root ::= [a"), HasSubstr("closing ]"));
  EXPECT_THAT(message("root ::= [b-a]"), HasSubstr("rising order"));
  EXPECT_THAT(message("root ::= []"), HasSubstr("at least one character"));
  EXPECT_THAT(message("root ::= (\"a\""), HasSubstr("expected )"));
  EXPECT_THAT(message("root ::= \"a\"\nroot ::= \"b\""), HasSubstr("line 2: the rule `root` is there twice"));
  EXPECT_THAT(message("root = \"a\""), HasSubstr("expected ::="));
  EXPECT_THAT(message("root ::= \"\\q\""), HasSubstr("an escape"));
  EXPECT_THAT(message("root ::= \"a\"{3,2}"), HasSubstr("{n,m}"));
  EXPECT_THAT(message("root ::= \"a\"{100000}"), HasSubstr("at most 1000"));
  EXPECT_THAT(message("root ::= \"\xff\""), HasSubstr("UTF-8"));
  EXPECT_THAT(message("root ::= root"), HasSubstr("never comes to an end"));
  EXPECT_THAT(message("root ::= \"a\" root"), HasSubstr("never comes to an end"));
  EXPECT_THAT(message("root ::= root \"a\" | \"a\""), HasSubstr("(`root`) begins with itself"));
  EXPECT_THAT(message("root ::= \"x\"? a | \"z\"\na ::= b? root \"y\"\nb ::= \"b\""), HasSubstr("begins with itself"));
  EXPECT_THAT(message("root ::= " + std::string(100, '(') + "\"a\"" + std::string(100, ')')), HasSubstr("parentheses"));
  std::string large = "root ::= ((((\"a\"{1000}){1000}){1000}){1000})";
  EXPECT_TRUE(Grammar::ofText(large).ok());
  for (int rule = 0; rule < 400; ++rule)
    large += absl::StrCat("\nr", rule, " ::= \"a\"{1000}");
  EXPECT_THAT(message(large), HasSubstr("smaller grammar"));
}

TEST(GrammarTextTest, AMatcherGivesUpInsteadOfWorkingForEver) {
  Matcher matcher(textGrammar(R"(root ::= "x" root "a" | "x" root "b" | "x")"));
  Matcher::State state = matcher.start();
  for (int count = 0; count < 64 && !state.empty(); ++count)
    state = matcher.step(state, 'x');
  EXPECT_TRUE(state.empty());
  EXPECT_TRUE(matcher.gaveUp());
}

TEST(GrammarTextTest, CallsHaveANameAndItsArguments) {
  const Json tools = *parseJson(R"([{"type": "function", "function": {"name": "look", "parameters":
      {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}}},
      {"type": "function", "function": {"name": "go", "parameters": {"type": "object", "patternProperties": {}}}},
      {"type": "function", "function": {"name": "stop"}}])");
  auto any = Grammar::ofCall(tools, "", "<call>", "</call>"), one = Grammar::ofCall(tools, "look", "[C]", "");
  ASSERT_TRUE(any.ok() && one.ok());
  EXPECT_TRUE(accepts(*any, "<call>\n{\"name\": \"look\", \"arguments\": {\"x\": 1}}\n</call>"));
  EXPECT_TRUE(accepts(*any, "<call>{\"name\": \"go\", \"arguments\": {\"y\": []}}</call>"));
  EXPECT_TRUE(accepts(*any, "<call>{\"name\": \"stop\", \"arguments\": {}}</call>"));
  EXPECT_FALSE(accepts(*any, "<call>{\"name\": \"look\", \"arguments\": {\"y\": 1}}</call>"));
  EXPECT_FALSE(accepts(*any, "hello"));
  EXPECT_TRUE(accepts(*one, "[C][{\"name\": \"look\", \"arguments\": {\"x\": 1}}]"));
  EXPECT_FALSE(accepts(*one, "[C][{\"name\": \"stop\", \"arguments\": {}}]"));
  EXPECT_THAT(std::string(Grammar::ofCall(tools, "run", "", "").status().message()), HasSubstr("no function run"));
}

// Replies drawn at random from what the filter allows are JSON, and of the schema's form.
TEST(GrammarFilterTest, WhateverIsAllowedIsRight) {
  auto tokenizer = Tokenizer::create(golden::dataOf(golden::readJson("bpe_smollm")));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto table = std::make_shared<const TokenTable>(**tokenizer);
  auto grammar = grammarOf(R"({"type": "object", "required": ["name", "size"], "properties": {
      "name": {"enum": ["box", "ball"]}, "size": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
      "note": {"type": "string"}}})");
  const int32_t end = (*tokenizer)->eos();
  ASSERT_GE(end, 0);
  std::mt19937 random = golden::repeatable(11);
  int complete = 0;
  for (int round = 0; round < 40; ++round) {
    GrammarFilter filter(grammar, table, **tokenizer, {end}, round % 2 ? "</think>" : "");
    std::vector<int32_t> reply;
    if (round % 2) {
      // Before the marker anything goes.
      EXPECT_TRUE(filter.mask(static_cast<uint32_t>((*tokenizer)->size())).empty());
      for (int32_t token : (*tokenizer)->encode("hm</think>"))
        filter.accept(token);
    }
    bool ended = false;
    for (int step = 0; step < 300 && !ended; ++step) {
      std::vector<float> row(static_cast<size_t>((*tokenizer)->size()), 1.0F);
      exclude(filter.mask(static_cast<uint32_t>(row.size())), row);
      std::vector<int32_t> allowed;
      for (size_t id = 0; id < row.size(); ++id)
        if (row[id] == 1.0F)
          allowed.push_back(static_cast<int32_t>(id));
      ASSERT_FALSE(allowed.empty());
      int32_t token = allowed[random() % allowed.size()];
      // An end is taken where it may come; so random strings end too.
      if (row[static_cast<size_t>(end)] == 1.0F)
        token = end;
      ended = token == end;
      filter.accept(token);
      if (!ended)
        reply.push_back(token);
    }
    if (!ended)
      continue;
    ++complete;
    std::string text;
    for (int32_t token : reply)
      text += (*tokenizer)->pieceBytes(token);
    auto json = parseJson(text);
    ASSERT_TRUE(json.ok()) << text << ": " << json.status();
    EXPECT_TRUE((*json)["name"] == "box" || (*json)["name"] == "ball") << text;
    EXPECT_TRUE((*json)["size"].is_array() && (*json)["size"].size() <= 3) << text;
  }
  EXPECT_GT(complete, 10);
}

} // namespace
} // namespace ingot
