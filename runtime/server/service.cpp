#include "runtime/server/service.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"

#include "runtime/tokenizer/special_tokens.h" // Tokenizer's inline destructor needs it
#include "runtime/tokenizer/text_only.h"

namespace ingot {
namespace {

uint64_t randomSeed() {
  std::random_device random;
  return uint64_t(random()) << 32 | random();
}

absl::Status about(const char *what, const absl::Status &status) {
  return {absl::StatusCode::kInvalidArgument, absl::StrCat(what, ": ", std::string(status.message()))};
}

} // namespace

// Turns tokens into text on the engine's thread and leaves the result for the one who waits.
class Exchange::Choice : public Listener {
public:
  Choice(std::shared_ptr<Mailbox> to, uint32_t index, const Tokenizer &tokenizer, Reply::Options options)
      : mailbox(std::move(to)), index(index), reply(tokenizer, std::move(options)) {}

  bool onToken(const ChosenToken &token) override {
    ReplyEvent event;
    event.choice = index;
    event.token = token;
    bool goesOn = reply.push(token.id, event.parts);
    post(std::move(event));
    return goesOn;
  }
  void onFinish(const Outcome &outcome) override {
    ReplyEvent event;
    event.choice = index;
    event.outcome = outcome;
    reply.finish(event.parts);
    post(std::move(event));
  }

private:
  void post(ReplyEvent event) {
    std::lock_guard lock(mailbox->mutex);
    mailbox->events.push_back(std::move(event));
    mailbox->arrived.notify_all();
  }
  std::shared_ptr<Mailbox> mailbox;
  uint32_t index;
  Reply reply;
};

std::optional<ReplyEvent> Exchange::next(std::chrono::milliseconds patience) {
  std::unique_lock lock(mailbox->mutex);
  mailbox->arrived.wait_for(lock, patience, [this] { return !mailbox->events.empty() || mailbox->open == 0; });
  if (mailbox->events.empty())
    return std::nullopt;
  ReplyEvent event = std::move(mailbox->events.front());
  mailbox->events.pop_front();
  mailbox->open -= event.outcome.has_value();
  return event;
}

bool Exchange::ended() const {
  std::lock_guard lock(mailbox->mutex);
  return mailbox->open == 0;
}

void Exchange::cancel() {
  for (const auto &job : jobs)
    job->cancel();
}

absl::StatusOr<std::unique_ptr<Service>> Service::create(std::shared_ptr<const Artifact> artifact,
                                                         std::shared_ptr<Model> model, EngineOptions options,
                                                         const std::string &name) {
  std::unique_ptr<Service> service(new Service());
  service->modelName = name.empty() ? artifact->manifest().model_name() : name;
  auto tokenizer = Tokenizer::create(artifact->tokenizer());
  if (!tokenizer.ok())
    return tokenizer.status();
  service->words = *std::move(tokenizer);
  const std::string &source = artifact->tokenizer().chat_template();
  if (!source.empty()) {
    auto parsed = ChatTemplate::create(source);
    if (!parsed.ok())
      return absl::Status(parsed.status().code(),
                          absl::StrCat("chat template: ", std::string(parsed.status().message())));
    service->chatTemplate = *std::move(parsed);
    service->format = ReplyFormat::of(source);
    service->takesTools = source.find("tools") != std::string::npos;
  }
  service->table = std::make_shared<const TokenTable>(*service->words);
  service->callTable = std::make_shared<const TokenTable>(
      *service->words, [&](std::string_view piece) { return service->format.isMarker(piece); });
  const auto &ends = service->words->endOfSequence();
  options.endOfSequence.insert(ends.begin(), ends.end());
  for (uint32_t id : artifact->manifest().facts().end_of_sequence())
    options.endOfSequence.insert(static_cast<int32_t>(id));
  service->ends = options.endOfSequence;
  auto engine = Engine::create(std::move(model), std::move(options));
  if (!engine.ok())
    return engine.status();
  service->runner = *std::move(engine);
  service->artifact = std::move(artifact);
  return service;
}

absl::StatusOr<std::string> Service::render(const ApiRequest &request) const {
  if (!chatTemplate)
    return absl::InvalidArgumentError(
        "messages: this model has no chat template: it continues text, it does not chat; use /v1/completions");
  if (!request.tools.is_null() && !takesTools)
    return absl::InvalidArgumentError("tools: this model's chat template takes none");
  Json variables = ChatTemplate::specialTokens(*words);
  variables.update(request.variables);
  if (!request.tools.is_null())
    variables["tools"] = request.tools;
  auto text = chatTemplate->render(request.messages, /*addGenerationPrompt=*/true, variables);
  return text.ok() ? text : about("messages", text.status());
}

absl::StatusOr<Service::Encoded> Service::encodeChat(const ApiRequest &request) const {
  auto text = render(request);
  if (!text.ok())
    return text.status();
  Encoded encoded;
  encoded.tokens = words->encode(*text, {.addBos = false, .parseSpecial = true});
  if (absl::Status status = checkTextOnly(*words, encoded.tokens); !status.ok())
    return about("messages", status);
  encoded.inReasoning = endsInReasoning(*text, format);
  return encoded;
}

absl::StatusOr<std::vector<Service::Encoded>> Service::encode(const ApiRequest &request) const {
  std::vector<Encoded> all;
  if (request.chat) {
    auto encoded = encodeChat(request);
    if (!encoded.ok())
      return encoded.status();
    all.push_back(*std::move(encoded));
  }
  for (const ApiRequest::Prompt &prompt : request.prompts) {
    Encoded encoded;
    encoded.continuesText = true;
    encoded.tokens = prompt.tokens;
    if (prompt.tokens.empty())
      encoded.tokens = words->encode(prompt.text, {.addBos = words->addsBos(), .parseSpecial = false});
    all.push_back(std::move(encoded));
  }
  return all;
}

absl::StatusOr<std::unique_ptr<Exchange>> Service::start(const ApiRequest &request) {
  if (!request.model.empty() && request.model != modelName)
    return absl::NotFoundError(
        absl::StrCat("model: expected ", modelName, ", which is the one served here, got ", request.model));
  auto prompts = encode(request);
  if (!prompts.ok())
    return prompts.status();
  std::shared_ptr<const Grammar> grammar = request.grammar;
  if (request.call) {
    if (format.toolOpen.empty())
      return absl::InvalidArgumentError("tool_choice: this model's chat template has no function calls");
    auto made = Grammar::ofCall(request.tools, *request.call, format.toolOpen, format.toolClose);
    if (!made.ok())
      return made.status();
    grammar = *std::move(made);
  }
  std::unique_ptr<Exchange> exchange(new Exchange());
  exchange->mailbox = std::make_shared<Exchange::Mailbox>();
  uint64_t seed = request.seed ? *request.seed : randomSeed();
  std::vector<std::pair<GenerationRequest, std::shared_ptr<Listener>>> work;
  for (const Encoded &prompt : *prompts) {
    for (uint32_t copy = 0; copy < request.choices; ++copy) {
      GenerationRequest generation = request.generation;
      generation.prompt = prompt.tokens;
      generation.sampling.seed = seed + copy;
      generation.maxTokens = request.maxTokens ? *request.maxTokens : runner->context();
      if (grammar)
        generation.filter = std::make_shared<GrammarFilter>(grammar, request.call ? callTable : table, *words, ends,
                                                            prompt.inReasoning ? format.reasoningClose : "");
      Reply::Options options;
      options.stops = request.stops;
      options.continuesText = prompt.continuesText;
      if (request.chat)
        options.split = {format, !request.tools.is_null(), prompt.inReasoning, request.tools};
      work.emplace_back(std::move(generation),
                        std::make_shared<Exchange::Choice>(exchange->mailbox, static_cast<uint32_t>(work.size()),
                                                           *words, std::move(options)));
    }
  }
  exchange->mailbox->open = static_cast<uint32_t>(work.size());
  auto jobs = runner->submit(std::move(work));
  if (!jobs.ok())
    return jobs.status();
  exchange->jobs = *std::move(jobs);
  return exchange;
}

} // namespace ingot
