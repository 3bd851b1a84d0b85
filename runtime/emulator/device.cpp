// The device's state, its memory and its launches. HIP's entry points (hip_*.cpp) only check handles and call in here.
#include "runtime/emulator/device.h"
#include "runtime/emulator/text.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sys/mman.h>

namespace ingot::emu {
namespace {

constexpr uint64_t pageBytes = 4096, guardBytes = 256, stagingBytes = 64 << 10;
constexpr uint64_t hugePageBytes = 2 << 20;
constexpr uint8_t poisonByte = 0xcb;

std::mutex targetMutex;
std::string chosenTarget;
bool deviceExists = false;

const ChipInfo *initialChip() {
  std::lock_guard guard(targetMutex);
  deviceExists = true;
  if (chosenTarget.empty())
    if (const char *name = std::getenv("INGOT_EMULATOR_TARGET"))
      chosenTarget = name;
  return findChip(chosenTarget.empty() ? "gfx1151" : chosenTarget);
}

std::string hex(const void *pointer) { return format("{:#x}", reinterpret_cast<uint64_t>(pointer)); }

uint64_t addressOf(const void *pointer) { return reinterpret_cast<uint64_t>(pointer); }

} // namespace

Mapping hostMapping(const void *pointer, uint64_t bytes) {
  std::ifstream maps("/proc/self/maps");
  Mapping result;
  uint64_t begin = addressOf(pointer), at = begin;
  result.writable = true;
  for (std::string line; std::getline(maps, line);) {
    char *cursor;
    uint64_t from = std::strtoull(line.c_str(), &cursor, 16);
    if (*cursor != '-')
      break;
    uint64_t to = std::strtoull(cursor + 1, &cursor, 16);
    if (to <= at)
      continue;
    if (from > at || cursor[1] != 'r')
      break;
    if (at < begin + bytes && cursor[2] != 'w')
      result.writable = false;
    at = to;
  }
  result.readable = at - begin;
  if (result.readable < bytes)
    result.writable = false;
  return result;
}

Device &Device::get() {
  // Never destroyed: handles may be released by static destructors that run later than ours would.
  static auto *device = new Device;
  return *device;
}

Device::Device() : chip(initialChip()), nullStream(new ihipStream_t) {
  for (const char *key : {"threads", "budget", "poison", "deterministic"}) {
    std::string name = "INGOT_EMULATOR_";
    for (const char *c = key; *c; ++c)
      name += char(*c - 'a' + 'A');
    if (const char *value = std::getenv(name.c_str()))
      if (setOption(key, value) != hipSuccess)
        report = "the environment variable " + name + "=" + value + " is not a number in range; it is ignored";
  }
  if (!chip)
    report = "INGOT_EMULATOR_TARGET=" + chosenTarget + " is no chip of the emulator; expected gfx1151 or gfx1201";
  void *pages = mmap(nullptr, stagingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  staging = pages == MAP_FAILED ? nullptr : static_cast<uint8_t *>(pages);
  if (staging)
    memory.add(addressOf(staging), stagingBytes, true, Memory::argumentsName);
}

hipError_t Device::setTarget(std::string_view name) {
  if (!findChip(name))
    return hipErrorInvalidValue;
  std::lock_guard guard(targetMutex);
  if (deviceExists)
    return chosenTarget == name || (chosenTarget.empty() && name == "gfx1151") ? hipSuccess
                                                                               : hipErrorSetOnActiveProcess;
  chosenTarget = name;
  return hipSuccess;
}

hipError_t Device::setOption(std::string_view key, std::string_view value) {
  uint64_t number;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size())
    return hipErrorInvalidValue;
  Options next = options;
  if (key == "threads" && number <= 256)
    next.threads = unsigned(number);
  else if (key == "budget" && number > 0)
    next.budget = number;
  else if (key == "poison" && number <= 1)
    next.poison = number;
  else if (key == "deterministic" && number <= 1)
    next.deterministic = number;
  else
    return hipErrorInvalidValue;
  options = next;
  if (currentMachine)
    oldMachines.push_back(std::move(currentMachine));
  return hipSuccess;
}

Machine &Device::machine() {
  if (!currentMachine) {
    currentMachine = std::make_unique<Machine>(*chip, memory, options);
    ++machineEpoch;
  }
  return *currentMachine;
}

hipError_t Device::allocate(void **out, size_t bytes, bool host, unsigned flags) {
  *out = nullptr;
  if (bytes == 0)
    return hipSuccess;
  if (bytes > chip->memoryBytes - used)
    return fail(hipErrorOutOfMemory, format("{} bytes asked for, {} of the device's {} are free", bytes,
                                            chip->memoryBytes - used, chip->memoryBytes));
  // A page-aligned start and an unregistered gap behind: a step over either end meets no neighbour.
  uint64_t mapped = (bytes + guardBytes + pageBytes - 1) & ~(pageBytes - 1);
  void *pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED)
    return fail(hipErrorOutOfMemory, format("the host cannot map {} bytes for the device's memory", bytes));
  if (bytes >= hugePageBytes)
    madvise(pages, mapped, MADV_HUGEPAGE);
  if (options.poison)
    std::memset(pages, poisonByte, bytes);
  memory.add(addressOf(pages), bytes, false);
  allocations[addressOf(pages)] = {bytes, mapped, host, flags};
  used += bytes;
  *out = pages;
  return hipSuccess;
}

hipError_t Device::release(void *pointer, bool host) {
  if (!pointer)
    return hipSuccess;
  auto found = allocations.find(addressOf(pointer));
  if (found == allocations.end() || !found->second.mapped || found->second.host != host)
    return fail(host ? hipErrorInvalidValue : hipErrorInvalidDevicePointer,
                format("{} is not the start of a live {} allocation", hex(pointer), host ? "host" : "device"));
  memory.remove(found->first);
  munmap(pointer, found->second.mapped);
  used -= found->second.bytes;
  allocations.erase(found);
  return hipSuccess;
}

hipError_t Device::registerHost(void *pointer, size_t bytes, unsigned flags) {
  if (!pointer || bytes == 0 || addressOf(pointer) + bytes < bytes)
    return fail(hipErrorInvalidValue, "hipHostRegister needs a range that is not empty");
  auto after = allocations.lower_bound(addressOf(pointer) + bytes);
  if (after != allocations.begin() && std::prev(after)->first + std::prev(after)->second.bytes > addressOf(pointer))
    return fail(hipErrorHostMemoryAlreadyRegistered,
                format("[{}, +{}) overlaps memory that the device knows already", hex(pointer), bytes));
  Mapping mapping = hostMapping(pointer, bytes);
  if (mapping.readable < bytes)
    return fail(hipErrorInvalidValue, format("[{}, +{}) is not mapped: only {} bytes from its start can be read",
                                             hex(pointer), bytes, mapping.readable));
  memory.add(addressOf(pointer), bytes, !mapping.writable);
  allocations[addressOf(pointer)] = {bytes, 0, true, flags};
  return hipSuccess;
}

hipError_t Device::unregisterHost(void *pointer) {
  auto found = allocations.find(addressOf(pointer));
  if (found == allocations.end() || found->second.mapped)
    return fail(hipErrorHostMemoryNotRegistered, hex(pointer) + " is not the start of a registered range");
  memory.remove(found->first);
  allocations.erase(found);
  return hipSuccess;
}

hipError_t Device::labelBuffer(const void *pointer, std::string_view name) {
  if (name.empty() || !allocations.contains(addressOf(pointer)))
    return fail(hipErrorInvalidValue,
                format("{} is not the start of a live allocation, or its name is empty", hex(pointer)));
  memory.rename(addressOf(pointer), name);
  return hipSuccess;
}

const std::pair<const uint64_t, Allocation> *Device::findAllocation(const void *pointer) const {
  auto after = allocations.upper_bound(addressOf(pointer));
  if (after == allocations.begin())
    return nullptr;
  auto &entry = *std::prev(after);
  return addressOf(pointer) < entry.first + entry.second.bytes ? &entry : nullptr;
}

bool Device::deviceRange(const void *pointer, size_t bytes, bool write) const {
  std::optional<Memory::Range> range = memory.find(addressOf(pointer));
  return range && bytes <= range->end - addressOf(pointer) && !(write && range->readOnly);
}

hipError_t Device::checkCopy(const void *dst, const void *src, size_t bytes, hipMemcpyKind kind) {
  if (bytes == 0)
    return hipSuccess;
  if (!dst || !src)
    return fail(hipErrorInvalidValue, "copy from or to a null pointer");
  if (kind < hipMemcpyHostToHost || kind > hipMemcpyDefault)
    return fail(hipErrorInvalidMemcpyDirection, format("copy direction {} does not exist", int(kind)));
  bool toDevice = kind == hipMemcpyHostToDevice || kind == hipMemcpyDeviceToDevice;
  bool fromDevice = kind == hipMemcpyDeviceToHost || kind == hipMemcpyDeviceToDevice;
  // A host pointer may also point into memory the device knows; then it must fit there like any other.
  if ((toDevice || memory.find(addressOf(dst))) && !deviceRange(dst, bytes, true))
    return fail(hipErrorInvalidValue, format("copy of {} bytes to {}: the range is not within one writable device "
                                             "allocation",
                                             bytes, hex(dst)));
  if ((fromDevice || memory.find(addressOf(src))) && !deviceRange(src, bytes, false))
    return fail(hipErrorInvalidValue,
                format("copy of {} bytes from {}: the range is not within one device allocation", bytes, hex(src)));
  return hipSuccess;
}

hipError_t Device::checkFill(const void *dst, size_t bytes) {
  if (bytes == 0 || (dst && deviceRange(dst, bytes, true)))
    return hipSuccess;
  return fail(
      hipErrorInvalidValue,
      format("fill of {} bytes at {}: the range is not within one writable device allocation", bytes, hex(dst)));
}

hipError_t Device::loadModule(std::span<const uint8_t> image, hipModule_t *out) {
  Fault fault{};
  std::unique_ptr<CodeObject> object = CodeObject::load(image, *chip, memory, fault);
  if (!object)
    return fail(hipError_t(fault.code), fault.report);
  auto module = std::make_shared<ihipModule_t>();
  module->object = std::move(object);
  for (const KernelInfo &info : module->object->kernels()) {
    auto function = std::make_unique<ihipModuleSymbol_t>();
    function->info = info;
    function->module = module.get();
    function->statistics = &statistics[info.name];
    module->functions[info.name] = std::move(function);
  }
  module->self = module;
  modules.insert(module.get());
  *out = module.get();
  return hipSuccess;
}

hipError_t Device::decode(ihipModuleSymbol_t &function) {
  Machine &current = machine();
  if (function.program && function.epoch == machineEpoch)
    return hipSuccess;
  Fault fault{};
  std::shared_ptr<const Program> program = current.decode(function.info, fault);
  if (!program)
    return fail(hipError_t(fault.code), fault.report);
  function.program = std::move(program);
  function.epoch = machineEpoch;
  return hipSuccess;
}

namespace {

void fillHidden(KernelLaunch &launch, const KernelArgument &argument) {
  uint64_t value = 0;
  std::string_view kind = argument.kind;
  auto axis = [&](std::string_view prefix) {
    return kind.starts_with(prefix) && kind.size() == prefix.size() + 1 && kind.back() >= 'x' && kind.back() <= 'z'
               ? kind.back() - 'x'
               : -1;
  };
  if (int a = axis("hidden_block_count_"); a >= 0)
    value = launch.grid[a];
  else if (int b = axis("hidden_group_size_"); b >= 0)
    value = launch.block[b];
  else if (kind == "hidden_grid_dims")
    value = launch.grid[2] * launch.block[2] > 1 ? 3 : launch.grid[1] * launch.block[1] > 1 ? 2 : 1;
  else if (kind == "hidden_dynamic_lds_size")
    value = launch.dynamicLds;
  // Remainders and global offsets are zero for a grid given in whole blocks; printf, hostcall, heap and queues do not
  // exist.
  std::memcpy(launch.kernarg.data() + argument.offset, &value, std::min<size_t>(argument.size, sizeof value));
}

} // namespace

hipError_t Device::prepare(KernelLaunch &out, hipFunction_t function, dim3 grid, dim3 block, unsigned dynamicLds,
                           void **params, void **extra) {
  if (!functions.contains(function))
    return fail(hipErrorInvalidDeviceFunction, "the launched function is not one of a loaded module");
  const KernelInfo &info = function->info;
  std::string who = "launch of '" + info.name + "': ";
  uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return fail(hipErrorInvalidValue, who + format("grid {} x {} x {} is empty", grid.x, grid.y, grid.z));
  if (block.x == 0 || block.y == 0 || block.z == 0)
    return fail(hipErrorInvalidConfiguration, who + format("block {} x {} x {} is empty", block.x, block.y, block.z));
  if (uint64_t(grid.x) * block.x > 0xffffffffu)
    return fail(hipErrorInvalidConfiguration, who + "grid times block exceeds 2^32 - 1 in x");
  if (grid.y > 65536 || grid.z > 65536)
    return fail(hipErrorInvalidValue, who + "grid exceeds 65536 in y or z");
  if (block.x > 1024 || block.y > 1024 || block.z > 1024 || threads > 1024)
    return fail(hipErrorInvalidValue, who + format("a block of {} threads, the device's limit is 1024", threads));
  if (threads > info.maxWorkgroupSize)
    return fail(hipErrorLaunchFailure, who + format("a block of {} threads, the kernel was compiled for {} at most",
                                                    threads, info.maxWorkgroupSize));
  if (uint64_t(info.ldsBytes) + dynamicLds > chip->ldsBytes)
    return fail(hipErrorInvalidValue,
                who + format("{} + {} bytes of LDS, the device has {}", info.ldsBytes, dynamicLds, chip->ldsBytes));
  if (params && extra)
    return fail(hipErrorInvalidValue, who + "arguments given twice, as kernelParams and as extra");
  out.owner = function->module->shared_from_this();
  out.function = function;
  out.grid = {grid.x, grid.y, grid.z};
  out.block = {block.x, block.y, block.z};
  out.dynamicLds = dynamicLds;
  out.kernarg.assign(info.kernargBytes, 0);
  if (extra) {
    if (extra[0] != HIP_LAUNCH_PARAM_BUFFER_POINTER || extra[2] != HIP_LAUNCH_PARAM_BUFFER_SIZE ||
        extra[4] != HIP_LAUNCH_PARAM_END || !extra[1] || !extra[3])
      return fail(hipErrorInvalidValue, who + "extra must be {buffer pointer, p, buffer size, &n, end} in this order");
    size_t bytes = *static_cast<size_t *>(extra[3]);
    std::memcpy(out.kernarg.data(), extra[1], std::min(bytes, out.kernarg.size()));
  }
  size_t next = 0;
  for (const KernelArgument &argument : info.arguments) {
    if (argument.kind.starts_with("hidden_")) {
      fillHidden(out, argument);
    } else if (!extra) {
      if (!params || !params[next])
        return fail(hipErrorInvalidValue, who + format("argument {} is missing", next));
      std::memcpy(out.kernarg.data() + argument.offset, params[next++], argument.size);
    }
  }
  return decode(*function);
}

hipError_t Device::run(const KernelLaunch &launch, std::span<const uint8_t> kernarg) {
  if (stickyFault != hipSuccess)
    return stickyFault;
  if (hipError_t error = decode(*launch.function); error != hipSuccess)
    return error;
  auto begin = std::chrono::steady_clock::now();
  KernelStatistics &record = *launch.function->statistics;
  std::optional<Fault> fault = machine().run(
      {launch.function->program.get(), launch.grid, launch.block, launch.dynamicLds, kernarg}, record.counters);
  record.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (fault) {
    stickyFault = hipError_t(fault->code);
    return fail(stickyFault, fault->report);
  }
  return hipSuccess;
}

hipError_t Device::runOnce(const KernelLaunch &launch) {
  if (!staging)
    return fail(hipErrorOutOfMemory, "the host had no memory for launch arguments");
  std::memcpy(staging, launch.kernarg.data(), launch.kernarg.size());
  return run(launch, {staging, launch.kernarg.size()});
}

} // namespace ingot::emu
