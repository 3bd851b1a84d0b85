// The Llama architecture, which Mistral, SmolLM2 and many others share.
#pragma once

#include <vector>

#include "compiler/checkpoint/viewed.h"
#include "models/declaration.h"

namespace ingot {

/// Declares a model of `model_type` llama, mistral or ministral3 into the empty `module`. Errors as declareModel.
absl::Status declareMistral(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options);

/// The text model's tensors under their own names, where a checkpoint also has a vision tower or is one of Mistral's
/// own
/// (`tok_embeddings`, `layers.N.attention.wq`, ...). Errors: rows of q or k that are not the heads of the
/// configuration.
absl::StatusOr<std::vector<TensorView>> viewMistral(const Checkpoint &checkpoint, const nlohmann::json &configuration);

} // namespace ingot
