// The codes of a weight as numbers: what the decode and the prefill kernel of a linear share where weights are int8,
// int4 or FP8 and activations bf16. A code becomes a small number that bf16 holds exactly; the scale is applied to
// sums.
#pragma once

#include "codegen/kernels/linear.h"

namespace ingot {

class Codes {
public:
  // `columns` is K, before padding.
  Codes(KernelBuilder &k, llm::SchemeAttr scheme, uint64_t columns);

  // Bytes between the scales of two bands of 16 rows.
  uint64_t bandStride() const { return stride; }

  // Scale and zero point of a row and group. Where a row has one group they need not be read in the loop.
  struct Group {
    Val scale; // f32, of `rows` rows from `row` on
    Val zero;  // f32, of one row: what its unsigned code of 0 is. Null: 0
  };
  // `records` are the band's, `group` the index along K; scales are of `rows` (1 or 8) rows from `scaleRow` on, the
  // zero point of `zeroRow`, all i32.
  Group group(Val records, Val group, Val scaleRow, unsigned rows, Val zeroRow) const;

  // The group of columns [first, ...), where `first` is unit * `unitColumns`: at most one group, unless `unitColumns`
  // is more than a group.
  Val groupOf(Val unit, uint64_t unitColumns) const;

  // The numbers of a word as f32, in the order of columns: unsigned codes (int4: 8 of 0..15, int8: 4, moved up by 128),
  // or 4 of FP8 divided by a power of two, by which `group` multiplies the scale.
  std::vector<Val> numbers(Val word) const;

  // Words of codes less their zero point as pairs of bf16, exactly.
  Val asBf16(Val words, Val zero) const;

private:
  KernelBuilder &k;
  llm::SchemeAttr scheme;
  uint64_t stride;
};

} // namespace ingot
