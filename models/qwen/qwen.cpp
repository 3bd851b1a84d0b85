// Pre-norm blocks as in Llama, with a norm on each head of q and k. Hybrids have Gated DeltaNet in most layers, a gate
// on attention's result, and rotate a part of each head. Sources: transformers' models qwen3, qwen3_moe, qwen3_next,
// qwen3_5 and qwen3_5_moe.
#include "models/qwen/qwen.h"

#include "absl/strings/str_cat.h"
#include "models/qwen/shape.h"

namespace ingot {

namespace {

class Qwen : public Decoder {
public:
  Qwen(mlir::ModuleOp module, const Checkpoint &checkpoint, const QwenShape &shape, bool drafting)
      : Decoder(module, checkpoint, shape.decoder), qwen_(shape) {
    declareEnds();
    inverseFrequencies_ = weights_.constant("rope.inv_freq", shape.rotary.frequencies);
    for (size_t i = 0; i < shape.layers.size(); ++i)
      layers_.push_back(declareLayer(absl::StrCat("layers.", i), "model.", shape.layers[i]));
    if (shape.drafter && drafting)
      declareDrafter();
    // Text only. What is left out, perhaps the head that drafts tokens, is listed in the artifact.
    weights_.skipAll("model.visual.");
    weights_.skipAll("mtp.");
  }

private:
  struct Attention {
    Linear q, gate, k, v, o;
    mlir::FlatSymbolRefAttr qNorm, kNorm;
    Cache cache;
  };
  struct Delta {
    Linear qkv, z, b, a, out;
    mlir::FlatSymbolRefAttr conv, decay, dtBias, norm, convState, state;
  };
  struct Mlp {
    Linear gate, up, down;
  };
  struct Experts {
    Linear router;
    mlir::FlatSymbolRefAttr gate, up, down; // [experts, outputs, inputs]
    Mlp shared;
    Linear sharedGate; // one output; without weight where the family has no shared expert
  };
  struct Layer {
    std::string name; // "layers.3"
    QwenLayer kind;
    mlir::FlatSymbolRefAttr inputNorm, postNorm;
    Attention attention;
    Delta delta;
    Mlp mlp;
    Experts experts;
  };

  // Predicts a further token from what the final norm made of a token and the embedding of the next; the embedding
  // table and the output head are the trunk's.
  struct Drafter {
    mlir::FlatSymbolRefAttr embeddingNorm, hiddenNorm, norm;
    Linear fc;
    Layer layer;
  };

  void declareDrafter() {
    Drafter &drafter = drafter_.emplace();
    drafter.embeddingNorm = weights_.declare("mtp.pre_fc_norm_embedding.weight", {shape_.hidden});
    drafter.hiddenNorm = weights_.declare("mtp.pre_fc_norm_hidden.weight", {shape_.hidden});
    drafter.fc = linear("mtp.fc", shape_.hidden, 2 * shape_.hidden);
    drafter.layer = declareLayer("mtp.layers.0", "", *qwen_.drafter);
    drafter.norm = weights_.declare("mtp.norm.weight", {shape_.hidden});
    declareDelay();
  }

  Layer declareLayer(const std::string &name, const std::string &before, const QwenLayer &kind) {
    const std::string prefix = absl::StrCat(before, name, ".");
    Layer layer;
    layer.name = name;
    layer.kind = kind;
    layer.inputNorm = weights_.declare(prefix + "input_layernorm.weight", {shape_.hidden});
    if (kind.delta)
      layer.delta = declareDelta(name, prefix + "linear_attn.");
    else
      layer.attention = declareAttention(name, prefix + "self_attn.");
    layer.postNorm = weights_.declare(prefix + "post_attention_layernorm.weight", {shape_.hidden});
    if (kind.sparse)
      layer.experts = declareExperts(prefix + "mlp.");
    else
      layer.mlp = declareMlp(prefix + "mlp.", qwen_.intermediate);
    return layer;
  }

  Attention declareAttention(const std::string &layer, const std::string &prefix) {
    const int64_t hidden = shape_.hidden, queries = qwen_.queryWidth(), keys = qwen_.keyWidth();
    const bool bias = qwen_.attentionBias;
    Attention attention;
    attention.q = linear(prefix + "q_proj", queries, hidden, bias);
    if (qwen_.gated)
      attention.gate = linear(prefix + "gate_proj", queries, hidden);
    attention.k = linear(prefix + "k_proj", keys, hidden, bias);
    attention.v = linear(prefix + "v_proj", keys, hidden, bias);
    attention.qNorm = weights_.declare(prefix + "q_norm.weight", {shape_.headDim});
    attention.kNorm = weights_.declare(prefix + "k_norm.weight", {shape_.headDim});
    attention.o = linear(prefix + "o_proj", hidden, queries, bias);
    attention.cache = cache(layer);
    return attention;
  }

  Delta declareDelta(const std::string &layer, const std::string &prefix) {
    const int64_t hidden = shape_.hidden, values = qwen_.valueHeads * qwen_.valueDim, channels = qwen_.deltaWidth();
    Delta delta;
    delta.qkv = linear(prefix + "in_proj_qkv", channels, hidden);
    delta.z = linear(prefix + "in_proj_z", values, hidden);
    delta.b = linear(prefix + "in_proj_b", qwen_.valueHeads, hidden);
    delta.a = linear(prefix + "in_proj_a", qwen_.valueHeads, hidden);
    delta.conv = weights_.declare(prefix + "conv1d.weight", {channels, qwen_.taps});
    delta.decay = weights_.declare(prefix + "decay", {qwen_.valueHeads});
    delta.dtBias = weights_.declare(prefix + "dt_bias", {qwen_.valueHeads});
    delta.norm = weights_.declare(prefix + "norm.weight", {qwen_.valueDim});
    delta.out = linear(prefix + "out_proj", hidden, values);
    delta.convState = state(layer + ".conv", llm::StateKind::Conv, {qwen_.taps - 1, channels}, f32());
    delta.state =
        state(layer + ".s", llm::StateKind::Recurrent, {qwen_.valueHeads, qwen_.keyDim, qwen_.valueDim}, f32());
    return delta;
  }

  Mlp declareMlp(const std::string &prefix, int64_t width) {
    return {.gate = linear(prefix + "gate_proj", width, shape_.hidden),
            .up = linear(prefix + "up_proj", width, shape_.hidden),
            .down = linear(prefix + "down_proj", shape_.hidden, width)};
  }

  Experts declareExperts(const std::string &prefix) {
    const int64_t number = qwen_.experts, width = qwen_.expertWidth, hidden = shape_.hidden;
    Experts experts;
    experts.router = linear(prefix + "gate", number, hidden);
    experts.gate = weights_.declare(prefix + "experts.gate_proj.weight", {number, width, hidden});
    experts.up = weights_.declare(prefix + "experts.up_proj.weight", {number, width, hidden});
    experts.down = weights_.declare(prefix + "experts.down_proj.weight", {number, hidden, width});
    if (qwen_.sharedWidth) {
      experts.shared = declareMlp(prefix + "shared_expert.", qwen_.sharedWidth);
      experts.sharedGate = linear(prefix + "shared_expert_gate", 1, hidden);
    }
    return experts;
  }

  mlir::Value layers(mlir::Value x) override {
    for (const Layer &layer : layers_)
      x = block(layer, x);
    return x;
  }

  mlir::Value block(const Layer &layer, mlir::Value x) {
    mlir::Value a = norm(x, layer.inputNorm, layer.name + ".input_layernorm");
    x = layer.kind.delta ? add(x, delta(layer.delta, a, layer.name + ".linear_attn"), layer.name + ".linear_attn.add")
                         : add(x, attention(layer.attention, layer.kind, a, layer.name + ".self_attn"),
                               layer.name + ".self_attn.add");
    mlir::Value m = norm(x, layer.postNorm, layer.name + ".post_attention_layernorm");
    return add(
        x, layer.kind.sparse ? mixture(layer.experts, m, layer.name + ".mlp") : mlp(layer.mlp, m, layer.name + ".mlp"),
        layer.name + ".mlp.add");
  }

  bool drafts() const override { return drafter_.has_value(); }

  // What the drafter's layer reads.
  mlir::Value joined(mlir::Value embedded, mlir::Value hidden) {
    mlir::Value e = norm(embedded, drafter_->embeddingNorm, "mtp.pre_fc_norm_embedding");
    mlir::Value h = norm(hidden, drafter_->hiddenNorm, "mtp.pre_fc_norm_hidden");
    return apply(drafter_->fc, llm::ConcatOp::create(builder_, at("mtp.concat"), e, h), "mtp.fc", f32());
  }

  void rememberForDrafts(mlir::Value embedded, mlir::Value hidden) override {
    const Layer &layer = drafter_->layer;
    mlir::Value a = norm(joined(embedded, hidden), layer.inputNorm, layer.name + ".input_layernorm");
    auto [k, v] = keysAndValues(layer.attention, a, layer.name + ".self_attn");
    append(k, v, layer.attention.cache, heads(), layer.name + ".self_attn");
  }

  mlir::Value draft(mlir::Value embedded, mlir::Value hidden) override {
    return norm(block(drafter_->layer, joined(embedded, hidden)), drafter_->norm, "mtp.norm");
  }

  std::pair<mlir::Value, mlir::Value> keysAndValues(const Attention &attention, mlir::Value a,
                                                    const std::string &name) {
    mlir::Value k = apply(attention.k, a, name + ".k_proj", f32());
    mlir::Value v = apply(attention.v, a, name + ".v_proj", bf16());
    k = headNorm(k, attention.kNorm, shape_.kvHeads, name + ".k_norm");
    return {rope(k, inverseFrequencies_, qwen_.rotary, shape_.kvHeads, /*queries=*/false, name + ".k_rope"), v};
  }

  mlir::Value attention(const Attention &attention, const QwenLayer &kind, mlir::Value a, const std::string &name) {
    mlir::Value q = apply(attention.q, a, name + ".q_proj", f32());
    auto [k, v] = keysAndValues(attention, a, name);
    q = headNorm(q, attention.qNorm, shape_.heads, name + ".q_norm");
    q = rope(q, inverseFrequencies_, qwen_.rotary, shape_.heads, /*queries=*/true, name + ".q_rope");
    mlir::Value attended = attend(q, k, v, attention.cache, kind.window, name, kind.first);
    if (qwen_.gated) {
      mlir::Value gate = apply(attention.gate, a, name + ".gate_proj", f32());
      attended = gatedMul(llm::Gate::Sigmoid, gate, attended, bf16(), name + ".gated_mul");
    }
    return apply(attention.o, attended, name + ".o_proj", f32());
  }

  mlir::Value delta(const Delta &delta, mlir::Value a, const std::string &name) {
    mlir::Value qkv = apply(delta.qkv, a, name + ".in_proj_qkv", f32());
    mlir::Value z = apply(delta.z, a, name + ".in_proj_z", f32());
    mlir::Value beta = apply(delta.b, a, name + ".in_proj_b", f32());
    mlir::Value decay = apply(delta.a, a, name + ".in_proj_a", f32());
    qkv = llm::ShortConvOp::create(builder_, at(name + ".conv1d"), qkv, delta.conv, delta.convState);
    mlir::Value o = llm::DeltaRuleOp::create(builder_, at(name + ".delta_rule"),
                                             like(qkv, qwen_.valueHeads * qwen_.valueDim, f32()), qkv, beta, decay,
                                             delta.decay, delta.dtBias, delta.state, integer(qwen_.keyHeads),
                                             integer(qwen_.valueHeads), integer(qwen_.keyDim), integer(qwen_.valueDim));
    o = headNorm(o, delta.norm, qwen_.valueHeads, name + ".norm");
    o = gatedMul(llm::Gate::Silu, z, o, bf16(), name + ".gated_mul");
    return apply(delta.out, o, name + ".out_proj", f32());
  }

  mlir::Value mlp(const Mlp &mlp, mlir::Value m, const std::string &name) {
    mlir::Value gate = apply(mlp.gate, m, name + ".gate_proj", f32());
    mlir::Value up = apply(mlp.up, m, name + ".up_proj", f32());
    mlir::Value product = gatedMul(llm::Gate::Silu, gate, up, bf16(), name + ".gated_mul");
    return apply(mlp.down, product, name + ".down_proj", f32());
  }

  mlir::Value mixture(const Experts &experts, mlir::Value m, const std::string &name) {
    mlir::Value logits = apply(experts.router, m, name + ".gate", f32());
    auto route = llm::RouteOp::create(builder_, at(name + ".route"), logits, integer(qwen_.chosen),
                                      qwen_.normalise ? builder_.getUnitAttr() : mlir::UnitAttr(),
                                      mlir::FlatSymbolRefAttr(), mlir::Value());
    const auto product = [&](mlir::FlatSymbolRefAttr weight, mlir::Value x, int64_t outputs, const char *part) {
      auto type = mlir::RankedTensorType::get({like(x, outputs, f32()).getDimSize(0), qwen_.chosen, outputs}, f32());
      return llm::LinearOp::create(builder_, at(absl::StrCat(name, ".experts.", part)), type, x, mlir::Value(), weight,
                                   mlir::FlatSymbolRefAttr(), route.getIndices())
          .getResult(0);
    };
    mlir::Value gate = product(experts.gate, m, qwen_.expertWidth, "gate_proj");
    mlir::Value up = product(experts.up, m, qwen_.expertWidth, "up_proj");
    mlir::Value gated = gatedMul(llm::Gate::Silu, gate, up, bf16(), name + ".experts.gated_mul");
    mlir::Value down = product(experts.down, gated, shape_.hidden, "down_proj");
    mlir::Value y = llm::CombineOp::create(builder_, at(name + ".combine"), like(m, shape_.hidden, f32()), down,
                                           route.getWeights());
    if (!experts.sharedGate.weight)
      return y;
    mlir::Value shared = mlp(experts.shared, m, name + ".shared_expert");
    mlir::Value share = apply(experts.sharedGate, m, name + ".shared_expert_gate", f32());
    shared = gatedMul(llm::Gate::Sigmoid, share, shared, f32(), name + ".shared_expert.gated_mul");
    return add(y, shared, name + ".shared_expert.add");
  }

  QwenShape qwen_;
  std::vector<Layer> layers_;
  std::optional<Drafter> drafter_;
  mlir::FlatSymbolRefAttr inverseFrequencies_;
};

} // namespace

absl::Status declareQwen(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options) {
  ConfigReader config(checkpoint.config(), absl::StrCat("configuration of ", checkpoint.sourceName()));
  const QwenFamily *family = findQwenFamily(config.textOr("model_type", ""));
  const QwenShape shape = readQwenShape(config, checkpoint, *family);
  if (!config.status().ok())
    return config.status();
  return Qwen(module, checkpoint, shape, options.draftLength > 0).finish(config, options);
}

} // namespace ingot
