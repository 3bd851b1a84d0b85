// `ingot serve`: OpenAI's API over HTTP on one file.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

#include "runtime/server/server.h"
#include "tools/ingot/command.h"

namespace ingot::cli {
namespace {

struct ServeOptions {
  std::string file, name, cacheFolder;
  uint32_t context = 0, streams = 4;
  uint64_t kvTokens = 0;
  size_t maxQueue = 64, maxBodyMiB = 16, cacheMiB = 1024;
  uint32_t drainSeconds = 30;
  ServerOptions http;
  DeviceFlags device;
};

absl::Status serve(ServeOptions options) {
  auto last = std::chrono::steady_clock::now();
  auto done = [&](const char *what) {
    auto now = std::chrono::steady_clock::now();
    options.http.startup.emplace_back(what, std::chrono::duration<double>(now - last).count());
    last = now;
  };
  auto opened = Artifact::open(options.file);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = *std::move(opened);
  done("open");
  auto selected = chooseDevice(*artifact, options.device);
  if (!selected.ok())
    return selected.status();
  done("device");
  SessionOptions settings;
  settings.context = options.context;
  settings.sequences = options.streams;
  settings.positions = options.kvTokens;
  settings.cacheBytes = uint64_t{options.cacheMiB} << 20;
  settings.graph = !options.device.noGraph;
  auto model = Model::load(artifact, selected->device, selected->target, settings);
  if (!model.ok())
    return model.status();
  done("model");
  EngineOptions engine;
  engine.maxQueue = options.maxQueue;
  engine.cacheBytes = settings.cacheBytes;
  engine.cacheFolder = options.cacheFolder;
  auto service = Service::create(artifact, *std::move(model), engine, options.name);
  if (!service.ok())
    return absl::Status(service.status().code(),
                        absl::StrCat(options.file, ": ", std::string(service.status().message())));
  done("service");
  // A thread for each request that may run or wait, and some for health, figures and clients that only hold a
  // connection.
  options.http.maxConnections = options.streams + options.maxQueue + 64;
  options.http.maxBodyBytes = options.maxBodyMiB << 20;
  options.http.drainPatience = std::chrono::seconds(options.drainSeconds);
  if (const char *key = std::getenv("INGOT_API_KEY"); key && options.http.apiKey.empty())
    options.http.apiKey = key;
  auto server = Server::create(**service, options.http);
  if (!server.ok())
    return server.status();
  // Up to here a signal just ends the process; from here on it drains.
  return (*server)->run(*interruptFlag());
}

} // namespace

void addServe(CLI::App &app, Command &command) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App *sub = app.add_subcommand("serve", "Answer OpenAI's API over HTTP, with a chat page at /");
  sub->add_option("FILE", options->file, "a .ingot file")->required();
  sub->add_option("--port", options->http.port, "port to listen at; 0: any that is free")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  sub->add_option("--host", options->http.host, "address to listen at; 0.0.0.0 lets other machines in")
      ->capture_default_str();
  sub->add_option("--name", options->name, "the model's name for clients (default: the checkpoint's)");
  sub->add_option("--streams", options->streams, "requests that run at the same time")
      ->check(CLI::Range(1u, 1024u))
      ->capture_default_str();
  sub->add_option("--context", options->context, "positions of each stream (default: all the model was made for)")
      ->check(CLI::Range(1u, 1u << 30));
  sub->add_option("--kv-tokens", options->kvTokens,
                  "tokens of all streams together that there is KV cache for; requests wait until theirs fit (default: "
                  "--streams times --context)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40));
  sub->add_option("--max-queue", options->maxQueue, "requests that may wait; further ones are answered 503")
      ->check(CLI::Range(size_t{0}, size_t{100'000}))
      ->capture_default_str();
  sub->add_option("--max-body", options->maxBodyMiB, "largest request, in MiB")
      ->check(CLI::Range(size_t{1}, size_t{1024}))
      ->capture_default_str();
  sub->add_option(
         "--cache", options->cacheMiB,
         "the most that is kept of prompts for those that begin alike, in MiB, as far as memory goes; 0: nothing")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str();
  sub->add_option("--cache-dir", options->cacheFolder, "a folder to keep remembered prompts in from run to run")
      ->type_name("FOLDER");
  sub->add_option("--api-key", options->http.apiKey, "ask clients for this key (also: environment INGOT_API_KEY)")
      ->type_name("KEY");
  sub->add_option("--drain", options->drainSeconds, "on SIGTERM, seconds that running requests may still take")
      ->check(CLI::Range(0u, 86'400u))
      ->capture_default_str();
  sub->add_flag("--log-requests", options->http.logRequests, "log each request as a line of JSON on stderr");
  options->device.add(*sub);
  sub->final_callback([options, &command] {
    options->device.check();
    command.action = [options] { return serve(*options); };
  });
}

} // namespace ingot::cli
