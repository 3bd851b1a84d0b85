// RUN: ingot-opt %s --fuse-delta-norm | FileCheck %s
// RUN: ingot-opt %s --fuse-delta-norm --merge-linears | FileCheck %s --check-prefix=MERGED
// RUN: ingot-opt %s --fuse-delta-norm --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @decay from "decay" : tensor<2xf32> {scheme = #llm.scheme<f32>}
llm.weight @dt from "dt" : tensor<2xf32> {scheme = #llm.scheme<f32>}
llm.weight @norm from "norm" : tensor<16xf32> {scheme = #llm.scheme<f32>}
llm.weight @row_norm from "row_norm" : tensor<32xf32> {scheme = #llm.scheme<f32>}
llm.weight @wide_norm from "wide_norm" : tensor<256xf32> {scheme = #llm.scheme<f32>}
llm.weight @qkv from "qkv" : tensor<64x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @z from "z" : tensor<32x64xf32> {scheme = #llm.scheme<bf16>}
llm.state @s recurrent : tensor<2x16x16xf32>
llm.state @wide recurrent : tensor<2x256x256xf32>

// The gate's projection reads the row of the others, and nothing keeps it from merging with them now.
// CHECK-LABEL: func.func @gated(
// MERGED-LABEL: func.func @gated(
// MERGED: llm.linear %{{.*}}, @qkv, @z :
// MERGED-NEXT: llm.delta_rule
func.func @gated(%x: tensor<1x64xbf16>, %b: tensor<1x2xf32>, %a: tensor<1x2xf32>) -> tensor<1x32xbf16> {
  // CHECK: %[[Z:.*]] = llm.linear %{{.*}}, @z
  // CHECK-NEXT: %[[Y:.*]] = llm.delta_rule {{.*}} -> tensor<1x32xbf16> epilogue(%[[H:.*]]: tensor<1x32xf32>) {
  // CHECK-NEXT: %[[N:.*]] = llm.rms_norm %[[H]], @norm eps 9.99999997E-7 heads 2 : tensor<1x32xf32> -> tensor<1x32xf32>
  // CHECK-NEXT: %[[G:.*]] = llm.gated_mul silu %[[Z]], %[[N]] : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xbf16>
  // CHECK-NEXT: llm.yield %[[G]] : tensor<1x32xbf16>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[Y]]
  // REMARK: remark: [Passed] norms its heads itself | Category:fuse-delta-norm
  %qkv = llm.linear %x, @qkv : (tensor<1x64xbf16>) -> tensor<1x64xf32>
  %z = llm.linear %x, @z : (tensor<1x64xbf16>) -> tensor<1x32xf32>
  %y = llm.delta_rule %qkv, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %n = llm.rms_norm %y, @norm eps 1.0e-6 heads 2 : tensor<1x32xf32> -> tensor<1x32xf32>
  %g = llm.gated_mul silu %z, %n : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xbf16>
  return %g : tensor<1x32xbf16>
}

// CHECK-LABEL: func.func @late_gate(
func.func @late_gate(%qkv: tensor<3x64xf32>, %b: tensor<3x2xf32>, %a: tensor<3x2xf32>, %x: tensor<3x64xbf16>) -> tensor<3x32xbf16> {
  // CHECK: llm.delta_rule {{.*}} -> tensor<3x32xf32> epilogue(
  // CHECK-NEXT: llm.rms_norm
  // CHECK-NEXT: llm.yield
  // CHECK: llm.gated_mul
  // REMARK: remark: [Missed] its gate is not known before the delta rule
  %y = llm.delta_rule %qkv, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<3x64xf32>, tensor<3x2xf32>, tensor<3x2xf32> -> tensor<3x32xf32>
  %n = llm.rms_norm %y, @norm eps 1.0e-6 heads 2 : tensor<3x32xf32> -> tensor<3x32xf32>
  %z = llm.linear %x, @z : (tensor<3x64xbf16>) -> tensor<3x32xf32>
  %g = llm.gated_mul silu %z, %n : tensor<3x32xf32>, tensor<3x32xf32> -> tensor<3x32xbf16>
  return %g : tensor<3x32xbf16>
}

// CHECK-LABEL: func.func @many_tokens(
func.func @many_tokens(%qkv: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) -> tensor<?x32xf32> {
  // CHECK-NEXT: llm.delta_rule {{.*}} -> tensor<?x32xf32>{{ *$}}
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] many tokens are taken in chunks, and no workgroup has a whole head of one
  %y = llm.delta_rule %qkv, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %n = llm.rms_norm %y, @norm eps 1.0e-6 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %n : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @norm_of_the_row(
func.func @norm_of_the_row(%qkv: tensor<1x64xf32>, %b: tensor<1x2xf32>, %a: tensor<1x2xf32>) -> tensor<1x32xbf16> {
  // CHECK-NEXT: llm.delta_rule {{.*}} -> tensor<1x32xf32>{{ *$}}
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] no norm of its heads reads it
  %y = llm.delta_rule %qkv, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
  %n = llm.rms_norm %y, @row_norm eps 1.0e-6 : tensor<1x32xf32> -> tensor<1x32xbf16>
  return %n : tensor<1x32xbf16>
}

// CHECK-LABEL: func.func @too_wide(
func.func @too_wide(%qkv: tensor<1x1024xf32>, %b: tensor<1x2xf32>, %a: tensor<1x2xf32>) -> tensor<1x512xf32> {
  // CHECK-NEXT: llm.delta_rule {{.*}} -> tensor<1x512xf32>{{ *$}}
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] a head is wider than a workgroup has registers for
  %y = llm.delta_rule %qkv, %b, %a, @decay, @dt, @wide key_heads 1 value_heads 2 key_dim 256 value_dim 256 : tensor<1x1024xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x512xf32>
  %n = llm.rms_norm %y, @wide_norm eps 1.0e-6 heads 2 : tensor<1x512xf32> -> tensor<1x512xf32>
  return %n : tensor<1x512xf32>
}
