#include "compiler/checkpoint/gguf_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "compiler/checkpoint/message.h"

namespace ingot {
namespace {

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama",
     .modelType = "llama",
     .pairedHeads = true,
     .hybrid = false,
     .tiledValueHeads = false,
     .experts = false},
    {.name = "mistral3",
     .modelType = "ministral3",
     .pairedHeads = true,
     .hybrid = false,
     .tiledValueHeads = false,
     .experts = false},
    {.name = "qwen3",
     .modelType = "qwen3",
     .pairedHeads = false,
     .hybrid = false,
     .tiledValueHeads = false,
     .experts = false},
    {.name = "qwen3moe",
     .modelType = "qwen3_moe",
     .pairedHeads = false,
     .hybrid = false,
     .tiledValueHeads = false,
     .experts = true},
    {.name = "qwen3next",
     .modelType = "qwen3_next",
     .pairedHeads = false,
     .hybrid = true,
     .tiledValueHeads = false,
     .experts = true},
    {.name = "qwen35",
     .modelType = "qwen3_5_text",
     .pairedHeads = false,
     .hybrid = true,
     .tiledValueHeads = true,
     .experts = false},
    {.name = "qwen35moe",
     .modelType = "qwen3_5_moe_text",
     .pairedHeads = false,
     .hybrid = true,
     .tiledValueHeads = true,
     .experts = true},
    {.name = "gemma3",
     .modelType = "gemma3_text",
     .pairedHeads = false,
     .hybrid = false,
     .tiledValueHeads = false,
     .experts = false,
     .postNorms = true},
    {.name = "gemma4",
     .modelType = "gemma4_text",
     .pairedHeads = false,
     .hybrid = false,
     .tiledValueHeads = false,
     .experts = false,
     .postNorms = true,
     .fourth = true},
};

using Names = std::pair<std::string_view, std::string_view>;

constexpr Names kGlobalNames[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {"per_layer_token_embd", "model.embed_tokens_per_layer"},
    {"per_layer_model_proj", "model.per_layer_model_projection"},
    {"per_layer_proj_norm", "model.per_layer_projection_norm"},
};

// Without `.weight` or `.bias`, which stay.
constexpr Names kLayerNames[] = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_qkv", "linear_attn.in_proj_qkv"},
    {"attn_gate", "linear_attn.in_proj_z"},
    {"ssm_beta", "linear_attn.in_proj_b"},
    {"ssm_alpha", "linear_attn.in_proj_a"},
    {"ssm_ba", "linear_attn.in_proj_ba"},
    {"ssm_conv1d", "linear_attn.conv1d"},
    {"ssm_norm", "linear_attn.norm"},
    {"ssm_out", "linear_attn.out_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.gate_proj"},
    {"ffn_up_exps", "mlp.experts.up_proj"},
    {"ffn_down_exps", "mlp.experts.down_proj"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
};

// Where there are norms after the blocks too, these come first.
constexpr Names kPostNormNames[] = {
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
    {"post_ffw_norm_1", "post_feedforward_layernorm_1"},
    {"post_ffw_norm_2", "post_feedforward_layernorm_2"},
    {"pre_ffw_norm_2", "pre_feedforward_layernorm_2"},
    {"inp_gate", "per_layer_input_gate"},
    {"proj", "per_layer_projection"},
    {"post_norm", "post_per_layer_input_norm"},
    {"ffn_gate_inp", "router.proj"},
    {"ffn_gate_exps", "experts.gate_proj"},
    {"ffn_up_exps", "experts.up_proj"},
    {"ffn_down_exps", "experts.down_proj"},
};

// Of those, whole names where Hugging Face ends otherwise.
constexpr Names kWholePostNormNames[] = {
    {"layer_output_scale.weight", "layer_scalar"},
    {"ffn_gate_inp.scale", "router.scale"},
    {"ffn_down_exps.scale", "router.per_expert_scale"},
    {"ffn_gate_up_exps.weight", "experts.gate_up_proj"},
};

// Whole names, where Hugging Face ends otherwise.
constexpr Names kWholeLayerNames[] = {
    {"ssm_a", "linear_attn.A_log"},
    {"ssm_dt.bias", "linear_attn.dt_bias"},
    {"ffn_gate_up_exps.weight", "mlp.experts.gate_up_proj"},
};

// Of the block after the last layer, which drafts tokens.
constexpr Names kDraftingNames[] = {
    {"nextn.eh_proj", "mtp.fc"},
    {"nextn.enorm", "mtp.pre_fc_norm_embedding"},
    {"nextn.hnorm", "mtp.pre_fc_norm_hidden"},
    {"nextn.shared_head_norm", "mtp.norm"},
};

// The layer of "blk.N.rest" and the rest; nothing for another name.
std::optional<std::pair<std::string_view, std::string_view>> splitLayer(std::string_view name) {
  if (!name.starts_with("blk."))
    return std::nullopt;
  name.remove_prefix(4);
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 4 ||
      name.substr(0, dot).find_first_not_of("0123456789") != std::string_view::npos)
    return std::nullopt;
  return std::pair(name.substr(0, dot), name.substr(dot + 1));
}

// A GGUF name in Hugging Face's words, for a model of so many layers; a name outside the tables stays as it is, so that
// the compiler refuses it by the name that the user can find in the file.
std::string huggingFaceName(std::string_view name, uint64_t layers, bool postNorms) {
  const auto layer = splitLayer(name);
  std::string_view stem = layer ? layer->second : name, suffix;
  const bool drafting = layer && std::stoull(std::string(layer->first)) == layers;
  const std::string prefix = drafting ? "mtp.layers.0." : layer ? cat("model.layers.", layer->first, ".") : "";
  if (layer)
    for (const auto &[from, to] :
         postNorms ? std::span<const Names>(kWholePostNormNames) : std::span<const Names>(kWholeLayerNames))
      if (stem == from)
        return cat(prefix, to);
  for (std::string_view candidate : {".weight", ".bias"})
    if (stem.ends_with(candidate))
      suffix = candidate;
  if (suffix.empty())
    return std::string(name);
  stem.remove_suffix(suffix.size());
  if (drafting)
    for (const auto &[from, to] : kDraftingNames)
      if (stem == from)
        return cat(to, suffix);
  if (layer && postNorms)
    for (const auto &[from, to] : kPostNormNames)
      if (stem == from)
        return cat(prefix, to, suffix);
  for (const auto &[from, to] : layer ? std::span<const Names>(kLayerNames) : std::span<const Names>(kGlobalNames))
    if (stem == from)
      return cat(prefix, to, suffix);
  return std::string(name);
}

class ConfigMaker {
public:
  ConfigMaker(const GgufFile &file, const GgufArchitecture &architecture) : file(file), architecture(architecture) {}

  absl::StatusOr<nlohmann::json> make() {
    if (absl::StatusOr<std::optional<int64_t>> parts = file.integer("split.count"); !parts.ok())
      return parts.status();
    else if (parts->value_or(1) > 1)
      return absl::UnimplementedError(
          cat(file.path(), ": one of ", **parts, " parts; join them with gguf-split --merge first"));
    for (absl::Status (ConfigMaker::*step)() :
         {&ConfigMaker::makeSizes, &ConfigMaker::makeHeads, &ConfigMaker::makeLayers, &ConfigMaker::makeRope,
          &ConfigMaker::makeRopeScaling, &ConfigMaker::makeWindows, &ConfigMaker::makeTensorFacts})
      if (absl::Status status = (this->*step)(); !status.ok())
        return status;
    return std::move(facts);
  }

private:
  std::string key(std::string_view name) const { return cat(architecture.name, ".", name); }

  // A metadata number that the architecture cannot do without, from 1 to 2^31.
  absl::StatusOr<int64_t> required(std::string_view name) const {
    absl::StatusOr<std::optional<int64_t>> value = uniform(name);
    if (!value.ok())
      return value.status();
    if (!value->has_value())
      return absl::InvalidArgumentError(cat(file.path(), ": metadata '", key(name), "' is missing"));
    return **value;
  }

  // An integer, or an array of equal integers: some converters write one number a layer.
  absl::StatusOr<std::optional<int64_t>> uniform(std::string_view name) const {
    absl::StatusOr<std::optional<std::vector<int64_t>>> values = file.integers(key(name));
    if (!values.ok())
      return values.status();
    if (!values->has_value())
      return std::nullopt;
    const std::vector<int64_t> &numbers = **values;
    if (numbers.empty() || std::any_of(numbers.begin(), numbers.end(), [&](int64_t n) { return n != numbers[0]; }))
      return absl::UnimplementedError(
          cat(file.path(), ": metadata '", key(name), "' differs from layer to layer, which is not supported"));
    if (numbers[0] < 0 || numbers[0] > INT32_MAX)
      return absl::InvalidArgumentError(
          cat(file.path(), ": metadata '", key(name), "' is ", numbers[0], ", expected 0 to 2^31-1"));
    return numbers[0];
  }

  absl::Status makeSizes() {
    facts["model_type"] = architecture.modelType;
    facts["hidden_act"] = architecture.postNorms ? "gelu_pytorch_tanh" : "silu";
    struct Key {
      const char *to;
      const char *from;
      bool required;
    };
    for (const Key &size : {Key{"hidden_size", "embedding_length", true}, Key{"num_hidden_layers", "block_count", true},
                            Key{"num_attention_heads", "attention.head_count", true},
                            Key{"intermediate_size", "feed_forward_length", !architecture.experts},
                            Key{"max_position_embeddings", "context_length", true},
                            Key{"num_experts", "expert_count", architecture.experts},
                            Key{"num_experts_per_tok", "expert_used_count", architecture.experts},
                            Key{"moe_intermediate_size", "expert_feed_forward_length", architecture.experts},
                            Key{"shared_expert_intermediate_size", "expert_shared_feed_forward_length", false},
                            Key{"linear_conv_kernel_dim", "ssm.conv_kernel", architecture.hybrid},
                            Key{"linear_key_head_dim", "ssm.state_size", architecture.hybrid},
                            Key{"linear_num_key_heads", "ssm.group_count", architecture.hybrid},
                            Key{"linear_num_value_heads", "ssm.time_step_rank", architecture.hybrid}}) {
      absl::StatusOr<std::optional<int64_t>> value = uniform(size.from);
      if (!value.ok())
        return value.status();
      // 0 is what converters write where there is none.
      if (size.required && value->value_or(0) == 0)
        return absl::InvalidArgumentError(
            cat(file.path(), ": metadata '", key(size.from), value->has_value() ? "' is 0" : "' is missing"));
      if (value->value_or(0) != 0)
        facts[size.to] = **value;
    }
    if (!architecture.experts && facts.contains("num_experts"))
      return absl::UnimplementedError(cat(file.path(), ": a mixture of ", facts["num_experts"].get<int64_t>(),
                                          " experts, which is not supported for '", architecture.name, "'"));
    if (architecture.hybrid) {
      const int64_t valueHeads = facts["linear_num_value_heads"];
      absl::StatusOr<int64_t> inner = required("ssm.inner_size");
      if (!inner.ok())
        return inner.status();
      if (*inner % valueHeads != 0 || valueHeads % facts["linear_num_key_heads"].get<int64_t>() != 0)
        return absl::InvalidArgumentError(cat(file.path(), ": ", *inner, " columns of ", valueHeads,
                                              " value heads over ", facts["linear_num_key_heads"].get<int64_t>(),
                                              " key heads cannot be"));
      facts["linear_value_head_dim"] = *inner / valueHeads;
    }
    // A head that drafts tokens is a layer more in the file.
    absl::StatusOr<std::optional<int64_t>> drafting = uniform("nextn_predict_layers");
    if (!drafting.ok())
      return drafting.status();
    const int64_t layers = facts["num_hidden_layers"].get<int64_t>() - drafting->value_or(0);
    if (layers <= 0)
      return absl::InvalidArgumentError(
          cat(file.path(), ": all of ", facts["num_hidden_layers"].get<int64_t>(), " blocks are said to draft tokens"));
    facts["num_hidden_layers"] = layers;
    absl::StatusOr<std::optional<double>> eps = file.real(key("attention.layer_norm_rms_epsilon"));
    if (!eps.ok())
      return eps.status();
    if (!eps->has_value() || !(**eps >= 0) || **eps > 1)
      return absl::InvalidArgumentError(
          cat(file.path(), ": metadata '", key("attention.layer_norm_rms_epsilon"), "' is missing or outside 0 to 1"));
    facts["rms_norm_eps"] = **eps;
    return absl::OkStatus();
  }

  absl::Status makeHeads() {
    const int64_t hidden = facts["hidden_size"], heads = facts["num_attention_heads"];
    int64_t kvHeads = heads, headSize = 0, rotary = 0, valueSize = 0, window = 0;
    struct Optional {
      const char *name;
      int64_t *out;
    };
    for (const Optional &optional :
         {Optional{"attention.head_count_kv", &kvHeads}, Optional{"attention.key_length", &headSize},
          Optional{"attention.value_length", &valueSize}, Optional{"rope.dimension_count", &rotary},
          Optional{"attention.sliding_window", &window}}) {
      absl::StatusOr<std::optional<int64_t>> value = uniform(optional.name);
      if (!value.ok())
        return value.status();
      if (value->has_value())
        *optional.out = **value;
    }
    if (headSize == 0 && hidden % heads == 0)
      headSize = hidden / heads;
    if (headSize <= 0 || headSize % 2 != 0 || kvHeads <= 0 || heads % kvHeads != 0)
      return absl::InvalidArgumentError(cat(file.path(), ": ", heads, " heads and ", kvHeads, " kv heads of ", headSize,
                                            " over a hidden size of ", hidden, " cannot be"));
    if (rotary == 0)
      rotary = headSize;
    if (rotary > headSize || (rotary != headSize && architecture.pairedHeads) ||
        (valueSize != 0 && valueSize != headSize))
      return absl::UnimplementedError(cat(file.path(), ": head size ", headSize, " with ", rotary,
                                          " rotary dimensions and value size ", valueSize,
                                          "; only one size for all is supported"));
    facts["num_key_value_heads"] = kvHeads;
    facts["head_dim"] = headSize;
    if (rotary != headSize)
      facts["partial_rotary_factor"] = static_cast<double>(rotary) / static_cast<double>(headSize);
    facts["sliding_window"] = window > 0 ? nlohmann::json(window) : nlohmann::json(nullptr);
    if (window > 0 && architecture.pairedHeads)
      facts["model_type"] = "mistral";
    return absl::OkStatus();
  }

  // Which block each layer has is said by its tensors.
  absl::Status makeLayers() {
    if (!architecture.hybrid && !architecture.experts)
      return absl::OkStatus();
    const auto has = [&](int64_t layer, const char *part) { return names.contains(cat("blk.", layer, ".", part)); };
    for (const GgufTensor &tensor : file.tensors())
      names.insert(tensor.name);
    facts["layer_types"] = nlohmann::json::array();
    facts["mlp_only_layers"] = nlohmann::json::array();
    const int64_t layers = facts["num_hidden_layers"];
    if (static_cast<uint64_t>(layers) > file.tensors().size())
      return absl::InvalidArgumentError(
          cat(file.path(), ": ", layers, " layers, and only ", file.tensors().size(), " tensors"));
    for (int64_t i = 0; i < layers; ++i) {
      facts["layer_types"].push_back(has(i, "ssm_a") ? "linear_attention" : "full_attention");
      if (!has(i, "ffn_gate_inp.weight"))
        facts["mlp_only_layers"].push_back(i);
    }
    if (architecture.experts) {
      // llama.cpp normalises for every architecture here, whatever the model did.
      absl::StatusOr<std::optional<bool>> normalised = file.boolean(key("expert_weights_norm"));
      if (!normalised.ok())
        return normalised.status();
      facts["norm_topk_prob"] = normalised->value_or(true);
    }
    return absl::OkStatus();
  }

  absl::Status makeRope() {
    absl::StatusOr<std::optional<double>> theta = file.real(key("rope.freq_base"));
    if (!theta.ok())
      return theta.status();
    const double base = theta->value_or(10000.0);
    if (!(base > 1) || base > 1e30)
      return absl::InvalidArgumentError(
          cat(file.path(), ": metadata '", key("rope.freq_base"), "' is ", base, ", expected more than 1"));
    facts["rope_theta"] = base;
    return absl::OkStatus();
  }

  absl::Status makeRopeScaling() {
    absl::StatusOr<std::optional<std::string>> type = file.text(key("rope.scaling.type"));
    if (!type.ok())
      return type.status();
    nlohmann::json scaling = {{"rope_type", type->value_or("none")}};
    struct Key {
      const char *to;
      const char *from;
    };
    for (const Key &number :
         {Key{"factor", "rope.scaling.factor"}, Key{"beta_fast", "rope.scaling.yarn_beta_fast"},
          Key{"beta_slow", "rope.scaling.yarn_beta_slow"}, Key{"mscale_all_dim", "rope.scaling.yarn_log_multiplier"},
          Key{"llama_4_scaling_beta", "attention.temperature_scale"}}) {
      absl::StatusOr<std::optional<double>> value = file.real(key(number.from));
      if (!value.ok())
        return value.status();
      if (value->has_value())
        scaling[number.to] = **value;
    }
    // llama.cpp's multiplier of YaRN's usual attention factor; with a log multiplier both cancel.
    absl::StatusOr<std::optional<double>> multiplier = file.real(key("rope.scaling.attn_factor"));
    if (!multiplier.ok())
      return multiplier.status();
    if (scaling.contains("mscale_all_dim"))
      scaling["mscale"] = 1.0;
    else if (multiplier->value_or(1) != 1 && scaling.contains("factor") && scaling["factor"].get<double>() >= 1)
      scaling["attention_factor"] = **multiplier * (1 + 0.1 * std::log(scaling["factor"].get<double>()));
    absl::StatusOr<std::optional<int64_t>> original = uniform("rope.scaling.original_context_length");
    if (!original.ok())
      return original.status();
    if (original->has_value())
      scaling["original_max_position_embeddings"] = **original;
    // An old key for the same thing as linear scaling.
    absl::StatusOr<std::optional<double>> linear = file.real(key("rope.scale_linear"));
    if (!linear.ok())
      return linear.status();
    if (linear->has_value() && **linear != 1.0 && scaling["rope_type"] == "none") {
      scaling["rope_type"] = "linear";
      scaling["factor"] = **linear;
    }
    if (scaling["rope_type"] != "none")
      facts["rope_scaling"] = std::move(scaling);
    return absl::OkStatus();
  }

  // What Gemma 3 says beside: its layers with a window rotate by a theta of their own. Which layers those are, and what
  // queries are scaled by, converters do not write; llama.cpp knows it of the releases.
  absl::Status makeWindows() {
    if (!architecture.postNorms)
      return absl::OkStatus();
    absl::StatusOr<std::optional<double>> local = file.real(key("rope.freq_base_swa"));
    if (!local.ok())
      return local.status();
    facts["rope_local_base_freq"] = local->value_or(10000.0);
    facts["dtype"] = "float32"; // llama.cpp computes in it whatever the file stores, so factors are not rounded
    constexpr int64_t kLayersOf27B = 62;
    const int64_t hidden = facts["hidden_size"], heads = facts["num_attention_heads"];
    facts["query_pre_attn_scalar"] = facts["num_hidden_layers"] == kLayersOf27B
                                         ? static_cast<double>(hidden) / static_cast<double>(heads)
                                         : facts["head_dim"].get<double>();
    for (const auto &[to, from] : {std::pair("final_logit_softcapping", "final_logit_softcapping"),
                                   std::pair("attn_logit_softcapping", "attn_logit_softcapping")}) {
      absl::StatusOr<std::optional<double>> value = file.real(key(from));
      if (!value.ok())
        return value.status();
      if (value->value_or(0) != 0)
        facts[to] = **value;
    }
    return absl::OkStatus();
  }

  absl::Status makeTensorFacts() {
    const auto find = [&](std::string_view name) {
      const auto found =
          std::find_if(file.tensors().begin(), file.tensors().end(), [&](const auto &t) { return t.name == name; });
      return found == file.tensors().end() ? nullptr : &*found;
    };
    const GgufTensor *embedding = find("token_embd.weight");
    if (!embedding)
      return absl::InvalidArgumentError(cat(file.path(), ": tensor 'token_embd.weight' is missing"));
    facts["vocab_size"] = embedding->shape.front();
    facts["tie_word_embeddings"] = find("output.weight") == nullptr;
    facts["attention_bias"] = find("blk.0.attn_q.bias") != nullptr;
    facts["mlp_bias"] = find("blk.0.ffn_gate.bias") != nullptr;
    return absl::OkStatus();
  }

  const GgufFile &file;
  const GgufArchitecture &architecture;
  std::set<std::string> names;
  nlohmann::json facts = nlohmann::json::object();
};

// Rotate-half row h*(D/2)+i of a head is row 2i+h of the file.
std::vector<uint32_t> pairedRows(uint64_t heads, uint64_t headSize) {
  std::vector<uint32_t> rows;
  rows.reserve(heads * headSize);
  for (uint64_t h = 0; h < heads; ++h)
    for (uint64_t i = 0; i < headSize; ++i)
      rows.push_back(static_cast<uint32_t>(h * headSize + 2 * (i % (headSize / 2)) + i / (headSize / 2)));
  return rows;
}

// `first` in order, then heads of `size`: value head k * shared + i of key head k is head i * keyHeads + k of the file.
std::vector<uint32_t> tiledHeads(uint64_t first, uint64_t keyHeads, uint64_t shared, uint64_t size) {
  std::vector<uint32_t> order(first);
  std::iota(order.begin(), order.end(), 0U);
  order.reserve(first + keyHeads * shared * size);
  for (uint64_t k = 0; k < keyHeads; ++k)
    for (uint64_t i = 0; i < shared; ++i)
      for (uint64_t d = 0; d < size; ++d)
        order.push_back(static_cast<uint32_t>(first + (i * keyHeads + k) * size + d));
  return order;
}

} // namespace

absl::StatusOr<const GgufArchitecture *> findGgufArchitecture(const GgufFile &file) {
  absl::StatusOr<std::optional<std::string>> name = file.text("general.architecture");
  if (!name.ok())
    return name.status();
  if (!name->has_value())
    return absl::InvalidArgumentError(cat(file.path(), ": metadata 'general.architecture' is missing"));
  std::string known;
  for (const GgufArchitecture &architecture : kArchitectures) {
    if (**name == architecture.name)
      return &architecture;
    known += cat(known.empty() ? "" : ", ", "'", architecture.name, "'");
  }
  return absl::InvalidArgumentError(cat(file.path(), ": unknown architecture '", printable(**name),
                                        "'; GGUF files of architecture ", known, " are read"));
}

absl::StatusOr<nlohmann::json> readGgufConfig(const GgufFile &file, const GgufArchitecture &architecture) {
  return architecture.fourth ? readGemma4Config(file) : ConfigMaker(file, architecture).make();
}

absl::StatusOr<GgufPlace> placeGgufTensor(const GgufFile &file, const GgufTensor &tensor,
                                          const GgufArchitecture &architecture, const nlohmann::json &config) {
  GgufPlace place;
  place.name = huggingFaceName(tensor.name, config.at("num_hidden_layers").get<uint64_t>(), architecture.postNorms);
  const auto number = [&](const char *key) { return config.at(key).get<uint64_t>(); };
  const auto is = [&](std::string_view part) { return place.name.find(part) != std::string::npos; };
  const auto refuse = [&](uint64_t found, const char *what, uint64_t expected) {
    return absl::InvalidArgumentError(cat(file.path(), ": tensor '", printable(tensor.name), "' has ", found, " ", what,
                                          ", expected ", expected, " by the metadata"));
  };
  if (architecture.pairedHeads)
    for (const auto &[part, count] :
         {std::pair<std::string_view, const char *>{".self_attn.q_proj.", "num_attention_heads"},
          {".self_attn.k_proj.", "num_key_value_heads"}})
      if (is(part)) {
        const uint64_t rows = number(count) * number("head_dim");
        if (tensor.shape.size() > 2 || tensor.shape.front() != rows)
          return refuse(tensor.shape.front(), "rows", rows);
        place.rows = pairedRows(number(count), number("head_dim"));
      }
  if (architecture.postNorms && !architecture.fourth)
    place.converted = place.name.ends_with("norm.weight");
  if (!architecture.hybrid)
    return place;
  place.converted =
      is(".A_log") || is("mtp.pre_fc_norm_") || (place.name.ends_with("norm.weight") && !is(".linear_attn.norm."));
  const uint64_t keyHeads = number("linear_num_key_heads"), valueHeads = number("linear_num_value_heads");
  if (!architecture.tiledValueHeads || keyHeads == valueHeads)
    return place;
  const uint64_t size = number("linear_value_head_dim"), keys = 2 * keyHeads * number("linear_key_head_dim");
  const auto tile = [&](uint64_t first, uint64_t headSize, bool columns) -> absl::Status {
    const uint64_t expected = first + valueHeads * headSize,
                   found = columns ? tensor.shape.back() : tensor.shape.front();
    if (tensor.shape.size() > 2 || found != expected)
      return refuse(found, columns ? "columns" : "rows", expected);
    (columns ? place.columns : place.rows) = tiledHeads(first, keyHeads, valueHeads / keyHeads, headSize);
    return absl::OkStatus();
  };
  absl::Status status;
  if (is(".linear_attn.in_proj_qkv.") || is(".linear_attn.conv1d."))
    status = tile(keys, size, false);
  else if (is(".linear_attn.in_proj_z."))
    status = tile(0, size, false);
  else if (is(".linear_attn.in_proj_b.") || is(".linear_attn.in_proj_a.") || is(".A_log") || is(".dt_bias"))
    status = tile(0, 1, false);
  else if (is(".linear_attn.out_proj."))
    status = tile(0, size, true);
  if (!status.ok())
    return status;
  return place;
}

} // namespace ingot
