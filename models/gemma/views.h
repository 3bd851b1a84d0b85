// The tensors of Gemma checkpoints as the declaration names them.
//
// | here | published as |
// |---|---|
// | `model.X`, `lm_head.X` | also `model.language_model.X` and `language_model.X`, beside towers of other senses |
// | norms of Gemma 3, multiplied by | `w`, to which it adds 1; a GGUF holds the sum |
// | `router.norm` | `router.scale`, before its product with hidden_size^-0.5 |
// | `per_layer_projection_norm` | the same before its product with 2^-0.5, by which the sum it is part of is scaled |
// | `experts.{gate,up,down}_proj` `[E, N, K]` | `gate_up_proj` and `down_proj` |
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/viewed.h"

namespace ingot {

/// The checkpoint under those names. Errors: a configuration that the family cannot express; a tensor of another shape
/// where rows of it are wanted.
absl::StatusOr<std::vector<TensorView>> viewGemma(const Checkpoint &checkpoint, const nlohmann::json &configuration);

} // namespace ingot
