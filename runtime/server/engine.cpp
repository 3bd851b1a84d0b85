#include "runtime/server/engine.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ingot {
namespace {

using Clock = std::chrono::steady_clock;
double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

} // namespace

Engine::Engine(std::shared_ptr<Model> served, EngineOptions chosen)
    : model(std::move(served)), options(std::move(chosen)) {
  for (uint32_t id : model->manifest().facts().end_of_sequence())
    options.endOfSequence.insert(static_cast<int32_t>(id));
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<Model> model, EngineOptions options) {
  std::unique_ptr<Engine> engine(new Engine(std::move(model), std::move(options)));
  auto slots = Slots::create(engine->model, engine->options.cacheBytes);
  if (!slots.ok())
    return slots.status();
  engine->slots = *std::move(slots);
  if (engine->model->manifest().facts().streams() > 0) {
    auto batches = BatchRunner::create(engine->model);
    if (!batches.ok())
      return batches.status();
    engine->batches = *std::move(batches);
  }
  if (const std::string &folder = engine->options.cacheFolder; !folder.empty()) {
    if (std::error_code error; !std::filesystem::is_directory(folder, error))
      return absl::InvalidArgumentError(absl::StrCat(folder, ": expected a folder to keep prompts in (--cache-dir)"));
    engine->restored = engine->slots->restore(folder);
    if (absl::IsNotFound(engine->restored))
      engine->restored = absl::OkStatus();
  }
  engine->totals.slots = engine->slots->size();
  engine->totals.pages = engine->model->pages().size();
  engine->countCache();
  engine->thread = std::thread([raw = engine.get()] { raw->loop(); });
  return engine;
}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex);
    draining = stopping = true;
  }
  cancelAll = true;
  wake.notify_all();
  if (thread.joinable())
    thread.join();
}

absl::Status Engine::check(const GenerationRequest &request) const {
  auto vocabulary = static_cast<int32_t>(model->manifest().facts().vocabulary());
  if (request.prompt.empty())
    return absl::InvalidArgumentError("expected a prompt of at least one token, got none");
  if (request.prompt.size() >= context())
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", request.prompt.size(), " tokens and the context ",
                                                   context(),
                                                   " positions, which leaves no room for a reply; shorten the prompt"));
  for (int32_t id : request.prompt)
    if (id < 0 || id >= vocabulary)
      return absl::InvalidArgumentError(
          absl::StrCat("prompt: expected token ids from 0 to ", vocabulary - 1, ", got ", id));
  if (request.maxTokens == 0)
    return absl::InvalidArgumentError("expected at least one token to generate, got 0");
  if (absl::Status status = checkSampling(request.sampling); !status.ok())
    return status;
  return checkRules(request.rules, vocabulary);
}

absl::StatusOr<std::vector<std::shared_ptr<Engine::Job>>>
Engine::submit(std::vector<std::pair<GenerationRequest, std::shared_ptr<Listener>>> requests) {
  for (const auto &[request, listener] : requests)
    if (absl::Status status = check(request); !status.ok())
      return status;
  std::vector<std::shared_ptr<Job>> jobs;
  {
    std::lock_guard lock(mutex);
    if (!failure.ok())
      return absl::UnavailableError(absl::StrCat("the device failed: ", std::string(failure.message())));
    if (draining)
      return absl::UnavailableError("the server is shutting down");
    // Those that an idle slot will take at once do not wait.
    size_t idleSlots = totals.slots - std::min<size_t>(totals.slots, totals.running);
    if (waiting.size() + requests.size() > options.maxQueue + idleSlots) {
      totals.refused += requests.size();
      return absl::ResourceExhaustedError(absl::StrCat("expected at most ", options.maxQueue, " waiting requests, and ",
                                                       waiting.size(), " wait already; try again later"));
    }
    for (auto &[request, listener] : requests) {
      auto job = std::make_shared<Job>();
      job->request = std::move(request);
      job->listener = std::move(listener);
      job->submitted = Clock::now();
      job->outcome.promptTokens = static_cast<uint32_t>(job->request.prompt.size());
      waiting.push_back(job);
      jobs.push_back(std::move(job));
    }
    totals.waiting = waiting.size();
  }
  wake.notify_all();
  return jobs;
}

void Engine::drain(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex);
  draining = true;
  auto quiet = [this] { return waiting.empty() && totals.running == 0; };
  if (!idle.wait_for(lock, patience, quiet)) {
    cancelAll = true;
    idle.wait(lock, quiet);
  }
}

// With the mutex, or before the thread.
void Engine::countCache() {
  const PrefixTree &tree = slots->remembered();
  totals.cacheBlocks = tree.blocks();
  totals.cacheBytes = tree.bytes();
  totals.cacheForgotten = tree.forgotten();
  totals.restoredBytes = slots->restoredBytes();
  totals.freePages = slots->freePages();
  totals.promisedPages = slots->promisedPages();
}

absl::Status Engine::saveCache() const {
  // After a device error nothing that was read from it can be trusted.
  if (options.cacheFolder.empty() || !status().ok())
    return absl::OkStatus();
  return slots->save(options.cacheFolder);
}

EngineCounters Engine::counters() const {
  std::lock_guard lock(mutex);
  return totals;
}

absl::Status Engine::status() const {
  std::lock_guard lock(mutex);
  return failure;
}

void Engine::loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex);
      wake.wait(lock, [this] { return stopping || !waiting.empty() || !running.empty(); });
      if (stopping && waiting.empty() && running.empty())
        return;
    }
    auto start = Clock::now();
    round();
    std::lock_guard lock(mutex);
    totals.busySeconds += secondsSince(start);
    countCache();
    if (waiting.empty() && totals.running == 0)
      idle.notify_all();
  }
}

void Engine::round() {
  auto isCancelled = [this](const std::shared_ptr<Job> &job) {
    return cancelAll || job->cancelled.load(std::memory_order_relaxed);
  };
  // Cancelled ones go first: their slots are free for those that wait.
  std::vector<std::shared_ptr<Job>> gone;
  {
    std::lock_guard lock(mutex);
    std::ranges::copy_if(waiting, std::back_inserter(gone), isCancelled);
    std::erase_if(waiting, isCancelled);
    totals.waiting = waiting.size();
  }
  std::ranges::copy_if(running, std::back_inserter(gone), isCancelled);
  for (const auto &job : gone)
    finish(job, Finish::kCancelled);
  absl::Status status = absl::OkStatus();
  while (status.ok()) {
    std::shared_ptr<Job> job;
    {
      std::lock_guard lock(mutex);
      // In order of arrival: none that needs few pages overtakes one that needs many.
      if (waiting.empty() || !slots->mayBegin(positionsOf(waiting.front()->request)))
        break;
      job = waiting.front();
      waiting.pop_front();
      totals.waiting = waiting.size();
      ++totals.running;
    }
    running.push_back(job);
    status = begin(job);
  }
  if (status.ok())
    status = prefillOne();
  if (status.ok())
    status = decodeAll();
  if (!status.ok())
    fail(status);
}

uint32_t Engine::positionsOf(const GenerationRequest &request) const {
  return static_cast<uint32_t>(std::min<uint64_t>(request.prompt.size() + request.maxTokens, context()));
}

absl::Status Engine::begin(const std::shared_ptr<Job> &job) {
  job->outcome.queueSeconds = secondsSince(job->submitted);
  auto slot = slots->begin(job->request.prompt, positionsOf(job->request));
  if (!slot.ok())
    return slot.status();
  job->slot = *slot;
  job->outcome.reusedTokens = job->slot->session().position();
  job->counts.addPrompt(job->request.prompt);
  {
    std::lock_guard lock(mutex);
    ++totals.lookups;
    totals.hits += job->outcome.reusedTokens > 0;
    totals.promptTokens += job->outcome.promptTokens;
    totals.reusedTokens += job->outcome.reusedTokens;
    totals.queueSeconds += job->outcome.queueSeconds;
    countCache();
  }
  // The last token that is chosen takes no position.
  job->slot->session().limitReply(std::min(job->request.maxTokens, context() - job->outcome.promptTokens + 1));
  job->slot->session().setAhead(!job->waits());
  job->slot->session().setDrafting(job->waits() ? Drafting::Never : Drafting::Auto);
  LogitsProcessor processor;
  if (job->usesLogits())
    processor = [raw = job.get()](std::span<float> row) { return raw->processLogits(row); };
  if (absl::Status status = job->slot->session().setLogitsProcessor(std::move(processor)); !status.ok())
    return status;
  return job->slot->session().setSampling(job->request.sampling);
}

absl::Status Engine::prefillOne() {
  std::vector<std::shared_ptr<Job>> prompts;
  for (const auto &job : running)
    if (job->slot->session().position() < job->request.prompt.size())
      prompts.push_back(job);
  if (prompts.empty())
    return absl::OkStatus();
  Job &job = *prompts[nextPrompt++ % prompts.size()];
  auto reused = slots->prefill(*job.slot, job.request.prompt);
  if (!reused.ok())
    return reused.status();
  std::lock_guard lock(mutex);
  totals.hits += job.outcome.reusedTokens == 0 && *reused > 0;
  totals.reusedTokens += *reused;
  job.outcome.reusedTokens += *reused;
  countCache();
  ++totals.prefillChunks;
  totals.prefillLaunches += job.slot->session().launchesPerChunk();
  return absl::OkStatus();
}

absl::Status Engine::decodeAll() {
  std::vector<std::shared_ptr<Job>> alone, together, hosted;
  for (auto place = running.begin(); place != running.end();) {
    const std::shared_ptr<Job> job = *place++; // which may end here
    Session &session = job->slot->session();
    if (session.position() < job->request.prompt.size() || job->cancelled.load(std::memory_order_relaxed))
      continue; // what is cancelled ends at the beginning of the next round
    if (absl::Status status = updateMask(*job); !status.ok()) {
      if (!absl::IsInvalidArgument(status))
        return status;
      finish(job, Finish::kFailed, status);
      continue;
    }
    (!batches || !session.mayJoin() ? alone : job->waits() ? hosted : together).push_back(job);
  }
  for (const auto &job : alone)
    if (absl::Status status = decodeAlone(job); !status.ok())
      return status;
  // Last: where one step cannot take all, they hold up as few others as can be.
  together.insert(together.end(), hosted.begin(), hosted.end());
  for (std::span<const std::shared_ptr<Job>> rest = together; !rest.empty();) {
    std::span<const std::shared_ptr<Job>> part = rest.first(std::min<size_t>(rest.size(), batches->most()));
    rest = rest.subspan(part.size());
    if (absl::Status status = part.size() == 1 ? decodeAlone(part.front()) : decodeTogether(part); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::Status Engine::updateMask(Job &job) {
  if (!job.request.filter)
    return absl::OkStatus();
  job.mask = job.request.filter->mask(model->manifest().facts().vocabulary());
  if (absl::Status status = job.request.filter->status(); !status.ok())
    return status;
  return job.slot->session().setMask(job.mask);
}

absl::Status Engine::decodeAlone(const std::shared_ptr<Job> &job) {
  auto tokens = job->slot->session().nextTokens();
  if (absl::IsOutOfRange(tokens.status())) {
    finish(job, Finish::kLength);
    return absl::OkStatus();
  }
  if (!tokens.ok())
    return tokens.status();
  {
    std::lock_guard lock(mutex);
    ++totals.decodeSteps;
  }
  for (int32_t token : *tokens)
    if (!deliver(job, token))
      break;
  return absl::OkStatus();
}

absl::Status Engine::decodeTogether(std::span<const std::shared_ptr<Job>> jobs) {
  std::array<Session *, kBatchRows> sessions;
  for (size_t row = 0; row < jobs.size(); ++row)
    sessions[row] = &jobs[row]->slot->session();
  auto tokens = batches->next(std::span(sessions).first(jobs.size()));
  if (!tokens.ok())
    return tokens.status();
  {
    std::lock_guard lock(mutex);
    totals.decodeSteps += batches->counts().steps - totals.batches.steps;
    totals.batches = batches->counts();
  }
  for (size_t row = 0; row < jobs.size(); ++row)
    if (const std::optional<int32_t> &token = (*tokens)[row])
      deliver(jobs[row], *token);
  return absl::OkStatus();
}

bool Engine::Job::processLogits(std::span<float> logits) {
  if (request.logprobs)
    row.assign(logits.begin(), logits.end());
  if (request.rules.none())
    return false;
  // First: min-p must see only what may come.
  exclude(mask, logits);
  counts.apply(request.rules, request.sampling.temperature, logits);
  return true;
}

ChosenToken Engine::Job::describe(int32_t token) const {
  if (!request.logprobs)
    return {token, 0, {}};
  return {token, logprobOf(row, token).logprob, likeliest(row, *request.logprobs)};
}

bool Engine::deliver(const std::shared_ptr<Job> &job, int32_t token) {
  if (const auto &filter = job->request.filter) {
    filter->accept(token);
    if (!filter->status().ok()) {
      finish(job, Finish::kFailed, filter->status());
      return false;
    }
  }
  job->counts.addReply(token);
  ++job->outcome.replyTokens;
  {
    std::lock_guard lock(mutex);
    ++totals.replyTokens;
    if (job->outcome.replyTokens == 1) {
      job->outcome.firstTokenSeconds = secondsSince(job->submitted);
      totals.firstTokenSeconds += job->outcome.firstTokenSeconds;
      ++totals.firstTokens;
    }
  }
  if (!job->request.ignoreEnd && options.endOfSequence.contains(token))
    finish(job, Finish::kEnd);
  else if (!job->listener->onToken(job->describe(token)))
    finish(job, Finish::kStopped);
  else if (job->outcome.replyTokens >= job->request.maxTokens)
    finish(job, Finish::kLength);
  else
    return true;
  return false;
}

void Engine::finish(const std::shared_ptr<Job> &job, Finish reason, const absl::Status &why) {
  auto place = std::ranges::find(running, job);
  bool wasRunning = place != running.end();
  if (wasRunning) {
    running.erase(place);
    if (job->slot)
      slots->release(*job->slot);
  }
  job->outcome.finish = reason;
  job->outcome.status = why;
  job->outcome.seconds = secondsSince(job->submitted);
  {
    std::lock_guard lock(mutex);
    totals.running -= wasRunning;
    if (job->outcome.replyTokens > 0) {
      const DraftCounts &drafts = job->slot->session().drafts().counts();
      totals.drafted += drafts.drafted;
      totals.accepted += drafts.accepted;
    }
    ++(reason == Finish::kEnd         ? totals.finishedByEnd
       : reason == Finish::kLength    ? totals.finishedByLength
       : reason == Finish::kStopped   ? totals.stopped
       : reason == Finish::kCancelled ? totals.cancelled
                                      : totals.failed);
  }
  job->listener->onFinish(job->outcome);
}

void Engine::fail(const absl::Status &why) {
  std::vector<std::shared_ptr<Job>> victims(running.begin(), running.end());
  {
    std::lock_guard lock(mutex);
    failure = why;
    victims.insert(victims.end(), waiting.begin(), waiting.end());
    waiting.clear();
    totals.waiting = 0;
  }
  for (const auto &job : victims)
    finish(job, Finish::kFailed, why);
}

} // namespace ingot
