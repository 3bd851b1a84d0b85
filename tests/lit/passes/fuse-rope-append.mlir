// RUN: ingot-opt %s --fuse-rope-append | FileCheck %s
// RUN: ingot-opt %s --fuse-rope-append --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @q from "q" : tensor<128x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @k from "k" : tensor<64x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @v from "v" : tensor<64x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @f : tensor<32xf32> value dense<1.0> : tensor<32xf32>
llm.weight @f8 : tensor<8xf32> value dense<1.0> : tensor<8xf32>
llm.state @c.k key : tensor<?x1x64xbf16>
llm.state @c.v value : tensor<?x1x64xbf16>
llm.state @i.k key : tensor<?x1x64xi8>
llm.state @i.v value : tensor<?x1x64xi8>

// Only the rotated queries are stored; keys and values go to the cache.
// CHECK-LABEL: func.func @attention_inputs(
func.func @attention_inputs(%x: tensor<?x64xbf16>) -> tensor<?x128xbf16> {
  // CHECK-NEXT: %[[Q:.*]] = llm.linear %{{.*}}, @q, @k, @v : (tensor<?x64xbf16>) -> tensor<?x128xbf16> epilogue(%[[A:.*]]: tensor<?x128xf32>, %[[B:.*]]: tensor<?x64xf32>, %[[C:.*]]: tensor<?x64xbf16>) {
  // CHECK-NEXT: %[[QR:.*]] = llm.rope %[[A]], @f heads 2 head_dim 64 : tensor<?x128xf32> -> tensor<?x128xbf16>
  // CHECK-NEXT: %[[KR:.*]] = llm.rope %[[B]], @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  // CHECK-NEXT: llm.append %[[KR]], %[[C]], @c.k, @c.v
  // CHECK-NEXT: llm.yield %[[QR]] : tensor<?x128xbf16>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[Q]]
  %r:3 = llm.linear %x, @q, @k, @v : (tensor<?x64xbf16>) -> (tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xbf16>)
  %q = llm.rope %r#0, @f heads 2 head_dim 64 : tensor<?x128xf32> -> tensor<?x128xbf16>
  %k = llm.rope %r#1, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  llm.append %k, %r#2, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return %q : tensor<?x128xbf16>
}

// CHECK-LABEL: func.func @part_of_a_head(
func.func @part_of_a_head(%x: tensor<?x64xbf16>) -> tensor<?x64xbf16> {
  // CHECK-NOT: epilogue
  // CHECK: llm.rope
  // REMARK: remark: [Missed] part of each head is not rotated | Category:fuse-rope-append
  %p = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %k = llm.rope %p, @f8 heads 1 head_dim 64 rotary_dim 16 : tensor<?x64xf32> -> tensor<?x64xbf16>
  return %k : tensor<?x64xbf16>
}

// CHECK-LABEL: func.func @two_linears(
func.func @two_linears(%x: tensor<?x64xbf16>) {
  // CHECK: llm.append
  // REMARK: remark: [Missed] keys and values are products of different linears
  %k = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
  %v = llm.linear %x, @v : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
  llm.append %k, %v, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return
}

// A head of a cache of codes has one scale. The rotation still moves.
// CHECK-LABEL: func.func @codes(
func.func @codes(%x: tensor<?x64xbf16>) {
  // CHECK: llm.linear {{.*}} epilogue
  // CHECK-NEXT: llm.rope
  // CHECK-NEXT: llm.yield
  // CHECK-NEXT: }
  // CHECK-NEXT: llm.append
  // REMARK: remark: [Missed] a head in the cache has one scale, and no wave of a projection has a whole head
  %r:2 = llm.linear %x, @k, @v : (tensor<?x64xbf16>) -> (tensor<?x64xf32>, tensor<?x64xbf16>)
  %k = llm.rope %r#0, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  llm.append %k, %r#1, @i.k, @i.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return
}

// Moving the write up would hand the attention in between other keys.
// CHECK-LABEL: func.func @across_attention(
func.func @across_attention(%x: tensor<?x64xbf16>, %q: tensor<?x128xbf16>) -> tensor<?x128xbf16> {
  // CHECK: llm.attention
  // CHECK-NEXT: llm.append
  // REMARK: remark: [Missed] an op in between touches the same state
  %r:2 = llm.linear %x, @k, @v : (tensor<?x64xbf16>) -> (tensor<?x64xbf16>, tensor<?x64xbf16>)
  %a = llm.attention %q, @c.k, @c.v heads 2 kv_heads 1 head_dim 64 scale 0.125 : tensor<?x128xbf16>
  llm.append %r#0, %r#1, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return %a : tensor<?x128xbf16>
}
