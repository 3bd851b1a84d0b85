// What the compiler knows of each chip: one row a target. Passes and emitters ask for capabilities and sizes; no other
// file compares a chip's name. Sources: LLVM 22's AMDGPU subtarget features and the RDNA 3.5 / RDNA 4 ISA manuals.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ingot {

// How a wave holds a 16x16 matrix operand of the wave matrix multiply-accumulate instructions (ISA manuals, "WMMA").
enum class MatrixLayout {
  // A and B: lane i (and i + 16, with the same data) holds all of K for row or column i. D: lane l holds rows 2v +
  // l/16.
  Replicated,
  // A and B: lane i + 16 h holds half of K for row or column i. D: lane l holds rows v + 8 (l/16).
  Split,
};

struct TargetInfo {
  const char *name;      // "gfx1151", also LLVM's -mcpu
  const char *bundleId;  // entry id in the offload bundle
  const char *marketing; // what a person calls it
  unsigned waveSize;     // lanes
  MatrixLayout matrix;
  bool fp8Matrix; // has e4m3 / e5m2 matrix and dot instructions
  unsigned computeUnits;
  unsigned simdsPerComputeUnit;
  unsigned wavesPerSimd;    // the most resident
  unsigned vgprsPerSimd;    // 32-lane registers a SIMD shares among its waves
  unsigned vgprGranule;     // a wave's registers are allocated in multiples of this
  unsigned ldsPerWorkgroup; // bytes
  unsigned lastLevelCache;  // bytes
  double bandwidth;         // bytes a second of memory, theoretical
  double clock;             // Hz, the highest the maker states
  double latency;           // seconds from a load to its data from busy memory; assumed
  double loadBytesPerClock; // from a compute unit's cache to its registers; assumed
  // Clocks of a SIMD for one 16 x 16 x 16 matrix instruction.
  unsigned bf16MatrixClocks, int8MatrixClocks;
};

std::span<const TargetInfo> allTargets();
// The row named `name`, or an error that lists the rows.
absl::StatusOr<const TargetInfo *> findTarget(std::string_view name);

// Waves a SIMD can hold of a kernel with these resources, in workgroups of `waves`. The register and wave limits only:
// LDS is counted per workgroup processor, of two compute units.
unsigned occupancy(const TargetInfo &target, unsigned vgprs, unsigned ldsBytes, unsigned waves);

} // namespace ingot
