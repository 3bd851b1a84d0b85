// ingot-opt has upstream's dialects, passes and switches beside Ingot's own.
// RUN: ingot-opt --help | FileCheck %s --check-prefix=HELP
// RUN: ingot-opt %s --canonicalize --cse | FileCheck %s
// RUN: ingot-opt %s --pass-pipeline='builtin.module(annotate{recipe=bf16},insert-quantize,fuse-norm-quantize)' \
// RUN:   --mlir-print-ir-after-all --mlir-print-ir-after-change -o /dev/null 2>&1 | FileCheck %s --check-prefix=CHANGE

// HELP-DAG: --annotate
// HELP-DAG: --canonicalize
// HELP-DAG: --fuse-norm-quantize
// HELP-DAG: --insert-quantize

// CHANGE: IR Dump After Annotate
// CHANGE-NOT: IR Dump After

llm.weight @w from "w" : tensor<64x32xf32>

// Pure ops with no reader go; a write to the cache and equal ops that may be shared show that the effects are right.
// CHECK-LABEL: func.func @effects(
func.func @effects(%x: tensor<?x32xbf16>) -> tensor<?x32xbf16> {
  // CHECK-NOT: llm.linear
  %unused = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x64xbf16>
  // CHECK: llm.append
  llm.append %x, %x, @k, @v kv_heads 2 head_dim 16 : tensor<?x32xbf16>, tensor<?x32xbf16>
  // CHECK: %[[A:.*]] = llm.attention
  %a = llm.attention %x, @k, @v heads 2 kv_heads 2 head_dim 16 scale 1.0 : tensor<?x32xbf16>
  // CHECK: llm.append
  llm.append %a, %a, @k, @v kv_heads 2 head_dim 16 : tensor<?x32xbf16>, tensor<?x32xbf16>
  // Another write lies between: this is not the attention above.
  // CHECK: %[[B:.*]] = llm.attention
  %b = llm.attention %x, @k, @v heads 2 kv_heads 2 head_dim 16 scale 1.0 : tensor<?x32xbf16>
  // CHECK: %[[C:.*]] = llm.add %[[A]], %[[B]]
  // CHECK-NOT: llm.add
  // CHECK: llm.gated_mul silu %[[C]], %[[C]]
  %c = llm.add %a, %b : tensor<?x32xbf16>
  %d = llm.add %a, %b : tensor<?x32xbf16>
  %e = llm.gated_mul silu %c, %d : tensor<?x32xbf16>, tensor<?x32xbf16> -> tensor<?x32xbf16>
  return %e : tensor<?x32xbf16>
}
llm.state @k key : tensor<?x2x16xbf16>
llm.state @v value : tensor<?x2x16xbf16>
