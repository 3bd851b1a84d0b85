// What an element becomes: functions on f32 values in registers, scalars or vectors, which a kernel of its own and the
// epilogue of a linear share, so that both give the same bits.
#pragma once

#include "codegen/kernels/kernels.h"
#include "dialects/Llm.h"

namespace ingot {

/// How `llm.gated_mul` of this function is computed.
Elementwise elementwiseOf(llm::Gate function);

/// `op` on two operands: of a gated product the gate comes first.
Val applyElementwise(KernelBuilder &k, Elementwise op, Val a, Val b);

/// `llm.short_conv` of a channel: the weights of its taps on as many rows, oldest first, then silu.
Val applyShortConv(KernelBuilder &k, llvm::ArrayRef<Val> taps, llvm::ArrayRef<Val> rows);

/// tanh(x), within 2^-21 relatively for every finite x; +-1 at infinity, NaN of NaN.
Val applyTanh(KernelBuilder &k, Val x);

/// cap * tanh(x / cap).
Val applySoftcap(KernelBuilder &k, Val x, double cap);

} // namespace ingot
