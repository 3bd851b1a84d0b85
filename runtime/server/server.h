// OpenAI's API over HTTP, with the page at `/` and the figures at `/metrics`. docs/guide/serving.md is for its users.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/server/answer.h"
#include "runtime/server/http.h"
#include "runtime/server/service.h"

namespace ingot {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;    // 0: any that is free
  std::string apiKey; // empty: none is asked for
  size_t maxBodyBytes = size_t{16} << 20;
  size_t maxConnections = 128;
  bool logRequests = false;
  std::chrono::milliseconds drainPatience{30'000};
  std::vector<std::pair<std::string, double>> startup; // what was done before, and its seconds: for the first log line
};

class Server {
public:
  // Binds the port. Unavailable if that fails.
  static absl::StatusOr<std::unique_ptr<Server>> create(Service &service, const ServerOptions &options);

  const std::string &address() const { return url; } // "http://127.0.0.1:8080"
  // Serves until `stop` turns true, then takes no more requests and lets those under way end. The status is the
  // engine's: an error of the device ends the service, after every client was told.
  absl::Status run(const std::atomic<bool> &stop);

private:
  using Request = httplib::Request;
  using Response = httplib::Response;
  using Handler = void (Server::*)(const Request &, Response &);
  struct Stream;

  Server(Service &service, const ServerOptions &options);
  void route(const char *method, const std::string &path, Handler handler, bool open = false);
  bool allowed(const Request &request, Response &response, bool open) const;
  void page(const Request &request, Response &response);
  void health(const Request &request, Response &response);
  void metrics(const Request &request, Response &response);
  void models(const Request &request, Response &response);
  void chat(const Request &request, Response &response);
  void complete(const Request &request, Response &response);
  void embed(const Request &request, Response &response);
  void applyTemplate(const Request &request, Response &response);
  void tokenize(const Request &request, Response &response);
  void detokenize(const Request &request, Response &response);
  void answer(const absl::StatusOr<ApiRequest> &parsed, const Request &request, Response &response);
  void answerWhole(Exchange &exchange, Answer &answer, Response &response);
  Json modelEntry() const;
  void logEnd(const std::string &path, const Answer &answer, double seconds, bool abandoned) const;
  static void log(const Json &line);
  static void sendJson(Response &response, const Json &json, int status = 200);
  static void sendError(Response &response, const absl::Status &status);

  Service &service;
  ServerOptions options;
  std::string url;
  Names names;
  int64_t started;
  std::atomic<bool> draining = false;
  std::atomic<int> streaming = 0; // responses of which not everything is written
  std::mutex mutex;
  std::map<std::pair<std::string, int>, uint64_t> responses; // by path and status
  HttpServer http;                                           // destroyed first
};

// The static page, as built in.
extern const std::string_view kPage;

} // namespace ingot
