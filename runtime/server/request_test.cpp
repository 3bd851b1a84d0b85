#include "runtime/server/request.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ingot {
namespace {

using ::testing::HasSubstr;

std::string chatError(const std::string &fields) {
  return std::string(
      parseChatRequest(R"({"messages": [{"role": "user", "content": "x"}], )" + fields + "}").status().message());
}

TEST(RequestTest, AChatWithEverything) {
  auto request = parseChatRequest(R"({
    "model": "m", "stream": true, "stream_options": {"include_usage": true}, "n": 3, "max_completion_tokens": 7,
    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": -5, "stop": "END", "logprobs": true,
    "top_logprobs": 4, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5,
    "logit_bias": {"7": 3.5}, "chat_template_kwargs": {"enable_thinking": false}, "user": "ignored", "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "messages": [
      {"role": "developer", "content": "be kind"},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "tool_calls": [
        {"id": "123456789", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}}]},
      {"role": "tool", "tool_call_id": "123456789", "content": "done"}]})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->chat && request->stream && request->includeUsage);
  EXPECT_EQ(request->choices, 3u);
  EXPECT_EQ(request->maxTokens, 7u);
  EXPECT_EQ(request->seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(request->stops, std::vector<std::string>{"END"});
  EXPECT_EQ(request->generation.logprobs, 4u);
  EXPECT_EQ(request->generation.sampling.topK, 40);
  EXPECT_FLOAT_EQ(request->generation.rules.minP, 0.1F);
  EXPECT_EQ(request->generation.rules.bias.at(7), 3.5F);
  EXPECT_EQ(request->variables["enable_thinking"], false);
  EXPECT_EQ(request->messages[0]["role"], "system");
  EXPECT_EQ(request->messages[1]["content"], "a\nb");
  EXPECT_EQ(request->messages[2]["content"], "");
  // Arguments as an object, its keys in their order.
  EXPECT_EQ(request->messages[2]["tool_calls"][0]["function"]["arguments"].dump(), R"({"b":1,"a":2})");
  EXPECT_EQ(request->tools.size(), 1u);
}

TEST(RequestTest, WhatIsLeftOutHasOpenAisDefaults) {
  auto chat = parseChatRequest(R"({"messages": [{"role": "user", "content": "x"}], "stop": null, "tools": []})");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->generation.sampling.temperature, 1);
  EXPECT_EQ(chat->choices, 1u);
  EXPECT_FALSE(chat->maxTokens || chat->seed || chat->generation.logprobs);
  EXPECT_TRUE(chat->tools.is_null());
  EXPECT_TRUE(chat->generation.rules.none());
  auto text = parseCompletionRequest(R"({"prompt": ["a", "b"]})");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->maxTokens, 16u);
  EXPECT_EQ(text->prompts.size(), 2u);
  EXPECT_EQ(parseCompletionRequest(R"({"prompt": [5, 6]})")->prompts[0].tokens, (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(parseCompletionRequest(R"({"prompt": [[5], [6]]})")->prompts.size(), 2u);
  EXPECT_TRUE(parseChatRequest(R"({"messages": [{"role": "user", "content": "x"}], "tool_choice": "none",
                                   "tools": [{"type": "function", "function": {"name": "f"}}]})")
                  ->tools.is_null());
}

TEST(RequestTest, ErrorsNameTheirField) {
  EXPECT_THAT(chatError(R"("n": 0)"), HasSubstr("n: expected an integer from 1 to 16, got 0"));
  EXPECT_THAT(chatError(R"("max_tokens": 1.5)"), HasSubstr("max_tokens: expected an integer"));
  EXPECT_THAT(chatError(R"("seed": 18446744073709551615)"), HasSubstr("seed: expected an integer"));
  EXPECT_THAT(chatError(R"("temperature": "x")"), HasSubstr("temperature: expected a number, got string"));
  EXPECT_THAT(chatError(R"("top_p": 2)"), HasSubstr("top_p: expected a number from 0 to 1"));
  EXPECT_THAT(chatError(R"("stop": ["a", ""])"), HasSubstr("stop: "));
  EXPECT_THAT(chatError(R"("stream": 1)"), HasSubstr("stream: expected true or false"));
  EXPECT_THAT(chatError(R"("top_logprobs": 2)"), HasSubstr("top_logprobs: goes only with"));
  EXPECT_THAT(chatError(R"("logit_bias": {"a": 1})"), HasSubstr("logit_bias: "));
  EXPECT_THAT(chatError(R"("tools": [{}])"), HasSubstr("tools: "));
  EXPECT_THAT(chatError(R"("tool_choice": "required")"), HasSubstr("tool_choice: "));
  EXPECT_THAT(chatError(R"("response_format": {"type": "json_schema"})"), HasSubstr("response_format: "));
  EXPECT_THAT(chatError(R"("response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "a"}}})"),
              HasSubstr("response_format: schema: pattern is not supported"));
  EXPECT_THAT(chatError(R"("chat_template_kwargs": {"messages": []})"), HasSubstr("chat_template_kwargs: messages"));
  auto message = [](const std::string &json) {
    return std::string(parseChatRequest(R"({"messages": [)" + json + "]}").status().message());
  };
  EXPECT_THAT(message("3"), HasSubstr("messages[0]: expected an object with a role"));
  EXPECT_THAT(message(R"({"role": "user", "content": 3})"), HasSubstr("messages[0].content: expected"));
  EXPECT_THAT(message(R"({"role": "user", "content": [{"type": "image_url"}]})"), HasSubstr("takes text only"));
  EXPECT_THAT(message(R"({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]})"),
              HasSubstr("messages[0].tool_calls: arguments: "));
  EXPECT_THAT(std::string(parseCompletionRequest("{}").status().message()), HasSubstr("prompt: expected"));
  EXPECT_THAT(std::string(parseCompletionRequest(R"({"prompt": [-1]})").status().message()), HasSubstr("prompt: "));
  EXPECT_THAT(std::string(parseCompletionRequest("[]").status().message()), HasSubstr("body: expected a JSON object"));
}

} // namespace
} // namespace ingot
