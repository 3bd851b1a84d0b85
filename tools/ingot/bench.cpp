// `ingot bench`: prefill and decode speed over repeated runs, median and spread, with the same tokens every time, at
// one or several lengths of prompt, depths of context and numbers of streams. The prompt is made of ids from a fixed
// generator and named by a digest: speed depends on length, not on meaning.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/executor/batch_runner.h"
#include "tools/ingot/command.h"
#include "tools/ingot/stats.h"

namespace ingot::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;
double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The first token comes from the prefill and the next step records the graph: neither is a steady step.
constexpr uint32_t kWarmUpSteps = 2;

struct BenchOptions {
  std::string file;
  std::vector<uint32_t> promptTokens = {128}, depths = {0}, streams = {1};
  uint32_t generate = 32, repeat = 3;
  Drafting drafting = Drafting::Never;
  bool json = false;
  DeviceFlags device;
};

// One of the combinations that are measured.
struct Case {
  uint32_t promptTokens, depth, streams;
};

struct Samples {
  std::vector<double> prefill, decode;  // tokens a second of all streams together, one a repetition
  double tokens = 0, steps = 0;         // of the last repetition; a step of several sequences is one
  double launches = 0, weightBytes = 0; // of its steps, as planned
  double prefillSeconds = 0, decodeSeconds = 0;
  nlohmann::json prefillCounters, decodeCounters; // of the last repetition
};

std::vector<int32_t> makePrompt(uint32_t tokens, uint32_t vocabulary) {
  std::vector<int32_t> ids;
  uint64_t state = 0x9e3779b97f4a7c15;
  for (uint32_t index = 0; index < tokens; ++index) {
    state = state * 6364136223846793005 + 1442695040888963407;
    ids.push_back(static_cast<int32_t>((state >> 33) % vocabulary));
  }
  return ids;
}

absl::Status checkInterrupt() {
  return interruptFlag()->load() ? absl::CancelledError("stopped on request") : absl::OkStatus();
}

// Each sequence goes a step further: several by one, where there are programs for it and drafts were not asked for.
absl::Status stepAll(const std::vector<std::unique_ptr<Session>> &sessions, BatchRunner *batches,
                     std::vector<uint32_t> &done, Samples &samples) {
  const size_t most = batches ? batches->most() : 1;
  for (size_t first = 0; first < sessions.size(); first += most) {
    const size_t count = std::min(most, sessions.size() - first);
    if (count == 1) {
      Session &session = *sessions[first];
      auto tokens = session.nextTokens();
      if (!tokens.ok())
        return tokens.status();
      done[first] += static_cast<uint32_t>(tokens->size());
      // Of plain steps, whether it drafts or not.
      samples.launches += static_cast<double>(tokens->size() * session.launchesPerToken());
      samples.weightBytes += static_cast<double>(tokens->size() * plannedWeightBytes(session));
    } else {
      std::array<Session *, kBatchRows> together;
      for (size_t row = 0; row < count; ++row)
        together[row] = sessions[first + row].get();
      const BatchCounts before = batches->counts();
      auto tokens = batches->next(std::span(together).first(count));
      if (!tokens.ok())
        return tokens.status();
      for (size_t row = 0; row < count; ++row)
        done[first + row] += (*tokens)[row].has_value();
      samples.launches += static_cast<double>(batches->counts().launches - before.launches);
      samples.weightBytes += static_cast<double>(batches->counts().weightBytes - before.weightBytes);
    }
    ++samples.steps;
  }
  samples.tokens = std::accumulate(done.begin(), done.end(), 0.0);
  return absl::OkStatus();
}

// A new sequence with `tokens` before it, of which whole pages are not computed: their keys and values are zeros, which
// cost what any others do to read.
absl::Status goTo(Session &session, Model &model, std::span<const int32_t> tokens) {
  constexpr size_t most = 256; // pages of one write
  if (absl::Status status = session.reset(); !status.ok())
    return status;
  const uint32_t block = model.manifest().facts().state_block();
  std::vector<Page> pages;
  while ((pages.size() + 1) * block <= tokens.size()) {
    auto page = model.pages().take();
    if (!page)
      return absl::ResourceExhaustedError("no page is free; give a smaller --depth or fewer --streams");
    pages.push_back(*std::move(page));
  }
  for (size_t first = 0; first < pages.size(); first += most) {
    const std::span<const Page> part = std::span(pages).subspan(first, std::min(most, pages.size() - first));
    const std::vector<std::byte> zeros(part.size() * pageBytes(model.manifest()));
    if (absl::Status status = model.write(part, zeros); !status.ok())
      return status;
  }
  if (!pages.empty()) {
    auto fixed = session.snapshot();
    if (!fixed.ok())
      return fixed.status();
    if (absl::Status status = session.resume(pages, *fixed); !status.ok())
      return status;
  }
  tokens = tokens.subspan(pages.size() * block);
  return tokens.empty() ? absl::OkStatus() : session.prefill(tokens);
}

absl::Status measure(const std::vector<std::unique_ptr<Session>> &sessions, Model &model, BatchRunner *batches,
                     const Case &what, const std::vector<int32_t> &prompt, const BenchOptions &options,
                     Samples &samples) {
  const Hip &hip = sessions.front()->device().hip();
  const std::span<const int32_t> before = std::span(prompt).first(what.depth),
                                 timed = std::span(prompt).subspan(what.depth);
  for (const auto &session : sessions) {
    session->setDrafting(Drafting::Never);
    // Its work is done when it is submitted, and its counters are read between steps.
    session->setAhead(!session->device().emulated());
    if (absl::Status status = goTo(*session, model, before); !status.ok())
      return status;
  }
  hip.resetCounters();
  auto start = Clock::now();
  for (const auto &session : sessions)
    if (absl::Status status = session->prefill(timed); !status.ok())
      return status;
  samples.prefillSeconds = secondsSince(start);
  samples.prefill.push_back(static_cast<double>(timed.size() * sessions.size()) / samples.prefillSeconds);
  samples.prefillCounters = counters(sessions.front()->device());
  for (const auto &session : sessions)
    if (auto token = session->first(); !token.ok())
      return token.status();
  std::vector<uint32_t> done(sessions.size(), 0);
  for (uint32_t warmUp = 1; warmUp < kWarmUpSteps; ++warmUp)
    if (absl::Status status = stepAll(sessions, batches, done, samples); !status.ok())
      return status;
  for (const auto &session : sessions)
    session->setDrafting(options.drafting);
  hip.resetCounters();
  samples.steps = samples.launches = samples.weightBytes = 0;
  std::ranges::fill(done, 0);
  start = Clock::now();
  while (std::ranges::min(done) < options.generate) {
    if (absl::Status status = checkInterrupt(); !status.ok())
      return status;
    if (absl::Status status = stepAll(sessions, batches, done, samples); !status.ok())
      return status;
  }
  samples.decodeSeconds = secondsSince(start);
  samples.decode.push_back(samples.tokens / samples.decodeSeconds);
  samples.decodeCounters = counters(sessions.front()->device());
  return absl::OkStatus();
}

Json summaryJson(const std::vector<double> &values) {
  Summary summary = summarize(values);
  return {{"median", summary.median}, {"min", summary.least}, {"max", summary.most}};
}

// Rates and per-token figures of the last repetition, with every counter as the emulator gave it.
Json emulatorJson(const Session &session, const nlohmann::json &counters, double seconds, double tokens) {
  auto traffic = trafficOf(session, counters);
  if (!traffic)
    return nullptr;
  const nlohmann::json &totals = counters["totals"];
  double instructions = totals.value("instructions", 0.0);
  double bytes = totals.value("bytes_read", 0.0) + totals.value("bytes_written", 0.0);
  return {{"wave_instructions_per_second", instructions / seconds},
          {"wave_instructions_per_token", instructions / tokens},
          {"bytes_per_second", bytes / seconds},
          {"bytes_read_per_token", totals.value("bytes_read", 0.0) / tokens},
          {"weight_bytes_read_per_token", traffic->weightsRead / tokens},
          {"cache_bytes_read_per_token", traffic->cacheRead / tokens},
          {"cache_bytes_written_per_token", traffic->cacheWritten / tokens},
          {"recurrent_bytes_read_per_token", traffic->recurrentRead / tokens},
          {"recurrent_bytes_written_per_token", traffic->recurrentWritten / tokens},
          {"activation_bytes_read_per_token", traffic->activationRead / tokens},
          {"activation_bytes_written_per_token", traffic->activationWritten / tokens},
          {"counters", counters}};
}

Json report(const Session &session, const Case &what, const std::vector<int32_t> &prompt, const BenchOptions &options,
            const Samples &samples) {
  const DeviceInfo &info = session.device().info();
  double weightBytes = samples.weightBytes / samples.tokens;
  Json json;
  json["model"] = session.manifest().model_name();
  json["recipe"] = session.manifest().provenance().recipe();
  json["device"] = info.name;
  json["target"] = session.code().target();
  json["emulated"] = session.device().emulated();
  json["graph"] = !options.device.noGraph;
  json["context"] = session.context();
  json["streams"] = what.streams;
  json["depth"] = what.depth;
  json["prompt_tokens"] = what.promptTokens;
  json["prompt_digest"] = absl::StrFormat("%016x", weightsChunkDigest(std::as_bytes(std::span(prompt))));
  json["generated_tokens"] = options.generate;
  json["repeat"] = options.repeat;
  json["prefill"] = {{"tokens_per_second", summaryJson(samples.prefill)}};
  json["decode"] = {{"tokens_per_second", summaryJson(samples.decode)},
                    {"tokens_per_step", samples.tokens / samples.steps},
                    {"launches_per_token", samples.launches / samples.tokens},
                    {"weight_bytes_per_token", weightBytes},
                    {"weight_bytes_per_second", weightBytes * summarize(samples.decode).median}};
  if (session.device().emulated()) {
    json["prefill"]["emulator"] = emulatorJson(session, samples.prefillCounters, samples.prefillSeconds,
                                               double(what.promptTokens) * what.streams);
    Json &decode = json["decode"]["emulator"];
    decode = emulatorJson(session, samples.decodeCounters, samples.decodeSeconds, samples.tokens);
    if (decode.is_object() && weightBytes > 0)
      decode["weight_bytes_ratio"] = decode["weight_bytes_read_per_token"].get<double>() / weightBytes;
  }
  return json;
}

void printTraffic(const Json &json) {
  for (const char *phase : {"prefill", "decode"}) {
    auto found = json[phase].find("emulator");
    if (found == json[phase].end() || !found->is_object())
      continue;
    auto value = [&](const char *key) { return (*found)[key].get<double>(); };
    Traffic traffic = {.weightsRead = value("weight_bytes_read_per_token"),
                       .cacheRead = value("cache_bytes_read_per_token"),
                       .cacheWritten = value("cache_bytes_written_per_token"),
                       .recurrentRead = value("recurrent_bytes_read_per_token"),
                       .recurrentWritten = value("recurrent_bytes_written_per_token"),
                       .activationRead = value("activation_bytes_read_per_token"),
                       .activationWritten = value("activation_bytes_written_per_token")};
    double planned = found->contains("weight_bytes_ratio") ? json[phase]["weight_bytes_per_token"].get<double>() : 0;
    absl::PrintF("%-8s emulator: %s\n", phase, trafficText(traffic, 1, planned));
  }
}

void print(const Json &json) {
  auto rates = [](const Json &speed) {
    return absl::StrFormat("%.2f tokens/s (%.2f to %.2f)", speed["median"].get<double>(), speed["min"].get<double>(),
                           speed["max"].get<double>());
  };
  absl::PrintF("%s, recipe %s, on %s (code for %s), context %d, graph replay %s\n", json["model"].get<std::string>(),
               json["recipe"].get<std::string>(), json["device"].get<std::string>(), json["target"].get<std::string>(),
               json["context"].get<int>(), json["graph"].get<bool>() ? "on" : "off");
  absl::PrintF("prefill  %d tokens (digest %s) at depth %d, %d streams: %s\n", json["prompt_tokens"].get<int>(),
               json["prompt_digest"].get<std::string>(), json["depth"].get<int>(), json["streams"].get<int>(),
               rates(json["prefill"]["tokens_per_second"]));
  const Json &decode = json["decode"];
  absl::PrintF("decode   %d tokens, %.2f a step: %s, %.4g launches and %s of weights a token, %s/s of weights\n",
               json["generated_tokens"].get<int>(), decode["tokens_per_step"].get<double>(),
               rates(decode["tokens_per_second"]), decode["launches_per_token"].get<double>(),
               bytesText(decode["weight_bytes_per_token"].get<double>()),
               bytesText(decode["weight_bytes_per_second"].get<double>()));
  for (const char *phase : {"prefill", "decode"})
    if (auto found = json[phase].find("emulator"); found != json[phase].end() && found->is_object())
      absl::PrintF("%-8s emulator: %.1f M wave-instructions/s, %s/s of memory traffic, %s read a token\n", phase,
                   (*found)["wave_instructions_per_second"].get<double>() / 1e6,
                   bytesText((*found)["bytes_per_second"].get<double>()),
                   bytesText((*found)["bytes_read_per_token"].get<double>()));
  printTraffic(json);
  absl::PrintF("median and spread of %d runs\n", json["repeat"].get<int>());
}

absl::StatusOr<Json> benchCase(const std::shared_ptr<const Artifact> &artifact, const SelectedDevice &selected,
                               const Case &what, const BenchOptions &options) {
  // A step that drafts may give more tokens than are asked for, and looks further than it goes.
  const ModelFacts &facts = artifact->manifest().facts();
  const uint64_t drafts = options.drafting == Drafting::Never ? 0 : 3 * uint64_t(facts.draft_length() + 1);
  uint64_t context = uint64_t(what.depth) + what.promptTokens + options.generate + kWarmUpSteps + drafts;
  if (context > facts.context_length())
    return absl::InvalidArgumentError(absl::StrCat(options.file, ": expected depth, prompt, reply and ", kWarmUpSteps,
                                                   " warm-up steps within the ", facts.context_length(),
                                                   " positions of the model's context, got ", context,
                                                   "; give smaller --depth, --prompt-tokens or --max-tokens"));
  SessionOptions settings;
  settings.context = static_cast<uint32_t>(context);
  settings.sequences = what.streams;
  settings.graph = !options.device.noGraph;
  settings.cancel = interruptFlag();
  auto model = Model::load(artifact, selected.device, selected.target, settings);
  if (!model.ok())
    return model.status();
  std::vector<std::unique_ptr<Session>> sessions;
  for (uint32_t stream = 0; stream < what.streams; ++stream) {
    auto session = Session::create(*model);
    if (!session.ok())
      return session.status();
    sessions.push_back(*std::move(session));
  }
  std::unique_ptr<BatchRunner> batches;
  if (facts.streams() > 0 && options.drafting == Drafting::Never) {
    auto made = BatchRunner::create(*model);
    if (!made.ok())
      return made.status();
    batches = *std::move(made);
  }
  std::vector<int32_t> prompt = makePrompt(what.depth + what.promptTokens, facts.vocabulary());
  Samples samples;
  for (uint32_t round = 0; round < options.repeat; ++round) {
    if (absl::Status status = measure(sessions, **model, batches.get(), what, prompt, options, samples); !status.ok())
      return status;
    absl::FPrintF(stderr, "prompt %d, depth %d, streams %d, run %d of %d: prefill %.2f, decode %.2f tokens/s\n",
                  what.promptTokens, what.depth, what.streams, round + 1, options.repeat, samples.prefill.back(),
                  samples.decode.back());
  }
  if (options.device.stats) {
    printCounters("prefill", samples.prefillCounters, size_t{what.promptTokens} * what.streams, samples.prefillSeconds);
    printCounters("decode", samples.decodeCounters, static_cast<size_t>(samples.tokens), samples.decodeSeconds);
  }
  return report(*sessions.front(), what, prompt, options, samples);
}

absl::Status bench(const BenchOptions &options) {
  interruptFlag();
  auto opened = Artifact::open(options.file);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = *std::move(opened);
  auto selected = chooseDevice(*artifact, options.device);
  if (!selected.ok())
    return selected.status();
  Json all = Json::array();
  for (uint32_t streams : options.streams)
    for (uint32_t depth : options.depths)
      for (uint32_t promptTokens : options.promptTokens) {
        auto json = benchCase(artifact, *selected, {promptTokens, depth, streams}, options);
        if (!json.ok())
          return json.status();
        if (!options.json)
          print(*json);
        all.push_back(*std::move(json));
      }
  if (options.json)
    std::puts((all.size() == 1 ? all.front() : all).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  return absl::OkStatus();
}

} // namespace

void addBench(CLI::App &app, Command &command) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App *sub = app.add_subcommand("bench", "Measure prefill and decode speed");
  sub->add_option("FILE", options->file, "a .ingot file")->required();
  sub->add_option("--prompt-tokens", options->promptTokens, "length of the prompt; several with commas")
      ->delimiter(',')
      ->check(CLI::Range(1u, 1u << 28))
      ->capture_default_str();
  sub->add_option("--depth", options->depths, "tokens in the context before the prompt, as zeros; several with commas")
      ->delimiter(',')
      ->check(CLI::Range(0u, 1u << 28))
      ->capture_default_str();
  sub->add_option("--streams", options->streams, "sequences that run beside each other; several with commas")
      ->delimiter(',')
      ->check(CLI::Range(1u, 1024u))
      ->capture_default_str();
  sub->add_option("-n,--max-tokens", options->generate, "tokens to generate after it")
      ->check(CLI::Range(1u, 1u << 29))
      ->capture_default_str();
  sub->add_option("--repeat", options->repeat, "runs to take median and spread of")
      ->check(CLI::Range(1u, 1000u))
      ->capture_default_str();
  sub->add_flag("--json", options->json,
                "print JSON, with every counter of the emulator; an array where there are several cases");
  addDrafting(*sub, options->drafting);
  options->device.add(*sub);
  sub->final_callback([options, &command] {
    options->device.check();
    command.action = [options] { return bench(*options); };
  });
}

} // namespace ingot::cli
