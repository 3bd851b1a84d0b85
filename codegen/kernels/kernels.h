// Every kernel there is, one emitter each. A configuration holds what is baked into the code (shapes, types,
// constants); what changes from launch to launch comes through pointers. Emitters add one gpu.func to a gpu.module and
// return how to launch it. Rows of activations are padded to 64 elements, weights are tile16 (docs/design/layouts.md);
// `step` is runtime/artifact/step.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "codegen/kernel_builder.h"
#include "codegen/kernels/rotation.h"
#include "codegen/launch_shape.h"
#include "dialects/Llm.h"

namespace ingot {

// Elements of an activation row in memory.
constexpr uint64_t paddedRow(uint64_t elements) { return (elements + 63) / 64 * 64; }

// How to launch a kernel. `tokensPerWorkgroup` 0: the grid's y is `y`; else y = ceil(tokens of the chunk / it).
struct LaunchShape {
  std::string kernel;
  unsigned x = 1, y = 1, tokensPerWorkgroup = 0, z = 1;
  unsigned workgroupSize = 32;
  // What bounds the grid, for those who find it narrow (`ingotc --explain-kernels`); from the decision, where there is
  // one.
  std::string bound = {};
  std::optional<LaunchDecision> decision = {}; // where the cost function chose
};

// The arguments of each kernel are listed in order; all are global pointers. `sequences` in a configuration: rows are
// tokens of several sequences, and what each of them has for itself (step, tokens, output, states) is argument by table
// (codegen/kernels/sequences.h). A workgroup whose row is padding then leaves early, and leaves the row's result as it
// was, wherever that is not said otherwise.

// What an activation is made of. Rows of either are padded to 64 elements.
enum class Element { Bf16, F32 };

// (step, tokens i32, table bf16 row-major, out). One workgroup a token. Ids beyond the table read its last row.
struct EmbedConfig {
  uint64_t vocabulary, hidden;
  Element out;
  double scale = 1;
  bool sequences = false; // padding reads what row 0 does
};
LaunchShape emitEmbed(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const EmbedConfig &c);

// (x, weight f32, out) or, quantised, (x, weight f32, out int8, scales f32, and the normalised row bf16 too with
// `rows`). y = x * rsqrt(mean(x^2) + eps) * w, rounded to `out`; quantised: of y in bf16, q = round-half-even(y * (127
// / absmax)), scale = absmax / 127 per row. Without norm (`norm` false, no weight argument) it quantises x itself. One
// workgroup a row.
struct NormConfig {
  uint64_t columns;
  Element x;
  bool norm, quantize;
  double epsilon = 0;
  Element out = Element::Bf16; // where not quantised
  uint64_t slots = 0;          // rows of a token, whose scales are a padded row; 0: one row and scale
  bool rows = false;           // of a norm that quantises: also its row in bf16
};
LaunchShape emitNorm(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                     const NormConfig &c);

// How a result is stored: padded rows of bf16 or f32 (or i32, as wide), or logits: f32 rows of exactly N elements.
enum class LinearOutput { Bf16, F32, Logits };
// One weight [rows, K] and its product.
struct LinearPart {
  uint64_t rows;
  bool bias = false; // f32 [rows padded]
};
struct LinearResult {
  uint64_t columns;
  LinearOutput output = LinearOutput::Bf16;
};
// Of a linear whose weights are those of experts, one after another (`expertStride`): slot j of token t meets expert
// indices[t][j], i32 in padded rows, and products have a row a slot.
struct LinearExperts {
  uint64_t count = 0;     // experts there are; 0: the linear has none
  uint64_t slots = 0;     // of a token, at most 32
  bool shared = false;    // the last of them meets a weight of its own (one token only)
  bool ownRows = false;   // the operand has a row a slot, else a row a token
  uint64_t chunkRows = 0; // tokens of a whole chunk: what a grid for many tokens must cover
  explicit operator bool() const { return count != 0; }
};
struct LinearConfig {
  uint64_t columns;       // K
  llm::SchemeAttr scheme; // of every weight
  std::vector<LinearPart> parts;
  std::vector<LinearResult> results; // of the epilogue, or the products themselves
  mlir::Region *epilogue = nullptr;  // of an `llm.linear`; null: none
  bool quantize = false;             // x is bf16, and the kernel quantises it, or each of its rows (decode only)
  mlir::FlatSymbolRefAttr norm = {}; // the weight of the norm that the kernel applies to x; null: none (decode only)
  double epsilon = 0;                // of the norm
  Element x = Element::Bf16;         // what x is made of where the norm reads it
  LinearExperts experts = {};
  uint64_t chunkRows = 64; // tokens of a whole chunk, which the cost function lays a kernel for many tokens out for
  uint64_t tokens = 1;    // rows of the operand and of the results, a few (decode only); with experts the grid's matter
  bool sequences = false; // of padding what is not written to a sequence is computed, but no expert is read
};
// Why no kernel has this shape of parts and epilogue; empty when there is one.
std::string whyNoLinear(const LinearConfig &c);
// A few tokens, or with experts any number: each by the very sums of a single one. The arguments are those of
// `linearArguments` (codegen/kernels/linear.h).
LaunchShape emitLinearDecode(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                             const LinearConfig &c);
// Many tokens. Rows of x beyond the chunk's tokens may be anything.
LaunchShape emitLinearPrefill(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              const LinearConfig &c);

// (step, x, inv_freq f32 [rotary / 2], out bf16): rotate-half on each head's first `rotary` dims.
struct RopeConfig {
  uint64_t heads, headDim, rotary;
  Element x;
  RotationScale scale = {};
  bool sequences = false; // padding has the position of row 0
};
LaunchShape emitRope(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                     const RopeConfig &c);

// What a KV cache holds: numbers, or codes with an f32 scale for each head of a position.
enum class CacheElement { Bf16, Int8, Fp8 };
CacheElement cacheElementOf(llm::StateOp state);
// Bytes of a position of one half of a KV cache, scales with it.
uint64_t cacheBytes(llm::StateOp state);

// (step, k bf16 rows, v bf16 rows, K cache, V cache): writes each token of the chunk at its position. Codes only of
// heads that `whyNotHead` has nothing against.
struct AppendConfig {
  uint64_t kvHeads, headDim;
  uint64_t ring = 0; // positions of the cache, where it is a ring; 0: it holds all
  CacheElement element = CacheElement::Bf16;
  bool sequences = false;
};
LaunchShape emitAppend(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       const AppendConfig &c);

// (x, weight f32 [headDim], out): RMSNorm of each head of a row.
struct HeadNormConfig {
  uint64_t heads, headDim;
  Element x, out;
  double epsilon = 0;
};
LaunchShape emitHeadNorm(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                         const HeadNormConfig &c);

// `llm.heads`: the arguments are those of `headsArguments` (codegen/kernels/heads.h).
struct HeadsConfig {
  uint64_t headDim;
  mlir::Region *body;
  std::vector<LinearResult> results; // Bf16 or F32
  bool sequences = false;            // of padding what is not written to a sequence is computed
};
LaunchShape emitHeads(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const HeadsConfig &c);

struct AttentionConfig {
  uint64_t heads, kvHeads, headDim;
  double scale;
  uint64_t window = 0; // keys visible, the query's own included; 0: all
  uint64_t ring = 0;   // positions of the cache, where it is a ring; 0: it holds all
  uint64_t first = 0;  // position of the first key there is, for queries that are not before it
  uint64_t tokens = 1; // queries, a few (decode only, where the code is that of any number above 1)
  CacheElement element = CacheElement::Bf16;
  bool sequences = false; // decode only
  uint64_t split = 0;     // prefill only, without a window: units that share the positions of a short chunk; 0: none do
};
// Decode, first stage: (step, q bf16, K cache, V cache, partials f32). Unit u of `attentionUnits` takes blocks of 16
// positions u, u + units, ... Partials: [token][head][unit][headDim + 2]: sum of p * v, maximum (of scaled scores,
// times log2 e), sum of p.
unsigned attentionUnits(const TargetInfo &target, const AttentionConfig &c);
LaunchShape emitAttentionDecode(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                                const AttentionConfig &c);
// Second stage, of either: (step, partials, out bf16).
LaunchShape emitAttentionCombine(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                                 const AttentionConfig &c);
// Prefill: (step, q bf16, K cache, V cache, out bf16). The chunk's own keys and values are in the cache already.
//
// With `split` also (partials f32): a chunk of at most kSplitTokens that sees at least kSplitBlocks blocks of 16
// positions leaves partials of so many units, as decode does, and nothing in `out`; the second stage then makes `out`
// of them. Of any other chunk the first stage makes `out`, and the second leaves it.
inline constexpr int64_t kSplitTokens = 64, kSplitBlocks = 64;
// How many units fill the chip, at most kSplitBlocks.
uint64_t attentionSplit(const TargetInfo &target, const AttentionConfig &c);
LaunchShape emitAttentionPrefill(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                                 const AttentionConfig &c);

// (step, x f32, taps f32 [channels][taps], state f32 [taps - 1][channels], out f32): `llm.short_conv` of one token or
// many.
struct ShortConvConfig {
  uint64_t channels, taps;
  uint64_t peek = 0; // rows, after which the state is as it was; 0: as many as the step has, and the state moves on
  bool sequences = false; // of a row each
};
LaunchShape emitShortConv(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                          const ShortConvConfig &c);

// `llm.delta_rule`. Heads share keys in runs; key_dim and value_dim are multiples of 16 up to 256.
struct DeltaConfig {
  uint64_t keyHeads, valueHeads, keyDim, valueDim;
  uint64_t peek = 0;                // as in ShortConvConfig, token by token only
  mlir::Region *epilogue = nullptr; // of the op: what happens to whole heads (token by token only); null: none
  LinearResult result = {.columns = 0, .output = LinearOutput::F32}; // of the epilogue
  bool sequences = false;                                            // of a row each, token by token only
};
// (step, qkv f32, b f32, a f32, decay f32, dt_bias f32, state f32, out f32): token by token, for one or a few. With an
// epilogue the arguments are those of `deltaArguments` (codegen/kernels/delta.h).
LaunchShape emitDeltaRecurrent(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                               const DeltaConfig &c);
// Many tokens, in chunks of 64 (docs/design/kernels.md), for heads that registers can hold: key_dim up to 128. First,
// for each chunk and head, what does not depend on the state: (step, qkv f32, b f32, a f32, decay f32, dt_bias f32,
// prepared). `prepared` has `deltaPreparedBytes` for each 64 tokens that there is room for.
bool deltaInChunks(const DeltaConfig &c);
uint64_t deltaPreparedBytes(const DeltaConfig &c);
LaunchShape emitDeltaPrepare(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                             const DeltaConfig &c);
// Then chunk after chunk: (step, qkv f32, prepared, state f32, out f32).
LaunchShape emitDeltaChunks(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            const DeltaConfig &c);

// (a, b, out), rows of `columns`. Of a gated product, a is the gate. `scaled`: (a, b, factor f32, out), the result of
// the op is multiplied by the one factor.
enum class Elementwise { Add, SiluMul, GeluTanhMul, SigmoidMul };
struct ElementwiseConfig {
  Elementwise op;
  uint64_t columns;
  Element a, b, out;
  bool broadcast = false; // rows of a hold one element, for all columns
  bool scaled = false;
  uint64_t slots = 1; // rows of a token
};
LaunchShape emitElementwise(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            const ElementwiseConfig &c);

// (logits f32, weights f32, indices i32): the `top` experts of each token and their shares, as `llm.route` says. Rows
// of all three are padded; the padding of the results is 0. After the logits come, where they are wanted, the logit f32
// of an expert that each token goes to (`shared`), and factors f32, one an expert (`scaled`).
struct RouteConfig {
  uint64_t experts, top;
  bool normalize;
  bool shared = false;
  bool scaled = false;
};
LaunchShape emitRoute(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const RouteConfig &c);

// (step, indices i32, groups): the slots of a chunk's tokens in the order of their experts, for kernels that give each
// expert's rows to workgroups of their own. `groups` holds `groupTiles` tiles {expert, first, count, 0} of i32, those
// beyond the last with count 0; then the rows t * slots + j of all slots, i32, sorted by expert and by row.
// A tile is the rows [first, first + count) of that list, at most kGroupRows.
inline constexpr uint64_t kGroupRows = 32;
// Tiles that `rows` tokens may need: each expert's last tile may be short.
constexpr uint64_t groupTiles(uint64_t experts, uint64_t slots, uint64_t rows) {
  return rows * slots / kGroupRows + std::min(experts, rows * slots);
}
constexpr uint64_t groupBytes(uint64_t experts, uint64_t slots, uint64_t rows) {
  return groupTiles(experts, slots, rows) * 16 + rows * slots * 4;
}
LaunchShape emitGroup(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const LinearExperts &c);

// (x, weights f32, out): the weighted sum of a token's `slots` rows.
struct CombineConfig {
  uint64_t slots, columns;
  Element x, out;
};
LaunchShape emitCombine(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        const CombineConfig &c);

// (x, out): cap * tanh(x / cap) of f32 rows, one workgroup row a token.
struct SoftcapConfig {
  uint64_t columns;
  double cap;
  bool logits = false; // `out` has rows of exactly `columns`, without padding
};
LaunchShape emitSoftcap(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        const SoftcapConfig &c);

// (x bf16, order u32 [columns padded], out bf16): out[k] = x[order[k]]. An order beyond the row reads its last element.
LaunchShape emitGatherColumns(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              uint64_t columns);

// (x, out): columns [from, from + columns) of rows of `width`, rounded to `out`.
struct ColumnsConfig {
  uint64_t width, from, columns;
  Element x, out;
};
LaunchShape emitColumns(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        const ColumnsConfig &c);

// (step, x, out): the row of the chunk's last token.
LaunchShape emitLastToken(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                          Element element, uint64_t columns);

// Index of the largest of `vocabulary` f32; ties to the lowest. Two stages: (logits, partials) and (partials, token
// i32), for each row. partials: [kArgmaxWorkgroups] x {f32 value, i32 index} a row. NaN never wins.
inline constexpr unsigned kArgmaxWorkgroups = 64;
LaunchShape emitArgmaxPartial(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                              uint64_t vocabulary);
LaunchShape emitArgmaxFinal(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name);

// What stands for the index where there is none: no candidate beats it, not even at the same value.
inline constexpr int64_t kNoIndex = INT32_MAX;

// (step, mask u32, logits f32, token i32): mask, temperature, top-k, top-p from the Step, for each row; the algorithm
// is `llm.sample`'s. Logits that the mask leaves out are overwritten. Several rows are padded; one row alone need not
// be.
LaunchShape emitSample(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       uint64_t vocabulary, bool sequences = false);

// (step, token i32, tokens i32, output i32): tokens[0] = output[generated] = token; position += tokens; tokens = 1;
// generated += 1. Of several sequences each by its row's token.
LaunchShape emitAdvance(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                        bool sequences = false);

// (step, values f32, columns i32, tokens i32, output i32): the same by the column of the largest value, of equal ones
// the lowest. The second stage of argmax where the head's epilogue is the first.
LaunchShape emitAdvanceBest(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            uint64_t candidates);

// (a bf16, b bf16, out bf16): rows of both beside each other; both widths are multiples of 8.
struct ConcatConfig {
  uint64_t a, b;
};
LaunchShape emitConcat(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       const ConcatConfig &c);

// (step, x bf16, state f32, out bf16): `llm.delay`; `columns` is a multiple of 8.
LaunchShape emitDelay(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name, uint64_t columns,
                      bool sequences = false);

// (step, best i32, tokens i32, output i32, next i32): `llm.accept` of so many tokens.
struct AcceptConfig {
  uint64_t tokens;
  llvm::ArrayRef<int64_t> ends;
};
LaunchShape emitAccept(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       const AcceptConfig &c);

// (step, token i32, tokens i32): tokens[index] = token, and the step's position moves.
struct DraftConfig {
  uint64_t index;
  int64_t move;
};
LaunchShape emitDraft(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const DraftConfig &c);

} // namespace ingot
