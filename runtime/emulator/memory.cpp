// The ranges of host memory that kernels may touch. Everything else is out of bounds, whatever the host has mapped
// there.
#include "runtime/emulator/machine.h"

namespace ingot::emu {

void Memory::add(uint64_t begin, uint64_t bytes, bool readOnly) {
  std::unique_lock guard(mutex);
  ranges[begin] = {begin, begin + bytes, readOnly};
  ++edits;
}

void Memory::remove(uint64_t begin) {
  std::unique_lock guard(mutex);
  ranges.erase(begin);
  ++edits;
}

std::optional<Memory::Range> Memory::find(uint64_t address) const {
  std::shared_lock guard(mutex);
  auto after = ranges.upper_bound(address);
  if (after == ranges.begin())
    return std::nullopt;
  const Range &range = std::prev(after)->second;
  if (address >= range.end)
    return std::nullopt;
  return range;
}

uint64_t Memory::version() const {
  std::shared_lock guard(mutex);
  return edits;
}

} // namespace ingot::emu
