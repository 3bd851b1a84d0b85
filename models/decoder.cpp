#include "models/decoder.h"

#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "dialects/Sequences.h"
#include "runtime/artifact/batch.h"

namespace ingot {

DecoderShape readDecoderShape(ConfigReader &config, const Checkpoint &checkpoint, const char *activation) {
  DecoderShape shape = {};
  shape.hidden = config.integer("hidden_size", 1, mostWidth);
  shape.layers = config.integer("num_hidden_layers", 1, mostLayers);
  shape.heads = config.integer("num_attention_heads", 1, mostWidth);
  shape.kvHeads = config.integerOr("num_key_value_heads", shape.heads, 1, mostWidth);
  shape.headDim = config.has("head_dim") ? config.integer("head_dim", 1, 4096) : shape.hidden / shape.heads;
  shape.vocabulary = config.integer("vocab_size", 1, mostVocabulary);
  shape.context = config.integerOr("max_position_embeddings", 2048, 1, mostContext);
  shape.eps = static_cast<float>(config.numberOr("rms_norm_eps", 1e-6, 0, 1));
  shape.tied = config.booleanOr("tie_word_embeddings", checkpoint.find("lm_head.weight") == nullptr);
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
  for (const char *key : {"hidden_act", "hidden_activation"})
    if (std::string act = config.textOr(key, activation); act != activation)
      config.fail(absl::StrCat("expected `", key, "` ", activation, ", got \"", act, "\""));
  return shape;
}

Decoder::Decoder(mlir::ModuleOp module, const Checkpoint &checkpoint, const DecoderShape &shape)
    : builder_(mlir::OpBuilder::atBlockEnd(module.getBody())), weights_(builder_, checkpoint), shape_(shape),
      module_(module), checkpoint_(checkpoint) {}

absl::Status Decoder::finish(ConfigReader &config, const DeclareOptions &options) {
  llm::Facts facts;
  facts.architecture = config.textOr("model_type", "");
  facts.name = options.name.empty() ? checkpoint_.sourceName() : options.name;
  facts.vocabulary = shape_.vocabulary;
  facts.contextLength = options.contextLength > 0 ? options.contextLength : shape_.context;
  facts.hiddenSize = shape_.hidden;
  facts.layers = shape_.layers;
  facts.prefillChunk = options.prefillChunk;
  facts.endOfSequence = config.integers("eos_token_id", 0, shape_.vocabulary - 1);
  if (!config.status().ok())
    return config.status();
  if (options.contextLength > shape_.context)
    return absl::InvalidArgumentError(absl::StrCat(checkpoint_.sourceName(), ": a context of ", options.contextLength,
                                                   " tokens was asked for, and the model was made for ",
                                                   shape_.context));
  if (options.prefillChunk <= 0)
    return absl::InvalidArgumentError(
        absl::StrCat("expected a prefill chunk of at least 1 token, got ", options.prefillChunk));
  if (options.draftLength < 0 || options.draftLength >= llm::kFewRows)
    return absl::InvalidArgumentError(
        absl::StrCat("expected from 0 to ", llm::kFewRows - 1, " drafts a step, got ", options.draftLength));
  if (options.streams < 1 || options.streams > llm::kFewRows || (options.streams & (options.streams - 1)) != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("expected steps of 1, 2, 4 or ", llm::kFewRows, " streams, got ", options.streams));
  facts.draftLength = drafts() ? options.draftLength : 0;
  if (auto status = weights_.finish(); !status.ok())
    return status;
  facts.skippedTensors = weights_.skipped();
  module_->setAttr(llm::LlmDialect::factsName, facts.toAttribute(module_.getContext()));
  forward("prefill", /*oneToken=*/false, Logits::Last);
  forward("decode", /*oneToken=*/true, Logits::Last);
  forward("decode_greedy", /*oneToken=*/true, Logits::None);
  forward("logits", /*oneToken=*/false, Logits::All);
  sampler<llm::ArgmaxOp>("greedy", "greedy", 1);
  sampler<llm::SampleOp>("sample", "sample", 1);
  if (facts.draftLength > 0) {
    std::set<int64_t> ends(facts.endOfSequence.begin(), facts.endOfSequence.end());
    const auto &known = checkpoint_.tokenizer().end_of_sequence();
    ends.insert(known.begin(), known.end());
    speculate<llm::ArgmaxOp>("speculate", "greedy", facts.draftLength, {ends.begin(), ends.end()});
    speculate<llm::SampleOp>("speculate_sample", "sample", facts.draftLength, {ends.begin(), ends.end()});
    draftLogits();
  }
  for (int64_t count = 2; count <= options.streams; count *= 2) {
    decodeSeveral(absl::StrCat(kBatchPrograms[kBatchGreedy], count), count, Logits::None);
    decodeSeveral(absl::StrCat(kBatchPrograms[kBatchDecode], count), count, Logits::Last);
    sampler<llm::SampleOp>(absl::StrCat(kBatchPrograms[kBatchSample], count), "sample", count);
  }
  return absl::OkStatus();
}

// Tokens in, logits out; where nobody gets logits the best of them becomes the next token.
void Decoder::forward(const char *name, bool oneToken, Logits which) {
  int64_t tokens = oneToken ? 1 : mlir::ShapedType::kDynamic;
  int64_t rows = which == Logits::All ? tokens : 1;
  llvm::SmallVector<mlir::Type> results;
  if (which != Logits::None)
    results.push_back(mlir::RankedTensorType::get({rows, shape_.vocabulary}, f32()));
  auto function = begin(name, {mlir::RankedTensorType::get({tokens}, builder_.getI32Type())}, results);
  tokens_ = function.getArgument(0);
  mlir::Value embedded = embed(tokens_);
  mlir::Value x = layers(embedded);
  // The head that drafts reads every row of what the final norm makes, also where only the last becomes logits.
  const bool remembers = drafts() && which != Logits::All;
  if (remembers) {
    x = norm(x, norm_, "norm");
    rememberForDrafts(embedded, previous(x));
  }
  if (rows != tokens)
    x = llm::LastTokenOp::create(builder_, at("last_token"), x);
  if (!remembers)
    x = norm(x, norm_, "norm");
  mlir::Value logits = logitsOf(x);
  if (which == Logits::None)
    choose<llm::ArgmaxOp>(logits, "greedy");
  end(results.empty() ? mlir::ValueRange() : mlir::ValueRange(logits));
}

// A step that checks `count` drafts, by what an op of type `Choose` makes of each row, and makes as many:
// docs/design/drafting.md.
template <typename Choose>
void Decoder::speculate(const char *name, const char *choice, int64_t count, const std::vector<int64_t> &ends) {
  auto function = begin(name, {mlir::RankedTensorType::get({count + 1}, builder_.getI32Type())}, {});
  tokens_ = function.getArgument(0);
  mlir::Value embedded = embed(tokens_);
  mlir::Value hidden = norm(layers(embedded), norm_, "norm");
  // What recurrent layers remember moves on only when it is known which tokens stay.
  llvm::SmallVector<mlir::Operation *> recurrent;
  function.walk([&](mlir::Operation *op) {
    if (llvm::isa<llm::ShortConvOp, llm::DeltaRuleOp>(op))
      recurrent.push_back(op);
  });
  for (mlir::Operation *op : recurrent)
    op->setAttr("peek", builder_.getUnitAttr());
  mlir::Value best = Choose::create(builder_, at(choice), logitsOf(hidden));
  mlir::Value token = llm::AcceptOp::create(builder_, at("accept"), best, tokens_, builder_.getDenseI64ArrayAttr(ends));
  for (mlir::Operation *op : recurrent) {
    mlir::Operation *kept = builder_.clone(*op);
    kept->removeAttr("peek");
    kept->setLoc(at(llm::labelOf(op) + ".keep"));
  }
  rememberForDrafts(embedded, previous(hidden));
  hidden = llm::LastTokenOp::create(builder_, at("last_token"), hidden);
  llm::AdvanceOp::create(builder_, at("advance"), token);
  for (int64_t index = 1; index <= count; ++index) {
    hidden = draft(embed(token), hidden);
    token = llm::ArgmaxOp::create(builder_, at("mtp.greedy"), logitsOf(hidden));
    llm::DraftOp::create(builder_, at("mtp.draft"), token, integer(index), integer(count));
  }
  end({});
}

// A token of each of `count` sequences in, logits out as forward() has them. The head that drafts is kept up, as where
// there is one sequence.
void Decoder::decodeSeveral(const std::string &name, int64_t count, Logits which) {
  llvm::SmallVector<mlir::Type> results;
  if (which != Logits::None)
    results.push_back(mlir::RankedTensorType::get({count, shape_.vocabulary}, f32()));
  auto function = begin(name, {mlir::RankedTensorType::get({count}, builder_.getI32Type())}, results);
  function->setAttr(llm::kSequencesName, builder_.getUnitAttr());
  tokens_ = function.getArgument(0);
  mlir::Value embedded = embed(tokens_);
  mlir::Value hidden = norm(layers(embedded), norm_, "norm");
  if (drafts())
    rememberForDrafts(embedded, previous(hidden));
  mlir::Value logits = logitsOf(hidden);
  if (which == Logits::None)
    choose<llm::ArgmaxOp>(logits, "greedy");
  end(results.empty() ? mlir::ValueRange() : mlir::ValueRange(logits));
}

// As `logits`, of the head that drafts.
void Decoder::draftLogits() {
  const int64_t tokens = mlir::ShapedType::kDynamic;
  auto function = begin("draft_logits", {mlir::RankedTensorType::get({tokens}, builder_.getI32Type())},
                        {mlir::RankedTensorType::get({tokens, shape_.vocabulary}, f32())});
  tokens_ = function.getArgument(0);
  mlir::Value embedded = embed(tokens_);
  mlir::Value hidden = norm(layers(embedded), norm_, "norm");
  end(logitsOf(draft(embedded, previous(hidden))));
}

mlir::Value Decoder::embed(mlir::Value tokens) {
  const int64_t rows = mlir::cast<mlir::RankedTensorType>(tokens.getType()).getDimSize(0);
  return llm::EmbedOp::create(builder_, at("embed_tokens"), mlir::RankedTensorType::get({rows, shape_.hidden}, f32()),
                              tokens, embedding_, builder_.getF32FloatAttr(shape_.embeddingScale));
}

mlir::Value Decoder::logitsOf(mlir::Value x) {
  mlir::Value logits = apply({head_, nullptr, shape_.vocabulary}, x, "lm_head", f32());
  if (shape_.logitCap > 0)
    logits = llm::SoftcapOp::create(builder_, at("softcap"), logits, builder_.getF32FloatAttr(shape_.logitCap));
  return logits;
}

mlir::Value Decoder::previous(mlir::Value hidden) {
  return llm::DelayOp::create(builder_, at("mtp.delay"), hidden, delay_);
}

// An op of type `Choose` makes the next token of `logits`.
template <typename Choose> void Decoder::choose(mlir::Value logits, const char *name) {
  auto token = Choose::create(builder_, at(name), logits);
  llm::AdvanceOp::create(builder_, at("advance"), token);
}

// Logits in, of one sequence or of each of `count`.
template <typename Choose> void Decoder::sampler(const std::string &name, const char *choice, int64_t count) {
  auto logits = mlir::RankedTensorType::get({count, shape_.vocabulary}, f32());
  auto function = begin(name, {logits}, {});
  if (count > 1)
    function->setAttr(llm::kSequencesName, builder_.getUnitAttr());
  choose<Choose>(function.getArgument(0), choice);
  end({});
}

void Decoder::declareEnds() {
  embedding_ = weights_.declare("model.embed_tokens.weight", {shape_.vocabulary, shape_.hidden});
  norm_ = weights_.declare("model.norm.weight", {shape_.hidden});
  head_ = weights_.declare("lm_head.weight", {shape_.vocabulary, shape_.hidden},
                           shape_.tied ? "model.embed_tokens.weight" : "lm_head.weight");
  // A tied checkpoint may carry the shared tensor twice; the configuration says which one counts.
  weights_.skip("lm_head.weight");
}

Decoder::Linear Decoder::linear(const std::string &name, int64_t outputs, int64_t inputs, bool bias) {
  Linear result = {weights_.declare(name + ".weight", {outputs, inputs}), nullptr, outputs};
  if (bias)
    result.bias = weights_.declare(name + ".bias", {outputs});
  return result;
}

mlir::FlatSymbolRefAttr Decoder::state(const std::string &name, llm::StateKind kind, llvm::ArrayRef<int64_t> shape,
                                       mlir::Type element) {
  llm::StateOp::create(builder_, at(name), name, kind, mlir::RankedTensorType::get(shape, element), nullptr);
  return symbol(name);
}

HeadShape Decoder::heads() const {
  return {.heads = shape_.heads,
          .kvHeads = shape_.kvHeads,
          .headDim = shape_.headDim,
          .scale = 1 / std::sqrt(static_cast<double>(shape_.headDim))};
}

Decoder::Cache Decoder::cache(const std::string &layer, const HeadShape &heads) {
  const int64_t shape[] = {mlir::ShapedType::kDynamic, heads.kvHeads, heads.headDim};
  return {state(layer + ".k", llm::StateKind::Key, shape, bf16()),
          state(layer + ".v", llm::StateKind::Value, shape, bf16())};
}

mlir::Value Decoder::apply(const Linear &linear, mlir::Value x, const std::string &name, mlir::Type element) {
  return llm::LinearOp::create(builder_, at(name), like(x, linear.outputs, element), x, mlir::Value(), linear.weight,
                               linear.bias)
      .getResult(0);
}

mlir::Value Decoder::norm(mlir::Value x, mlir::FlatSymbolRefAttr weight, const std::string &name) {
  return llm::RmsNormOp::create(builder_, at(name), like(x, shape_.hidden, bf16()), x, weight,
                                builder_.getF32FloatAttr(shape_.eps), mlir::IntegerAttr());
}

mlir::Value Decoder::headNorm(mlir::Value x, mlir::FlatSymbolRefAttr weight, int64_t heads, const std::string &name) {
  return llm::RmsNormOp::create(builder_, at(name), x.getType(), x, weight, builder_.getF32FloatAttr(shape_.eps),
                                integer(heads));
}

mlir::Value Decoder::rope(mlir::Value x, mlir::FlatSymbolRefAttr frequencies, const Rotary &rotary, int64_t heads,
                          bool queries, const std::string &name) {
  const bool warm = queries && rotary.temperature != 0;
  const int64_t width = mlir::cast<mlir::RankedTensorType>(x.getType()).getDimSize(1), headDim = width / heads;
  return llm::RopeOp::create(builder_, at(name), like(x, width, bf16()), x, frequencies, integer(heads),
                             integer(headDim), rotary.dim == headDim ? mlir::IntegerAttr() : integer(rotary.dim),
                             rotary.magnitude == 1 ? mlir::FloatAttr() : builder_.getF32FloatAttr(rotary.magnitude),
                             warm ? builder_.getF32FloatAttr(rotary.temperature) : mlir::FloatAttr(),
                             warm ? integer(rotary.every) : mlir::IntegerAttr());
}

mlir::Value Decoder::attend(mlir::Value q, mlir::Value k, mlir::Value v, const Cache &cache, int64_t window,
                            const std::string &name, int64_t first) {
  append(k, v, cache, heads(), name);
  return attention(q, cache, heads(), window, name, first);
}

void Decoder::append(mlir::Value k, mlir::Value v, const Cache &cache, const HeadShape &heads,
                     const std::string &name) {
  llm::AppendOp::create(builder_, at(name + ".append"), k, v, cache.k, cache.v, integer(heads.kvHeads),
                        integer(heads.headDim));
}

mlir::Value Decoder::attention(mlir::Value q, const Cache &cache, const HeadShape &heads, int64_t window,
                               const std::string &name, int64_t first) {
  return llm::AttentionOp::create(
      builder_, at(name + ".attention"), q.getType(), q, cache.k, cache.v, integer(heads.heads), integer(heads.kvHeads),
      integer(heads.headDim), builder_.getF32FloatAttr(static_cast<float>(heads.scale)),
      window ? integer(window) : mlir::IntegerAttr(), first ? integer(first) : mlir::IntegerAttr());
}

mlir::Value Decoder::gatedMul(llm::Gate function, mlir::Value gate, mlir::Value up, mlir::Type element,
                              const std::string &name) {
  auto type = mlir::cast<mlir::RankedTensorType>(up.getType()).clone(element);
  return llm::GatedMulOp::create(builder_, at(name), type, function, gate, up);
}

mlir::Value Decoder::add(mlir::Value x, mlir::Value y, const std::string &name, mlir::FlatSymbolRefAttr factor) {
  return llm::AddOp::create(builder_, at(name), x, y, factor);
}

mlir::RankedTensorType Decoder::like(mlir::Value x, int64_t columns, mlir::Type element) {
  return mlir::RankedTensorType::get({mlir::cast<mlir::RankedTensorType>(x.getType()).getDimSize(0), columns}, element);
}

mlir::func::FuncOp Decoder::begin(const std::string &name, mlir::TypeRange inputs, mlir::TypeRange results) {
  auto function = mlir::func::FuncOp::create(builder_, at(name), name, builder_.getFunctionType(inputs, results));
  moduleEnd_ = builder_.saveInsertionPoint();
  builder_.setInsertionPointToStart(function.addEntryBlock());
  return function;
}

void Decoder::end(mlir::ValueRange results) {
  mlir::func::ReturnOp::create(builder_, builder_.getUnknownLoc(), results);
  builder_.restoreInsertionPoint(moduleEnd_);
}

} // namespace ingot
