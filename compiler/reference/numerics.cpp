// Dots are the interpreter's whole cost. Partial sums in arrays let the compiler use vector registers without
// reordering what the source says; target_clones picks the widest that the host has.
#include "compiler/reference/numerics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

namespace ingot::reference {

float roundBf16(float value) {
  if (std::isnan(value))
    return value;
  auto bits = std::bit_cast<uint32_t>(value);
  bits += 0x7FFFU + ((bits >> 16) & 1U);
  return std::bit_cast<float>(bits & 0xFFFF0000U);
}

float roundF16(float value) {
  if (!std::isfinite(value) || value == 0)
    return value;
  // The spacing of f16 numbers around `value`: 2^(exponent - 10), and 2^-24 for all subnormals.
  int exponent = std::max(std::ilogb(value), -14);
  float rounded = std::ldexp(std::nearbyint(std::ldexp(value, 10 - exponent)), exponent - 10);
  constexpr float largest = 65504;
  return std::abs(rounded) > largest ? std::copysign(INFINITY, value) : rounded;
}

float quantizeRow(std::span<const float> row, std::span<int8_t> values) {
  float largest = 0;
  for (float x : row)
    largest = std::max(largest, std::abs(x));
  if (largest == 0) {
    std::fill(values.begin(), values.end(), int8_t(0));
    return 0;
  }
  const float inverse = 127.0F / largest;
  for (size_t k = 0; k < row.size(); ++k)
    values[k] = static_cast<int8_t>(std::clamp(std::nearbyint(row[k] * inverse), -127.0F, 127.0F));
  return largest / 127.0F;
}

float roundE4m3(float value) {
  if (value == 0 || std::isnan(value))
    return value;
  // The spacing of E4M3 numbers around `value`: 2^(exponent - 3), and 2^-9 for all subnormals.
  int exponent = std::max(std::ilogb(value), -6);
  float rounded = std::ldexp(std::nearbyint(std::ldexp(value, 3 - exponent)), exponent - 3);
  return std::clamp(rounded, -448.0F, 448.0F);
}

static float largestOf(std::span<const float> part) {
  float largest = 0;
  for (float x : part)
    largest = std::max(largest, std::abs(x));
  return largest;
}

// Calls `body` for each group of the row.
static void forGroups(std::span<float> row, int64_t group, const std::function<void(std::span<float>)> &body) {
  const size_t step = group == 0 ? row.size() : static_cast<size_t>(group);
  for (size_t begin = 0; begin < row.size(); begin += step)
    body(row.subspan(begin, std::min(step, row.size() - begin)));
}

void quantizeDequantizeGroups(std::span<float> row, int64_t group, float divisor, float low, float high) {
  forGroups(row, group, [&](std::span<float> part) {
    float scale = largestOf(part) / divisor;
    if (group != 0)
      scale = roundF16(scale);
    for (float &x : part)
      x = scale == 0 ? 0.0F : scale * std::clamp(std::nearbyint(x / scale), low, high);
  });
}

void quantizeDequantizeAround(std::span<float> row, int64_t group) {
  forGroups(row, group, [&](std::span<float> part) {
    const float low = std::min(0.0F, *std::min_element(part.begin(), part.end()));
    const float high = std::max(0.0F, *std::max_element(part.begin(), part.end()));
    float scale = std::max(high - low, 1e-5F) / 15;
    if (group != 0)
      scale = roundF16(scale);
    const float zero = std::clamp(std::nearbyint(-low / scale), 0.0F, 15.0F);
    for (float &x : part)
      x = scale * (std::clamp(std::nearbyint(x / scale) + zero, 0.0F, 15.0F) - zero);
  });
}

void quantizeDequantizeFp8(std::span<float> row, int64_t group) {
  forGroups(row, group, [&](std::span<float> part) {
    const float scale = largestOf(part) / 448;
    for (float &x : part)
      x = scale == 0 ? 0.0F : scale * roundE4m3(x / scale);
  });
}

// Of `rows` rows of b side by side, each by itself in the order that `dot` has.
template <int64_t rows>
[[gnu::always_inline]] static void dotRows(const float *a, const float *b, int64_t count, float *out) {
  constexpr int64_t lanes = 16;
  float sums[rows][lanes] = {};
  int64_t k = 0;
  for (; k + lanes <= count; k += lanes)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t l = 0; l < lanes; ++l)
        sums[r][l] += a[k + l] * b[r * count + k + l];
  float totals[rows] = {};
  for (; k < count; ++k)
    for (int64_t r = 0; r < rows; ++r)
      totals[r] += a[k] * b[r * count + k];
  for (int64_t l = 0; l < lanes; ++l)
    for (int64_t r = 0; r < rows; ++r)
      totals[r] += sums[r][l];
  std::copy_n(totals, rows, out);
}

__attribute__((target_clones("avx512f", "avx2", "default"))) float dot(const float *a, const float *b, int64_t count) {
  float total = 0;
  dotRows<1>(a, b, count, &total);
  return total;
}

__attribute__((target_clones("avx512f", "avx2", "default"))) void dots(const float *a, const float *b, int64_t rows,
                                                                       int64_t count, float *out) {
  constexpr int64_t together = 4;
  int64_t r = 0;
  for (; r + together <= rows; r += together)
    dotRows<together>(a, b + r * count, count, out + r);
  for (; r < rows; ++r)
    dotRows<1>(a, b + r * count, count, out + r);
}

__attribute__((target_clones("avx512bw", "avx2", "default"))) int32_t dot(const int8_t *a, const int8_t *b,
                                                                          int64_t count) {
  int32_t total = 0;
  for (int64_t k = 0; k < count; ++k)
    total += static_cast<int32_t>(a[k]) * static_cast<int32_t>(b[k]);
  return total;
}

uint32_t philox(uint32_t key0, uint32_t key1, uint32_t counter) {
  constexpr uint64_t multiplier0 = 0xD2511F53, multiplier1 = 0xCD9E8D57;
  constexpr uint32_t weyl0 = 0x9E3779B9, weyl1 = 0xBB67AE85;
  uint32_t c[4] = {counter, 0, 0, 0};
  for (int round = 0; round < 10; ++round) {
    uint64_t product0 = multiplier0 * c[0];
    uint64_t product1 = multiplier1 * c[2];
    uint32_t next[4] = {static_cast<uint32_t>(product1 >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(product1),
                        static_cast<uint32_t>(product0 >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(product0)};
    std::copy(std::begin(next), std::end(next), std::begin(c));
    key0 += weyl0;
    key1 += weyl1;
  }
  return c[0];
}

} // namespace ingot::reference
