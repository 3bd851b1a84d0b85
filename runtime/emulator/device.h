// The emulated device as the HIP functions see it: one chip, its memory, its machine, and the handles given out. One
// lock guards all of it: work runs to its end inside the call that submits it, so streams are in order by construction.
#pragma once

#include "runtime/emulator/graph.h"
#include "runtime/emulator/loader.h"
#include "runtime/emulator/machine.h"

#include <chrono>
#include <hip/hip_runtime_api.h>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>

namespace ingot::emu {

struct KernelStatistics {
  Counters counters;
  double seconds = 0;
};

struct Allocation {
  uint64_t bytes;
  uint64_t mapped; // bytes of the host mapping that carries it; 0 for memory the caller owns (hipHostRegister)
  bool host;
  unsigned flags;
};

class Device {
public:
  static Device &get();

  std::recursive_mutex mutex;
  const ChipInfo *chip;
  Memory memory;

  // Choice of chip and options; see emulator.h.
  static hipError_t setTarget(std::string_view name);
  hipError_t setOption(std::string_view key, std::string_view value);

  // Memory. `where` names the call for the report.
  hipError_t allocate(void **out, size_t bytes, bool host, unsigned flags);
  hipError_t release(void *pointer, bool host);
  hipError_t registerHost(void *pointer, size_t bytes, unsigned flags);
  hipError_t unregisterHost(void *pointer);
  // Names an allocation or a registered range in the counters.
  hipError_t labelBuffer(const void *pointer, std::string_view name);
  // The allocation that contains `pointer`, or null.
  const std::pair<const uint64_t, Allocation> *findAllocation(const void *pointer) const;
  uint64_t usedBytes() const { return used; }
  // Whether [pointer, pointer + bytes) lies in one range that the device knows and may write.
  bool deviceRange(const void *pointer, size_t bytes, bool write) const;
  // Checks and does a copy or a fill now. A range that leaves its allocation is an error with a report.
  hipError_t checkCopy(const void *dst, const void *src, size_t bytes, hipMemcpyKind kind);
  hipError_t checkFill(const void *dst, size_t bytes);

  // Launches.
  hipError_t loadModule(std::span<const uint8_t> image, hipModule_t *out);
  hipError_t prepare(KernelLaunch &out, hipFunction_t function, dim3 grid, dim3 block, unsigned dynamicLds,
                     void **params, void **extra);
  // Runs a prepared launch whose arguments lie at `kernarg`, in memory that the device may read.
  hipError_t run(const KernelLaunch &launch, std::span<const uint8_t> kernarg);
  hipError_t runOnce(const KernelLaunch &launch);
  // The decoded program; decodes when the machine is new. Fails with the list of unknown instructions.
  hipError_t decode(ihipModuleSymbol_t &function);

  // A device fault stays until ClearFault: every later use of the device answers it.
  hipError_t stickyFault = hipSuccess;
  std::string report;
  hipError_t fail(hipError_t code, std::string text) {
    report = std::move(text);
    return code;
  }

  std::map<std::string, KernelStatistics, std::less<>> statistics;

  // Handles that are alive.
  std::unordered_set<const void *> streams, events, modules, functions, graphs, graphExecs;
  std::set<std::shared_ptr<Capture>> captures;
  uint64_t nextCaptureId = 1;
  ihipStream_t *nullStream;

private:
  Device();
  Machine &machine();

  Options options;
  std::unique_ptr<Machine> currentMachine;
  uint64_t machineEpoch = 0;
  // Machines of older options: their programs may still be referenced by functions.
  std::vector<std::unique_ptr<Machine>> oldMachines;
  std::map<uint64_t, Allocation> allocations;
  uint64_t used = 0;
  uint8_t *staging; // arguments of plain launches
};

// Remembers `code` for hipGetLastError and returns it.
hipError_t finish(hipError_t code);

// Runs `body(device)` under the lock, with a device that has a chip, and remembers its answer.
template <typename Body> hipError_t onDevice(Body body) {
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  return finish(device.chip ? body(device) : hipErrorNoDevice);
}

// How many mapped, readable bytes follow `pointer`, and whether all of the first `bytes` are writable.
struct Mapping {
  uint64_t readable = 0;
  bool writable = false;
};
Mapping hostMapping(const void *pointer, uint64_t bytes);

} // namespace ingot::emu

struct ihipModuleSymbol_t {
  ingot::emu::KernelInfo info;
  struct ihipModule_t *module;
  std::shared_ptr<const ingot::emu::Program> program;
  uint64_t epoch = 0;
  ingot::emu::KernelStatistics *statistics;
};

struct ihipModule_t : std::enable_shared_from_this<ihipModule_t> {
  std::unique_ptr<ingot::emu::CodeObject> object;
  std::map<std::string, std::unique_ptr<ihipModuleSymbol_t>, std::less<>> functions;
  std::shared_ptr<ihipModule_t> self; // keeps it while the handle is alive
};

struct ihipStream_t {
  unsigned flags = 0;
  int priority = 0;
  std::shared_ptr<ingot::emu::Capture> capture;
  std::vector<hipGraphNode_t> tail; // what the next recorded node depends on
};

struct ihipEvent_t {
  unsigned flags = 0;
  bool recorded = false;
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<ingot::emu::Capture> capture; // set while the last record was into a capture
  std::vector<hipGraphNode_t> tail;
};
