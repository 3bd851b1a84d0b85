// What annotate complains of; every complaint names the recipe and its line.
// RUN: not ingot-opt %s --annotate=recipe=%inputs/unused.textproto 2>&1 | FileCheck %s --check-prefix=UNUSED
// RUN: not ingot-opt %s --annotate=recipe=%inputs/scheme.textproto 2>&1 | FileCheck %s --check-prefix=SCHEME
// RUN: not ingot-opt %s --annotate=recipe=w4a4 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not ingot-opt %s --annotate=recipe=%s 2>&1 | FileCheck %s --check-prefix=TEXT

// UNUSED: no rule matches weight @table; add one
// UNUSED: unused.textproto:3: the rule with pattern "vision.*" decides no weight
// UNUSED-NOT: audio
// UNUSED: unused.textproto:5: the rule with pattern "ab" decides no weight
// SCHEME: scheme.textproto:2: unknown scheme "int3"
// SCHEME: no rule matches weight @ab
// SCHEME: scheme.textproto:6: scheme w8a8 quantises activations, and @table is read by something other than llm.linear
// NAME: recipe "w4a4": neither a name ({{.*}}w8a8) nor a file that can be read
// TEXT: annotate-invalid.mlir:1:

llm.weight @a from "a" : tensor<32x32xf32>
llm.weight @ab from "ab" : tensor<32x32xf32>
llm.weight @table from "table" : tensor<48x32xf32>
func.func @f(%tokens: tensor<?xi32>) -> tensor<?x32xbf16> {
  %x = llm.embed %tokens, @table : (tensor<?xi32>) -> tensor<?x32xbf16>
  return %x : tensor<?x32xbf16>
}
