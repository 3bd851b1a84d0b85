// Runs many requests on one model: a queue, a sequence for each request that runs, and one thread that drives the
// device. It knows tokens only; text and HTTP are made of what it tells its listeners.
//
// The thread works in rounds. In a round each running request gives one token, and one waiting prompt (in turn) gets
// one chunk: a long prompt delays the others' tokens by one chunk, never by the whole prompt. Where the model was
// compiled for it, several requests give their tokens by one step. What a request answers does not depend on what runs
// beside it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/executor/batch_runner.h"
#include "runtime/executor/session.h"
#include "runtime/server/logits.h"
#include "runtime/server/slots.h"

namespace ingot {

struct GenerationRequest {
  std::vector<int32_t> prompt;
  uint32_t maxTokens = 1; // at least 1; the context may end the reply before
  Sampling sampling;
  LogitRules rules;
  std::optional<uint32_t> logprobs;    // for each token its log-probability and so many of the likeliest
  std::shared_ptr<TokenFilter> filter; // null: any token may come
  bool ignoreEnd = false;              // go on after an end-of-sequence token
};

struct ChosenToken {
  int32_t id = 0;
  float logprob = 0; // with `logprobs` only, like what follows
  std::vector<TokenLogprob> likeliest;
};

enum class Finish {
  kEnd,     // the model said so
  kLength,  // maxTokens, or the context is full
  kStopped, // the listener said so
  kCancelled,
  kFailed,
};

struct Outcome {
  Finish finish = Finish::kFailed;
  absl::Status status;                                          // why, after kFailed
  uint32_t promptTokens = 0, reusedTokens = 0, replyTokens = 0; // replyTokens counts the end-of-sequence token too
  double queueSeconds = 0, firstTokenSeconds = 0, seconds = 0;  // waiting; until the first token; in all
};

// Called on the engine's thread, one call at a time: return soon.
class Listener {
public:
  virtual ~Listener() = default;
  // False ends the request. Not called for the token that ends the sequence.
  virtual bool onToken(const ChosenToken &token) = 0;
  // Once, last.
  virtual void onFinish(const Outcome &outcome) = 0;
};

struct EngineOptions {
  size_t maxQueue = 64;                    // requests that may wait; more are refused
  uint64_t cacheBytes = uint64_t{1} << 30; // the most that is kept of what prompts leave behind; 0: nothing
  std::string cacheFolder;                 // where what they left behind is kept from run to run; empty: nowhere
  std::set<int32_t> endOfSequence;         // beside those of the manifest
};

struct EngineCounters {
  uint64_t running = 0, waiting = 0, slots = 0;                                                          // now
  uint64_t finishedByEnd = 0, finishedByLength = 0, stopped = 0, cancelled = 0, failed = 0, refused = 0; // requests
  uint64_t promptTokens = 0, reusedTokens = 0, replyTokens = 0;
  uint64_t lookups = 0, hits = 0; // prompts begun; those that found a prefix
  uint64_t prefillChunks = 0, prefillLaunches = 0, decodeSteps = 0;
  BatchCounts batches;                // steps of several requests
  uint64_t drafted = 0, accepted = 0; // tokens that the model's head guessed, and those of them that were right
  uint64_t cacheBlocks = 0, cacheBytes = 0, cacheForgotten = 0; // remembered now; blocks forgotten so far
  uint64_t restoredBytes = 0;                                   // copied to the device for prompts that were found
  uint64_t pages = 0, freePages = 0, promisedPages = 0; // of KV cache: in all; that nobody has; to running requests
  double firstTokenSeconds = 0, queueSeconds = 0, busySeconds = 0; // sums
  uint64_t firstTokens = 0;                                        // requests that gave a first token
};

class Engine {
public:
  // A request that was taken. Cancelling is heard within a step; the outcome comes to the listener all the same.
  class Job {
  public:
    void cancel() { cancelled.store(true, std::memory_order_relaxed); }

  private:
    friend class Engine;
    // Whether the host must see the logits of each step.
    bool usesLogits() const { return request.logprobs || !request.rules.none(); }
    // Whether the host must have seen a token before the next step is launched.
    bool waits() const { return usesLogits() || request.filter; }
    // A LogitsProcessor.
    bool processLogits(std::span<float> row);
    // The token as its listener is told.
    ChosenToken describe(int32_t token) const;
    GenerationRequest request;
    std::shared_ptr<Listener> listener;
    std::atomic<bool> cancelled = false;
    Outcome outcome;
    std::chrono::steady_clock::time_point submitted;
    // While it runs:
    Slot *slot = nullptr;
    TokenCounts counts;
    std::span<const uint32_t> mask; // of its filter, of the next token
    std::vector<float> row;         // of the model's logits, where log-probabilities are asked for
  };

  static absl::StatusOr<std::unique_ptr<Engine>> create(std::shared_ptr<Model> model, EngineOptions options);
  // Cancels what is left and waits for it.
  ~Engine();

  // Takes all of them or none. InvalidArgument: an empty prompt, one that leaves no room in the context, ids outside
  // the vocabulary, rules or sampling out of range. ResourceExhausted: the queue is full. Unavailable: draining, or the
  // device failed (the status says how).
  absl::StatusOr<std::vector<std::shared_ptr<Job>>>
  submit(std::vector<std::pair<GenerationRequest, std::shared_ptr<Listener>>> requests);
  // Takes no more requests and waits until those taken have ended, at most so long; then the rest is cancelled.
  void drain(std::chrono::milliseconds patience);
  // After drain(): keeps what the prompts left behind in the cache folder, where there is one.
  absl::Status saveCache() const;
  // What came of reading it at the start: OK without one or with none there yet. Never stops an engine.
  const absl::Status &cacheStatus() const { return restored; }

  EngineCounters counters() const;
  // OK, or the device's error after which nothing runs any more.
  absl::Status status() const;
  // Positions that a request may come to have.
  uint32_t context() const { return slots->context(); }
  // Requests that one step takes; 1: the model was not compiled for several.
  uint32_t requestsPerStep() const { return batches ? batches->most() : 1; }
  const Device &device() const { return model->device(); }

private:
  Engine(std::shared_ptr<Model> model, EngineOptions options);
  absl::Status check(const GenerationRequest &request) const;
  void loop();
  void round();
  // Positions that it may come to have.
  uint32_t positionsOf(const GenerationRequest &request) const;
  absl::Status begin(const std::shared_ptr<Job> &job);
  absl::Status prefillOne();
  // One token of every request whose prompt is done.
  absl::Status decodeAll();
  absl::Status decodeAlone(const std::shared_ptr<Job> &job);
  // Asks the filter, if there is one, what the next token may be. InvalidArgument: none, and so the request must end.
  absl::Status updateMask(Job &job);
  // By one step; at least one and at most requestsPerStep().
  absl::Status decodeTogether(std::span<const std::shared_ptr<Job>> jobs);
  // False when the request ended with this token.
  bool deliver(const std::shared_ptr<Job> &job, int32_t token);
  void finish(const std::shared_ptr<Job> &job, Finish reason, const absl::Status &why = absl::OkStatus());
  void fail(const absl::Status &why);
  void countCache();

  std::shared_ptr<Model> model;
  EngineOptions options;
  std::unique_ptr<Slots> slots;
  std::unique_ptr<BatchRunner> batches; // null where the model was not compiled for steps of several
  absl::Status restored;
  std::list<std::shared_ptr<Job>> running; // in order of arrival; the engine thread's alone
  size_t nextPrompt = 0;                   // whose turn it is for a chunk

  mutable std::mutex mutex;
  std::condition_variable wake, idle;
  std::deque<std::shared_ptr<Job>> waiting;
  EngineCounters totals;
  absl::Status failure;
  bool draining = false, stopping = false;
  std::atomic<bool> cancelAll = false;
  std::thread thread;
};

} // namespace ingot
