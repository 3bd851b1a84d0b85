// Recipes by name and by file; what each weight gets, and that a scheme in the text is kept.
// RUN: ingot-opt %s --annotate=recipe=w8a8 | FileCheck %s --check-prefixes=CHECK,W8A8
// RUN: ingot-opt %s --annotate=recipe=%recipes/bf16.textproto | FileCheck %s --check-prefixes=CHECK,BF16

// CHECK: llm.weight @model.embed_tokens.weight {{.*}} {scheme = #llm.scheme<bf16>}
llm.weight @model.embed_tokens.weight from "model.embed_tokens.weight" : tensor<48x32xf32>
// W8A8: llm.weight @model.layers.0.mlp.up_proj.weight {{.*}} {scheme = #llm.scheme<int8, activation = int8_per_token>}
// BF16: llm.weight @model.layers.0.mlp.up_proj.weight {{.*}} {scheme = #llm.scheme<bf16>}
llm.weight @model.layers.0.mlp.up_proj.weight from "model.layers.0.mlp.up_proj.weight" : tensor<64x32xf32>
// W8A8: llm.weight @model.layers.0.mlp.down_proj.weight {{.*}} {scheme = #llm.scheme<int8, group = 32>}
// BF16: llm.weight @model.layers.0.mlp.down_proj.weight {{.*}} {scheme = #llm.scheme<bf16>}
llm.weight @model.layers.0.mlp.down_proj.weight from "d" : tensor<32x64xf32>
// W8A8: llm.weight @model.layers.0.self_attn.v_proj.weight {{.*}} {scheme = #llm.scheme<int8, group = 32>}
// BF16: llm.weight @model.layers.0.self_attn.v_proj.weight {{.*}} {scheme = #llm.scheme<bf16>}
llm.weight @model.layers.0.self_attn.v_proj.weight from "v" : tensor<32x32xf32>
// A scheme that is there already stays.
// CHECK: llm.weight @model.layers.1.mlp.up_proj.weight {{.*}} {scheme = #llm.scheme<int8>}
llm.weight @model.layers.1.mlp.up_proj.weight from "u" : tensor<64x32xf32> {scheme = #llm.scheme<int8>}
// Vectors are f32 whatever the recipe says of their name.
// CHECK: llm.weight @model.layers.0.input_layernorm.weight {{.*}} {scheme = #llm.scheme<f32>}
llm.weight @model.layers.0.input_layernorm.weight from "model.layers.0.input_layernorm.weight" : tensor<32xf32>
// CHECK: llm.weight @rope.inv_freq : tensor<2xf32> value {{.*}} {scheme = #llm.scheme<f32>}
llm.weight @rope.inv_freq : tensor<2xf32> value dense<1.0> : tensor<2xf32>
// Taps of a short convolution are f32 too.
// CHECK: llm.weight @conv1d {{.*}} {scheme = #llm.scheme<f32>}
llm.weight @conv1d from "conv1d.weight" : tensor<32x4xf32>
llm.state @conv conv : tensor<3x32xf32>
func.func @convolve(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = llm.short_conv %x, @conv1d, @conv : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
// What a checkpoint stores quantised stays as it is, whatever the recipe.
// CHECK: llm.weight @model.layers.1.mlp.gate_proj.weight {{.*}} {scheme = #llm.scheme<int4, group = 32, zeros>, stored = #llm.scheme<int4, group = 32, zeros>}
llm.weight @model.layers.1.mlp.gate_proj.weight from "g" : tensor<64x32xf32> {stored = #llm.scheme<int4, group = 32, zeros>}
// The head shares the embedding's tensor, and has a scheme of its own.
// W8A8: llm.weight @lm_head.weight from "model.embed_tokens.weight" {{.*}} {scheme = #llm.scheme<int8, group = 32>}
llm.weight @lm_head.weight from "model.embed_tokens.weight" : tensor<48x32xf32>
