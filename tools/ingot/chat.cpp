// `ingot chat`: a conversation in the terminal. It stands on the same service as the server, so templates, reasoning,
// function calls and the reuse of what was said before are the same.
#include <csignal>
#include <cstdio>
#include <iostream>

#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/server/service.h"
#include "tools/ingot/command.h"

namespace ingot::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct ChatOptions {
  std::string file, system;
  uint32_t context = 0;
  std::optional<uint32_t> maxTokens;
  std::optional<uint64_t> seed;
  Sampling sampling{.temperature = 0.7F, .topP = 0.95F};
  DeviceFlags device;
};

constexpr const char *kHelp = "  /help             this list\n"
                              "  /clear            begin again\n"
                              "  /undo             take the last question and its answer back\n"
                              "  /history          what was said\n"
                              "  /system TEXT      another system message\n"
                              "  /temperature T    0 always takes the likeliest token\n"
                              "  /stats            tokens and times of the last reply\n"
                              "  /quit             leave, as Ctrl-D does\n"
                              "A line that ends with \\ goes on in the next one, and so does everything between two\n"
                              "lines of \"\"\". Ctrl-C stops a reply; between replies it leaves.\n";

class Chat {
public:
  Chat(Service &service, const ChatOptions &options)
      : service(service), options(options), terminal(::isatty(STDIN_FILENO) == 1) {
    clear();
  }

  absl::Status run() {
    if (terminal)
      std::puts("/help lists the commands.");
    while (auto line = read()) {
      if (line->empty())
        continue;
      if (line->front() == '/') {
        if (!command(*line))
          return absl::OkStatus();
      } else if (absl::Status status = say(*line); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }

private:
  // A whole question, maybe of several lines; nothing at the end of the input.
  std::optional<std::string> read() {
    std::string text, line;
    bool quoted = false;
    for (const char *sign = "> ";; sign = ". ") {
      if (terminal) {
        std::fputs(sign, stdout);
        std::fflush(stdout);
      }
      if (!std::getline(std::cin, line))
        return std::nullopt;
      if (line == "\"\"\"") {
        if (quoted)
          return text;
        quoted = true;
        continue;
      }
      bool goesOn = !quoted && line.ends_with('\\');
      if (goesOn)
        line.pop_back();
      text += text.empty() ? line : "\n" + line;
      if (!quoted && !goesOn)
        return text;
    }
  }

  void clear() {
    messages = Json::array();
    if (!options.system.empty())
      messages.push_back({{"role", "system"}, {"content", options.system}});
  }

  // False for the one that ends the chat.
  bool command(const std::string &line) {
    std::string name = line.substr(0, line.find(' '));
    std::string rest = name.size() == line.size() ? "" : line.substr(name.size() + 1);
    if (name == "/quit" || name == "/exit")
      return false;
    if (name == "/help") {
      std::fputs(kHelp, stdout);
    } else if (name == "/clear") {
      clear();
    } else if (name == "/undo") {
      while (!messages.empty() && messages.back()["role"] != "system") {
        bool question = messages.back()["role"] == "user";
        messages.erase(messages.size() - 1);
        if (question)
          break;
      }
    } else if (name == "/history") {
      for (const Json &message : messages)
        absl::PrintF("%s: %s\n", message["role"].get<std::string>(), message["content"].get<std::string>());
    } else if (name == "/system") {
      options.system = rest;
      clear();
    } else if (name == "/temperature") {
      Sampling tried = options.sampling;
      if (!absl::SimpleAtof(rest, &tried.temperature) || !checkSampling(tried).ok())
        std::puts("expected a number from 0 to 1000");
      else
        options.sampling = tried;
    } else if (name == "/stats") {
      showStats();
    } else {
      absl::PrintF("there is no %s; /help lists the commands\n", name);
    }
    return true;
  }

  absl::Status say(const std::string &text) {
    messages.push_back({{"role", "user"}, {"content", text}});
    ApiRequest request;
    request.chat = true;
    request.messages = messages;
    request.maxTokens = options.maxTokens;
    request.seed = options.seed;
    request.generation.sampling = options.sampling;
    auto exchange = service.start(request);
    if (!exchange.ok()) {
      // The conversation is as it was: shorten it, or ask something else.
      messages.erase(messages.size() - 1);
      absl::PrintF("%s\n", std::string(exchange.status().message()));
      return absl::IsUnavailable(exchange.status()) ? exchange.status() : absl::OkStatus();
    }
    std::string answer;
    bool reasoning = false;
    const std::atomic<bool> *interrupted = rearmInterrupt();
    while (!(*exchange)->ended()) {
      if (interrupted->load())
        (*exchange)->cancel();
      auto event = (*exchange)->next(std::chrono::milliseconds(50));
      if (!event)
        continue;
      for (const ReplyPart &part : event->parts)
        show(part, reasoning, answer);
      std::fflush(stdout);
      if (event->outcome)
        last = *event->outcome;
    }
    std::signal(SIGINT, SIG_DFL);
    std::puts(terminal && reasoning ? "\033[0m" : "");
    messages.push_back({{"role", "assistant"}, {"content", answer}});
    return last.status;
  }

  void show(const ReplyPart &part, bool &reasoning, std::string &answer) const {
    const bool dim = part.kind == ReplyPart::kReasoning;
    if (terminal && dim != reasoning)
      std::fputs(dim ? "\033[2m" : "\033[0m\n", stdout);
    reasoning = dim;
    if (part.kind == ReplyPart::kToolCall)
      absl::PrintF("%s(%s)\n", part.call.name, part.call.arguments);
    else
      std::fwrite(part.text.data(), 1, part.text.size(), stdout);
    if (part.kind == ReplyPart::kContent)
      answer += part.text;
  }

  void showStats() const {
    double seconds = last.seconds - last.firstTokenSeconds;
    absl::PrintF("prompt %d tokens, %d of them from before; first token after %.0f ms\n", last.promptTokens,
                 last.reusedTokens, 1000 * last.firstTokenSeconds);
    absl::PrintF("reply %d tokens", last.replyTokens);
    if (last.replyTokens > 1 && seconds > 0)
      absl::PrintF(", %.1f a second", (last.replyTokens - 1) / seconds);
    absl::PrintF("; context %d of %d\n", last.promptTokens + last.replyTokens, service.engine().context());
  }

  Service &service;
  ChatOptions options;
  bool terminal;
  Json messages;
  Outcome last;
};

absl::Status chat(const ChatOptions &options) {
  auto opened = Artifact::open(options.file);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = *std::move(opened);
  if (artifact->tokenizer().chat_template().empty())
    return absl::FailedPreconditionError(absl::StrCat(options.file, ": this model has no chat template: it continues "
                                                                    "text, it does not chat; use `ingot run --raw`"));
  auto selected = chooseDevice(*artifact, options.device);
  if (!selected.ok())
    return selected.status();
  SessionOptions settings;
  settings.context = options.context;
  settings.graph = !options.device.noGraph;
  auto model = Model::load(artifact, selected->device, selected->target, settings);
  if (!model.ok())
    return model.status();
  auto service = Service::create(artifact, *std::move(model), {});
  if (!service.ok())
    return absl::Status(service.status().code(),
                        absl::StrCat(options.file, ": ", std::string(service.status().message())));
  return Chat(**service, options).run();
}

} // namespace

void addChat(CLI::App &app, Command &command) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App *sub = app.add_subcommand("chat", "Talk to a model in the terminal");
  sub->add_option("FILE", options->file, "a .ingot file")->required();
  sub->add_option("--system", options->system, "system message")->type_name("TEXT");
  sub->add_option("-n,--max-tokens", options->maxTokens, "the most tokens of a reply (default: all that fit)")
      ->check(CLI::Range(1u, 1u << 30));
  sub->add_option("--context", options->context, "positions to make room for (default: all the model was made for)")
      ->check(CLI::Range(1u, 1u << 30));
  addSampling(*sub, options->sampling);
  sub->add_option("--seed", options->seed, "makes replies repeatable (default: a new one each time)");
  options->device.add(*sub);
  sub->final_callback([options, &command] {
    options->device.check();
    command.action = [options] { return chat(*options); };
  });
}

} // namespace ingot::cli
