// `ingot run`: a prompt in, text out as it is chosen.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

// Tokenizer is destroyed here, and its destructor, being inline, needs the type of this member.
#include "runtime/tokenizer/special_tokens.h"
#include "tools/ingot/command.h"
#include "tools/ingot/prompt.h"
#include "tools/ingot/stats.h"

namespace ingot::cli {
namespace {

using Clock = std::chrono::steady_clock;
double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct RunOptions {
  std::string file;
  Prompt prompt;
  uint32_t maxTokens = 256, context = 0;
  Sampling sampling;
  Drafting drafting = Drafting::Auto;
  DeviceFlags device;
};

bool endsReply(const Artifact &artifact, const Tokenizer &tokenizer, int32_t token) {
  const auto &ends = artifact.manifest().facts().end_of_sequence();
  return tokenizer.isEndOfSequence(token) || std::ranges::find(ends, static_cast<uint32_t>(token)) != ends.end();
}

// The least context that holds prompt and reply, and drafts to the end: memory is not spent on positions that nothing
// reaches.
absl::StatusOr<uint32_t> chooseContext(const Artifact &artifact, const RunOptions &options, size_t promptTokens) {
  uint32_t longest = artifact.manifest().facts().context_length();
  uint32_t context = options.context ? options.context : longest;
  if (context > longest)
    return absl::InvalidArgumentError(absl::StrCat("expected a context of at most the ", longest,
                                                   " positions this model was made for, got ", context,
                                                   "; give a smaller --context"));
  if (promptTokens >= context)
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", promptTokens, " tokens and the context ", context,
                                                   " positions, which leaves no room for a reply; shorten the prompt",
                                                   context < longest ? " or give a larger --context" : ""));
  if (options.context)
    return context;
  const uint64_t drafts = 2 * uint64_t(artifact.manifest().facts().draft_length());
  return static_cast<uint32_t>(std::min<uint64_t>(longest, promptTokens + uint64_t(options.maxTokens) + drafts));
}

absl::Status generate(const Artifact &artifact, const Tokenizer &tokenizer, Session &session,
                      const std::vector<int32_t> &prompt, const RunOptions &options, RunStats &stats) {
  const Hip &hip = session.device().hip();
  if (absl::Status status = session.setSampling(options.sampling); !status.ok())
    return status;
  session.setDrafting(options.drafting);
  session.limitReply(options.maxTokens);
  hip.resetCounters();
  auto start = Clock::now();
  if (absl::Status status = session.prefill(prompt); !status.ok())
    return status;
  auto tokens = session.nextTokens();
  stats.firstTokenSeconds = stats.prefillSeconds = secondsSince(start);
  if (options.device.stats)
    stats.prefillCounters = counters(session.device());
  hip.resetCounters();
  TokenStream text(tokenizer, /*skipSpecial=*/true, /*continuesText=*/!usesTemplate(artifact, options.prompt));
  auto show = [](const std::string &piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  start = Clock::now();
  absl::Status ended;
  for (bool done = false; !done; tokens = done ? std::move(tokens) : session.nextTokens()) {
    // Timed up to here, so that printing and counting do not count.
    stats.decodeSeconds = secondsSince(start);
    if (!tokens.ok()) {
      ended = tokens.status();
      break;
    }
    for (int32_t token : *tokens) {
      stats.decodeSteps = stats.replyTokens++;
      done = endsReply(artifact, tokenizer, token);
      if (!done)
        show(text.push(token));
      done |= stats.replyTokens >= options.maxTokens || interruptFlag()->load();
      if (done)
        break;
    }
  }
  show(text.finish() + "\n");
  if (options.device.stats)
    stats.decodeCounters = counters(session.device());
  if (interruptFlag()->load())
    return absl::CancelledError("stopped on request");
  if (absl::IsOutOfRange(ended)) {
    absl::FPrintF(stderr, "ingot: note: %s\n", std::string(ended.message()));
    return absl::OkStatus();
  }
  return ended;
}

absl::Status run(const RunOptions &options) {
  interruptFlag();
  auto start = Clock::now();
  auto opened = Artifact::open(options.file);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = *std::move(opened);
  auto tokenizer = Tokenizer::create(artifact->tokenizer());
  if (!tokenizer.ok())
    return absl::Status(tokenizer.status().code(),
                        absl::StrCat(options.file, ": ", std::string(tokenizer.status().message())));
  Prompt prompt = options.prompt;
  if (prompt.text == "-")
    prompt.text.assign(std::istreambuf_iterator<char>(std::cin), {});
  auto ids = encodePrompt(*artifact, **tokenizer, prompt);
  if (!ids.ok())
    return ids.status();
  auto context = chooseContext(*artifact, options, ids->size());
  if (!context.ok())
    return context.status();
  auto selected = chooseDevice(*artifact, options.device);
  if (!selected.ok())
    return selected.status();
  SessionOptions settings;
  settings.context = *context;
  settings.graph = !options.device.noGraph;
  settings.cancel = interruptFlag();
  auto session = Session::load(artifact, selected->device, selected->target, settings);
  if (!session.ok())
    return session.status();
  RunStats stats;
  stats.promptTokens = ids->size();
  stats.loadSeconds = secondsSince(start);
  absl::Status status = generate(*artifact, **tokenizer, **session, *ids, options, stats);
  if (options.device.stats)
    printStats(**session, stats);
  return status;
}

} // namespace

void addRun(CLI::App &app, Command &command) {
  auto options = std::make_shared<RunOptions>();
  CLI::App *sub = app.add_subcommand("run", "Generate text from a prompt");
  sub->add_option("FILE", options->file, "a .ingot file")->required();
  sub->add_option("-p,--prompt", options->prompt.text, "what to say to the model; - reads it from stdin")
      ->required()
      ->type_name("TEXT");
  sub->add_option("--system", options->prompt.system, "system message, where the model's chat template takes one")
      ->type_name("TEXT");
  sub->add_flag("--raw", options->prompt.raw, "continue the prompt as it is, without the chat template");
  sub->add_option("-n,--max-tokens", options->maxTokens, "the most tokens to generate")
      ->check(CLI::Range(1u, 1u << 30))
      ->capture_default_str();
  sub->add_option("--context", options->context, "positions to make room for (default: prompt and reply)")
      ->check(CLI::Range(1u, 1u << 30));
  sub->add_option("--temperature", options->sampling.temperature,
                  "0 always takes the likeliest token; higher is more varied")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  sub->add_option("--top-k", options->sampling.topK, "sample among the K likeliest tokens; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  sub->add_option("--top-p", options->sampling.topP, "sample among the likeliest tokens of total probability P")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  CLI::Option *seed =
      sub->add_option("--seed", options->sampling.seed, "makes sampling repeatable (default: a new one each time)");
  const std::map<std::string, Drafting> modes{
      {"auto", Drafting::Auto}, {"always", Drafting::Always}, {"never", Drafting::Never}};
  auto *draft =
      sub->add_option("--draft", options->drafting,
                      "check several drafted tokens a step where the model has a head for it: auto (while it pays), "
                      "always or never; the text is the same, also of samples with one seed")
          ->transform(CLI::CheckedTransformer(modes))
          ->option_text("auto|always|never [auto]");
  sub->add_flag_callback(
         "--no-draft", [options] { options->drafting = Drafting::Never; }, "the same as --draft never")
      ->excludes(draft);
  options->device.add(*sub);
  sub->final_callback([options, seed, &command] {
    options->device.check();
    if (seed->count() == 0) {
      std::random_device random;
      options->sampling.seed = uint64_t(random()) << 32 | random();
    }
    command.action = [options] { return run(*options); };
  });
}

} // namespace ingot::cli
