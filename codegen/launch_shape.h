// How a kernel that reads a matrix is laid over a chip: rows a wave, waves of a workgroup, steps of K in flight. One
// cost function of the target table and the kernel's shape decides; all it says of time is modelled, none of it
// measured.
//
// The model for a few tokens (decode). A workgroup computes `tiles` row tiles; its waves share them and split K. Each
// wave repeats: load `unroll` steps, wait, multiply. What limits the kernel is then the larger of
//
//   memory    matrix bytes / bandwidth, plus what the operand's loads take on the way from cache to registers. They
//             count in full, as if they overlapped with nothing: each wave loads its own, so more rows a wave means
//             fewer of them.
//   latency   rounds * (waits of a wave * latency + its loads, in turn with its neighbours' + adding up over waves). A
//             wave waits once for each whole `unroll` of its steps and once for each step that is left. A round is as
//             many workgroups as registers, LDS and wave slots let the chip hold at once.
//
// The second is Little's law: bytes in flight / latency is all the bandwidth that a grid can ask for.
//
// For many tokens (prefill) a wave has tiles of rows and of tokens, and waves of a workgroup lie side by side over
// rows. The limits are alike:
//
//   memory    bytes of the matrix and of the tokens, each once, since who shares them runs at about the same time
//   latency   rounds * waits of a wave * latency, and what the busiest compute unit does meanwhile, in turn: matrix
//             instructions, before them codes that become bf16, and the operands' loads on their way from cache to
//             registers. A tile of rows is loaded and converted once for a wave's tiles of tokens, and the other way
//             round, so larger tiles of both mean less.
//
// What is not chosen here: waves along K follow from K alone (`wavesAlongK`), because they set the order of each sum,
// and a sum must not depend on the chip or on what shares the launch (docs/design/fusion.md). Rows a wave and steps in
// flight move no addition.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/target.h"

namespace ingot {

// A decode kernel should have so many workgroups for each compute unit: while one waits for memory, another multiplies,
// and a grid that does not divide evenly leaves less of the chip idle.
inline constexpr unsigned kWorkgroupsPerComputeUnit = 2;
inline uint64_t workgroupsWanted(const TargetInfo &target) {
  return uint64_t{kWorkgroupsPerComputeUnit} * target.computeUnits;
}

// The kernel, as far as the model sees it. A load is one of a whole wave: 16 bytes a lane.
struct StreamedMatrix {
  uint64_t rowTiles;                  // tiles of 16 rows that the grid is laid over
  unsigned streams = 1;               // matrices of which a workgroup reads the same rows
  uint64_t steps;                     // along K
  unsigned bytesPerStep;              // of memory, one row tile and step: values and scales
  unsigned operandLoads;              // a wave, step and token
  unsigned registersPerOperand;       // that a token's operand of a step takes, as the multiplication reads it
  unsigned tokens = 1;                // that share a load of the matrix, each with an operand of its own
  unsigned leastTiles = 1, mostTiles; // row tiles of each stream that a wave may have; powers of two
};

// A kernel of many tokens, as far as the model sees it. Registers are those of one lane.
struct MatrixProduct {
  uint64_t rowTiles; // of 16 rows, of each stream
  unsigned streams = 1;
  uint64_t tokenTiles;                              // of 16 tokens, of a whole chunk
  uint64_t steps;                                   // along K
  unsigned bytesPerStep;                            // of memory, one row tile and step: values and scales
  unsigned tokenBytesPerStep;                       // of memory, one tile of tokens and step
  unsigned rowRegisters;                            // that a row tile of a step is loaded into, scales too
  unsigned tokenRegisters;                          // that a token tile of a step is loaded into
  unsigned workRegisters;                           // beside these and the sums: codes as bf16, a group's products
  unsigned matrixClocks;                            // of a SIMD, for a row tile, token tile and step
  unsigned convertClocks;                           // of a SIMD, before that, for a row tile and step
  unsigned leastTiles = 1, mostTiles = 4;           // row tiles of each stream that a wave may have
  unsigned leastTokenTiles = 1, mostTokenTiles = 4; // token tiles that it may have; all powers of two
};

// One way to lay it out.
struct LaunchChoice {
  unsigned tiles;          // of 16 rows, a wave and stream
  unsigned tokenTiles = 0; // of 16 tokens, a wave; 0: the kernel has no tiles of tokens
  unsigned waves;          // of a workgroup: along K, or with tiles of tokens side by side over rows
  unsigned unroll;         // steps of K that a wave loads before it multiplies
  uint64_t workgroups;
  unsigned wavesPerSimd;  // resident, as modelled before the kernel is compiled
  uint64_t bytesInFlight; // of the matrix, whole chip
  double seconds;         // modelled
};

struct LaunchDecision {
  LaunchChoice chosen;
  std::optional<LaunchChoice> runnerUp = {}; // the best of the others
  unsigned considered = 0;
  std::string narrow = {}; // why there are fewer workgroups than wanted; empty where there are enough
};

// Waves that split `steps` of K: 1, 2, 4 or 8, each with four steps or more, because with fewer a wave does more adding
// up than multiplying. A function of K and the scheme alone.
unsigned wavesAlongK(uint64_t steps);

// The model's verdict on one candidate.
LaunchChoice modelLaunch(const TargetInfo &target, const StreamedMatrix &matrix, unsigned tiles, unsigned unroll);

LaunchChoice modelLaunch(const TargetInfo &target, const MatrixProduct &product, unsigned tiles, unsigned tokenTiles,
                         unsigned waves, unsigned unroll);

// The fastest candidate of those with `workgroupsWanted`; where none has so many, of the widest. Equal times: fewer
// registers. `matrix` has at least one row tile and step.
LaunchDecision chooseLaunch(const TargetInfo &target, const StreamedMatrix &matrix);
// As above. Waves of a workgroup together have at most four row tiles a stream, which divide every padded matrix.
LaunchDecision chooseLaunch(const TargetInfo &target, const MatrixProduct &product);

} // namespace ingot
