#include "runtime/server/reply.h"

#include <fstream>
#include <iterator>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/tokenizer/special_tokens.h" // Tokenizer's inline destructor needs it

namespace ingot {
namespace {

struct Heard {
  std::string content, reasoning;
  std::vector<std::pair<std::string, std::string>> calls;
  bool operator==(const Heard &) const = default;
};

std::ostream &operator<<(std::ostream &out, const Heard &heard) {
  out << "content \"" << heard.content << "\" reasoning \"" << heard.reasoning << '"';
  for (const auto &[name, arguments] : heard.calls)
    out << " call " << name << arguments;
  return out;
}

void hear(Heard &heard, std::vector<ReplyPart> &parts) {
  for (ReplyPart &part : parts)
    if (part.kind == ReplyPart::kToolCall)
      heard.calls.emplace_back(part.call.name, part.call.arguments);
    else
      (part.kind == ReplyPart::kContent ? heard.content : heard.reasoning) += part.text;
  parts.clear();
}

// Splits `text` given in pieces of `size` bytes.
Heard split(const ReplySplitter::Options &options, std::string_view text, size_t size) {
  ReplySplitter splitter(options);
  Heard heard;
  std::vector<ReplyPart> parts;
  for (size_t at = 0; at < text.size(); at += size)
    splitter.push(text.substr(at, size), parts);
  splitter.finish(parts);
  hear(heard, parts);
  return heard;
}

// However the text is cut, the parts are the same.
void expectSplit(const ReplySplitter::Options &options, std::string_view text, const Heard &expected) {
  for (size_t size : {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{7}, size_t{11}, text.size()})
    EXPECT_EQ(split(options, text, size), expected) << text << " by " << size;
}

ReplyFormat qwen() { return {"<think>", "</think>", "<tool_call>", "</tool_call>"}; }
ReplyFormat mistral() { return {"", "", "[TOOL_CALLS]", ""}; }
ReplyFormat gemma() { return {"<|channel>thought\n", "<channel|>", "<|tool_call>", "<tool_call|>"}; }

TEST(ReplyFormatTest, IsReadFromTheTemplate) {
  auto read = [](const char *name) {
    std::ifstream in(std::string(INGOT_SOURCE_DIR "/tests/tokenizer/templates/") + name);
    return ReplyFormat::of(std::string(std::istreambuf_iterator<char>(in), {}));
  };
  EXPECT_EQ(read("qwen3.jinja").reasoningClose, "</think>");
  EXPECT_EQ(read("qwen3.jinja").toolOpen, "<tool_call>");
  EXPECT_EQ(read("mistral.jinja").toolOpen, "[TOOL_CALLS]");
  EXPECT_EQ(read("mistral.jinja").toolClose, "");
  EXPECT_EQ(read("chatml.jinja").toolOpen, "");
  EXPECT_EQ(read("chatml.jinja").reasoningOpen, "");
  ReplyFormat gemma = ReplyFormat::of("{{ '<|channel>thought\\n<channel|>' }} <|tool_call>call:");
  EXPECT_EQ(gemma.reasoningOpen, "<|channel>thought\n");
  EXPECT_EQ(gemma.toolClose, "<tool_call|>");
  EXPECT_TRUE(gemma.isMarker("<|channel>"));
  EXPECT_TRUE(gemma.isMarker("<|\"|>"));
  EXPECT_FALSE(gemma.isMarker("<turn|>"));
}

TEST(ReplySplitterTest, TextWithoutMarkersIsContentByteForByte) {
  for (bool tools : {false, true})
    for (const char *text : {"plain", "  spaces around  \n", "a < b <t <to <tool", "", "\n\n", "x<think>y</think>"})
      expectSplit({.format = qwen(), .toolCalls = tools, .tools = {}}, text, {text, "", {}});
  expectSplit({}, "<think>a</think><tool_call>{}</tool_call>", {"<think>a</think><tool_call>{}</tool_call>", "", {}});
}

TEST(ReplySplitterTest, ReasoningIsApart) {
  ReplySplitter::Options options{.format = qwen(), .tools = {}};
  expectSplit(options, "<think>\nwhy not\n</think>\n\nBecause.", {"Because.", "why not", {}});
  expectSplit(options, "\n<think>\n\n</think>\n\nYes", {"Yes", "", {}});
  expectSplit(options, "<think>never ends", {"", "never ends", {}});
  options.inReasoning = true;
  expectSplit(options, "\nfrom the prompt on\n</think>\nSo.\n", {"So.\n", "from the prompt on", {}});
  EXPECT_TRUE(endsInReasoning("<|im_start|>assistant\n<think>\n", qwen()));
  EXPECT_FALSE(endsInReasoning("<think>\n\n</think>\n\n", qwen()));
  EXPECT_FALSE(endsInReasoning("assistant\n", mistral()));
  expectSplit({.format = gemma(), .tools = {}}, "<|channel>thought\nhm\n<channel|>Yes", {"Yes", "hm", {}});
}

TEST(ReplySplitterTest, HermesCalls) {
  ReplySplitter::Options options{.format = qwen(), .toolCalls = true, .tools = {}};
  expectSplit(
      options,
      "<think>\nneed two\n</think>\n\nLet me see.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": "
      "\"</tool\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
      {"Let me see.", "need two", {{"f", R"({"b":1,"a":"</tool"})"}, {"g", "{}"}}});
  // Arguments as text, and none at all.
  expectSplit(options, R"(<tool_call>{"name": "f", "arguments": "{\"x\": [1, 2]}"}</tool_call>)",
              {"", "", {{"f", R"({"x":[1,2]})"}}});
  expectSplit(options, R"(<tool_call>{"name": "f"}</tool_call> done)", {"done", "", {{"f", "{}"}}});
}

TEST(ReplySplitterTest, QwenXmlCallsFollowTheSchema) {
  auto tools = parseJson(R"([{"type": "function", "function": {"name": "write", "parameters": {"properties": {
    "path": {"type": "string"}, "lines": {"type": "integer"}, "deep": {"type": "object"}}}}}])");
  ASSERT_TRUE(tools.ok());
  expectSplit({.format = qwen(), .toolCalls = true, .tools = *tools},
              "<tool_call>\n<function=write>\n<parameter=path>\n123\n</parameter>\n<parameter=lines>\n7\n</parameter>\n"
              "<parameter=deep>\n{\"a\": null}\n</parameter>\n<parameter=other>\n  kept \\ as is\n\n</parameter>\n"
              "</function>\n</tool_call>",
              {"", "", {{"write", R"({"path":"123","lines":7,"deep":{"a":null},"other":"  kept \\ as is\n"})"}}});
}

TEST(ReplySplitterTest, MistralCalls) {
  ReplySplitter::Options options{.format = mistral(), .toolCalls = true, .tools = {}};
  expectSplit(options, R"(Wait.[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}])",
              {"Wait.", "", {{"f", R"({"x":1})"}, {"g", "{}"}}});
  expectSplit(options, R"([TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{})",
              {"", "", {{"f", R"({"x":1})"}, {"g", "{}"}}});
}

TEST(ReplySplitterTest, GemmaCalls) {
  expectSplit({.format = gemma(), .toolCalls = true, .tools = {}},
              "<|tool_call>call:f{city:<|\"|>Rome, {IT}<|\"|>,days:3,deep:{on:true,list:[1,<|\"|>a<|\"|>]},no:null}"
              "<tool_call|>",
              {"", "", {{"f", R"({"city":"Rome, {IT}","days":3,"deep":{"on":true,"list":[1,"a"]},"no":null})"}}});
}

TEST(ReplySplitterTest, WhatIsNoCallIsContent) {
  ReplySplitter::Options options{.format = qwen(), .toolCalls = true, .tools = {}};
  for (const char *text :
       {"<tool_call>not json</tool_call>", "<tool_call>{\"name\": 3}</tool_call>", "<tool_call>{\"name\": \"f\", ",
        "<tool_call>[]</tool_call>", "<tool_call><function=f><parameter=x>1</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>", "<tool_call></tool_call>"})
    expectSplit(options, text, {text, "", {}});
}

TEST(ReplySplitterTest, AnyCutOfAnyTextGivesTheSame) {
  constexpr std::string_view kPieces[] = {"<think>", "</think>", "<tool_call>", "</tool_call>", "{\"name\": \"f\"}",
                                          " ",       "\n",       "<",           "word",         "</t"};
  std::mt19937 random(5); // NOLINT(bugprone-random-generator-seed): a test repeats itself
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (uint32_t count = random() % 12; count > 0; --count)
      text += kPieces[random() % std::size(kPieces)];
    ReplySplitter::Options options{.format = qwen(), .toolCalls = random() % 2 == 0, .tools = {}};
    Heard whole = split(options, text, text.size() + 1);
    for (size_t size : {1u, 2u, 4u})
      ASSERT_EQ(split(options, text, size), whole) << text;
  }
}

TEST(StopMatcherTest, HoldsBackWhatMayBecomeAStop) {
  StopMatcher stop({"END", "\n\n"});
  EXPECT_EQ(stop.push("abc E"), "abc ");
  EXPECT_EQ(stop.push("N"), "");
  EXPECT_EQ(stop.push("x"), "ENx");
  EXPECT_EQ(stop.push("\n"), "");
  EXPECT_FALSE(stop.found());
  EXPECT_EQ(stop.push("y E\n\nrest"), "\ny E");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");
  StopMatcher unmet({"END"});
  EXPECT_EQ(unmet.push("the EN"), "the ");
  EXPECT_EQ(unmet.finish(), "EN");
  // The earliest of several wins, not the first in the list.
  StopMatcher two({"b", "a"});
  EXPECT_EQ(two.push("xxab"), "xx");
}

TEST(ToolCallsTest, DeepAndBrokenInputIsRefused) {
  std::string deep(100000, '[');
  EXPECT_FALSE(parseToolCalls(deep, nullptr).ok());
  EXPECT_FALSE(parseToolCalls("call:f{x:" + deep + "}", nullptr).ok());
  EXPECT_FALSE(parseToolCalls("call:f{x:<|\"|>open}", nullptr).ok());
  EXPECT_FALSE(parseToolCalls("f[ARGS][1]", nullptr).ok());
  EXPECT_FALSE(parseToolCalls("", nullptr).ok());
  EXPECT_FALSE(parseJson("{\"a\": \"\xff\"}").ok());
  EXPECT_FALSE(parseJson("\"\\ud800\"").ok());
}

} // namespace
} // namespace ingot
