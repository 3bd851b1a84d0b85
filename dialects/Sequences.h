// Functions that take a token of each of several sequences, and not several tokens of one: dialects/LlmScheme.td says
// what `llm.sequences` means.
#pragma once

#include "mlir/IR/Operation.h"

namespace ingot::llm {

/// The attribute of such a function, a unit.
inline constexpr llvm::StringLiteral kSequencesName = "llm.sequences";

/// How many sequences the function that `op` is, or is in, takes a token of each; 0: it takes tokens of one.
int64_t sequencesOf(mlir::Operation *op);

/// Whether `op` may have the attribute: a function of 2 to kFewRows tokens that returns nothing.
mlir::LogicalResult verifySequences(mlir::Operation *op, mlir::NamedAttribute attribute);

} // namespace ingot::llm
