// The `llm` dialect itself and its attributes, chiefly the quantisation scheme. Apart from the ops, because `exec` speaks of
// schemes too and TableGen generates every op that it can see.
#ifndef INGOT_DIALECTS_LLM_SCHEME_TD
#define INGOT_DIALECTS_LLM_SCHEME_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/CommonAttrConstraints.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def LlmDialect : Dialect {
  let name = "llm";
  let cppNamespace = "::ingot::llm";
  let summary = "What a language model computes, one op per mathematical step";
  let description = [{
    A module of this dialect is one model: `llm.weight` and `llm.state` symbols, and upstream `func.func` functions
    over them. The functions that every model has:

    | function | type | does |
    |---|---|---|
    | `@prefill` | `(tensor<?xi32>) -> tensor<1xVxf32>` | a chunk of tokens in, logits of its last token out |
    | `@decode` | `(tensor<1xi32>) -> tensor<1xVxf32>` | one token in, its logits out |
    | `@logits` | `(tensor<?xi32>) -> tensor<?xVxf32>` | a chunk in, logits of every token out |
    | `@decode_greedy` | `(tensor<1xi32>) -> ()` | `@decode` and `@greedy` in one, without logits for anyone |
    | `@greedy` | `(tensor<1xVxf32>) -> ()` | the best token becomes the next one |
    | `@sample` | `(tensor<1xVxf32>) -> ()` | the same by temperature, top-k and top-p |

    Those of a model with a head that drafts k tokens (`draft_length`):

    | function | type | does |
    |---|---|---|
    | `@speculate` | `(tensor<(k+1)xi32>) -> ()` | `@decode_greedy` of a chosen token and of those drafted to follow it, as far as they are accepted; drafts k more |
    | `@speculate_sample` | the same | the same of `@decode` and `@sample`: row i's own sample decides whether draft i + 1 is accepted |
    | `@draft_logits` | `(tensor<?xi32>) -> tensor<?xVxf32>` | a chunk in, what the head says after each token but the first of a sequence |

    Those of a model that was compiled for steps of several sequences, each with the attribute `llm.sequences`:

    | function | type | does |
    |---|---|---|
    | `@decode_greedy_N` | `(tensor<Nxi32>) -> ()` | `@decode_greedy` for each of N sequences |
    | `@decode_N` | `(tensor<Nxi32>) -> tensor<NxVxf32>` | `@decode` for each of N sequences |
    | `@sample_N` | `(tensor<NxVxf32>) -> ()` | `@sample` for each of N sequences |

    **The first dimension is tokens.** It is dynamic (`?`) in `@prefill` and `@logits` and 1 in `@decode` and
    `@decode_greedy`. A static number of rows is small: kernels compute each row by the very sums of a single one.

    **Implicit context.** Which tokens these are is not an operand. Every op belongs to the step described by `Step`
    (`runtime/artifact/step.h`), which lives in device memory: row `i` of a tensor belongs to position
    `Step.position + i` of the sequence. So a captured program is replayed without an argument changing.

    **Several sequences.** In a function with the unit attribute `llm.sequences` row `i` of a tensor is the one token of
    sequence i instead. Every op that reads or writes Step, TOKENS, OUTPUT or a state does to row i, with those of sequence
    i, what it does to row 0 of a step of that sequence alone: row i lies at position `Step.position` of sequence i.
    Rules of `llm.sequences`: R1, it sits on a function of one `tensor<Nxi32>` or `tensor<NxVxf32>`, N from 2 to 8, that
    returns nothing or one `tensor<NxVxf32>`.

    **Numbers.** In memory bf16 is what a matrix product or attention reads, and what the cache holds unless it holds codes
    (`llm.state`). The residual
    stream is f32, because every layer adds to it, and so is what a fusion keeps in registers anyway (a projection on its
    way to its rotation or its gate): rounding those was most of the difference from an fp32 model
    (docs/design/testing.md). Every op reads its operands as fp32, computes in fp32 with fp32 reductions (int32 for dots
    of int8), and rounds its result once to the result's type, half to even. Where an op deviates its text says so.

    **Weights are fp32 by type.** The type of an `llm.weight` is what the mathematics sees. How it is stored is the
    `scheme` attribute, which the `annotate` pass sets from a recipe; the packer, the kernels and the interpreter all
    read that attribute, and without it a weight is exact.

    **Facts.** The module carries `llm.facts`, a dictionary with at least the integers `vocabulary`,
    `context_length`, `hidden_size`, `layers`, `prefill_chunk` (each i64, greater than 0) and the strings `name` and
    `architecture`. `end_of_sequence` is an `array<i64>` of token ids; `skipped_tensors` an array of strings; `draft_length` is an
    i64 where the model has a head that drafts.

    Rules of `llm.facts`: R1, it sits on a `builtin.module`; R2, it is a dictionary with the entries named above.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let extraClassDeclaration = [{
    /// The module attribute that holds the model's facts.
    static constexpr ::llvm::StringLiteral factsName = "llm.facts";
  }];
}

//===--------------------------------------------------------------------------------------------------------------===//
// Attributes
//===--------------------------------------------------------------------------------------------------------------===//

def Llm_Storage : I32EnumAttr<"Storage", "how the values of a weight are stored", [
    I32EnumAttrCase<"F32", 0, "f32">,
    I32EnumAttrCase<"BF16", 1, "bf16">,
    I32EnumAttrCase<"Int8", 2, "int8">,
    I32EnumAttrCase<"Int4", 3, "int4">,
    I32EnumAttrCase<"Fp8", 4, "fp8">]> {
  let cppNamespace = "::ingot::llm";
  let genSpecializedAttr = 0;
}

def Llm_ScaleType : I32EnumAttr<"ScaleType", "the type of a weight's scales", [
    I32EnumAttrCase<"F16", 0, "f16">,
    I32EnumAttrCase<"BF16", 1, "bf16">,
    I32EnumAttrCase<"F32", 2, "f32">]> {
  let cppNamespace = "::ingot::llm";
  let genSpecializedAttr = 0;
}

def Llm_Activation : I32EnumAttr<"Activation", "what the activations of a linear become before the dot", [
    I32EnumAttrCase<"None", 0, "none">,
    I32EnumAttrCase<"Int8PerToken", 1, "int8_per_token">]> {
  let cppNamespace = "::ingot::llm";
  let genSpecializedAttr = 0;
}

def Llm_StateKind : I32EnumAttr<"StateKind", "what a state is", [
    I32EnumAttrCase<"Key", 0, "key">,
    I32EnumAttrCase<"Value", 1, "value">,
    I32EnumAttrCase<"Conv", 2, "conv">,
    I32EnumAttrCase<"Recurrent", 3, "recurrent">]> {
  let cppNamespace = "::ingot::llm";
}

def Llm_Gate : I32EnumAttr<"Gate", "what a gate becomes before it multiplies", [
    I32EnumAttrCase<"Silu", 0, "silu">,
    I32EnumAttrCase<"GeluTanh", 1, "gelu_tanh">,
    I32EnumAttrCase<"Sigmoid", 2, "sigmoid">]> {
  let cppNamespace = "::ingot::llm";
}

def Llm_SchemeAttr : AttrDef<LlmDialect, "Scheme"> {
  let mnemonic = "scheme";
  let summary = "how a weight is stored, and what its activations become";
  let description = [{
    `storage` is the type of the stored values; `fp8` is E4M3. `group` is the number of elements along K that share one
    scale; 0 means one scale for a whole output channel (a row). `scales` is the type of the scales: f16 for groups of
    integers, otherwise f32, where it is not said. `zeros` says that each scale has a zero point beside it, `bands` that 16
    rows share a scale (a block of FP8 is some such bands). `activation` says whether a linear with this weight takes
    bf16 activations or int8 with one scale a token.

    | attribute | recipe text | stored value | dequantised |
    |---|---|---|---|
    | `#llm.scheme<f32>` | `f32` | fp32 | itself |
    | `#llm.scheme<bf16>` | `bf16` | bf16, half to even | itself |
    | `#llm.scheme<int8>` | `int8` | `q = round(w * (127 / absmax(row)))`, half to even | `fp32(absmax / 127) * q` |
    | `#llm.scheme<int8, activation = int8_per_token>` | `w8a8` | as `int8` | as `int8` |
    | `#llm.scheme<int8, group = 32>` | `int8_g32` | `q = round(w / s)`, clamped to [-127, 127] | `s * q`, with `s = f16(absmax(group) / 127)` |
    | `#llm.scheme<int4, group = 128>` | `int4_g128` | `q = round(w / s)`, clamped to [-8, 7] | `s * q`, with `s = f16(absmax(group) / 7.5)` |
    | `#llm.scheme<int4, group = 128, zeros>` | `int4_g128_zp` | `q = round(w / s) + z`, clamped to [0, 15] | `s * (q - z)`, with `s = f16(max(hi - lo, 1e-5) / 15)`, `z = round(-lo / s)`, `lo` and `hi` the group's extremes and 0 |
    | `#llm.scheme<fp8>` | `fp8` | `q = e4m3(w / s)`, saturating | `s * q`, with `s = fp32(absmax(row) / 448)` |

    A row or group of zeros has scale 0 and values 0. Where a checkpoint is already quantised its codes are the stored
    values, whatever they are; `bands`, `zeros` of int8 and scales of another type come only from such checkpoints.

    Rules: R1, a group is 0 or a power of two from 32 to 1024, of int8, int4 or fp8; R2, int8 activations need int8
    storage with one f32 scale a channel and no zero points; R3, zero points belong to int8 and int4; R4, bands belong to
    fp8; R5, scales of other types than f32 belong to what has scales.
  }];
  let parameters = (ins "::ingot::llm::Storage":$storage, "int64_t":$group, "::ingot::llm::Activation":$activation,
                    "::ingot::llm::ScaleType":$scales, "bool":$zeros, "bool":$bands);
  let builders = [
    AttrBuilder<(ins "::ingot::llm::Storage":$storage, CArg<"int64_t", "0">:$group, CArg<"bool", "false">:$zeros)>
  ];
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Which rule such a scheme breaks, in words; empty if none.
    static std::string whyNot(Storage storage, int64_t group, Activation activation, ScaleType scales, bool zeros,
                              bool bands);
    /// The type of scales where nothing else is said.
    static ScaleType usualScales(Storage storage, int64_t group);
    /// The scheme as a recipe spells it: "bf16", "w8a8", "int8_g32", ... What no recipe can ask for has a suffix more.
    std::string spelled() const;
    /// The scheme that a recipe's text names; null if there is none.
    static SchemeAttr fromSpelling(::mlir::MLIRContext *context, ::llvm::StringRef text);
    /// Whether linears with such a weight take int8 activations with a scale a token.
    bool quantizesActivations() const { return getActivation() == Activation::Int8PerToken; }
    /// Whether stored values are codes that a scale makes numbers.
    bool scaled() const { return getStorage() != Storage::F32 && getStorage() != Storage::BF16; }
    /// Bits of a stored value.
    unsigned bits() const;
  }];
}

#endif // INGOT_DIALECTS_LLM_SCHEME_TD
