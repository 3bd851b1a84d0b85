// RUN: ingot-opt %s --fuse-short-conv | FileCheck %s
// RUN: ingot-opt %s --fuse-short-conv --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @qkv from "qkv" : tensor<80x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @z from "z" : tensor<32x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @conv from "conv" : tensor<80x4xf32> {scheme = #llm.scheme<f32>}
llm.weight @table from "table" : tensor<96x64xf32> {scheme = #llm.scheme<bf16>}
llm.state @c conv : tensor<3x80xf32>

// CHECK-LABEL: func.func @one_token(
// CHECK-SAME: %[[X:.*]]: tensor<1x64xbf16>
func.func @one_token(%x: tensor<1x64xbf16>) -> (tensor<1x80xf32>, tensor<1x32xf32>) {
  // CHECK-NEXT: %[[P:.*]]:2 = llm.linear %[[X]], @qkv, @z : (tensor<1x64xbf16>) -> (tensor<1x32xf32>, tensor<1x80xf32>) epilogue(%[[A:.*]]: tensor<1x80xf32>, %[[B:.*]]: tensor<1x32xf32>) {
  // CHECK-NEXT: %[[Y:.*]] = llm.short_conv %[[A]], @conv, @c : tensor<1x80xf32>
  // CHECK-NEXT: llm.yield %[[B]], %[[Y]] : tensor<1x32xf32>, tensor<1x80xf32>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[P]]#1, %[[P]]#0
  // REMARK: remark: [Passed] moved into the epilogue | Category:fuse-short-conv
  %p:2 = llm.linear %x, @qkv, @z : (tensor<1x64xbf16>) -> (tensor<1x80xf32>, tensor<1x32xf32>)
  %y = llm.short_conv %p#0, @conv, @c : tensor<1x80xf32>
  return %y, %p#1 : tensor<1x80xf32>, tensor<1x32xf32>
}

// CHECK-LABEL: func.func @many_tokens(
func.func @many_tokens(%x: tensor<?x64xbf16>) -> tensor<?x80xf32> {
  // CHECK-NEXT: llm.linear {{.*}} -> tensor<?x80xf32>{{ *$}}
  // CHECK-NEXT: llm.short_conv
  // REMARK: remark: [Missed] other workgroups have the rows before of many tokens
  %p = llm.linear %x, @qkv : (tensor<?x64xbf16>) -> tensor<?x80xf32>
  %y = llm.short_conv %p, @conv, @c : tensor<?x80xf32>
  return %y : tensor<?x80xf32>
}

// CHECK-LABEL: func.func @no_product(
func.func @no_product(%p: tensor<1x80xf32>) -> tensor<1x80xf32> {
  // CHECK-NEXT: llm.short_conv
  // REMARK: remark: [Missed] it reads what is not the product of a linear
  %y = llm.short_conv %p, @conv, @c : tensor<1x80xf32>
  return %y : tensor<1x80xf32>
}

// CHECK-LABEL: func.func @two_readers(
func.func @two_readers(%x: tensor<1x64xbf16>) -> (tensor<1x80xf32>, tensor<1x80xf32>) {
  // CHECK: llm.short_conv
  // CHECK-NEXT: return
  // REMARK: remark: [Missed] something else reads the product
  %p = llm.linear %x, @qkv : (tensor<1x64xbf16>) -> tensor<1x80xf32>
  %y = llm.short_conv %p, @conv, @c : tensor<1x80xf32>
  return %y, %p : tensor<1x80xf32>, tensor<1x80xf32>
}

// A convolution between the two moves the same state.
// CHECK-LABEL: func.func @other_state(
func.func @other_state(%x: tensor<1x64xbf16>, %q: tensor<1x80xf32>) -> (tensor<1x80xf32>, tensor<1x80xf32>) {
  // CHECK: llm.linear {{.*}} -> tensor<1x80xf32>{{ *$}}
  // REMARK: remark: [Missed] an op in between touches the same state
  %p = llm.linear %x, @qkv : (tensor<1x64xbf16>) -> tensor<1x80xf32>
  %z = llm.short_conv %q, @conv, @c : tensor<1x80xf32>
  %y = llm.short_conv %p, @conv, @c : tensor<1x80xf32>
  return %y, %z : tensor<1x80xf32>, tensor<1x80xf32>
}

// A row is the one token of a sequence, with a state of its own.
// CHECK-LABEL: func.func @several_sequences(
func.func @several_sequences(%tokens: tensor<4xi32>) attributes {llm.sequences} {
  // CHECK: llm.linear {{.*}} epilogue
  // CHECK-NEXT: llm.short_conv
  %x = llm.embed %tokens, @table : (tensor<4xi32>) -> tensor<4x64xbf16>
  %p = llm.linear %x, @qkv : (tensor<4x64xbf16>) -> tensor<4x80xf32>
  %y = llm.short_conv %p, @conv, @c : tensor<4x80xf32>
  return
}
