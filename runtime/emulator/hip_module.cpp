// Modules, functions and launches.
#include "runtime/emulator/capture.h"
#include "runtime/emulator/text.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <iterator>

using namespace ingot::emu;

namespace {

// RDNA 3.5 and 4: a SIMD has 16 wave slots and 1536 registers a lane, handed out in granules of 24; a compute unit has
// two SIMDs, and LDS for a workgroup comes out of 64 KiB a compute unit.
constexpr unsigned waveSlots = 16, simdRegisters = 1536, registerGranule = 24, simdsPerUnit = 2;

hipError_t loadFromMemory(hipModule_t *module, const void *image) {
  return onDevice([&](Device &device) {
    if (!module || !image)
      return hipErrorInvalidValue;
    *module = nullptr;
    Mapping mapping = hostMapping(image, 1);
    std::span<const uint8_t> readable(static_cast<const uint8_t *>(image), mapping.readable);
    uint64_t bytes = imageBytes(readable);
    // Bytes that are neither ELF nor bundle go to the loader as a short span, for its message.
    return device.loadModule(readable.first(bytes ? bytes : std::min<uint64_t>(64, readable.size())), module);
  });
}

} // namespace

extern "C" {

hipError_t hipModuleLoadData(hipModule_t *module, const void *image) { return loadFromMemory(module, image); }

hipError_t hipModuleLoadDataEx(hipModule_t *module, const void *image, unsigned int, hipJitOption *, void **) {
  return loadFromMemory(module, image);
}

hipError_t hipModuleLoad(hipModule_t *module, const char *fname) {
  return onDevice([&](Device &device) {
    if (!module || !fname)
      return hipErrorInvalidValue;
    *module = nullptr;
    std::ifstream file(fname, std::ios::binary);
    if (!file)
      return device.fail(hipErrorFileNotFound, format("cannot open {}", fname));
    std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    return device.loadModule({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}, module);
  });
}

hipError_t hipModuleUnload(hipModule_t module) {
  return onDevice([&](Device &device) {
    if (!device.modules.erase(module))
      return device.fail(hipErrorInvalidHandle, "the module handle is not alive");
    for (const auto &entry : module->functions)
      device.functions.erase(entry.second.get());
    // Graphs may still hold the code; the last owner frees it.
    std::shared_ptr<ihipModule_t> last = std::move(module->self);
    return hipSuccess;
  });
}

hipError_t hipModuleGetFunction(hipFunction_t *function, hipModule_t module, const char *kname) {
  return onDevice([&](Device &device) {
    if (!function || !kname)
      return hipErrorInvalidValue;
    *function = nullptr;
    if (!device.modules.contains(module))
      return device.fail(hipErrorInvalidHandle, "the module handle is not alive");
    auto found = module->functions.find(std::string_view(kname));
    if (found == module->functions.end()) {
      std::string names;
      for (const auto &entry : module->functions)
        names += (names.empty() ? "" : ", ") + entry.first;
      return device.fail(hipErrorNotFound, format("no kernel '{}' in the module, it has: {}", kname, names));
    }
    // An unknown instruction must show here, before anything is launched.
    if (hipError_t error = device.decode(*found->second); error != hipSuccess)
      return error;
    *function = found->second.get();
    device.functions.insert(*function);
    return hipSuccess;
  });
}

hipError_t hipModuleGetGlobal(hipDeviceptr_t *dptr, size_t *bytes, hipModule_t module, const char *name) {
  return onDevice([&](Device &device) {
    if (!name || (!dptr && !bytes))
      return hipErrorInvalidValue;
    if (!device.modules.contains(module))
      return device.fail(hipErrorInvalidHandle, "the module handle is not alive");
    auto found = module->object->globals().find(std::string_view(name));
    if (found == module->object->globals().end())
      return device.fail(hipErrorNotFound, format("no global variable '{}' in the module", name));
    if (dptr)
      *dptr = std::bit_cast<void *>(found->second.address);
    if (bytes)
      *bytes = found->second.bytes;
    return hipSuccess;
  });
}

hipError_t hipModuleLaunchKernel(hipFunction_t f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                                 unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                                 unsigned int sharedMemBytes, hipStream_t handle, void **kernelParams, void **extra) {
  return onDevice([&](Device &device) {
    ihipStream_t *stream = findStream(device, handle);
    if (!stream)
      return device.fail(hipErrorInvalidHandle, "the stream handle is not alive");
    KernelLaunch launch;
    if (hipError_t error = device.prepare(launch, f, dim3(gridDimX, gridDimY, gridDimZ),
                                          dim3(blockDimX, blockDimY, blockDimZ), sharedMemBytes, kernelParams, extra);
        error != hipSuccess)
      return error;
    return submit(device, *stream, std::move(launch));
  });
}

hipError_t hipFuncGetAttribute(int *value, hipFunction_attribute attrib, hipFunction_t hfunc) {
  return onDevice([&](Device &device) {
    if (!value)
      return hipErrorInvalidValue;
    if (!device.functions.contains(hfunc))
      return device.fail(hipErrorInvalidDeviceFunction, "the function is not one of a loaded module");
    const KernelInfo &info = hfunc->info;
    switch (attrib) {
    case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = int(info.maxWorkgroupSize);
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = int(info.ldsBytes);
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case HIP_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    case HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      *value = 0;
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = int(info.scratchBytes);
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_NUM_REGS:
      *value = int(info.vgprs);
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_PTX_VERSION:
    case HIP_FUNC_ATTRIBUTE_BINARY_VERSION:
      *value = device.chip->generation * 10;
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = int(device.chip->ldsBytes - info.ldsBytes);
      return hipSuccess;
    default:
      return hipErrorInvalidValue;
    }
  });
}

hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, hipFunction_t f, int blockSize,
                                                              size_t dynSharedMemPerBlk) {
  return onDevice([&](Device &device) {
    if (!numBlocks || blockSize <= 0 || blockSize > 1024)
      return hipErrorInvalidValue;
    if (!device.functions.contains(f))
      return device.fail(hipErrorInvalidDeviceFunction, "the function is not one of a loaded module");
    unsigned registers = (std::max(f->info.vgprs, 1u) + registerGranule - 1) / registerGranule * registerGranule;
    unsigned waves = std::min(waveSlots, simdRegisters / registers) * simdsPerUnit;
    uint64_t blocks = waves / ((unsigned(blockSize) + 31) / 32), lds = f->info.ldsBytes + dynSharedMemPerBlk;
    *numBlocks = int(lds ? std::min<uint64_t>(blocks, device.chip->ldsBytes / lds) : blocks);
    return hipSuccess;
  });
}

} // extern "C"
