// One buffer serves all targets: the partial softmaxes of 24 heads are 40 units of a head on the first chip and 64 on the
// second, 24 * 64 * 258 * 4 bytes, whichever comes first.
// RUN: ingot-opt %s --select=targets=gfx1151,gfx1201 | FileCheck %s
// RUN: ingot-opt %s --select=targets=gfx1201,gfx1151 | FileCheck %s

// CHECK-DAG: exec.buffer @decode.{{[0-9]+}} scratch bytes 1585152
module attributes {llm.facts = {architecture = "qwen", context_length = 64 : i64, end_of_sequence = array<i64>, hidden_size = 64 : i64, layers = 1 : i64, name = "small", prefill_chunk = 64 : i64, skipped_tensors = [], vocabulary = 80 : i64}} {
  llm.weight @rows from "rows" : tensor<97x6144xf32> {scheme = #llm.scheme<bf16>}
  llm.state @c.k key : tensor<?x4x256xbf16>
  llm.state @c.v value : tensor<?x4x256xbf16>
  func.func @decode(%tokens: tensor<1xi32>) {
    %q = llm.embed %tokens, @rows : (tensor<1xi32>) -> tensor<1x6144xbf16>
    %a = llm.attention %q, @c.k, @c.v heads 24 kv_heads 4 head_dim 256 scale 0.0625 : tensor<1x6144xbf16>
    return
  }
}
