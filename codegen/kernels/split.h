// fp32 on the bf16 matrix instructions: a value as the sum of two bf16.
#pragma once

#include "codegen/kernel_builder.h"

namespace ingot {

/// `high` is a value rounded to bf16 and `low` what is left, rounded to bf16: together within 2^-17 of the value,
/// relatively. Vectors of i16.
struct SplitBf16 {
  Val high, low;
};

/// Of eight finite f32. value - high is exact in fp32; adding half a unit to the bits before the cut rounds, a tie away
/// from zero.
inline SplitBf16 splitBf16(KernelBuilder &k, Val eight) {
  mlir::Type words = k.vec(8, k.i32()), shorts = k.vec(8, k.i16());
  constexpr int64_t kHalf = 0x8000, kUpper = 0xffff0000;
  Val high = (k.bitcast(eight, words) + kHalf) & kUpper;
  Val low = k.bitcast(eight - k.bitcast(high, eight.type()), words) + kHalf;
  return {k.trunc(high >> 16, shorts), k.trunc(low >> 16, shorts)};
}

} // namespace ingot
