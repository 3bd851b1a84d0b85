// OpenAI's responses: one JSON object, or a stream of chunks, made of the events of a request.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/server/service.h"

namespace ingot {

// Names that no other thing in this server's life has, of nine letters and digits: the one form of call ids that every
// family's template takes.
class Names {
public:
  Names();
  std::string next();

private:
  uint64_t first;
  std::atomic<uint64_t> count = 0;
};

class Answer {
public:
  Answer(const ApiRequest &request, const Service &service, Names &names, uint32_t choices);

  // Takes an event and gives the chunks for a stream, each as JSON without `data:`.
  std::vector<Json> add(const ReplyEvent &event);
  // The first chunks of a stream, before any event.
  std::vector<Json> opening() const;
  // After all events: the whole object, and for a stream the chunk that has the usage alone.
  Json whole() const;
  Json usageChunk() const;

  // Of all choices together.
  uint32_t promptTokens() const { return prompt; }
  uint32_t reusedTokens() const { return reused; }
  uint32_t replyTokens() const { return produced; }
  double firstTokenSeconds() const { return firstToken; }
  // Why each choice ended, with commas; and the first failure.
  std::string finishReasons() const;
  const absl::Status &failure() const { return failed; }

private:
  struct Choice {
    std::string content, reasoning, finish;
    Json calls = Json::array(), logprobs = Json::array();
  };
  Json chunk(uint32_t choice, Json delta) const;
  Json envelope(const char *chatObject, const char *textObject) const;
  Json logprobOf(const ChosenToken &token, Choice &choice) const;
  Json completionLogprobs(const Json &entries) const;
  Json usage() const;

  bool chat;
  bool wantsLogprobs;
  uint32_t perPrompt; // choices of each prompt
  const Service &service;
  Names &names;
  std::string id;
  int64_t created;
  std::vector<Choice> choices;
  uint32_t prompt = 0, reused = 0, produced = 0;
  double firstToken = 0;
  absl::Status failed;
};

} // namespace ingot
