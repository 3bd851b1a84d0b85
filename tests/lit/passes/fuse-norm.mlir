// RUN: ingot-opt %s --fuse-norm | FileCheck %s
// RUN: ingot-opt %s --fuse-norm --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @norm from "norm" : tensor<64xf32> {scheme = #llm.scheme<f32>}
llm.weight @head_norm from "head_norm" : tensor<16xf32> {scheme = #llm.scheme<f32>}
llm.weight @w from "w" : tensor<16384x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @q from "q" : tensor<16384x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @norm12352 from "norm12352" : tensor<12352xf32> {scheme = #llm.scheme<f32>}
llm.weight @w12352 from "w12352" : tensor<16384x12352xf32> {scheme = #llm.scheme<bf16>}
llm.weight @q12352 from "q12352" : tensor<16384x12352xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @narrow from "narrow" : tensor<6144x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @gate from "gate" : tensor<8192x64xf32> {scheme = #llm.scheme<int8, group = 32>}
llm.weight @gate4 from "gate4" : tensor<8192x64xf32> {scheme = #llm.scheme<int4, group = 32>}

// CHECK-LABEL: func.func @plain(
// CHECK-SAME: %[[X:.*]]: tensor<1x64xf32>, %[[R:.*]]: tensor<1x16384xf32>
func.func @plain(%x: tensor<1x64xf32>, %r: tensor<1x16384xf32>) -> tensor<1x16384xf32> {
  // CHECK-NEXT: %[[Y:.*]] = llm.linear %[[X]] norm @norm eps 9.99999974E-6, @w : (tensor<1x64xf32>) -> tensor<1x16384xf32> epilogue(
  // CHECK-NEXT: llm.add %[[R]],
  // CHECK: return %[[Y]]
  // REMARK: remark: [Passed] normalises its operand itself | Category:fuse-norm
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
  %y = llm.linear %n, @w : (tensor<1x64xbf16>) -> tensor<1x16384xf32> epilogue(%p: tensor<1x16384xf32>) {
    %a = llm.add %r, %p : tensor<1x16384xf32>
    llm.yield %a : tensor<1x16384xf32>
  }
  return %y : tensor<1x16384xf32>
}

// CHECK-LABEL: func.func @with_quantisation(
// CHECK-SAME: %[[X:.*]]: tensor<1x64xbf16>
func.func @with_quantisation(%x: tensor<1x64xbf16>) -> tensor<1x16384xf32> {
  // CHECK-NEXT: llm.linear %[[X]] norm @norm eps 9.99999974E-6 quantized, @q : (tensor<1x64xbf16>) -> tensor<1x16384xf32>
  %v, %s = llm.rms_norm_quantize %x, @norm eps 1.0e-5 : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  %y = llm.linear %v scales %s, @q : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x16384xf32>
  return %y : tensor<1x16384xf32>
}

// CHECK-LABEL: func.func @many_rows(
func.func @many_rows(%x: tensor<?x64xf32>) -> tensor<?x16384xf32> {
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] every workgroup would normalise many rows again
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x64xf32> -> tensor<?x64xbf16>
  %y = llm.linear %n, @w : (tensor<?x64xbf16>) -> tensor<?x16384xf32>
  return %y : tensor<?x16384xf32>
}

// CHECK-LABEL: func.func @of_heads(
func.func @of_heads(%x: tensor<1x64xf32>) -> tensor<1x16384xf32> {
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] it normalises heads
  %n = llm.rms_norm %x, @head_norm eps 1.0e-5 heads 4 : tensor<1x64xf32> -> tensor<1x64xbf16>
  %y = llm.linear %n, @w : (tensor<1x64xbf16>) -> tensor<1x16384xf32>
  return %y : tensor<1x16384xf32>
}

// CHECK-LABEL: func.func @two_readers(
func.func @two_readers(%x: tensor<1x64xf32>) -> (tensor<1x16384xf32>, tensor<1x16384xbf16>) {
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] several ops read the normalised row
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
  %y = llm.linear %n, @w : (tensor<1x64xbf16>) -> tensor<1x16384xf32>
  %z = llm.linear %n, @w : (tensor<1x64xbf16>) -> tensor<1x16384xbf16>
  return %y, %z : tensor<1x16384xf32>, tensor<1x16384xbf16>
}

// CHECK-LABEL: func.func @returned(
func.func @returned(%x: tensor<1x64xf32>) -> tensor<1x64xbf16> {
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] what reads the normalised row is not one linear
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
  return %n : tensor<1x64xbf16>
}

// Two bytes an element, one where the row is quantised.
// CHECK-LABEL: func.func @too_wide(
func.func @too_wide(%x: tensor<1x12352xf32>) -> (tensor<1x16384xf32>, tensor<1x16384xf32>) {
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] the row is wider than a workgroup has room for
  %n = llm.rms_norm %x, @norm12352 eps 1.0e-5 : tensor<1x12352xf32> -> tensor<1x12352xbf16>
  %y = llm.linear %n, @w12352 : (tensor<1x12352xbf16>) -> tensor<1x16384xf32>
  // CHECK: llm.linear %{{.*}} norm @norm12352 eps 9.99999974E-6 quantized, @q12352
  %v, %s = llm.rms_norm_quantize %x, @norm12352 eps 1.0e-5 : tensor<1x12352xf32> -> tensor<1x12352xi8>, tensor<1xf32>
  %z = llm.linear %v scales %s, @q12352 : (tensor<1x12352xi8>, tensor<1xf32>) -> tensor<1x16384xf32>
  return %y, %z : tensor<1x16384xf32>, tensor<1x16384xf32>
}

// Workgroups of 16 rows may be all there are: 8 bytes a column beside 32.
// CHECK-LABEL: func.func @few_rows(
func.func @few_rows(%x: tensor<1x64xf32>) -> tensor<1x6144xf32> {
  // CHECK-NEXT: llm.rms_norm
  // REMARK: remark: [Missed] each workgroup has too few weights beside the row
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
  %y = llm.linear %n, @narrow : (tensor<1x64xbf16>) -> tensor<1x6144xf32>
  return %y : tensor<1x6144xf32>
}

// Workgroups of 64 rows, of both weights together: 8 bytes a column beside 64 of int8 pay, beside 32 of int4 they do not.
// CHECK-LABEL: func.func @gate_and_up(
func.func @gate_and_up(%x: tensor<1x64xf32>) -> (tensor<1x8192xf32>, tensor<1x8192xf32>, tensor<1x8192xf32>, tensor<1x8192xf32>) {
  // CHECK-DAG: llm.linear %{{.*}} norm @norm eps 9.99999974E-6, @gate, @gate
  // CHECK-DAG: %[[N:.*]] = llm.rms_norm
  // CHECK: llm.linear %[[N]], @gate4, @gate4
  // REMARK: remark: [Missed] each workgroup has too few weights beside the row
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
  %y:2 = llm.linear %n, @gate, @gate : (tensor<1x64xbf16>) -> (tensor<1x8192xf32>, tensor<1x8192xf32>)
  %m = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
  %z:2 = llm.linear %m, @gate4, @gate4 : (tensor<1x64xbf16>) -> (tensor<1x8192xf32>, tensor<1x8192xf32>)
  return %y#0, %y#1, %z#0, %z#1 : tensor<1x8192xf32>, tensor<1x8192xf32>, tensor<1x8192xf32>, tensor<1x8192xf32>
}

// CHECK-LABEL: func.func @row_read_too(
func.func @row_read_too(%x: tensor<1x64xf32>) -> (tensor<1x16384xf32>, tensor<1x64xbf16>) {
  // CHECK-NEXT: llm.rms_norm_quantize
  // REMARK: remark: [Missed] several ops read the normalised row
  %v, %s, %r = llm.rms_norm_quantize %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xi8>, tensor<1xf32>, tensor<1x64xbf16>
  %y = llm.linear %v scales %s, @q : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x16384xf32>
  return %y, %r : tensor<1x16384xf32>, tensor<1x64xbf16>
}
