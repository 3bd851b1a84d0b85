// RUN: ingot-opt %s --fuse-softcap | FileCheck %s
// RUN: ingot-opt %s --fuse-softcap --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @head from "head" : tensor<97x64xf32> {scheme = #llm.scheme<bf16>}

// CHECK-LABEL: func.func @capped(
func.func @capped(%x: tensor<?x64xbf16>) -> tensor<?x97xf32> {
  // CHECK-NEXT: %[[Y:.*]] = llm.linear %{{.*}}, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32> epilogue(%[[P:.*]]: tensor<?x97xf32>) {
  // CHECK-NEXT: %[[C:.*]] = llm.softcap %[[P]] cap 3.000000e+01 : tensor<?x97xf32>
  // CHECK-NEXT: llm.yield %[[C]] : tensor<?x97xf32>
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[Y]]
  %l = llm.linear %x, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32>
  %y = llm.softcap %l cap 30.0 : tensor<?x97xf32>
  return %y : tensor<?x97xf32>
}

// CHECK-LABEL: func.func @read_elsewhere(
func.func @read_elsewhere(%x: tensor<?x64xbf16>) -> (tensor<?x97xf32>, tensor<?x97xf32>) {
  // CHECK-NOT: epilogue
  // CHECK: llm.softcap
  // REMARK: remark: [Missed] something else reads the product | Category:fuse-softcap
  %l = llm.linear %x, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32>
  %y = llm.softcap %l cap 30.0 : tensor<?x97xf32>
  return %y, %l : tensor<?x97xf32>, tensor<?x97xf32>
}

// CHECK-LABEL: func.func @several(
func.func @several(%x: tensor<?x64xbf16>) -> (tensor<?x97xf32>, tensor<?x97xf32>) {
  // CHECK-NOT: epilogue
  // CHECK: llm.softcap
  // REMARK: remark: [Missed] the linear computes several products
  %l:2 = llm.linear %x, @head, @head : (tensor<?x64xbf16>) -> (tensor<?x97xf32>, tensor<?x97xf32>)
  %y = llm.softcap %l#0 cap 30.0 : tensor<?x97xf32>
  return %y, %l#1 : tensor<?x97xf32>, tensor<?x97xf32>
}

// CHECK-LABEL: func.func @no_product(
func.func @no_product(%x: tensor<?x97xf32>) -> tensor<?x97xf32> {
  // CHECK-NEXT: llm.softcap
  // REMARK: remark: [Missed] it caps what is not the product of a linear
  %y = llm.softcap %x cap 30.0 : tensor<?x97xf32>
  return %y : tensor<?x97xf32>
}
