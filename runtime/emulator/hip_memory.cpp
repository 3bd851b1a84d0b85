// Allocation, host registration, copies and fills.
#include "runtime/emulator/capture.h"

#include <bit>
#include <cstring>

using namespace ingot::emu;

namespace {

// For calls that a capture in progress forbids.
template <typename Body> hipError_t outsideCapture(hipError_t refusal, Body body) {
  return onDevice([&](Device &device) {
    hipError_t error = refuseDuringCapture(device, refusal);
    return error != hipSuccess ? error : body(device);
  });
}

hipError_t synchronous(const Work &work) {
  return outsideCapture(hipErrorStreamCaptureImplicit, [&](Device &device) { return perform(device, work, {}); });
}

hipError_t asynchronous(const Work &work, hipStream_t handle) {
  return onDevice([&](Device &device) {
    ihipStream_t *stream = findStream(device, handle);
    if (!stream)
      return device.fail(hipErrorInvalidHandle, "the stream handle is not alive");
    if (hipError_t error = check(device, work); error != hipSuccess)
      return error;
    return submit(device, *stream, work);
  });
}

FillWork bytesFill(void *dst, uint32_t value, uint32_t elementBytes, size_t count) {
  return {dst, value, elementBytes, count, 1, 0};
}

} // namespace

extern "C" {

hipError_t hipMalloc(void **ptr, size_t size) {
  return outsideCapture(hipErrorStreamCaptureUnsupported, [&](Device &device) {
    return ptr ? device.allocate(ptr, size, false, 0) : hipErrorInvalidValue;
  });
}

hipError_t hipFree(void *ptr) {
  return outsideCapture(hipErrorStreamCaptureUnsupported, [&](Device &device) { return device.release(ptr, false); });
}

hipError_t hipHostMalloc(void **ptr, size_t size, unsigned int flags) {
  return outsideCapture(hipErrorStreamCaptureUnsupported, [&](Device &device) {
    return ptr ? device.allocate(ptr, size, true, flags) : hipErrorInvalidValue;
  });
}

hipError_t hipHostFree(void *ptr) {
  return outsideCapture(hipErrorStreamCaptureUnsupported, [&](Device &device) { return device.release(ptr, true); });
}

hipError_t hipHostRegister(void *hostPtr, size_t sizeBytes, unsigned int flags) {
  return outsideCapture(hipErrorStreamCaptureUnsupported,
                        [&](Device &device) { return device.registerHost(hostPtr, sizeBytes, flags); });
}

hipError_t hipHostUnregister(void *hostPtr) {
  return outsideCapture(hipErrorStreamCaptureUnsupported,
                        [&](Device &device) { return device.unregisterHost(hostPtr); });
}

hipError_t hipHostGetDevicePointer(void **devPtr, void *hstPtr, unsigned int flags) {
  return onDevice([&](Device &device) {
    if (!devPtr || flags != 0)
      return hipErrorInvalidValue;
    *devPtr = nullptr;
    const auto *found = device.findAllocation(hstPtr);
    if (!found || !found->second.host)
      return device.fail(hipErrorInvalidValue, "the pointer is neither of hipHostMalloc nor registered");
    *devPtr = hstPtr;
    return hipSuccess;
  });
}

hipError_t hipHostGetFlags(unsigned int *flagsPtr, void *hostPtr) {
  return onDevice([&](Device &device) {
    const auto *found = device.findAllocation(hostPtr);
    if (!flagsPtr || !found || !found->second.host)
      return hipErrorInvalidValue;
    *flagsPtr = found->second.flags;
    return hipSuccess;
  });
}

hipError_t hipMemGetInfo(size_t *free, size_t *total) {
  return onDevice([&](Device &device) {
    if (!free || !total)
      return hipErrorInvalidValue;
    *total = device.chip->memoryBytes;
    *free = device.chip->memoryBytes - device.usedBytes();
    return hipSuccess;
  });
}

hipError_t hipMemGetAddressRange(hipDeviceptr_t *pbase, size_t *psize, hipDeviceptr_t dptr) {
  return onDevice([&](Device &device) {
    const auto *found = device.findAllocation(dptr);
    if (!found)
      return device.fail(hipErrorNotFound, "the pointer is in no live allocation");
    if (pbase)
      *pbase = std::bit_cast<void *>(found->first);
    if (psize)
      *psize = found->second.bytes;
    return hipSuccess;
  });
}

hipError_t hipPointerGetAttributes(hipPointerAttribute_t *attributes, const void *ptr) {
  return onDevice([&](Device &device) {
    const auto *found = device.findAllocation(ptr);
    if (!attributes || !found)
      return hipErrorInvalidValue;
    std::memset(attributes, 0, sizeof *attributes);
    attributes->memoryType = found->second.host ? hipMemoryTypeHost : hipMemoryTypeDevice;
    attributes->devicePointer = const_cast<void *>(ptr);
    attributes->hostPointer = found->second.host ? const_cast<void *>(ptr) : nullptr;
    attributes->allocationFlags = found->second.flags;
    return hipSuccess;
  });
}

hipError_t hipMemcpy(void *dst, const void *src, size_t sizeBytes, hipMemcpyKind kind) {
  return synchronous(CopyWork{dst, src, sizeBytes, kind});
}

hipError_t hipMemcpyHtoD(hipDeviceptr_t dst, void *src, size_t sizeBytes) {
  return hipMemcpy(dst, src, sizeBytes, hipMemcpyHostToDevice);
}

hipError_t hipMemcpyDtoH(void *dst, hipDeviceptr_t src, size_t sizeBytes) {
  return hipMemcpy(dst, src, sizeBytes, hipMemcpyDeviceToHost);
}

hipError_t hipMemcpyDtoD(hipDeviceptr_t dst, hipDeviceptr_t src, size_t sizeBytes) {
  return hipMemcpy(dst, src, sizeBytes, hipMemcpyDeviceToDevice);
}

hipError_t hipMemcpyAsync(void *dst, const void *src, size_t sizeBytes, hipMemcpyKind kind, hipStream_t stream) {
  return asynchronous(CopyWork{dst, src, sizeBytes, kind}, stream);
}

hipError_t hipMemcpyWithStream(void *dst, const void *src, size_t sizeBytes, hipMemcpyKind kind, hipStream_t stream) {
  return asynchronous(CopyWork{dst, src, sizeBytes, kind}, stream);
}

hipError_t hipMemcpyHtoDAsync(hipDeviceptr_t dst, void *src, size_t sizeBytes, hipStream_t stream) {
  return hipMemcpyAsync(dst, src, sizeBytes, hipMemcpyHostToDevice, stream);
}

hipError_t hipMemcpyDtoHAsync(void *dst, hipDeviceptr_t src, size_t sizeBytes, hipStream_t stream) {
  return hipMemcpyAsync(dst, src, sizeBytes, hipMemcpyDeviceToHost, stream);
}

hipError_t hipMemcpyDtoDAsync(hipDeviceptr_t dst, hipDeviceptr_t src, size_t sizeBytes, hipStream_t stream) {
  return hipMemcpyAsync(dst, src, sizeBytes, hipMemcpyDeviceToDevice, stream);
}

hipError_t hipMemset(void *dst, int value, size_t sizeBytes) {
  return synchronous(bytesFill(dst, uint8_t(value), 1, sizeBytes));
}

hipError_t hipMemsetD8(hipDeviceptr_t dest, unsigned char value, size_t count) {
  return synchronous(bytesFill(dest, value, 1, count));
}

hipError_t hipMemsetD32(hipDeviceptr_t dest, int value, size_t count) {
  return synchronous(bytesFill(dest, uint32_t(value), 4, count));
}

hipError_t hipMemsetAsync(void *dst, int value, size_t sizeBytes, hipStream_t stream) {
  return asynchronous(bytesFill(dst, uint8_t(value), 1, sizeBytes), stream);
}

hipError_t hipMemsetD8Async(hipDeviceptr_t dest, unsigned char value, size_t count, hipStream_t stream) {
  return asynchronous(bytesFill(dest, value, 1, count), stream);
}

hipError_t hipMemsetD32Async(hipDeviceptr_t dst, int value, size_t count, hipStream_t stream) {
  return asynchronous(bytesFill(dst, uint32_t(value), 4, count), stream);
}

} // extern "C"
