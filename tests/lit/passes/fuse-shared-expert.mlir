// RUN: ingot-opt %s --fuse-shared-expert | FileCheck %s
// RUN: ingot-opt %s --fuse-shared-expert --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @gate from "gate" : tensor<6x48x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @up from "up" : tensor<6x48x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @down from "down" : tensor<6x32x48xf32> {scheme = #llm.scheme<bf16>}
llm.weight @s.gate from "s.gate" : tensor<48x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @s.gate8 from "s.gate8" : tensor<48x32xf32> {scheme = #llm.scheme<int8, group = 32>}
llm.weight @s.up from "s.up" : tensor<48x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @s.down from "s.down" : tensor<32x48xf32> {scheme = #llm.scheme<bf16>}
llm.weight @narrow from "narrow" : tensor<16x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @narrow.down from "narrow.down" : tensor<32x16xf32> {scheme = #llm.scheme<bf16>}

// CHECK-LABEL: func.func @one_token(
func.func @one_token(%x: tensor<1x32xbf16>, %l: tensor<1x6xf32>, %g: tensor<1x1xf32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: %[[W:.*]], %[[I:.*]] = llm.route %{{.*}} top 2 normalize shared %{{.*}} : tensor<1x6xf32>, tensor<1x1xf32> -> tensor<1x3xf32>, tensor<1x2xi32>
  // CHECK-NEXT: %[[A:.*]] = llm.linear %{{.*}} experts %[[I]], @gate shared [@s.gate] : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x3x48xf32>
  // CHECK-NEXT: %[[B:.*]] = llm.linear %{{.*}} experts %[[I]], @up shared [@s.up] : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x3x48xf32>
  // CHECK-NEXT: %[[H:.*]] = llm.gated_mul silu %[[A]], %[[B]] : tensor<1x3x48xf32>, tensor<1x3x48xf32> -> tensor<1x3x48xbf16>
  // CHECK-NEXT: %[[D:.*]] = llm.linear %[[H]] experts %[[I]], @down shared [@s.down] : (tensor<1x3x48xbf16>, tensor<1x2xi32>) -> tensor<1x3x32xf32>
  // CHECK-NEXT: %[[Y:.*]] = llm.combine %[[D]], %[[W]] : tensor<1x3x32xf32>, tensor<1x3xf32> -> tensor<1x32xf32>
  // CHECK-NEXT: return %[[Y]]
  // REMARK: remark: [Passed] adds up the shared expert too | Category:fuse-shared-expert
  %w, %i = llm.route %l top 2 normalize : tensor<1x6xf32> -> tensor<1x2xf32>, tensor<1x2xi32>
  %a = llm.linear %x experts %i, @gate : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %b = llm.linear %x experts %i, @up : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %h = llm.gated_mul silu %a, %b : tensor<1x2x48xf32>, tensor<1x2x48xf32> -> tensor<1x2x48xbf16>
  %d = llm.linear %h experts %i, @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x2x32xf32>
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %c = llm.linear %x, @s.gate : (tensor<1x32xbf16>) -> tensor<1x48xf32>
  %e = llm.linear %x, @s.up : (tensor<1x32xbf16>) -> tensor<1x48xf32>
  %s = llm.gated_mul silu %c, %e : tensor<1x48xf32>, tensor<1x48xf32> -> tensor<1x48xbf16>
  %f = llm.linear %s, @s.down : (tensor<1x48xbf16>) -> tensor<1x32xf32>
  %m = llm.gated_mul sigmoid %g, %f : tensor<1x1xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %z = llm.add %y, %m : tensor<1x32xf32>
  return %z : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @many_tokens(
func.func @many_tokens(%x: tensor<?x32xbf16>, %l: tensor<?x6xf32>, %g: tensor<?x1xf32>) -> tensor<?x32xf32> {
  // CHECK-NOT: shared
  // CHECK: llm.combine
  // CHECK: llm.add
  // REMARK: remark: [Missed] many tokens fill the tiles of a matrix that they all meet
  %w, %i = llm.route %l top 2 normalize : tensor<?x6xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  %a = llm.linear %x experts %i, @gate : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x48xf32>
  %b = llm.linear %x experts %i, @up : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x48xf32>
  %h = llm.gated_mul silu %a, %b : tensor<?x2x48xf32>, tensor<?x2x48xf32> -> tensor<?x2x48xbf16>
  %d = llm.linear %h experts %i, @down : (tensor<?x2x48xbf16>, tensor<?x2xi32>) -> tensor<?x2x32xf32>
  %y = llm.combine %d, %w : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %c = llm.linear %x, @s.gate : (tensor<?x32xbf16>) -> tensor<?x48xf32>
  %e = llm.linear %x, @s.up : (tensor<?x32xbf16>) -> tensor<?x48xf32>
  %s = llm.gated_mul silu %c, %e : tensor<?x48xf32>, tensor<?x48xf32> -> tensor<?x48xbf16>
  %f = llm.linear %s, @s.down : (tensor<?x48xbf16>) -> tensor<?x32xf32>
  %m = llm.gated_mul sigmoid %g, %f : tensor<?x1xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  %z = llm.add %y, %m : tensor<?x32xf32>
  return %z : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @other_width(
func.func @other_width(%x: tensor<1x32xbf16>, %l: tensor<1x6xf32>, %g: tensor<1x1xf32>) -> tensor<1x32xf32> {
  // CHECK-NOT: shared
  // CHECK: llm.combine
  // CHECK: llm.add
  // REMARK: remark: [Missed] the shared expert has another width
  %w, %i = llm.route %l top 2 normalize : tensor<1x6xf32> -> tensor<1x2xf32>, tensor<1x2xi32>
  %a = llm.linear %x experts %i, @gate : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %b = llm.linear %x experts %i, @up : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %h = llm.gated_mul silu %a, %b : tensor<1x2x48xf32>, tensor<1x2x48xf32> -> tensor<1x2x48xbf16>
  %d = llm.linear %h experts %i, @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x2x32xf32>
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %c = llm.linear %x, @narrow : (tensor<1x32xbf16>) -> tensor<1x16xf32>
  %e = llm.linear %x, @narrow : (tensor<1x32xbf16>) -> tensor<1x16xf32>
  %s = llm.gated_mul silu %c, %e : tensor<1x16xf32>, tensor<1x16xf32> -> tensor<1x16xbf16>
  %f = llm.linear %s, @narrow.down : (tensor<1x16xbf16>) -> tensor<1x32xf32>
  %m = llm.gated_mul sigmoid %g, %f : tensor<1x1xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %z = llm.add %y, %m : tensor<1x32xf32>
  return %z : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @other_scheme(
func.func @other_scheme(%x: tensor<1x32xbf16>, %l: tensor<1x6xf32>, %g: tensor<1x1xf32>) -> tensor<1x32xf32> {
  // CHECK-NOT: shared
  // CHECK: llm.combine
  // CHECK: llm.add
  // REMARK: remark: [Missed] the shared expert has another scheme
  %w, %i = llm.route %l top 2 normalize : tensor<1x6xf32> -> tensor<1x2xf32>, tensor<1x2xi32>
  %a = llm.linear %x experts %i, @gate : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %b = llm.linear %x experts %i, @up : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %h = llm.gated_mul silu %a, %b : tensor<1x2x48xf32>, tensor<1x2x48xf32> -> tensor<1x2x48xbf16>
  %d = llm.linear %h experts %i, @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x2x32xf32>
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %c = llm.linear %x, @s.gate8 : (tensor<1x32xbf16>) -> tensor<1x48xf32>
  %e = llm.linear %x, @s.up : (tensor<1x32xbf16>) -> tensor<1x48xf32>
  %s = llm.gated_mul silu %c, %e : tensor<1x48xf32>, tensor<1x48xf32> -> tensor<1x48xbf16>
  %f = llm.linear %s, @s.down : (tensor<1x48xbf16>) -> tensor<1x32xf32>
  %m = llm.gated_mul sigmoid %g, %f : tensor<1x1xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %z = llm.add %y, %m : tensor<1x32xf32>
  return %z : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @other_gate(
func.func @other_gate(%x: tensor<1x32xbf16>, %l: tensor<1x6xf32>, %g: tensor<1x1xf32>) -> tensor<1x32xf32> {
  // CHECK-NOT: shared
  // CHECK: llm.combine
  // CHECK: llm.add
  // REMARK: remark: [Missed] what is added to the experts is not gated by the sigmoid of one column
  %w, %i = llm.route %l top 2 normalize : tensor<1x6xf32> -> tensor<1x2xf32>, tensor<1x2xi32>
  %a = llm.linear %x experts %i, @gate : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %b = llm.linear %x experts %i, @up : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x48xf32>
  %h = llm.gated_mul silu %a, %b : tensor<1x2x48xf32>, tensor<1x2x48xf32> -> tensor<1x2x48xbf16>
  %d = llm.linear %h experts %i, @down : (tensor<1x2x48xbf16>, tensor<1x2xi32>) -> tensor<1x2x32xf32>
  %y = llm.combine %d, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %c = llm.linear %x, @s.gate : (tensor<1x32xbf16>) -> tensor<1x48xf32>
  %e = llm.linear %x, @s.up : (tensor<1x32xbf16>) -> tensor<1x48xf32>
  %s = llm.gated_mul silu %c, %e : tensor<1x48xf32>, tensor<1x48xf32> -> tensor<1x48xbf16>
  %f = llm.linear %s, @s.down : (tensor<1x48xbf16>) -> tensor<1x32xf32>
  %m = llm.gated_mul silu %g, %f : tensor<1x1xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %z = llm.add %y, %m : tensor<1x32xf32>
  return %z : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @no_network(
func.func @no_network(%x: tensor<1x2x32xf32>, %w: tensor<1x2xf32>, %e: tensor<1x32xf32>, %g: tensor<1x1xf32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: llm.combine
  // REMARK: remark: [Missed] it adds up other things than a network of routed experts and one more
  %y = llm.combine %x, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %m = llm.gated_mul sigmoid %g, %e : tensor<1x1xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %z = llm.add %y, %m : tensor<1x32xf32>
  return %z : tensor<1x32xf32>
}
