#include "runtime/server/answer.h"

#include <algorithm>
#include <ctime>
#include <random>

#include "absl/strings/str_cat.h"

#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr size_t kNameLength = 9;
constexpr uint64_t kNameCount = 13537086546263552; // 62^9

const char *finishReason(Finish finish, bool calls) {
  switch (finish) {
  case Finish::kEnd:
  case Finish::kStopped:
    return calls ? "tool_calls" : "stop";
  case Finish::kLength:
    return "length";
  case Finish::kCancelled:
    return "cancelled";
  case Finish::kFailed:
    break;
  }
  return "error";
}

Json tokenEntry(const Tokenizer &tokenizer, const TokenLogprob &token) {
  std::string_view bytes = tokenizer.pieceBytes(token.id);
  Json numbers = Json::array();
  for (char byte : bytes)
    numbers.push_back(static_cast<uint8_t>(byte));
  return {{"token", utf8::replaceBroken(bytes)}, {"logprob", token.logprob}, {"bytes", numbers}};
}

} // namespace

Names::Names() {
  std::random_device random;
  first = (uint64_t(random()) << 32 | random()) % kNameCount;
}

std::string Names::next() {
  // A step that shares no factor with 62^9 visits each number once before any twice.
  constexpr uint64_t kStep = 6364136223846793;
  static_assert(kStep % 2 == 1 && kStep % 31 != 0);
  auto number =
      static_cast<uint64_t>((first + static_cast<unsigned __int128>(count.fetch_add(1)) * kStep) % kNameCount);
  std::string name(kNameLength, '0');
  for (size_t place = kNameLength; place-- > 0; number /= kDigits.size())
    name[place] = kDigits[number % kDigits.size()];
  return name;
}

Answer::Answer(const ApiRequest &request, const Service &service, Names &names, uint32_t choices)
    : chat(request.chat), wantsLogprobs(request.generation.logprobs.has_value()), perPrompt(request.choices),
      service(service), names(names), id(absl::StrCat(chat ? "chatcmpl-" : "cmpl-", names.next())),
      created(static_cast<int64_t>(std::time(nullptr))), choices(choices) {}

Json Answer::envelope(const char *chatObject, const char *textObject) const {
  return {{"id", id}, {"object", chat ? chatObject : textObject}, {"created", created}, {"model", service.name()}};
}

// `delta`: the difference that a chat shows; for a completion only its content is told.
Json Answer::chunk(uint32_t choice, Json delta) const {
  Json made = envelope("chat.completion.chunk", "text_completion");
  Json entry = {{"index", choice}};
  if (chat)
    entry["delta"] = std::move(delta);
  else
    entry["text"] = delta.value("content", "");
  entry["logprobs"] = nullptr;
  entry["finish_reason"] = nullptr;
  made["choices"] = Json::array({entry});
  return made;
}

std::vector<Json> Answer::opening() const {
  std::vector<Json> chunks;
  if (chat)
    for (uint32_t choice = 0; choice < choices.size(); ++choice)
      chunks.push_back(chunk(choice, {{"role", "assistant"}, {"content", ""}}));
  return chunks;
}

Json Answer::logprobOf(const ChosenToken &token, Choice &choice) const {
  Json entry = tokenEntry(service.tokenizer(), {token.id, token.logprob});
  Json likeliest = Json::array();
  for (const TokenLogprob &each : token.likeliest)
    likeliest.push_back(tokenEntry(service.tokenizer(), each));
  entry["top_logprobs"] = std::move(likeliest);
  choice.logprobs.push_back(entry);
  return entry;
}

// The older form that completions have.
Json Answer::completionLogprobs(const Json &entries) const {
  Json tokens = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  size_t offset = 0;
  for (const Json &entry : entries) {
    tokens.push_back(entry["token"]);
    values.push_back(entry["logprob"]);
    Json top = Json::object();
    for (const Json &each : entry["top_logprobs"])
      top[each["token"].get<std::string>()] = each["logprob"];
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += utf8::countCodePoints(entry["token"].get<std::string>());
  }
  return {{"tokens", tokens}, {"token_logprobs", values}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

std::vector<Json> Answer::add(const ReplyEvent &event) {
  Choice &choice = choices[event.choice];
  std::vector<Json> chunks;
  for (const ReplyPart &part : event.parts) {
    if (part.kind == ReplyPart::kToolCall) {
      Json call = {{"id", names.next()},
                   {"type", "function"},
                   {"function", {{"name", part.call.name}, {"arguments", part.call.arguments}}}};
      Json indexed = {{"index", choice.calls.size()}};
      indexed.update(call);
      choice.calls.push_back(std::move(call));
      chunks.push_back(chunk(event.choice, {{"tool_calls", Json::array({indexed})}}));
    } else {
      bool content = part.kind == ReplyPart::kContent;
      (content ? choice.content : choice.reasoning) += part.text;
      chunks.push_back(chunk(event.choice, {{content ? "content" : "reasoning_content", part.text}}));
    }
  }
  if (event.token && wantsLogprobs) {
    // Each token's figures go out with it, also where its text is held back.
    if (chunks.empty())
      chunks.push_back(chunk(event.choice, {{"content", ""}}));
    Json entries = Json::array({logprobOf(*event.token, choice)});
    chunks.back()["choices"][0]["logprobs"] = chat ? Json{{"content", entries}} : completionLogprobs(entries);
  }
  if (event.outcome) {
    const Outcome &outcome = *event.outcome;
    choice.finish = finishReason(outcome.finish, !choice.calls.empty());
    chunks.push_back(chunk(event.choice, Json::object()));
    chunks.back()["choices"][0]["finish_reason"] = choice.finish;
    // Copies of a prompt are charged once.
    if (event.choice % perPrompt == 0) {
      prompt += outcome.promptTokens;
      reused += outcome.reusedTokens;
    }
    produced += outcome.replyTokens;
    firstToken = std::max(firstToken, outcome.firstTokenSeconds);
    failed.Update(outcome.status);
  }
  return chunks;
}

Json Answer::usage() const {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", produced},
          {"total_tokens", prompt + produced},
          {"prompt_tokens_details", {{"cached_tokens", reused}}}};
}

Json Answer::usageChunk() const {
  Json made = envelope("chat.completion.chunk", "text_completion");
  made["choices"] = Json::array();
  made["usage"] = usage();
  return made;
}

Json Answer::whole() const {
  Json made = envelope("chat.completion", "text_completion");
  made["choices"] = Json::array();
  for (size_t index = 0; index < choices.size(); ++index) {
    const Choice &choice = choices[index];
    Json entry = {{"index", index}};
    if (chat) {
      Json message = {{"role", "assistant"}};
      message["content"] = choice.content.empty() && !choice.calls.empty() ? Json() : Json(choice.content);
      if (!choice.reasoning.empty())
        message["reasoning_content"] = choice.reasoning;
      if (!choice.calls.empty())
        message["tool_calls"] = choice.calls;
      entry["message"] = std::move(message);
    } else {
      entry["text"] = choice.content;
    }
    entry["logprobs"] = !wantsLogprobs ? Json()
                        : chat         ? Json{{"content", choice.logprobs}}
                                       : completionLogprobs(choice.logprobs);
    entry["finish_reason"] = choice.finish;
    made["choices"].push_back(std::move(entry));
  }
  made["usage"] = usage();
  return made;
}

std::string Answer::finishReasons() const {
  std::string text;
  for (const Choice &choice : choices)
    absl::StrAppend(&text, text.empty() ? "" : ",", choice.finish);
  return text;
}

} // namespace ingot
