// RUN: ingot-opt %s --ring-caches | FileCheck %s
// RUN: ingot-opt %s --ring-caches --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK
// RUN: ingot-opt %s --ring-caches --debug-counter=ring-caches=0 | FileCheck %s --check-prefix=COUNTER

module attributes {llm.facts = {name = "t", architecture = "t", vocabulary = 97 : i64, context_length = 512 : i64,
                                hidden_size = 64 : i64, layers = 4 : i64, prefill_chunk = 64 : i64}} {
// The window and a chunk less one are 83 positions, six blocks.
// CHECK: llm.state @windowed.k key : tensor<96x1x32xbf16>
// CHECK: llm.state @windowed.v value : tensor<96x1x32xbf16>
// COUNTER: llm.state @windowed.k key : tensor<96x1x32xbf16>
llm.state @windowed.k key : tensor<?x1x32xbf16>
llm.state @windowed.v value : tensor<?x1x32xbf16>
// Two layers read it: the wider window counts.
// CHECK: llm.state @shared.k key : tensor<112x1x32xbf16>
// CHECK: llm.state @shared.v value : tensor<112x1x32xbf16>
// COUNTER: llm.state @shared.k key : tensor<?x1x32xbf16>
llm.state @shared.k key : tensor<?x1x32xbf16>
llm.state @shared.v value : tensor<?x1x32xbf16>
// CHECK: llm.state @all.k key : tensor<?x1x32xbf16>
// REMARK-DAG: remark: [Missed] a reader has no window | Category:ring-caches
llm.state @all.k key : tensor<?x1x32xbf16>
llm.state @all.v value : tensor<?x1x32xbf16>
// CHECK: llm.state @wide.k key : tensor<?x1x32xbf16>
// REMARK-DAG: remark: [Missed] the window and a chunk are no less than the context | Category:ring-caches
llm.state @wide.k key : tensor<?x1x32xbf16>
llm.state @wide.v value : tensor<?x1x32xbf16>

// REMARK-DAG: remark: [Passed] keeps what the window sees | Category:ring-caches
func.func @prefill(%q: tensor<?x64xbf16>) -> tensor<?x64xbf16> {
  %a = llm.attention %q, @windowed.k, @windowed.v heads 2 kv_heads 1 head_dim 32 scale 1.0 window 20 : tensor<?x64xbf16>
  %b = llm.attention %a, @shared.k, @shared.v heads 2 kv_heads 1 head_dim 32 scale 1.0 window 20 : tensor<?x64xbf16>
  %c = llm.attention %b, @shared.k, @shared.v heads 2 kv_heads 1 head_dim 32 scale 1.0 window 40 : tensor<?x64xbf16>
  %d = llm.attention %c, @all.k, @all.v heads 2 kv_heads 1 head_dim 32 scale 1.0 window 20 : tensor<?x64xbf16>
  %e = llm.attention %d, @all.k, @all.v heads 2 kv_heads 1 head_dim 32 scale 1.0 : tensor<?x64xbf16>
  %f = llm.attention %e, @wide.k, @wide.v heads 2 kv_heads 1 head_dim 32 scale 1.0 window 449 : tensor<?x64xbf16>
  return %f : tensor<?x64xbf16>
}
}
