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

/// Replaces each group of `group` elements (the last may be shorter) by its int8 form times its f16 scale, where
/// scale = f16(absmax / 127) and values are round(x / scale), clamped to [-127, 127].
void quantizeDequantizeGroups(std::span<float> row, int64_t group);

/// Sum of a[k] * b[k] in fp32; the order of the sum is 16 interleaved partial sums.
float dot(const float *a, const float *b, int64_t count);

/// Sum of a[k] * b[k], exact while count * 127 * 127 fits int32.
int32_t dot(const int8_t *a, const int8_t *b, int64_t count);

/// The first word of Philox4x32-10 of this key and counter (counter, 0, 0, 0).
uint32_t philox(uint32_t key0, uint32_t key1, uint32_t counter);

} // namespace ingot::reference
