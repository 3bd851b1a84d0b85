#include "runtime/server/server.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <thread>

#if __has_feature(address_sanitizer)
#include <sanitizer/allocator_interface.h>
#endif

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{20};     // how long a wait for a token may hide that the client is gone
constexpr milliseconds kFarewell{10'000}; // for clients to take the end of their replies when the server stops
constexpr int kRetryAfterSeconds = 1;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct HttpError {
  int status;
  const char *type;
  const char *code; // null: none
};

HttpError httpError(absl::StatusCode code) {
  switch (code) {
  case absl::StatusCode::kInvalidArgument:
    return {400, "invalid_request_error", nullptr};
  case absl::StatusCode::kUnimplemented:
    return {400, "invalid_request_error", "unsupported"};
  case absl::StatusCode::kUnauthenticated:
    return {401, "authentication_error", "invalid_api_key"};
  case absl::StatusCode::kPermissionDenied:
    return {403, "permission_error", nullptr};
  case absl::StatusCode::kNotFound:
    return {404, "invalid_request_error", "not_found"};
  case absl::StatusCode::kResourceExhausted:
    return {503, "overloaded_error", "queue_full"};
  case absl::StatusCode::kUnavailable:
    return {503, "server_error", "unavailable"};
  default:
    return {500, "server_error", nullptr};
  }
}

// The field that a message begins with, where it begins with one.
Json paramOf(std::string_view message) {
  size_t end = message.find(':');
  std::string_view name = message.substr(0, std::min(end, message.size()));
  bool isField = end != std::string_view::npos && !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
                   return std::islower(c) || std::isdigit(c) || c == '_' || c == '.' || c == '[' || c == ']';
                 });
  return isField ? Json(std::string(name)) : Json();
}

Json errorJson(const absl::Status &status) {
  HttpError error = httpError(status.code());
  std::string message(status.message());
  return {{"error",
           {{"message", message},
            {"type", error.type},
            {"param", paramOf(message)},
            {"code", error.code ? Json(error.code) : Json()}}}};
}

// Takes as long whatever the two differ in.
bool sameSecret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() != b.size();
  for (size_t index = 0; index < a.size(); ++index)
    difference |= static_cast<unsigned>(a[index] ^ (b.empty() ? '\0' : b[index % b.size()]));
  return difference == 0;
}

std::string eventOf(const Json &json) { return absl::StrCat("data: ", dumpJson(json), "\n\n"); }

} // namespace

// What a streamed response needs until its last byte is out.
struct Server::Stream {
  std::unique_ptr<Exchange> exchange;
  Answer answer;
  bool usage, opened = false, done = false;
  std::string path;
  Clock::time_point start;
};

Server::Server(Service &served, const ServerOptions &chosen)
    : service(served), options(chosen), started(static_cast<int64_t>(std::time(nullptr))),
      http(chosen.maxConnections, chosen.maxBodyBytes) {}

absl::StatusOr<std::unique_ptr<Server>> Server::create(Service &service, const ServerOptions &options) {
  std::unique_ptr<Server> server(new Server(service, options));
  Server &self = *server;
  self.route("GET", "/", &Server::page, /*open=*/true);
  self.route("GET", "/health", &Server::health, /*open=*/true);
  self.route("GET", "/metrics", &Server::metrics);
  self.route("GET", "/v1/models", &Server::models);
  self.route("GET", R"(/v1/models/(.+))", &Server::models);
  self.route("POST", "/v1/chat/completions", &Server::chat);
  self.route("POST", "/v1/completions", &Server::complete);
  self.route("POST", "/v1/embeddings", &Server::embed);
  self.route("POST", "/apply-template", &Server::applyTemplate);
  self.route("POST", "/tokenize", &Server::tokenize);
  self.route("POST", "/detokenize", &Server::detokenize);
  // What the library answers by itself: no such path, a body too large, a request that is none.
  self.http.set_error_handler([](const Request &request, Response &response) {
    if (!response.body.empty())
      return;
    int status = response.status;
    std::string message = status == 404   ? absl::StrCat("there is nothing at ", request.method, " ", request.path)
                          : status == 413 ? "the body is larger than this server takes (--max-body)"
                                          : absl::StrCat("the request could not be read (HTTP status ", status, ")");
    Json error = errorJson(status == 404 ? absl::NotFoundError(message) : absl::InvalidArgumentError(message));
    response.set_content(dumpJson(error), "application/json");
  });
  self.http.set_exception_handler([](const Request &, Response &response, const std::exception_ptr &) {
    sendError(response, absl::InternalError("the request ended in an unexpected way"));
  });
  self.http.set_logger([&self](const Request &request, const Response &response) {
    // Paths that do not exist are one: a client must not be able to make the table grow.
    static const std::set<std::string> known = {"/",
                                                "/health",
                                                "/metrics",
                                                "/v1/models",
                                                "/v1/chat/completions",
                                                "/v1/completions",
                                                "/v1/embeddings",
                                                "/apply-template",
                                                "/tokenize",
                                                "/detokenize"};
    std::lock_guard lock(self.mutex);
    ++self.responses[{known.contains(request.path) ? request.path : "other", response.status}];
  });
  int port = options.port;
  bool bound =
      port == 0 ? (port = self.http.bind_to_any_port(options.host)) > 0 : self.http.bind_to_port(options.host, port);
  if (!bound)
    return absl::UnavailableError(absl::StrCat("cannot listen at ", options.host, " port ", options.port,
                                               "; is another server running there? Give another --port"));
  bool v6 = options.host.find(':') != std::string::npos;
  self.url = absl::StrCat("http://", v6 ? "[" : "", options.host, v6 ? "]" : "", ":", port);
  return server;
}

void Server::route(const char *method, const std::string &path, Handler handler, bool open) {
  auto call = [this, handler, open](const Request &request, Response &response) {
    response.set_header("X-Request-Id", names.next());
    if (allowed(request, response, open))
      (this->*handler)(request, response);
  };
  if (std::string_view(method) == "GET")
    http.Get(path, call);
  else
    http.Post(path, call);
}

bool Server::allowed(const Request &request, Response &response, bool open) const {
  // A browser says which page a request comes from; those of other servers have no business here.
  std::string origin = request.get_header_value("Origin");
  if (size_t host = origin.find("://");
      host != std::string::npos && origin.substr(host + 3) != request.get_header_value("Host")) {
    sendError(response, absl::PermissionDeniedError("this server answers no pages of other origins"));
    return false;
  }
  if (open || options.apiKey.empty() ||
      sameSecret(request.get_header_value("Authorization"), "Bearer " + options.apiKey))
    return true;
  sendError(response, absl::UnauthenticatedError("expected the header Authorization: Bearer with this server's key"));
  return false;
}

void Server::sendJson(Response &response, const Json &json, int status) {
  response.status = status;
  response.set_content(dumpJson(json), "application/json");
}

void Server::sendError(Response &response, const absl::Status &status) {
  sendJson(response, errorJson(status), httpError(status.code()).status);
  if (response.status == 503)
    response.set_header("Retry-After", std::to_string(kRetryAfterSeconds));
}

void Server::page(const Request &, Response &response) {
  response.set_header("Content-Security-Policy",
                      "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
                      "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_content(kPage.data(), kPage.size(), "text/html; charset=utf-8");
}

void Server::health(const Request &, Response &response) {
  if (absl::Status status = service.engine().status(); !status.ok())
    return sendError(response,
                     absl::UnavailableError(absl::StrCat("the device failed: ", std::string(status.message()))));
  if (draining)
    return sendError(response, absl::UnavailableError("the server is shutting down"));
  sendJson(response, {{"status", "ok"}});
}

void Server::metrics(const Request &, Response &response) {
  EngineCounters now = service.engine().counters();
  std::string text;
  auto add = [&](const char *name, const char *kind, const char *help, auto value) {
    absl::StrAppend(&text, "# HELP ingot_", name, " ", help, "\n# TYPE ingot_", name, " ", kind, "\ningot_", name, " ",
                    value, "\n");
  };
  add("requests_running", "gauge", "Requests that have a slot.", now.running);
  add("requests_waiting", "gauge", "Requests in the queue.", now.waiting);
  add("slots", "gauge", "Requests that can run at the same time.", now.slots);
  absl::StrAppend(&text, "# HELP ingot_requests_total Requests that ended, by how.\n"
                         "# TYPE ingot_requests_total counter\n");
  for (auto [how, count] : {std::pair{"end", now.finishedByEnd},
                            {"length", now.finishedByLength},
                            {"stop", now.stopped},
                            {"cancelled", now.cancelled},
                            {"failed", now.failed},
                            {"refused", now.refused}})
    absl::StrAppend(&text, "ingot_requests_total{finish=\"", how, "\"} ", count, "\n");
  add("prompt_tokens_total", "counter", "Tokens of prompts.", now.promptTokens);
  add("prompt_tokens_reused_total", "counter", "Of these, tokens taken from an earlier request's state.",
      now.reusedTokens);
  add("reply_tokens_total", "counter", "Tokens that were generated.", now.replyTokens);
  add("prefix_lookups_total", "counter", "Prompts that were begun.", now.lookups);
  add("prefix_hits_total", "counter", "Prompts that began as an earlier one.", now.hits);
  add("prefill_chunks_total", "counter", "Chunks of prompts that were computed.", now.prefillChunks);
  add("prefill_launches_total", "counter", "Kernels launched for them.", now.prefillLaunches);
  add("decode_steps_total", "counter", "Steps that gave tokens.", now.decodeSteps);
  add("batch_steps_total", "counter", "Of these, steps of several requests.", now.batches.steps);
  add("batch_rows_total", "counter", "Rows of these that were of a request.", now.batches.rows);
  add("batch_padding_rows_total", "counter", "Rows of these that were of none.", now.batches.padding);
  add("draft_tokens_total", "counter", "Tokens that the model's head guessed.", now.drafted);
  add("draft_tokens_accepted_total", "counter", "Of these, those that were right.", now.accepted);
  add("cache_blocks", "gauge", "Blocks of tokens of earlier prompts that are remembered.", now.cacheBlocks);
  add("cache_bytes", "gauge", "Pages and host memory that they take, in bytes.", now.cacheBytes);
  add("cache_forgotten_total", "counter", "Blocks that were forgotten to make room.", now.cacheForgotten);
  add("cache_restored_bytes_total", "counter", "Bytes copied to the device for prompts that were found.",
      now.restoredBytes);
  add("kv_pages", "gauge", "Pages of KV cache.", now.pages);
  add("kv_pages_free", "gauge", "Of these, pages that hold nothing.", now.freePages);
  add("kv_pages_promised", "gauge", "Pages that running requests may come to need.", now.promisedPages);
  add("first_token_seconds_sum", "counter", "From a request's arrival to its first token.", now.firstTokenSeconds);
  add("first_token_seconds_count", "counter", "Requests with a first token.", now.firstTokens);
  add("queue_seconds_sum", "counter", "From a request's arrival to its slot.", now.queueSeconds);
  add("busy_seconds_total", "counter", "Time in which anything ran.", now.busySeconds);
#if __has_feature(address_sanitizer)
  add("heap_bytes", "gauge", "Host memory that is allocated and not freed.", __sanitizer_get_current_allocated_bytes());
#endif
  if (const Device &device = service.engine().device(); device.emulated())
    if (auto counted = parseJson(device.hip().countersJson()); counted.ok() && counted->contains("totals"))
      add("emulator_bytes_total", "counter", "Bytes that kernels read and wrote, as the emulator counts them.",
          (*counted)["totals"].value("bytes_read", uint64_t{0}) +
              (*counted)["totals"].value("bytes_written", uint64_t{0}));
  absl::StrAppend(&text, "# HELP ingot_http_responses_total Responses by path and status.\n"
                         "# TYPE ingot_http_responses_total counter\n");
  {
    std::lock_guard lock(mutex);
    for (const auto &[key, count] : responses)
      absl::StrAppend(&text, "ingot_http_responses_total{path=\"", key.first, "\",status=\"", key.second, "\"} ", count,
                      "\n");
  }
  response.set_content(text, "text/plain; version=0.0.4; charset=utf-8");
}

Json Server::modelEntry() const {
  return {{"id", service.name()},
          {"object", "model"},
          {"created", started},
          {"owned_by", "ingot"},
          {"max_model_len", service.engine().context()},
          {"chat", service.chats()}};
}

void Server::models(const Request &request, Response &response) {
  if (request.matches.size() < 2)
    return sendJson(response, {{"object", "list"}, {"data", Json::array({modelEntry()})}});
  if (request.matches[1] == service.name())
    return sendJson(response, modelEntry());
  sendError(response, absl::NotFoundError(absl::StrCat("model: expected ", service.name(),
                                                       ", which is the one served here, got another")));
}

void Server::chat(const Request &request, Response &response) {
  answer(parseChatRequest(request.body), request, response);
}

void Server::complete(const Request &request, Response &response) {
  answer(parseCompletionRequest(request.body), request, response);
}

void Server::embed(const Request &, Response &response) {
  sendError(response, absl::UnimplementedError("this server runs a model that generates text; it has no embeddings"));
}

void Server::applyTemplate(const Request &request, Response &response) {
  auto parsed = parseChatRequest(request.body);
  if (!parsed.ok())
    return sendError(response, parsed.status());
  auto text = service.render(*parsed);
  if (!text.ok())
    return sendError(response, text.status());
  sendJson(response, {{"prompt", *text}});
}

void Server::tokenize(const Request &request, Response &response) {
  auto body = parseJson(request.body);
  if (!body.ok())
    return sendError(response,
                     absl::InvalidArgumentError(absl::StrCat("body: ", std::string(body.status().message()))));
  Json text = body->is_object() ? body->value("content", body->value("prompt", Json())) : Json();
  if (!text.is_string())
    return sendError(response, absl::InvalidArgumentError("content: expected a string"));
  Json special = body->value("add_special", Json(false)), parse = body->value("parse_special", Json(false));
  if (!special.is_boolean() || !parse.is_boolean())
    return sendError(response, absl::InvalidArgumentError("add_special, parse_special: expected true or false"));
  std::vector<int32_t> ids =
      service.tokenizer().encode(text.get<std::string>(), {special.get<bool>(), parse.get<bool>()});
  sendJson(response, {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", service.engine().context()}});
}

void Server::detokenize(const Request &request, Response &response) {
  auto body = parseJson(request.body);
  Json tokens = body.ok() && body->is_object() ? body->value("tokens", Json()) : Json();
  if (!tokens.is_array() || !std::ranges::all_of(tokens, [](const Json &id) {
        return id.is_number_unsigned() && id.template get<uint64_t>() <= INT32_MAX;
      }))
    return sendError(response, absl::InvalidArgumentError("tokens: expected an array of token ids"));
  std::string text = service.tokenizer().decode(tokens.get<std::vector<int32_t>>(), /*skipSpecial=*/false);
  sendJson(response, {{"content", text}, {"prompt", text}});
}

void Server::answer(const absl::StatusOr<ApiRequest> &parsed, const Request &request, Response &response) {
  auto start = Clock::now();
  if (!parsed.ok())
    return sendError(response, parsed.status());
  auto exchange = service.start(*parsed);
  if (!exchange.ok())
    return sendError(response, exchange.status());
  Answer made(*parsed, service, names, (*exchange)->choices());
  if (!parsed->stream) {
    answerWhole(**exchange, made, response);
    logEnd(request.path, made, secondsSince(start), !(*exchange)->ended());
    return;
  }
  auto stream = std::make_shared<Stream>(
      Stream{*std::move(exchange), std::move(made), parsed->includeUsage, false, false, request.path, start});
  response.set_header("Cache-Control", "no-store");
  ++streaming;
  response.set_chunked_content_provider(
      "text/event-stream",
      [stream](size_t, httplib::DataSink &sink) {
        auto send = [&](const Json &json) {
          std::string event = eventOf(json);
          return sink.write(event.data(), event.size());
        };
        if (!std::exchange(stream->opened, true))
          for (const Json &chunk : stream->answer.opening())
            send(chunk);
        std::optional<ReplyEvent> event = stream->exchange->next(kPatience);
        if (event) {
          for (const Json &chunk : stream->answer.add(*event))
            if (!send(chunk))
              return false;
          return !HttpServer::clientIsGone();
        }
        if (!stream->exchange->ended())
          return !HttpServer::clientIsGone();
        if (const absl::Status &failure = stream->answer.failure(); !failure.ok())
          send(errorJson(failure));
        if (stream->usage)
          send(stream->answer.usageChunk());
        constexpr std::string_view kDone = "data: [DONE]\n\n";
        sink.write(kDone.data(), kDone.size());
        sink.done();
        stream->done = true;
        return true;
      },
      [this, stream](bool) {
        stream->exchange->cancel();
        logEnd(stream->path, stream->answer, secondsSince(stream->start), !stream->done);
        --streaming;
      });
}

void Server::answerWhole(Exchange &exchange, Answer &answer, Response &response) {
  while (!exchange.ended()) {
    if (auto event = exchange.next(kPatience))
      answer.add(*event);
    else if (HttpServer::clientIsGone())
      return; // whoever destroys the exchange cancels it
  }
  if (const absl::Status &failure = answer.failure(); !failure.ok())
    return sendError(response,
                     service.engine().status().ok()
                         ? failure
                         : absl::InternalError(absl::StrCat("the device failed: ", std::string(failure.message()))));
  sendJson(response, answer.whole());
}

void Server::log(const Json &line) {
  Json whole = {{"time", std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count()}};
  whole.update(line);
  std::string text = dumpJson(whole) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void Server::logEnd(const std::string &path, const Answer &answer, double seconds, bool abandoned) const {
  if (!options.logRequests)
    return;
  log({{"event", "request"},
       {"path", path},
       {"finish", abandoned ? "client left" : answer.finishReasons()},
       {"seconds", seconds},
       {"first_token_seconds", answer.firstTokenSeconds()},
       {"prompt_tokens", answer.promptTokens()},
       {"reused_tokens", answer.reusedTokens()},
       {"reply_tokens", answer.replyTokens()}});
}

absl::Status Server::run(const std::atomic<bool> &stop) {
  const EngineCounters atStart = service.engine().counters();
  Json line = {{"event", "listening"},
               {"address", url},
               {"model", service.name()},
               {"slots", atStart.slots},
               {"context", service.engine().context()},
               {"requests_per_step", service.engine().requestsPerStep()},
               {"cache_blocks", atStart.cacheBlocks}};
  if (atStart.slots > 1 && service.engine().requestsPerStep() == 1)
    line["advice"] =
        "requests take turns on the device; a model compiled with `ingotc --streams 8` has steps of several";
  for (const auto &[what, seconds] : options.startup)
    line["startup_seconds"][what] = seconds;
  if (const absl::Status &cache = service.engine().cacheStatus(); !cache.ok())
    line["cache"] = absl::StrCat("not used: ", std::string(cache.message()));
  log(line);
  std::atomic<bool> closed = false;
  std::thread listener([&] {
    http.listen_after_bind();
    closed = true;
  });
  while (!stop && !closed && service.engine().status().ok())
    std::this_thread::sleep_for(milliseconds(20));
  draining = true;
  log({{"event", "draining"}, {"running", service.engine().counters().running}});
  service.engine().drain(options.drainPatience);
  if (absl::Status saved = service.engine().saveCache(); !saved.ok())
    log({{"event", "cache"}, {"error", std::string(saved.message())}});
  // What the engine said last is still on its way to the clients, and stopping would cut it off.
  for (auto until = Clock::now() + kFarewell; streaming > 0 && Clock::now() < until;)
    std::this_thread::sleep_for(milliseconds(5));
  // The listener must run before it can be stopped.
  while (!http.is_running() && !closed)
    std::this_thread::sleep_for(milliseconds(1));
  http.stop();
  listener.join();
  absl::Status status = service.engine().status();
  log({{"event", "stopped"}, {"device", status.ok() ? "ok" : std::string(status.message())}});
  return status;
}

} // namespace ingot
