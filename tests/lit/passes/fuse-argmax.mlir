// RUN: ingot-opt %s --fuse-argmax | FileCheck %s
// RUN: ingot-opt %s --fuse-argmax --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @head from "head" : tensor<40x64xf32> {scheme = #llm.scheme<bf16>}

// CHECK-LABEL: func.func @greedy(
// CHECK-SAME: %[[X:.*]]: tensor<1x64xbf16>
func.func @greedy(%x: tensor<1x64xbf16>) {
  // CHECK-NEXT: %[[B:.*]]:2 = llm.linear %[[X]], @head : (tensor<1x64xbf16>) -> (tensor<1x3xf32>, tensor<1x3xi32>) epilogue(%[[L:.*]]: tensor<1x40xf32>) {
  // CHECK-NEXT: %[[V:.*]], %[[C:.*]] = llm.tile_argmax %[[L]] : tensor<1x40xf32> -> tensor<1x3xf32>, tensor<1x3xi32>
  // CHECK-NEXT: llm.yield %[[V]], %[[C]]
  // CHECK-NEXT: }
  // CHECK-NEXT: llm.advance_best %[[B]]#0 at %[[B]]#1 : tensor<1x3xf32>, tensor<1x3xi32>
  // CHECK-NEXT: return
  // REMARK: remark: [Passed] its first stage moved into the epilogue | Category:fuse-argmax
  %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x40xf32>
  %t = llm.argmax %l : tensor<1x40xf32> -> tensor<1xi32>
  llm.advance %t : tensor<1xi32>
  return
}

// A cap that is in the epilogue already comes before.
// CHECK-LABEL: func.func @capped(
func.func @capped(%x: tensor<1x64xbf16>) {
  // CHECK-NEXT: llm.linear
  // CHECK-NEXT: %[[P:.*]] = llm.softcap
  // CHECK-NEXT: llm.tile_argmax %[[P]]
  %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x40xf32> epilogue(%p: tensor<1x40xf32>) {
    %c = llm.softcap %p cap 30.0 : tensor<1x40xf32>
    llm.yield %c : tensor<1x40xf32>
  }
  %t = llm.argmax %l : tensor<1x40xf32> -> tensor<1xi32>
  llm.advance %t : tensor<1xi32>
  return
}

// CHECK-LABEL: func.func @no_product(
func.func @no_product(%l: tensor<1x40xf32>) {
  // CHECK-NEXT: llm.argmax
  // REMARK: remark: [Missed] it chooses from what is not the product of a linear
  %t = llm.argmax %l : tensor<1x40xf32> -> tensor<1xi32>
  llm.advance %t : tensor<1xi32>
  return
}

// CHECK-LABEL: func.func @stored(
func.func @stored(%x: tensor<1x64xbf16>) -> tensor<1x40xf32> {
  // CHECK: llm.argmax
  // REMARK: remark: [Missed] something else reads the logits
  %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x40xf32>
  %t = llm.argmax %l : tensor<1x40xf32> -> tensor<1xi32>
  llm.advance %t : tensor<1xi32>
  return %l : tensor<1x40xf32>
}

// CHECK-LABEL: func.func @two_products(
func.func @two_products(%x: tensor<1x64xbf16>) -> tensor<1x40xf32> {
  // CHECK: llm.argmax
  // REMARK: remark: [Missed] the linear computes several products
  %l:2 = llm.linear %x, @head, @head : (tensor<1x64xbf16>) -> (tensor<1x40xf32>, tensor<1x40xf32>)
  %t = llm.argmax %l#0 : tensor<1x40xf32> -> tensor<1xi32>
  llm.advance %t : tensor<1xi32>
  return %l#1 : tensor<1x40xf32>
}

// CHECK-LABEL: func.func @many_rows(
func.func @many_rows(%x: tensor<?x64xbf16>) -> tensor<?xi32> {
  // CHECK: llm.argmax
  // REMARK: remark: [Missed] it chooses for other than one row
  %l = llm.linear %x, @head : (tensor<?x64xbf16>) -> tensor<?x40xf32>
  %t = llm.argmax %l : tensor<?x40xf32> -> tensor<?xi32>
  return %t : tensor<?xi32>
}

// CHECK-LABEL: func.func @token_kept(
func.func @token_kept(%x: tensor<1x64xbf16>) -> tensor<1xi32> {
  // CHECK: llm.argmax
  // REMARK: remark: [Missed] the token does not go to one advance
  %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x40xf32>
  %t = llm.argmax %l : tensor<1x40xf32> -> tensor<1xi32>
  return %t : tensor<1xi32>
}
