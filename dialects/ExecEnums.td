// The enums of `exec`: apart from its ops, because those include `llm` and a file's enums are generated all at once.
#ifndef INGOT_DIALECTS_EXEC_ENUMS_TD
#define INGOT_DIALECTS_EXEC_ENUMS_TD

include "mlir/IR/EnumAttr.td"

def Exec_Role : I32EnumAttr<"Role", "what a buffer is for, as the manifest's Buffer.Role", [
    I32EnumAttrCase<"Weights", 1, "weights">,
    I32EnumAttrCase<"State", 2, "state">,
    I32EnumAttrCase<"Scratch", 3, "scratch">,
    I32EnumAttrCase<"Step", 4, "step">,
    I32EnumAttrCase<"Tokens", 5, "tokens">,
    I32EnumAttrCase<"Logits", 6, "logits">,
    I32EnumAttrCase<"AllLogits", 7, "all_logits">,
    I32EnumAttrCase<"Output", 8, "output">,
    I32EnumAttrCase<"Batch", 9, "batch">,
    I32EnumAttrCase<"Mask", 10, "mask">,
    I32EnumAttrCase<"BatchLogits", 11, "batch_logits">]> {
  let cppNamespace = "::ingot::exec";
}

def Exec_Layout : I32EnumAttr<"Layout", "how a weight lies in memory (docs/design/layouts.md)", [
    I32EnumAttrCase<"Tile16", 0, "tile16">,
    I32EnumAttrCase<"RowBF16", 1, "row_bf16">,
    I32EnumAttrCase<"RowF32", 2, "row_f32">]> {
  let cppNamespace = "::ingot::exec";
}

#endif // INGOT_DIALECTS_EXEC_ENUMS_TD
