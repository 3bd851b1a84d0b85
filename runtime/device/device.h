// One device and what lives on it, owned by objects and reported by absl::Status. Every error names HIP's code and what
// was being done. Nothing here is thread-safe: one thread drives a device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/device/hip.h"

namespace ingot {

struct DeviceInfo {
  std::string chip;        // "gfx1151", without feature suffixes; empty if the runtime does not say
  std::string name;        // for people
  bool integrated = false; // shares the host's memory
  int computeUnits = 0;
  int waveSize = 0;
};

struct MemoryInfo {
  uint64_t free, total; // bytes
};

class Device {
public:
  // Makes `ordinal` the calling thread's device. Unavailable if there is none, FailedPrecondition if its waves are not
  // 32 lanes wide.
  static absl::StatusOr<std::shared_ptr<const Device>> open(std::shared_ptr<const Hip> hip, int ordinal = 0);

  const DeviceInfo &info() const { return facts; }
  const Hip &hip() const { return *runtime; }
  bool emulated() const { return runtime->kind() == Hip::Kind::kEmulator; }
  absl::StatusOr<MemoryInfo> memory() const;
  // Whether the device takes this code object: how a chip is told that gives no name. An error other than "made for
  // another chip" is returned as it is.
  absl::StatusOr<bool> accepts(std::span<const std::byte> codeObject) const;

private:
  Device(std::shared_ptr<const Hip> hip, int ordinal) : runtime(std::move(hip)), ordinal(ordinal) {}
  absl::Status readFacts();

  std::shared_ptr<const Hip> runtime;
  int ordinal;
  DeviceInfo facts;
};

// Device memory, or host memory that the device reads in place.
class DeviceBuffer {
public:
  // `label` names the buffer in errors and in the emulator's counters. Zero bytes allocate one, so that every buffer
  // has an address.
  static absl::StatusOr<DeviceBuffer> allocate(std::shared_ptr<const Device> device, uint64_t bytes,
                                               const std::string &label);
  // Registers host memory, which must outlive the buffer, for reading by the device.
  static absl::StatusOr<DeviceBuffer> map(std::shared_ptr<const Device> device, std::span<const std::byte> host,
                                          const std::string &label);
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer &&other) noexcept;
  DeviceBuffer &operator=(DeviceBuffer &&other) noexcept;
  ~DeviceBuffer();

  uint64_t address() const { return reinterpret_cast<uint64_t>(pointer); }
  void *at(uint64_t offset) const { return static_cast<std::byte *>(pointer) + offset; }
  uint64_t bytes() const { return size; }
  const std::string &label() const { return text; }

private:
  void release();
  std::shared_ptr<const Device> device;
  void *pointer = nullptr;
  void *registered = nullptr; // host address to unregister; null for allocated memory
  uint64_t size = 0;
  std::string text;
};

// Page-locked host memory, so that asynchronous copies are.
class HostBuffer {
public:
  static absl::StatusOr<HostBuffer> allocate(std::shared_ptr<const Device> device, uint64_t bytes);
  HostBuffer() = default;
  HostBuffer(HostBuffer &&other) noexcept;
  HostBuffer &operator=(HostBuffer &&other) noexcept;
  ~HostBuffer();
  std::span<std::byte> bytes() const { return {static_cast<std::byte *>(pointer), size}; }

private:
  void release();
  std::shared_ptr<const Device> device;
  void *pointer = nullptr;
  size_t size = 0;
};

struct KernelFunction {
  void *handle = nullptr; // hipFunction_t
  std::string name;
};

class Module {
public:
  static absl::StatusOr<Module> load(std::shared_ptr<const Device> device, std::span<const std::byte> codeObject);
  Module() = default;
  Module(Module &&other) noexcept;
  Module &operator=(Module &&other) noexcept;
  ~Module();
  absl::StatusOr<KernelFunction> function(const std::string &name) const;

private:
  void release();
  std::shared_ptr<const Device> device;
  void *handle = nullptr;
};

// A launch ready to go: nothing is allocated or looked up when it is issued.
struct PreparedLaunch {
  KernelFunction function;
  std::array<uint32_t, 3> grid;    // workgroups
  uint32_t workgroup;              // lanes
  std::vector<uint64_t> arguments; // the whole kernel argument block: pointers only
};

class Graph {
public:
  Graph() = default;
  Graph(Graph &&other) noexcept;
  Graph &operator=(Graph &&other) noexcept;
  ~Graph();
  explicit operator bool() const { return executable != nullptr; }

private:
  friend class Stream;
  void release();
  std::shared_ptr<const Device> device;
  void *graph = nullptr;
  void *executable = nullptr;
};

// A place in a stream that the host can wait for while more is issued behind it.
class Event {
public:
  static absl::StatusOr<Event> create(std::shared_ptr<const Device> device);
  Event() = default;
  Event(Event &&other) noexcept;
  Event &operator=(Event &&other) noexcept;
  ~Event();
  // Until everything that was issued before the last Stream::record() is done.
  absl::Status wait() const;

private:
  friend class Stream;
  void release();
  std::shared_ptr<const Device> device;
  void *handle = nullptr;
};

class Stream {
public:
  static absl::StatusOr<Stream> create(std::shared_ptr<const Device> device);
  Stream() = default;
  Stream(Stream &&other) noexcept;
  Stream &operator=(Stream &&other) noexcept;
  ~Stream();

  // `gridY` replaces the launch's own where it is not 0.
  absl::Status launch(const PreparedLaunch &launch, uint32_t gridY = 0);
  // Host bytes must stay until synchronize(). OutOfRange outside the buffer.
  absl::Status upload(const DeviceBuffer &to, uint64_t offset, std::span<const std::byte> bytes);
  absl::Status download(const DeviceBuffer &from, uint64_t offset, std::span<std::byte> bytes);
  // All of `from` to the beginning of `to`, on the device. OutOfRange if it does not fit.
  absl::Status copy(const DeviceBuffer &to, const DeviceBuffer &from);
  absl::Status zero(const DeviceBuffer &buffer, uint64_t offset, uint64_t bytes);
  absl::Status zero(const DeviceBuffer &buffer) { return zero(buffer, 0, buffer.bytes()); }
  absl::Status synchronize();
  absl::Status record(const Event &event);

  // What is issued between the two is recorded, not executed. An error in between must still be followed by endCapture.
  absl::Status beginCapture();
  absl::StatusOr<Graph> endCapture();
  absl::Status launch(const Graph &graph);

private:
  void release();
  std::shared_ptr<const Device> device;
  void *handle = nullptr;
};

} // namespace ingot
