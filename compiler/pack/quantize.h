// The number rules of packed weights: which integers and scales stand for a row. The packer, the interpreter and the
// tests share them, so that "the value the device sees" has one definition.
//
//   Bf16            round to nearest, ties to even
//   Int8PerChannel  scale = absmax / 127 (fp32); q = nearbyint(x * (127 / absmax)), ties to even
//   Int8Group32     groups of 32 along the row; scale = f16(absmax / 127); q = nearbyint(x / float(scale)), ties to
//   even,
//                   clamped to [-127, 127]
//
// q is never -128. A row or group whose absmax is 0, or so small that the scale or its inverse leaves the range of its
// type (below 3.8e-37 a channel, 3.8e-6 a group), has scale 0 and q 0.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace ingot {

enum class WeightScheme : uint8_t { Bf16, Int8PerChannel, Int8Group32 };

inline constexpr uint64_t kGroupSize = 32;

// The largest |x| of a row as its bit pattern: at least 0x7f800000 when any value is infinite or NaN.
uint32_t absoluteMaximumBits(std::span<const float> row);

// Each writes row.size() values. False when a finite input has no finite bf16 / scale (|x| over 3.39e38 / 8.3e6).
bool quantizeBf16(std::span<const float> row, uint16_t *out);
float quantizeInt8PerChannel(std::span<const float> row, int8_t *out); // returns the scale; the row must be finite
// `scales` takes one f16 for each group begun; the row must be finite.
bool quantizeInt8Group32(std::span<const float> row, int8_t *out, uint16_t *scales);

// The values that the device computes with: `in` quantised and back, in fp32. The spans have the same size.
// InvalidArgument when a value is not finite or cannot be stored.
absl::Status quantizeDequantizeRow(WeightScheme scheme, std::span<const float> in, std::span<float> out);

} // namespace ingot
