// Functions whose rows are of several sequences, and not several tokens of one: dialects/LlmScheme.td says what
// `llm.sequences` means.
#pragma once

#include "mlir/IR/Operation.h"

namespace ingot::llm {

/// The attribute of such a function, a unit.
inline constexpr llvm::StringLiteral kSequencesName = "llm.sequences";

/// Of how many sequences the function that `op` is, or is in, takes a row each; 0: it takes those of one.
int64_t sequencesOf(mlir::Operation *op);

/// Whether `op` may have the attribute: a function of 2 to kFewRows tokens, or logits of as many, that returns nothing
/// or logits of each.
mlir::LogicalResult verifySequences(mlir::Operation *op, mlir::NamedAttribute attribute);

} // namespace ingot::llm
