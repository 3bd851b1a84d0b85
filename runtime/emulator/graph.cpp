// Doing and checking one piece of recorded work, and the bookkeeping of graphs. Plain stream operations go through the
// same functions, so that a replayed graph and plain calls cannot differ.
#include "runtime/emulator/graph.h"
#include "runtime/emulator/device.h"

#include <algorithm>
#include <cstring>

namespace ingot::emu {
namespace {

void fill(const FillWork &work) {
  for (size_t row = 0; row < work.rows; ++row) {
    auto *to = static_cast<uint8_t *>(work.dst) + row * work.pitch;
    if (work.elementBytes == 1)
      std::memset(to, int(work.value), work.count);
    else
      for (size_t i = 0; i < work.count; ++i)
        std::memcpy(to + i * work.elementBytes, &work.value, work.elementBytes);
  }
}

} // namespace

Capture::Capture() = default;
Capture::~Capture() = default;

hipError_t check(Device &device, const Work &work) {
  if (const auto *copy = std::get_if<CopyWork>(&work))
    return device.checkCopy(copy->dst, copy->src, copy->bytes, copy->kind);
  if (const auto *set = std::get_if<FillWork>(&work)) {
    if (set->rows == 0 || set->count == 0)
      return hipSuccess;
    return device.checkFill(set->dst, (set->rows - 1) * set->pitch + set->count * set->elementBytes);
  }
  return hipSuccess;
}

hipError_t perform(Device &device, const Work &work, std::span<const uint8_t> kernarg) {
  if (device.stickyFault != hipSuccess)
    return device.stickyFault;
  if (const auto *launch = std::get_if<KernelLaunch>(&work))
    return kernarg.data() ? device.run(*launch, kernarg) : device.runOnce(*launch);
  if (hipError_t error = check(device, work); error != hipSuccess)
    return error;
  if (const auto *copy = std::get_if<CopyWork>(&work)) {
    if (copy->bytes)
      std::memmove(copy->dst, copy->src, copy->bytes);
  } else if (const auto *set = std::get_if<FillWork>(&work)) {
    fill(*set);
  } else if (const auto *host = std::get_if<HostWork>(&work)) {
    host->function(host->data);
  }
  return hipSuccess;
}

} // namespace ingot::emu

hipGraphNode *ihipGraph::add(ingot::emu::Work work, std::vector<hipGraphNode *> dependencies) {
  nodes.push_back(std::make_unique<hipGraphNode>(std::move(work), std::move(dependencies)));
  return nodes.back().get();
}

bool ihipGraph::contains(const hipGraphNode *node) const {
  return std::any_of(nodes.begin(), nodes.end(), [&](const auto &own) { return own.get() == node; });
}
