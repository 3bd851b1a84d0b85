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
    | `@greedy` | `(tensor<1xVxf32>) -> ()` | the best token becomes the next one |
    | `@sample` | `(tensor<1xVxf32>) -> ()` | the same by temperature, top-k and top-p |

    **The first dimension is tokens.** It is dynamic (`?`) in `@prefill` and `@logits` and 1 in `@decode`.

    **Implicit context.** Which tokens these are is not an operand. Every op belongs to the step described by `Step`
    (`runtime/artifact/step.h`), which lives in device memory: row `i` of a tensor belongs to position
    `Step.position + i` of the sequence. So a captured program is replayed without an argument changing.

    **Numbers.** In memory bf16 is what a matrix product or attention reads, and what the cache holds. The residual
    stream is f32, because every layer adds to it, and so is what a fusion keeps in registers anyway (a projection on its
    way to its rotation or its gate): rounding those was most of the difference from an fp32 model
    (docs/design/testing.md). Every op reads its operands as fp32, computes in fp32 with fp32 reductions (int32 for dots
    of int8), and rounds its result once to the result's type, half to even. Where an op deviates its text says so.

    **Weights are fp32 by type.** The type of an `llm.weight` is what the mathematics sees. How it is stored is the
    `scheme` attribute, which the `annotate` pass sets from a recipe; the packer, the kernels and the interpreter all
    read that attribute, and without it a weight is exact.

    **Facts.** The module carries `llm.facts`, a dictionary with at least the integers `vocabulary`,
    `context_length`, `hidden_size`, `layers`, `prefill_chunk` (each i64, greater than 0) and the strings `name` and
    `architecture`. `end_of_sequence` is an `array<i64>` of token ids; `skipped_tensors` an array of strings.

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
    I32EnumAttrCase<"Int8", 2, "int8">]> {
  let cppNamespace = "::ingot::llm";
  let genSpecializedAttr = 0;
}

def Llm_Activation : I32EnumAttr<"Activation", "what the activations of a linear become before the dot", [
    I32EnumAttrCase<"None", 0, "none">,
    I32EnumAttrCase<"Int8PerToken", 1, "int8_per_token">]> {
  let cppNamespace = "::ingot::llm";
  let genSpecializedAttr = 0;
}

def Llm_StateKind : I32EnumAttr<"StateKind", "which half of a KV cache", [
    I32EnumAttrCase<"Key", 0, "key">,
    I32EnumAttrCase<"Value", 1, "value">]> {
  let cppNamespace = "::ingot::llm";
}

def Llm_SchemeAttr : AttrDef<LlmDialect, "Scheme"> {
  let mnemonic = "scheme";
  let summary = "how a weight is stored, and what its activations become";
  let description = [{
    `storage` is the type of the stored values. `group` is the number of elements along K that share one scale; 0 means
    one scale for a whole output channel (a row). `activation` says whether a linear with this weight takes bf16
    activations or int8 with one scale a token.

    | attribute | recipe text | stored value | dequantised |
    |---|---|---|---|
    | `#llm.scheme<f32>` | `f32` | fp32 | itself |
    | `#llm.scheme<bf16>` | `bf16` | bf16, half to even | itself |
    | `#llm.scheme<int8>` | `int8` | `q = round(w * (127 / absmax(row)))`, half to even | `fp32(absmax / 127) * q` |
    | `#llm.scheme<int8, activation = int8_per_token>` | `w8a8` | as `int8` | as `int8` |
    | `#llm.scheme<int8, group = 32>` | `int8_g32` | `q = round(w / s)`, clamped to [-127, 127] | `s * q`, with `s = f16(absmax(group) / 127)` |

    There is no zero point; a row or group of zeros has scale 0 and values 0.

    Rules: R1, a group belongs to int8 and is a positive multiple of 32; R2, int8 activations need int8 storage with one
    scale a channel.
  }];
  let parameters = (ins "::ingot::llm::Storage":$storage, "int64_t":$group, "::ingot::llm::Activation":$activation);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The scheme as a recipe spells it: "bf16", "w8a8", "int8_g32", ...
    std::string spelled() const;
    /// The scheme that a recipe's text names; null if there is none.
    static SchemeAttr fromSpelling(::mlir::MLIRContext *context, ::llvm::StringRef text);
    /// Whether linears with such a weight take int8 activations with a scale a token.
    bool quantizesActivations() const { return getActivation() == Activation::Int8PerToken; }
  }];
}

#endif // INGOT_DIALECTS_LLM_SCHEME_TD
