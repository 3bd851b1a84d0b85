// Graphs: recorded work with argument values copied, and their executable form in which all that a launch needs
// (argument blocks in device-visible memory, checked ranges, decoded programs) is ready, so that replaying costs only
// the work.
#pragma once

#include "runtime/emulator/machine.h"

#include <hip/hip_runtime_api.h>
#include <thread>
#include <unordered_set>
#include <variant>

struct ihipModule_t;
struct ihipModuleSymbol_t;

namespace ingot::emu {

// A checked launch: who, how many, and the complete argument block, hidden arguments included.
struct KernelLaunch {
  std::shared_ptr<ihipModule_t> owner; // keeps the code while a graph refers to it
  ihipModuleSymbol_t *function = nullptr;
  std::array<uint32_t, 3> grid{}, block{};
  uint32_t dynamicLds = 0;
  std::vector<uint8_t> kernarg;
};

struct CopyWork {
  void *dst;
  const void *src;
  size_t bytes;
  hipMemcpyKind kind;
};

// `count` elements of `elementBytes` (1, 2 or 4) at dst, in rows `pitch` bytes apart.
struct FillWork {
  void *dst;
  uint32_t value, elementBytes;
  size_t count, rows, pitch;
};

struct HostWork {
  hipHostFn_t function;
  void *data;
};

struct EmptyWork {};

using Work = std::variant<EmptyWork, KernelLaunch, CopyWork, FillWork, HostWork>;

class Device;
// Does one piece of work now. For kernels `kernarg` is where the device sees the arguments; empty means "stage them".
hipError_t perform(Device &device, const Work &work, std::span<const uint8_t> kernarg);
// Checks ranges as the call that records or does it must.
hipError_t check(Device &device, const Work &work);

// A capture in progress: the stream it began on, who may end it, and the graph that grows.
struct Capture {
  hipStream_t origin;
  hipStreamCaptureMode mode;
  std::thread::id thread;
  uint64_t id;
  bool invalid = false;
  std::unique_ptr<ihipGraph> graph;
  std::unordered_set<hipStream_t> members;
  Capture();
  ~Capture();
};

} // namespace ingot::emu

struct hipGraphNode {
  ingot::emu::Work work;
  std::vector<hipGraphNode *> dependencies;
};

struct ihipGraph {
  std::vector<std::unique_ptr<hipGraphNode>> nodes; // every node after its dependencies
  hipGraphNode *add(ingot::emu::Work work, std::vector<hipGraphNode *> dependencies);
  bool contains(const hipGraphNode *node) const;
};

struct hipGraphExec {
  struct Step {
    const hipGraphNode *origin; // of the graph it was made from; compared, never followed
    ingot::emu::Work work;
    uint64_t kernargOffset = 0;
  };
  std::vector<Step> steps;
  uint8_t *arena = nullptr;
  uint64_t arenaBytes = 0;
};
