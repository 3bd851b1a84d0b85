// What the declarations of all families share: symbols of a decoder-only model, the ops its layers are made of, and the
// functions around them. A family derives from it and says what its layers are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "compiler/checkpoint/checkpoint.h"
#include "dialects/Llm.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "models/config.h"
#include "models/declaration.h"
#include "models/rope.h"
#include "models/weights.h"

namespace ingot {

// Bounds that keep products of sizes far from overflow; the largest published model is well below each.
inline constexpr int64_t mostWidth = 1 << 20;
inline constexpr int64_t mostLayers = 4096;
inline constexpr int64_t mostVocabulary = 1 << 24;
inline constexpr int64_t mostContext = 1 << 28;

/// The sizes that every family's configuration has.
struct DecoderShape {
  int64_t hidden = 0, layers = 0, heads = 0, kvHeads = 0, headDim = 0, vocabulary = 0, context = 0;
  float eps = 0;
  bool tied = false;
  float embeddingScale = 1; // of the rows of the table, not of the head
  float logitCap = 0;       // logits are bent into (-cap, cap); 0: they are not
};

/// Heads of one layer.
struct HeadShape {
  int64_t heads = 0, kvHeads = 0, headDim = 0;
  double scale = 1; // of scores
  int64_t queryWidth() const { return heads * headDim; }
  int64_t keyWidth() const { return kvHeads * headDim; }
};

/// Reads them from Hugging Face's keys, and checks that heads are what kernels can run (a head dimension that is a
/// multiple of 16, KV heads that divide heads) and that the MLP's gate has the `activation` of the family. Errors stick
/// to `config`.
DecoderShape readDecoderShape(ConfigReader &config, const Checkpoint &checkpoint, const char *activation = "silu");

class Decoder {
public:
  Decoder(mlir::ModuleOp module, const Checkpoint &checkpoint, const DecoderShape &shape);
  virtual ~Decoder() = default;

  /// Emits the functions that dialects/Llm.td lists, and the module's facts. Errors: what the weights' declaration
  /// found missing or unused; options that the model cannot have.
  absl::Status finish(ConfigReader &config, const DeclareOptions &options);

protected:
  struct Linear {
    mlir::FlatSymbolRefAttr weight, bias;
    int64_t outputs = 0;
  };
  struct Cache {
    mlir::FlatSymbolRefAttr k, v;
  };

  /// From embeddings to what the final norm reads.
  virtual mlir::Value layers(mlir::Value x) = 0;

  // The head that drafts, where there is one. Row t pairs the embedding of a token with `hidden`, what the final norm
  // made of the token before, and predicts the token that follows.

  virtual bool drafts() const { return false; }
  /// What the head's cache remembers of each row.
  virtual void rememberForDrafts(mlir::Value /*embedded*/, mlir::Value /*hidden*/) {}
  /// What the model's own head reads; it is also `hidden` of the row that follows, where that is a draft's.
  virtual mlir::Value draft(mlir::Value /*embedded*/, mlir::Value /*hidden*/) { return {}; }
  /// Of the head: what the final norm made of the last token of the step before. Called once, where it drafts.
  void declareDelay() { delay_ = state("mtp.hidden", llm::StateKind::Conv, {1, shape_.hidden}, f32()); }

  // Symbols.

  /// Weight `name`.weight `[outputs, inputs]`, and `name`.bias where `bias`.
  Linear linear(const std::string &name, int64_t outputs, int64_t inputs, bool bias = false);
  mlir::FlatSymbolRefAttr state(const std::string &name, llm::StateKind kind, llvm::ArrayRef<int64_t> shape,
                                mlir::Type element);
  /// The KV cache of `layer`: states `layer`.k and `layer`.v, for heads as all layers have them or of its own.
  Cache cache(const std::string &layer) { return cache(layer, heads()); }
  Cache cache(const std::string &layer, const HeadShape &heads);
  /// The embedding table, the final norm and the head; called once, before anything else is declared.
  void declareEnds();

  // Ops. `name` becomes the location, which reports and comparisons show.

  mlir::Value apply(const Linear &linear, mlir::Value x, const std::string &name, mlir::Type element);
  mlir::Value norm(mlir::Value x, mlir::FlatSymbolRefAttr weight, const std::string &name);
  /// The norm of each of `heads` pieces of a row, not rounded.
  mlir::Value headNorm(mlir::Value x, mlir::FlatSymbolRefAttr weight, int64_t heads, const std::string &name);
  /// Rotates the leading elements of each of `heads` heads, which are as wide as the row makes them, as `rotary` says,
  /// with `frequencies` the symbol of its frequencies. Only queries have a temperature.
  mlir::Value rope(mlir::Value x, mlir::FlatSymbolRefAttr frequencies, const Rotary &rotary, int64_t heads,
                   bool queries, const std::string &name);
  /// Appends to the cache and attends over it. A window of 0 is none; `first` is the position of the first key there
  /// is.
  mlir::Value attend(mlir::Value q, mlir::Value k, mlir::Value v, const Cache &cache, int64_t window,
                     const std::string &name, int64_t first = 0);
  /// The two parts of it, for heads of another shape or a cache that another layer fills.
  void append(mlir::Value k, mlir::Value v, const Cache &cache, const HeadShape &heads, const std::string &name);
  mlir::Value attention(mlir::Value q, const Cache &cache, const HeadShape &heads, int64_t window,
                        const std::string &name, int64_t first = 0);
  mlir::Value gatedMul(llm::Gate function, mlir::Value gate, mlir::Value up, mlir::Type element,
                       const std::string &name);
  /// The sum, times the one element of the weight `factor` where it is given.
  mlir::Value add(mlir::Value x, mlir::Value y, const std::string &name,
                  mlir::FlatSymbolRefAttr factor = mlir::FlatSymbolRefAttr());

  mlir::Location at(const std::string &name) { return mlir::NameLoc::get(builder_.getStringAttr(name)); }
  mlir::Type f32() { return builder_.getF32Type(); }
  mlir::Type bf16() { return builder_.getBF16Type(); }
  mlir::IntegerAttr integer(int64_t value) { return builder_.getI64IntegerAttr(value); }
  /// Those of a layer that has nothing of its own.
  HeadShape heads() const;
  /// As many rows as `x` has, of `columns`.
  static mlir::RankedTensorType like(mlir::Value x, int64_t columns, mlir::Type element);
  mlir::FlatSymbolRefAttr symbol(const std::string &name) {
    return mlir::FlatSymbolRefAttr::get(builder_.getContext(), name);
  }

  mlir::OpBuilder builder_;
  WeightDeclarer weights_;
  DecoderShape shape_;
  mlir::Value tokens_; // of the function that is being emitted

private:
  enum class Logits { None, Last, All };
  void forward(const char *name, bool oneToken, Logits which);
  template <typename Choose>
  void speculate(const char *name, const char *choice, int64_t count, const std::vector<int64_t> &ends);
  void draftLogits();
  void decodeSeveral(const std::string &name, int64_t count, Logits which);
  mlir::Value embed(mlir::Value tokens);
  mlir::Value logitsOf(mlir::Value x);
  mlir::Value previous(mlir::Value hidden);
  template <typename Choose> void choose(mlir::Value logits, const char *name);
  template <typename Choose> void sampler(const std::string &name, const char *choice, int64_t count);
  mlir::func::FuncOp begin(const std::string &name, mlir::TypeRange inputs, mlir::TypeRange results);
  void end(mlir::ValueRange results);

  mlir::ModuleOp module_;
  const Checkpoint &checkpoint_;
  mlir::OpBuilder::InsertPoint moduleEnd_;
  mlir::FlatSymbolRefAttr embedding_, norm_, head_, delay_;
};

} // namespace ingot
