// The device: initialisation, its properties, synchronisation.
#include "runtime/emulator/capture.h"
#include "runtime/emulator/text.h"

#include <algorithm>
#include <climits>
#include <cstring>

using namespace ingot::emu;

namespace {

constexpr int maxBlock = 1024, maxGridYZ = 65536, warp = 32, registersPerBlock = 65536, threadsPerUnit = 1024;
constexpr int clockInstructionKHz = 100'000;

hipError_t onOrdinal(int ordinal, auto body) {
  return onDevice([&](Device &device) {
    return ordinal == 0 ? body(device)
                        : device.fail(hipErrorInvalidDevice,
                                      format("device {} does not exist, the emulator has device 0 only", ordinal));
  });
}

// gfx1151 is 11.5 by the name's own digits: generation, minor, stepping.
int minorOf(const ChipInfo &chip) { return chip.name[chip.name.size() - 2] - '0'; }

void setText(char *out, size_t room, std::string_view text) {
  size_t length = std::min(text.size(), room - 1);
  std::memcpy(out, text.data(), length);
  out[length] = 0;
}

} // namespace

extern "C" {

hipError_t hipInit(unsigned int flags) {
  return onDevice([&](Device &) { return flags ? hipErrorInvalidValue : hipSuccess; });
}

hipError_t hipRuntimeGetVersion(int *version) {
  return onDevice([&](Device &) {
    if (!version)
      return hipErrorInvalidValue;
    *version = HIP_VERSION;
    return hipSuccess;
  });
}

hipError_t hipDriverGetVersion(int *version) { return hipRuntimeGetVersion(version); }

hipError_t hipGetDeviceCount(int *count) {
  return onDevice([&](Device &) {
    if (!count)
      return hipErrorInvalidValue;
    *count = 1;
    return hipSuccess;
  });
}

hipError_t hipGetDevice(int *deviceId) {
  return onDevice([&](Device &) {
    if (!deviceId)
      return hipErrorInvalidValue;
    *deviceId = 0;
    return hipSuccess;
  });
}

hipError_t hipSetDevice(int deviceId) {
  return onOrdinal(deviceId, [](Device &) { return hipSuccess; });
}

hipError_t hipDeviceGet(hipDevice_t *device, int ordinal) {
  return onOrdinal(ordinal, [&](Device &) {
    if (!device)
      return hipErrorInvalidValue;
    *device = 0;
    return hipSuccess;
  });
}

hipError_t hipDeviceGetName(char *name, int len, hipDevice_t ordinal) {
  return onOrdinal(ordinal, [&](Device &device) {
    if (!name || len <= 0)
      return hipErrorInvalidValue;
    setText(name, size_t(len), device.chip->productName);
    return hipSuccess;
  });
}

hipError_t hipDeviceTotalMem(size_t *bytes, hipDevice_t ordinal) {
  return onOrdinal(ordinal, [&](Device &device) {
    if (!bytes)
      return hipErrorInvalidValue;
    *bytes = device.chip->memoryBytes;
    return hipSuccess;
  });
}

hipError_t hipGetDeviceProperties(hipDeviceProp_t *prop, int deviceId) {
  return onOrdinal(deviceId, [&](Device &device) {
    if (!prop)
      return hipErrorInvalidValue;
    const ChipInfo &chip = *device.chip;
    std::memset(prop, 0, sizeof *prop);
    setText(prop->name, sizeof prop->name, chip.productName);
    setText(prop->gcnArchName, sizeof prop->gcnArchName, chip.name);
    prop->totalGlobalMem = chip.memoryBytes;
    prop->sharedMemPerBlock = chip.ldsBytes;
    prop->maxSharedMemoryPerMultiProcessor = chip.ldsBytes;
    prop->regsPerBlock = registersPerBlock;
    prop->warpSize = warp;
    prop->maxThreadsPerBlock = maxBlock;
    std::fill(std::begin(prop->maxThreadsDim), std::end(prop->maxThreadsDim), maxBlock);
    prop->maxGridSize[0] = INT_MAX;
    prop->maxGridSize[1] = prop->maxGridSize[2] = maxGridYZ;
    prop->clockRate = int(chip.clockKHz);
    prop->memoryClockRate = int(chip.memoryClockKHz);
    prop->memoryBusWidth = int(chip.memoryBusBits);
    prop->totalConstMem = INT_MAX;
    prop->major = chip.generation;
    prop->minor = minorOf(chip);
    prop->gcnArch = chip.generation * 100 + minorOf(chip) * 10 + (chip.name.back() - '0');
    prop->multiProcessorCount = chip.computeUnits;
    prop->l2CacheSize = int(chip.l2Bytes);
    prop->maxThreadsPerMultiProcessor = threadsPerUnit;
    prop->clockInstructionRate = clockInstructionKHz;
    prop->arch = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0};
    prop->concurrentKernels = 1;
    prop->canMapHostMemory = 1;
    prop->integrated = chip.integrated;
    prop->memPitch = INT_MAX;
    prop->textureAlignment = prop->texturePitchAlignment = 256;
    prop->isLargeBar = 1;
    return hipSuccess;
  });
}

hipError_t hipDeviceGetAttribute(int *pi, hipDeviceAttribute_t attr, int deviceId) {
  return onOrdinal(deviceId, [&](Device &device) {
    if (!pi)
      return hipErrorInvalidValue;
    const ChipInfo &chip = *device.chip;
    auto answer = [&](uint64_t value) {
      *pi = int(std::min<uint64_t>(value, INT_MAX));
      return hipSuccess;
    };
    switch (attr) {
    case hipDeviceAttributeClockRate:
      return answer(chip.clockKHz);
    case hipDeviceAttributeMemoryClockRate:
      return answer(chip.memoryClockKHz);
    case hipDeviceAttributeMemoryBusWidth:
      return answer(chip.memoryBusBits);
    case hipDeviceAttributeIntegrated:
      return answer(chip.integrated);
    case hipDeviceAttributeL2CacheSize:
      return answer(chip.l2Bytes);
    case hipDeviceAttributeMultiprocessorCount:
    case hipDeviceAttributePhysicalMultiProcessorCount:
      return answer(uint64_t(chip.computeUnits));
    case hipDeviceAttributeComputeCapabilityMajor:
      return answer(uint64_t(chip.generation));
    case hipDeviceAttributeComputeCapabilityMinor:
      return answer(uint64_t(minorOf(chip)));
    case hipDeviceAttributeMaxSharedMemoryPerBlock:
    case hipDeviceAttributeSharedMemPerBlockOptin:
    case hipDeviceAttributeSharedMemPerMultiprocessor:
    case hipDeviceAttributeMaxSharedMemoryPerMultiprocessor:
      return answer(chip.ldsBytes);
    case hipDeviceAttributeTotalGlobalMem:
      return answer(chip.memoryBytes);
    case hipDeviceAttributeWarpSize:
      return answer(warp);
    case hipDeviceAttributeMaxThreadsPerBlock:
    case hipDeviceAttributeMaxBlockDimX:
    case hipDeviceAttributeMaxBlockDimY:
    case hipDeviceAttributeMaxBlockDimZ:
    case hipDeviceAttributeMaxThreadsDim:
      return answer(maxBlock);
    case hipDeviceAttributeMaxGridDimX:
    case hipDeviceAttributeMaxPitch:
    case hipDeviceAttributeTotalConstantMemory:
      return answer(INT_MAX);
    case hipDeviceAttributeMaxGridDimY:
    case hipDeviceAttributeMaxGridDimZ:
      return answer(maxGridYZ);
    case hipDeviceAttributeMaxThreadsPerMultiProcessor:
      return answer(threadsPerUnit);
    case hipDeviceAttributeMaxRegistersPerBlock:
    case hipDeviceAttributeMaxRegistersPerMultiprocessor:
      return answer(registersPerBlock);
    case hipDeviceAttributeClockInstructionRate:
      return answer(clockInstructionKHz);
    case hipDeviceAttributeTextureAlignment:
    case hipDeviceAttributeTexturePitchAlignment:
      return answer(256);
    case hipDeviceAttributeCanMapHostMemory:
    case hipDeviceAttributeCanUseHostPointerForRegisteredMem:
    case hipDeviceAttributeConcurrentKernels:
    case hipDeviceAttributeUnifiedAddressing:
    case hipDeviceAttributeIsLargeBar:
    case hipDeviceAttributeFineGrainSupport:
      return answer(1);
    case hipDeviceAttributeEccEnabled:
    case hipDeviceAttributeComputeMode:
    case hipDeviceAttributeAsyncEngineCount:
    case hipDeviceAttributeConcurrentManagedAccess:
    case hipDeviceAttributeCooperativeLaunch:
    case hipDeviceAttributeCooperativeMultiDeviceLaunch:
    case hipDeviceAttributeDirectManagedMemAccessFromHost:
    case hipDeviceAttributeIsMultiGpuBoard:
    case hipDeviceAttributeKernelExecTimeout:
    case hipDeviceAttributeManagedMemory:
    case hipDeviceAttributePageableMemoryAccess:
    case hipDeviceAttributePageableMemoryAccessUsesHostPageTables:
    case hipDeviceAttributePciBusId:
    case hipDeviceAttributePciDeviceId:
    case hipDeviceAttributePciDomainID:
    case hipDeviceAttributeMemoryPoolsSupported:
    case hipDeviceAttributeImageSupport:
    case hipDeviceAttributeCanUseStreamWaitValue:
    case hipDeviceAttributeAsicRevision:
      return answer(0);
    default:
      return device.fail(hipErrorInvalidValue, format("device attribute {} is not known", int(attr)));
    }
  });
}

hipError_t hipDeviceSynchronize(void) {
  return onDevice([](Device &device) {
    hipError_t error = refuseDuringCapture(device, hipErrorStreamCaptureUnsupported);
    return error != hipSuccess ? error : device.stickyFault;
  });
}

} // extern "C"
