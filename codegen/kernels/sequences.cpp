#include "codegen/kernels/sequences.h"

#include <cstddef>

#include "runtime/artifact/batch.h"

namespace ingot {

// Of the pointer's own type: an address in global memory, which a load of an integer would not say.
Val Sequences::entry(Val table, Val row) const { return k.load(table.type(), table, row * 8, 8); }

Val Sequences::step(Val row) const {
  Val step = k.argument(0);
  return several ? entry(k.advance(step, k.constant64(offsetof(Batch, steps))), row) : step;
}

Val Sequences::position(Val row) const {
  Val position = k.stepPosition(step(row));
  return several ? position : position + row;
}

Val Sequences::real(Val row) const {
  return several ? row < k.load(k.i32(), k.argument(0), k.constant(offsetof(Batch, rows))) : Val();
}

void Sequences::unlessPadding(Val row, const std::function<void()> &body) const {
  if (several)
    k.ifThen(real(row), body);
  else
    body();
}

} // namespace ingot
