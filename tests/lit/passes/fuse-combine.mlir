// RUN: ingot-opt %s --fuse-combine | FileCheck %s
// RUN: ingot-opt %s --fuse-combine --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @down from "down" : tensor<6x32x48xf32> {scheme = #llm.scheme<bf16>}

// CHECK-LABEL: func.func @one_token(
// CHECK-SAME: %[[H:.*]]: tensor<1x2x48xbf16>, %[[W:.*]]: tensor<1x2xf32>, %[[I:.*]]: tensor<1x2xi32>
func.func @one_token(%h: tensor<1x2x48xbf16>, %w: tensor<1x2xf32>, %i: tensor<1x2xi32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: %[[Y:.*]] = llm.linear %[[H]] experts %[[I]], @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x32xf32> epilogue(%[[P:.*]]: tensor<1x2x32xf32>) {
  // CHECK-NEXT: %[[C:.*]] = llm.combine %[[P]], %[[W]] : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  // CHECK-NEXT: llm.yield %[[C]] : tensor<1x32xf32>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[Y]]
  // REMARK: remark: [Passed] moved into the epilogue | Category:fuse-combine
  %d = llm.linear %h experts %i, @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x2x32xf32>
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @many_tokens(
func.func @many_tokens(%h: tensor<?x2x48xbf16>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>) -> tensor<?x32xf32> {
  // CHECK: llm.linear {{.*}} -> tensor<?x2x32xf32>{{ *$}}
  // CHECK-NEXT: llm.combine
  // REMARK: remark: [Missed] workgroups take many tokens expert by expert | Category:fuse-combine
  %d = llm.linear %h experts %i, @down : (tensor<?x2x48xbf16>, tensor<?x2xi32>) -> tensor<?x2x32xf32>
  %y = llm.combine %d, %w : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @no_product(
func.func @no_product(%d: tensor<1x2x32xf32>, %w: tensor<1x2xf32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: llm.combine
  // REMARK: remark: [Missed] it adds up what is no product of experts | Category:fuse-combine
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @two_readers(
func.func @two_readers(%h: tensor<1x2x48xbf16>, %w: tensor<1x2xf32>, %v: tensor<1x2xf32>, %i: tensor<1x2xi32>)
    -> (tensor<1x32xf32>, tensor<1x32xf32>) {
  // CHECK: llm.combine
  // CHECK-NEXT: llm.combine
  // REMARK: remark: [Missed] something else reads the products | Category:fuse-combine
  %d = llm.linear %h experts %i, @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x2x32xf32>
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %z = llm.combine %d, %v : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  return %y, %z : tensor<1x32xf32>, tensor<1x32xf32>
}
