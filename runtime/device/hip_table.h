// The HIP functions this runtime calls, as pointers found at run time: one binary serves a machine with ROCm, one with
// Debian's libamdhip64, and one with neither. Only this room's sources include HIP's header, and only for types and
// checks.
#pragma once

#include <hip/hip_runtime_api.h>

#include <cstddef>

namespace ingot {

// X(name, parameters). All exist in HIP 5.2 and later under these names. The signatures are spelled out because HIP's
// C++ header overloads some of the names.
#define INGOT_HIP_FUNCTIONS(X)                                                                                         \
  X(hipInit, (unsigned))                                                                                               \
  X(hipRuntimeGetVersion, (int *))                                                                                     \
  X(hipGetDeviceCount, (int *))                                                                                        \
  X(hipSetDevice, (int))                                                                                               \
  X(hipDeviceGetName, (char *, int, hipDevice_t))                                                                      \
  X(hipDeviceGetAttribute, (int *, hipDeviceAttribute_t, int))                                                         \
  X(hipMemGetInfo, (size_t *, size_t *))                                                                               \
  X(hipMalloc, (void **, size_t))                                                                                      \
  X(hipFree, (void *))                                                                                                 \
  X(hipHostMalloc, (void **, size_t, unsigned))                                                                        \
  X(hipHostFree, (void *))                                                                                             \
  X(hipHostRegister, (void *, size_t, unsigned))                                                                       \
  X(hipHostUnregister, (void *))                                                                                       \
  X(hipHostGetDevicePointer, (void **, void *, unsigned))                                                              \
  X(hipMemcpyAsync, (void *, const void *, size_t, hipMemcpyKind, hipStream_t))                                        \
  X(hipMemsetAsync, (void *, int, size_t, hipStream_t))                                                                \
  X(hipStreamCreate, (hipStream_t *))                                                                                  \
  X(hipStreamDestroy, (hipStream_t))                                                                                   \
  X(hipStreamSynchronize, (hipStream_t))                                                                               \
  X(hipEventCreateWithFlags, (hipEvent_t *, unsigned))                                                                 \
  X(hipEventDestroy, (hipEvent_t))                                                                                     \
  X(hipEventRecord, (hipEvent_t, hipStream_t))                                                                         \
  X(hipEventSynchronize, (hipEvent_t))                                                                                 \
  X(hipModuleLoadData, (hipModule_t *, const void *))                                                                  \
  X(hipModuleUnload, (hipModule_t))                                                                                    \
  X(hipModuleGetFunction, (hipFunction_t *, hipModule_t, const char *))                                                \
  X(hipModuleLaunchKernel, (hipFunction_t, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,       \
                            hipStream_t, void **, void **))                                                            \
  X(hipStreamBeginCapture, (hipStream_t, hipStreamCaptureMode))                                                        \
  X(hipStreamEndCapture, (hipStream_t, hipGraph_t *))                                                                  \
  X(hipGraphInstantiate, (hipGraphExec_t *, hipGraph_t, hipGraphNode_t *, char *, size_t))                             \
  X(hipGraphLaunch, (hipGraphExec_t, hipStream_t))                                                                     \
  X(hipGraphExecDestroy, (hipGraphExec_t))                                                                             \
  X(hipGraphDestroy, (hipGraph_t))

// NOLINTBEGIN(bugprone-macro-parentheses): `parameters` is a parameter list and brings its own.
struct HipTable {
#define INGOT_HIP_POINTER(name, parameters) hipError_t(*name) parameters = nullptr;
  INGOT_HIP_FUNCTIONS(INGOT_HIP_POINTER)
#undef INGOT_HIP_POINTER
  const char *(*hipGetErrorName)(hipError_t) = nullptr;
  const char *(*hipGetErrorString)(hipError_t) = nullptr;

  // The layout of hipDeviceProp_t changed in 6.0; the newer function has a name of its own. Either may be missing. Only
  // the type's name is relied on, not its size: give a larger buffer.
  hipError_t (*deviceProperties)(hipDeviceProp_t *, int) = nullptr;

  // runtime/emulator/emulator.h; null on a real runtime.
  int (*emulatorSetTarget)(const char *) = nullptr;
  int (*emulatorSetOption)(const char *, const char *) = nullptr;
  const char *(*emulatorLastReport)() = nullptr;
  const char *(*emulatorCountersJson)() = nullptr;
  void (*emulatorResetCounters)() = nullptr;
  int (*emulatorLabelBuffer)(const void *, const char *) = nullptr;
};

// Compiles only while the signatures above are those of the header.
#define INGOT_HIP_CHECK(name, parameters) static_assert(static_cast<hipError_t(*) parameters>(&::name) != nullptr);
INGOT_HIP_FUNCTIONS(INGOT_HIP_CHECK)
#undef INGOT_HIP_CHECK
// NOLINTEND(bugprone-macro-parentheses)

} // namespace ingot
