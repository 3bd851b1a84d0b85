// What a decode kernel does to its operand before it multiplies.
#pragma once

#include "codegen/kernels/epilogue.h"

namespace ingot {

/// The most bytes of LDS that a workgroup keeps its operand's row in: two workgroups must fit beside each other.
inline constexpr uint64_t kPrologueBytes = 24576;

/// The most columns of a row that one wave quantises in registers.
inline constexpr uint64_t kColumnsOfWave = 4096;

/// Bytes that the row of `c` takes there, or those of all slots where the kernel combines experts.
inline uint64_t prologueBytes(const LinearConfig &c) {
  return paddedRow(c.columns) * (c.quantize ? 1 : 2) * (combinesExperts(c) ? c.experts.slots : 1);
}

/// A row in LDS, bf16 or int8, or an int8 row for each slot.
struct Operand {
  Val rows;
  Val scale;          // of one int8 row, in every lane
  Val scales;         // or of several, in LDS
  int64_t stride = 0; // from row to row, in bytes

  Val rowOf(KernelBuilder &k, Val slot) const { return scales ? k.advance(rows, slot * stride) : rows; }
  Val scaleOf(KernelBuilder &k, Val slot) const { return scales ? k.load(k.f32(), scales, slot * 4) : scale; }
};

/// Normalises and quantises the row `x`, of which `c` says which it needs, one at least, bit for bit as `llm.rms_norm`
/// and `llm.quantize` do, with all `waves` of the workgroup; padding becomes 0 as in memory. Ends with a barrier: every
/// lane may read the whole row.
Operand prepareOperand(KernelBuilder &k, const LinearConfig &c, const Epilogue &arguments, Val x, unsigned waves);

/// Quantises a row of at most `kColumnsOfWave` bf16 for each slot, the first at `x`, as `llm.quantize` does; the same
/// row for all slots where the operand has one a token. `waves` are all of the workgroup, a row each in turn. Ends with
/// a barrier.
Operand quantizeRows(KernelBuilder &k, const LinearConfig &c, Val x, unsigned waves);

} // namespace ingot
