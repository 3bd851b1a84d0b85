// What the linear kernels of both phases share: the tile16 geometry of their weight and the order of their arguments.
#pragma once

#include "codegen/kernels/kernels.h"

namespace ingot {

inline constexpr int64_t kTileBytes = 512;

// Tiles along K: 32 bytes of each row a tile, K padded to 64 elements.
inline uint64_t stepsOfK(const LinearConfig &c) {
  return paddedRow(c.columns) * (c.scheme == LinearScheme::Bf16 ? 2 : 1) / 32;
}

// Bytes of the values; scales begin at the next multiple of 256.
inline uint64_t linearScalesOffset(const LinearConfig &c) {
  return (paddedRow(c.rows) / 16 * stepsOfK(c) * kTileBytes + 255) / 256 * 256;
}

// Bytes of values and scales together.
inline uint64_t linearBytes(const LinearConfig &c) {
  uint64_t scales = 0;
  if (c.scheme == LinearScheme::Int8PerToken)
    scales = 4 * paddedRow(c.rows);
  else if (c.scheme == LinearScheme::Int8Group32)
    scales = 2 * paddedRow(c.rows) * paddedRow(c.columns) / 32;
  else
    return paddedRow(c.rows) / 16 * stepsOfK(c) * kTileBytes;
  return linearScalesOffset(c) + scales;
}

struct LinearPointers {
  Val x, xScales, weight, weightScales, bias, out;
};

inline std::vector<Access> linearArguments(const LinearConfig &c) {
  std::vector<Access> access{Access::Read};
  if (c.scheme == LinearScheme::Int8PerToken)
    access.push_back(Access::Read);
  access.push_back(Access::Read);
  if (c.bias)
    access.push_back(Access::Read);
  access.push_back(Access::Write);
  return access;
}

// `next` is the index of x among the kernel's arguments.
inline LinearPointers linearPointers(KernelBuilder &k, const LinearConfig &c, unsigned next) {
  LinearPointers p;
  p.x = k.argument(next++);
  if (c.scheme == LinearScheme::Int8PerToken)
    p.xScales = k.argument(next++);
  p.weight = k.argument(next++);
  if (c.scheme != LinearScheme::Bf16)
    p.weightScales = k.advance(p.weight, k.constant64(linearScalesOffset(c)));
  if (c.bias)
    p.bias = k.argument(next++);
  p.out = k.argument(next++);
  return p;
}

} // namespace ingot
