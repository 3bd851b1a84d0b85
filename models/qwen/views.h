// The tensors of Qwen checkpoints as the declaration names them, whichever way they were published.
//
// | here | published as |
// |---|---|
// | `model.X` | also `model.language_model.X`, beside a vision tower |
// | norms that are multiplied by | `w`, to which hybrids add 1; a GGUF holds the sum |
// | `self_attn.q_proj`, `self_attn.gate_proj` | `q_proj`, a head's query beside its gate |
// | `linear_attn.in_proj_{qkv,z,b,a}` | also `in_proj_qkvz` and `in_proj_ba`, a key head's rows together |
// | `linear_attn.decay` | `A_log`, the logarithm of its negative; a GGUF holds the decay |
// | `mlp.experts.{gate,up,down}_proj` `[E, N, K]` | also `gate_up_proj`, or tensors for each expert |
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/viewed.h"
#include "models/qwen/shape.h"

namespace ingot {

/// The checkpoint under those names. Errors: a configuration that the family cannot express; a tensor that is missing
/// or of another shape where rows of it are wanted.
absl::StatusOr<std::vector<TensorView>> viewQwen(const Checkpoint &checkpoint, const nlohmann::json &configuration);

} // namespace ingot
