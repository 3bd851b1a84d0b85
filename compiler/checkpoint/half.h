// fp16 and bf16 bit patterns to and from fp32, branch-free so that loops over them vectorise on any x86-64.
// Conversions to 16 bits round to nearest, ties to even, and keep NaN a NaN.
#pragma once

#include <bit>
#include <cstdint>

#include "compiler/checkpoint/simd.h"

namespace ingot {

INGOT_INLINE float halfToFloat(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  const uint32_t magnitude = bits << 1;
  // Normal numbers, infinity and NaN: shift the exponent into place 112 too high, then scale back exactly.
  const float normal = std::bit_cast<float>((magnitude >> 4) + (0xE0u << 23)) * 0x1.0p-112f;
  // Subnormals: the mantissa below 0.5, minus 0.5.
  const float subnormal = std::bit_cast<float>((magnitude >> 17) | (126u << 23)) - 0.5f;
  const uint32_t absolute = std::bit_cast<uint32_t>(magnitude < (1u << 27) ? subnormal : normal);
  return std::bit_cast<float>((bits & 0x80000000u) | absolute);
}

INGOT_INLINE uint16_t floatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  if (magnitude >= 0x7f800000u)
    return sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u);
  if (magnitude >= 0x477ff000u) // 65520, which rounds to infinity
    return sign | 0x7c00u;
  if (magnitude < 0x38800000u) // below 2^-14: the sum's last bit is 2^-24, and the addition rounds
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
                                        std::bit_cast<uint32_t>(0.5f));
  return sign | static_cast<uint16_t>((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
}

INGOT_INLINE float bf16ToFloat(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

INGOT_INLINE uint16_t floatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quietNan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quietNan : rounded);
}

} // namespace ingot
