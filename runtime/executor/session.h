// One sequence of a model: a sequence of tokens goes in, logits or chosen tokens come out. All that changes from token
// to token lives in device memory (runtime/artifact/step.h), so a decode step is captured once as a graph and the host
// only replays it and reads back one token.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/artifact/step.h"
#include "runtime/device/device.h"
#include "runtime/executor/draft.h"
#include "runtime/executor/fit.h"
#include "runtime/executor/model.h"
#include "runtime/executor/pages.h"

namespace ingot {

struct Sampling {
  float temperature = 0; // 0: greedy
  int32_t topK = 0;      // 0: all
  float topP = 1;        // (0, 1]
  uint64_t seed = 0;
};

// InvalidArgument for values out of range.
absl::Status checkSampling(const Sampling &sampling);
// InvalidArgument for a mask of another number of words than maskWords() says, and for one that allows no token.
absl::Status checkMask(std::span<const uint32_t> mask, uint32_t vocabulary);

// Sees the logits that a token is about to be chosen from, f32 [vocabulary], as the model gave them, and may change
// them; what it leaves must be finite. Whether it changed any.
using LogitsProcessor = std::function<bool(std::span<float> row)>;

class Session {
public:
  // A model for this sequence alone; errors are those of Model::load.
  static absl::StatusOr<std::unique_ptr<Session>> load(std::shared_ptr<const Artifact> artifact,
                                                       std::shared_ptr<const Device> device, const std::string &target,
                                                       const SessionOptions &options);
  // One more sequence of `model`. What several sequences answer does not depend on how their calls are interleaved.
  static absl::StatusOr<std::unique_ptr<Session>> create(std::shared_ptr<Model> model);
  ~Session();

  // Begins a new sequence: states are zeroed, pages are given back, nothing is allocated.
  absl::Status reset();
  // Gives the pages back. Nothing may follow but reset() and resume().
  void end() { held.clear(); }
  // How tokens are chosen from the next prefill() on. InvalidArgument for values out of range.
  absl::Status setSampling(const Sampling &sampling);
  // Only tokens whose bit is set may be chosen from now on, until the next call, reset() or resume(): bit t % 32 of
  // word t / 32 is token t's, of maskWords(vocabulary). None: any token. A mask that is there already is not copied
  // again. Errors are those of checkMask(), and FailedPrecondition while a step ahead is under way.
  absl::Status setMask(std::span<const uint32_t> mask);
  // What sees the logits of each token from now on, whether its step is this sequence's own or one of several; null:
  // nothing does. Such steps do not go ahead and draft nothing. FailedPrecondition while a step ahead is under way.
  absl::Status setLogitsProcessor(LogitsProcessor processor);
  // The most tokens that are chosen after the next prefill(), which begins a reply; 0: as many as fit.
  void limitReply(uint32_t tokens) { replyLimit = tokens; }
  // Whether nextTokens() may draft; without effect on a model that has no head for it.
  void setDrafting(Drafting mode) { drafting = mode; }

  // Whether next() launches the step after the one whose token it gives, so that the device works while the host looks
  // at the token. What that step makes of a token that ends the reply is never read; but the states have then gone on,
  // so after the first next() of a reply only further ones, reset() and resume() may follow.
  void setAhead(bool on) { ahead = on; }

  // Appends `tokens` to the sequence in chunks; the logits of the last one are then ready for next(). InvalidArgument
  // before anything runs if the sequence would not fit the context or an id is outside the vocabulary;
  // ResourceExhausted where no page is free, as from whatever else makes the sequence longer.
  absl::Status prefill(std::span<const int32_t> tokens);
  // Chooses the token that follows a prefill(). The token is not yet part of the sequence's state.
  absl::StatusOr<int32_t> first();
  // Runs the token chosen last through the model and chooses the one that follows: one replay of the captured step.
  // OutOfRange when the context is full. Allocates nothing after the first call.
  absl::StatusOr<int32_t> next();
  // The same for as many tokens as one step chooses: where the model has a head that drafts, a step checks drafts and
  // there may be several. They are those that as many next() choose, greedily or by samples; a token that ends
  // a sequence, and the last within the limit, are the last of their step, so the states are those that next() leaves.
  // Valid until the next call.
  absl::StatusOr<std::span<const int32_t>> nextTokens();
  // Appends one given token by the decode program; its logits are then ready for logits() and next().
  absl::Status decode(int32_t token);

  // f32 [vocabulary]: of the last token that went through the model; once the next one is chosen, as a processor left
  // them and with kExcludedLogit where a mask left out a token. FailedPrecondition after a greedy step, after one of
  // several and after one that drafts, which store none.
  absl::StatusOr<std::vector<float>> logits();
  // The logits of each of `tokens` in a new sequence, a row at a time in order. By chunks of program `logits`, or with
  // `steps` one decode a token. `row` is f32 [vocabulary] and valid during the call.
  absl::Status allLogits(std::span<const int32_t> tokens, bool steps,
                         const std::function<absl::Status(std::span<const float> row)> &consume);

  // The same for the head that drafts: of a token in the sequence, and what the model made of the one before. The row
  // of the first token means nothing.
  absl::Status draftLogits(std::span<const int32_t> tokens,
                           const std::function<absl::Status(std::span<const float> row)> &consume);

  // The states that cannot be cut back to an earlier position (recurrences, convolutions, rings), as they are now. No
  // bytes for a model whose states all grow with the position.
  absl::StatusOr<std::vector<std::byte>> snapshot();
  // The pages of its positions, the first one first; those up to position() are full or the last.
  std::span<const Page> pages() const { return held; }
  // Begins a sequence with the tokens whose pages, all of them full, and snapshot at their end another one of this
  // model left. Goes on bit for bit as that one did then. Nothing is allocated.
  absl::Status resume(std::span<const Page> pages, std::span<const std::byte> snapshot);

  const Manifest &manifest() const { return model->manifest(); }
  const TargetCode &code() const { return model->code(); }
  const Device &device() const { return model->device(); }
  const Fit &fit() const { return model->fit(); }
  uint32_t context() const { return fit().context; }
  uint32_t position() const { return length; }
  // Whether a step of several sequences (BatchRunner) may take this one: the first token of its reply is chosen, and
  // there is room for one more than is on its way.
  bool mayJoin() const { return !logitsReady && generated > 0 && hasRoom(); }
  // Whether a step chooses by program `sample`, not `greedy`: there is a temperature or a mask.
  bool samples() const { return sampling.temperature > 0 || masked; }
  bool weightsMapped() const { return model->weightsMapped(); }
  // Launches of one greedy decode step.
  size_t launchesPerToken() const;
  // Of a step that drafts; 0 where the model has no head for it.
  size_t launchesPerDraft() const;
  // Since the last prefill that began a reply.
  const DraftPolicy &drafts() const { return policy; }
  // Launches of one chunk of a prefill.
  size_t launchesPerChunk() const;

private:
  friend class BatchRunner;
  Session() = default;

  absl::Status allocate();
  absl::Status prepare();
  absl::StatusOr<const Model::Prepared *> program(const std::string &name) const;
  size_t launchesOf(const std::string &name) const;
  absl::Status run(const std::string &name, uint32_t tokens);
  void beginReply();
  absl::Status uploadChunk(std::span<const int32_t> tokens);
  absl::Status checkTokens(std::span<const int32_t> tokens) const;
  // Takes pages until there are `positions`, empty ones. ResourceExhausted, and none taken, where so many are not free.
  absl::Status makeRoom(uint32_t positions);
  // Puts pages from `first` on into the page table.
  absl::Status uploadPages(size_t first);
  absl::Status allLogits(const std::string &name, std::span<const int32_t> tokens,
                         const std::function<absl::Status(std::span<const float> row)> &consume);
  enum class Kind : uint8_t { Greedy, Decode, Sample, Speculate, SpeculateSample }; // of a step
  absl::Status step(Kind kind);
  // Issues one plain step and the copy of its token; waits for nothing.
  absl::Status launchStep();
  // Issues the part of one plain step before the choice.
  absl::Status launchDecode();
  // Issues the copy of the token of a step that was issued, which leaves LOGITS or does not.
  absl::Status fetch(bool storesLogits);
  // Waits for the oldest step in flight and takes its token.
  absl::StatusOr<int32_t> collect();
  absl::Status checkNoneAhead() const;
  // Issues the copy of logits at `offset` of `from` to the host, where there is a processor.
  absl::Status fetchLogits(const DeviceBuffer &from, uint64_t offset);
  // Once they are there: has them seen, and issues the copy back if they were changed.
  absl::Status processLogits(const DeviceBuffer &to, uint64_t offset);
  absl::Status runStep(Kind kind);
  absl::Status captureStep(Kind kind);
  bool hasRoom() const { return length < context() && generated + inFlight < capacity; }
  bool mayGoAhead() const { return ahead && !processor && hasRoom(); }
  absl::Status checkRoom() const;
  absl::Status checkChosen(int32_t token) const;
  absl::StatusOr<std::span<const int32_t>> readNewest(uint32_t most);
  bool mayDraft() const;
  bool wantsDrafts() const;
  const DeviceBuffer &buffer(Buffer::Role role) const { return memory(roles.at(role)); }
  Stream &stream() const { return model->stream; }

  // Destroyed in reverse: graphs before the buffers, all before the model.
  std::shared_ptr<Model> model;
  std::vector<DeviceBuffer> own; // by index in the manifest; empty where the model's serves
  // A buffer by its index in the manifest, wherever it lives.
  Model::MemoryOf memory = [this](size_t index) -> const DeviceBuffer & {
    return own[index].address() ? own[index] : model->buffers[index];
  };
  std::map<Buffer::Role, size_t> roles;
  std::vector<Page> held;
  HostBuffer table;   // the page table, of which an entry changes with the sequence only
  HostBuffer staging; // Step, then the tokens of a chunk; or Step, then tokens read back; then those of steps in flight
  HostBuffer maskStaging; // the mask that is on the device or on its way, then Step.masked
  bool masked = false;
  LogitsProcessor processor;
  HostBuffer row; // of logits; empty until there is a processor
  std::map<std::string, Model::Prepared> programs;
  std::map<Kind, Graph> steps;
  Sampling sampling;
  Drafting drafting = Drafting::Auto;
  DraftPolicy policy{0, 1};
  int32_t newest = 0;        // where nextTokens() points to, after a step of one token
  uint32_t replyLimit = 0;   // 0: none
  std::array<Event, 2> ends; // of the steps in flight, by turns
  bool ahead = false;
  uint32_t inFlight = 0, turn = 0; // plain steps whose tokens were not read; the oldest one's place
  bool storing = false;            // the step issued last leaves LOGITS
  bool drafted = false;            // TOKENS holds drafts behind the token chosen last
  uint32_t length = 0;             // positions that went through the model
  uint32_t generated = 0;          // tokens that the sampler chose
  uint32_t capacity = 0;           // the most tokens that may be chosen: OUTPUT has no room for more
  bool logitsReady = false;        // a sampler may choose from LOGITS
  bool logitsStored = false;       // LOGITS holds those of the last token
};

} // namespace ingot
