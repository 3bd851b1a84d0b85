// The Llama architecture: pre-norm blocks of grouped-query attention with rotary positions, and SwiGLU. Per layer:
//   h += o(attention(rope(q(a)), rope(k(a)), v(a))), a = norm(h);   h += down(silu(gate(m)) * up(m)), m = norm(h)
// The width of q is heads * head_dim, whatever the hidden size is.
#include "models/mistral/mistral.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "models/config.h"
#include "models/mistral/rope.h"
#include "models/weights.h"

namespace ingot {

namespace {

// Bounds that keep products of sizes far from overflow; the largest published model is well below each.
constexpr int64_t mostWidth = 1 << 20;
constexpr int64_t mostLayers = 4096;
constexpr int64_t mostVocabulary = 1 << 24;
constexpr int64_t mostContext = 1 << 28;

struct Shape {
  int64_t hidden, intermediate, layers, heads, kvHeads, headDim, vocabulary, context, window;
  float eps;
  bool tied, attentionBias, mlpBias;
};

Shape readShape(ConfigReader &config, const Checkpoint &checkpoint) {
  Shape shape = {};
  shape.hidden = config.integer("hidden_size", 1, mostWidth);
  shape.intermediate = config.integer("intermediate_size", 1, mostWidth);
  shape.layers = config.integer("num_hidden_layers", 1, mostLayers);
  shape.heads = config.integer("num_attention_heads", 1, mostWidth);
  shape.kvHeads = config.integerOr("num_key_value_heads", shape.heads, 1, mostWidth);
  shape.headDim = config.has("head_dim") ? config.integer("head_dim", 1, 4096) : shape.hidden / shape.heads;
  shape.vocabulary = config.integer("vocab_size", 1, mostVocabulary);
  shape.context = config.integerOr("max_position_embeddings", 2048, 1, mostContext);
  shape.window = config.integerOr("sliding_window", 0, 1, mostContext);
  shape.eps = static_cast<float>(config.numberOr("rms_norm_eps", 1e-6, 0, 1));
  shape.tied = config.booleanOr("tie_word_embeddings", checkpoint.find("lm_head.weight") == nullptr);
  shape.attentionBias = config.booleanOr("attention_bias", false);
  shape.mlpBias = config.booleanOr("mlp_bias", false);
  if (!config.has("head_dim") && shape.hidden % shape.heads != 0)
    config.fail(
        absl::StrCat("expected `num_attention_heads` to divide `hidden_size` where `head_dim` is not given, got ",
                     shape.heads, " and ", shape.hidden));
  if (shape.headDim % 16 != 0 || shape.headDim == 0)
    config.fail(absl::StrCat("expected a head dimension that is a multiple of 16, got ", shape.headDim));
  if (shape.heads % shape.kvHeads != 0)
    config.fail(absl::StrCat("expected `num_key_value_heads` to divide `num_attention_heads`, got ", shape.kvHeads,
                             " and ", shape.heads));
  if (shape.heads * shape.headDim > mostWidth)
    config.fail(absl::StrCat("expected at most ", mostWidth, " columns of queries, got ", shape.heads, " heads of ",
                             shape.headDim));
  if (std::string act = config.textOr("hidden_act", "silu"); act != "silu")
    config.fail(absl::StrCat("expected `hidden_act` silu, got \"", act, "\""));
  return shape;
}

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

struct Linear {
  mlir::FlatSymbolRefAttr weight, bias;
  int64_t outputs;
};

struct Layer {
  std::string name; // "layers.3"
  mlir::FlatSymbolRefAttr inputNorm, postNorm, kState, vState;
  Linear q, k, v, o, gate, up, down;
};

class Declaration {
public:
  Declaration(mlir::ModuleOp module, const Checkpoint &checkpoint, const Shape &shape,
              const std::vector<float> &frequencies)
      : builder_(mlir::OpBuilder::atBlockEnd(module.getBody())), weights_(builder_, checkpoint), shape_(shape) {
    declareSymbols(frequencies);
  }

  WeightDeclarer &weights() { return weights_; }

  /// `@name`: tokens in, logits out, of the last token or of each.
  void forward(const char *name, bool oneToken, bool lastOnly) {
    int64_t tokens = oneToken ? 1 : mlir::ShapedType::kDynamic;
    int64_t rows = lastOnly ? 1 : tokens;
    auto logits = mlir::RankedTensorType::get({rows, shape_.vocabulary}, builder_.getF32Type());
    auto function = begin(name, {mlir::RankedTensorType::get({tokens}, builder_.getI32Type())}, {logits});
    mlir::Value x = llm::EmbedOp::create(builder_, at("embed_tokens"), streamOf(tokens), function.getArgument(0),
                                         embedding_, builder_.getF32FloatAttr(1));
    for (const Layer &layer : layers_)
      x = block(layer, x);
    if (lastOnly && !oneToken)
      x = llm::LastTokenOp::create(builder_, at("last_token"), x);
    x = norm(x, norm_, "norm");
    mlir::Value result =
        llm::LinearOp::create(builder_, at("lm_head"), logits, x, mlir::Value(), head_, nullptr).getResult(0);
    end(result);
  }

  /// `@name`: logits in; an op of type `Choose` makes the next token of them.
  template <typename Choose> void choose(const char *name) {
    auto logits = mlir::RankedTensorType::get({1, shape_.vocabulary}, builder_.getF32Type());
    auto function = begin(name, {logits}, {});
    auto token = Choose::create(builder_, at(name), function.getArgument(0));
    llm::AdvanceOp::create(builder_, at("advance"), token);
    end({});
  }

private:
  Linear linear(const std::string &name, int64_t outputs, int64_t inputs, bool bias) {
    Linear result = {weights_.declare(name + ".weight", {outputs, inputs}), nullptr, outputs};
    if (bias)
      result.bias = weights_.declare(name + ".bias", {outputs});
    return result;
  }

  mlir::FlatSymbolRefAttr state(const std::string &name, llm::StateKind kind) {
    llm::StateOp::create(builder_, at(name), name, kind, shape_.kvHeads, shape_.headDim, nullptr);
    return mlir::FlatSymbolRefAttr::get(builder_.getContext(), name);
  }

  void declareSymbols(const std::vector<float> &frequencies) {
    const int64_t hidden = shape_.hidden;
    const int64_t queries = shape_.heads * shape_.headDim;
    const int64_t keys = shape_.kvHeads * shape_.headDim;
    embedding_ = weights_.declare("model.embed_tokens.weight", {shape_.vocabulary, hidden});
    inverseFrequencies_ = weights_.constant("rope.inv_freq", frequencies);
    for (int64_t i = 0; i < shape_.layers; ++i) {
      Layer layer;
      layer.name = absl::StrCat("layers.", i);
      const std::string prefix = absl::StrCat("model.", layer.name, ".");
      const std::string attention = prefix + "self_attn.";
      const std::string mlp = prefix + "mlp.";
      layer.inputNorm = weights_.declare(prefix + "input_layernorm.weight", {hidden});
      layer.q = linear(attention + "q_proj", queries, hidden, shape_.attentionBias);
      layer.k = linear(attention + "k_proj", keys, hidden, shape_.attentionBias);
      layer.v = linear(attention + "v_proj", keys, hidden, shape_.attentionBias);
      layer.o = linear(attention + "o_proj", hidden, queries, shape_.attentionBias);
      layer.postNorm = weights_.declare(prefix + "post_attention_layernorm.weight", {hidden});
      layer.gate = linear(mlp + "gate_proj", shape_.intermediate, hidden, shape_.mlpBias);
      layer.up = linear(mlp + "up_proj", shape_.intermediate, hidden, shape_.mlpBias);
      layer.down = linear(mlp + "down_proj", hidden, shape_.intermediate, shape_.mlpBias);
      layer.kState = state(layer.name + ".k", llm::StateKind::Key);
      layer.vState = state(layer.name + ".v", llm::StateKind::Value);
      weights_.skip(attention + "rotary_emb.inv_freq");
      layers_.push_back(std::move(layer));
    }
    weights_.skip("model.rotary_emb.inv_freq");
    weights_.use(divisorTensor);
    norm_ = weights_.declare("model.norm.weight", {hidden});
    head_ = weights_.declare("lm_head.weight", {shape_.vocabulary, hidden},
                             shape_.tied ? "model.embed_tokens.weight" : "lm_head.weight");
    // A tied checkpoint may carry the shared tensor twice; the configuration says which one counts.
    weights_.skip("lm_head.weight");
  }

  mlir::Value block(const Layer &layer, mlir::Value x) {
    const auto name = [&](const char *part) { return absl::StrCat(layer.name, ".", part); };
    mlir::Value a = norm(x, layer.inputNorm, name("input_layernorm"));
    mlir::Value q = apply(layer.q, a, name("self_attn.q_proj"), builder_.getF32Type());
    mlir::Value k = apply(layer.k, a, name("self_attn.k_proj"), builder_.getF32Type());
    mlir::Value v = apply(layer.v, a, name("self_attn.v_proj"), builder_.getBF16Type());
    q = rope(q, shape_.heads, name("self_attn.q_rope"));
    k = rope(k, shape_.kvHeads, name("self_attn.k_rope"));
    llm::AppendOp::create(builder_, at(name("self_attn.append")), k, v, layer.kState, layer.vState,
                          builder_.getI64IntegerAttr(shape_.kvHeads), builder_.getI64IntegerAttr(shape_.headDim));
    auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape_.headDim)));
    mlir::Value attended =
        llm::AttentionOp::create(builder_, at(name("self_attn.attention")), q.getType(), q, layer.kState, layer.vState,
                                 builder_.getI64IntegerAttr(shape_.heads), builder_.getI64IntegerAttr(shape_.kvHeads),
                                 builder_.getI64IntegerAttr(shape_.headDim), builder_.getF32FloatAttr(scale),
                                 shape_.window ? builder_.getI64IntegerAttr(shape_.window) : mlir::IntegerAttr());
    mlir::Value o = apply(layer.o, attended, name("self_attn.o_proj"), builder_.getF32Type());
    x = llm::AddOp::create(builder_, at(name("self_attn.add")), x, o);
    mlir::Value m = norm(x, layer.postNorm, name("post_attention_layernorm"));
    mlir::Value gate = apply(layer.gate, m, name("mlp.gate_proj"), builder_.getF32Type());
    mlir::Value up = apply(layer.up, m, name("mlp.up_proj"), builder_.getF32Type());
    mlir::Value product = llm::GatedMulOp::create(
        builder_, at(name("mlp.gated_mul")), rowsOf(tokensOf(gate), layer.gate.outputs), llm::Gate::Silu, gate, up);
    mlir::Value down = apply(layer.down, product, name("mlp.down_proj"), builder_.getF32Type());
    return llm::AddOp::create(builder_, at(name("mlp.add")), x, down);
  }

  mlir::Value apply(const Linear &linear, mlir::Value x, const std::string &name, mlir::Type element) {
    auto type = mlir::RankedTensorType::get({tokensOf(x), linear.outputs}, element);
    return llm::LinearOp::create(builder_, at(name), type, x, mlir::Value(), linear.weight, linear.bias).getResult(0);
  }

  mlir::Value norm(mlir::Value x, mlir::FlatSymbolRefAttr weight, const std::string &name) {
    return llm::RmsNormOp::create(builder_, at(name), rowsOf(tokensOf(x), shape_.hidden), x, weight, eps(),
                                  mlir::IntegerAttr());
  }

  mlir::Value rope(mlir::Value x, int64_t heads, const std::string &name) {
    return llm::RopeOp::create(builder_, at(name), rowsOf(tokensOf(x), heads * shape_.headDim), x, inverseFrequencies_,
                               builder_.getI64IntegerAttr(heads), builder_.getI64IntegerAttr(shape_.headDim),
                               mlir::IntegerAttr());
  }

  mlir::func::FuncOp begin(const char *name, mlir::TypeRange inputs, mlir::TypeRange results) {
    auto function = mlir::func::FuncOp::create(builder_, at(name), name, builder_.getFunctionType(inputs, results));
    moduleEnd_ = builder_.saveInsertionPoint();
    builder_.setInsertionPointToStart(function.addEntryBlock());
    return function;
  }

  void end(mlir::ValueRange results) {
    mlir::func::ReturnOp::create(builder_, builder_.getUnknownLoc(), results);
    builder_.restoreInsertionPoint(moduleEnd_);
  }

  mlir::Location at(const std::string &name) { return mlir::NameLoc::get(builder_.getStringAttr(name)); }
  mlir::FloatAttr eps() { return builder_.getF32FloatAttr(shape_.eps); }
  static int64_t tokensOf(mlir::Value x) { return mlir::cast<mlir::RankedTensorType>(x.getType()).getDimSize(0); }
  mlir::RankedTensorType streamOf(int64_t tokens) {
    return mlir::RankedTensorType::get({tokens, shape_.hidden}, builder_.getF32Type());
  }
  mlir::RankedTensorType rowsOf(int64_t tokens, int64_t columns) {
    return mlir::RankedTensorType::get({tokens, columns}, builder_.getBF16Type());
  }

  mlir::OpBuilder builder_;
  mlir::OpBuilder::InsertPoint moduleEnd_;
  WeightDeclarer weights_;
  Shape shape_;
  std::vector<Layer> layers_;
  mlir::FlatSymbolRefAttr embedding_, inverseFrequencies_, norm_, head_;
};

} // namespace

absl::Status declareMistral(mlir::ModuleOp module, const Checkpoint &checkpoint, const DeclareOptions &options) {
  ConfigReader config(checkpoint.config(), absl::StrCat("configuration of ", checkpoint.sourceName()));
  Shape shape = readShape(config, checkpoint);
  if (!config.status().ok())
    return config.status();
  std::vector<float> frequencies = inverseFrequencies(config, shape.headDim);
  llm::Facts facts;
  facts.architecture = config.textOr("model_type", "");
  facts.name = options.name.empty() ? checkpoint.sourceName() : options.name;
  facts.vocabulary = shape.vocabulary;
  facts.contextLength = options.contextLength > 0 ? options.contextLength : shape.context;
  facts.hiddenSize = shape.hidden;
  facts.layers = shape.layers;
  facts.prefillChunk = options.prefillChunk;
  facts.endOfSequence = config.integers("eos_token_id", 0, shape.vocabulary - 1);
  if (!config.status().ok())
    return config.status();
  if (options.contextLength > shape.context)
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.sourceName(), ": a context of ", options.contextLength,
                                                   " tokens was asked for, and the model was made for ",
                                                   shape.context));
  if (options.prefillChunk <= 0)
    return absl::InvalidArgumentError(
        absl::StrCat("expected a prefill chunk of at least 1 token, got ", options.prefillChunk));

  if (auto status = divideFrequencies(checkpoint, frequencies); !status.ok())
    return status;

  Declaration declaration(module, checkpoint, shape, frequencies);
  if (auto status = declaration.weights().finish(); !status.ok())
    return status;
  facts.skippedTensors = declaration.weights().skipped();
  module->setAttr(llm::LlmDialect::factsName, facts.toAttribute(module.getContext()));
  declaration.forward("prefill", /*oneToken=*/false, /*lastOnly=*/true);
  declaration.forward("decode", /*oneToken=*/true, /*lastOnly=*/true);
  declaration.forward("logits", /*oneToken=*/false, /*lastOnly=*/false);
  declaration.choose<llm::ArgmaxOp>("greedy");
  declaration.choose<llm::SampleOp>("sample");
  return absl::OkStatus();
}

} // namespace ingot
