// Ops with experts, parsed, printed and parsed again.
// RUN: ingot-opt %s | ingot-opt | FileCheck %s
// RUN: ingot-opt %s --mlir-print-op-generic | ingot-opt | FileCheck %s

// CHECK: llm.weight @gate from "gate" : tensor<6x48x32xf32> {scheme = #llm.scheme<int4, group = 32>, stored = #llm.scheme<int4, group = 32>}
llm.weight @gate from "gate" : tensor<6x48x32xf32> {scheme = #llm.scheme<int4, group = 32>, stored = #llm.scheme<int4, group = 32>}
llm.weight @up from "up" : tensor<6x48x32xf32> {scheme = #llm.scheme<int4, group = 32>}
llm.weight @shared.down from "shared.down" : tensor<32x48xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
// CHECK: llm.weight @factors
llm.weight @factors from "factors" : tensor<6xf32>
llm.weight @down from "down" : tensor<6x32x48xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}

// CHECK-LABEL: func.func @f
func.func @f(%x: tensor<?x32xbf16>, %logits: tensor<?x6xf32>) -> tensor<?x32xf32> {
  // CHECK: %[[W:.*]], %[[I:.*]] = llm.route %{{.*}} top 2 normalize : tensor<?x6xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  %w, %i = llm.route %logits top 2 normalize : tensor<?x6xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  // CHECK: llm.route %{{.*}} top 6 : tensor<?x6xf32> -> tensor<?x6xf32>, tensor<?x6xi32>
  %v, %j = llm.route %logits top 6 : tensor<?x6xf32> -> tensor<?x6xf32>, tensor<?x6xi32>
  // CHECK: llm.route %{{.*}} top 3 normalize scaled @factors : tensor<?x6xf32> -> tensor<?x3xf32>, tensor<?x3xi32>
  %u, %n = llm.route %logits top 3 normalize scaled @factors : tensor<?x6xf32> -> tensor<?x3xf32>, tensor<?x3xi32>
  // CHECK: llm.linear %{{.*}} experts %[[I]], @gate, @up : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x48xbf16> epilogue(%{{.*}}: tensor<?x2x48xf32>, %{{.*}}: tensor<?x2x48xf32>) {
  %h = llm.linear %x experts %i, @gate, @up : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x48xbf16>
      epilogue(%a: tensor<?x2x48xf32>, %b: tensor<?x2x48xf32>) {
    // CHECK: llm.gated_mul silu %{{.*}}, %{{.*}} : tensor<?x2x48xf32>, tensor<?x2x48xf32> -> tensor<?x2x48xbf16>
    %m = llm.gated_mul silu %a, %b : tensor<?x2x48xf32>, tensor<?x2x48xf32> -> tensor<?x2x48xbf16>
    llm.yield %m : tensor<?x2x48xbf16>
  }
  // CHECK: %[[Q:.*]], %[[S:.*]] = llm.quantize %{{.*}} : tensor<?x2x48xbf16> -> tensor<?x2x48xi8>, tensor<?x2xf32>
  %q, %s = llm.quantize %h : tensor<?x2x48xbf16> -> tensor<?x2x48xi8>, tensor<?x2xf32>
  // CHECK: llm.linear %[[Q]] scales %[[S]] experts %[[I]], @down : (tensor<?x2x48xi8>, tensor<?x2xf32>, tensor<?x2xi32>) -> tensor<?x2x32xf32>
  %d = llm.linear %q scales %s experts %i, @down : (tensor<?x2x48xi8>, tensor<?x2xf32>, tensor<?x2xi32>) -> tensor<?x2x32xf32>
  // CHECK: llm.combine %{{.*}}, %[[W]] : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %y = llm.combine %d, %w : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  // CHECK: llm.linear %{{.*}} experts %[[I]] quantized, @down : (tensor<?x2x48xbf16>, tensor<?x2xi32>) -> tensor<?x32xf32> epilogue(%{{.*}}: tensor<?x2x32xf32>) {
  %z = llm.linear %h experts %i quantized, @down : (tensor<?x2x48xbf16>, tensor<?x2xi32>) -> tensor<?x32xf32>
      epilogue(%p: tensor<?x2x32xf32>) {
    %c = llm.combine %p, %w : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
    %r = llm.add %c, %y : tensor<?x32xf32>
    llm.yield %r : tensor<?x32xf32>
  }
  return %z : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @shared
func.func @shared(%h: tensor<1x3x48xbf16>, %logits: tensor<1x6xf32>, %g: tensor<1x1xf32>) -> tensor<1x32xf32> {
  // CHECK: %[[W:.*]], %[[I:.*]] = llm.route %{{.*}} top 2 normalize shared %{{.*}} : tensor<1x6xf32>, tensor<1x1xf32> -> tensor<1x3xf32>, tensor<1x2xi32>
  %w, %i = llm.route %logits top 2 normalize shared %g : tensor<1x6xf32>, tensor<1x1xf32> -> tensor<1x3xf32>, tensor<1x2xi32>
  // CHECK: llm.linear %{{.*}} experts %[[I]] quantized, @down shared [@shared.down] : (tensor<1x3x48xbf16>, tensor<1x2xi32>) -> tensor<1x3x32xf32>
  %d = llm.linear %h experts %i quantized, @down shared [@shared.down] : (tensor<1x3x48xbf16>, tensor<1x2xi32>) -> tensor<1x3x32xf32>
  %y = llm.combine %d, %w : tensor<1x3x32xf32>, tensor<1x3xf32> -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}
