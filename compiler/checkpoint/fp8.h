// FP8 E4M3 (the OCP "fn" kind: no infinities, 0x7f and 0xff are NaN, largest 448) to and from fp32.
#pragma once

#include <bit>
#include <cstdint>

#include "compiler/checkpoint/simd.h"

namespace ingot {

INGOT_INLINE float e4m3ToFloat(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24, magnitude = code & 0x7fu;
  if (magnitude == 0x7fu)
    return std::bit_cast<float>(sign | 0x7fc00000u);
  // Exponent and mantissa in place with the wrong bias; the product puts it right and is exact, subnormals too.
  const float value = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

// To nearest, ties to even; magnitudes over 448 become 448, NaN becomes NaN.
INGOT_INLINE uint8_t floatToE4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  if (magnitude > 0x7f800000u)
    return sign | 0x7fu;
  if (magnitude >= 0x43e00000u) // 448
    return sign | 0x7eu;
  if (magnitude < 0x3c800000u) // below 2^-6: the sum's last bit is 2^-9, and the addition rounds
    return sign | static_cast<uint8_t>(std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) -
                                       std::bit_cast<uint32_t>(0x1p14f));
  return sign | static_cast<uint8_t>((magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20);
}

} // namespace ingot
