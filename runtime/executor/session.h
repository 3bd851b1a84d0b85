// Runs one artifact on one device: a sequence of tokens goes in, logits or chosen tokens come out. All that changes
// from token to token lives in device memory (runtime/artifact/step.h), so a decode step is captured once as a graph
// and the host only replays it and reads back one token.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/artifact/step.h"
#include "runtime/device/device.h"

namespace ingot {

// Copies what argument `index` of a launch points at, from its first byte on, into `out`.
using ReadArgument = std::function<absl::Status(unsigned index, std::span<std::byte> out)>;
// Called when a launch has finished, before the next one starts.
using LaunchObserver = std::function<absl::Status(const Launch &launch, const ReadArgument &read)>;

struct SessionOptions {
  uint32_t context = 0;   // positions to make room for, rounded up to the model's state block; 0: all it was made for
  bool graph = true;      // replay captured steps; off: the same launches one by one, with the same bits as result
  bool verify = true;     // check the weights' checksum while loading them
  bool mapWeights = true; // on a device that shares the host's memory, read the weights from the file's pages in place
  bool allLogits = false; // make room for allLogits() by chunks: prefill_chunk x vocabulary floats
  const std::atomic<bool> *cancel = nullptr; // when it turns true, the running call stops after its step: Cancelled
  LaunchObserver observer; // when set, launches run one at a time and each is shown to it; never with `graph`
};

struct Sampling {
  float temperature = 0; // 0: greedy
  int32_t topK = 0;      // 0: all
  float topP = 1;        // (0, 1]
  uint64_t seed = 0;
};

// What a session needs and what there is, before anything is allocated.
struct Fit {
  uint64_t weights, states, scratch; // bytes; scratch: everything that is neither weights nor state
  uint64_t perPosition;              // bytes that one more position of context costs
  uint64_t free;                     // bytes, as the device says
  uint32_t context;                  // as asked for, rounded up
  uint32_t largestContext;           // that fits, 0 if none
  uint64_t needed() const { return weights + states + scratch; }
};
absl::StatusOr<Fit> computeFit(const Manifest &manifest, const Device &device, uint32_t context, bool allLogits);
// ResourceExhausted with the numbers and what to do; OK if it fits.
absl::Status checkFit(const Fit &fit);

class Session {
public:
  // Errors before anything is allocated: no code for `target`, a context longer than the model's, too little memory.
  static absl::StatusOr<std::unique_ptr<Session>> load(std::shared_ptr<const Artifact> artifact,
                                                       std::shared_ptr<const Device> device, const std::string &target,
                                                       const SessionOptions &options);
  ~Session();

  // Begins a new sequence: states are zeroed, nothing is allocated.
  absl::Status reset();
  // How tokens are chosen from the next prefill() on. InvalidArgument for values out of range.
  absl::Status setSampling(const Sampling &sampling);

  // Appends `tokens` to the sequence in chunks; the logits of the last one are then ready for next(). InvalidArgument
  // before anything runs if the sequence would not fit the context or an id is outside the vocabulary.
  absl::Status prefill(std::span<const int32_t> tokens);
  // Chooses the token that follows a prefill(). The token is not yet part of the sequence's state.
  absl::StatusOr<int32_t> first();
  // Runs the token chosen last through the model and chooses the one that follows: one replay of the captured step.
  // OutOfRange when the context is full. Allocates nothing after the first call.
  absl::StatusOr<int32_t> next();
  // Appends one given token by the decode program; its logits are then ready for logits() and next().
  absl::Status decode(int32_t token);

  // f32 [vocabulary]: of the last token that went through the model. FailedPrecondition after a greedy next(), which
  // stores none.
  absl::StatusOr<std::vector<float>> logits();
  // The logits of each of `tokens` in a new sequence, a row at a time in order. By chunks of program `logits`, or with
  // `steps` one decode a token. `row` is f32 [vocabulary] and valid during the call.
  absl::Status allLogits(std::span<const int32_t> tokens, bool steps,
                         const std::function<absl::Status(std::span<const float> row)> &consume);

  const Manifest &manifest() const { return artifact->manifest(); }
  const TargetCode &code() const { return *target; }
  const Device &device() const { return *gpu; }
  const Fit &fit() const { return needs; }
  uint32_t context() const { return needs.context; }
  uint32_t position() const { return length; }
  bool weightsMapped() const { return mapped; }
  // Launches of one greedy decode step.
  size_t launchesPerToken() const;

private:
  Session() = default;
  struct Prepared {
    std::vector<PreparedLaunch> launches;
    std::vector<uint32_t> tokensPerWorkgroup; // 0: the grid does not depend on the chunk
    const Program *plan = nullptr;
  };

  absl::Status loadModule();
  absl::Status allocate();
  absl::Status loadWeights(const Buffer &plan);
  absl::Status copyWeights(const DeviceBuffer &to);
  absl::Status prepare();
  absl::StatusOr<const Prepared *> program(const std::string &name) const;
  absl::Status run(const std::string &name, uint32_t tokens);
  absl::Status launchAll(const Prepared &prepared, uint32_t tokens);
  absl::Status observe(const Launch &launch);
  absl::Status uploadChunk(std::span<const int32_t> tokens);
  absl::Status checkTokens(std::span<const int32_t> tokens) const;
  absl::Status runStep();
  absl::Status captureStep();
  absl::StatusOr<int32_t> readNewest();
  const char *sampler() const { return sampling.temperature > 0 ? "sample" : "greedy"; }
  bool cancelled() const { return options.cancel && options.cancel->load(std::memory_order_relaxed); }
  const DeviceBuffer &buffer(Buffer::Role role) const { return buffers[roles.at(role)]; }

  // Destroyed in reverse: graphs and stream before the module, the module before the buffers, all before the device.
  std::shared_ptr<const Artifact> artifact;
  std::shared_ptr<const Device> gpu;
  const TargetCode *target = nullptr;
  SessionOptions options;
  Fit needs = {};
  bool mapped = false;
  std::vector<DeviceBuffer> buffers; // by index in the manifest
  std::map<Buffer::Role, size_t> roles;
  HostBuffer staging; // Step, then the tokens of a chunk, then one token read back
  Module module;
  std::map<std::string, Prepared> programs;
  Stream stream;
  std::map<std::string, Graph> steps; // by sampler
  Sampling sampling;
  uint32_t length = 0;       // positions that went through the model
  uint32_t generated = 0;    // tokens that the sampler chose
  uint32_t capacity = 0;     // elements of OUTPUT
  bool logitsReady = false;  // a sampler may choose from LOGITS
  bool logitsStored = false; // LOGITS holds those of the last token
};

} // namespace ingot
