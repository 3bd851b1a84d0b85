// Every pass of the compiler: what it does, the IR before and after, when it declines. One .cpp a pass, named alike.
#ifndef INGOT_PASSES_TD
#define INGOT_PASSES_TD

include "mlir/Pass/PassBase.td"

def Annotate : Pass<"annotate", "::mlir::ModuleOp"> {
  let summary = "Give every weight its quantisation scheme, from a recipe";
  let description = [{
    Each matrix takes the scheme of the first rule of the recipe whose pattern matches its name; vectors (norms, biases,
    inverse frequencies) take `f32`. Nothing else changes: a scheme is an annotation.

    Before:
    ```mlir
    llm.weight @lm_head.weight from "lm_head.weight" : tensor<64x32xf32>
    ```
    After `annotate{recipe=bf16}`:
    ```mlir
    llm.weight @lm_head.weight from "lm_head.weight" : tensor<64x32xf32> {scheme = #llm.scheme<bf16>}
    ```

    A weight that already has a scheme keeps it (and counts as `declined`). Errors, each naming the recipe's line where
    there is one: a rule that decides nothing, unless it may; a matrix that no rule matches; an unknown scheme; int8
    activations for a weight that something other than `llm.linear` reads.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
  let options = [Option<"recipe", "recipe", "std::string", /*default=*/"\"bf16\"",
                        "A recipe's name (bf16, w8a8) or a file">];
  let statistics = [Statistic<"annotated", "rewritten", "Weights that got a scheme">,
                    Statistic<"declined", "declined", "Weights that had one already">];
}

def InsertQuantize : Pass<"insert-quantize", "::mlir::ModuleOp"> {
  let summary = "Quantise the activations of linears whose scheme asks for it";
  let description = [{
    Inserts `llm.quantize` before linears whose weight has `activation = int8_per_token`. Linears that read one value
    share one quantisation.

    Before, with `@q` and `@k` of scheme w8a8:
    ```mlir
    %q = llm.linear %x, @q : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
    %k = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
    ```
    After:
    ```mlir
    %values, %scales = llm.quantize %x : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    %q = llm.linear %values scales %scales, @q : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x64xbf16>
    %k = llm.linear %values scales %scales, @k : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x32xbf16>
    ```

    It declines linears whose weight has no scheme or takes bf16 activations, and those that are quantised already.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
  let statistics = [Statistic<"rewritten", "rewritten", "Linears that now take int8 rows">,
                    Statistic<"inserted", "inserted", "Quantisations made">,
                    Statistic<"declined", "declined", "Linears left as they were">];
}

def FuseNormQuantize : Pass<"fuse-norm-quantize", "::mlir::ModuleOp"> {
  let summary = "Make one op of a norm and the quantisation of its result";
  let description = [{
    Before:
    ```mlir
    %n = llm.rms_norm %x, @w eps 9.99999974E-6 : tensor<?x64xbf16>
    %values, %scales = llm.quantize %n : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    ```
    After:
    ```mlir
    %values, %scales = llm.rms_norm_quantize %x, @w eps 9.99999974E-6
        : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    ```

    The result is the same bit for bit; the normalised row no longer travels through memory. It declines a norm that
    anything but `llm.quantize` reads, because the bf16 row is needed then anyway, and one that nothing quantises.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
  let statistics = [Statistic<"rewritten", "rewritten", "Norms fused">,
                    Statistic<"declinedUsers", "declined-other-users", "Norms whose bf16 result is read as well">];
}

#endif // INGOT_PASSES_TD
