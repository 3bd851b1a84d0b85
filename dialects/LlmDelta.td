// Gated DeltaNet: ops of the `llm` dialect whose state has one size however long the sequence is. Verifiers are in
// LlmDelta.cpp.
#ifndef INGOT_DIALECTS_LLM_DELTA_TD
#define INGOT_DIALECTS_LLM_DELTA_TD

def Llm_FloatRows : 2DTensorOf<[F32]>; // [tokens, columns]

def Llm_RecurrentResource : Resource<"::ingot::llm::RecurrentResource">; // states of kind conv and recurrent

class Llm_RecurrentOp<string mnemonic, list<Trait> traits = []> : Llm_SymbolUser<mnemonic, !listconcat(traits, [
    MemoryEffects<[MemRead<Llm_RecurrentResource>, MemWrite<Llm_RecurrentResource>, MemRead<Llm_StepResource>]>])>;

def Llm_ShortConvOp : Llm_RecurrentOp<"short_conv", [SameOperandsAndResultType]> {
  let summary = "a causal convolution of each channel over a few tokens, then silu";
  let description = [{
    With a weight `[C, taps]` and `x[-1]`, `x[-2]`, ... the last rows of the state, all in fp32 and j ascending:

        s = sum_j w[c, j] * x[t - (taps - 1) + j, c]        the last tap multiplies the row itself
        result[t, c] = s / (1 + exp(-s))

    Afterwards the state is the last `taps - 1` rows of the old state followed by the rows of `x`, of which the first
    `Step.tokens` count. With `peek` the state stays as it was, and every row counts: rows of tokens that may yet be taken
    back. The same op without it, on the same rows, then keeps those that were not.

    ```mlir
    %y = llm.short_conv %x, @conv1d.weight, @layers.0.conv : tensor<?x10240xf32>
    %z = llm.short_conv %w, @conv1d.weight, @layers.0.conv peek : tensor<4x10240xf32>
    ```

    Rules: R1, the weight is `[C, taps]` where C is the width of the rows, and taps is from 2 to 8; R2, the state is a
    `conv` of `[taps - 1, C]`; R3, with `peek` there are at most 8 rows, and their number is known.
  }];
  let arguments = (ins Llm_FloatRows:$x, FlatSymbolRefAttr:$weight, FlatSymbolRefAttr:$state, UnitAttr:$peek);
  let results = (outs Llm_FloatRows:$result);
  let assemblyFormat = "$x `,` $weight `,` $state (`peek` $peek^)? attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Llm_DeltaRuleOp : Llm_RecurrentOp<"delta_rule", [SingleBlock]> {
  let summary = "the gated delta rule: a linear attention that corrects what it remembers";
  let description = [{
    Columns of `qkv` are `[q: key_heads * key_dim | k: key_heads * key_dim | v: value_heads * value_dim]`, those of `b` and
    `a` are value heads. Value head j has the state matrix `S` `[key_dim, value_dim]` and uses query and key head
    `j / (value_heads / key_heads)`. For each row t of the first `Step.tokens`, in order and all in fp32:

        q = q / sqrt(sum(q^2) + 1e-6) * key_dim^-0.5        k = k / sqrt(sum(k^2) + 1e-6)
        beta = 1 / (1 + exp(-b[t, j]))
        g = decay[j] * softplus(a[t, j] + dt_bias[j])       softplus(x) = log(1 + exp(x))
        S = exp(g) * S
        d = beta * (v - S^T k)
        S = S + k d^T
        result[t, j] = S^T q

    `decay` is never positive: the model's `-exp(A_log)`. The order of sums is free, so many rows may be done in the
    chunked form. `peek` means what it does in `llm.short_conv`.

    An epilogue is what happens to the heads before they are stored, as that of an `llm.linear`: its block has one argument,
    the result above, and what it yields is the op's result. `fuse-delta-norm` makes such ops.

    ```mlir
    %o = llm.delta_rule %qkv, %b, %a, @decay, @dt_bias, @layers.0.s key_heads 16 value_heads 48 key_dim 128 value_dim 128
        : tensor<?x10240xf32>, tensor<?x48xf32>, tensor<?x48xf32> -> tensor<?x6144xf32>
    %h = llm.delta_rule %qkv, %b, %a, @decay, @dt_bias, @layers.0.s key_heads 16 value_heads 48 key_dim 128 value_dim 128
        : tensor<1x10240xf32>, tensor<1x48xf32>, tensor<1x48xf32> -> tensor<1x6144xbf16>
        epilogue(%y: tensor<1x6144xf32>) {
      %n = llm.rms_norm %y, @norm eps 9.99999997E-7 heads 48 : tensor<1x6144xf32> -> tensor<1x6144xf32>
      %g = llm.gated_mul silu %z, %n : tensor<1x6144xf32>, tensor<1x6144xf32> -> tensor<1x6144xbf16>
      llm.yield %g : tensor<1x6144xbf16>
    }
    ```

    Rules: R1, `key_heads` is at least 1 and divides `value_heads`, which is at most 65536; R2, `key_dim` and `value_dim`
    are multiples of 16 from 16 to 256; R3, the widths of `qkv`, `b`, `a` and the result are as above, and all have the same
    first dimension; R4, `decay` and `dt_bias` are weights `[value_heads]`; R5, the state is a `recurrent` of
    `[value_heads, key_dim, value_dim]`; R6, the epilogue holds only an `llm.rms_norm` of `value_heads` heads and
    `llm.gated_mul` without broadcast, and yields the result's type; R7, without an epilogue the result is f32; R8, `peek` as
    R3 of `llm.short_conv`.
  }];
  let arguments = (ins Llm_FloatRows:$qkv, Llm_FloatRows:$b, Llm_FloatRows:$a, FlatSymbolRefAttr:$decay,
                       FlatSymbolRefAttr:$dt_bias, FlatSymbolRefAttr:$state, I64Attr:$key_heads, I64Attr:$value_heads,
                       I64Attr:$key_dim, I64Attr:$value_dim, UnitAttr:$peek);
  let results = (outs Llm_WideRows:$result);
  let regions = (region MaxSizedRegion<1>:$epilogue);
  let assemblyFormat = [{
    $qkv `,` $b `,` $a `,` $decay `,` $dt_bias `,` $state `key_heads` $key_heads `value_heads` $value_heads
    `key_dim` $key_dim `value_dim` $value_dim (`peek` $peek^)? attr-dict `:` type($qkv) `,` type($b) `,` type($a)
    `->` type($result) custom<Epilogue>($epilogue)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    bool hasEpilogue() { return !getEpilogue().empty(); }
  }];
}

#endif // INGOT_DIALECTS_LLM_DELTA_TD
