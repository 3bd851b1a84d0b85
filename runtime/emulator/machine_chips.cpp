// The chips the machine can be: one row each. Facts that programs can ask for (memory, compute units) are those of the
// real parts; facts that change execution are the generation and the LDS size.
#include "runtime/emulator/machine.h"

namespace ingot::emu {

namespace {
constexpr ChipInfo chips[] = {
    {"gfx1151", "AMD Radeon 8060S Graphics", 11, true, 40, 64 * 1024, 96ull << 30},
    {"gfx1201", "AMD Radeon RX 9070 XT", 12, false, 64, 64 * 1024, 16ull << 30},
};
} // namespace

std::span<const ChipInfo> allChips() { return chips; }

const ChipInfo *findChip(std::string_view name) {
  for (const ChipInfo &chip : chips)
    if (chip.name == name)
      return &chip;
  return nullptr;
}

} // namespace ingot::emu
