// Which calls are allowed while a stream records, and how work finds its way into the graph.
#pragma once

#include "runtime/emulator/device.h"

namespace ingot::emu {

// The stream behind a handle: null and the per-thread handle are the null stream. Null for a handle that is not alive.
ihipStream_t *findStream(Device &device, hipStream_t handle);

// Records `work` if the stream captures, else does it now. `work` has been checked.
hipError_t submit(Device &device, ihipStream_t &stream, Work work);

// For calls that a capture in progress forbids (allocation, synchronous copies): if there is one in global mode, or in
// thread-local mode on this thread, invalidates it and answers `code`; else success.
hipError_t refuseDuringCapture(Device &device, hipError_t code);

} // namespace ingot::emu
