// Rotary embedding of one pair, shared by the kernel of its own and the epilogue of a projection, so that both give the
// same bits.
#pragma once

#include <utility>

#include "codegen/kernel_builder.h"

namespace ingot {

// (x cos a - y sin a, y cos a + x sin a) with a = frequency * position; all f32, lane by lane.
std::pair<Val, Val> rotatePair(KernelBuilder &k, Val x, Val y, Val frequency, Val position);

} // namespace ingot
