#include "codegen/target.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ingot {

// Clocks are the highest AMD states; those of a matrix instruction follow from the peaks that it states (59.4 TFLOPS of
// bf16 and TOPS of int8; 191 and 383). Two figures are assumed, the same for both chips, since neither has been
// measured here: the latency of busy memory (public measurements of RDNA 3, Chips and Cheese in June 2023, find 150 to
// 200 ns to the last-level cache with one load at a time; memory lies behind it), and the width of the way from a
// compute unit's cache to its registers. Only the choice of launch shapes depends on them.
static constexpr double kAssumedLatency = 600e-9, kAssumedLoadBytes = 64;

static constexpr TargetInfo kTargets[] = {
    {.name = "gfx1151",
     .bundleId = "hipv4-amdgcn-amd-amdhsa--gfx1151",
     .marketing = "Radeon 8060S (Strix Halo)",
     .waveSize = 32,
     .matrix = MatrixLayout::Replicated,
     .fp8Matrix = false,
     .computeUnits = 40,
     .simdsPerComputeUnit = 2,
     .wavesPerSimd = 16,
     .vgprsPerSimd = 1536,
     .vgprGranule = 24,
     .ldsPerWorkgroup = 64 << 10,
     .lastLevelCache = 32u << 20,
     .bandwidth = 256e9,
     .clock = 2.9e9,
     .latency = kAssumedLatency,
     .loadBytesPerClock = kAssumedLoadBytes,
     .bf16MatrixClocks = 32,
     .int8MatrixClocks = 32},
    {.name = "gfx1201",
     .bundleId = "hipv4-amdgcn-amd-amdhsa--gfx1201",
     .marketing = "Radeon RX 9070 XT, R9700",
     .waveSize = 32,
     .matrix = MatrixLayout::Split,
     .fp8Matrix = true,
     .computeUnits = 64,
     .simdsPerComputeUnit = 2,
     .wavesPerSimd = 16,
     .vgprsPerSimd = 1536,
     .vgprGranule = 24,
     .ldsPerWorkgroup = 64 << 10,
     .lastLevelCache = 64u << 20,
     .bandwidth = 640e9,
     .clock = 2.92e9,
     .latency = kAssumedLatency,
     .loadBytesPerClock = kAssumedLoadBytes,
     .bf16MatrixClocks = 16,
     .int8MatrixClocks = 8},
};

std::span<const TargetInfo> allTargets() { return kTargets; }

absl::StatusOr<const TargetInfo *> findTarget(std::string_view name) {
  std::string known;
  for (const TargetInfo &target : kTargets) {
    if (name == target.name)
      return &target;
    absl::StrAppend(&known, known.empty() ? "" : ", ", target.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown target '", std::string(name), "': expected one of ", known));
}

unsigned occupancy(const TargetInfo &target, unsigned vgprs, unsigned ldsBytes, unsigned waves) {
  unsigned granules = (std::max(vgprs, 1u) + target.vgprGranule - 1) / target.vgprGranule;
  unsigned byRegisters = target.vgprsPerSimd / (granules * target.vgprGranule);
  unsigned result = std::min(target.wavesPerSimd, byRegisters);
  if (ldsBytes > 0) {
    // A workgroup processor has 128 KiB of LDS for the waves of its four SIMDs.
    unsigned workgroups = 2 * target.ldsPerWorkgroup / ldsBytes;
    result = std::min(result, std::max(1u, workgroups * waves / (2 * target.simdsPerComputeUnit)));
  }
  return result;
}

} // namespace ingot
