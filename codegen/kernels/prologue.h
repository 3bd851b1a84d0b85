// What a decode kernel does to its operand before it multiplies.
#pragma once

#include "codegen/kernels/epilogue.h"

namespace ingot {

/// The most bytes of LDS that a workgroup keeps its operand's row in: two workgroups must fit beside each other.
inline constexpr uint64_t kPrologueBytes = 24576;

/// Bytes that the row of `c` takes there.
inline uint64_t prologueBytes(const LinearConfig &c) { return paddedRow(c.columns) * (c.quantize ? 1 : 2); }

/// A row in LDS, bf16 or int8.
struct Operand {
  Val row;
  Val scale; // of int8 rows, in every lane
};

/// Normalises and quantises the row `x`, of which `c` says which it needs, one at least, bit for bit as `llm.rms_norm`
/// and `llm.quantize` do, with all `waves` of the workgroup; padding becomes 0 as in memory. Ends with a barrier: every
/// lane may read the whole row.
Operand prepareOperand(KernelBuilder &k, const LinearConfig &c, const Epilogue &arguments, Val x, unsigned waves);

} // namespace ingot
