#include "runtime/device/device.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "runtime/device/hip_table.h"

namespace ingot {
namespace {

constexpr int kWaveSize = 32;

// hipDeviceProp_t has had two layouts, and its chip name has moved. Both hold it as text that begins with "gfx" behind
// the 256 bytes of the product name, so the struct is searched instead of declared twice.
std::string chipName(const HipTable &table, int ordinal) {
  constexpr size_t kNameBytes = 256, kRoom = 16384; // the larger layout has under 2 KiB
  std::vector<char> properties(kRoom, 0);
  auto *room = reinterpret_cast<hipDeviceProp_t *>(properties.data());
  if (!table.deviceProperties || table.deviceProperties(room, ordinal) != hipSuccess)
    return "";
  std::string_view bytes(properties.data(), properties.size());
  size_t begin = bytes.find("gfx", kNameBytes);
  if (begin == std::string_view::npos)
    return "";
  std::string_view chip = bytes.substr(begin);
  return std::string(chip.substr(0, chip.find_first_of(std::string_view("\0:", 2))));
}

absl::Status checkRange(const DeviceBuffer &buffer, uint64_t offset, uint64_t bytes) {
  if (offset > buffer.bytes() || bytes > buffer.bytes() - offset)
    return absl::OutOfRangeError(absl::StrCat("buffer ", buffer.label(), ": expected a range inside its ",
                                              buffer.bytes(), " bytes, got ", bytes, " at ", offset));
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<std::shared_ptr<const Device>> Device::open(std::shared_ptr<const Hip> hip, int ordinal) {
  std::string why;
  int count = hip->deviceCount(&why);
  if (count == 0)
    return absl::UnavailableError(absl::StrCat(hip->file(), " (HIP ", hip->versionText(), ") finds no GPU: ", why));
  if (ordinal < 0 || ordinal >= count)
    return absl::InvalidArgumentError(absl::StrCat("expected a device from 0 to ", count - 1, ", got ", ordinal));
  std::shared_ptr<Device> device(new Device(std::move(hip), ordinal));
  if (absl::Status status = device->readFacts(); !status.ok())
    return status;
  return device;
}

absl::Status Device::readFacts() {
  const HipTable &table = runtime->table();
  if (absl::Status status = runtime->check(table.hipInit(0), "initialising ", runtime->file()); !status.ok())
    return status;
  if (absl::Status status = runtime->check(table.hipSetDevice(ordinal), "selecting device ", ordinal); !status.ok())
    return status;
  facts.chip = chipName(table, ordinal);
  char name[256] = {};
  if (table.hipDeviceGetName(name, sizeof name - 1, ordinal) == hipSuccess)
    facts.name = name;
  auto attribute = [&](hipDeviceAttribute_t which) {
    int value = 0;
    return table.hipDeviceGetAttribute(&value, which, ordinal) == hipSuccess ? value : 0;
  };
  facts.integrated = attribute(hipDeviceAttributeIntegrated) != 0;
  facts.computeUnits = attribute(hipDeviceAttributeMultiprocessorCount);
  facts.waveSize = attribute(hipDeviceAttributeWarpSize);
  if (facts.waveSize != kWaveSize)
    return absl::FailedPreconditionError(absl::StrCat(facts.name, " ", facts.chip, ": expected waves of ", kWaveSize,
                                                      " lanes, got ", facts.waveSize, "; use --device emulator"));
  return absl::OkStatus();
}

absl::StatusOr<MemoryInfo> Device::memory() const {
  size_t free = 0, total = 0;
  if (absl::Status status = runtime->check(runtime->table().hipMemGetInfo(&free, &total), "asking for free memory");
      !status.ok())
    return status;
  return MemoryInfo{free, total};
}

absl::StatusOr<bool> Device::accepts(std::span<const std::byte> codeObject) const {
  const HipTable &table = runtime->table();
  hipModule_t module = nullptr;
  hipError_t error = table.hipModuleLoadData(&module, codeObject.data());
  if (error == hipErrorNoBinaryForGpu || error == hipErrorInvalidImage)
    return false;
  if (error != hipSuccess)
    return runtime->check(error, "trying a code object on ", facts.name);
  return runtime->check(table.hipModuleUnload(module), "unloading a code object").ok();
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::allocate(std::shared_ptr<const Device> device, uint64_t bytes,
                                                    const std::string &label) {
  DeviceBuffer buffer;
  const Hip &hip = device->hip();
  if (absl::Status status = hip.check(hip.table().hipMalloc(&buffer.pointer, std::max<uint64_t>(bytes, 1)),
                                      "allocating ", bytes, " bytes of device memory for ", label);
      !status.ok())
    return status;
  hip.labelBuffer(buffer.pointer, label);
  buffer.device = std::move(device);
  buffer.size = bytes;
  buffer.text = label;
  return buffer;
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::map(std::shared_ptr<const Device> device, std::span<const std::byte> host,
                                               const std::string &label) {
  const Hip &hip = device->hip();
  const HipTable &table = hip.table();
  void *address = const_cast<std::byte *>(host.data());
  if (absl::Status status = hip.check(table.hipHostRegister(address, host.size(), hipHostRegisterMapped), "mapping ",
                                      host.size(), " bytes of host memory for ", label);
      !status.ok())
    return status;
  DeviceBuffer buffer;
  buffer.device = std::move(device);
  buffer.registered = address;
  buffer.size = host.size();
  buffer.text = label;
  if (absl::Status status = hip.check(table.hipHostGetDevicePointer(&buffer.pointer, address, 0),
                                      "asking for the device address of ", label);
      !status.ok())
    return status;
  hip.labelBuffer(buffer.pointer, label);
  return buffer;
}

DeviceBuffer::DeviceBuffer(DeviceBuffer &&other) noexcept { *this = std::move(other); }
DeviceBuffer &DeviceBuffer::operator=(DeviceBuffer &&other) noexcept {
  std::swap(device, other.device);
  std::swap(pointer, other.pointer);
  std::swap(registered, other.registered);
  std::swap(size, other.size);
  std::swap(text, other.text);
  return *this;
}
DeviceBuffer::~DeviceBuffer() { release(); }
void DeviceBuffer::release() {
  if (!device)
    return;
  const HipTable &table = device->hip().table();
  if (registered)
    (void)table.hipHostUnregister(registered);
  else
    (void)table.hipFree(pointer);
}

absl::StatusOr<HostBuffer> HostBuffer::allocate(std::shared_ptr<const Device> device, uint64_t bytes) {
  HostBuffer buffer;
  const Hip &hip = device->hip();
  if (absl::Status status = hip.check(hip.table().hipHostMalloc(&buffer.pointer, bytes, hipHostMallocDefault),
                                      "allocating ", bytes, " bytes of page-locked host memory");
      !status.ok())
    return status;
  buffer.device = std::move(device);
  buffer.size = bytes;
  return buffer;
}

HostBuffer::HostBuffer(HostBuffer &&other) noexcept { *this = std::move(other); }
HostBuffer &HostBuffer::operator=(HostBuffer &&other) noexcept {
  std::swap(device, other.device);
  std::swap(pointer, other.pointer);
  std::swap(size, other.size);
  return *this;
}
HostBuffer::~HostBuffer() { release(); }
void HostBuffer::release() {
  if (device)
    (void)device->hip().table().hipHostFree(pointer);
}

absl::StatusOr<Module> Module::load(std::shared_ptr<const Device> device, std::span<const std::byte> codeObject) {
  const Hip &hip = device->hip();
  hipModule_t handle = nullptr;
  if (absl::Status status =
          hip.check(hip.table().hipModuleLoadData(&handle, codeObject.data()), "loading the code object (",
                    codeObject.size(), " bytes) on ", device->info().name, " ", device->info().chip);
      !status.ok())
    return status;
  Module module;
  module.device = std::move(device);
  module.handle = handle;
  return module;
}

Module::Module(Module &&other) noexcept { *this = std::move(other); }
Module &Module::operator=(Module &&other) noexcept {
  std::swap(device, other.device);
  std::swap(handle, other.handle);
  return *this;
}
Module::~Module() { release(); }
void Module::release() {
  if (device)
    (void)device->hip().table().hipModuleUnload(static_cast<hipModule_t>(handle));
}

absl::StatusOr<KernelFunction> Module::function(const std::string &name) const {
  const Hip &hip = device->hip();
  hipFunction_t function = nullptr;
  if (absl::Status status =
          hip.check(hip.table().hipModuleGetFunction(&function, static_cast<hipModule_t>(handle), name.c_str()),
                    "looking for kernel ", name, " in the code object");
      !status.ok())
    return status;
  return KernelFunction{function, name};
}

Graph::Graph(Graph &&other) noexcept { *this = std::move(other); }
Graph &Graph::operator=(Graph &&other) noexcept {
  std::swap(device, other.device);
  std::swap(graph, other.graph);
  std::swap(executable, other.executable);
  return *this;
}
Graph::~Graph() { release(); }
void Graph::release() {
  if (!device)
    return;
  const HipTable &table = device->hip().table();
  if (executable)
    (void)table.hipGraphExecDestroy(static_cast<hipGraphExec_t>(executable));
  if (graph)
    (void)table.hipGraphDestroy(static_cast<hipGraph_t>(graph));
}

absl::StatusOr<Event> Event::create(std::shared_ptr<const Device> device) {
  const Hip &hip = device->hip();
  hipEvent_t handle = nullptr;
  if (absl::Status status =
          hip.check(hip.table().hipEventCreateWithFlags(&handle, hipEventDisableTiming), "creating an event");
      !status.ok())
    return status;
  Event event;
  event.device = std::move(device);
  event.handle = handle;
  return event;
}

Event::Event(Event &&other) noexcept { *this = std::move(other); }
Event &Event::operator=(Event &&other) noexcept {
  std::swap(device, other.device);
  std::swap(handle, other.handle);
  return *this;
}
Event::~Event() { release(); }
void Event::release() {
  if (device)
    (void)device->hip().table().hipEventDestroy(static_cast<hipEvent_t>(handle));
}

absl::Status Event::wait() const {
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipEventSynchronize(static_cast<hipEvent_t>(handle)), "waiting for a step");
}

absl::StatusOr<Stream> Stream::create(std::shared_ptr<const Device> device) {
  const Hip &hip = device->hip();
  hipStream_t handle = nullptr;
  if (absl::Status status = hip.check(hip.table().hipStreamCreate(&handle), "creating a stream"); !status.ok())
    return status;
  Stream stream;
  stream.device = std::move(device);
  stream.handle = handle;
  return stream;
}

Stream::Stream(Stream &&other) noexcept { *this = std::move(other); }
Stream &Stream::operator=(Stream &&other) noexcept {
  std::swap(device, other.device);
  std::swap(handle, other.handle);
  return *this;
}
Stream::~Stream() { release(); }
void Stream::release() {
  if (device)
    (void)device->hip().table().hipStreamDestroy(static_cast<hipStream_t>(handle));
}

absl::Status Stream::launch(const PreparedLaunch &launch, uint32_t gridY) {
  uint32_t y = gridY ? gridY : launch.grid[1];
  const Hip &hip = device->hip();
  size_t bytes = launch.arguments.size() * sizeof(uint64_t);
  // In exactly this order: HIP's graph code copies the entries by position.
  void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, const_cast<uint64_t *>(launch.arguments.data()),
                   HIP_LAUNCH_PARAM_BUFFER_SIZE, &bytes, HIP_LAUNCH_PARAM_END};
  hipError_t error = hip.table().hipModuleLaunchKernel(
      static_cast<hipFunction_t>(launch.function.handle), launch.grid[0], y, launch.grid[2], launch.workgroup, 1, 1, 0,
      static_cast<hipStream_t>(handle), nullptr, launch.arguments.empty() ? nullptr : extra);
  return hip.check(error, "launching kernel ", launch.function.name, " with ", launch.grid[0], "x", y, "x",
                   launch.grid[2], " workgroups of ", launch.workgroup, " lanes");
}

absl::Status Stream::upload(const DeviceBuffer &to, uint64_t offset, std::span<const std::byte> bytes) {
  if (absl::Status status = checkRange(to, offset, bytes.size()); !status.ok())
    return status;
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipMemcpyAsync(to.at(offset), bytes.data(), bytes.size(), hipMemcpyHostToDevice,
                                              static_cast<hipStream_t>(handle)),
                   "copying ", bytes.size(), " bytes to ", to.label());
}

absl::Status Stream::download(const DeviceBuffer &from, uint64_t offset, std::span<std::byte> bytes) {
  if (absl::Status status = checkRange(from, offset, bytes.size()); !status.ok())
    return status;
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipMemcpyAsync(bytes.data(), from.at(offset), bytes.size(), hipMemcpyDeviceToHost,
                                              static_cast<hipStream_t>(handle)),
                   "copying ", bytes.size(), " bytes from ", from.label());
}

absl::Status Stream::copy(const DeviceBuffer &to, const DeviceBuffer &from) {
  if (absl::Status status = checkRange(to, 0, from.bytes()); !status.ok())
    return status;
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipMemcpyAsync(to.at(0), from.at(0), from.bytes(), hipMemcpyDeviceToDevice,
                                              static_cast<hipStream_t>(handle)),
                   "copying ", from.bytes(), " bytes from ", from.label(), " to ", to.label());
}

absl::Status Stream::zero(const DeviceBuffer &buffer, uint64_t offset, uint64_t bytes) {
  if (absl::Status status = checkRange(buffer, offset, bytes); !status.ok() || bytes == 0)
    return status;
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipMemsetAsync(buffer.at(offset), 0, bytes, static_cast<hipStream_t>(handle)),
                   "zeroing ", buffer.label());
}

absl::Status Stream::synchronize() {
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipStreamSynchronize(static_cast<hipStream_t>(handle)), "waiting for the device");
}

absl::Status Stream::record(const Event &event) {
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipEventRecord(static_cast<hipEvent_t>(event.handle), static_cast<hipStream_t>(handle)),
                   "marking the end of a step");
}

absl::Status Stream::beginCapture() {
  const Hip &hip = device->hip();
  return hip.check(hip.table().hipStreamBeginCapture(static_cast<hipStream_t>(handle), hipStreamCaptureModeThreadLocal),
                   "beginning to record a graph");
}

absl::StatusOr<Graph> Stream::endCapture() {
  const Hip &hip = device->hip();
  Graph graph;
  graph.device = device;
  hipGraph_t recorded = nullptr;
  hipError_t error = hip.table().hipStreamEndCapture(static_cast<hipStream_t>(handle), &recorded);
  if (absl::Status status = hip.check(error, "recording a graph"); !status.ok())
    return status;
  graph.graph = recorded;
  hipGraphExec_t executable = nullptr;
  error = hip.table().hipGraphInstantiate(&executable, recorded, nullptr, nullptr, 0);
  if (absl::Status status = hip.check(error, "instantiating the recorded graph"); !status.ok())
    return status;
  graph.executable = executable;
  return graph;
}

absl::Status Stream::launch(const Graph &graph) {
  const Hip &hip = device->hip();
  return hip.check(
      hip.table().hipGraphLaunch(static_cast<hipGraphExec_t>(graph.executable), static_cast<hipStream_t>(handle)),
      "replaying the recorded graph");
}

} // namespace ingot
