// RUN: ingot-opt %s --fuse-quantize | FileCheck %s
// RUN: ingot-opt %s --fuse-quantize --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @w from "w" : tensor<32x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @down from "down" : tensor<6x32x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @down4160 from "down4160" : tensor<6x32x4160xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @wide from "wide" : tensor<32x24640xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}

// CHECK-LABEL: func.func @one_row(
// CHECK-SAME: %[[X:.*]]: tensor<1x64xbf16>, %[[R:.*]]: tensor<1x32xf32>
func.func @one_row(%x: tensor<1x64xbf16>, %r: tensor<1x32xf32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: %[[Y:.*]] = llm.linear %[[X]] quantized, @w : (tensor<1x64xbf16>) -> tensor<1x32xf32> epilogue(
  // CHECK-NEXT: llm.add %[[R]],
  // CHECK: return %[[Y]]
  // REMARK: remark: [Passed] quantises its operand itself | Category:fuse-quantize
  %v, %s = llm.quantize %x : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  %y = llm.linear %v scales %s, @w : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x32xf32> epilogue(%p: tensor<1x32xf32>) {
    %a = llm.add %r, %p : tensor<1x32xf32>
    llm.yield %a : tensor<1x32xf32>
  }
  return %y : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @many_rows(
func.func @many_rows(%x: tensor<?x64xbf16>) -> tensor<?x32xf32> {
  // CHECK-NEXT: llm.quantize
  // REMARK: remark: [Missed] every workgroup would quantise many rows again
  %v, %s = llm.quantize %x : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  %y = llm.linear %v scales %s, @w : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @two_readers(
func.func @two_readers(%x: tensor<1x64xbf16>) -> (tensor<1x32xf32>, tensor<1x32xbf16>) {
  // CHECK-NEXT: llm.quantize
  // REMARK: remark: [Missed] several ops read the quantised row
  %v, %s = llm.quantize %x : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  %y = llm.linear %v scales %s, @w : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x32xf32>
  %z = llm.linear %v scales %s, @w : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x32xbf16>
  return %y, %z : tensor<1x32xf32>, tensor<1x32xbf16>
}

// CHECK-LABEL: func.func @returned(
func.func @returned(%x: tensor<1x64xbf16>) -> (tensor<1x64xi8>, tensor<1xf32>) {
  // CHECK-NEXT: llm.quantize
  // REMARK: remark: [Missed] what reads the quantised row is not one linear
  %v, %s = llm.quantize %x : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
  return %v, %s : tensor<1x64xi8>, tensor<1xf32>
}

// CHECK-LABEL: func.func @too_wide(
func.func @too_wide(%x: tensor<1x24640xbf16>) -> tensor<1x32xf32> {
  // CHECK-NEXT: llm.quantize
  // REMARK: remark: [Missed] the row is wider than a workgroup has room for
  %v, %s = llm.quantize %x : tensor<1x24640xbf16> -> tensor<1x24640xi8>, tensor<1xf32>
  %y = llm.linear %v scales %s, @wide : (tensor<1x24640xi8>, tensor<1xf32>) -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @of_experts(
func.func @of_experts(%x: tensor<1x2x64xbf16>, %w: tensor<1x2xf32>, %i: tensor<1x2xi32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: llm.linear %{{.*}} experts %{{.*}} quantized, @down : (tensor<1x2x64xbf16>, tensor<1x2xi32>)
  // REMARK: remark: [Passed] quantises its operand itself
  %v, %s = llm.quantize %x : tensor<1x2x64xbf16> -> tensor<1x2x64xi8>, tensor<1x2xf32>
  %y = llm.linear %v scales %s experts %i, @down : (tensor<1x2x64xi8>, tensor<1x2xf32>, tensor<1x2xi32>) -> tensor<1x32xf32> epilogue(%p: tensor<1x2x32xf32>) {
    %c = llm.combine %p, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
    llm.yield %c : tensor<1x32xf32>
  }
  return %y : tensor<1x32xf32>
}

// CHECK-LABEL: func.func @wide_experts(
func.func @wide_experts(%x: tensor<1x2x4160xbf16>, %w: tensor<1x2xf32>, %i: tensor<1x2xi32>) -> tensor<1x32xf32> {
  // CHECK-NEXT: llm.quantize
  // REMARK: remark: [Missed] a row is wider than a wave has registers for
  %v, %s = llm.quantize %x : tensor<1x2x4160xbf16> -> tensor<1x2x4160xi8>, tensor<1x2xf32>
  %y = llm.linear %v scales %s experts %i, @down4160 : (tensor<1x2x4160xi8>, tensor<1x2xf32>, tensor<1x2xi32>) -> tensor<1x32xf32> epilogue(%p: tensor<1x2x32xf32>) {
    %c = llm.combine %p, %w : tensor<1x2x32xf32>, tensor<1x2xf32> -> tensor<1x32xf32>
    llm.yield %c : tensor<1x32xf32>
  }
  return %y : tensor<1x32xf32>
}
