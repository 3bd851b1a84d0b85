// Drafting: what a head that predicts further tokens needs beside the ops of any layer, and what a step does that checks
// several drafted tokens at once. Included by Llm.td, whose bases it uses. Verifiers are in LlmDraft.cpp.
#ifndef INGOT_DIALECTS_LLM_DRAFT_TD
#define INGOT_DIALECTS_LLM_DRAFT_TD

def Llm_ConcatOp : Llm_Op<"concat", [Pure, InferTypeOpAdaptor]> {
  let summary = "rows of two tensors beside each other";
  let description = [{
    Columns of `a`, then those of `b`.

    ```mlir
    %c = llm.concat %a, %b : tensor<?x576xbf16>, tensor<?x576xbf16> -> tensor<?x1152xbf16>
    ```

    Rules: R1, both operands have the same first dimension; R2, the result is as wide as both together;
    R3, both widths are multiples of 8.
  }];
  let arguments = (ins Llm_Rows:$a, Llm_Rows:$b);
  let results = (outs Llm_Rows:$result);
  let assemblyFormat = "$a `,` $b attr-dict `:` type($a) `,` type($b) `->` type($result)";
}

def Llm_DelayOp : Llm_RecurrentOp<"delay", [SameOperandsAndResultType]> {
  let summary = "the row before each row";
  let description = [{
    `result[0]` is the state, `result[t] = x[t - 1]`. Afterwards the state is row `Step.tokens - 1` of `x`.

    ```mlir
    %y = llm.delay %x, @mtp.hidden : tensor<?x576xbf16>
    ```

    Rules: R1, the state is a `conv` of `[1, C]`, where C is the width of the rows.
  }];
  let arguments = (ins Llm_Rows:$x, FlatSymbolRefAttr:$state);
  let results = (outs Llm_Rows:$result);
  let assemblyFormat = "$x `,` $state attr-dict `:` type($x)";
}

def Llm_AcceptOp : Llm_Op<"accept", [InferTypeOpAdaptor, AllTypesMatch<["best", "tokens"]>,
    MemoryEffects<[MemRead<Llm_StepResource>, MemWrite<Llm_StepResource>]>]> {
  let summary = "keep the drafted tokens that the model would have chosen itself";
  let description = [{
    `tokens` are the step's: one that was chosen before, then those drafted to follow it. `best[i]` is what the model
    chooses to follow token i, the likeliest token or a sample. With a the largest number so that `tokens[i + 1] = best[i]`, that `best[i]` is none of `ends`
    and that `Step.generated + i + 1 < Step.capacity`, each for all i < a:

    * `OUTPUT[Step.generated + i] = best[i]` for i < a,
    * `Step.generated += a` and `Step.tokens = a + 1`: the rows of the step that count from here on,
    * the result is `best[a]`, which the model chose at the first place where it disagrees, or after the last draft.

    `llm.advance` of the result makes it the next step's token, as after a step of one token. So a reply ends where steps of
    one token would end it: nothing goes through the model behind a token that ends a sequence, or behind the last that
    there is room for. Samples keep their distribution: a draft d stays with the probability that the model gives it, and
    what takes its place otherwise is a sample of the rest.

    ```mlir
    %next = llm.accept %best of %tokens ends [2, 7] : tensor<4xi32>
    ```

    Rules: R1, both operands have the same static number of rows, from 2 to 8.
  }];
  let arguments = (ins Llm_Tokens:$best, Llm_Tokens:$tokens, DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$ends);
  let results = (outs Llm_Tokens:$next);
  let assemblyFormat = "$best `of` $tokens (`ends` $ends^)? attr-dict `:` type($tokens)";
  let hasVerifier = 1;
}

def Llm_DraftOp : Llm_Op<"draft", [MemoryEffects<[MemRead<Llm_StepResource>, MemWrite<Llm_StepResource>]>]> {
  let summary = "a drafted token, for the next step to check";
  let description = [{
    `TOKENS[index] = token`. Then `Step.position` goes one on, where the next draft is made, or back to where it was before
    the first where `index` is `count`.

    ```mlir
    llm.draft %t at 1 of 3 : tensor<1xi32>
    ```

    Rules: R1, there is exactly one token; R2, `count` is from 1 to 7, and `index` from 1 to `count`.
  }];
  let arguments = (ins Llm_Tokens:$token, I64Attr:$index, I64Attr:$count);
  let assemblyFormat = "$token `at` $index `of` $count attr-dict `:` type($token)";
  let extraClassDeclaration = [{
    /// By how much `Step.position` moves.
    int64_t getMove() { return getIndex() == getCount() ? 1 - static_cast<int64_t>(getCount()) : 1; }
  }];
}

#endif // INGOT_DIALECTS_LLM_DRAFT_TD
