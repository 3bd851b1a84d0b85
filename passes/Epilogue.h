// What the fusion passes share: moving an op into the epilogue of a linear.
#pragma once

#include "passes/Passes.h"

namespace ingot {

/// Why `op` cannot become part of `linear`'s epilogue; empty if it can. It can where every operand is a result of
/// `linear` (one at least) or known before it, and nothing between the two ops writes what `op` reads or writes, or
/// reads what it writes.
std::string whyNotInEpilogue(llm::LinearOp linear, mlir::Operation *op);

/// Moves `op` there. Results of the linear that nothing else reads are no longer stored. Returns the linear's
/// successor; `linear` and `op` are gone, and the results of `op` are results of the successor.
llm::LinearOp moveIntoEpilogue(llm::LinearOp linear, mlir::Operation *op);

} // namespace ingot
