// params.json, the configuration of Mistral's own folders, in the words of Hugging Face's config.json. What the format
// leaves out has the meaning that Mistral's own inference code gives it: no theta is 1e6, or 1e4 beside a window.
#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

using nlohmann::json;

class Params {
public:
  Params(const std::string &where, const json &params) : where(where), params(params) {}

  absl::StatusOr<json> read() {
    for (const auto &step : {&Params::refuse, &Params::readSizes, &Params::readRotation, &Params::readQuantization})
      if (absl::Status status = (this->*step)(); !status.ok())
        return status;
    return std::move(facts);
  }

private:
  const json &at(const char *key) const { return in(params, key); }
  static const json &in(const json &object, const char *key) {
    static const json null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
  }
  absl::Status wrong(std::string_view key, std::string_view what) const {
    return absl::InvalidArgumentError(cat(where, ": '", key, "' ", what));
  }

  absl::Status refuse() {
    if (!params.is_object())
      return absl::InvalidArgumentError(cat(where, ": expected a JSON object"));
    for (const char *key : {"moe", "q_lora_rank", "kv_lora_rank"})
      if (!at(key).is_null())
        return absl::UnimplementedError(
            cat(where, ": '", key, "' is set, which belongs to models of other kinds than Mistral and Ministral 3"));
    if (const json &kind = at("model_type"); !kind.is_null() && kind != "transformer")
      return absl::UnimplementedError(cat(where, ": 'model_type' should be \"transformer\""));
    if (const json &activation = at("activation"); !activation.is_null() && activation != "silu")
      return absl::UnimplementedError(cat(where, ": 'activation' should be \"silu\""));
    return absl::OkStatus();
  }

  // Copies the number `from` of `object` to `to`.
  absl::Status copy(const json &object, const char *from, json &into, const char *to, bool required) const {
    const json &value = in(object, from);
    if (value.is_null() && !required)
      return absl::OkStatus();
    if (!value.is_number())
      return wrong(from, value.is_null() ? "is missing" : "should be a number");
    into[to] = value;
    return absl::OkStatus();
  }

  absl::Status readSizes() {
    facts["hidden_act"] = "silu";
    facts["tie_word_embeddings"] = at("tied_embeddings") == true;
    struct Key {
      const char *from, *to;
      bool required = true;
    };
    for (const Key &key :
         {Key{"dim", "hidden_size"}, Key{"n_layers", "num_hidden_layers"}, Key{"hidden_dim", "intermediate_size"},
          Key{"n_heads", "num_attention_heads"}, Key{"n_kv_heads", "num_key_value_heads", false},
          Key{"head_dim", "head_dim"}, Key{"norm_eps", "rms_norm_eps"}, Key{"vocab_size", "vocab_size"},
          Key{"max_seq_len", "max_position_embeddings", false},
          Key{"max_position_embeddings", "max_position_embeddings", false},
          Key{"sliding_window", "sliding_window", false}})
      if (absl::Status status = copy(params, key.from, facts, key.to, key.required); !status.ok())
        return status;
    constexpr int kContextOfOldFiles = 32768; // of the releases whose params.json has neither key
    facts.emplace("max_position_embeddings", kContextOfOldFiles);
    facts.emplace("num_key_value_heads", facts["num_attention_heads"]);
    return absl::OkStatus();
  }

  absl::Status readRotation() {
    facts["rope_theta"] = facts.contains("sliding_window") ? 1e4 : 1e6;
    if (absl::Status status = copy(params, "rope_theta", facts, "rope_theta", false); !status.ok())
      return status;
    const json &yarn = at("yarn"), &scaled = at("llama_4_scaling");
    facts["model_type"] = yarn.is_null() && scaled.is_null() ? "mistral" : "ministral3";
    if (yarn.is_null() && scaled.is_null())
      return absl::OkStatus();
    if (!yarn.is_object())
      return wrong("yarn", "should be an object, also beside 'llama_4_scaling'");
    json rope = {{"rope_type", "yarn"}, {"rope_theta", facts["rope_theta"]}};
    struct Key {
      const char *from, *to;
    };
    for (const Key &key :
         {Key{"factor", "factor"}, Key{"original_max_position_embeddings", "original_max_position_embeddings"},
          Key{"beta", "beta_fast"}, Key{"alpha", "beta_slow"}})
      if (absl::Status status = copy(yarn, key.from, rope, key.to, true); !status.ok())
        return status;
    // Whether attention is scaled by YaRN's factor; where it is not, Hugging Face has two that cancel.
    if (in(yarn, "apply_scale") != true)
      rope["mscale"] = rope["mscale_all_dim"] = 1.0;
    if (!scaled.is_null()) {
      if (!scaled.is_object())
        return wrong("llama_4_scaling", "should be an object");
      if (absl::Status status = copy(scaled, "beta", rope, "llama_4_scaling_beta", true); !status.ok())
        return status;
      if (in(scaled, "original_max_position_embeddings") != rope["original_max_position_embeddings"])
        return wrong("llama_4_scaling", "should have the 'original_max_position_embeddings' of 'yarn'");
    }
    facts["rope_parameters"] = std::move(rope);
    return absl::OkStatus();
  }

  absl::Status readQuantization() {
    const json &quantization = at("quantization");
    if (quantization.is_null())
      return absl::OkStatus();
    const json &activations = quantization.is_object() ? in(quantization, "qscheme_act") : quantization;
    const bool dynamic = activations == "NO_SCALES";
    if (!quantization.is_object() || in(quantization, "qformat_weight") != "fp8_e4m3" ||
        !(dynamic || activations.is_null() || activations == "TENSOR"))
      return absl::UnimplementedError(cat(where, ": 'quantization' should have the 'qformat_weight' fp8_e4m3 and the "
                                                 "'qscheme_act' TENSOR or NO_SCALES"));
    facts["quantization_config"] = {{"quant_method", "fp8"}, {"activation_scheme", dynamic ? "dynamic" : "static"}};
    return absl::OkStatus();
  }

  const std::string &where;
  const json &params;
  json facts = json::object();
};

} // namespace

absl::StatusOr<json> readMistralParams(const std::string &where, const json &params) {
  return Params(where, params).read();
}

} // namespace ingot
