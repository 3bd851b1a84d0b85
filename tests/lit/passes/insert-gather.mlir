// RUN: ingot-opt %s --insert-gather | FileCheck %s
// RUN: ingot-opt %s --insert-gather --insert-gather | FileCheck %s
// RUN: ingot-opt %s --insert-gather --debug-counter=insert-gather=1 | FileCheck %s --check-prefix=COUNTER
// RUN: ingot-opt %s --insert-gather --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARKS

llm.weight @a from "a" : tensor<32x64xf32> {permuted, scheme = #llm.scheme<int4, group = 32>, stored = #llm.scheme<int4, group = 32>}
llm.weight @b from "b" : tensor<32x64xf32> {permuted, scheme = #llm.scheme<int4, group = 32>, stored = #llm.scheme<int4, group = 32>}
llm.weight @plain from "p" : tensor<32x64xf32> {scheme = #llm.scheme<int4, group = 32>, stored = #llm.scheme<int4, group = 32>}
llm.weight @again from "r" : tensor<32x64xf32> {permuted, scheme = #llm.scheme<bf16>, stored = #llm.scheme<int4, group = 32>}

// CHECK-LABEL: func.func @f(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xbf16>
// COUNTER-LABEL: func.func @f(
func.func @f(%x: tensor<?x64xbf16>) -> (tensor<?x32xbf16>, tensor<?x32xbf16>, tensor<?x32xbf16>, tensor<?x32xbf16>) {
  // CHECK-NEXT: %[[GA:.*]] = llm.gather_columns %[[X]], @a : tensor<?x64xbf16>
  // CHECK-NEXT: llm.linear %[[GA]], @a {gathered} : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // COUNTER: llm.linear %{{.*}}, @a :
  // REMARKS-DAG: remark: [Passed] takes columns in the weight's order now
  %a = llm.linear %x, @a : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // Each weight has an order of its own.
  // CHECK-NEXT: %[[GB:.*]] = llm.gather_columns %[[X]], @b : tensor<?x64xbf16>
  // CHECK-NEXT: llm.linear %[[GB]], @b {gathered}
  // COUNTER: llm.linear %{{.*}}, @b {gathered}
  %b = llm.linear %x, @b : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // CHECK-NEXT: llm.linear %[[X]], @plain :
  // REMARKS-DAG: {{.*}}its weight is stored in the model's order
  %p = llm.linear %x, @plain : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // CHECK-NEXT: llm.linear %[[X]], @again :
  // REMARKS-DAG: {{.*}}its weight is not kept as it is stored
  %r = llm.linear %x, @again : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  return %a, %b, %p, %r : tensor<?x32xbf16>, tensor<?x32xbf16>, tensor<?x32xbf16>, tensor<?x32xbf16>
}
