// A HIP library of host memory and the toy kernels as C++ functions, to test what the runtime does when calls fail. A
// code object is the text "toy code for gfx1151"; for any other chip the load is refused as HIP would.
#include "runtime/executor/testing/fake_hip.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/device/hip_table.h"
#include "runtime/executor/testing/toy_kernels.h"

namespace {

constexpr std::string_view kCode = "toy code for gfx1151";

int failAt = 0, calls = 0, integrated = 0;
uint64_t freeBytes = uint64_t(1) << 30;
std::set<void *> live;
using Work = std::function<void()>;
std::vector<Work> *recording = nullptr;
bool deferred = false;
std::vector<Work> pending;                 // issued and not done yet, where that is deferred
uint64_t issued = 0;                       // works that were deferred, those done by now included
std::map<hipEvent_t, uint64_t> recordedAt; // how many there were when the event was recorded

hipError_t begin() {
  ++calls;
  return calls == failAt ? hipErrorUnknown : hipSuccess;
}
#define FAKE_BEGIN                                                                                                     \
  if (hipError_t error = begin(); error != hipSuccess)                                                                 \
  return error

template <typename Handle> hipError_t own(Handle **handle, void *object) {
  *handle = static_cast<Handle *>(object);
  live.insert(object);
  return hipSuccess;
}
// Giving back succeeds or is a mistake of the caller; a failure on purpose would hide leaks.
hipError_t disown(void *object) {
  if (live.erase(object) != 1)
    return hipErrorInvalidHandle;
  ::free(object);
  return hipSuccess;
}

// Work that is not recorded is not stored either: a test counts the runtime's own allocations.
template <typename Callable> void issue(const Callable &work) {
  if (recording) {
    recording->push_back(work);
  } else if (deferred) {
    pending.push_back(work);
    ++issued;
  } else {
    work();
  }
}

void finishUntil(uint64_t place) {
  while (!pending.empty() && issued - pending.size() < place) {
    pending.front()();
    pending.erase(pending.begin());
  }
}

using Pointers = std::vector<void *>;
using KernelBody = void (*)(const Pointers &, int workgroup, int lane);
template <typename Type> Type *as(void *pointer) { return static_cast<Type *>(pointer); }

const std::map<std::string_view, KernelBody> &kernels() {
  static const std::map<std::string_view, KernelBody> table = {
      {"toy_embed",
       [](const Pointers &p, int workgroup, int lane) {
         toyEmbed(as<unsigned char>(p[0]), as<int>(p[1]), as<int>(p[2]), as<unsigned>(p[3]), workgroup, lane);
       }},
      {"toy_scan",
       [](const Pointers &p, int, int lane) { toyScan(as<int>(p[0]), as<unsigned>(p[1]), as<unsigned>(p[2]), lane); }},
      {"toy_logits",
       [](const Pointers &p, int, int lane) {
         toyLogits(as<int>(p[0]), as<unsigned>(p[1]), as<float>(p[2]), as<int>(p[0])[kStepTokens] - 1, lane);
       }},
      {"toy_all_logits",
       [](const Pointers &p, int workgroup, int lane) {
         toyLogits(as<int>(p[0]), as<unsigned>(p[1]), as<float>(p[2]) + workgroup * kToyVocabulary, workgroup, lane);
       }},
      {"toy_greedy", [](const Pointers &p, int,
                        int lane) { toyGreedy(as<int>(p[0]), as<int>(p[1]), as<float>(p[2]), as<int>(p[3]), lane); }},
      {"toy_sample",
       [](const Pointers &p, int, int lane) {
         toySample(as<int>(p[0]), as<int>(p[1]), as<float>(p[2]), as<int>(p[3]), as<unsigned>(p[4]), lane);
       }},
      {"toy_embed_rows",
       [](const Pointers &p, int, int lane) { toyEmbedRows(as<unsigned char>(p[0]), p[1], as<unsigned>(p[2]), lane); }},
      {"toy_scan_rows", [](const Pointers &p, int row,
                           int lane) { toyScanRows(p[0], as<unsigned>(p[1]), as<unsigned>(p[2]), row, lane); }},
      {"toy_logits_rows", [](const Pointers &p, int row,
                             int lane) { toyLogitsRows(p[0], as<unsigned>(p[1]), as<float>(p[2]), row, lane); }},
      {"toy_greedy_rows",
       [](const Pointers &p, int row, int lane) { toyGreedyRows(p[0], p[1], as<float>(p[2]), p[3], row, lane); }},
      {"toy_sample_rows",
       [](const Pointers &p, int row, int lane) { toySampleRows(p[0], p[1], as<float>(p[2]), p[3], p[4], row, lane); }},
  };
  return table;
}

} // namespace

extern "C" {

void fakeHipFailAt(int call) {
  failAt = call;
  calls = 0;
}
int fakeHipCalls() { return calls; }
int fakeHipLive() { return static_cast<int>(live.size()); }
void fakeHipSetDeferred(int value) {
  finishUntil(issued);
  deferred = value != 0;
}
void fakeHipSetFreeBytes(uint64_t bytes) { freeBytes = bytes; }
void fakeHipSetIntegrated(int value) { integrated = value; }

const char *hipGetErrorName(hipError_t error) { return error == hipErrorUnknown ? "hipErrorUnknown" : "hipError"; }
const char *hipGetErrorString(hipError_t) { return "made to fail"; }
hipError_t hipInit(unsigned) {
  FAKE_BEGIN;
  return hipSuccess;
}
hipError_t hipRuntimeGetVersion(int *version) {
  *version = 50221153;
  return hipSuccess;
}
hipError_t hipGetDeviceCount(int *count) {
  FAKE_BEGIN;
  *count = 1;
  return hipSuccess;
}
hipError_t hipSetDevice(int) {
  FAKE_BEGIN;
  return hipSuccess;
}
hipError_t hipDeviceGetName(char *name, int length, hipDevice_t) {
  std::strncpy(name, "Fake", static_cast<size_t>(length));
  return hipSuccess;
}
hipError_t hipDeviceGetAttribute(int *value, hipDeviceAttribute_t which, int) {
  *value = which == hipDeviceAttributeWarpSize ? 32 : which == hipDeviceAttributeIntegrated ? integrated : 2;
  return hipSuccess;
}
hipError_t hipMemGetInfo(size_t *free, size_t *total) {
  FAKE_BEGIN;
  *free = freeBytes;
  *total = freeBytes;
  return hipSuccess;
}
hipError_t hipMalloc(void **pointer, size_t bytes) {
  FAKE_BEGIN;
  // Filled, so that nobody relies on fresh memory being zero.
  void *memory = ::malloc(bytes);
  std::memset(memory, 0xcd, bytes);
  return own(pointer, memory);
}
hipError_t hipFree(void *pointer) { return disown(pointer); }
hipError_t hipHostMalloc(void **pointer, size_t bytes, unsigned) {
  FAKE_BEGIN;
  return own(pointer, ::malloc(bytes));
}
hipError_t hipHostFree(void *pointer) { return disown(pointer); }
hipError_t hipHostRegister(void *pointer, size_t, unsigned) {
  FAKE_BEGIN;
  live.insert(pointer);
  return hipSuccess;
}
hipError_t hipHostUnregister(void *pointer) { return live.erase(pointer) == 1 ? hipSuccess : hipErrorInvalidValue; }
hipError_t hipHostGetDevicePointer(void **device, void *host, unsigned) {
  FAKE_BEGIN;
  *device = host;
  return hipSuccess;
}
hipError_t hipMemcpyAsync(void *to, const void *from, size_t bytes, hipMemcpyKind, hipStream_t) {
  FAKE_BEGIN;
  issue([=] { std::memcpy(to, from, bytes); });
  return hipSuccess;
}
hipError_t hipMemsetAsync(void *to, int value, size_t bytes, hipStream_t) {
  FAKE_BEGIN;
  issue([=] { std::memset(to, value, bytes); });
  return hipSuccess;
}
hipError_t hipStreamCreate(hipStream_t *stream) {
  FAKE_BEGIN;
  return own(stream, ::malloc(1));
}
hipError_t hipStreamDestroy(hipStream_t stream) { return disown(stream); }
hipError_t hipStreamSynchronize(hipStream_t) {
  FAKE_BEGIN;
  finishUntil(issued);
  return hipSuccess;
}
hipError_t hipEventCreateWithFlags(hipEvent_t *event, unsigned) {
  FAKE_BEGIN;
  const hipError_t status = own(event, ::malloc(1));
  if (status == hipSuccess)
    recordedAt[*event] = 0; // here, so that recording allocates nothing
  return status;
}
hipError_t hipEventDestroy(hipEvent_t event) { return disown(event); }
hipError_t hipEventRecord(hipEvent_t event, hipStream_t) {
  FAKE_BEGIN;
  recordedAt[event] = issued;
  return hipSuccess;
}
hipError_t hipEventSynchronize(hipEvent_t event) {
  FAKE_BEGIN;
  finishUntil(recordedAt[event]);
  return hipSuccess;
}
hipError_t hipModuleLoadData(hipModule_t *module, const void *image) {
  FAKE_BEGIN;
  if (std::memcmp(image, kCode.data(), kCode.size()) != 0)
    return hipErrorNoBinaryForGpu;
  return own(module, ::malloc(1));
}
hipError_t hipModuleUnload(hipModule_t module) { return disown(module); }
hipError_t hipModuleGetFunction(hipFunction_t *function, hipModule_t, const char *name) {
  FAKE_BEGIN;
  auto found = kernels().find(name);
  if (found == kernels().end())
    return hipErrorNotFound;
  *function = reinterpret_cast<hipFunction_t>(found->second);
  return hipSuccess;
}
hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned lanes,
                                 unsigned, unsigned, unsigned, hipStream_t, void **, void **extra) {
  FAKE_BEGIN;
  if (gridX * gridY * gridZ == 0 || extra[0] != HIP_LAUNCH_PARAM_BUFFER_POINTER ||
      extra[2] != HIP_LAUNCH_PARAM_BUFFER_SIZE || extra[4] != HIP_LAUNCH_PARAM_END)
    return hipErrorInvalidValue;
  Pointers pointers(*static_cast<size_t *>(extra[3]) / sizeof(void *));
  std::memcpy(static_cast<void *>(pointers.data()), extra[1], pointers.size() * sizeof(void *));
  auto body = reinterpret_cast<KernelBody>(function);
  issue([=] {
    for (unsigned workgroup = 0; workgroup < gridY; ++workgroup)
      for (unsigned lane = 0; lane < lanes; ++lane)
        body(pointers, static_cast<int>(workgroup), static_cast<int>(lane));
  });
  return hipSuccess;
}
hipError_t hipStreamBeginCapture(hipStream_t, hipStreamCaptureMode) {
  FAKE_BEGIN;
  recording = new std::vector<Work>;
  return hipSuccess;
}
hipError_t hipStreamEndCapture(hipStream_t, hipGraph_t *graph) {
  std::vector<Work> *recorded = recording;
  recording = nullptr;
  if (hipError_t error = begin(); error != hipSuccess) {
    delete recorded;
    return error;
  }
  *graph = reinterpret_cast<hipGraph_t>(recorded);
  live.insert(recorded);
  return hipSuccess;
}
hipError_t hipGraphInstantiate(hipGraphExec_t *executable, hipGraph_t graph, hipGraphNode_t *, char *, size_t) {
  FAKE_BEGIN;
  auto *copy = new std::vector<Work>(*reinterpret_cast<std::vector<Work> *>(graph));
  *executable = reinterpret_cast<hipGraphExec_t>(copy);
  live.insert(copy);
  return hipSuccess;
}
hipError_t hipGraphLaunch(hipGraphExec_t executable, hipStream_t) {
  FAKE_BEGIN;
  for (const Work &work : *reinterpret_cast<std::vector<Work> *>(executable))
    issue(work);
  return hipSuccess;
}
hipError_t hipGraphExecDestroy(hipGraphExec_t executable) {
  if (live.erase(executable) != 1)
    return hipErrorInvalidHandle;
  delete reinterpret_cast<std::vector<Work> *>(executable);
  return hipSuccess;
}
hipError_t hipGraphDestroy(hipGraph_t graph) {
  if (live.erase(graph) != 1)
    return hipErrorInvalidHandle;
  delete reinterpret_cast<std::vector<Work> *>(graph);
  return hipSuccess;
}

} // extern "C"
