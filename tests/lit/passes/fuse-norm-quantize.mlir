// RUN: ingot-opt %s --fuse-norm-quantize | FileCheck %s

llm.weight @norm from "norm" : tensor<64xf32> {scheme = #llm.scheme<f32>}
llm.weight @q from "q" : tensor<64x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}

// CHECK-LABEL: func.func @fused(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xbf16>
func.func @fused(%x: tensor<?x64xbf16>) -> tensor<?x64xbf16> {
  // CHECK-NEXT: %[[V:.*]], %[[S:.*]] = llm.rms_norm_quantize %[[X]], @norm eps 2.500000e-01 : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  %n = llm.rms_norm %x, @norm eps 0.25 : tensor<?x64xbf16> -> tensor<?x64xbf16>
  %v, %s = llm.quantize %n : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  // CHECK-NEXT: llm.linear %[[V]] scales %[[S]], @q
  %y = llm.linear %v scales %s, @q : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x64xbf16>
  // CHECK-NEXT: return
  return %y : tensor<?x64xbf16>
}

// CHECK-LABEL: func.func @one_token(
func.func @one_token(%x: tensor<1x64xbf16>) -> tensor<1x64xi8> {
  // CHECK-NEXT: llm.rms_norm_quantize %{{.*}}, @norm eps 2.500000e-01 : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  // CHECK-NEXT: return
  %n = llm.rms_norm %x, @norm eps 0.25 : tensor<1x64xbf16> -> tensor<1x64xbf16>
  %v, %s = llm.quantize %n : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  return %v : tensor<1x64xi8>
}

// Two quantisations of one norm become one.
// CHECK-LABEL: func.func @twice(
func.func @twice(%x: tensor<?x64xbf16>) -> (tensor<?x64xi8>, tensor<?xf32>) {
  // CHECK-NEXT: %[[V:.*]], %[[S:.*]] = llm.rms_norm_quantize
  // CHECK-NEXT: return %[[V]], %[[S]]
  %n = llm.rms_norm %x, @norm eps 0.25 : tensor<?x64xbf16> -> tensor<?x64xbf16>
  %v, %s = llm.quantize %n : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  %v2, %s2 = llm.quantize %n : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  return %v, %s2 : tensor<?x64xi8>, tensor<?xf32>
}

// The bf16 rows are read as well: they are a third result.
// CHECK-LABEL: func.func @other_user(
func.func @other_user(%x: tensor<?x64xbf16>) -> (tensor<?x64xi8>, tensor<?x64xbf16>) {
  // CHECK-NEXT: %[[V:.*]], %{{.*}}, %[[R:.*]] = llm.rms_norm_quantize %{{.*}}, @norm eps 2.500000e-01 : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>, tensor<?x64xbf16>
  // CHECK-NEXT: return %[[V]], %[[R]]
  %n = llm.rms_norm %x, @norm eps 0.25 : tensor<?x64xbf16> -> tensor<?x64xbf16>
  %v, %s = llm.quantize %n : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  return %v, %n : tensor<?x64xi8>, tensor<?x64xbf16>
}

// Nothing quantises this one, and nothing normalises the other.
// CHECK-LABEL: func.func @apart(
func.func @apart(%x: tensor<?x64xbf16>) -> (tensor<?x64xbf16>, tensor<?x64xi8>) {
  // CHECK-NOT: llm.rms_norm_quantize
  // CHECK: llm.rms_norm
  // CHECK: llm.quantize
  %n = llm.rms_norm %x, @norm eps 0.25 : tensor<?x64xbf16> -> tensor<?x64xbf16>
  %v, %s = llm.quantize %x : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  return %n, %v : tensor<?x64xbf16>, tensor<?x64xi8>
}
