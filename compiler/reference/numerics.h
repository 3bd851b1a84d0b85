// The arithmetic of docs/design/layouts.md and dialects/Llm.td in plain C++: rounding to bf16 and f16, int8 rows, dots.
// Written apart from the packer and the kernels on purpose, so that an error in one of them shows.
#pragma once

#include <cstdint>
#include <span>

namespace ingot::reference {

/// `value` rounded to bf16, half to even; NaN stays NaN.
float roundBf16(float value);

/// `value` rounded to f16, half to even, with subnormals and infinities.
float roundF16(float value);

/// `values[k] = round(row[k] * (127 / absmax))`, half to even. Returns the scale absmax / 127; a row of zeros gives
/// zeros.
float quantizeRow(std::span<const float> row, std::span<int8_t> values);

/// `value` rounded to FP8 E4M3 (1 sign, 4 exponent, 3 mantissa bits, bias 7), half to even; beyond 448, 448.
float roundE4m3(float value);

/// Replaces each group of `group` elements (0: all; the last may be shorter) by its integers times their scale, where
/// scale = absmax / divisor, as f16 if there are groups, and integers are round(x / scale), clamped to [low, high].
void quantizeDequantizeGroups(std::span<float> row, int64_t group, float divisor, float low, float high);

/// The same with a zero point and 15 steps: lo and hi are the group's extremes and 0, scale = max(hi - lo, 1e-5) / 15,
/// as f16 if there are groups, zero = round(-lo / scale), integers round(x / scale) + zero, both clamped to [0, 15].
void quantizeDequantizeAround(std::span<float> row, int64_t group);

/// The same in FP8 E4M3: scale = absmax / 448 in fp32, values e4m3(x / scale).
void quantizeDequantizeFp8(std::span<float> row, int64_t group);

/// Sum of a[k] * b[k] in fp32; the order of the sum is 16 interleaved partial sums.
float dot(const float *a, const float *b, int64_t count);

/// out[r] = dot(a, b + r * count, count) of each of `rows` rows, the same bits: several at a time, as each waits for
/// its own sums.
void dots(const float *a, const float *b, int64_t rows, int64_t count, float *out);

/// Sum of a[k] * b[k], exact while count * 127 * 127 fits int32.
int32_t dot(const int8_t *a, const int8_t *b, int64_t count);

/// The first word of Philox4x32-10 of this key and counter (counter, 0, 0, 0).
uint32_t philox(uint32_t key0, uint32_t key1, uint32_t counter);

} // namespace ingot::reference
