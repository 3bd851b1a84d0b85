// Mixture of experts: which experts a token goes to, and what their results are together. The products themselves are
// `llm.linear` with `experts`. Included by Llm.td, whose bases it uses.
#ifndef INGOT_DIALECTS_LLM_EXPERTS_TD
#define INGOT_DIALECTS_LLM_EXPERTS_TD

def Llm_RouteOp : Llm_SymbolUser<"route", [Pure, InferTypeOpAdaptor]> {
  let summary = "the experts that each token goes to, and their shares";
  let description = [{
    For each row, all in fp32:

    1. `p = softmax(logits)` over all E experts: `p[e] = exp(logits[e] - m) / sum_e exp(logits[e] - m)`, with `m` the
       largest logit.
    2. `indices` are the `top` experts of the largest logits in descending order, which is the order of p; where logits are
       equal the lower index comes first.
    3. `weights[j] = p[indices[j]]`; with `normalize` each is divided by the sum of the row's weights; with `scaled` each
       is then multiplied by its expert's factor, `scaled[indices[j]]`.

    A logit that is no number counts as the smallest there is, and has the share 0 where another is a number.

    With `shared` each row goes to one expert more, which has no index: `weights[top] = 1 / (1 + exp(-shared))`.
    `fuse-shared-expert` makes such ops.

    ```mlir
    %w, %i = llm.route %logits top 8 normalize : tensor<?x256xf32> -> tensor<?x8xf32>, tensor<?x8xi32>
    %v, %j = llm.route %logits top 8 normalize scaled @per_expert_scale
        : tensor<?x256xf32> -> tensor<?x8xf32>, tensor<?x8xi32>
    %u, %k = llm.route %l top 8 shared %g : tensor<1x256xf32>, tensor<1x1xf32> -> tensor<1x9xf32>, tensor<1x8xi32>
    ```

    Rules: R1, there are at most 1024 experts; R2, `top` is at least 1, at most 32, and at most E; R3, weights and indices
    are `[tokens, top]`, weights with one column more where there is `shared`; R4, `shared` is `[tokens, 1]`, and `top` then
    at most 31; R5, the factors are a weight `[E]`.
  }];
  let arguments = (ins 2DTensorOf<[F32]>:$logits, I64Attr:$top, UnitAttr:$normalize,
                       OptionalAttr<FlatSymbolRefAttr>:$factors, Optional<2DTensorOf<[F32]>>:$shared);
  let results = (outs 2DTensorOf<[F32]>:$weights, Llm_Experts:$indices);
  let assemblyFormat = [{
    $logits `top` $top (`normalize` $normalize^)? (`scaled` $factors^)? (`shared` $shared^)? attr-dict `:` type($logits)
    (`,` type($shared)^)? `->` type($weights) `,` type($indices)
  }];
  let hasVerifier = 1;
}

def Llm_CombineOp : Llm_Op<"combine", [Pure]> {
  let summary = "the weighted sum of a token's experts";
  let description = [{
    `result[t, n] = sum_j weights[t, j] * x[t, j, n]` in fp32: from 0, j ascending, each product rounded before it is added;
    rounded once to the result's type.

    ```mlir
    %y = llm.combine %h, %w : tensor<?x8x2048xf32>, tensor<?x8xf32> -> tensor<?x2048xf32>
    ```

    Rules: R1, weights have a number for each row of the operand; R2, the result has its tokens and columns.
  }];
  let arguments = (ins TensorRankOf<[BF16, F32], [3]>:$x, 2DTensorOf<[F32]>:$weights);
  let results = (outs Llm_WideRows:$result);
  let assemblyFormat = "$x `,` $weights attr-dict `:` type($x) `,` type($weights) `->` type($result)";
}

#endif // INGOT_DIALECTS_LLM_EXPERTS_TD
