// One artifact on one device: what all of its sequences share. Weights, code and the arena of activations are here;
// everything that belongs to one sequence is a Session (runtime/executor/session.h).
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
#include "runtime/device/device.h"
#include "runtime/executor/fit.h"
#include "runtime/executor/pages.h"

namespace ingot {

// Copies what argument `index` of a launch points at, from its first byte on, into `out`.
using ReadArgument = std::function<absl::Status(unsigned index, std::span<std::byte> out)>;
// Called when a launch has finished, before the next one starts.
using LaunchObserver = std::function<absl::Status(const Launch &launch, const ReadArgument &read)>;

struct SessionOptions : Room {
  bool graph = true;      // replay captured steps; off: the same launches one by one, with the same bits as result
  bool verify = true;     // check the weights' checksum while loading them
  bool mapWeights = true; // on a device that shares the host's memory, read the weights from the file's pages in place
  bool allLogits = false; // make room for allLogits() by chunks: prefill_chunk x vocabulary floats
  const std::atomic<bool> *cancel = nullptr; // when it turns true, the running call stops after its step: Cancelled
  LaunchObserver observer; // when set, launches run one at a time and each is shown to it; never with `graph`
};

// Not thread-safe: one thread at a time runs the sequences of a model. Their steps go through one stream, one after the
// other, so that they can share the arena.
class Model {
public:
  // Errors before anything is allocated: no code for `target`, a context longer than the model's, too little memory for
  // what `options` asks for.
  static absl::StatusOr<std::shared_ptr<Model>> load(std::shared_ptr<const Artifact> artifact,
                                                     std::shared_ptr<const Device> device, const std::string &target,
                                                     const SessionOptions &options);
  ~Model();

  const Manifest &manifest() const { return file->manifest(); }
  const Artifact &artifact() const { return *file; }
  const TargetCode &code() const { return *target; }
  const Device &device() const { return *gpu; }
  const Fit &fit() const { return needs; }
  bool weightsMapped() const { return mapped; }
  PagePool &pages() { return *pool; }
  // What lies in `pages`, pageBytes() of each: of one state after another. Waits.
  absl::StatusOr<std::vector<std::byte>> read(std::span<const Page> pages);
  absl::Status write(std::span<const Page> pages, std::span<const std::byte> bytes);

private:
  friend class Session;
  friend class BatchRunner;
  // A program on the buffers that it is to run on.
  struct Prepared {
    const Program *plan = nullptr;
    std::vector<PreparedLaunch> launches; // one for each of the plan's
  };
  using MemoryOf = std::function<const DeviceBuffer &(size_t index)>; // a buffer by its index in the manifest

  Model() = default;
  // InvalidArgument for an argument outside its buffer.
  absl::StatusOr<Prepared> prepare(const Program &program, const MemoryOf &memory) const;
  // Issues the launches for a chunk of so many tokens, and shows each to the observer where there is one.
  absl::Status run(const Prepared &prepared, uint32_t tokens, const MemoryOf &memory);
  absl::Status observe(const Launch &launch, const MemoryOf &memory);
  // What `issue` issues, to be replayed.
  absl::StatusOr<Graph> capture(const std::function<absl::Status()> &issue);
  // Calls `visit` with the places of `pages` in each state that grows, in the order of read(): those that follow one
  // another are one place.
  absl::Status
  forPages(std::span<const Page> pages,
           const std::function<absl::Status(const DeviceBuffer &state, uint64_t offset, uint64_t bytes)> &visit) const;
  absl::Status loadModule();
  absl::Status allocate();
  absl::Status loadWeights(size_t index);
  absl::Status copyWeights(const DeviceBuffer &to);
  bool cancelled() const { return options.cancel && options.cancel->load(std::memory_order_relaxed); }

  // Destroyed in reverse: the stream before the module, the module before the buffers, all before the device.
  std::shared_ptr<const Artifact> file;
  std::shared_ptr<const Device> gpu;
  const TargetCode *target = nullptr;
  SessionOptions options;
  Fit needs = {};
  bool mapped = false;
  std::optional<PagePool> pool;
  std::vector<DeviceBuffer> buffers; // by index in the manifest; empty where each sequence has its own
  Module module;
  std::vector<KernelFunction> kernels; // by index in the code
  Stream stream;
};

} // namespace ingot
