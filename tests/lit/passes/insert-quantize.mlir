// RUN: ingot-opt %s --insert-quantize | FileCheck %s
// RUN: ingot-opt %s --insert-quantize --insert-quantize | FileCheck %s

llm.weight @q from "q" : tensor<64x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @k from "k" : tensor<32x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @b from "b" : tensor<32xf32> {scheme = #llm.scheme<f32>}
llm.weight @wo from "wo" : tensor<32x64xf32> {scheme = #llm.scheme<int8>}
llm.weight @none from "none" : tensor<32x64xf32>
llm.weight @norm from "norm" : tensor<64xf32> {scheme = #llm.scheme<f32>}

// Linears that read one value share its quantisation; the bias stays.
// CHECK-LABEL: func.func @shared(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xbf16>
func.func @shared(%x: tensor<?x64xbf16>) -> (tensor<?x64xbf16>, tensor<?x32xbf16>) {
  // CHECK-NEXT: %[[V:.*]], %[[S:.*]] = llm.quantize %[[X]] : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  // CHECK-NEXT: llm.linear %[[V]] scales %[[S]], @q : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x64xbf16>
  %q = llm.linear %x, @q : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
  // CHECK-NEXT: llm.linear %[[V]] scales %[[S]], @k bias @b : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x32xbf16>
  %k = llm.linear %x, @k bias @b : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // CHECK-NEXT: return
  return %q, %k : tensor<?x64xbf16>, tensor<?x32xbf16>
}

// The quantisation follows the value's definition, and other readers keep the bf16 rows.
// CHECK-LABEL: func.func @one_token(
func.func @one_token(%x: tensor<1x64xbf16>) -> tensor<1x32xbf16> {
  // CHECK: %[[N:.*]] = llm.rms_norm
  // CHECK-NEXT: %[[V:.*]], %[[S:.*]] = llm.quantize %[[N]] : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xbf16> -> tensor<1x64xbf16>
  // CHECK-NEXT: %[[Y:.*]] = llm.add %[[N]], %[[N]]
  %y = llm.add %n, %n : tensor<1x64xbf16>
  // CHECK-NEXT: %[[V2:.*]], %[[S2:.*]] = llm.quantize %[[Y]]
  // CHECK-NEXT: %[[A:.*]] = llm.linear %[[V]] scales %[[S]], @k
  %a = llm.linear %n, @k : (tensor<1x64xbf16>) -> tensor<1x32xbf16>
  // CHECK-NEXT: %[[B:.*]] = llm.linear %[[V2]] scales %[[S2]], @k
  %b = llm.linear %y, @k : (tensor<1x64xbf16>) -> tensor<1x32xbf16>
  // CHECK-NEXT: llm.add %[[A]], %[[B]]
  %c = llm.add %a, %b : tensor<1x32xbf16>
  return %c : tensor<1x32xbf16>
}

// Weight-only schemes and weights without one are left alone; so is what is quantised already.
// CHECK-LABEL: func.func @declined(
func.func @declined(%x: tensor<?x64xbf16>) -> (tensor<?x32xbf16>, tensor<?x32xbf16>, tensor<?x32xbf16>) {
  // CHECK-COUNT-1: llm.quantize
  // CHECK-NOT: llm.quantize
  %v, %s = llm.quantize %x : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  // CHECK: llm.linear %{{.*}}, @wo : (tensor<?x64xbf16>)
  %a = llm.linear %x, @wo : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // CHECK: llm.linear %{{.*}}, @none : (tensor<?x64xbf16>)
  %b = llm.linear %x, @none : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  %c = llm.linear %v scales %s, @k : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x32xbf16>
  return %a, %b, %c : tensor<?x32xbf16>, tensor<?x32xbf16>, tensor<?x32xbf16>
}

// Logits stay f32.
// CHECK-LABEL: func.func @wide(
func.func @wide(%x: tensor<?x64xbf16>) -> tensor<?x32xf32> {
  // CHECK: llm.linear %{{.*}} scales %{{.*}}, @k : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x32xf32>
  %y = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
