// Rotary embedding of one token's elements, shared by the kernel of its own and the epilogue of a projection, so that
// both give the same bits.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "codegen/kernel_builder.h"
#include "dialects/Llm.h"

namespace ingot {

/// What a rotation multiplies by besides cosines and sines (dialects/Llm.td, `llm.rope`).
struct RotationScale {
  float magnitude = 1;
  float temperature = 0; // 0: none
  uint64_t every = 1;    // positions

  static RotationScale of(llm::RopeOp rope);
};

class Rotation {
public:
  /// Of the token at `position`, an i32.
  Rotation(KernelBuilder &k, const RotationScale &scale, Val position);

  /// (x cos a - y sin a, y cos a + x sin a) with a = frequency * position, scaled; all f32, lane by lane.
  std::pair<Val, Val> rotate(Val x, Val y, Val frequency);
  /// An element that does not rotate, scaled.
  Val pass(Val x);

private:
  KernelBuilder &k_;
  float magnitude_;
  Val position_; // f32
  std::optional<Val> temperature_;
};

} // namespace ingot
