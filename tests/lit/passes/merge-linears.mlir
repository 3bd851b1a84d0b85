// RUN: ingot-opt %s --merge-linears --split-input-file | FileCheck %s
// RUN: ingot-opt %s --merge-linears --split-input-file --remarks-filter=".*" 2>&1 | FileCheck %s --check-prefix=REMARK

llm.weight @q from "q" : tensor<64x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @k from "k" : tensor<32x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @v from "v" : tensor<32x64xf32> {scheme = #llm.scheme<int8, group = 32>}
llm.weight @kb from "kb" : tensor<32xf32> {scheme = #llm.scheme<f32>}

// Linears of one value and one scheme become one op; one of another scheme stays, and so does a lone one.
// CHECK-LABEL: func.func @projections(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xbf16>
func.func @projections(%x: tensor<?x64xbf16>) -> (tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x32xbf16>, tensor<?x32xbf16>) {
  // CHECK-NEXT: %[[R:.*]]:2 = llm.linear %[[X]], @q, @k bias @kb : (tensor<?x64xbf16>) -> (tensor<?x64xf32>, tensor<?x32xf32>)
  // CHECK-NEXT: %[[V:.*]] = llm.linear %[[X]], @v : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  // REMARK-DAG: remark: [Passed] merged with its neighbours | Category:merge-linears
  // REMARK-DAG: remark: [Missed] no other linear of this operand has its scheme | Category:merge-linears
  %q = llm.linear %x, @q : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %v = llm.linear %x, @v : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  %k = llm.linear %x, @k bias @kb : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  // CHECK-NEXT: %[[Y:.*]] = llm.add
  // CHECK-NEXT: llm.linear %[[Y]], @v :
  %y = llm.add %x, %x : tensor<?x64xbf16>
  %o = llm.linear %y, @v : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
  return %q, %k, %v, %o : tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x32xbf16>, tensor<?x32xbf16>
}

// A gate of something computed later stays alone, where it can take that product into its epilogue; gate and up merge with
// each other alone, and so leave their product to one launch.
// CHECK-LABEL: func.func @output_gate(
func.func @output_gate(%x: tensor<?x64xbf16>, %a: tensor<?x32xbf16>) -> (tensor<?x64xf32>, tensor<?x32xbf16>, tensor<?x32xbf16>) {
  // CHECK-NEXT: llm.linear %{{.*}}, @q :
  // CHECK-NEXT: llm.linear %{{.*}}, @k :
  // CHECK-NEXT: llm.linear %{{.*}}, @k, @k : (tensor<?x64xbf16>) -> (tensor<?x32xf32>, tensor<?x32xf32>)
  // REMARK-DAG: remark: [Missed] its product gates what is computed later | Category:merge-linears
  %q = llm.linear %x, @q : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %gate = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  %g = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  %u = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  %h = llm.gated_mul silu %g, %u : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xbf16>
  %y = llm.gated_mul sigmoid %gate, %a : tensor<?x32xf32>, tensor<?x32xbf16> -> tensor<?x32xbf16>
  return %q, %h, %y : tensor<?x64xf32>, tensor<?x32xbf16>, tensor<?x32xbf16>
}

llm.weight @experts.gate from "eg" : tensor<6x32x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @experts.up from "eu" : tensor<6x32x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @one from "one" : tensor<1x64xf32> {scheme = #llm.scheme<bf16>}
llm.weight @router from "router" : tensor<6x64xf32> {scheme = #llm.scheme<bf16>}

// Experts' linears merge with those of the same experts; a gate of one column, which no epilogue can take, with the router.
// CHECK-LABEL: func.func @experts(
func.func @experts(%x: tensor<?x64xbf16>, %y: tensor<?x32xf32>)
    -> (tensor<?x2x32xbf16>, tensor<?x32xbf16>, tensor<?x2xf32>, tensor<?x32xf32>) {
  // CHECK-NEXT: %[[R:.*]]:2 = llm.linear %[[X:.*]], @router, @one : (tensor<?x64xbf16>) -> (tensor<?x6xf32>, tensor<?x1xf32>)
  // CHECK-NEXT: %{{.*}}, %[[I:.*]] = llm.route %[[R]]#0
  // CHECK-NEXT: llm.linear %[[X]] experts %[[I]], @experts.gate, @experts.up : (tensor<?x64xbf16>, tensor<?x2xi32>) -> (tensor<?x2x32xf32>, tensor<?x2x32xf32>)
  // CHECK-NEXT: llm.gated_mul
  // CHECK-NEXT: llm.linear %[[X]], @k, @k :
  %l = llm.linear %x, @router : (tensor<?x64xbf16>) -> tensor<?x6xf32>
  %w, %i = llm.route %l top 2 : tensor<?x6xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  %eg = llm.linear %x experts %i, @experts.gate : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x2x32xf32>
  %eu = llm.linear %x experts %i, @experts.up : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x2x32xf32>
  %eh = llm.gated_mul silu %eg, %eu : tensor<?x2x32xf32>, tensor<?x2x32xf32> -> tensor<?x2x32xbf16>
  %s = llm.linear %x, @one : (tensor<?x64xbf16>) -> tensor<?x1xf32>
  %g = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  %u = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  %h = llm.gated_mul silu %g, %u : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xbf16>
  %z = llm.gated_mul sigmoid %s, %y : tensor<?x1xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return %eh, %h, %w, %z : tensor<?x2x32xbf16>, tensor<?x32xbf16>, tensor<?x2xf32>, tensor<?x32xf32>
}
