// What the fusion passes share: moving an op into the epilogue of a linear.
#pragma once

#include "passes/Passes.h"

namespace ingot {

/// Whether one of two ops writes state that the other touches. Reads of the step do not conflict with each other.
bool touchSameState(mlir::Operation *a, mlir::Operation *b);

/// Why `op` cannot become part of `linear`'s epilogue; empty if it can. It can where every operand is a result of
/// `linear` (one at least) or known before it, and nothing between the two ops writes what `op` reads or writes, or
/// reads what it writes. Or else where the linear can wait: it touches no state, and nothing before `op` reads it.
std::string whyNotInEpilogue(llm::LinearOp linear, mlir::Operation *op);

/// Moves `op` there, and the linear to where `op` is if it has to wait. Results of the linear that nothing else reads
/// are no longer stored. Returns the linear's successor; `linear` and `op` are gone, and the results of `op` are
/// results of the successor.
llm::LinearOp moveIntoEpilogue(llm::LinearOp linear, mlir::Operation *op);

} // namespace ingot
