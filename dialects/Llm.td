// The `llm` dialect: what a language model computes, before any chip is thought of. The prose here is the specification
// that the interpreter, the kernels and the packer are held to; each op numbers the rules its verifier enforces.
#ifndef INGOT_DIALECTS_LLM_TD
#define INGOT_DIALECTS_LLM_TD

include "dialects/LlmScheme.td"
include "mlir/IR/CommonTypeConstraints.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

//===--------------------------------------------------------------------------------------------------------------===//
// Bases
//===--------------------------------------------------------------------------------------------------------------===//

def Llm_Rows : 2DTensorOf<[BF16]>;        // [tokens, columns]
def Llm_WideRows : 2DTensorOf<[BF16, F32]>; // [tokens, columns], not yet rounded where f32
// The same, or with experts [tokens, slots, columns]: a row for each expert that a token goes to.
def Llm_AnyRows : TensorRankOf<[BF16, F32], [2, 3]>;
def Llm_AnyNarrowRows : TensorRankOf<[BF16], [2, 3]>;
def Llm_QuantizedRows : TensorRankOf<[I8], [2, 3]>;
def Llm_Scales : TensorRankOf<[F32], [1, 2]>; // [tokens] or [tokens, slots]
def Llm_Experts : 2DTensorOf<[I32]>;          // [tokens, slots]
def Llm_Logits : 2DTensorOf<[F32]>;       // [tokens, vocabulary]
def Llm_Tokens : 1DTensorOf<[I32]>;       // [tokens]

def Llm_CacheResource : Resource<"::ingot::llm::CacheResource">; // the KV caches
def Llm_StepResource : Resource<"::ingot::llm::StepResource">;   // Step, TOKENS and OUTPUT

class Llm_Op<string mnemonic, list<Trait> traits = []> : Op<LlmDialect, mnemonic, traits> {
  let hasVerifier = 1;
}

// An op that names weights or states: `verifySymbolUses` checks that they exist and fit.
class Llm_SymbolUser<string mnemonic, list<Trait> traits = []>
    : Op<LlmDialect, mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<SymbolUserOpInterface>])>;

//===--------------------------------------------------------------------------------------------------------------===//
// Symbols
//===--------------------------------------------------------------------------------------------------------------===//

def Llm_WeightOp : Llm_Op<"weight", [Symbol]> {
  let summary = "a parameter of the model";
  let description = [{
    Declares a parameter by name. `from` is the tensor of the checkpoint that holds it; the names differ where two
    weights share a tensor (a tied head). A parameter that the configuration determines (the inverse frequencies of
    RoPE) has a `value` instead.

    The type is the logical one: f32 and `[N, K]` for a linear, `[E, N, K]` for one of E experts, `[V, H]` for a table,
    `[N]` for a norm or bias.

    ```mlir
    llm.weight @model.norm.weight from "model.norm.weight" : tensor<576xf32> {scheme = #llm.scheme<f32>}
    llm.weight @lm_head.weight from "model.embed_tokens.weight" : tensor<49152x576xf32>
    llm.weight @inv_freq : tensor<2xf32> value dense<[1.0, 0.01]> : tensor<2xf32>
    ```

    Rules: R1, the type is a static f32 tensor of rank 1 to 3; R2, exactly one of `from` and `value` is there; R3, `value`
    has the weight's type; R4, a scheme of codes belongs to a weight of rank 2 or 3; R5, `stored`, the scheme in which the
    checkpoint's publisher quantised the tensor, is a scheme of codes of a weight of rank 2 or 3 that has a `from`; R6,
    `permuted` belongs to such a weight of rank 2: its groups are not runs of columns, and it is stored column by column in the
    order of its groups (GPTQ's act-order).
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrAttr>:$source,
                       TypeAttrOf<AnyRankedTensor>:$type, OptionalAttr<ElementsAttr>:$value,
                       OptionalAttr<Llm_SchemeAttr>:$scheme, OptionalAttr<Llm_SchemeAttr>:$stored,
                       UnitAttr:$permuted, OptionalAttr<StrAttr>:$sym_visibility);
  let assemblyFormat = "$sym_name (`from` $source^)? `:` $type (`value` $value^)? attr-dict";
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
  }];
}

def Llm_StateOp : Llm_Op<"state", [Symbol]> {
  let summary = "what a layer remembers of a sequence";
  let description = [{
    Declares a tensor that lives from step to step, as the mathematics sees it. It is zero when a sequence starts. Its
    first dimension is `?` where it grows to the context that the runtime chose. A KV cache whose readers have a window
    may be a ring of R positions instead: position p lies at `p mod R`, over what position p - R left there.

    | kind | type | is |
    |---|---|---|
    | `key`, `value` | bf16, i8 or f8E4M3FN `[position][kv_heads][head_dim]` | half of a KV cache |
    | `conv` | f32 `[taps - 1][channels]` | the rows that came before, oldest first (`llm.short_conv`) |
    | `recurrent` | f32 `[value_heads][key_dim][value_dim]` | a matrix a head (`llm.delta_rule`) |

    A cache of i8 or f8E4M3FN holds codes. Each head of each position then has one scale beside them, f32, which the type
    does not show: an element is `code * scale`. `llm.append` says how both are made.

    ```mlir
    llm.state @layers.0.k key : tensor<?x3x64xbf16>
    llm.state @layers.1.k key : tensor<?x3x64xi8>
    llm.state @layers.2.k key : tensor<768x3x64xbf16>
    llm.state @layers.1.conv conv : tensor<3x10240xf32>
    llm.state @layers.1.s recurrent : tensor<48x128x128xf32>
    ```

    Rules: R1, a `key` or `value` is `tensor<?xHxDxT>`, or `tensor<RxHxDxT>` where it is a ring, R and D positive
    multiples of 16, H at least 1 and T bf16, i8 or f8E4M3FN; R2, a `conv` is `tensor<TxCxf32>`, T from 1 to 7 and C a positive multiple of 8;
    R3, a `recurrent` is `tensor<HxKxVxf32>`, H at least 1, K and V multiples of 16 from 16 to 256.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Llm_StateKind:$kind, TypeAttrOf<AnyRankedTensor>:$type,
                       OptionalAttr<StrAttr>:$sym_visibility);
  let assemblyFormat = "$sym_name $kind `:` $type attr-dict";
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
    /// Positions of a ring; 0 where the state grows with the context.
    int64_t getRing() { return getTensorType().isDynamicDim(0) ? 0 : getTensorType().getDimSize(0); }
    /// Whether it is half of a KV cache.
    bool isCache() { return getKind() == StateKind::Key || getKind() == StateKind::Value; }
    /// Whether it is half of a KV cache of codes, with a scale for each head of a position.
    bool holdsCodes() { return isCache() && !getTensorType().getElementType().isBF16(); }
  }];
}

//===--------------------------------------------------------------------------------------------------------------===//
// Activations
//===--------------------------------------------------------------------------------------------------------------===//

def Llm_EmbedOp : Llm_SymbolUser<"embed", [Pure]> {
  let summary = "rows of the embedding table";
  let description = [{
    `result[i] = scale * table[tokens[i]]`, the product in fp32, rounded once to the result's type. `scale` is 1 unless
    the model says otherwise.
    A token id outside `[0, V)` reads the nearest row: the runtime refuses such ids before anything runs.

    ```mlir
    %x = llm.embed %tokens, @model.embed_tokens.weight : (tensor<?xi32>) -> tensor<?x576xf32>
    ```

    Rules: R1, the table is a weight `[V, H]`, where H is the result's width; R2, tokens and result have the same first
    dimension.
  }];
  let arguments = (ins Llm_Tokens:$tokens, FlatSymbolRefAttr:$table,
                       DefaultValuedAttr<F32Attr, "1.0f">:$scale);
  let results = (outs Llm_WideRows:$result);
  let assemblyFormat = "$tokens `,` $table (`scale` $scale^)? attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_RmsNormOp : Llm_SymbolUser<"rms_norm", [Pure]> {
  let summary = "root mean square norm";
  let description = [{
    For each row, or with `heads` for each of so many equal pieces of it: `y = x * r * w` with
    `r = 1 / sqrt(mean(x^2) + eps)`, all in fp32 and in this order, rounded once to the result's type: no rounding happens
    between the normalisation and the multiplication by `w`. The weight of a model that multiplies by `1 + w` is a view of
    the checkpoint's tensor, with the 1 in it.

    ```mlir
    %y = llm.rms_norm %x, @model.norm.weight eps 9.99999974E-6 : tensor<?x576xf32> -> tensor<?x576xbf16>
    %q = llm.rms_norm %p, @layers.0.q_norm eps 9.99999997E-7 heads 9 : tensor<?x576xf32> -> tensor<?x576xf32>
    ```

    Rules: R1, the weight is as wide as what is normalised: a row, or a head; R2, eps is finite and not negative;
    R3, operand and result have the same shape; R4, `heads` is at least 1 and divides the width of the rows.
  }];
  let arguments = (ins Llm_WideRows:$x, FlatSymbolRefAttr:$weight, F32Attr:$eps, OptionalAttr<I64Attr>:$heads);
  let results = (outs Llm_WideRows:$result);
  let assemblyFormat = [{
    $x `,` $weight `eps` $eps (`heads` $heads^)? attr-dict `:` type($x) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Llm_QuantizeOp : Op<LlmDialect, "quantize", [Pure, InferTypeOpAdaptor]> {
  let summary = "int8 rows, each with a scale";
  let description = [{
    For each row, with `a = max |x|` in fp32:

    * `values[k] = round(x[k] * (127 / a))`, half to even, where `127 / a` is one fp32 division and the product one
      fp32 multiplication; so the values lie in [-127, 127],
    * `scale = a / 127` in fp32,
    * a row of zeros gets values 0 and scale 0.

    A row for each expert has a scale of its own.

    ```mlir
    %q, %s = llm.quantize %x : tensor<?x576xbf16> -> tensor<?x576xi8>, tensor<?xf32>
    %r, %t = llm.quantize %h : tensor<?x8x512xbf16> -> tensor<?x8x512xi8>, tensor<?x8xf32>
    ```

    Rules: R1, values have the operand's shape and scales that shape without the columns.
  }];
  let arguments = (ins Llm_AnyNarrowRows:$x);
  let results = (outs Llm_QuantizedRows:$values, Llm_Scales:$scales);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($values) `,` type($scales)";
}

def Llm_RmsNormQuantizeOp : Llm_SymbolUser<"rms_norm_quantize", [Pure]> {
  let summary = "llm.rms_norm and llm.quantize in one";
  let description = [{
    Equals `llm.quantize(llm.rms_norm(x))` bit for bit: the normalised row is rounded to bf16 before its largest
    magnitude is taken. A third result, where there is one, is that row in bf16. The pass `fuse-norm-quantize` makes it.

    ```mlir
    %q, %s = llm.rms_norm_quantize %x, @model.norm.weight eps 9.99999974E-6
        : tensor<?x576xf32> -> tensor<?x576xi8>, tensor<?xf32>
    %r, %t, %y = llm.rms_norm_quantize %x, @model.norm.weight eps 9.99999974E-6
        : tensor<?x576xf32> -> tensor<?x576xi8>, tensor<?xf32>, tensor<?x576xbf16>
    ```

    Rules: R1, R2 as `llm.rms_norm`; R3, values and rows have the operand's shape and scales its first dimension.
  }];
  let arguments = (ins Llm_WideRows:$x, FlatSymbolRefAttr:$weight, F32Attr:$eps);
  let results = (outs Llm_QuantizedRows:$values, Llm_Scales:$scales, Optional<Llm_Rows>:$rows);
  let assemblyFormat = [{
    $x `,` $weight `eps` $eps attr-dict `:` type($x) `->` type($values) `,` type($scales) (`,` type($rows)^)?
  }];
  let hasVerifier = 1;
}

def Llm_LinearOp : Llm_SymbolUser<"linear", [RecursiveMemoryEffects, SingleBlock, AttrSizedOperandSegments]> {
  let summary = "matrix products of one operand with one or more weights";
  let description = [{
    `result[t, n] = sum_k x[t, k] * w[n, k] + bias[n]`, accumulated in fp32 and rounded once to the result's type: bf16,
    or f32 (not rounded). The order of the sum is free.

    With int8 operands and `scales`, the dot is exact in int32 and
    `result[t, n] = fp32(dot) * w_scale[n] * scales[t] + bias[n]`, in this order.

    `quantized` says that the op itself makes int8 rows and scales of its bf16 operand, exactly as `llm.quantize` does, and
    multiplies those. `fuse-quantize` makes such ops.

    `norm` says that the op itself normalises its operand and rounds it to bf16, exactly as `llm.rms_norm` does, before
    it multiplies, or quantises, it. `fuse-norm` makes such ops.

    Several weights are several products in one launch, a result each. `merge-linears` makes such ops.

    With `experts` each weight is E matrices, and slot j of row t meets that of expert `experts[t, j]`:
    `result[t, j, n] = sum_k x[t, k] * w[experts[t, j], n, k]`, or of `x[t, j, k]` where the operand has a row for each
    slot. Weights of other experts are not read. An index outside `[0, E)` means the nearest expert; `llm.route` makes none.

    `shared` names a matrix `[N, K]` for each weight: that of an expert which every row goes to, and which the slot after
    those of `experts` meets. `fuse-shared-expert` makes such ops.

    With `gathered` the columns of `x` are in the order in which the weight is stored (`llm.gather_columns`), and `w[n, k]`
    is the column stored at k.

    An epilogue is what happens to the products before they are stored. Its block has an argument for each weight, of the
    type that product would be stored as; it holds ops of this dialect that work on one row at a time, and what it yields
    are the op's results. It may read values from outside, which are rows of the same tokens. An op means the same inside
    as outside, so moving one in changes no number; the fusion passes do nothing else.

    ```mlir
    %q = llm.linear %x, @q_proj.weight : (tensor<?x576xbf16>) -> tensor<?x576xbf16>
    %k = llm.linear %v scales %s, @k_proj.weight bias @k_proj.bias : (tensor<?x576xi8>, tensor<?xf32>) -> tensor<?x192xbf16>
    %l = llm.linear %r norm @norm.weight eps 9.99999974E-6, @head : (tensor<1x576xf32>) -> tensor<1x49152xf32>
    %h = llm.linear %x, @gate.weight, @up.weight : (tensor<?x576xbf16>) -> tensor<?x1536xbf16>
        epilogue(%g: tensor<?x1536xf32>, %u: tensor<?x1536xf32>) {
      %m = llm.gated_mul silu %g, %u : tensor<?x1536xf32>, tensor<?x1536xf32> -> tensor<?x1536xbf16>
      llm.yield %m : tensor<?x1536xbf16>
    }
    %e = llm.linear %x experts %i, @experts.down : (tensor<?x8x512xbf16>, tensor<?x8xi32>) -> tensor<?x8x2048xf32>
    %f = llm.linear %y experts %i, @experts.down shared [@shared.down]
        : (tensor<1x9x512xbf16>, tensor<1x8xi32>) -> tensor<1x9x2048xf32>
    ```

    Rules: R1, each weight is `[N, K]`, or `[E, N, K]` with `experts`, where K is the operand's width and N its product's; R2, operand, products and
    results have the same first dimension; R3, int8 operands have scales, one a row, and others have none; R4,
    int8 operands, and `quantized`, need weights whose scheme says `activation = int8_per_token`; R5, a bias is a weight
    `[N]`; R6, there is at least one weight and a product for each: the results, or the epilogue's arguments; R7, all weights that have a
    scheme have the same one; R8, the epilogue holds only ops that work row by row (`llm.gated_mul`, `llm.add`,
    `llm.softcap`, `llm.rope`, `llm.append`, `llm.short_conv`, `llm.tile_argmax`, with experts also `llm.combine`) and yields the results' types; R9, `gathered`
    belongs to bf16 rows without a norm and one weight, which is `permuted`; R10, an int8 operand is not `quantized`; R11, with experts
    products are `[tokens, slots, N]`, the operand has a row a token or one a slot, and there is no bias; without them
    every tensor has a row a token; R12, `norm` names a weight as wide as the operand, which is neither int8 nor meets
    experts, and goes with a finite `eps` that is not negative; R13, an f32 operand has a norm; R14, `shared` goes with
    experts and names a weight for each of the weights, of its scheme.
  }];
  let arguments = (ins TensorRankOf<[BF16, F32, I8], [2, 3]>:$x, Optional<Llm_Scales>:$scales,
                       Optional<Llm_Experts>:$experts, OptionalAttr<FlatSymbolRefAttr>:$norm,
                       OptionalAttr<F32Attr>:$eps, UnitAttr:$quantized,
                       FlatSymbolRefArrayAttr:$weights, ArrayAttr:$biases,
                       OptionalAttr<FlatSymbolRefArrayAttr>:$shared, UnitAttr:$gathered);
  let results = (outs Variadic<TensorRankOf<[BF16, F32, I32], [2, 3]>>:$results);
  let regions = (region MaxSizedRegion<1>:$epilogue);
  let assemblyFormat = [{
    $x (`scales` $scales^)? (`experts` $experts^)? (`norm` $norm^ `eps` $eps)? (`quantized` $quantized^)? `,`
    custom<Parts>($weights, $biases) (`shared` $shared^)? attr-dict `:` functional-type(operands, results)
    custom<Epilogue>($epilogue)
  }];
  let hasVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [
    // One product, stored as `result`. `scales`, `bias` and `experts` may be null.
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$x, "::mlir::Value":$scales,
                   "::mlir::FlatSymbolRefAttr":$weight, "::mlir::FlatSymbolRefAttr":$bias,
                   CArg<"::mlir::Value", "nullptr">:$experts)>,
    // Without an epilogue where `epilogue` is not filled afterwards. `scales` and `experts` may be null.
    OpBuilder<(ins "::mlir::TypeRange":$results, "::mlir::Value":$x, "::mlir::Value":$scales,
                   "::mlir::Value":$experts, "::mlir::ArrayAttr":$weights, "::mlir::ArrayAttr":$biases,
                   CArg<"bool", "false">:$quantized)>];
  let extraClassDeclaration = [{
    bool hasEpilogue() { return !getEpilogue().empty(); }
    /// Products of a row where it meets experts; 0 without them.
    int64_t getSlots() {
      return getExperts() ? getExperts().getType().getDimSize(1) + (getShared() ? 1 : 0) : 0;
    }
    unsigned getPartCount() { return getWeights().size(); }
    ::mlir::FlatSymbolRefAttr getPartWeight(unsigned part) {
      return ::llvm::cast<::mlir::FlatSymbolRefAttr>(getWeights()[part]);
    }
    /// Null where the part has none.
    ::mlir::FlatSymbolRefAttr getPartBias(unsigned part) {
      return ::llvm::dyn_cast<::mlir::FlatSymbolRefAttr>(getBiases()[part]);
    }
    /// What the epilogue works on, or the results where there is none.
    ::mlir::ValueRange getProducts() {
      return hasEpilogue() ? ::mlir::ValueRange(getEpilogue().getArguments()) : ::mlir::ValueRange(getResults());
    }
  }];
}

def Llm_GatherColumnsOp : Llm_SymbolUser<"gather_columns", [Pure, SameOperandsAndResultType]> {
  let summary = "columns in the order in which a weight is stored";
  let description = [{
    `result[t, k] = x[t, order[k]]`, where column k of the stored weight is column `order[k]` of the model.

    ```mlir
    %g = llm.gather_columns %x, @down_proj.weight : tensor<?x1536xbf16>
    ```

    Rules: R1, the weight is `permuted`, and as wide as the operand.
  }];
  let arguments = (ins TensorRankOf<[BF16], [2]>:$x, FlatSymbolRefAttr:$weight);
  let results = (outs TensorRankOf<[BF16], [2]>:$result);
  let assemblyFormat = "$x `,` $weight attr-dict `:` type($x)";
}

def Llm_YieldOp : Op<LlmDialect, "yield", [Pure, Terminator, ReturnLike, ParentOneOf<["LinearOp", "HeadsOp", "DeltaRuleOp"]>]> {
  let summary = "what a region makes of what it is given";
  let description = [{
    Ends the epilogue of an `llm.linear` or `llm.delta_rule`, or the body of an `llm.heads`; its operands are the op's
    results.

    ```mlir
    llm.yield %m : tensor<?x1536xbf16>
    ```
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def Llm_RopeOp : Llm_SymbolUser<"rope", [MemoryEffects<[MemRead<Llm_StepResource>]>]> {
  let summary = "rotary position embedding";
  let description = [{
    Rotates each head of each row by its position. With `R = rotary_dim` (or `head_dim` where it is absent), element
    `i < R/2` of a head pairs with element `i + R/2` ("rotate half"); elements from R on pass through.

        angle = fp32(position) * inv_freq[i]              position = Step.position + row
        y[i]       = x[i] * cos(angle) - x[i + R/2] * sin(angle)
        y[i + R/2] = x[i + R/2] * cos(angle) + x[i] * sin(angle)

    The angle is one fp32 product; cosine and sine are fp32 and not rounded to bf16. With a `magnitude` both are multiplied
    by it (YaRN's attention factor). With `temperature B every L` every element of the result, those from R on too, is
    multiplied by `1 + B * ln(1 + floor(position / L))` (Llama 4's scaling of queries far from the start). Every element
    is rounded once to the result's type.

    ```mlir
    %r = llm.rope %q, @inv_freq heads 9 head_dim 64 : tensor<?x576xf32> -> tensor<?x576xbf16>
    %s = llm.rope %q, @inv_freq heads 9 head_dim 64 temperature 1.000000e-01 every 16384 : tensor<?x576xf32> -> tensor<?x576xbf16>
    ```

    Rules: R1, `heads * head_dim` is the width of the rows; R2, `rotary_dim` is even, positive and at most `head_dim`;
    R3, the inverse frequencies are a weight `[R/2]`; R4, operand and result have the same shape; R5, the magnitude is
    finite and positive; R6, the temperature is finite and not negative, and comes with a positive `every`.
  }];
  let arguments = (ins Llm_WideRows:$x, FlatSymbolRefAttr:$inv_freq, I64Attr:$heads, I64Attr:$head_dim,
                       OptionalAttr<I64Attr>:$rotary_dim, OptionalAttr<F32Attr>:$magnitude,
                       OptionalAttr<F32Attr>:$temperature, OptionalAttr<I64Attr>:$every);
  let results = (outs Llm_Rows:$result);
  let assemblyFormat = [{
    $x `,` $inv_freq `heads` $heads `head_dim` $head_dim (`rotary_dim` $rotary_dim^)? (`magnitude` $magnitude^)?
    (`temperature` $temperature^)? (`every` $every^)? attr-dict `:` type($x) `->` type($result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Number of leading elements of a head that rotate.
    int64_t getRotated() { return getRotaryDim().value_or(getHeadDim()); }
  }];
}

def Llm_AppendOp : Llm_SymbolUser<"append", [MemoryEffects<[MemWrite<Llm_CacheResource>, MemRead<Llm_StepResource>]>]> {
  let summary = "write keys and values into a layer's cache";
  let description = [{
    Writes row `i` of `k` and of `v` to position `Step.position + i` of their states, unchanged where these are bf16. Where
    they hold codes, each head of a row becomes codes and a scale, as `llm.quantize` does it to a row: with `a = max |x|` over
    the head in fp32, and M = 127 for i8 and 448 for f8E4M3FN,

    * `code[d] = round(x[d] * (M / a))`, half to even, where `M / a` is one fp32 division and the product one fp32
      multiplication; beyond M it is M,
    * `scale = a / M` in fp32,
    * a head of zeros gets codes 0 and scale 0.

    ```mlir
    llm.append %k, %v, @layers.0.k, @layers.0.v kv_heads 3 head_dim 64 : tensor<?x192xbf16>
    ```

    Rules: R1, `kv_heads * head_dim` is the width of the rows; R2, the first state is of kind key and the second of kind
    value, both with these `kv_heads` and `head_dim` and of one element type.
  }];
  let arguments = (ins Llm_Rows:$k, Llm_Rows:$v, FlatSymbolRefAttr:$k_state, FlatSymbolRefAttr:$v_state,
                       I64Attr:$kv_heads, I64Attr:$head_dim);
  let assemblyFormat = [{
    $k `,` $v `,` $k_state `,` $v_state `kv_heads` $kv_heads `head_dim` $head_dim attr-dict `:` type($k) `,` type($v)
  }];
  let hasVerifier = 1;
}

def Llm_HeadsOp : Llm_Op<"heads", [RecursiveMemoryEffects, SingleBlock, IsolatedFromAbove]> {
  let summary = "what happens to heads between their projection and attention, in one launch";
  let description = [{
    Runs its region on rows of heads: norms of heads, rotations and the write to the cache mean the same inside as
    outside, so moving them in changes no number. `fuse-heads` makes such ops, where an `llm.linear` cannot have these ops
    in its epilogue.

    ```mlir
    %r = llm.heads(%q, %k, %v) : (tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xbf16>) -> tensor<?x128xbf16>
        body(%a: tensor<?x128xf32>, %b: tensor<?x64xf32>, %c: tensor<?x64xbf16>) {
      %n = llm.rms_norm %a, @q_norm eps 9.99999997E-7 heads 2 : tensor<?x128xf32> -> tensor<?x128xf32>
      %s = llm.rope %n, @inv_freq heads 2 head_dim 64 : tensor<?x128xf32> -> tensor<?x128xbf16>
      %t = llm.rope %b, @inv_freq heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
      llm.append %t, %c, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
      llm.yield %s : tensor<?x128xbf16>
    }
    ```

    Rules: R1, the body has an argument for each operand, of its type; R2, it holds `llm.rms_norm` with `heads`,
    `llm.rope` and `llm.append`, all of one head_dim, and nothing else; R3, it yields the results' types; R4, operands have
    the same first dimension.
  }];
  let arguments = (ins Variadic<Llm_WideRows>:$inputs);
  let results = (outs Variadic<Llm_WideRows>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `(` $inputs `)` attr-dict `:` functional-type(operands, results) custom<Body>($body)
  }];
}

def Llm_AttentionOp : Llm_SymbolUser<"attention", [SameOperandsAndResultType,
    MemoryEffects<[MemRead<Llm_CacheResource>, MemRead<Llm_StepResource>]>]> {
  let summary = "causal attention over a layer's cache";
  let description = [{
    For row `i` at position `p = Step.position + i` and query head `h`, with kv head `j = h / (heads / kv_heads)`:

        score[n] = scale * sum_d q[i, h, d] * K[n, j, d]      for n in (p - window, p], or [0, p] without a window,
                                                              and not below min(first, p)
        prob = softmax(score)
        result[i, h] = bf16(sum_n prob[n] * V[n, j])

    Scores, probabilities and sums are fp32; only the result is rounded, and `q` never is, whatever the cache holds. K and V
    are the elements of the cache, of codes `code * scale`: kernels multiply the sum over d by the scale of a key, and the
    probability by that of a value. A window of W holds W keys, the row's own included. The cache already holds this chunk's keys and values: `llm.append` comes before. `first` is 0 unless the
    cache's first positions belong to no row (a head that drafts pairs a token with the state of the one before it).

    ```mlir
    %a = llm.attention %q, @layers.0.k, @layers.0.v heads 9 kv_heads 3 head_dim 64 scale 1.250000e-01 : tensor<?x576xbf16>
    ```

    Rules: R1, `heads * head_dim` is the width of the rows; R2, `kv_heads` divides `heads`; R3, the first state is of kind
    key and the second of kind value, both with these `kv_heads` and `head_dim` and of one element type; R4, `window`, where given, is at least 1;
    R5, where the states are rings of R positions, there is a window W and `W + rows - 1 <= R` for as many rows as the
    chunk may have, so that the chunk's last key has not replaced what its first row sees; R6, `first`, where given, is
    from 1 to 15.
  }];
  let arguments = (ins Llm_Rows:$q, FlatSymbolRefAttr:$k_state, FlatSymbolRefAttr:$v_state, I64Attr:$heads,
                       I64Attr:$kv_heads, I64Attr:$head_dim, F32Attr:$scale, OptionalAttr<I64Attr>:$window,
                       OptionalAttr<I64Attr>:$first);
  let results = (outs Llm_Rows:$result);
  let assemblyFormat = [{
    $q `,` $k_state `,` $v_state `heads` $heads `kv_heads` $kv_heads `head_dim` $head_dim `scale` $scale
    (`window` $window^)? (`first` $first^)? attr-dict `:` type($q)
  }];
  let hasVerifier = 1;
}

def Llm_GatedMulOp : Llm_Op<"gated_mul", [Pure]> {
  let summary = "a product with a gate";
  let description = [{
    `result = f(gate) * up` in fp32, rounded once to the result's type, with `f` one of

    | function | f(g) | where |
    |---|---|---|
    | `silu` | `g / (1 + exp(-g))` | SwiGLU |
    | `gelu_tanh` | `g / (1 + exp(-2u))`, `u = sqrt(2 / pi) (g + 0.044715 g^3)` | GeGLU in its tanh form |
    | `sigmoid` | `1 / (1 + exp(-g))` | the gate of an attention's or a shared expert's output |

    `g / (1 + exp(-2u))` is `g / 2 (1 + tanh u)` without the cancellation where g is negative. A gate of one column gates
    every column of its row.

    ```mlir
    %h = llm.gated_mul silu %gate, %up : tensor<?x1536xf32>, tensor<?x1536xf32> -> tensor<?x1536xbf16>
    %e = llm.gated_mul sigmoid %g, %x : tensor<?x1xf32>, tensor<?x576xf32> -> tensor<?x576xf32>
    ```

    Rules: R1, `up` and result have the same shape; R2, the gate has that shape too, or one column.
  }];
  let arguments = (ins Llm_Gate:$function, Llm_AnyRows:$gate, Llm_AnyRows:$up);
  let results = (outs Llm_AnyRows:$result);
  let assemblyFormat = [{
    $function $gate `,` $up attr-dict `:` type($gate) `,` type($up) `->` type($result)
  }];
  let extraClassDeclaration = [{
    /// Whether one gate serves every column of a row that has more.
    bool isBroadcast() {
      return ::llvm::cast<::mlir::RankedTensorType>(getGate().getType()).getShape().back() !=
             ::llvm::cast<::mlir::RankedTensorType>(getResult().getType()).getShape().back();
    }
  }];
}

def Llm_SoftcapOp : Llm_Op<"softcap", [Pure, SameOperandsAndResultType]> {
  let summary = "logits, bent smoothly into (-cap, cap)";
  let description = [{
    `result = cap * tanh(x / cap)`, every step in fp32. The kernels' tanh is within 2^-21 of its value, relatively, where the
    chip's exp2 and reciprocal err by an ulp; the division and the product round once each.

    ```mlir
    %y = llm.softcap %logits cap 3.000000e+01 : tensor<?x262144xf32>
    ```

    Rules: R1, the cap is finite and greater than 0.
  }];
  let arguments = (ins Llm_Logits:$x, F32Attr:$cap);
  let results = (outs Llm_Logits:$result);
  let assemblyFormat = "$x `cap` $cap attr-dict `:` type($x)";
}

def Llm_AddOp : Llm_SymbolUser<"add", [Pure, SameOperandsAndResultType]> {
  let summary = "the residual's sum";
  let description = [{
    `result = a + b` in fp32, or with `times` `result = (a + b) * s` where the weight has the one element s: the sum is
    rounded to fp32 before the product. Rounded once to the result's type.

    ```mlir
    %y = llm.add %x, %o : tensor<?x576xf32>
    %z = llm.add %y, %d times @layers.0.layer_scalar : tensor<?x576xf32>
    ```

    Rules: R1, the factor is a weight of one element.
  }];
  let arguments = (ins Llm_WideRows:$lhs, Llm_WideRows:$rhs, OptionalAttr<FlatSymbolRefAttr>:$factor);
  let results = (outs Llm_WideRows:$result);
  let assemblyFormat = "$lhs `,` $rhs (`times` $factor^)? attr-dict `:` type($lhs)";
}

def Llm_ColumnsOp : Llm_Op<"columns", [Pure]> {
  let summary = "some neighbouring columns of every row";
  let description = [{
    `result[t, n] = x[t, from + n]`, rounded once to the result's type. All columns of a row that is not rounded yet make it
    what a matrix product reads.

    ```mlir
    %p = llm.columns %all from 512 : tensor<?x8960xf32> -> tensor<?x256xf32>
    %y = llm.columns %x from 0 : tensor<?x1536xf32> -> tensor<?x1536xbf16>
    ```

    Rules: R1, operand and result have the same first dimension; R2, the columns are the operand's: `from` is not negative
    and `from` plus the result's width at most the operand's.
  }];
  let arguments = (ins Llm_WideRows:$x, I64Attr:$from);
  let results = (outs Llm_WideRows:$result);
  let assemblyFormat = "$x `from` $from attr-dict `:` type($x) `->` type($result)";
}

def Llm_LastTokenOp : Op<LlmDialect, "last_token", [InferTypeOpAdaptor, MemoryEffects<[MemRead<Llm_StepResource>]>]> {
  let summary = "the row of the chunk's last token";
  let description = [{
    Row `Step.tokens - 1` of the operand.

    ```mlir
    %l = llm.last_token %x : tensor<?x576xf32> -> tensor<1x576xf32>
    ```

    Rules: R1, the result is one row of the operand's width.
  }];
  let arguments = (ins Llm_WideRows:$x);
  let results = (outs Llm_WideRows:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
}

include "dialects/LlmExperts.td"

//===--------------------------------------------------------------------------------------------------------------===//
// Choosing the next token
//===--------------------------------------------------------------------------------------------------------------===//

def Llm_ArgmaxOp : Op<LlmDialect, "argmax", [Pure, InferTypeOpAdaptor]> {
  let summary = "the index of the largest logit";
  let description = [{
    Of equal logits the lowest index wins.

    ```mlir
    %t = llm.argmax %logits : tensor<1x49152xf32> -> tensor<1xi32>
    ```

    Rules: R1, the result has one element a row.
  }];
  let arguments = (ins Llm_Logits:$logits);
  let results = (outs Llm_Tokens:$token);
  let assemblyFormat = "$logits attr-dict `:` type($logits) `->` type($token)";
}

def Llm_TileArgmaxOp : Llm_Op<"tile_argmax", [Pure, InferTypeOpAdaptor]> {
  let summary = "the largest of each 16 logits";
  let description = [{
    `values[i]` is the largest of logits 16i ... 16i + 15 (the last tile may have fewer) and `columns[i]` its index; of
    equal ones the lowest index wins. NaN never wins: a tile of nothing else gets -infinity and the largest i32. It is the
    first stage of `llm.argmax` in the epilogue of the head, whose kernels make 16 logits at a time; `fuse-argmax` makes
    such ops, and no kernel stands alone.

    ```mlir
    %v, %c = llm.tile_argmax %logits : tensor<1x49152xf32> -> tensor<1x3072xf32>, tensor<1x3072xi32>
    ```

    Rules: R1, there is one row; R2, the results have an element for each 16 columns of it.
  }];
  let arguments = (ins Llm_Logits:$logits);
  let results = (outs Llm_Logits:$values, 2DTensorOf<[I32]>:$columns);
  let assemblyFormat = "$logits attr-dict `:` type($logits) `->` type($values) `,` type($columns)";
  let extraClassDeclaration = "static constexpr int64_t kTile = 16;";
}

def Llm_SampleOp : Op<LlmDialect, "sample",
                      [InferTypeOpAdaptor, MemoryEffects<[MemRead<Llm_StepResource>]>]> {
  let summary = "a random token by temperature, top-k and top-p";
  let description = [{
    Takes its settings from `Step`. In fp32, on each row by itself:

    0. Where `Step.masked` is not 0, the logit of a token whose bit in the sequence's mask is 0 counts as -1e30; the kernel
       writes that over it. Where the temperature is 0, the token is that of `llm.argmax`, and nothing else is done.
    1. `z = logits / temperature`.
    2. top-k: keep the `top_k` largest `z`; of equal ones the lower index is kept first. 0, or at least V, keeps all.
    3. `p = softmax(z)` over what is kept.
    4. top-p: order by descending `p`, the lower index first where equal, and keep the shortest prefix whose sum is at
       least `top_p`. 1 keeps all.
    5. `u = (r >> 8) * 2^-24`, where `r` is the first word of Philox4x32-10 with key `Step.seed` and counter
       `(position of the chosen token, 0, 0, 0)`. For row i that position is `Step.position + Step.tokens + i`: where there
       are several rows, `Step.tokens` is still 1, as the step before left it.
    6. The token is the first kept index, in index order, at which the running sum of `p` exceeds `u` times the sum of all
       kept `p`; the last kept index if rounding leaves none.

    ```mlir
    %t = llm.sample %logits : tensor<1x49152xf32> -> tensor<1xi32>
    ```

    Rules: R1, the result has one element a row.
  }];
  let arguments = (ins Llm_Logits:$logits);
  let results = (outs Llm_Tokens:$token);
  let assemblyFormat = "$logits attr-dict `:` type($logits) `->` type($token)";
}

def Llm_AdvanceOp : Llm_Op<"advance", [MemoryEffects<[MemWrite<Llm_StepResource>, MemRead<Llm_StepResource>]>]> {
  let summary = "make the chosen token the next step's input";
  let description = [{
    In this order: `TOKENS[0] = token`; if `Step.generated < Step.capacity`, `OUTPUT[Step.generated] = token`;
    `Step.position += Step.tokens`; `Step.tokens = 1`; `Step.generated += 1`. In a function of several sequences
    (`llm.sequences`) token i does that to sequence i.

    ```mlir
    llm.advance %t : tensor<1xi32>
    ```

    Rules: R1, there is exactly one token, or in a function of several sequences one for each.
  }];
  let arguments = (ins Llm_Tokens:$token);
  let assemblyFormat = "$token attr-dict `:` type($token)";
}

def Llm_AdvanceBestOp : Llm_Op<"advance_best", [MemoryEffects<[MemWrite<Llm_StepResource>, MemRead<Llm_StepResource>]>]> {
  let summary = "make the best of some candidates the next step's input";
  let description = [{
    `llm.advance` by `columns[i]`, where `values[i]` is the largest of the values, and of equal ones that with the lowest
    column. With `llm.tile_argmax` before it, it equals `llm.argmax` and `llm.advance`: where every logit was NaN the token
    is 0.

    ```mlir
    llm.advance_best %v at %c : tensor<1x3072xf32>, tensor<1x3072xi32>
    ```

    Rules: R1, there is one row; R2, values and columns have the same shape.
  }];
  let arguments = (ins Llm_Logits:$values, 2DTensorOf<[I32]>:$columns);
  let assemblyFormat = "$values `at` $columns attr-dict `:` type($values) `,` type($columns)";
}

include "dialects/LlmDelta.td"
include "dialects/LlmDraft.td"

#endif // INGOT_DIALECTS_LLM_TD
