// Graphs: building by hand, instantiating, replaying and patching.
#include "runtime/emulator/capture.h"
#include "runtime/emulator/text.h"

#include <algorithm>
#include <cstring>
#include <sys/mman.h>

using namespace ingot::emu;

namespace {

constexpr uint64_t argumentAlign = 64;

template <typename Body> hipError_t onGraph(hipGraph_t graph, Body body) {
  return onDevice([&](Device &device) {
    return device.graphs.contains(graph) ? body(device) : device.fail(hipErrorInvalidValue, "the graph is not alive");
  });
}

hipError_t addNode(Device &device, hipGraphNode_t *out, hipGraph_t graph, const hipGraphNode_t *dependencies,
                   size_t count, Work work) {
  if (!out || (count && !dependencies))
    return hipErrorInvalidValue;
  for (size_t i = 0; i < count; ++i)
    if (!graph->contains(dependencies[i]))
      return device.fail(hipErrorInvalidValue, format("dependency {} is not a node of the graph", i));
  if (hipError_t error = check(device, work); error != hipSuccess)
    return error;
  *out = graph->add(std::move(work), {dependencies, dependencies + count});
  return hipSuccess;
}

hipError_t kernelWork(Device &device, const hipKernelNodeParams *params, KernelLaunch &launch) {
  if (!params)
    return hipErrorInvalidValue;
  return device.prepare(launch, static_cast<hipFunction_t>(params->func), params->gridDim, params->blockDim,
                        params->sharedMemBytes, params->kernelParams, params->extra);
}

void dropArena(Device &device, hipGraphExec &exec) {
  if (!exec.arena)
    return;
  device.memory.remove(reinterpret_cast<uint64_t>(exec.arena));
  munmap(exec.arena, exec.arenaBytes);
  exec.arena = nullptr;
}

// Lays all argument blocks into one mapping that the device may read, so that a replay copies nothing.
hipError_t layArguments(Device &device, hipGraphExec &exec) {
  uint64_t bytes = 0;
  for (hipGraphExec::Step &step : exec.steps)
    if (const auto *launch = std::get_if<KernelLaunch>(&step.work)) {
      step.kernargOffset = bytes;
      bytes += (launch->kernarg.size() + argumentAlign) & ~(argumentAlign - 1);
    }
  if (bytes == 0)
    return hipSuccess;
  void *pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED)
    return device.fail(hipErrorOutOfMemory, "the host had no memory for the graph's arguments");
  exec.arena = static_cast<uint8_t *>(pages);
  exec.arenaBytes = bytes;
  for (const hipGraphExec::Step &step : exec.steps)
    if (const auto *launch = std::get_if<KernelLaunch>(&step.work))
      std::memcpy(exec.arena + step.kernargOffset, launch->kernarg.data(), launch->kernarg.size());
  device.memory.add(reinterpret_cast<uint64_t>(pages), bytes, true, Memory::argumentsName);
  return hipSuccess;
}

hipError_t instantiate(Device &device, hipGraphExec_t *out, hipGraph_t graph) {
  if (!out)
    return hipErrorInvalidValue;
  if (hipError_t error = refuseDuringCapture(device, hipErrorStreamCaptureUnsupported); error != hipSuccess)
    return error;
  auto exec = std::make_unique<hipGraphExec>();
  for (const auto &node : graph->nodes)
    exec->steps.push_back({node.get(), node->work});
  if (hipError_t error = layArguments(device, *exec); error != hipSuccess)
    return error;
  *out = exec.release();
  device.graphExecs.insert(*out);
  return hipSuccess;
}

// Replaces a kernel step's launch; its argument block keeps its place unless another kernel needs more room.
hipError_t replaceLaunch(Device &device, hipGraphExec &exec, hipGraphExec::Step &step, KernelLaunch launch) {
  auto &old = std::get<KernelLaunch>(step.work);
  bool fits = launch.kernarg.size() <= old.kernarg.size();
  old = std::move(launch);
  if (fits) {
    std::memcpy(exec.arena + step.kernargOffset, old.kernarg.data(), old.kernarg.size());
    return hipSuccess;
  }
  dropArena(device, exec);
  return layArguments(device, exec);
}

} // namespace

extern "C" {

hipError_t hipGraphCreate(hipGraph_t *graph, unsigned int flags) {
  return onDevice([&](Device &device) {
    if (!graph || flags != 0)
      return hipErrorInvalidValue;
    *graph = new ihipGraph;
    device.graphs.insert(*graph);
    return hipSuccess;
  });
}

hipError_t hipGraphDestroy(hipGraph_t graph) {
  return onGraph(graph, [&](Device &device) {
    device.graphs.erase(graph);
    delete graph;
    return hipSuccess;
  });
}

hipError_t hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t *nodes, size_t *numNodes) {
  return onGraph(graph, [&](Device &) {
    if (!numNodes)
      return hipErrorInvalidValue;
    if (!nodes) {
      *numNodes = graph->nodes.size();
      return hipSuccess;
    }
    for (size_t i = 0; i < *numNodes; ++i)
      nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
    *numNodes = std::min(*numNodes, graph->nodes.size());
    return hipSuccess;
  });
}

hipError_t hipGraphNodeGetType(hipGraphNode_t node, hipGraphNodeType *type) {
  return onDevice([&](Device &) {
    if (!node || !type)
      return hipErrorInvalidValue;
    constexpr hipGraphNodeType types[] = {hipGraphNodeTypeEmpty, hipGraphNodeTypeKernel, hipGraphNodeTypeMemcpy,
                                          hipGraphNodeTypeMemset, hipGraphNodeTypeHost};
    *type = types[node->work.index()];
    return hipSuccess;
  });
}

hipError_t hipGraphAddEmptyNode(hipGraphNode_t *node, hipGraph_t graph, const hipGraphNode_t *dependencies,
                                size_t count) {
  return onGraph(graph, [&](Device &device) { return addNode(device, node, graph, dependencies, count, EmptyWork{}); });
}

hipError_t hipGraphAddKernelNode(hipGraphNode_t *node, hipGraph_t graph, const hipGraphNode_t *dependencies,
                                 size_t count, const hipKernelNodeParams *params) {
  return onGraph(graph, [&](Device &device) {
    KernelLaunch launch;
    if (hipError_t error = kernelWork(device, params, launch); error != hipSuccess)
      return error;
    return addNode(device, node, graph, dependencies, count, std::move(launch));
  });
}

hipError_t hipGraphAddMemcpyNode1D(hipGraphNode_t *node, hipGraph_t graph, const hipGraphNode_t *dependencies,
                                   size_t count, void *dst, const void *src, size_t bytes, hipMemcpyKind kind) {
  return onGraph(graph, [&](Device &device) {
    return addNode(device, node, graph, dependencies, count, CopyWork{dst, src, bytes, kind});
  });
}

hipError_t hipGraphAddMemsetNode(hipGraphNode_t *node, hipGraph_t graph, const hipGraphNode_t *dependencies,
                                 size_t count, const hipMemsetParams *params) {
  return onGraph(graph, [&](Device &device) {
    if (!params || (params->elementSize != 1 && params->elementSize != 2 && params->elementSize != 4) ||
        (params->height > 1 && params->pitch < params->width * params->elementSize))
      return hipErrorInvalidValue;
    return addNode(device, node, graph, dependencies, count,
                   FillWork{params->dst, params->value, params->elementSize, params->width,
                            std::max<size_t>(params->height, 1), params->pitch});
  });
}

hipError_t hipGraphInstantiate(hipGraphExec_t *exec, hipGraph_t graph, hipGraphNode_t *errorNode, char *log,
                               size_t logBytes) {
  return onGraph(graph, [&](Device &device) {
    if (errorNode)
      *errorNode = nullptr;
    if (log && logBytes)
      *log = 0;
    return instantiate(device, exec, graph);
  });
}

hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t *exec, hipGraph_t graph, unsigned long long flags) {
  return onGraph(graph,
                 [&](Device &device) { return flags ? hipErrorInvalidValue : instantiate(device, exec, graph); });
}

hipError_t hipGraphExecDestroy(hipGraphExec_t exec) {
  return onDevice([&](Device &device) {
    if (!device.graphExecs.erase(exec))
      return device.fail(hipErrorInvalidValue, "the executable graph is not alive");
    dropArena(device, *exec);
    delete exec;
    return hipSuccess;
  });
}

hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t handle) {
  return onDevice([&](Device &device) {
    ihipStream_t *stream = findStream(device, handle);
    if (!stream)
      return device.fail(hipErrorInvalidHandle, "the stream handle is not alive");
    if (!device.graphExecs.contains(exec))
      return device.fail(hipErrorInvalidValue, "the executable graph is not alive");
    if (stream->capture) {
      stream->capture->invalid = true;
      return device.fail(hipErrorStreamCaptureUnsupported, "a graph cannot be launched into a capture");
    }
    for (const hipGraphExec::Step &step : exec->steps) {
      std::span<const uint8_t> kernarg;
      if (const auto *launch = std::get_if<KernelLaunch>(&step.work))
        kernarg = {exec->arena + step.kernargOffset, launch->kernarg.size()};
      if (hipError_t error = perform(device, step.work, kernarg); error != hipSuccess)
        return error;
    }
    return hipSuccess;
  });
}

hipError_t hipGraphExecKernelNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node,
                                           const hipKernelNodeParams *params) {
  return onDevice([&](Device &device) {
    if (!device.graphExecs.contains(exec))
      return device.fail(hipErrorInvalidValue, "the executable graph is not alive");
    for (hipGraphExec::Step &step : exec->steps) {
      if (step.origin != node || !std::holds_alternative<KernelLaunch>(step.work))
        continue;
      KernelLaunch launch;
      if (hipError_t error = kernelWork(device, params, launch); error != hipSuccess)
        return error;
      return replaceLaunch(device, *exec, step, std::move(launch));
    }
    return device.fail(hipErrorInvalidValue, "the node is not a kernel node of the graph that this was made from");
  });
}

hipError_t hipGraphExecUpdate(hipGraphExec_t exec, hipGraph_t graph, hipGraphNode_t *errorNode,
                              hipGraphExecUpdateResult *result) {
  return onGraph(graph, [&](Device &device) {
    if (!errorNode || !result || !device.graphExecs.contains(exec))
      return hipErrorInvalidValue;
    *errorNode = nullptr;
    *result = hipGraphExecUpdateErrorTopologyChanged;
    if (graph->nodes.size() != exec->steps.size())
      return hipErrorGraphExecUpdateFailure;
    for (size_t i = 0; i < exec->steps.size(); ++i)
      if (graph->nodes[i]->work.index() != exec->steps[i].work.index()) {
        *errorNode = graph->nodes[i].get();
        *result = hipGraphExecUpdateErrorNodeTypeChanged;
        return hipErrorGraphExecUpdateFailure;
      }
    for (size_t i = 0; i < exec->steps.size(); ++i)
      exec->steps[i] = {graph->nodes[i].get(), graph->nodes[i]->work};
    *result = hipGraphExecUpdateSuccess;
    dropArena(device, *exec);
    return layArguments(device, *exec);
  });
}

} // extern "C"
