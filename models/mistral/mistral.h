// The Llama architecture, which Mistral, SmolLM2 and many others share.
#pragma once

#include "models/declaration.h"

namespace ingot {

/// Declares a model of `model_type` llama or mistral into the empty `module`. Errors as declareModel.
absl::Status declareMistral(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options);

} // namespace ingot
