// RUN: ingot-opt %s --fuse-silu-mul | FileCheck %s
// RUN: ingot-opt %s --fuse-silu-mul --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @g from "g" : tensor<192x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @u from "u" : tensor<192x64xf32> {scheme = #llm.scheme<bf16>}

// CHECK-LABEL: func.func @gated(
func.func @gated(%x: tensor<?x64xbf16>) -> tensor<?x192xbf16> {
  // CHECK-NEXT: %[[H:.*]] = llm.linear %{{.*}}, @g, @u : (tensor<?x64xbf16>) -> tensor<?x192xbf16> epilogue(%[[G:.*]]: tensor<?x192xf32>, %[[U:.*]]: tensor<?x192xf32>) {
  // CHECK-NEXT: %[[M:.*]] = llm.silu_mul %[[G]], %[[U]] : tensor<?x192xf32> -> tensor<?x192xbf16>
  // CHECK-NEXT: llm.yield %[[M]] : tensor<?x192xbf16>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[H]]
  %r:2 = llm.linear %x, @g, @u : (tensor<?x64xbf16>) -> (tensor<?x192xf32>, tensor<?x192xf32>)
  %h = llm.silu_mul %r#0, %r#1 : tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h : tensor<?x192xbf16>
}

// The product of up is read elsewhere too: it must be stored, and nothing moves.
// CHECK-LABEL: func.func @read_elsewhere(
func.func @read_elsewhere(%x: tensor<?x64xbf16>) -> (tensor<?x192xbf16>, tensor<?x192xf32>) {
  // CHECK-NOT: epilogue
  // CHECK: llm.silu_mul
  // REMARK: remark: [Missed] something else reads gate or up | Category:fuse-silu-mul
  %r:2 = llm.linear %x, @g, @u : (tensor<?x64xbf16>) -> (tensor<?x192xf32>, tensor<?x192xf32>)
  %h = llm.silu_mul %r#0, %r#1 : tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h, %r#1 : tensor<?x192xbf16>, tensor<?x192xf32>
}

// CHECK-LABEL: func.func @two_linears(
func.func @two_linears(%x: tensor<?x64xbf16>) -> tensor<?x192xbf16> {
  // CHECK-NOT: epilogue
  // CHECK: llm.silu_mul
  // REMARK: remark: [Missed] gate and up are not products of one linear
  %g = llm.linear %x, @g : (tensor<?x64xbf16>) -> tensor<?x192xf32>
  %u = llm.linear %x, @u : (tensor<?x64xbf16>) -> tensor<?x192xf32>
  %h = llm.silu_mul %g, %u : tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h : tensor<?x192xbf16>
}
