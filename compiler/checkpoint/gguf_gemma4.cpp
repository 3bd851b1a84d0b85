// The configuration of a Gemma 4 in a GGUF, whose layers differ from one another: windows, KV heads and the width of
// the MLP are arrays in the metadata, heads have one size with a window and another without, and rope_freqs.weight
// divides the frequencies that the global layers do not rotate by away. Sources: the `gguf` package's names of tensors
// and keys, and what llama.cpp reads of them.
#include <algorithm>
#include <set>

#include "compiler/checkpoint/gguf_model.h"
#include "compiler/checkpoint/message.h"

namespace ingot {
namespace {

class Gemma4Config {
public:
  explicit Gemma4Config(const GgufFile &file) : file(file) {
    for (const GgufTensor &tensor : file.tensors())
      names.insert(tensor.name);
  }

  absl::StatusOr<nlohmann::json> make() {
    for (absl::Status (Gemma4Config::*step)() :
         {&Gemma4Config::readNumbers, &Gemma4Config::readReals, &Gemma4Config::readLayers, &Gemma4Config::readWidths,
          &Gemma4Config::readExtras, &Gemma4Config::readRotation})
      if (absl::Status status = (this->*step)(); !status.ok())
        return status;
    return std::move(facts);
  }

private:
  static std::string key(std::string_view name) { return cat("gemma4.", name); }
  absl::Status wrong(std::string_view name, std::string_view what) const {
    return absl::InvalidArgumentError(cat(file.path(), ": metadata '", key(name), "' ", what));
  }

  // One number a layer; a single one stands for all.
  absl::StatusOr<std::vector<int64_t>> eachLayer(std::string_view name) const {
    absl::StatusOr<std::optional<std::vector<int64_t>>> values = file.integers(key(name));
    if (!values.ok())
      return values.status();
    if (!values->has_value() || (*values)->empty())
      return wrong(name, "is missing");
    std::vector<int64_t> numbers = **values;
    if (numbers.size() == 1)
      numbers.resize(layers, numbers.front());
    if (numbers.size() != layers)
      return wrong(name, cat("has ", numbers.size(), " numbers for ", layers, " layers"));
    if (std::any_of(numbers.begin(), numbers.end(), [](int64_t n) { return n < 0 || n > INT32_MAX; }))
      return wrong(name, "holds a number outside 0 to 2^31-1");
    return numbers;
  }

  absl::Status readNumbers() {
    facts = {{"model_type", "gemma4_text"}, {"hidden_act", "gelu_pytorch_tanh"}, {"attention_bias", false}};
    facts["dtype"] = "float32"; // llama.cpp computes in it whatever the file stores, so factors are not rounded
    struct Key {
      const char *to, *from;
      bool required = true;
    };
    for (const Key &number :
         {Key{"num_hidden_layers", "block_count"}, Key{"hidden_size", "embedding_length"},
          Key{"num_attention_heads", "attention.head_count"}, Key{"max_position_embeddings", "context_length"},
          Key{"head_dim", "attention.key_length_swa"}, Key{"global_head_dim", "attention.key_length"},
          Key{"sliding_window", "attention.sliding_window"}, Key{"num_experts", "expert_count", false},
          Key{"top_k_experts", "expert_used_count", false},
          Key{"moe_intermediate_size", "expert_feed_forward_length", false},
          Key{"hidden_size_per_layer_input", "embedding_length_per_layer_input", false},
          Key{"num_kv_shared_layers", "attention.shared_kv_layers", false}}) {
      absl::StatusOr<std::optional<std::vector<int64_t>>> values = file.integers(key(number.from));
      if (!values.ok())
        return values.status();
      const std::vector<int64_t> found = values->value_or(std::vector<int64_t>{});
      if (std::adjacent_find(found.begin(), found.end(), std::not_equal_to<>()) != found.end())
        return wrong(number.from, "differs from layer to layer, which this architecture does not have");
      if (found.empty() ? number.required : found.front() < (number.required ? 1 : 0) || found.front() > INT32_MAX)
        return wrong(number.from, found.empty() ? "is missing" : "is out of range");
      facts[number.to] = found.empty() ? 0 : found.front();
    }
    layers = facts["num_hidden_layers"].get<size_t>();
    if (layers > file.tensors().size())
      return absl::InvalidArgumentError(
          cat(file.path(), ": ", layers, " layers, and only ", file.tensors().size(), " tensors"));
    facts["enable_moe_block"] = facts["num_experts"] != 0;
    for (const auto &[of, same] :
         {std::pair("attention.value_length", "global_head_dim"), std::pair("attention.value_length_swa", "head_dim"),
          std::pair("rope.dimension_count", "global_head_dim"), std::pair("rope.dimension_count_swa", "head_dim")}) {
      absl::StatusOr<std::optional<int64_t>> value = file.integer(key(of));
      if (!value.ok())
        return value.status();
      if (value->has_value() && **value != facts[same])
        return absl::UnimplementedError(cat(file.path(), ": metadata '", key(of), "' is ", **value, ", expected ",
                                            facts[same].get<int64_t>(), ", the size of keys"));
    }
    return absl::OkStatus();
  }

  absl::Status readReals() {
    struct Key {
      const char *to, *from;
      double otherwise;
    };
    for (const Key &number :
         {Key{"rms_norm_eps", "attention.layer_norm_rms_epsilon", -1},
          Key{"final_logit_softcapping", "final_logit_softcapping", 0}, Key{"global_theta", "rope.freq_base", 1e6},
          Key{"local_theta", "rope.freq_base_swa", 1e4}}) {
      absl::StatusOr<std::optional<double>> value = file.real(key(number.from));
      if (!value.ok())
        return value.status();
      if (const double found = value->value_or(number.otherwise); found >= 0 && found < 1e30)
        facts[number.to] = found;
      else
        return wrong(number.from, "is missing, or no positive number");
    }
    if (facts["final_logit_softcapping"] == 0)
      facts.erase("final_logit_softcapping");
    return absl::OkStatus();
  }

  bool has(size_t layer, const char *part) const { return names.contains(cat("blk.", layer, ".", part)); }

  absl::Status readLayers() {
    absl::StatusOr<std::vector<int64_t>> heads = eachLayer("attention.head_count_kv");
    if (!heads.ok())
      return heads.status();
    constexpr char kPattern[] = "attention.sliding_window_pattern";
    const GgufValue *windowed = file.find(key(kPattern));
    if (!windowed || windowed->type != GgufType::Array || windowed->element != GgufType::Bool ||
        windowed->count != layers)
      return wrong(kPattern, cat("should be an array of ", layers, " booleans"));
    facts["layer_types"] = nlohmann::json::array();
    facts["per_layer_config"] = nlohmann::json::object();
    facts["num_key_value_heads"] = heads->front();
    bool keysAreValues = false;
    for (size_t i = 0; i < layers; ++i) {
      const bool window = windowed->payload[i] != 0;
      facts["layer_types"].push_back(window ? "sliding_attention" : "full_attention");
      facts["per_layer_config"][std::to_string(i)] = {{"head_dim", facts[window ? "head_dim" : "global_head_dim"]},
                                                      {"num_key_value_heads", (*heads)[i]}};
      keysAreValues |= !window && has(i, "attn_k.weight") && !has(i, "attn_v.weight");
    }
    facts["attention_k_eq_v"] = keysAreValues;
    return absl::OkStatus();
  }

  // The layers that share keys may have MLPs of twice the width.
  absl::Status readWidths() {
    absl::StatusOr<std::vector<int64_t>> widths = eachLayer("feed_forward_length");
    if (!widths.ok())
      return widths.status();
    const int64_t width = widths->front(), last = widths->back();
    const size_t sharing = std::min(layers, facts["num_kv_shared_layers"].get<size_t>());
    for (size_t i = 0; i < layers; ++i)
      if ((*widths)[i] != (i < layers - sharing ? width : last))
        return absl::UnimplementedError(cat(file.path(), ": metadata '", key("feed_forward_length"), "' is ",
                                            (*widths)[i], " in layer ", i,
                                            ", expected one width for the layers with "
                                            "keys of their own and one for those without"));
    if (last != width && last != 2 * width)
      return absl::UnimplementedError(cat(file.path(), ": metadata '", key("feed_forward_length"), "' is ", width,
                                          " and then ", last, ", expected the same or twice as much"));
    facts["intermediate_size"] = width;
    facts["use_double_wide_mlp"] = last != width;
    return absl::OkStatus();
  }

  const GgufTensor *find(std::string_view name) const {
    const auto found = std::find_if(file.tensors().begin(), file.tensors().end(),
                                    [&](const GgufTensor &tensor) { return tensor.name == name; });
    return found == file.tensors().end() ? nullptr : &*found;
  }

  absl::Status readExtras() {
    const GgufTensor *embedding = find("token_embd.weight");
    if (!embedding)
      return absl::InvalidArgumentError(cat(file.path(), ": tensor 'token_embd.weight' is missing"));
    facts["vocab_size"] = embedding->shape.front();
    facts["tie_word_embeddings"] = !names.contains("output.weight");
    const GgufTensor *inputs = find("per_layer_token_embd.weight");
    facts["vocab_size_per_layer_input"] = (inputs ? inputs : embedding)->shape.front();
    return absl::OkStatus();
  }

  // Of a global layer's frequencies some are kept and the rest divided by 1e30: they do not rotate.
  absl::Status readRotation() {
    const auto size = facts["global_head_dim"].get<uint64_t>();
    double kept = 1;
    if (std::find(facts["layer_types"].begin(), facts["layer_types"].end(), "full_attention") !=
        facts["layer_types"].end()) {
      const GgufTensor *divisors = find("rope_freqs.weight");
      if (!divisors)
        return absl::InvalidArgumentError(cat(file.path(),
                                              ": tensor 'rope_freqs.weight' is missing, which says how much "
                                              "of a head the global layers rotate"));
      if (divisors->shape != std::vector<uint64_t>{size / 2} || size % 2 != 0)
        return absl::InvalidArgumentError(
            cat(file.path(), ": tensor 'rope_freqs.weight' should hold ", size / 2, " divisors, half a global head"));
      std::vector<float> values(size / 2);
      divisors->storage->decode(file.tensorBytes(*divisors).data(), values.size(), values.data());
      const auto end = std::find_if(values.begin(), values.end(), [](float value) { return value != 1; });
      if (std::any_of(end, values.end(), [](float value) { return !(value >= 1e29F); }))
        return absl::UnimplementedError(cat(file.path(),
                                            ": tensor 'rope_freqs.weight' should hold 1 for the frequencies "
                                            "that rotate and 1e30 for those after them"));
      kept = static_cast<double>(end - values.begin()) / static_cast<double>(values.size());
    }
    facts["rope_parameters"] = {
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", facts["local_theta"]}}},
        {"full_attention",
         {{"rope_type", "proportional"}, {"partial_rotary_factor", kept}, {"rope_theta", facts["global_theta"]}}}};
    for (const char *done : {"global_theta", "local_theta", "global_head_dim"})
      facts.erase(done);
    return absl::OkStatus();
  }

  const GgufFile &file;
  std::set<std::string> names; // of the file's tensors
  size_t layers = 0;
  nlohmann::json facts;
};

} // namespace

absl::StatusOr<nlohmann::json> readGemma4Config(const GgufFile &file) { return Gemma4Config(file).make(); }

} // namespace ingot
