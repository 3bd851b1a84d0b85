// Gemma 3 and the text models of Gemma 4: dense, with experts, with inputs of each layer's own.
#pragma once

#include "models/declaration.h"

namespace ingot {

/// Declares a model of one of the types in models/gemma/shape.cpp into the empty `module`, from a checkpoint as
/// viewGemma shows it. Errors as declareModel.
absl::Status declareGemma(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options);

} // namespace ingot
