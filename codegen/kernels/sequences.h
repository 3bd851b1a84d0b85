// Whose the rows of a step are. In a step of one sequence row i lies i positions on, and what the sequence has for
// itself is behind the kernel's arguments. In a step of several row i is the one token of sequence i, and those
// arguments are tables of addresses, one a row (runtime/artifact/batch.h).
#pragma once

#include <functional>

#include "codegen/kernel_builder.h"

namespace ingot {

class Sequences {
public:
  /// Argument 0 of the kernel is the step; of `several` sequences the Batch.
  Sequences(KernelBuilder &builder, bool areSeveral) : k(builder), several(areSeveral) {}

  /// How a kernel accesses an argument that a sequence has for itself: tables are only read.
  static Access access(bool several, Access own) { return several ? Access::Read : own; }

  /// What `argument` is for row `row`, an i32 that is the same in all lanes: itself, or what its table says.
  [[nodiscard]] Val own(Val argument, Val row) const { return several ? entry(argument, row) : argument; }
  /// The Step of a row.
  [[nodiscard]] Val step(Val row) const;
  /// Where a row lies in its sequence.
  [[nodiscard]] Val position(Val row) const;

  /// Whether a row belongs to a sequence. Padding does not, and writes nothing of a sequence's; null: no row is
  /// padding.
  [[nodiscard]] Val real(Val row) const;
  /// `body`, unless the row is padding. All lanes agree on that, so it may have barriers.
  void unlessPadding(Val row, const std::function<void()> &body) const;

private:
  [[nodiscard]] Val entry(Val table, Val row) const;

  KernelBuilder &k;
  bool several;
};

} // namespace ingot
