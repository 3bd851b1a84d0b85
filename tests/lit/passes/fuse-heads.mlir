// RUN: ingot-opt %s --fuse-heads | FileCheck %s
// RUN: ingot-opt %s --fuse-heads --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @f from "f" : tensor<32xf32>
llm.weight @odd from "odd" : tensor<8xf32>
llm.weight @qn from "qn" : tensor<64xf32>
llm.weight @kn from "kn" : tensor<64xf32>
llm.state @k key : tensor<?x1x64xbf16>
llm.state @v value : tensor<?x1x64xbf16>

// CHECK-LABEL: func.func @normalised(
// CHECK-SAME: %[[Q:.*]]: tensor<?x128xf32>, %[[K:.*]]: tensor<?x64xf32>, %[[V:.*]]: tensor<?x64xbf16>
func.func @normalised(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xbf16>) -> tensor<?x128xbf16> {
  // CHECK-NEXT: %[[R:.*]] = llm.heads(%[[Q]], %[[K]], %[[V]]) : (tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xbf16>) -> tensor<?x128xbf16> body(%[[A:.*]]: tensor<?x128xf32>, %[[B:.*]]: tensor<?x64xf32>, %[[C:.*]]: tensor<?x64xbf16>) {
  // CHECK-NEXT: %[[AN:.*]] = llm.rms_norm %[[A]], @qn eps {{.*}} heads 2
  // CHECK-NEXT: %[[BN:.*]] = llm.rms_norm %[[B]], @kn eps {{.*}} heads 1
  // CHECK-NEXT: %[[AR:.*]] = llm.rope %[[AN]]
  // CHECK-NEXT: %[[BR:.*]] = llm.rope %[[BN]]
  // CHECK-NEXT: llm.append %[[BR]], %[[C]], @k, @v
  // CHECK-NEXT: llm.yield %[[AR]] : tensor<?x128xbf16>
  // CHECK-NEXT: }
  // CHECK-NEXT: llm.attention %[[R]]
  // REMARK: remark: [Passed] one launch from the projections to attention | Category:fuse-heads
  %qn = llm.rms_norm %q, @qn eps 1.0e-6 heads 2 : tensor<?x128xf32> -> tensor<?x128xf32>
  %kn = llm.rms_norm %k, @kn eps 1.0e-6 heads 1 : tensor<?x64xf32> -> tensor<?x64xf32>
  %qr = llm.rope %qn, @f heads 2 head_dim 64 : tensor<?x128xf32> -> tensor<?x128xbf16>
  %kr = llm.rope %kn, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  llm.append %kr, %v, @k, @v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  %a = llm.attention %qr, @k, @v heads 2 kv_heads 1 head_dim 64 scale 1.0 : tensor<?x128xbf16>
  return %a : tensor<?x128xbf16>
}

// The first rotation is read by something that must come before; the other goes.
// CHECK-LABEL: func.func @needed_before(
func.func @needed_before(%q: tensor<?x64xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xbf16>) -> (tensor<?x64xbf16>, tensor<?x64xbf16>) {
  // CHECK-NEXT: %[[R:.*]] = llm.rope
  // CHECK-NEXT: llm.add %[[R]], %[[R]]
  // CHECK-NEXT: llm.heads(
  // CHECK-NEXT: llm.rope
  // CHECK-NEXT: llm.append
  // REMARK: remark: [Missed] something else reads it before the cache is written
  %qr = llm.rope %q, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  %s = llm.add %qr, %qr : tensor<?x64xbf16>
  %kr = llm.rope %k, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  llm.append %kr, %v, @k, @v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return %qr, %s : tensor<?x64xbf16>, tensor<?x64xbf16>
}

// Eight elements pair with eight: half of 16 lanes.
// CHECK-LABEL: func.func @odd_rotation(
func.func @odd_rotation(%k: tensor<?x64xf32>, %v: tensor<?x64xbf16>) {
  // CHECK-NOT: llm.heads
  // CHECK: llm.append
  // REMARK: remark: [Missed] the halves that a rotation pairs are not made of 16 elements at a time
  // REMARK: remark: [Missed] no norm or rotation of heads comes before it
  %kr = llm.rope %k, @odd heads 1 head_dim 64 rotary_dim 16 : tensor<?x64xf32> -> tensor<?x64xbf16>
  llm.append %kr, %v, @k, @v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return
}

// Nothing moves down across another write to a cache.
// CHECK-LABEL: func.func @across_a_write(
func.func @across_a_write(%q: tensor<?x64xf32>, %k: tensor<?x64xbf16>) -> tensor<?x64xbf16> {
  // CHECK-NEXT: llm.heads(
  // CHECK-NEXT: llm.rope
  // CHECK-NEXT: llm.append
  // CHECK-NEXT: llm.yield
  // CHECK-NEXT: }
  // CHECK-NEXT: llm.append
  %qr = llm.rope %q, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
  llm.append %k, %k, @k, @v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  llm.append %k, %k, @k, @v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
  return %qr : tensor<?x64xbf16>
}
