// The `exec` dialect in C++: dialects/Exec.td is its specification.
#pragma once

#include "dialects/Llm.h"

#include "mlir/IR/RegionKindInterface.h"

#include "dialects/ExecDialect.h.inc"
#include "dialects/ExecEnums.h.inc"

#define GET_OP_CLASSES
#include "dialects/ExecOps.h.inc"

namespace ingot::exec {

/// On a kernel's `gpu.func`, a dictionary of why it is laid over the chip as it is, for reports: `bound`, what keeps
/// its grid from being wider; and where a cost function chose (codegen/launch_shape.h), `chosen` and `runner_up` (each
/// `tiles`, `waves`, `unroll`, `bytes_in_flight`, `modelled_seconds`) and `considered`, how many candidates there were.
inline constexpr llvm::StringLiteral kLaunchShape = "exec.launch_shape";

} // namespace ingot::exec
