// Quantisers. Rounding uses the 1.5 * 2^23 addition, which rounds half to even in one vector instruction on every
// x86-64; that needs contraction off (see CMakeLists.txt) and the default rounding mode.
#include "compiler/pack/quantize.h"

#include <algorithm>
#include <bit>

#include "compiler/checkpoint/fp8.h"
#include "compiler/checkpoint/half.h"
#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/quantized_linear.h"
#include "compiler/checkpoint/simd.h"

namespace ingot {
namespace {

using Storage = WeightScheme::Storage;
using ScaleType = WeightScheme::ScaleType;

constexpr uint32_t kInfinityBits = 0x7f800000u;

INGOT_INLINE uint32_t absoluteMaximum(const float *values, uint64_t count) {
  uint32_t maximum = 0;
  for (uint64_t i = 0; i < count; ++i)
    maximum = std::max(maximum, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  return maximum;
}

// |x| must be under 2^22.
INGOT_INLINE float nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }
INGOT_INLINE int8_t roundHalfEven(float x) {
  return static_cast<int8_t>(std::bit_cast<int32_t>(x + 12582912.0f) - std::bit_cast<int32_t>(12582912.0f));
}

INGOT_INLINE float roundScale(ScaleType type, float scale) {
  switch (type) {
  case ScaleType::F16:
    return halfToFloat(floatToHalf(scale));
  case ScaleType::BF16:
    return bf16ToFloat(floatToBf16(scale));
  case ScaleType::F32:
    return scale;
  }
  return scale;
}

INGOT_SIMD uint32_t maximumOf(const float *__restrict values, uint64_t count) { return absoluteMaximum(values, count); }

INGOT_SIMD void toBf16(const float *__restrict values, uint64_t count, uint16_t *__restrict out) {
  for (uint64_t i = 0; i < count; ++i)
    out[i] = floatToBf16(values[i]);
}

INGOT_SIMD void toInt8(const float *__restrict values, uint64_t count, float inverse, int8_t *__restrict out) {
  for (uint64_t i = 0; i < count; ++i)
    out[i] = roundHalfEven(std::clamp(values[i] * inverse, -127.0f, 127.0f));
}

// Groups around zero: q = round(x / S(absmax / divisor)), clamped. Returns false at a scale that its type cannot hold.
INGOT_SIMD bool toIntegers(const float *__restrict values, uint64_t count, uint64_t group, ScaleType type,
                           float divisor, float low, float high, int8_t *__restrict out, float *__restrict scales) {
  bool good = true;
  for (uint64_t begin = 0, g = 0; begin < count; begin += group, ++g) {
    const uint64_t end = std::min(begin + group, count);
    const float maximum = std::bit_cast<float>(absoluteMaximum(values + begin, end - begin));
    const float rounded = roundScale(type, maximum / divisor);
    good &= std::bit_cast<uint32_t>(rounded) < kInfinityBits;
    // Below this the quotient could overflow; such a group is nothing.
    const bool nothing = type == ScaleType::F16 ? rounded == 0 : rounded < 0x1p-126f;
    scales[g] = nothing ? 0.0f : rounded;
    // Every |x| of such a group is so small that dividing by 1 gives 0.
    const float scale = nothing ? 1.0f : rounded;
    for (uint64_t i = begin; i < end; ++i)
      out[i] = roundHalfEven(std::clamp(values[i] / scale, low, high));
  }
  return good;
}

INGOT_SIMD bool toInt4WithZeros(const float *__restrict values, uint64_t count, uint64_t group, ScaleType type,
                                int8_t *__restrict out, float *__restrict scales, uint8_t *__restrict zeros) {
  bool good = true;
  for (uint64_t begin = 0, g = 0; begin < count; begin += group, ++g) {
    const uint64_t end = std::min(begin + group, count);
    float low = 0, high = 0;
    for (uint64_t i = begin; i < end; ++i) {
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
    const float scale = roundScale(type, std::max(high - low, 1e-5f) / 15.0f);
    good &= std::bit_cast<uint32_t>(scale) < kInfinityBits;
    const float zero = nearest(std::clamp(-low / scale, 0.0f, 15.0f));
    scales[g] = scale;
    zeros[g] = static_cast<uint8_t>(zero);
    for (uint64_t i = begin; i < end; ++i)
      out[i] = roundHalfEven(std::clamp(nearest(std::clamp(values[i] / scale, -30.0f, 30.0f)) + zero, 0.0f, 15.0f));
  }
  return good;
}

INGOT_SIMD bool toFp8(const float *__restrict values, uint64_t count, uint64_t group, ScaleType type,
                      int8_t *__restrict out, float *__restrict scales) {
  bool good = true;
  for (uint64_t begin = 0, g = 0; begin < count; begin += group, ++g) {
    const uint64_t end = std::min(begin + group, count);
    const float maximum = std::bit_cast<float>(absoluteMaximum(values + begin, end - begin));
    const float rounded = roundScale(type, maximum / 448.0f);
    good &= std::bit_cast<uint32_t>(rounded) < kInfinityBits;
    const bool nothing = rounded < 0x1p-126f;
    scales[g] = nothing ? 0.0f : rounded;
    for (uint64_t i = begin; i < end; ++i)
      out[i] = static_cast<int8_t>(nothing ? 0 : floatToE4m3(values[i] / rounded));
  }
  return good;
}

bool powerOfTwoGroup(uint64_t group) { return std::has_single_bit(group) && group >= 16 && group <= 1024; }

Storage storageOf(const StoredQuantization &stored) {
  switch (stored.storage) {
  case StoredQuantization::Storage::Int8:
    return Storage::Int8;
  case StoredQuantization::Storage::Int4:
    return Storage::Int4;
  case StoredQuantization::Storage::Fp8E4M3:
    return Storage::Fp8E4M3;
  }
  return Storage::Bf16;
}

// The group as a scheme names it: 0 when one group covers the row.
uint64_t groupOf(const StoredQuantization &stored, uint64_t columns) {
  return stored.groups(columns) == 1 ? 0 : stored.groupColumns;
}

StoredQuantization asStored(const WeightScheme &scheme) {
  StoredQuantization stored;
  stored.storage = scheme.storage == Storage::Int8   ? StoredQuantization::Storage::Int8
                   : scheme.storage == Storage::Int4 ? StoredQuantization::Storage::Int4
                                                     : StoredQuantization::Storage::Fp8E4M3;
  stored.groupColumns = scheme.group;
  stored.zeroPoints = scheme.zeroPoints;
  return stored;
}

} // namespace

std::string describe(const WeightScheme &scheme) {
  constexpr const char *kStorages[] = {"bf16", "int8", "int4", "fp8"};
  constexpr const char *kScales[] = {"f16", "bf16", "f32"};
  std::string text = kStorages[static_cast<size_t>(scheme.storage)];
  if (!scheme.scaled())
    return text;
  text += scheme.group ? cat(" group ", scheme.group) : std::string(" row");
  if (scheme.blockRows != 1)
    text += cat(" x ", scheme.blockRows, " rows");
  return cat(text, scheme.zeroPoints ? " zero points " : " ", kScales[static_cast<size_t>(scheme.scaleType)]);
}

absl::Status checkScheme(const WeightScheme &scheme) {
  const bool integers = scheme.storage == Storage::Int8 || scheme.storage == Storage::Int4;
  const bool good = scheme.scaled() ? (scheme.group == 0 || powerOfTwoGroup(scheme.group)) &&
                                          (scheme.blockRows == 1 || (scheme.blockRows == 16 && !scheme.zeroPoints)) &&
                                          (integers || !scheme.zeroPoints)
                                    : scheme == WeightScheme::Bf16;
  if (good)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      cat("no weight is stored as ", describe(scheme),
          ": groups are a power of two from 16 to 1024 columns, blocks 1 or 16 rows, zero points belong to integers of "
          "single rows, and bf16 has neither"));
}

absl::Status storedScheme(const StoredQuantization &stored, uint64_t columns, WeightScheme &scheme) {
  scheme.storage = storageOf(stored);
  scheme.group = static_cast<uint32_t>(std::min<uint64_t>(groupOf(stored, columns), UINT32_MAX));
  scheme.zeroPoints = stored.zeroPoints;
  scheme.blockRows = stored.groupRows != 1 && stored.groupRows % 16 == 0 ? 16 : 1;
  scheme.scaleType = stored.scaleType;
  // So few scales cost nothing, and F32 holds each kind.
  if (scheme.group == 0 || scheme.blockRows != 1)
    scheme.scaleType = ScaleType::F32;
  return checkScheme(scheme);
}

bool copiesCodes(const WeightScheme &scheme, const StoredQuantization &stored, uint64_t columns) {
  const uint64_t group = groupOf(stored, columns);
  // A coarser group's scale is repeated; a finer one would be lost.
  const bool groups =
      group == scheme.group || (group == 0 && scheme.group != 0) || (scheme.group != 0 && group % scheme.group == 0);
  const bool rows = scheme.blockRows == 1 || stored.groupRows % scheme.blockRows == 0;
  const bool scales = scheme.scaleType == ScaleType::F32 || scheme.scaleType == stored.scaleType;
  return scheme.scaled() && storageOf(stored) == scheme.storage && groups && rows && scales &&
         (scheme.zeroPoints || !stored.zeroPoints);
}

uint32_t absoluteMaximumBits(std::span<const float> row) { return maximumOf(row.data(), row.size()); }

bool quantizeBf16(std::span<const float> row, uint16_t *out) {
  toBf16(row.data(), row.size(), out);
  // Anything from 0x1.ffp127 rounds up to infinity.
  return maximumOf(row.data(), row.size()) < std::bit_cast<uint32_t>(0x1.ffp127f);
}

bool quantizeRow(const WeightScheme &scheme, std::span<const float> row, int8_t *codes, float *scales, uint8_t *zeros) {
  const uint64_t count = row.size(), group = scheme.group ? scheme.group : std::max<uint64_t>(count, 1);
  switch (scheme.storage) {
  case Storage::Bf16:
    return false;
  case Storage::Int8:
    if (scheme.zeroPoints)
      return false;
    if (scheme.group == 0 && scheme.scaleType == ScaleType::F32) {
      const float maximum = std::bit_cast<float>(absoluteMaximumBits(row)), inverse = 127.0f / maximum;
      const bool nothing = std::bit_cast<uint32_t>(inverse) >= kInfinityBits;
      *scales = nothing ? 0.0f : maximum / 127.0f;
      toInt8(row.data(), count, nothing ? 0.0f : inverse, codes);
      return true;
    }
    return toIntegers(row.data(), count, group, scheme.scaleType, 127.0f, -127.0f, 127.0f, codes, scales);
  case Storage::Int4:
    if (scheme.zeroPoints)
      return toInt4WithZeros(row.data(), count, group, scheme.scaleType, codes, scales, zeros);
    return toIntegers(row.data(), count, group, scheme.scaleType, 7.5f, -8.0f, 7.0f, codes, scales);
  case Storage::Fp8E4M3:
    return toFp8(row.data(), count, group, scheme.scaleType, codes, scales);
  }
  return false;
}

void dequantizeRow(const WeightScheme &scheme, std::span<const int8_t> codes, std::span<const float> scales,
                   std::span<const uint8_t> zeros, std::span<float> out) {
  dequantizeStoredRow(asStored(scheme), codes, scales, zeros, {}, out);
}

absl::Status quantizeDequantizeRow(const WeightScheme &scheme, std::span<const float> in, std::span<float> out) {
  if (in.size() != out.size())
    return absl::InvalidArgumentError(
        cat("quantizeDequantizeRow: ", in.size(), " values in, room for ", out.size(), " out"));
  if (absl::Status status = checkScheme(scheme); !status.ok())
    return status;
  if (scheme.blockRows != 1 || (scheme.storage == Storage::Int8 && scheme.zeroPoints))
    return absl::InvalidArgumentError(cat(describe(scheme), " is only copied from checkpoints that have it"));
  if (absoluteMaximumBits(in) >= kInfinityBits)
    return absl::InvalidArgumentError("a weight is infinite or not a number");
  if (scheme == WeightScheme::Bf16) {
    std::vector<uint16_t> values(in.size());
    if (!quantizeBf16(in, values.data()))
      return absl::InvalidArgumentError("a weight is too large for bf16");
    for (size_t i = 0; i < in.size(); ++i)
      out[i] = bf16ToFloat(values[i]);
    return absl::OkStatus();
  }
  std::vector<int8_t> codes(in.size());
  std::vector<float> scales(scheme.groups(in.size()));
  std::vector<uint8_t> zeros(scheme.zeroPoints ? scales.size() : 0);
  if (!quantizeRow(scheme, in, codes.data(), scales.data(), zeros.data()))
    return absl::InvalidArgumentError("a group of weights needs a scale that its type cannot hold");
  dequantizeRow(scheme, codes, scales, zeros, out);
  return absl::OkStatus();
}

} // namespace ingot
