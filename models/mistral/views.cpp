// The tensors of Mistral checkpoints as the declaration names them: Hugging Face's, where a checkpoint also has a
// vision tower, and those of Mistral's own files, whose rows of q and k lie in the order of RoPE's adjacent pairs.
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/config.h"
#include "models/mistral/mistral.h"
#include "models/text_names.h"

namespace ingot {

namespace {

using Names = std::pair<std::string_view, const char *>;

constexpr std::array<Names, 3> kEnds = {Names{"tok_embeddings.weight", "model.embed_tokens.weight"},
                                        {"norm.weight", "model.norm.weight"},
                                        {"output.weight", "lm_head.weight"}};
constexpr std::array<Names, 9> kParts = {
    Names{"attention.wq.weight", "self_attn.q_proj.weight"}, {"attention.wk.weight", "self_attn.k_proj.weight"},
    {"attention.wv.weight", "self_attn.v_proj.weight"},      {"attention.wo.weight", "self_attn.o_proj.weight"},
    {"feed_forward.w1.weight", "mlp.gate_proj.weight"},      {"feed_forward.w2.weight", "mlp.down_proj.weight"},
    {"feed_forward.w3.weight", "mlp.up_proj.weight"},        {"attention_norm.weight", "input_layernorm.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"}};

/// Hugging Face's name for one of Mistral's own; nothing for any other.
std::optional<std::string> nameOfOwn(std::string_view name) {
  for (const auto &[own, usual] : kEnds)
    if (name == own)
      return usual;
  constexpr std::string_view layers = "layers.";
  if (!name.starts_with(layers))
    return std::nullopt;
  const size_t dot = name.find('.', layers.size());
  if (dot == std::string_view::npos)
    return std::nullopt;
  for (const auto &[own, usual] : kParts)
    if (name.substr(dot + 1) == own)
      return absl::StrCat("model.", std::string(name.substr(0, dot + 1)), usual);
  return std::nullopt;
}

/// Rotate-half row i + half * (D / 2) of a head is row 2 * i + half of the file.
TensorView unpaired(std::string name, const TensorInfo &tensor, uint64_t headDim) {
  TensorView view{.name = std::move(name), .shape = tensor.shape, .pieces = {}};
  for (uint64_t row = 0; row < tensor.rows(); ++row) {
    const uint64_t within = row % headDim, i = within % (headDim / 2), half = within / (headDim / 2);
    view.pieces.push_back({tensor.name, row - within + 2 * i + half, 1});
  }
  return view;
}

} // namespace

absl::StatusOr<std::vector<TensorView>> viewMistral(const Checkpoint &checkpoint, const nlohmann::json &configuration) {
  std::vector<TensorView> views;
  for (const TensorInfo &tensor : checkpoint.tensors()) {
    std::optional<std::string> usual = nameOfOwn(tensor.name);
    const std::string name = usual ? *usual : textName(tensor.name);
    const bool queries = name.ends_with(".q_proj.weight");
    if (usual && (queries || name.ends_with(".k_proj.weight"))) {
      ConfigReader config(configuration, absl::StrCat("configuration of ", checkpoint.sourceName()));
      const int64_t headDim = config.integer("head_dim", 2, 4096);
      const int64_t heads = config.integer(queries ? "num_attention_heads" : "num_key_value_heads", 1, 1 << 16);
      if (!config.status().ok())
        return config.status();
      if (headDim % 2 != 0 || tensor.rows() != static_cast<uint64_t>(heads * headDim))
        return absl::InvalidArgumentError(absl::StrCat(checkpoint.sourceName(), ": tensor \"", tensor.name, "\" has ",
                                                       tensor.rows(), " rows, expected ", heads, " heads of ", headDim,
                                                       ", an even number"));
      views.push_back(unpaired(name, tensor, static_cast<uint64_t>(headDim)));
    } else if (name != tensor.name) {
      views.push_back({.name = name, .shape = tensor.shape, .pieces = {{tensor.name, 0, tensor.rows()}}});
    }
  }
  return views;
}

} // namespace ingot
