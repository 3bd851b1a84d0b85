// Qwen3 dense and with experts, Qwen3-Next, Qwen3.5 and Qwen3.6.
#pragma once

#include "models/declaration.h"

namespace ingot {

/// Declares a model of one of the types in models/qwen/shape.cpp into the empty `module`, from a checkpoint as viewQwen
/// shows it. Errors as declareModel.
absl::Status declareQwen(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options);

} // namespace ingot
