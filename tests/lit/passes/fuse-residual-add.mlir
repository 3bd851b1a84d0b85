// RUN: ingot-opt %s --fuse-residual-add | FileCheck %s
// RUN: ingot-opt %s --fuse-residual-add --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @o from "o" : tensor<64x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @f from "f" : tensor<32xf32>
llm.weight @s from "s" : tensor<1xf32>

// CHECK-LABEL: func.func @residual(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xf32>, %[[A:.*]]: tensor<?x64xbf16>
func.func @residual(%x: tensor<?x64xf32>, %a: tensor<?x64xbf16>) -> tensor<?x64xf32> {
  // CHECK-NEXT: %[[Y:.*]] = llm.linear %[[A]], @o : (tensor<?x64xbf16>) -> tensor<?x64xf32> epilogue(%[[P:.*]]: tensor<?x64xf32>) {
  // CHECK-NEXT: %[[S:.*]] = llm.add %[[X]], %[[P]] : tensor<?x64xf32>
  // CHECK-NEXT: llm.yield %[[S]] : tensor<?x64xf32>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[Y]]
  %o = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %y = llm.add %x, %o : tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// Two products: the later linear takes the sum, since the earlier is known by then.
// CHECK-LABEL: func.func @two_products(
func.func @two_products(%a: tensor<?x64xbf16>) -> tensor<?x64xf32> {
  // CHECK-NEXT: %[[P:.*]] = llm.linear %{{.*}}, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>{{ *$}}
  // CHECK-NEXT: llm.linear {{.*}} epilogue
  // CHECK-NEXT: llm.add %[[P]],
  %p = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %q = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %y = llm.add %p, %q : tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @scaled(
func.func @scaled(%x: tensor<?x64xf32>, %a: tensor<?x64xbf16>) -> tensor<?x64xf32> {
  // CHECK-NOT: epilogue
  // CHECK: llm.add {{.*}} times @s
  // REMARK: remark: [Missed] it scales the sum | Category:fuse-residual-add
  %o = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %y = llm.add %x, %o times @s : tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @no_product(
func.func @no_product(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // CHECK-NEXT: llm.add
  // REMARK: remark: [Missed] neither operand is the product of a linear | Category:fuse-residual-add
  %y = llm.add %x, %x : tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// The other operand is made after the linear, which waits for it.
// CHECK-LABEL: func.func @waits(
func.func @waits(%x: tensor<?x64xf32>, %a: tensor<?x64xbf16>) -> tensor<?x64xf32> {
  // CHECK-NEXT: %[[Z:.*]] = llm.add
  // CHECK-NEXT: llm.linear {{.*}} epilogue(%[[P:.*]]: tensor<?x64xf32>) {
  // CHECK-NEXT: llm.add %[[Z]], %[[P]]
  %o = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %z = llm.add %x, %x : tensor<?x64xf32>
  %y = llm.add %z, %o : tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// It reads the step for its rotation, so it stays where it is.
// CHECK-LABEL: func.func @known_too_late(
func.func @known_too_late(%x: tensor<?x64xbf16>, %a: tensor<?x64xbf16>) -> tensor<?x64xbf16> {
  // CHECK: llm.add
  // CHECK-NEXT: llm.add
  // CHECK-NEXT: return
  // REMARK: remark: [Missed] it reads a value that is not known before the linear
  %o = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xbf16> epilogue(%p: tensor<?x64xf32>) {
    %r = llm.rope %p, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
    llm.yield %r : tensor<?x64xbf16>
  }
  %z = llm.add %x, %x : tensor<?x64xbf16>
  %y = llm.add %z, %o : tensor<?x64xbf16>
  return %y : tensor<?x64xbf16>
}
