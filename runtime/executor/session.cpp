#include "runtime/executor/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/batch.h"
#include "runtime/artifact/manifest_check.h"

namespace ingot {
namespace {

absl::Status annotate(const absl::Status &status, const std::string &where) {
  return {status.code(), absl::StrCat(where, ": ", std::string(status.message()))};
}

absl::Status stopped() { return absl::CancelledError("stopped on request"); }

} // namespace

absl::Status checkSampling(const Sampling &chosen) {
  // The negated comparisons refuse NaN too.
  if (!(chosen.temperature >= 0 && chosen.temperature <= 1000))
    return absl::InvalidArgumentError(absl::StrCat("expected a temperature from 0 to 1000, got ", chosen.temperature));
  if (chosen.topK < 0)
    return absl::InvalidArgumentError(absl::StrCat("expected top-k of 0 (all) or more, got ", chosen.topK));
  if (!(chosen.topP > 0 && chosen.topP <= 1))
    return absl::InvalidArgumentError(absl::StrCat("expected top-p above 0 and at most 1, got ", chosen.topP));
  return absl::OkStatus();
}

absl::Status checkMask(std::span<const uint32_t> mask, uint32_t vocabulary) {
  if (mask.size() != maskWords(vocabulary))
    return absl::InvalidArgumentError(absl::StrCat("expected a mask of ", maskWords(vocabulary),
                                                   " words for a vocabulary of ", vocabulary, ", got ", mask.size()));
  const uint32_t last = vocabulary % 32 == 0 ? ~0U : (1U << vocabulary % 32) - 1; // of the last word, what counts
  if (std::ranges::all_of(mask.first(mask.size() - 1), [](uint32_t word) { return word == 0; }) &&
      (mask.back() & last) == 0)
    return absl::InvalidArgumentError("expected a mask that allows at least one token of the vocabulary, got none");
  return absl::OkStatus();
}

Session::~Session() {
  // Nothing may be freed under a step that still runs.
  if (model)
    (void)stream().synchronize();
}

absl::StatusOr<std::unique_ptr<Session>> Session::load(std::shared_ptr<const Artifact> artifact,
                                                       std::shared_ptr<const Device> device, const std::string &target,
                                                       const SessionOptions &options) {
  auto model = Model::load(std::move(artifact), std::move(device), target, options);
  if (!model.ok())
    return model.status();
  return create(*std::move(model));
}

absl::StatusOr<std::unique_ptr<Session>> Session::create(std::shared_ptr<Model> model) {
  std::unique_ptr<Session> session(new Session());
  session->model = std::move(model);
  for (auto step : {&Session::allocate, &Session::prepare, &Session::reset})
    if (absl::Status status = (session.get()->*step)(); !status.ok())
      return annotate(status, session->model->artifact().path());
  return session;
}

absl::Status Session::allocate() {
  const uint64_t words = std::max(manifest().facts().prefill_chunk(), manifest().facts().draft_length() + 1);
  auto host = HostBuffer::allocate(model->gpu, sizeof(Step) + 4 * (words + ends.size()));
  if (!host.ok())
    return host.status();
  staging = *std::move(host);
  const size_t most = context() / manifest().facts().state_block();
  auto entries = HostBuffer::allocate(model->gpu, most * sizeof(int32_t));
  if (!entries.ok())
    return entries.status();
  table = *std::move(entries);
  held.reserve(most);
  auto hostMask = HostBuffer::allocate(model->gpu, 4 * (maskWords(manifest().facts().vocabulary()) + 1));
  if (!hostMask.ok())
    return hostMask.status();
  maskStaging = *std::move(hostMask);
  std::ranges::fill(maskStaging.bytes(), std::byte{0}); // no mask that anyone sets
  for (Event &end : ends) {
    auto event = Event::create(model->gpu);
    if (!event.ok())
      return event.status();
    end = *std::move(event);
  }
  own.resize(static_cast<size_t>(manifest().buffers_size()));
  for (size_t index = 0; index < own.size(); ++index) {
    const Buffer &plan = manifest().buffers(static_cast<int>(index));
    roles[plan.role()] = index;
    if (!ownedBySequence(plan))
      continue;
    auto memory = DeviceBuffer::allocate(model->gpu, bufferBytes(plan, context()), plan.name());
    if (!memory.ok())
      return memory.status();
    own[index] = *std::move(memory);
  }
  uint64_t plainBytes = 0, draftBytes = 0; // what a step takes is mostly its weights
  for (const Program &program : code().programs())
    if (program.name() == "speculate")
      draftBytes = program.weight_bytes();
    else if (program.name() == "decode_greedy")
      plainBytes = program.weight_bytes();
  policy = DraftPolicy(manifest().facts().draft_length(),
                       plainBytes > 0 ? static_cast<double>(draftBytes) / static_cast<double>(plainBytes) : 1);
  return absl::OkStatus();
}

absl::Status Session::prepare() {
  for (const Program &program : code().programs()) {
    if (((program.name() == "logits" || program.name() == "draft_logits") && !model->options.allLogits) ||
        takesSeveral(program.name()))
      continue;
    auto prepared = model->prepare(program, memory);
    if (!prepared.ok())
      return prepared.status();
    programs.emplace(program.name(), *std::move(prepared));
  }
  return absl::OkStatus();
}

absl::StatusOr<const Model::Prepared *> Session::program(const std::string &name) const {
  auto found = programs.find(name);
  if (found == programs.end())
    return absl::FailedPreconditionError(absl::StrCat(model->artifact().path(), ": expected a program `", name,
                                                      "` for ", code().target(),
                                                      ", got none; compile the model again"));
  return &found->second;
}

absl::Status Session::reset() {
  for (int index = 0; index < manifest().buffers_size(); ++index)
    if (isFixedState(manifest().buffers(index)))
      if (absl::Status status = stream().zero(own[static_cast<size_t>(index)]); !status.ok())
        return status;
  held.clear();
  length = generated = inFlight = 0;
  logitsReady = logitsStored = drafted = masked = false;
  beginReply();
  return stream().synchronize();
}

absl::Status Session::setSampling(const Sampling &chosen) {
  if (absl::Status status = checkSampling(chosen); !status.ok())
    return status;
  sampling = chosen;
  return absl::OkStatus();
}

absl::Status Session::setMask(std::span<const uint32_t> mask) {
  if (absl::Status status = checkNoneAhead(); !status.ok())
    return status;
  if (!mask.empty())
    if (absl::Status status = checkMask(mask, manifest().facts().vocabulary()); !status.ok())
      return status;
  // Every step that reads an earlier mask was waited for. A copy of one may still be on its way: this one comes after
  // it.
  const std::span<std::byte> bits = maskStaging.bytes().first(mask.size_bytes()), flag = maskStaging.bytes().last(4);
  if (!std::ranges::equal(bits, std::as_bytes(mask))) {
    std::memcpy(bits.data(), mask.data(), bits.size());
    if (absl::Status status = stream().upload(buffer(Buffer::MASK), 0, bits); !status.ok()) {
      std::ranges::fill(bits, std::byte{0}); // it is not there
      return status;
    }
  }
  if (masked == !mask.empty())
    return absl::OkStatus();
  const auto now = static_cast<int32_t>(!mask.empty());
  std::memcpy(flag.data(), &now, sizeof now);
  absl::Status status = stream().upload(buffer(Buffer::STEP), offsetof(Step, masked), flag);
  if (status.ok())
    masked = !mask.empty();
  return status;
}

absl::Status Session::setLogitsProcessor(LogitsProcessor chosen) {
  if (absl::Status status = checkNoneAhead(); !status.ok())
    return status;
  if (chosen && row.bytes().empty()) {
    auto host = HostBuffer::allocate(model->gpu, 4 * uint64_t{manifest().facts().vocabulary()});
    if (!host.ok())
      return host.status();
    row = *std::move(host);
  }
  processor = std::move(chosen);
  return absl::OkStatus();
}

absl::Status Session::fetchLogits(const DeviceBuffer &from, uint64_t offset) {
  return processor ? stream().download(from, offset, row.bytes()) : absl::OkStatus();
}

absl::Status Session::processLogits(const DeviceBuffer &to, uint64_t offset) {
  std::span<float> logits(reinterpret_cast<float *>(row.bytes().data()), row.bytes().size() / sizeof(float));
  return processor && processor(logits) ? stream().upload(to, offset, row.bytes()) : absl::OkStatus();
}

absl::Status Session::checkNoneAhead() const {
  return inFlight == 0
             ? absl::OkStatus()
             : absl::FailedPreconditionError("a step ahead is under way: only next() or a new sequence may follow");
}

absl::Status Session::checkTokens(std::span<const int32_t> tokens) const {
  if (absl::Status status = checkNoneAhead(); !status.ok())
    return status;
  if (tokens.empty())
    return absl::InvalidArgumentError("expected at least one token, got none");
  if (tokens.size() > context() - length)
    return absl::InvalidArgumentError(absl::StrCat("expected at most ", context() - length,
                                                   " more tokens for a context of ", context(), ", got ", tokens.size(),
                                                   "; shorten the prompt or give a larger --context"));
  auto vocabulary = static_cast<int32_t>(manifest().facts().vocabulary());
  for (size_t index = 0; index < tokens.size(); ++index)
    if (tokens[index] < 0 || tokens[index] >= vocabulary)
      return absl::InvalidArgumentError(
          absl::StrCat("token ", index, ": expected an id from 0 to ", vocabulary - 1, ", got ", tokens[index]));
  return absl::OkStatus();
}

// An empty page is zero: what a sequence makes of positions that it masks must be finite, whatever was there before.
absl::Status Session::makeRoom(uint32_t positions) {
  const uint32_t block = manifest().facts().state_block();
  const size_t first = held.size(), needed = (positions + block - 1) / block;
  while (held.size() < needed) {
    auto page = model->pages().take();
    if (!page) {
      held.resize(first);
      return absl::ResourceExhaustedError(absl::StrCat("expected ", needed - first, " free pages of ", block,
                                                       " positions of KV cache, got fewer of the ",
                                                       model->pages().size(), "; give a larger --kv-tokens"));
    }
    held.push_back(*std::move(page));
  }
  if (held.size() == first)
    return absl::OkStatus();
  absl::Status status =
      model->forPages(std::span(held).subspan(first), [&](const DeviceBuffer &state, uint64_t offset, uint64_t bytes) {
        return stream().zero(state, offset, bytes);
      });
  if (status.ok())
    status = uploadPages(first);
  if (!status.ok())
    held.resize(first); // what is held is in the table
  return status;
}

absl::Status Session::uploadPages(size_t first) {
  std::span<std::byte> entries =
      table.bytes().subspan(first * sizeof(int32_t), (held.size() - first) * sizeof(int32_t));
  for (size_t index = first; index < held.size(); ++index) {
    const auto page = static_cast<int32_t>(held[index].index());
    std::memcpy(&entries[(index - first) * sizeof page], &page, sizeof page);
  }
  return stream().upload(buffer(Buffer::STEP), sizeof(Step) + first * sizeof(int32_t), entries);
}

void Session::beginReply() {
  const uint64_t room = std::min<uint64_t>(buffer(Buffer::OUTPUT).bytes() / 4, INT32_MAX);
  capacity = static_cast<uint32_t>(replyLimit > 0 ? std::min<uint64_t>(room, uint64_t{generated} + replyLimit) : room);
  policy.reset();
}

absl::Status Session::uploadChunk(std::span<const int32_t> tokens) {
  if (absl::Status status = makeRoom(length + static_cast<uint32_t>(tokens.size())); !status.ok())
    return status;
  Step step = {};
  step.tokens = static_cast<int32_t>(tokens.size());
  step.position = static_cast<int32_t>(length);
  step.generated = static_cast<int32_t>(generated);
  step.capacity = static_cast<int32_t>(capacity);
  step.seed[0] = static_cast<uint32_t>(sampling.seed);
  step.seed[1] = static_cast<uint32_t>(sampling.seed >> 32);
  step.temperature = sampling.temperature;
  step.top_k = sampling.topK;
  step.top_p = sampling.topP;
  step.masked = static_cast<int32_t>(masked);
  drafted = false;
  std::span<std::byte> bytes = staging.bytes();
  std::memcpy(bytes.data(), &step, sizeof step);
  std::memcpy(bytes.data() + sizeof step, tokens.data(), tokens.size_bytes());
  if (absl::Status status = stream().upload(buffer(Buffer::STEP), 0, bytes.first(sizeof step)); !status.ok())
    return status;
  return stream().upload(buffer(Buffer::TOKENS), 0, bytes.subspan(sizeof step, tokens.size_bytes()));
}

absl::Status Session::run(const std::string &name, uint32_t tokens) {
  auto prepared = program(name);
  if (!prepared.ok())
    return prepared.status();
  return model->run(**prepared, tokens, memory);
}

absl::Status Session::prefill(std::span<const int32_t> tokens) {
  if (absl::Status status = checkTokens(tokens); !status.ok())
    return status;
  size_t chunk = manifest().facts().prefill_chunk();
  beginReply();
  while (!tokens.empty()) {
    if (model->cancelled())
      return stopped();
    std::span<const int32_t> part = tokens.first(std::min(chunk, tokens.size()));
    if (absl::Status status = uploadChunk(part); !status.ok())
      return status;
    if (absl::Status status = run("prefill", static_cast<uint32_t>(part.size())); !status.ok())
      return status;
    // The next chunk reuses the staging memory.
    if (absl::Status status = stream().synchronize(); !status.ok())
      return annotate(status, "program prefill");
    length += static_cast<uint32_t>(part.size());
    tokens = tokens.subspan(part.size());
  }
  logitsReady = logitsStored = true;
  return absl::OkStatus();
}

absl::Status Session::decode(int32_t token) {
  if (absl::Status status = checkTokens({&token, 1}); !status.ok())
    return status;
  if (absl::Status status = uploadChunk({&token, 1}); !status.ok())
    return status;
  if (absl::Status status = run("decode", 1); !status.ok())
    return status;
  if (absl::Status status = stream().synchronize(); !status.ok())
    return annotate(status, "program decode");
  ++length;
  logitsReady = logitsStored = true;
  return absl::OkStatus();
}

absl::Status Session::checkChosen(int32_t token) const {
  const auto vocabulary = static_cast<int32_t>(manifest().facts().vocabulary());
  if (token >= 0 && token < vocabulary)
    return absl::OkStatus();
  return absl::InternalError(absl::StrCat("expected the sampler to choose an id from 0 to ", vocabulary - 1, ", got ",
                                          token, "; the logits may be NaN: run `ingot doctor` on this file"));
}

// The tokens that the last step chose, at most `most`: Step says how many there are now.
absl::StatusOr<std::span<const int32_t>> Session::readNewest(uint32_t most) {
  const auto room = static_cast<uint32_t>(buffer(Buffer::OUTPUT).bytes() / 4) - generated;
  std::span<std::byte> state = staging.bytes().first(sizeof(Step)),
                       newest = staging.bytes().subspan(sizeof(Step), 4 * std::min(most, room));
  if (most > 1)
    if (absl::Status status = stream().download(buffer(Buffer::STEP), 0, state); !status.ok())
      return status;
  if (absl::Status status = stream().download(buffer(Buffer::OUTPUT), 4 * uint64_t(generated), newest); !status.ok())
    return status;
  if (absl::Status status = stream().synchronize(); !status.ok())
    return status;
  uint32_t count = 1;
  if (most > 1) {
    Step now = {};
    std::memcpy(&now, state.data(), sizeof now);
    count = static_cast<uint32_t>(now.generated) - generated;
    if (count < 1 || count > newest.size() / 4)
      return absl::InternalError(absl::StrCat("expected a step to choose from 1 to ", newest.size() / 4,
                                              " tokens, got ", now.generated, " after ", generated));
  }
  std::span<const int32_t> tokens(reinterpret_cast<const int32_t *>(newest.data()), count);
  for (int32_t token : tokens)
    if (absl::Status status = checkChosen(token); !status.ok())
      return status;
  generated += count;
  return tokens;
}

absl::StatusOr<int32_t> Session::first() {
  if (!logitsReady)
    return absl::FailedPreconditionError("expected a prefill before the first token is chosen");
  if (generated >= capacity)
    return absl::OutOfRangeError(
        absl::StrCat("expected fewer than ", capacity, " chosen tokens; give a larger --context"));
  if (processor) {
    const DeviceBuffer &logits = buffer(Buffer::LOGITS);
    absl::Status status = fetchLogits(logits, 0);
    if (status.ok())
      status = stream().synchronize();
    if (status.ok())
      status = processLogits(logits, 0);
    if (!status.ok())
      return status;
  }
  if (absl::Status status = run(samples() ? "sample" : "greedy", 1); !status.ok())
    return status;
  logitsReady = drafted = false;
  auto token = readNewest(1);
  return token.ok() ? absl::StatusOr<int32_t>(token->front()) : token.status();
}

absl::Status Session::runStep(Kind kind) {
  const uint32_t rows = manifest().facts().draft_length() + 1;
  switch (kind) {
  case Kind::Greedy:
    return run("decode_greedy", 1);
  case Kind::Decode:
    return run("decode", 1);
  case Kind::Sample:
    if (absl::Status status = run("decode", 1); !status.ok())
      return status;
    return run("sample", 1);
  case Kind::Speculate:
    return run("speculate", rows);
  case Kind::SpeculateSample:
    return run("speculate_sample", rows);
  }
  return absl::InternalError("expected a kind of step that there is");
}

absl::Status Session::captureStep(Kind kind) {
  auto graph = model->capture([&] { return runStep(kind); });
  if (!graph.ok())
    return graph.status();
  steps[kind] = *std::move(graph);
  return absl::OkStatus();
}

absl::Status Session::step(Kind kind) {
  if (!model->options.graph)
    return runStep(kind);
  if (!steps.contains(kind))
    if (absl::Status status = captureStep(kind); !status.ok())
      return status;
  return stream().launch(steps.at(kind));
}

absl::Status Session::checkRoom() const {
  if (generated == 0)
    return absl::FailedPreconditionError("expected a prefill before the next token is chosen");
  if (hasRoom())
    return absl::OkStatus();
  if (length < context() && replyLimit > 0)
    return absl::OutOfRangeError(absl::StrCat("the reply has the ", replyLimit, " tokens it may have"));
  return absl::OutOfRangeError(
      absl::StrCat("the context of ", context(), " positions is full; give a larger --context"));
}

absl::Status Session::launchStep() {
  if (absl::Status status = makeRoom(length + 1); !status.ok())
    return status;
  absl::Status status = step(samples() ? Kind::Sample : Kind::Greedy);
  return status.ok() ? fetch(samples()) : status;
}

absl::Status Session::launchDecode() {
  absl::Status status = makeRoom(length + 1);
  if (status.ok())
    status = step(Kind::Decode);
  if (!status.ok())
    return status;
  ++length;
  logitsReady = logitsStored = true;
  return absl::OkStatus();
}

absl::Status Session::fetch(bool storesLogits) {
  const size_t place = (turn + inFlight) % ends.size();
  std::span<std::byte> token = staging.bytes().last(4 * (ends.size() - place)).first(4);
  if (absl::Status status = stream().download(buffer(Buffer::OUTPUT), 4 * uint64_t(generated + inFlight), token);
      !status.ok())
    return status;
  ++length;
  ++inFlight;
  storing = storesLogits;
  return stream().record(ends[place]);
}

absl::StatusOr<int32_t> Session::collect() {
  if (absl::Status status = ends[turn].wait(); !status.ok())
    return status;
  int32_t token = 0;
  std::memcpy(&token, staging.bytes().last(4 * (ends.size() - turn)).data(), sizeof token);
  turn = (turn + 1) % ends.size();
  --inFlight;
  logitsStored = storing && inFlight == 0;
  drafted = false;
  policy.plain();
  if (absl::Status status = checkChosen(token); !status.ok())
    return status;
  ++generated;
  return token;
}

absl::StatusOr<int32_t> Session::next() {
  if (logitsReady)
    return first();
  if (inFlight == 0) {
    if (absl::Status status = checkRoom(); !status.ok())
      return status;
    if (processor) {
      if (absl::Status status = launchDecode(); !status.ok())
        return status;
      return first();
    }
    if (absl::Status status = launchStep(); !status.ok())
      return status;
  }
  if (mayGoAhead() && !wantsDrafts())
    if (absl::Status status = launchStep(); !status.ok())
      return status;
  return collect();
}

// A step writes the caches of its own tokens, and then those of the head where the next one begins: at most
// `draft_length` further on.
bool Session::wantsDrafts() const {
  const uint32_t drafts = manifest().facts().draft_length();
  return drafts > 0 && !processor && length + 2 * drafts < context() &&
         (drafting == Drafting::Always || (drafting == Drafting::Auto && policy.wanted()));
}

bool Session::mayDraft() const { return !logitsReady && inFlight == 0 && wantsDrafts(); }

absl::StatusOr<std::span<const int32_t>> Session::nextTokens() {
  // Where pages are short there are no drafts.
  if (!mayDraft() || !makeRoom(length + 2 * manifest().facts().draft_length() + 1).ok()) {
    auto token = next();
    if (!token.ok())
      return token.status();
    newest = *token;
    return std::span<const int32_t>(&newest, 1);
  }
  if (absl::Status status = checkRoom(); !status.ok())
    return status;
  if (absl::Status status = step(samples() ? Kind::SpeculateSample : Kind::Speculate); !status.ok())
    return status;
  auto tokens = readNewest(manifest().facts().draft_length() + 1);
  if (!tokens.ok())
    return tokens.status();
  const auto count = static_cast<uint32_t>(tokens->size());
  length += count;
  logitsStored = false;
  if (std::exchange(drafted, true))
    policy.checked(count - 1);
  else
    policy.began();
  return tokens;
}

absl::StatusOr<std::vector<float>> Session::logits() {
  if (!logitsStored)
    return absl::FailedPreconditionError(
        length == 0 ? "expected a token before its logits are read"
                    : "expected logits of the last token, which greedy steps, those that "
                      "draft and chunks of all logits do not leave; append a token by decode()");
  std::vector<float> row(manifest().facts().vocabulary());
  if (absl::Status status = stream().download(buffer(Buffer::LOGITS), 0, std::as_writable_bytes(std::span(row)));
      !status.ok())
    return status;
  if (absl::Status status = stream().synchronize(); !status.ok())
    return status;
  return row;
}

absl::Status Session::allLogits(std::span<const int32_t> tokens, bool steps,
                                const std::function<absl::Status(std::span<const float>)> &consume) {
  return allLogits(steps ? "decode" : "logits", tokens, consume);
}

absl::Status Session::draftLogits(std::span<const int32_t> tokens,
                                  const std::function<absl::Status(std::span<const float>)> &consume) {
  if (manifest().facts().draft_length() == 0)
    return absl::FailedPreconditionError(
        absl::StrCat(model->artifact().path(), ": expected a model with a head that drafts, got one without: its "
                                               "checkpoint has none, or `ingotc --draft 0` left it out"));
  return allLogits("draft_logits", tokens, consume);
}

absl::Status Session::allLogits(const std::string &name, std::span<const int32_t> tokens,
                                const std::function<absl::Status(std::span<const float>)> &consume) {
  const bool steps = name == "decode";
  if (!steps && !model->options.allLogits)
    return absl::FailedPreconditionError("expected a session loaded with room for all logits");
  if (absl::Status status = reset(); !status.ok())
    return status;
  if (absl::Status status = checkTokens(tokens); !status.ok())
    return status;
  size_t vocabulary = manifest().facts().vocabulary();
  size_t chunk = steps ? 1 : manifest().facts().prefill_chunk();
  std::vector<float> rows(std::min(chunk, tokens.size()) * vocabulary);
  while (!tokens.empty()) {
    if (model->cancelled())
      return stopped();
    std::span<const int32_t> part = tokens.first(std::min(chunk, tokens.size()));
    if (absl::Status status = uploadChunk(part); !status.ok())
      return status;
    if (absl::Status status = run(name, static_cast<uint32_t>(part.size())); !status.ok())
      return status;
    std::span<float> filled = std::span(rows).first(part.size() * vocabulary);
    if (absl::Status status =
            stream().download(buffer(steps ? Buffer::LOGITS : Buffer::ALL_LOGITS), 0, std::as_writable_bytes(filled));
        !status.ok())
      return status;
    if (absl::Status status = stream().synchronize(); !status.ok())
      return status;
    length += static_cast<uint32_t>(part.size());
    for (size_t row = 0; row < part.size(); ++row)
      if (absl::Status status = consume(filled.subspan(row * vocabulary, vocabulary)); !status.ok())
        return status;
    tokens = tokens.subspan(part.size());
  }
  // Only `decode` leaves the last row in LOGITS, where a sampler looks.
  logitsReady = logitsStored = steps;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> Session::snapshot() {
  if (absl::Status status = checkNoneAhead(); !status.ok())
    return status;
  std::vector<std::byte> taken(fixedStateBytes(manifest(), context()));
  uint64_t offset = 0;
  for (size_t index = 0; index < own.size(); ++index) {
    if (!isFixedState(manifest().buffers(static_cast<int>(index))))
      continue;
    std::span<std::byte> part = std::span(taken).subspan(offset, own[index].bytes());
    if (absl::Status status = stream().download(own[index], 0, part); !status.ok())
      return status;
    offset += part.size();
  }
  if (absl::Status status = stream().synchronize(); !status.ok())
    return status;
  return taken;
}

absl::Status Session::resume(std::span<const Page> pages, std::span<const std::byte> snapshot) {
  const uint64_t position = pages.size() * manifest().facts().state_block();
  if (pages.empty() || position > context() || snapshot.size() != fixedStateBytes(manifest(), context()))
    return absl::InvalidArgumentError(absl::StrCat("expected a snapshot of ", fixedStateBytes(manifest(), context()),
                                                   " bytes at a position from 1 to ", context(), ", got one of ",
                                                   snapshot.size(), " at ", position));
  uint64_t offset = 0;
  for (size_t index = 0; index < own.size(); ++index) {
    if (!isFixedState(manifest().buffers(static_cast<int>(index))))
      continue;
    std::span<const std::byte> part = snapshot.subspan(offset, own[index].bytes());
    if (absl::Status status = stream().upload(own[index], 0, part); !status.ok())
      return status;
    offset += part.size();
  }
  // The table's entries stay as they are until copies of them are done.
  if (absl::Status status = stream().synchronize(); !status.ok())
    return status;
  held.assign(pages.begin(), pages.end());
  if (absl::Status status = uploadPages(0); !status.ok())
    return status;
  length = static_cast<uint32_t>(position);
  generated = inFlight = 0;
  logitsReady = logitsStored = drafted = masked = false;
  return stream().synchronize();
}

size_t Session::launchesOf(const std::string &name) const {
  auto found = programs.find(name);
  return found == programs.end() ? 0 : found->second.launches.size();
}

size_t Session::launchesPerToken() const { return launchesOf("decode_greedy"); }
size_t Session::launchesPerDraft() const { return launchesOf(samples() ? "speculate_sample" : "speculate"); }
size_t Session::launchesPerChunk() const { return launchesOf("prefill"); }

} // namespace ingot
