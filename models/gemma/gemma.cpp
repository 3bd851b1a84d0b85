// Norms before and after attention and MLP; most layers see a window and rotate by frequencies of their own. Per layer,
// with n for a norm:
//   h += n(o(attention(rope(n(q(a))), rope(n(k(a))), v(a)))), a = n(h);   h += n(down(gelu(gate(m)) * up(m))), m = n(h)
// Gemma 4 normalises v too, without a weight; adds experts to the MLP, a gated input of the token's own, and a factor
// at the end of each layer, where the configuration has them. Sources: transformers' models gemma3 and gemma4.
#include "models/gemma/gemma.h"

#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "models/gemma/shape.h"

namespace ingot {

namespace {

class Gemma : public Decoder {
public:
  Gemma(mlir::ModuleOp module, const Checkpoint &checkpoint, const GemmaShape &shape)
      : Decoder(module, checkpoint, shape.decoder), gemma_(shape) {
    declareEnds();
    if (!shape.local.frequencies.empty())
      local_ = weights_.constant("rope.local.inv_freq", shape.local.frequencies);
    if (!shape.global.frequencies.empty())
      global_ = weights_.constant("rope.inv_freq", shape.global.frequencies);
    if (shape.inputWidth)
      inputs_ = declareInputs();
    for (size_t i = 0; i < shape.layers.size(); ++i)
      layers_.push_back(declareLayer(i));
    weights_.use("rope_freqs.weight"); // a GGUF's, of which its configuration was read
    // Text only. What is left out is listed in the artifact.
    for (const char *tower :
         {"vision_tower.", "multi_modal_projector.", "audio_tower.", "embed_vision.", "embed_audio."})
      for (const char *prefix : {"", "model."})
        weights_.skipAll(absl::StrCat(prefix, tower));
  }

private:
  struct Attention {
    Linear q, k, v, o; // k and v without weight where there is none
    mlir::FlatSymbolRefAttr qNorm, kNorm, ones;
    Cache cache;
  };
  struct Mlp {
    Linear gate, up, down;
  };
  struct Experts {
    mlir::FlatSymbolRefAttr preNorm, postNorm, mlpNorm, routerNorm, factors;
    Linear router;
    mlir::FlatSymbolRefAttr gate, up, down; // [experts, outputs, inputs]
  };
  struct Input {
    Linear gate, projection;
    mlir::FlatSymbolRefAttr norm;
  };
  struct Inputs {
    mlir::FlatSymbolRefAttr table, norm;
    Linear projection;
  };
  struct Layer {
    std::string name; // "layers.3"
    size_t number = 0;
    GemmaLayer kind;
    mlir::FlatSymbolRefAttr inputNorm, attentionNorm, preNorm, postNorm, factor;
    Attention attention;
    Mlp mlp;
    Experts experts;
    Input input;
  };

  mlir::FlatSymbolRefAttr hiddenNorm(const std::string &name) {
    return weights_.declare(name + ".weight", {shape_.hidden});
  }

  Inputs declareInputs() {
    const int64_t all = shape_.layers * gemma_.inputWidth;
    return {.table = weights_.declare("model.embed_tokens_per_layer.weight", {gemma_.inputVocabulary, all}),
            .norm = weights_.declare("model.per_layer_projection_norm.weight", {gemma_.inputWidth}),
            .projection = linear("model.per_layer_model_projection", all, shape_.hidden)};
  }

  Layer declareLayer(size_t number) {
    Layer layer;
    layer.name = absl::StrCat("layers.", number);
    layer.number = number;
    layer.kind = gemma_.layers[number];
    const std::string prefix = absl::StrCat("model.", layer.name, ".");
    layer.inputNorm = hiddenNorm(prefix + "input_layernorm");
    layer.attention = declareAttention(layer, prefix + "self_attn.");
    layer.attentionNorm = hiddenNorm(prefix + "post_attention_layernorm");
    layer.preNorm = hiddenNorm(prefix + "pre_feedforward_layernorm");
    layer.mlp = {.gate = linear(prefix + "mlp.gate_proj", layer.kind.intermediate, shape_.hidden),
                 .up = linear(prefix + "mlp.up_proj", layer.kind.intermediate, shape_.hidden),
                 .down = linear(prefix + "mlp.down_proj", shape_.hidden, layer.kind.intermediate)};
    layer.postNorm = hiddenNorm(prefix + "post_feedforward_layernorm");
    if (gemma_.experts)
      layer.experts = declareExperts(prefix);
    if (gemma_.inputWidth)
      layer.input = {.gate = linear(prefix + "per_layer_input_gate", gemma_.inputWidth, shape_.hidden),
                     .projection = linear(prefix + "per_layer_projection", shape_.hidden, gemma_.inputWidth),
                     .norm = hiddenNorm(prefix + "post_per_layer_input_norm")};
    if (gemma_.fourth)
      layer.factor = weights_.declare(prefix + "layer_scalar", {1});
    return layer;
  }

  Attention declareAttention(const Layer &layer, const std::string &prefix) {
    const HeadShape &heads = layer.kind.heads;
    const bool bias = gemma_.attentionBias;
    Attention attention;
    attention.q = linear(prefix + "q_proj", heads.queryWidth(), shape_.hidden, bias);
    attention.qNorm = weights_.declare(prefix + "q_norm.weight", {heads.headDim});
    attention.o = linear(prefix + "o_proj", shape_.hidden, heads.queryWidth(), bias);
    if (layer.kind.cache) {
      attention.cache = layers_[*layer.kind.cache].attention.cache;
      // Some releases keep what was trained before the cache was shared.
      for (const char *part : {"k_proj.weight", "v_proj.weight", "k_proj.bias", "v_proj.bias", "k_norm.weight"})
        weights_.skip(prefix + part);
      return attention;
    }
    attention.k = linear(prefix + "k_proj", heads.keyWidth(), shape_.hidden, bias);
    if (!layer.kind.keysAreValues)
      attention.v = linear(prefix + "v_proj", heads.keyWidth(), shape_.hidden, bias);
    attention.kNorm = weights_.declare(prefix + "k_norm.weight", {heads.headDim});
    if (gemma_.fourth)
      attention.ones = ones(heads.headDim);
    attention.cache = cache(layer.name, heads);
    return attention;
  }

  Experts declareExperts(const std::string &prefix) {
    const int64_t number = gemma_.experts, width = gemma_.expertWidth, hidden = shape_.hidden;
    Experts experts;
    experts.preNorm = hiddenNorm(prefix + "pre_feedforward_layernorm_2");
    experts.postNorm = hiddenNorm(prefix + "post_feedforward_layernorm_2");
    experts.mlpNorm = hiddenNorm(prefix + "post_feedforward_layernorm_1");
    experts.routerNorm = hiddenNorm(prefix + "router.norm");
    experts.factors = weights_.declare(prefix + "router.per_expert_scale", {number});
    experts.router = linear(prefix + "router.proj", number, hidden);
    experts.gate = weights_.declare(prefix + "experts.gate_proj.weight", {number, width, hidden});
    experts.up = weights_.declare(prefix + "experts.up_proj.weight", {number, width, hidden});
    experts.down = weights_.declare(prefix + "experts.down_proj.weight", {number, hidden, width});
    return experts;
  }

  // The weight of a norm that has none.
  mlir::FlatSymbolRefAttr ones(int64_t width) {
    mlir::FlatSymbolRefAttr &known = ones_[width];
    if (!known)
      known = weights_.constant(absl::StrCat("ones.", width), std::vector<float>(static_cast<size_t>(width), 1.0F));
    return known;
  }

  mlir::Value layers(mlir::Value x) override {
    mlir::Value inputs = gemma_.inputWidth ? ownInputs(x) : mlir::Value();
    for (const Layer &layer : layers_)
      x = block(layer, x, inputs);
    return x;
  }

  // What every layer gets of the token: a row of a table of its own, and a part of the projected embedding.
  //   (norm(projection(h) / sqrt(H)) + table[token] * sqrt(P)) / sqrt(2), a piece of P a layer
  // The norm is indifferent to the factor before it, but for its epsilon; that after the sum is in its weight and the
  // table's scale.
  mlir::Value ownInputs(mlir::Value x) {
    mlir::Value projected =
        apply(inputs_.projection, narrow(x, "per_layer_inputs.narrow"), "per_layer_model_projection", f32());
    const double eps = static_cast<double>(shape_.eps) * static_cast<double>(shape_.hidden);
    projected =
        llm::RmsNormOp::create(builder_, at("per_layer_projection_norm"), projected.getType(), projected, inputs_.norm,
                               builder_.getF32FloatAttr(static_cast<float>(eps)), integer(shape_.layers));
    const double scale = std::sqrt(static_cast<double>(gemma_.inputWidth) / 2);
    mlir::Value rows = llm::EmbedOp::create(builder_, at("embed_tokens_per_layer"), projected.getType(), tokens_,
                                            inputs_.table, builder_.getF32FloatAttr(static_cast<float>(scale)));
    return add(projected, rows, "per_layer_inputs.add");
  }

  mlir::Value block(const Layer &layer, mlir::Value x, mlir::Value inputs) {
    const auto name = [&](const char *part) { return absl::StrCat(layer.name, ".", part); };
    mlir::Value a = norm(x, layer.inputNorm, name("input_layernorm"));
    mlir::Value attended = attention(layer, a, name("self_attn"));
    x = add(x, wideNorm(attended, layer.attentionNorm, name("post_attention_layernorm")), name("self_attn.add"));
    mlir::Value m = mlp(layer.mlp, norm(x, layer.preNorm, name("pre_feedforward_layernorm")), name("mlp"));
    if (gemma_.experts)
      m = add(wideNorm(m, layer.experts.mlpNorm, name("post_feedforward_layernorm_1")), mixture(layer, x),
              name("experts.add"));
    m = wideNorm(m, layer.postNorm, name("post_feedforward_layernorm"));
    if (!gemma_.inputWidth)
      return add(x, m, name("mlp.add"), layer.factor);
    x = add(x, m, name("mlp.add"));
    mlir::Value gate =
        apply(layer.input.gate, narrow(x, name("per_layer_input.narrow")), name("per_layer_input_gate"), f32());
    mlir::Value own = llm::ColumnsOp::create(builder_, at(name("per_layer_input")), gate.getType(), inputs,
                                             integer(static_cast<int64_t>(layer.number) * gemma_.inputWidth));
    mlir::Value gated = gatedMul(llm::Gate::GeluTanh, gate, own, bf16(), name("per_layer_input.gated_mul"));
    mlir::Value projected = apply(layer.input.projection, gated, name("per_layer_projection"), f32());
    return add(x, wideNorm(projected, layer.input.norm, name("post_per_layer_input_norm")), name("per_layer_input.add"),
               layer.factor);
  }

  mlir::Value attention(const Layer &layer, mlir::Value a, const std::string &name) {
    const Attention &attention = layer.attention;
    const HeadShape &heads = layer.kind.heads;
    const Rotary &rotary = layer.kind.window ? gemma_.local : gemma_.global;
    mlir::FlatSymbolRefAttr frequencies = layer.kind.window ? local_ : global_;
    mlir::Value q = apply(attention.q, a, name + ".q_proj", f32()), k, v;
    if (attention.k.weight) {
      k = apply(attention.k, a, name + ".k_proj", f32());
      v = attention.v.weight ? apply(attention.v, a, name + ".v_proj", gemma_.fourth ? f32() : bf16()) : k;
    }
    q = headNorm(q, attention.qNorm, heads.heads, name + ".q_norm");
    q = rope(q, frequencies, rotary, heads.heads, /*queries=*/true, name + ".q_rope");
    if (attention.k.weight) {
      k = headNorm(k, attention.kNorm, heads.kvHeads, name + ".k_norm");
      k = rope(k, frequencies, rotary, heads.kvHeads, /*queries=*/false, name + ".k_rope");
      if (gemma_.fourth)
        v = llm::RmsNormOp::create(builder_, at(name + ".v_norm"), like(v, heads.keyWidth(), bf16()), v, attention.ones,
                                   builder_.getF32FloatAttr(shape_.eps), integer(heads.kvHeads));
      append(k, v, attention.cache, heads, name);
    }
    mlir::Value attended = Decoder::attention(q, attention.cache, heads, layer.kind.window, name);
    return apply(attention.o, attended, name + ".o_proj", f32());
  }

  mlir::Value mlp(const Mlp &mlp, mlir::Value m, const std::string &name) {
    mlir::Value gate = apply(mlp.gate, m, name + ".gate_proj", f32());
    mlir::Value up = apply(mlp.up, m, name + ".up_proj", f32());
    mlir::Value product = gatedMul(llm::Gate::GeluTanh, gate, up, bf16(), name + ".gated_mul");
    return apply(mlp.down, product, name + ".down_proj", f32());
  }

  // The router and the experts read what the MLP reads, each through a norm of its own.
  mlir::Value mixture(const Layer &layer, mlir::Value x) {
    const Experts &experts = layer.experts;
    const std::string name = layer.name + ".experts", router = layer.name + ".router";
    mlir::Value logits = apply(experts.router, norm(x, experts.routerNorm, router + ".norm"), router + ".proj", f32());
    auto route = llm::RouteOp::create(builder_, at(router), logits, integer(gemma_.chosen), builder_.getUnitAttr(),
                                      experts.factors, mlir::Value());
    mlir::Value m = norm(x, experts.preNorm, layer.name + ".pre_feedforward_layernorm_2");
    const auto product = [&](mlir::FlatSymbolRefAttr weight, mlir::Value in, int64_t outputs, const char *part) {
      auto type = mlir::RankedTensorType::get({like(in, outputs, f32()).getDimSize(0), gemma_.chosen, outputs}, f32());
      return llm::LinearOp::create(builder_, at(absl::StrCat(name, ".", part)), type, in, mlir::Value(), weight,
                                   mlir::FlatSymbolRefAttr(), route.getIndices())
          .getResult(0);
    };
    mlir::Value gate = product(experts.gate, m, gemma_.expertWidth, "gate_proj");
    mlir::Value up = product(experts.up, m, gemma_.expertWidth, "up_proj");
    mlir::Value gated = gatedMul(llm::Gate::GeluTanh, gate, up, bf16(), name + ".gated_mul");
    mlir::Value down = product(experts.down, gated, shape_.hidden, "down_proj");
    mlir::Value y = llm::CombineOp::create(builder_, at(name + ".combine"), like(m, shape_.hidden, f32()), down,
                                           route.getWeights());
    return wideNorm(y, experts.postNorm, layer.name + ".post_feedforward_layernorm_2");
  }

  // A norm of what goes into the residual stream: not rounded.
  mlir::Value wideNorm(mlir::Value x, mlir::FlatSymbolRefAttr weight, const std::string &name) {
    return llm::RmsNormOp::create(builder_, at(name), x.getType(), x, weight, builder_.getF32FloatAttr(shape_.eps),
                                  mlir::IntegerAttr());
  }

  // The stream as a matrix product reads it where no norm comes between.
  mlir::Value narrow(mlir::Value x, const std::string &name) {
    return llm::ColumnsOp::create(builder_, at(name), like(x, shape_.hidden, bf16()), x, integer(0));
  }

  GemmaShape gemma_;
  std::vector<Layer> layers_;
  Inputs inputs_;
  std::map<int64_t, mlir::FlatSymbolRefAttr> ones_; // by width
  mlir::FlatSymbolRefAttr local_, global_;          // inverse frequencies
};

} // namespace

absl::Status declareGemma(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options) {
  ConfigReader type(checkpoint.config(), absl::StrCat("configuration of ", checkpoint.sourceName()));
  const GemmaFamily *family = findGemmaFamily(type.textOr("model_type", ""));
  const nlohmann::json whole = completeGemma(checkpoint.config(), *family);
  ConfigReader config(whole, type.where());
  const GemmaShape shape = readGemmaShape(config, checkpoint, *family);
  if (!config.status().ok())
    return config.status();
  return Gemma(module, checkpoint, shape).finish(config, options);
}

} // namespace ingot
