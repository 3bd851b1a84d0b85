// The ranges of host memory that kernels may touch. Everything else is out of bounds, whatever the host has mapped
// there.
#include "runtime/emulator/machine.h"

namespace ingot::emu {

uint32_t Memory::bufferOf(std::string_view name) {
  if (name.empty())
    return nextBuffer++;
  auto found = named.find(name);
  if (found == named.end()) {
    found = named.emplace(name, nextBuffer++).first;
    names.emplace(found->second, name);
  }
  return found->second;
}

void Memory::add(uint64_t begin, uint64_t bytes, bool readOnly, std::string_view name) {
  std::unique_lock guard(mutex);
  ranges[begin] = {begin, begin + bytes, readOnly, bufferOf(name)};
  ++edits;
}

bool Memory::rename(uint64_t begin, std::string_view name) {
  std::unique_lock guard(mutex);
  auto found = ranges.find(begin);
  if (found == ranges.end())
    return false;
  found->second.buffer = bufferOf(name);
  ++edits;
  return true;
}

std::string Memory::bufferName(uint32_t buffer) const {
  std::shared_lock guard(mutex);
  auto found = names.find(buffer);
  return found == names.end() ? "buffer " + std::to_string(buffer) : found->second;
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
