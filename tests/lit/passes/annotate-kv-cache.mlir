// What a KV cache holds: by the recipe, by the option, which goes before it, and by itself.
// RUN: ingot-opt %s --annotate | FileCheck %s --check-prefix=BF16
// RUN: ingot-opt %s --annotate=kv-cache=int8 | FileCheck %s --check-prefix=INT8
// RUN: ingot-opt %s --annotate=recipe=%inputs/kv-cache.textproto | FileCheck %s --check-prefix=FP8
// RUN: ingot-opt %s --annotate="recipe=%inputs/kv-cache.textproto kv-cache=bf16" | FileCheck %s --check-prefix=BF16
// RUN: not ingot-opt %s --annotate=kv-cache=int4 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// UNKNOWN: expected kv-cache to be one of bf16, int8, fp8, got "int4"

llm.weight @w from "w" : tensor<32x32xf32>
// BF16: llm.state @k key : tensor<?x1x16xbf16>
// INT8: llm.state @k key : tensor<?x1x16xi8>
// FP8: llm.state @k key : tensor<?x1x16xf8E4M3FN>
llm.state @k key : tensor<?x1x16xbf16>
// INT8: llm.state @v value : tensor<32x1x16xi8>
// FP8: llm.state @v value : tensor<32x1x16xf8E4M3FN>
llm.state @v value : tensor<32x1x16xbf16>
// One that holds codes keeps them.
// BF16: llm.state @codes key : tensor<?x1x16xi8>
// FP8: llm.state @codes key : tensor<?x1x16xi8>
llm.state @codes key : tensor<?x1x16xi8>
// Other states stay as they are.
// INT8: llm.state @conv conv : tensor<3x32xf32>
llm.state @conv conv : tensor<3x32xf32>
