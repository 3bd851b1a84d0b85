// The functions of emulator.h: the emulator's own controls, beside HIP's.
#include "runtime/emulator/emulator.h"
#include "runtime/emulator/device.h"
#include "runtime/emulator/text.h"

using namespace ingot::emu;

namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text)
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (static_cast<unsigned char>(c) < 0x20)
      out += ' ';
    else
      out += c;
  return out + "\"";
}

std::string json(const Memory &memory, const Counters &c, double seconds) {
  std::pair<const char *, uint64_t> fields[] = {{"launches", c.launches},
                                                {"waves", c.waves},
                                                {"instructions", c.instructions()},
                                                {"scalar", c.scalar},
                                                {"vector", c.vector},
                                                {"dot", c.dot},
                                                {"wmma", c.wmma},
                                                {"cross_lane", c.crossLane},
                                                {"lds", c.lds},
                                                {"global", c.global},
                                                {"scratch", c.scratch},
                                                {"branch", c.branch},
                                                {"wait", c.wait},
                                                {"barrier", c.barrier},
                                                {"bytes_read", c.bytesRead},
                                                {"bytes_written", c.bytesWritten},
                                                {"lds_conflict_cycles", c.ldsConflictCycles}};
  std::string out = "{";
  for (const auto &[name, value] : fields)
    out += format("\"{}\": {}, ", name, value);
  std::string buffers;
  for (const BufferBytes &b : c.buffers)
    buffers += (buffers.empty() ? "" : ", ") + quoted(memory.bufferName(b.buffer)) + ": {" +
               format("\"read\": {}, \"written\": {}", b.read, b.written) + "}";
  return out + "\"buffers\": {" + buffers + "}, \"seconds\": " + std::to_string(seconds) + "}";
}

} // namespace

extern "C" {

int ingotEmulatorSetTarget(const char *name) { return name ? Device::setTarget(name) : hipErrorInvalidValue; }

int ingotEmulatorSetOption(const char *key, const char *value) {
  if (!key || !value)
    return hipErrorInvalidValue;
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  return device.setOption(key, value);
}

const char *ingotEmulatorLastReport(void) {
  thread_local std::string copy;
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  copy = device.report;
  return copy.c_str();
}

void ingotEmulatorClearFault(void) {
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  device.stickyFault = hipSuccess;
  device.report.clear();
}

const char *ingotEmulatorCountersJson(void) {
  thread_local std::string text;
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  Counters totals;
  double seconds = 0;
  std::string kernels;
  for (const auto &[name, record] : device.statistics) {
    if (record.counters.launches == 0)
      continue;
    totals += record.counters;
    seconds += record.seconds;
    kernels +=
        (kernels.empty() ? "" : ", ") + quoted(name) + ": " + json(device.memory, record.counters, record.seconds);
  }
  text = "{\"target\": " + quoted(device.chip ? device.chip->name : "") +
         ", \"totals\": " + json(device.memory, totals, seconds) + ", \"kernels\": {" + kernels + "}}";
  return text.c_str();
}

int ingotEmulatorLabelBuffer(const void *pointer, const char *name) {
  if (!pointer || !name)
    return hipErrorInvalidValue;
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  return device.labelBuffer(pointer, name);
}

void ingotEmulatorResetCounters(void) {
  Device &device = Device::get();
  std::lock_guard guard(device.mutex);
  // Functions keep pointers to their entries, so these are emptied, not erased.
  for (auto &entry : device.statistics)
    entry.second = {};
}

} // extern "C"
