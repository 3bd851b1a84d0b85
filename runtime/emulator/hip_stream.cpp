// Streams, events and capture. Work is finished when the call that submits it returns, so queries always find it ready
// and an event's time is the host's clock at its record.
#include "runtime/emulator/capture.h"

#include <algorithm>

using namespace ingot::emu;

namespace ingot::emu {

ihipStream_t *findStream(Device &device, hipStream_t handle) {
  if (!handle || handle == hipStreamPerThread)
    return device.nullStream;
  return device.streams.contains(handle) ? handle : nullptr;
}

hipError_t refuseDuringCapture(Device &device, hipError_t code) {
  bool refused = false;
  for (const std::shared_ptr<Capture> &capture : device.captures)
    if (capture->mode == hipStreamCaptureModeGlobal ||
        (capture->mode == hipStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id())) {
      capture->invalid = true;
      refused = true;
    }
  if (!refused)
    return hipSuccess;
  return device.fail(code, "the call is not allowed while a stream captures; the capture is now invalid. Do it before "
                           "hipStreamBeginCapture");
}

hipError_t submit(Device &device, ihipStream_t &stream, Work work) {
  if (!stream.capture) {
    if (&stream == device.nullStream)
      if (hipError_t error = refuseDuringCapture(device, hipErrorStreamCaptureImplicit); error != hipSuccess)
        return error;
    return perform(device, work, {});
  }
  if (stream.capture->invalid)
    return hipErrorStreamCaptureInvalidated;
  hipGraphNode_t node = stream.capture->graph->add(std::move(work), stream.tail);
  stream.tail = {node};
  return hipSuccess;
}

} // namespace ingot::emu

namespace {

// Every node that one of `from` depends on, themselves included.
std::unordered_set<const hipGraphNode *> ancestors(const std::vector<hipGraphNode_t> &from) {
  std::unordered_set<const hipGraphNode *> seen;
  std::vector<const hipGraphNode *> open(from.begin(), from.end());
  while (!open.empty()) {
    const hipGraphNode *node = open.back();
    open.pop_back();
    if (seen.insert(node).second)
      open.insert(open.end(), node->dependencies.begin(), node->dependencies.end());
  }
  return seen;
}

void addToTail(std::vector<hipGraphNode_t> &tail, const std::vector<hipGraphNode_t> &more) {
  for (hipGraphNode_t node : more)
    if (std::find(tail.begin(), tail.end(), node) == tail.end())
      tail.push_back(node);
}

void leaveCapture(Capture &capture) {
  for (hipStream_t member : capture.members) {
    member->capture.reset();
    member->tail.clear();
  }
}

template <typename Body> hipError_t onStream(hipStream_t handle, Body body) {
  return onDevice([&](Device &device) {
    ihipStream_t *stream = findStream(device, handle);
    return stream ? body(device, *stream) : device.fail(hipErrorInvalidHandle, "the stream handle is not alive");
  });
}

template <typename Body> hipError_t onEvent(hipEvent_t event, Body body) {
  return onDevice([&](Device &device) {
    return device.events.contains(event) ? body(device)
                                         : device.fail(hipErrorInvalidHandle, "the event handle is not alive");
  });
}

} // namespace

extern "C" {

hipError_t hipStreamCreateWithPriority(hipStream_t *stream, unsigned int flags, int priority) {
  return onDevice([&](Device &device) {
    if (!stream || flags > hipStreamNonBlocking)
      return hipErrorInvalidValue;
    *stream = new ihipStream_t{.flags = flags, .priority = priority, .capture = {}, .tail = {}};
    device.streams.insert(*stream);
    return hipSuccess;
  });
}

hipError_t hipStreamCreate(hipStream_t *stream) { return hipStreamCreateWithPriority(stream, hipStreamDefault, 0); }

hipError_t hipStreamCreateWithFlags(hipStream_t *stream, unsigned int flags) {
  return hipStreamCreateWithPriority(stream, flags, 0);
}

hipError_t hipDeviceGetStreamPriorityRange(int *leastPriority, int *greatestPriority) {
  return onDevice([&](Device &) {
    if (leastPriority)
      *leastPriority = 1;
    if (greatestPriority)
      *greatestPriority = -1;
    return hipSuccess;
  });
}

hipError_t hipStreamDestroy(hipStream_t stream) {
  return onDevice([&](Device &device) {
    if (!device.streams.contains(stream))
      return device.fail(hipErrorInvalidHandle, "the stream handle is not alive");
    if (std::shared_ptr<Capture> capture = stream->capture) {
      if (capture->origin == stream) {
        leaveCapture(*capture);
        device.captures.erase(capture);
      } else {
        capture->invalid = true;
        capture->members.erase(stream);
      }
    }
    device.streams.erase(stream);
    delete stream;
    return hipSuccess;
  });
}

hipError_t hipStreamGetFlags(hipStream_t stream, unsigned int *flags) {
  return onStream(stream, [&](Device &, ihipStream_t &found) {
    if (!flags)
      return hipErrorInvalidValue;
    *flags = found.flags;
    return hipSuccess;
  });
}

hipError_t hipStreamSynchronize(hipStream_t stream) {
  return onStream(stream, [&](Device &device, ihipStream_t &found) {
    if (found.capture) {
      found.capture->invalid = true;
      return device.fail(hipErrorStreamCaptureUnsupported, "a stream that captures cannot be waited for");
    }
    return device.stickyFault;
  });
}

hipError_t hipStreamQuery(hipStream_t stream) { return hipStreamSynchronize(stream); }

hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned int flags) {
  return onStream(stream, [&](Device &device, ihipStream_t &found) {
    if (!device.events.contains(event))
      return device.fail(hipErrorInvalidHandle, "the event handle is not alive");
    if (flags != 0)
      return hipErrorInvalidValue;
    const std::shared_ptr<Capture> &capture = event->capture;
    if (!capture)
      return found.capture ? device.fail(hipErrorStreamCaptureIsolation,
                                         "a stream that captures cannot wait for an event recorded outside the capture")
                           : hipSuccess;
    if (capture->invalid)
      return hipErrorStreamCaptureInvalidated;
    if (&found == device.nullStream)
      return hipErrorStreamCaptureImplicit;
    if (found.capture && found.capture != capture)
      return hipErrorStreamCaptureMerge;
    if (!found.capture) {
      found.capture = capture;
      capture->members.insert(&found);
    }
    addToTail(found.tail, event->tail);
    return hipSuccess;
  });
}

hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t fn, void *userData) {
  return onStream(stream, [&](Device &device, ihipStream_t &found) {
    return fn ? submit(device, found, HostWork{fn, userData}) : hipErrorInvalidValue;
  });
}

hipError_t hipEventCreateWithFlags(hipEvent_t *event, unsigned flags) {
  return onDevice([&](Device &device) {
    constexpr unsigned known = hipEventBlockingSync | hipEventDisableTiming | hipEventInterprocess |
                               hipEventReleaseToDevice | hipEventReleaseToSystem;
    if (!event || flags & ~known)
      return hipErrorInvalidValue;
    *event = new ihipEvent_t{.flags = flags, .recorded = false, .time = {}, .capture = {}, .tail = {}};
    device.events.insert(*event);
    return hipSuccess;
  });
}

hipError_t hipEventCreate(hipEvent_t *event) { return hipEventCreateWithFlags(event, hipEventDefault); }

hipError_t hipEventDestroy(hipEvent_t event) {
  return onEvent(event, [&](Device &device) {
    device.events.erase(event);
    delete event;
    return hipSuccess;
  });
}

hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
  return onStream(stream, [&](Device &device, ihipStream_t &found) {
    if (!device.events.contains(event))
      return device.fail(hipErrorInvalidHandle, "the event handle is not alive");
    if (found.capture) {
      if (found.capture->invalid)
        return hipErrorStreamCaptureInvalidated;
      event->capture = found.capture;
      event->tail = found.tail;
      return hipSuccess;
    }
    event->capture.reset();
    event->tail.clear();
    event->recorded = true;
    event->time = std::chrono::steady_clock::now();
    return device.stickyFault;
  });
}

hipError_t hipEventSynchronize(hipEvent_t event) {
  return onEvent(event, [&](Device &device) {
    if (event->capture) {
      event->capture->invalid = true;
      return device.fail(hipErrorCapturedEvent,
                         "the event was last recorded in a capture, which has no time to wait for");
    }
    return device.stickyFault;
  });
}

hipError_t hipEventQuery(hipEvent_t event) { return hipEventSynchronize(event); }

hipError_t hipEventElapsedTime(float *ms, hipEvent_t start, hipEvent_t stop) {
  return onDevice([&](Device &device) {
    if (!ms)
      return hipErrorInvalidValue;
    if (!device.events.contains(start) || !device.events.contains(stop))
      return device.fail(hipErrorInvalidHandle, "an event handle is not alive");
    if (!start->recorded || !stop->recorded || (start->flags | stop->flags) & hipEventDisableTiming)
      return device.fail(hipErrorInvalidHandle, "elapsed time needs two recorded events made with timing");
    *ms = std::chrono::duration<float, std::milli>(stop->time - start->time).count();
    return hipSuccess;
  });
}

hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) {
  return onStream(stream, [&](Device &device, ihipStream_t &found) {
    if (mode < hipStreamCaptureModeGlobal || mode > hipStreamCaptureModeRelaxed)
      return hipErrorInvalidValue;
    if (&found == device.nullStream)
      return device.fail(hipErrorStreamCaptureUnsupported, "the null stream cannot capture; create a stream");
    if (found.capture)
      return device.fail(hipErrorIllegalState, "the stream captures already");
    auto capture = std::make_shared<Capture>();
    capture->origin = &found;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->id = device.nextCaptureId++;
    capture->graph = std::make_unique<ihipGraph>();
    capture->members.insert(&found);
    device.captures.insert(capture);
    found.capture = std::move(capture);
    found.tail.clear();
    return hipSuccess;
  });
}

hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t *graph) {
  return onStream(stream, [&](Device &device, ihipStream_t &found) {
    if (!graph)
      return hipErrorInvalidValue;
    *graph = nullptr;
    std::shared_ptr<Capture> capture = found.capture;
    if (!capture)
      return device.fail(hipErrorIllegalState, "the stream does not capture");
    if (capture->origin != &found)
      return device.fail(hipErrorStreamCaptureUnmatched, "the capture began on another stream");
    if (capture->mode != hipStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
      return device.fail(hipErrorStreamCaptureWrongThread, "the capture began on another thread");
    std::unordered_set<const hipGraphNode *> joined = ancestors(found.tail);
    bool unjoined = false;
    for (hipStream_t member : capture->members)
      for (hipGraphNode_t node : member->tail)
        unjoined |= !joined.contains(node);
    leaveCapture(*capture);
    device.captures.erase(capture);
    if (capture->invalid)
      return hipErrorStreamCaptureInvalidated;
    capture->invalid = true; // an event that still refers to it can no longer pull a stream in
    if (unjoined)
      return device.fail(hipErrorStreamCaptureUnjoined,
                         "a forked stream was not joined: record an event on it and wait "
                         "for that on the stream where the capture began");
    *graph = capture->graph.release();
    device.graphs.insert(*graph);
    return hipSuccess;
  });
}

hipError_t hipStreamGetCaptureInfo(hipStream_t stream, hipStreamCaptureStatus *status, unsigned long long *id) {
  return onStream(stream, [&](Device &, ihipStream_t &found) {
    if (!status)
      return hipErrorInvalidValue;
    *status = !found.capture           ? hipStreamCaptureStatusNone
              : found.capture->invalid ? hipStreamCaptureStatusInvalidated
                                       : hipStreamCaptureStatusActive;
    if (id && found.capture)
      *id = found.capture->id;
    return hipSuccess;
  });
}

hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus *status) {
  return hipStreamGetCaptureInfo(stream, status, nullptr);
}

} // extern "C"
