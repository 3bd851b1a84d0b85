// The number rules of packed weights: which integers and scales stand for a row. The packer, the interpreter and the
// tests share them, so that "the value the device sees" has one definition. S is the scale type's rounding.
//
//   Bf16               round to nearest, ties to even
//   Int8, whole row,   scale = absmax / 127; q = nearbyint(x * (127 / absmax))
//     scales F32
//   Int8, other        scale = S(absmax / 127); q = nearbyint(x / scale), clamped to [-127, 127]
//   Int4               scale = S(absmax / 7.5); q = nearbyint(x / scale), clamped to [-8, 7]
//   Int4, zero points  lo = min(0, smallest), hi = max(0, largest); scale = S(max(hi - lo, 1e-5) / 15),
//                      zero = clamp(nearbyint(-lo / scale), 0, 15); q = clamp(nearbyint(x / scale) + zero, 0, 15)
//   Fp8E4M3            scale = S(absmax / 448); q = e4m3(x / scale), saturating
//
// in fp32, ties to even, over each group of a row. Int8 q is never -128. A row or group whose absmax is 0, or so small
// that the scale or its inverse leaves the range of its type (below 3.8e-37 for F32, 3.8e-6 for Int8 with F16), has
// scale 0 and q 0. Weights that a checkpoint stores quantised are not rounded again: their codes may be any of the
// type.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "compiler/checkpoint/checkpoint.h"

namespace ingot {

// How a linear's weight is stored for the device.
struct WeightScheme {
  enum class Storage : uint8_t { Bf16, Int8, Int4, Fp8E4M3 };
  using ScaleType = StoredQuantization::ScaleType;

  Storage storage = Storage::Bf16;
  uint32_t group = 0;      // columns that share a scale: a power of two from 16 to 1024; 0: the whole row
  bool zeroPoints = false; // Int4 and Int8
  uint32_t blockRows = 1;  // rows that share a scale: 1, or 16 (a band of tile16)
  ScaleType scaleType = ScaleType::F32;

  // The first schemes, by name.
  static const WeightScheme Bf16, Int8PerChannel, Int8Group32;

  bool operator==(const WeightScheme &) const = default;
  bool scaled() const { return storage != Storage::Bf16; }
  // Scales along a row of `columns`.
  uint64_t groups(uint64_t columns) const { return group == 0 ? 1 : (columns + group - 1) / group; }
};

inline constexpr WeightScheme WeightScheme::Bf16 = {};
inline constexpr WeightScheme WeightScheme::Int8PerChannel = {.storage = Storage::Int8};
inline constexpr WeightScheme WeightScheme::Int8Group32 = {
    .storage = Storage::Int8, .group = 32, .scaleType = ScaleType::F16};

// "int4 group 128 zero points f16", for messages.
std::string describe(const WeightScheme &scheme);
// InvalidArgument when no weight is stored so.
absl::Status checkScheme(const WeightScheme &scheme);

// The scheme that holds a stored tensor of `columns` with its own codes and scales, exactly. Groups that tile16 has no
// place for (not a power of two from 16 to 1024) give InvalidArgument. Permuted columns need PackedWeight::permuted
// too.
absl::Status storedScheme(const StoredQuantization &stored, uint64_t columns, WeightScheme &scheme);
// Whether packing copies the codes of such a tensor into `scheme`; else its values are quantised a second time.
bool copiesCodes(const WeightScheme &scheme, const StoredQuantization &stored, uint64_t columns);

// The largest |x| of a row as its bit pattern: at least 0x7f800000 when any value is infinite or NaN.
uint32_t absoluteMaximumBits(std::span<const float> row);

// Writes row.size() values. False when a finite input has no finite bf16 (|x| over 3.39e38).
bool quantizeBf16(std::span<const float> row, uint16_t *out);

// Quantises a finite row: codes [row.size()], scales [groups] as fp32 values that the scale type holds, and with zero
// points zeros [groups]; as in QuantizedRows, but that Int8 never has zero points here. False when a scale leaves its
// type's range
// (|x| over 8.3e6 for Int8 with F16). `scheme` must be scaled and have blockRows 1.
bool quantizeRow(const WeightScheme &scheme, std::span<const float> row, int8_t *codes, float *scales, uint8_t *zeros);

// The values that codes, scales and zeros mean, as above. All spans are of one row.
void dequantizeRow(const WeightScheme &scheme, std::span<const int8_t> codes, std::span<const float> scales,
                   std::span<const uint8_t> zeros, std::span<float> out);

// The values that the device computes with: `in` quantised and back, in fp32. The spans have the same size.
// InvalidArgument when a value is not finite or cannot be stored, or the scheme cannot quantise single rows.
absl::Status quantizeDequantizeRow(const WeightScheme &scheme, std::span<const float> in, std::span<float> out);

} // namespace ingot
