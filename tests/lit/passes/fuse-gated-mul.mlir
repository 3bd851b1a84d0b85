// RUN: ingot-opt %s --fuse-gated-mul | FileCheck %s
// RUN: ingot-opt %s --fuse-gated-mul --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @g from "g" : tensor<192x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @u from "u" : tensor<192x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @one from "one" : tensor<1x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @f from "f" : tensor<32xf32>

// CHECK-LABEL: func.func @gated(
func.func @gated(%x: tensor<?x64xbf16>) -> tensor<?x192xbf16> {
  // CHECK-NEXT: %[[H:.*]] = llm.linear %{{.*}}, @g, @u : (tensor<?x64xbf16>) -> tensor<?x192xbf16> epilogue(%[[G:.*]]: tensor<?x192xf32>, %[[U:.*]]: tensor<?x192xf32>) {
  // CHECK-NEXT: %[[M:.*]] = llm.gated_mul silu %[[G]], %[[U]] : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
  // CHECK-NEXT: llm.yield %[[M]] : tensor<?x192xbf16>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[H]]
  %r:2 = llm.linear %x, @g, @u : (tensor<?x64xbf16>) -> (tensor<?x192xf32>, tensor<?x192xf32>)
  %h = llm.gated_mul silu %r#0, %r#1 : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h : tensor<?x192xbf16>
}

// The product of up is read elsewhere too: it must be stored, and nothing moves.
// CHECK-LABEL: func.func @read_elsewhere(
func.func @read_elsewhere(%x: tensor<?x64xbf16>) -> (tensor<?x192xbf16>, tensor<?x192xf32>) {
  // CHECK-NOT: epilogue
  // CHECK: llm.gated_mul
  // REMARK: remark: [Missed] something else reads gate or up | Category:fuse-gated-mul
  %r:2 = llm.linear %x, @g, @u : (tensor<?x64xbf16>) -> (tensor<?x192xf32>, tensor<?x192xf32>)
  %h = llm.gated_mul silu %r#0, %r#1 : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h, %r#1 : tensor<?x192xbf16>, tensor<?x192xf32>
}

// Gate and up of two linears: the later takes the product, and the earlier is known by then.
// CHECK-LABEL: func.func @two_linears(
func.func @two_linears(%x: tensor<?x64xbf16>) -> tensor<?x192xbf16> {
  // CHECK-NEXT: %[[G:.*]] = llm.linear %{{.*}}, @g : (tensor<?x64xbf16>) -> tensor<?x192xf32>{{ *$}}
  // CHECK-NEXT: llm.linear %{{.*}}, @u : {{.*}} epilogue(%[[U:.*]]: tensor<?x192xf32>) {
  // CHECK-NEXT: llm.gated_mul gelu_tanh %[[G]], %[[U]]
  %g = llm.linear %x, @g : (tensor<?x64xbf16>) -> tensor<?x192xf32>
  %u = llm.linear %x, @u : (tensor<?x64xbf16>) -> tensor<?x192xf32>
  %h = llm.gated_mul gelu_tanh %g, %u : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h : tensor<?x192xbf16>
}

// What is gated comes after the gate's linear, which can wait for it.
// CHECK-LABEL: func.func @waits(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xbf16>, %[[Y:.*]]: tensor<?x192xf32>
func.func @waits(%x: tensor<?x64xbf16>, %y: tensor<?x192xf32>) -> tensor<?x192xbf16> {
  // CHECK-NEXT: %[[S:.*]] = llm.add %[[Y]], %[[Y]]
  // CHECK-NEXT: llm.linear %[[X]], @g : {{.*}} epilogue(%[[G:.*]]: tensor<?x192xf32>) {
  // CHECK-NEXT: llm.gated_mul sigmoid %[[G]], %[[S]]
  %g = llm.linear %x, @g : (tensor<?x64xbf16>) -> tensor<?x192xf32>
  %s = llm.add %y, %y : tensor<?x192xf32>
  %h = llm.gated_mul sigmoid %g, %s : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h : tensor<?x192xbf16>
}

// Its product is rotated too, for which it reads the step: it stays where it is, before what it gates.
// CHECK-LABEL: func.func @cannot_wait(
func.func @cannot_wait(%x: tensor<?x64xbf16>, %y: tensor<?x192xf32>) -> tensor<?x192xbf16> {
  // CHECK: llm.gated_mul sigmoid
  // CHECK-NEXT: return
  // REMARK: remark: [Missed] it reads a value that is not known before the linear
  %g = llm.linear %x, @g : (tensor<?x64xbf16>) -> tensor<?x192xbf16> epilogue(%p: tensor<?x192xf32>) {
    %r = llm.rope %p, @f heads 3 head_dim 64 : tensor<?x192xf32> -> tensor<?x192xbf16>
    llm.yield %r : tensor<?x192xbf16>
  }
  %s = llm.add %y, %y : tensor<?x192xf32>
  %h = llm.gated_mul sigmoid %g, %s : tensor<?x192xbf16>, tensor<?x192xf32> -> tensor<?x192xbf16>
  return %h : tensor<?x192xbf16>
}

// One gate a row: known before the linear of what it gates, that linear takes it.
// CHECK-LABEL: func.func @one_gate(
func.func @one_gate(%x: tensor<?x64xbf16>) -> tensor<?x192xf32> {
  // CHECK-NEXT: %[[G:.*]] = llm.linear %{{.*}}, @one
  // CHECK-NEXT: llm.linear %{{.*}}, @u : {{.*}} epilogue(%[[U:.*]]: tensor<?x192xf32>) {
  // CHECK-NEXT: llm.gated_mul sigmoid %[[G]], %[[U]] : tensor<?x1xf32>, tensor<?x192xf32>
  %g = llm.linear %x, @one : (tensor<?x64xbf16>) -> tensor<?x1xf32>
  %u = llm.linear %x, @u : (tensor<?x64xbf16>) -> tensor<?x192xf32>
  %h = llm.gated_mul sigmoid %g, %u : tensor<?x1xf32>, tensor<?x192xf32> -> tensor<?x192xf32>
  return %h : tensor<?x192xf32>
}

// CHECK-LABEL: func.func @one_gate_alone(
func.func @one_gate_alone(%x: tensor<?x64xbf16>, %y: tensor<?x192xf32>) -> tensor<?x192xf32> {
  // CHECK-NOT: epilogue
  // CHECK: llm.gated_mul
  // REMARK: remark: [Missed] one gate serves a whole row, which many workgroups compute
  %g = llm.linear %x, @one : (tensor<?x64xbf16>) -> tensor<?x1xf32>
  %h = llm.gated_mul sigmoid %g, %y : tensor<?x1xf32>, tensor<?x192xf32> -> tensor<?x192xf32>
  return %h : tensor<?x192xf32>
}

// CHECK-LABEL: func.func @no_product(
func.func @no_product(%x: tensor<?x192xf32>, %y: tensor<?x192xf32>) -> tensor<?x192xf32> {
  // CHECK-NEXT: llm.gated_mul
  // REMARK: remark: [Missed] neither gate nor up is the product of a linear
  %h = llm.gated_mul silu %x, %y : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xf32>
  return %h : tensor<?x192xf32>
}
