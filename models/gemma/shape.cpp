#include "models/gemma/shape.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace ingot {

namespace {

constexpr GemmaFamily families[] = {
    {.modelType = "gemma3_text", .fourth = false},
    {.modelType = "gemma4_text", .fourth = true},
};

constexpr char kWindowed[] = "sliding_attention", kGlobal[] = "full_attention";

/// The reference rounds the factor to the type that it holds the table in: what the configuration says, or else the
/// file.
float embeddingScale(ConfigReader &config, const Checkpoint &checkpoint, int64_t hidden) {
  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(hidden)));
  std::string type = config.textOr("dtype", config.textOr("torch_dtype", ""));
  if (const TensorInfo *table = checkpoint.find("model.embed_tokens.weight"); table && type.empty())
    type = table->storage;
  if (type != "bfloat16" && type != "BF16")
    return scale;
  const auto bits = std::bit_cast<uint32_t>(scale);
  return std::bit_cast<float>((bits + 0x7fffU + (bits >> 16 & 1)) & 0xffff0000U);
}

/// RoPE of one kind of layer. Newer configurations have an object for each; older ones know the scaling of global
/// layers alone.
Rotary readLayerRotary(ConfigReader &config, const char *kind, int64_t headDim) {
  const bool local = kind == kWindowed;
  nlohmann::json own = {{"rope_theta", local ? 1e4 : 1e6}};
  if (config.has("rope_parameters")) {
    ConfigReader kinds(config.object("rope_parameters"), absl::StrCat(config.where(), ", `rope_parameters`"));
    nlohmann::json parameters = kinds.object(kind);
    if (kinds.has("rope_theta") || kinds.has("rope_type"))
      kinds.fail("expected RoPE by type of layer, sliding_attention and full_attention");
    if (!kinds.status().ok())
      config.fail(std::string(kinds.status().message()).substr(config.where().size() + 2));
    if (parameters.is_object() && !parameters.empty()) {
      parameters.emplace("rope_theta", local ? 1e4 : 1e6);
      own = {{"rope_parameters", parameters}};
    }
  } else {
    constexpr double leastTheta = 1, mostTheta = 1e12;
    own["rope_theta"] = local ? config.numberOr("rope_local_base_freq", 1e4, leastTheta, mostTheta)
                              : config.numberOr("rope_theta", 1e6, leastTheta, mostTheta);
    if (!local && config.has("rope_scaling"))
      own["rope_scaling"] = config.object("rope_scaling");
  }
  ConfigReader reader(own, absl::StrCat(config.where(), ", RoPE of ", kind));
  Rotary rotary = readRotary(reader, headDim);
  if (!reader.status().ok())
    config.fail(std::string(reader.status().message()).substr(config.where().size() + 2));
  return rotary;
}

/// Heads of layer `number` of the fourth generation: what `per_layer_config` says, or else the older keys.
HeadShape readLayerHeads(ConfigReader &config, size_t number, bool windowed, HeadShape heads, bool keysAreValues) {
  const std::string name = std::to_string(number);
  heads.scale = 1; // the norms of q and k carry it
  if (config.has("per_layer_config")) {
    ConfigReader all(config.object("per_layer_config"), absl::StrCat(config.where(), ", `per_layer_config`"));
    ConfigReader own(all.object(name.c_str()), absl::StrCat(all.where(), " ", name));
    heads.headDim = own.integerOr("head_dim", heads.headDim, 1, 4096);
    heads.kvHeads = own.integerOr("num_key_value_heads", heads.kvHeads, 1, mostWidth);
    for (const ConfigReader *reader : {&all, &own})
      if (!reader->status().ok())
        config.fail(std::string(reader->status().message()).substr(config.where().size() + 2));
  } else if (!windowed) {
    heads.headDim = config.integerOr("global_head_dim", 512, 1, 4096);
    if (keysAreValues)
      heads.kvHeads = config.integerOr("num_global_key_value_heads", heads.kvHeads, 1, mostWidth);
  }
  if (heads.headDim % 16 != 0 || heads.headDim > 512)
    config.fail(absl::StrCat("expected the head dimension of layer ", name, " to be a multiple of 16 up to 512, got ",
                             heads.headDim));
  if (heads.heads % heads.kvHeads != 0)
    config.fail(absl::StrCat("expected the KV heads of layer ", name, " to divide ", heads.heads, " heads, got ",
                             heads.kvHeads));
  if (heads.queryWidth() > mostWidth)
    config.fail(absl::StrCat("expected at most ", mostWidth, " columns of queries, got ", heads.heads, " heads of ",
                             heads.headDim));
  return heads;
}

void readLayers(ConfigReader &config, GemmaShape &shape) {
  shape.layers.resize(static_cast<size_t>(shape.decoder.layers));
  std::vector<std::string> types = config.texts("layer_types");
  const int64_t pattern = config.integerOr(
      "sliding_window_pattern", config.integerOr("_sliding_window_pattern", 6, 1, mostLayers), 1, mostLayers);
  for (size_t i = 0; types.size() < shape.layers.size() && !config.has("layer_types"); ++i)
    types.emplace_back((static_cast<int64_t>(i) + 1) % pattern ? kWindowed : kGlobal);
  if (types.size() != shape.layers.size())
    config.fail(absl::StrCat("expected `layer_types` to name ", shape.layers.size(), " layers, got ", types.size()));
  const int64_t window = config.integer("sliding_window", 1, mostContext);
  const int64_t width = config.integer("intermediate_size", 1, mostWidth / 2);
  const bool keysAreValues = shape.fourth && config.booleanOr("attention_k_eq_v", false);
  const bool doubled = shape.fourth && config.booleanOr("use_double_wide_mlp", false);
  const int64_t sharing = shape.fourth ? config.integerOr("num_kv_shared_layers", 0, 0, shape.decoder.layers - 1) : 0;
  if (!config.status().ok())
    return;
  if (shape.fourth)
    types.back() = kGlobal;                                                // whatever it says
  const size_t first = shape.layers.size() - static_cast<size_t>(sharing); // that has no keys of its own
  const HeadShape heads = {
      .heads = shape.decoder.heads,
      .kvHeads = shape.decoder.kvHeads,
      .headDim = shape.decoder.headDim,
      .scale = shape.fourth ? 1 : 1 / std::sqrt(config.numberOr("query_pre_attn_scalar", 256, 1e-3, 1e9))};
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    GemmaLayer &layer = shape.layers[i];
    if (types[i] != kWindowed && types[i] != kGlobal)
      config.fail(
          absl::StrCat("expected `layer_types` to hold ", kGlobal, " or ", kWindowed, ", got \"", types[i], "\""));
    layer.window = types[i] == kWindowed ? window : 0;
    layer.keysAreValues = keysAreValues && !layer.window;
    layer.heads = shape.fourth ? readLayerHeads(config, i, layer.window != 0, heads, keysAreValues) : heads;
    layer.intermediate = width;
    if (i < first)
      continue;
    layer.intermediate = doubled ? 2 * width : width;
    for (size_t j = 0; j < first; ++j)
      if ((shape.layers[j].window != 0) == (layer.window != 0))
        layer.cache = j;
    if (!layer.cache)
      config.fail(absl::StrCat("expected layer ", i, ", one of `num_kv_shared_layers`, to have a layer of type ",
                               types[i], " before them"));
    else if (const HeadShape &theirs = shape.layers[*layer.cache].heads;
             theirs.headDim != layer.heads.headDim || theirs.kvHeads != layer.heads.kvHeads)
      config.fail(absl::StrCat("expected layer ", i, " to have the KV heads of layer ", *layer.cache,
                               ", whose cache it reads"));
  }
}

void readExperts(ConfigReader &config, GemmaShape &shape) {
  constexpr int64_t mostExperts = 1024, mostChosen = 32;
  shape.experts = config.integer("num_experts", 1, mostExperts);
  shape.chosen = config.integer("top_k_experts", 1, mostChosen);
  shape.expertWidth = config.integer("moe_intermediate_size", 1, mostWidth);
  if (shape.chosen > shape.experts)
    config.fail(absl::StrCat("expected `top_k_experts` to be at most `num_experts`, got ", shape.chosen, " of ",
                             shape.experts));
}

/// The rotation of the layers of one kind, which must agree on the head dimension; without such layers there is none.
void readRotation(ConfigReader &config, GemmaShape &shape, bool windowed, Rotary &rotary) {
  int64_t headDim = 0;
  for (const GemmaLayer &layer : shape.layers) {
    if ((layer.window != 0) != windowed)
      continue;
    if (headDim && headDim != layer.heads.headDim)
      config.fail(absl::StrCat("expected layers of one type to have one head dimension, got ", headDim, " and ",
                               layer.heads.headDim));
    headDim = layer.heads.headDim;
  }
  if (headDim)
    rotary = readLayerRotary(config, windowed ? kWindowed : kGlobal, headDim);
}

} // namespace

const GemmaFamily *findGemmaFamily(const std::string &modelType) {
  const auto *found =
      std::ranges::find_if(families, [&](const GemmaFamily &row) { return row.modelType == modelType; });
  return found == std::end(families) ? nullptr : found;
}

nlohmann::json completeGemma(const nlohmann::json &config, const GemmaFamily &family) {
  nlohmann::json whole = {{"hidden_size", 2304},        {"intermediate_size", 9216},         {"num_hidden_layers", 26},
                          {"num_attention_heads", 8},   {"num_key_value_heads", 4},          {"head_dim", 256},
                          {"vocab_size", 262208},       {"max_position_embeddings", 131072}, {"sliding_window", 4096},
                          {"tie_word_embeddings", true}};
  if (family.fourth)
    whole.update(
        {{"num_hidden_layers", 30},
         {"vocab_size", 262144},
         {"vocab_size_per_layer_input", 262144},
         {"hidden_size_per_layer_input", 256},
         {"sliding_window", 512},
         {"rope_parameters",
          {{kWindowed, {{"rope_type", "default"}, {"rope_theta", 1e4}}},
           {kGlobal, {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}, {"rope_theta", 1e6}}}}}});
  if (config.is_object())
    for (const auto &[key, value] : config.items())
      if (!value.is_null())
        whole[key] = value;
  return whole;
}

GemmaShape readGemmaShape(ConfigReader &config, const Checkpoint &checkpoint, const GemmaFamily &family) {
  GemmaShape shape;
  shape.fourth = family.fourth;
  shape.decoder = readDecoderShape(config, checkpoint, "gelu_pytorch_tanh");
  shape.decoder.embeddingScale = embeddingScale(config, checkpoint, shape.decoder.hidden);
  shape.decoder.logitCap = static_cast<float>(config.numberOr("final_logit_softcapping", 0, 1e-3, 1e9));
  shape.attentionBias = config.booleanOr("attention_bias", false);
  if (config.has("attn_logit_softcapping"))
    config.fail("expected no `attn_logit_softcapping`: the reference of this model type does not read it");
  // "vision" lets tokens of one picture see each other: there is none in text.
  if (shape.fourth ? config.textOr("use_bidirectional_attention", "vision") != "vision"
                   : config.booleanOr("use_bidirectional_attention", false))
    config.fail("expected `use_bidirectional_attention` to leave text causal");
  if (!config.status().ok())
    return shape;
  readLayers(config, shape);
  if (shape.fourth && config.booleanOr("enable_moe_block", false))
    readExperts(config, shape);
  if (shape.fourth && config.integerOr("hidden_size_per_layer_input", 0, 0, mostWidth) > 0) {
    shape.inputWidth = config.integer("hidden_size_per_layer_input", 1, mostWidth / shape.decoder.layers);
    if (shape.inputWidth % 16 != 0 || shape.inputWidth > 512)
      config.fail(absl::StrCat("expected `hidden_size_per_layer_input` to be a multiple of 16 up to 512, got ",
                               shape.inputWidth));
    shape.inputVocabulary = config.integer("vocab_size_per_layer_input", 1, mostVocabulary);
  }
  if (!config.status().ok())
    return shape;
  readRotation(config, shape, true, shape.local);
  readRotation(config, shape, false, shape.global);
  return shape;
}

} // namespace ingot
