// The Llama architecture: pre-norm blocks of grouped-query attention with rotary positions, and SwiGLU. Per layer:
//   h += o(attention(rope(q(a)), rope(k(a)), v(a))), a = norm(h);   h += down(silu(gate(m)) * up(m)), m = norm(h)
// The width of q is heads * head_dim, whatever the hidden size is.
#include "models/mistral/mistral.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "models/decoder.h"
#include "models/rope.h"

namespace ingot {

namespace {

// llama.cpp's exports of llama3 scaling carry it as a tensor of divisors instead of in the configuration.
constexpr char divisorTensor[] = "rope_freqs.weight";

absl::Status divideFrequencies(const Checkpoint &checkpoint, std::vector<float> &frequencies) {
  const TensorInfo *tensor = checkpoint.find(divisorTensor);
  if (!tensor)
    return absl::OkStatus();
  if (tensor->shape != std::vector<uint64_t>{frequencies.size()})
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.sourceName(), ": tensor \"", divisorTensor,
                                                   "\" should hold ", frequencies.size(),
                                                   " divisors, half the head dimension"));
  std::vector<float> divisors(frequencies.size());
  if (auto status = checkpoint.readRows(*tensor, 0, 1, divisors); !status.ok())
    return status;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    if (!std::isfinite(divisors[i]) || divisors[i] <= 0)
      return absl::InvalidArgumentError(absl::StrCat(checkpoint.sourceName(), ": tensor \"", divisorTensor,
                                                     "\" should hold positive divisors, got ", divisors[i], " at ", i));
    frequencies[i] /= divisors[i];
  }
  return absl::OkStatus();
}

struct Extras {
  int64_t intermediate, window;
  bool attentionBias, mlpBias;
};

class Mistral : public Decoder {
public:
  Mistral(mlir::ModuleOp module, const Checkpoint &checkpoint, const DecoderShape &shape, const Extras &extras,
          const Rotary &rotary)
      : Decoder(module, checkpoint, shape), extras_(extras), rotary_(rotary) {
    declareEnds();
    inverseFrequencies_ = weights_.constant("rope.inv_freq", rotary.frequencies);
    weights_.skip("model.rotary_emb.inv_freq");
    weights_.use(divisorTensor);
    // Text only. What is left out is listed in the artifact.
    for (const char *prefix : {"vision_tower.", "multi_modal_projector.", "vision_encoder.", "vision_language_adapter.",
                               "patch_merger.", "pre_mm_projector_norm."}) {
      weights_.skipAll(prefix);
      weights_.skipAll(absl::StrCat("model.", prefix));
    }
    for (int64_t i = 0; i < shape.layers; ++i)
      layers_.push_back(declareLayer(absl::StrCat("layers.", i)));
  }

private:
  struct Layer {
    std::string name; // "layers.3"
    mlir::FlatSymbolRefAttr inputNorm, postNorm;
    Linear q, k, v, o, gate, up, down;
    Cache cache;
  };

  Layer declareLayer(const std::string &name) {
    const int64_t hidden = shape_.hidden, queries = shape_.heads * shape_.headDim,
                  keys = shape_.kvHeads * shape_.headDim;
    const std::string prefix = absl::StrCat("model.", name, ".");
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    Layer layer;
    layer.name = name;
    layer.inputNorm = weights_.declare(prefix + "input_layernorm.weight", {hidden});
    layer.q = linear(attention + "q_proj", queries, hidden, extras_.attentionBias);
    layer.k = linear(attention + "k_proj", keys, hidden, extras_.attentionBias);
    layer.v = linear(attention + "v_proj", keys, hidden, extras_.attentionBias);
    layer.o = linear(attention + "o_proj", hidden, queries, extras_.attentionBias);
    layer.postNorm = weights_.declare(prefix + "post_attention_layernorm.weight", {hidden});
    layer.gate = linear(mlp + "gate_proj", extras_.intermediate, hidden, extras_.mlpBias);
    layer.up = linear(mlp + "up_proj", extras_.intermediate, hidden, extras_.mlpBias);
    layer.down = linear(mlp + "down_proj", hidden, extras_.intermediate, extras_.mlpBias);
    layer.cache = cache(name);
    weights_.skip(attention + "rotary_emb.inv_freq");
    return layer;
  }

  mlir::Value layers(mlir::Value x) override {
    for (const Layer &layer : layers_)
      x = block(layer, x);
    return x;
  }

  mlir::Value block(const Layer &layer, mlir::Value x) {
    const auto name = [&](const char *part) { return absl::StrCat(layer.name, ".", part); };
    mlir::Value a = norm(x, layer.inputNorm, name("input_layernorm"));
    mlir::Value q = apply(layer.q, a, name("self_attn.q_proj"), f32());
    mlir::Value k = apply(layer.k, a, name("self_attn.k_proj"), f32());
    mlir::Value v = apply(layer.v, a, name("self_attn.v_proj"), bf16());
    q = rope(q, inverseFrequencies_, rotary_, shape_.heads, /*queries=*/true, name("self_attn.q_rope"));
    k = rope(k, inverseFrequencies_, rotary_, shape_.kvHeads, /*queries=*/false, name("self_attn.k_rope"));
    mlir::Value attended = attend(q, k, v, layer.cache, extras_.window, name("self_attn"));
    x = add(x, apply(layer.o, attended, name("self_attn.o_proj"), f32()), name("self_attn.add"));
    mlir::Value m = norm(x, layer.postNorm, name("post_attention_layernorm"));
    mlir::Value gate = apply(layer.gate, m, name("mlp.gate_proj"), f32());
    mlir::Value up = apply(layer.up, m, name("mlp.up_proj"), f32());
    mlir::Value product = gatedMul(llm::Gate::Silu, gate, up, bf16(), name("mlp.gated_mul"));
    return add(x, apply(layer.down, product, name("mlp.down_proj"), f32()), name("mlp.add"));
  }

  Extras extras_;
  Rotary rotary_;
  std::vector<Layer> layers_;
  mlir::FlatSymbolRefAttr inverseFrequencies_;
};

} // namespace

absl::Status declareMistral(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options) {
  ConfigReader config(checkpoint.config(), absl::StrCat("configuration of ", checkpoint.sourceName()));
  DecoderShape shape = readDecoderShape(config, checkpoint);
  Extras extras = {.intermediate = config.integer("intermediate_size", 1, mostWidth),
                   .window = config.integerOr("sliding_window", 0, 1, mostContext),
                   .attentionBias = config.booleanOr("attention_bias", false),
                   .mlpBias = config.booleanOr("mlp_bias", false)};
  if (!config.status().ok())
    return config.status();
  Rotary rotary = readRotary(config, shape.headDim);
  if (!config.status().ok())
    return config.status();
  if (auto status = divideFrequencies(checkpoint, rotary.frequencies); !status.ok())
    return status;
  return Mistral(module, checkpoint, shape, extras, rotary).finish(config, options);
}

} // namespace ingot
