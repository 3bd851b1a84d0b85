// What annotate warns of around a recurrent state, and that it takes the recipe's word nevertheless.
// RUN: ingot-opt %s --annotate=recipe=w8a8 2>&1 | FileCheck %s
// RUN: ingot-opt %s --annotate=recipe=bf16 2>&1 | FileCheck %s --check-prefix=BF16
// RUN: ingot-opt %s --annotate=recipe=qwen3.6-w8a8 2>&1 | FileCheck %s --check-prefix=QWEN

// CHECK-NOT: warning
// CHECK: warning: recipe w8a8:{{[0-9]+}}: scheme w8a8 of weight @model.layers.0.linear_attn.in_proj_qkv.weight: its product becomes a recurrent state
// CHECK: warning: recipe w8a8:{{[0-9]+}}: scheme w8a8 of weight @model.layers.0.linear_attn.in_proj_a.weight: its product becomes a recurrent state
// CHECK: warning: recipe w8a8:{{[0-9]+}}: scheme w8a8 of weight @model.layers.0.linear_attn.out_proj.weight: it reads what a delta rule made
// CHECK-NOT: warning
// CHECK: llm.weight @model.layers.0.linear_attn.in_proj_qkv.weight {{.*}} {scheme = #llm.scheme<int8, activation = int8_per_token>}
// BF16-NOT: warning
// QWEN-NOT: warning
llm.weight @model.embed_tokens.weight from "e" : tensor<48x64xf32>
llm.weight @lm_head.weight from "h" : tensor<48x64xf32>
llm.weight @model.layers.0.linear_attn.in_proj_qkv.weight from "qkv" : tensor<64x64xf32>
llm.weight @model.layers.0.linear_attn.in_proj_z.weight from "z" : tensor<32x64xf32>
llm.weight @model.layers.0.linear_attn.in_proj_a.weight from "a" : tensor<2x64xf32>
llm.weight @model.layers.0.linear_attn.out_proj.weight from "o" : tensor<64x32xf32>
llm.weight @model.layers.0.mlp.down_proj.weight from "d" : tensor<64x64xf32>
llm.weight @model.layers.0.self_attn.v_proj.weight from "v" : tensor<64x64xf32>
llm.weight @conv from "conv" : tensor<64x4xf32>
llm.weight @norm from "norm" : tensor<16xf32>
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @c conv : tensor<3x64xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @prefill(%t: tensor<?xi32>) -> tensor<?x48xf32> {
  %x = llm.embed %t, @model.embed_tokens.weight : (tensor<?xi32>) -> tensor<?x64xbf16>
  %v = llm.linear %x, @model.layers.0.self_attn.v_proj.weight : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
  %qkv = llm.linear %v, @model.layers.0.linear_attn.in_proj_qkv.weight : (tensor<?x64xbf16>) -> tensor<?x64xf32>
  %z = llm.linear %v, @model.layers.0.linear_attn.in_proj_z.weight : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  %a = llm.linear %v, @model.layers.0.linear_attn.in_proj_a.weight : (tensor<?x64xbf16>) -> tensor<?x2xf32>
  %y = llm.short_conv %qkv, @conv, @c : tensor<?x64xf32>
  %o = llm.delta_rule %y, %a, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %n = llm.rms_norm %o, @norm eps 1.0e-6 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
  %g = llm.gated_mul silu %z, %n : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xbf16>
  %p = llm.linear %g, @model.layers.0.linear_attn.out_proj.weight : (tensor<?x32xbf16>) -> tensor<?x64xbf16>
  %d = llm.linear %p, @model.layers.0.mlp.down_proj.weight : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
  %l = llm.linear %d, @lm_head.weight : (tensor<?x64xbf16>) -> tensor<?x48xf32>
  return %l : tensor<?x48xf32>
}
