// What a decode kernel does to its operand before it multiplies.
#pragma once

#include "codegen/kernels/kernels.h"

namespace ingot {

/// The widest row that a workgroup quantises for itself: a byte of LDS an element, and two workgroups must fit beside
/// each other.
inline constexpr uint64_t kWidestQuantizedRow = 24576;

/// An int8 row in LDS and its scale, which every lane has.
struct QuantizedRow {
  Val values, scale;
};

/// Quantises the bf16 row `x` of `columns` elements as `llm.quantize` does, bit for bit, with all `waves` of the
/// workgroup; padding becomes 0 as in memory. Ends with a barrier: every lane may read the whole row.
QuantizedRow quantizeRow(KernelBuilder &k, Val x, uint64_t columns, unsigned waves);

} // namespace ingot
