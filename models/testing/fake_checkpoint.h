// A checkpoint in memory, for unit tests: a configuration, and tensors whose values the test gives or a seed
// determines.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "compiler/checkpoint/checkpoint.h"

namespace ingot {

class FakeCheckpoint : public Checkpoint {
public:
  explicit FakeCheckpoint(nlohmann::json config) : config_(std::move(config)) {}

  /// A small Llama: hidden 32, 2 layers, 2 heads of 16 over 1 kv head, 48 intermediate, vocabulary 40, untied.
  static nlohmann::json smallConfig() {
    return {{"model_type", "llama"},
            {"hidden_size", 32},
            {"intermediate_size", 48},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 2},
            {"num_key_value_heads", 1},
            {"vocab_size", 40},
            {"rms_norm_eps", 1e-5},
            {"max_position_embeddings", 128},
            {"tie_word_embeddings", false},
            {"eos_token_id", 2}};
  }
  /// All tensors that smallConfig asks for, filled from their names.
  static FakeCheckpoint small() {
    FakeCheckpoint checkpoint(smallConfig());
    checkpoint.fill("model.embed_tokens.weight", {40, 32});
    for (const char *layer : {"model.layers.0.", "model.layers.1."}) {
      const std::string prefix = layer;
      checkpoint.fill(prefix + "input_layernorm.weight", {32});
      checkpoint.fill(prefix + "self_attn.q_proj.weight", {32, 32});
      checkpoint.fill(prefix + "self_attn.k_proj.weight", {16, 32});
      checkpoint.fill(prefix + "self_attn.v_proj.weight", {16, 32});
      checkpoint.fill(prefix + "self_attn.o_proj.weight", {32, 32});
      checkpoint.fill(prefix + "post_attention_layernorm.weight", {32});
      checkpoint.fill(prefix + "mlp.gate_proj.weight", {48, 32});
      checkpoint.fill(prefix + "mlp.up_proj.weight", {48, 32});
      checkpoint.fill(prefix + "mlp.down_proj.weight", {32, 48});
    }
    checkpoint.fill("model.norm.weight", {32});
    checkpoint.fill("lm_head.weight", {40, 32});
    return checkpoint;
  }

  nlohmann::json &editConfig() { return config_; }

  void set(const std::string &name, std::vector<uint64_t> shape, std::vector<float> values) {
    erase(name);
    tensors_.push_back({name, std::move(shape), "F32"});
    values_[name] = std::move(values);
  }
  /// Values between -1 and 1 by a linear congruence that starts from the name.
  void fill(const std::string &name, std::vector<uint64_t> shape) {
    uint64_t count = 1;
    for (uint64_t size : shape)
      count *= size;
    uint32_t state = 1;
    for (char c : name)
      state = state * 31 + static_cast<unsigned char>(c);
    std::vector<float> values(count);
    for (float &value : values) {
      state = state * 1664525 + 1013904223;
      value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
    }
    set(name, std::move(shape), std::move(values));
  }
  void erase(const std::string &name) {
    std::erase_if(tensors_, [&](const TensorInfo &tensor) { return tensor.name == name; });
    values_.erase(name);
  }

  const std::vector<TensorInfo> &tensors() const override { return tensors_; }
  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    auto found = values_.find(tensor.name);
    const uint64_t columns = tensor.columns();
    if (found == values_.end() || out.size() != count * columns || (first + count) * columns > found->second.size())
      return absl::InvalidArgumentError("no such rows");
    std::copy_n(found->second.begin() + static_cast<int64_t>(first * columns), out.size(), out.begin());
    return absl::OkStatus();
  }
  const nlohmann::json &config() const override { return config_; }
  const TokenizerData &tokenizer() const override { return tokenizer_; }
  uint64_t digest() const override { return 0; }
  std::string sourceName() const override { return "fake"; }

private:
  nlohmann::json config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<float>> values_;
  TokenizerData tokenizer_;
};

} // namespace ingot
