// What kernels of heads share: 16 lanes, half a wave, have a head in registers, lane l its elements l, l + 16, l + 32
// ...
#pragma once

#include "codegen/kernels/linear.h"

namespace ingot {

// Lanes of a head.
inline constexpr uint64_t kHeadLanes = 16;
// Of more elements a lane's share would not stay in registers, nor would attention's.
inline constexpr int64_t kWidestHead = 512;

// A head normalised: x * rsqrt(mean(x^2) + eps) * gain, with this lane's elements of all three. The kernel of its own
// and `llm.heads` call it, so that both give the same bits.
std::vector<Val> normHead(KernelBuilder &k, const std::vector<Val> &x, const std::vector<Val> &gain, double epsilon);

// `emitAppend` to a cache of codes: a scale is of a whole head.
LaunchShape emitAppendCodes(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            const AppendConfig &c);

// The arguments of `emitHeads`: Step, X of each operand, what the ops of the body read and write, Result.
std::vector<LinearArgument> headsArguments(const HeadsConfig &c);

// Why 16 lanes cannot do `op` (a norm of heads, a rotation, an append) to a head of theirs; empty if they can.
std::string whyNotHead(mlir::Operation *op);

} // namespace ingot
