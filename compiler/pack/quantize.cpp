// Quantisers. Rounding uses the 1.5 * 2^23 addition, which rounds half to even in one vector instruction on every
// x86-64; that needs contraction off (see CMakeLists.txt) and the default rounding mode.
#include "compiler/pack/quantize.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "absl/strings/str_cat.h"

#include "compiler/checkpoint/half.h"
#include "compiler/checkpoint/simd.h"

namespace ingot {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;

INGOT_INLINE uint32_t absoluteMaximum(const float *values, uint64_t count) {
  uint32_t maximum = 0;
  for (uint64_t i = 0; i < count; ++i)
    maximum = std::max(maximum, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  return maximum;
}

// |x| must be under 2^22.
INGOT_INLINE int8_t roundHalfEven(float x) {
  return static_cast<int8_t>(std::bit_cast<int32_t>(x + 12582912.0f) - std::bit_cast<int32_t>(12582912.0f));
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

// A group at a time; the last one may be short. Returns false at a scale that f16 cannot hold.
INGOT_SIMD bool toInt8Groups(const float *__restrict values, uint64_t count, int8_t *__restrict out, uint16_t *scales) {
  bool good = true;
  for (uint64_t begin = 0; begin < count; begin += kGroupSize) {
    const uint64_t size = std::min(kGroupSize, count - begin);
    const float maximum = std::bit_cast<float>(absoluteMaximum(values + begin, size));
    const uint16_t half = floatToHalf(maximum / 127.0f);
    good &= half < 0x7c00;
    scales[begin / kGroupSize] = half;
    // Dividing by 1 instead of 0 gives 0: a scale rounds to 0 only when every |x| is under 3.8e-6.
    const float scale = half == 0 ? 1.0f : halfToFloat(half);
    for (uint64_t i = begin; i < begin + size; ++i)
      out[i] = roundHalfEven(std::clamp(values[i] / scale, -127.0f, 127.0f));
  }
  return good;
}

} // namespace

uint32_t absoluteMaximumBits(std::span<const float> row) { return maximumOf(row.data(), row.size()); }

bool quantizeBf16(std::span<const float> row, uint16_t *out) {
  toBf16(row.data(), row.size(), out);
  // Anything from 0x1.ffp127 rounds up to infinity.
  return maximumOf(row.data(), row.size()) < std::bit_cast<uint32_t>(0x1.ffp127f);
}

float quantizeInt8PerChannel(std::span<const float> row, int8_t *out) {
  const float maximum = std::bit_cast<float>(absoluteMaximumBits(row));
  const float inverse = 127.0f / maximum;
  if (std::bit_cast<uint32_t>(inverse) >= kInfinityBits) {
    std::fill_n(out, row.size(), int8_t{0});
    return 0;
  }
  toInt8(row.data(), row.size(), inverse, out);
  return maximum / 127.0f;
}

bool quantizeInt8Group32(std::span<const float> row, int8_t *out, uint16_t *scales) {
  return toInt8Groups(row.data(), row.size(), out, scales);
}

absl::Status quantizeDequantizeRow(WeightScheme scheme, std::span<const float> in, std::span<float> out) {
  if (in.size() != out.size())
    return absl::InvalidArgumentError(
        absl::StrCat("quantizeDequantizeRow: ", in.size(), " values in, room for ", out.size(), " out"));
  if (absoluteMaximumBits(in) >= kInfinityBits)
    return absl::InvalidArgumentError("a weight is infinite or not a number");
  switch (scheme) {
  case WeightScheme::Bf16: {
    std::vector<uint16_t> values(in.size());
    if (!quantizeBf16(in, values.data()))
      return absl::InvalidArgumentError("a weight is too large for bf16");
    for (size_t i = 0; i < in.size(); ++i)
      out[i] = bf16ToFloat(values[i]);
    return absl::OkStatus();
  }
  case WeightScheme::Int8PerChannel: {
    std::vector<int8_t> values(in.size());
    const float scale = quantizeInt8PerChannel(in, values.data());
    for (size_t i = 0; i < in.size(); ++i)
      out[i] = scale * static_cast<float>(values[i]);
    return absl::OkStatus();
  }
  case WeightScheme::Int8Group32: {
    std::vector<int8_t> values(in.size());
    std::vector<uint16_t> scales((in.size() + kGroupSize - 1) / kGroupSize);
    if (!quantizeInt8Group32(in, values.data(), scales.data()))
      return absl::InvalidArgumentError("a group of weights needs a scale that f16 cannot hold (|x| over 8.3e6)");
    for (size_t i = 0; i < in.size(); ++i)
      out[i] = halfToFloat(scales[i / kGroupSize]) * static_cast<float>(values[i]);
    return absl::OkStatus();
  }
  }
  return absl::InvalidArgumentError("unknown weight scheme");
}

} // namespace ingot
