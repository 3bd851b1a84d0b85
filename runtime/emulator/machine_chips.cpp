// The chips the emulator can be. Clock, bandwidth and cache figures are the public specifications of the products named
// (Strix Halo's Radeon 8060S, Radeon AI PRO R9700); the ELF machine numbers are LLVM's EF_AMDGPU_MACH values.
#include "runtime/emulator/machine.h"

namespace ingot::emu {
namespace {

constexpr uint64_t GiB = uint64_t(1) << 30;

constexpr ChipInfo chips[] = {
    {.name = "gfx1151",
     .productName = "Radeon 8060S Graphics (emulated gfx1151)",
     .generation = 11,
     .integrated = true,
     .computeUnits = 40,
     .ldsBytes = 64 << 10,
     .memoryBytes = 96 * GiB,
     .elfMachine = 0x4a,
     .elfGenericMachine = 0x54,
     .genericName = "gfx11-generic",
     .l2Bytes = 2 << 20,
     .clockKHz = 2'900'000,
     .memoryClockKHz = 4'000'000,
     .memoryBusBits = 256},
    {.name = "gfx1201",
     .productName = "AMD Radeon AI PRO R9700 (emulated gfx1201)",
     .generation = 12,
     .integrated = false,
     .computeUnits = 64,
     .ldsBytes = 64 << 10,
     .memoryBytes = 32 * GiB,
     .elfMachine = 0x4e,
     .elfGenericMachine = 0x59,
     .genericName = "gfx12-generic",
     .l2Bytes = 8 << 20,
     .clockKHz = 2'920'000,
     .memoryClockKHz = 10'000'000,
     .memoryBusBits = 256},
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
