// A model that answers requests: template, tokenizer and engine put together. No HTTP in it; the server and the chat in
// the terminal both stand on it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/server/engine.h"
#include "runtime/server/reply.h"
#include "runtime/server/request.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ingot {

// What happened to one choice of a request.
struct ReplyEvent {
  uint32_t choice = 0;
  std::vector<ReplyPart> parts;
  std::optional<ChosenToken> token;
  std::optional<Outcome> outcome; // the last event of a choice has one
};

// One request under way. Destroyed before its end, it is cancelled.
class Exchange {
public:
  ~Exchange() { cancel(); }
  // The next event of any choice. Nothing when `patience` is over first, or all choices have ended.
  std::optional<ReplyEvent> next(std::chrono::milliseconds patience);
  bool ended() const;
  void cancel();
  uint32_t choices() const { return static_cast<uint32_t>(jobs.size()); }

private:
  friend class Service;
  struct Mailbox {
    std::mutex mutex;
    std::condition_variable arrived;
    std::deque<ReplyEvent> events;
    uint32_t open = 0; // choices whose last event was not taken yet
  };
  class Choice;
  std::shared_ptr<Mailbox> mailbox;
  std::vector<std::shared_ptr<Engine::Job>> jobs;
};

class Service {
public:
  // `name`: as clients call the model; empty: as the checkpoint does. Errors: no tokenizer, a chat template that cannot
  // be used (the message names its line).
  static absl::StatusOr<std::unique_ptr<Service>> create(std::shared_ptr<const Artifact> artifact,
                                                         std::shared_ptr<Model> model, EngineOptions options,
                                                         const std::string &name = "");

  // Renders, encodes and queues. Errors: those of the template (InvalidArgument) and of Engine::submit; NotFound for
  // another model.
  absl::StatusOr<std::unique_ptr<Exchange>> start(const ApiRequest &request);

  // The text that the model is given for a chat. Errors: those of the template (InvalidArgument).
  absl::StatusOr<std::string> render(const ApiRequest &request) const;

  const std::string &name() const { return modelName; }
  const Tokenizer &tokenizer() const { return *words; }
  Engine &engine() { return *runner; }
  bool chats() const { return chatTemplate.has_value(); }

private:
  struct Encoded {
    std::vector<int32_t> tokens;
    bool inReasoning = false, continuesText = false;
  };
  absl::StatusOr<std::vector<Encoded>> encode(const ApiRequest &request) const;
  absl::StatusOr<Encoded> encodeChat(const ApiRequest &request) const;

  std::shared_ptr<const Artifact> artifact;
  std::string modelName;
  std::unique_ptr<Tokenizer> words;
  std::optional<ChatTemplate> chatTemplate;
  bool takesTools = false;
  ReplyFormat format;
  std::shared_ptr<const TokenTable> table, callTable; // the second has the tokens that open and close a call too
  std::set<int32_t> ends;                             // tokens that end a reply
  std::unique_ptr<Engine> runner;                     // destroyed first: its thread speaks to the others
};

} // namespace ingot
