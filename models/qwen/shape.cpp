#include "models/qwen/shape.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ingot {

namespace {

constexpr QwenFamily families[] = {
    {.modelType = "qwen3", .hybrid = false, .experts = false, .sharedExpert = false},
    {.modelType = "qwen3_moe", .hybrid = false, .experts = true, .sharedExpert = false},
    {.modelType = "qwen3_next", .hybrid = true, .experts = true, .sharedExpert = true},
    {.modelType = "qwen3_5_text", .hybrid = true, .experts = false, .sharedExpert = false},
    {.modelType = "qwen3_5_moe_text", .hybrid = true, .experts = true, .sharedExpert = true},
};

void readDelta(ConfigReader &config, QwenShape &shape) {
  constexpr int64_t mostDim = 256, mostTaps = 8;
  shape.keyHeads = config.integer("linear_num_key_heads", 1, mostWidth);
  shape.valueHeads = config.integer("linear_num_value_heads", 1, mostWidth);
  shape.keyDim = config.integer("linear_key_head_dim", 1, mostDim);
  shape.valueDim = config.integer("linear_value_head_dim", 1, mostDim);
  shape.taps = config.integerOr("linear_conv_kernel_dim", 4, 2, mostTaps);
  if (shape.valueHeads % shape.keyHeads != 0)
    config.fail(absl::StrCat("expected `linear_num_key_heads` to divide `linear_num_value_heads`, got ", shape.keyHeads,
                             " and ", shape.valueHeads));
  if (shape.keyDim % 16 != 0 || shape.valueDim % 16 != 0)
    config.fail(absl::StrCat("expected `linear_key_head_dim` and `linear_value_head_dim` to be multiples of 16, got ",
                             shape.keyDim, " and ", shape.valueDim));
  if (shape.deltaWidth() > mostWidth)
    config.fail(absl::StrCat("expected at most ", mostWidth, " columns of linear attention, got ", shape.deltaWidth()));
}

void readExperts(ConfigReader &config, QwenShape &shape, const QwenFamily &family) {
  constexpr int64_t mostExperts = 1024, mostChosen = 32;
  shape.experts = config.integer("num_experts", 1, mostExperts);
  shape.chosen = config.integer("num_experts_per_tok", 1, mostChosen);
  shape.expertWidth = config.integer("moe_intermediate_size", 1, mostWidth);
  if (family.sharedExpert)
    shape.sharedWidth = config.integer("shared_expert_intermediate_size", 1, mostWidth);
  // Where a configuration has no such key, Qwen3.5 normalises and Qwen3-MoE does not.
  shape.normalise = config.booleanOr("norm_topk_prob", family.hybrid);
  if (shape.chosen > shape.experts)
    config.fail(absl::StrCat("expected `num_experts_per_tok` to be at most `num_experts`, got ", shape.chosen, " of ",
                             shape.experts));
}

void readLayers(ConfigReader &config, QwenShape &shape, const QwenFamily &family) {
  shape.layers.resize(static_cast<size_t>(shape.decoder.layers));
  const std::vector<std::string> types = config.texts("layer_types");
  if (!types.empty() && types.size() != shape.layers.size())
    config.fail(absl::StrCat("expected `layer_types` to name ", shape.layers.size(), " layers, got ", types.size()));
  const bool windowed = config.booleanOr("use_sliding_window", false);
  const int64_t window = windowed ? config.integerOr("sliding_window", 0, 1, mostContext) : 0;
  if (windowed && window && types.empty())
    config.fail("expected `layer_types` to say which layers have a sliding window");
  const int64_t interval = family.hybrid ? config.integerOr("full_attention_interval", 4, 1, mostLayers) : 1;
  const int64_t step = config.integerOr("decoder_sparse_step", 1, 1, mostLayers);
  const std::vector<int64_t> dense = config.integers("mlp_only_layers", 0, mostLayers);
  if (!config.status().ok())
    return;
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    QwenLayer &layer = shape.layers[i];
    layer.delta = family.hybrid && (number + 1) % interval != 0;
    if (!types.empty()) {
      layer.delta = types[i] == "linear_attention";
      layer.window = types[i] == "sliding_attention" ? window : 0;
      if ((layer.delta && !family.hybrid) || (!layer.delta && !layer.window && types[i] != "full_attention"))
        config.fail(absl::StrCat("expected `layer_types` to hold full_attention",
                                 family.hybrid ? ", linear_attention" : "",
                                 " or, with a window, sliding_attention, got \"", types[i], "\""));
    }
    layer.sparse = family.experts && (number + 1) % step == 0 && std::ranges::find(dense, number) == dense.end();
  }
}

} // namespace

const QwenFamily *findQwenFamily(const std::string &modelType) {
  const auto *found = std::ranges::find_if(families, [&](const QwenFamily &row) { return row.modelType == modelType; });
  return found == std::end(families) ? nullptr : found;
}

QwenShape readQwenShape(ConfigReader &config, const Checkpoint &checkpoint, const QwenFamily &family) {
  QwenShape shape;
  shape.decoder = readDecoderShape(config, checkpoint);
  shape.rotary = readRotary(config, shape.decoder.headDim);
  if (!config.status().ok())
    return shape;
  readLayers(config, shape, family);
  // Its keys begin at position 1, which is that of the second token: a row pairs a token with the state before it.
  // Weights that are made up are there as soon as somebody asks for them, so there the configuration decides.
  const bool madeUp = checkpoint.tensors().empty();
  if (madeUp ? config.integerOr("mtp_num_hidden_layers", 0, 0, mostLayers) > 0
             : checkpoint.find("mtp.fc.weight") != nullptr)
    shape.drafter = {.sparse = madeUp ? family.experts : checkpoint.find("mtp.layers.0.mlp.gate.weight") != nullptr,
                     .first = 1};
  shape.gated = family.hybrid && config.booleanOr("attn_output_gate", true);
  shape.attentionBias = config.booleanOr("attention_bias", false);
  if (shape.gated && shape.attentionBias)
    config.fail("expected `attention_bias` false where attention is gated");
  // The key describes DeltaNet's gate, whatever attention's is: the reference does not read it.
  if (std::string gate = config.textOr("output_gate_type", "swish"); gate != "swish")
    config.fail(absl::StrCat("expected `output_gate_type` swish, got \"", gate, "\""));
  if (std::ranges::any_of(shape.layers, &QwenLayer::delta))
    readDelta(config, shape);
  if (std::ranges::any_of(shape.layers, &QwenLayer::sparse) || (shape.drafter && shape.drafter->sparse))
    readExperts(config, shape, family);
  if (!std::ranges::all_of(shape.layers, &QwenLayer::sparse) || (shape.drafter && !shape.drafter->sparse))
    shape.intermediate = config.integer("intermediate_size", 1, mostWidth);
  return shape;
}

} // namespace ingot
