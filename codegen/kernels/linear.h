// What the two kernels of a linear share: the tile16 geometry of a weight, the order of arguments, and how parts and
// epilogue are laid over workgroups.
#pragma once

#include "codegen/kernels/kernels.h"
#include "dialects/Llm.h"

namespace ingot {

inline constexpr int64_t kTileBytes = 512;

// Tiles along K: 32 bytes of each row a tile, K padded to 64 elements.
inline uint64_t stepsOfK(LinearScheme scheme, uint64_t columns) {
  return paddedRow(columns) * (scheme == LinearScheme::Bf16 ? 2 : 1) / 32;
}

// Bytes of the values; scales begin at the next multiple of 256.
inline uint64_t linearScalesOffset(LinearScheme scheme, uint64_t rows, uint64_t columns) {
  return (paddedRow(rows) / 16 * stepsOfK(scheme, columns) * kTileBytes + 255) / 256 * 256;
}

// Bytes of values and scales together.
inline uint64_t linearBytes(LinearScheme scheme, uint64_t rows, uint64_t columns) {
  switch (scheme) {
  case LinearScheme::Bf16:
    return paddedRow(rows) / 16 * stepsOfK(scheme, columns) * kTileBytes;
  case LinearScheme::Int8PerToken:
    return linearScalesOffset(scheme, rows, columns) + 4 * paddedRow(rows);
  case LinearScheme::Int8Group32:
    return linearScalesOffset(scheme, rows, columns) + 2 * paddedRow(rows) * paddedRow(columns) / 32;
  }
  return 0;
}

// An argument of the kernel, in the order of `linearArguments`.
struct LinearArgument {
  enum class Kind : uint8_t {
    Step,
    X,
    XScales,
    Weight,      // of part `index`
    Bias,        // of part `index`
    Capture,     // `value`, which the epilogue reads from outside: rows of the same tokens
    Frequencies, // of a rope: `symbol`
    Cache,       // of an append: `symbol`
    Result,      // `index`
  };
  Kind kind;
  unsigned index = 0;
  mlir::Value value = {};
  mlir::FlatSymbolRefAttr symbol = {};

  Access access() const { return kind == Kind::Result || kind == Kind::Cache ? Access::Write : Access::Read; }
};
std::vector<LinearArgument> linearArguments(const LinearConfig &c, bool decode);

// How workgroups see the parts.
//   Single   there is one part
//   Zipped   an op combines two parts element by element: a workgroup computes the same rows of both
//   Side     parts have nothing to do with each other: a workgroup belongs to one of them
//   Paired   as Side, and a rope turns some: a wave computes rows n and n + head_dim / 2 of a head
enum class LinearLayout { Single, Zipped, Side, Paired };
LinearLayout layoutOf(const LinearConfig &c);

// Why a linear cannot rotate its product so, in an epilogue; empty if it can.
std::string whyNotPaired(llm::RopeOp rope);

} // namespace ingot
