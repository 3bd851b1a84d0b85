// A row of activations in the registers of a workgroup, and its norm. How a row is laid over lanes depends on its
// length alone, because that is the order in which its squares are summed: a norm gives the same bits in the kernel
// that stands alone and in the prologue of a linear, whose workgroups have another number of waves.
#pragma once

#include "codegen/kernels/kernels.h"

namespace ingot {

/// Waves that a row of `columns` elements is laid over.
unsigned wavesOfRow(const TargetInfo &target, uint64_t columns);

/// The share of a lane: pieces of eight elements.
struct RowPieces {
  std::vector<Val> place;  // of each, from the row's beginning, in pieces; never beyond the last
  std::vector<Val> inside; // whether it is a piece of the row; else a copy of another, whose `values` are 0
  std::vector<Val> values; // vectors of eight, of what the row is made of
};

/// Loads the row at `x`. A workgroup with fewer waves than the row is laid over takes several shares a wave, which
/// follow each other in the lists.
RowPieces loadRow(KernelBuilder &k, Element element, Val x, uint64_t columns, unsigned waves);

/// `llm.rms_norm` of a row, each piece in f32 and not yet rounded. `weight` is f32 [columns padded].
std::vector<Val> normalizeRow(KernelBuilder &k, const RowPieces &row, Val weight, uint64_t columns, double epsilon,
                              unsigned waves);

} // namespace ingot
