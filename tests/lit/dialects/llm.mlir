// Every op of `llm`, parsed, printed and parsed again.
// RUN: ingot-opt %s | ingot-opt | FileCheck %s
// RUN: ingot-opt %s --mlir-print-op-generic | ingot-opt | FileCheck %s

// CHECK: llm.facts = {
module attributes {llm.facts = {architecture = "llama", context_length = 2048 : i64, end_of_sequence = array<i64: 2>,
                                hidden_size = 32 : i64, layers = 1 : i64, name = "tiny", prefill_chunk = 64 : i64,
                                skipped_tensors = [], vocabulary = 48 : i64}} {
  // CHECK: llm.weight @embed from "model.embed" : tensor<48x32xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @embed from "model.embed" : tensor<48x32xf32> {scheme = #llm.scheme<bf16>}
  // CHECK: llm.weight @head from "model.embed" : tensor<48x32xf32> {scheme = #llm.scheme<int8, group = 32>}
  llm.weight @head from "model.embed" : tensor<48x32xf32> {scheme = #llm.scheme<int8, group = 32>}
  // CHECK: llm.weight @awq from "awq" : tensor<48x32xf32> {scheme = #llm.scheme<int4, group = 32, zeros>, stored = #llm.scheme<int4, group = 32, zeros>}
  llm.weight @awq from "awq" : tensor<48x32xf32> {scheme = #llm.scheme<int4, group = 32, scales = f16, zeros>, stored = #llm.scheme<int4, group = 32, zeros>}
  // CHECK: llm.weight @blocks from "b" : tensor<48x32xf32> {scheme = #llm.scheme<fp8, group = 128, scales = bf16, bands>}
  llm.weight @blocks from "b" : tensor<48x32xf32> {scheme = #llm.scheme<fp8, group = 128, bands, scales = bf16>}
  // CHECK: llm.weight @norm from "model.norm" : tensor<32xf32> {scheme = #llm.scheme<f32>}
  llm.weight @norm from "model.norm" : tensor<32xf32> {scheme = #llm.scheme<f32>}
  // CHECK: llm.weight @freq : tensor<8xf32> value dense<{{.*}}> : tensor<8xf32>
  llm.weight @freq : tensor<8xf32> value dense<[1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125]> : tensor<8xf32>
  // CHECK: llm.weight @q from "q" : tensor<32x32xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
  llm.weight @q from "q" : tensor<32x32xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
  // CHECK: llm.weight @k from "k" : tensor<16x32xf32>
  llm.weight @k from "k" : tensor<16x32xf32>
  llm.weight @kb from "kb" : tensor<16xf32>
  llm.weight @one from "one" : tensor<1x32xf32>
  llm.weight @headnorm from "headnorm" : tensor<16xf32>
  // CHECK: llm.state @k0 key : tensor<?x1x16xbf16>
  llm.state @k0 key : tensor<?x1x16xbf16>
  // CHECK: llm.state @v0 value : tensor<?x1x16xbf16>
  llm.state @v0 value : tensor<?x1x16xbf16>

  // CHECK: llm.state @ring.k key : tensor<96x1x16xbf16>
  llm.state @ring.k key : tensor<96x1x16xbf16>
  llm.state @ring.v value : tensor<96x1x16xbf16>
  // Caches of codes.
  // CHECK: llm.state @int8.k key : tensor<?x1x16xi8>
  llm.state @int8.k key : tensor<?x1x16xi8>
  // CHECK: llm.state @fp8.v value : tensor<96x1x16xf8E4M3FN>
  llm.state @fp8.v value : tensor<96x1x16xf8E4M3FN>

  // CHECK-LABEL: func.func @ring
  func.func @ring(%q: tensor<?x32xbf16>, %x: tensor<?x32xf32>) -> tensor<?x16xbf16> {
    // CHECK: llm.attention %{{.*}}, @ring.k, @ring.v heads 2 kv_heads 1 head_dim 16 scale 1.000000e+00 window 33 : tensor<?x32xbf16>
    %a = llm.attention %q, @ring.k, @ring.v heads 2 kv_heads 1 head_dim 16 scale 1.0 window 33 : tensor<?x32xbf16>
    // CHECK: %[[S:.*]] = llm.add %{{.*}}, %{{.*}} times @factor : tensor<?x32xf32>
    %s = llm.add %x, %x times @factor : tensor<?x32xf32>
    // CHECK: llm.columns %[[S]] from 8 : tensor<?x32xf32> -> tensor<?x16xbf16>
    %c = llm.columns %s from 8 : tensor<?x32xf32> -> tensor<?x16xbf16>
    return %c : tensor<?x16xbf16>
  }

  // CHECK: llm.weight @factor from "factor" : tensor<1xf32>
  llm.weight @factor from "factor" : tensor<1xf32>
  // CHECK: llm.weight @conv from "conv" : tensor<64x4xf32>
  llm.weight @conv from "conv" : tensor<64x4xf32>
  llm.weight @decay from "A_log" : tensor<2xf32>
  llm.weight @dt from "dt_bias" : tensor<2xf32>
  // CHECK: llm.state @conv0 conv : tensor<3x64xf32>
  llm.state @conv0 conv : tensor<3x64xf32>
  llm.weight @qkv from "qkv" : tensor<64x32xf32>
  llm.weight @head_norm from "head_norm" : tensor<16xf32>
  // CHECK: llm.state @s0 recurrent : tensor<2x16x16xf32>
  llm.state @s0 recurrent : tensor<2x16x16xf32>

  // CHECK-LABEL: func.func @delta
  func.func @delta(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) -> tensor<?x32xf32> {
    // CHECK: llm.short_conv %{{.*}}, @conv, @conv0 : tensor<?x64xf32>
    %y = llm.short_conv %x, @conv, @conv0 : tensor<?x64xf32>
    // CHECK: llm.delta_rule %{{.*}}, %{{.*}}, %{{.*}}, @decay, @dt, @s0 key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
    %o = llm.delta_rule %y, %b, %a, @decay, @dt, @s0 key_heads 1 value_heads 2 key_dim 16 value_dim 16
        : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
    return %o : tensor<?x32xf32>
  }

  // CHECK-LABEL: func.func @delta_step
  func.func @delta_step(%x: tensor<1x32xbf16>, %b: tensor<1x2xf32>, %z: tensor<1x32xf32>) -> tensor<1x32xbf16> {
    // CHECK: %[[C:.*]] = llm.linear %{{.*}}, @qkv : (tensor<1x32xbf16>) -> tensor<1x64xf32> epilogue(%[[P:.*]]: tensor<1x64xf32>) {
    // CHECK-NEXT: llm.short_conv %[[P]], @conv, @conv0 : tensor<1x64xf32>
    %c = llm.linear %x, @qkv : (tensor<1x32xbf16>) -> tensor<1x64xf32> epilogue(%p: tensor<1x64xf32>) {
      %y = llm.short_conv %p, @conv, @conv0 : tensor<1x64xf32>
      llm.yield %y : tensor<1x64xf32>
    }
    // CHECK: llm.delta_rule %[[C]], {{.*}} value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16> epilogue(%[[H:.*]]: tensor<1x32xf32>) {
    // CHECK-NEXT: %[[N:.*]] = llm.rms_norm %[[H]], @head_norm eps 9.99999997E-7 heads 2 : tensor<1x32xf32> -> tensor<1x32xf32>
    // CHECK-NEXT: llm.gated_mul silu %{{.*}}, %[[N]] : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xbf16>
    %o = llm.delta_rule %c, %b, %b, @decay, @dt, @s0 key_heads 1 value_heads 2 key_dim 16 value_dim 16
        : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16> epilogue(%h: tensor<1x32xf32>) {
      %n = llm.rms_norm %h, @head_norm eps 1.0e-6 heads 2 : tensor<1x32xf32> -> tensor<1x32xf32>
      %g = llm.gated_mul silu %z, %n : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xbf16>
      llm.yield %g : tensor<1x32xbf16>
    }
    return %o : tensor<1x32xbf16>
  }

  // CHECK-LABEL: func.func @prefill
  func.func @prefill(%tokens: tensor<?xi32>) -> tensor<1x48xf32> {
    // CHECK: llm.embed %{{.*}}, @embed : (tensor<?xi32>) -> tensor<?x32xbf16>
    %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x32xbf16>
    // CHECK: llm.embed %{{.*}}, @embed scale 2.000000e+00 : (tensor<?xi32>) -> tensor<?x32xbf16>
    %scaled = llm.embed %tokens, @embed scale 2.0 : (tensor<?xi32>) -> tensor<?x32xbf16>
    // CHECK: llm.rms_norm %{{.*}}, @norm eps 9.99999974E-6 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    // CHECK: llm.quantize %{{.*}} : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>
    %v, %s = llm.quantize %n : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>
    // CHECK: llm.rms_norm_quantize %{{.*}}, @norm eps 9.99999974E-6 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>
    %fv, %fs = llm.rms_norm_quantize %x, @norm eps 1.0e-5 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>
    // CHECK: llm.rms_norm_quantize %{{.*}}, @norm eps 9.99999974E-6 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>, tensor<?x32xbf16>
    %gv, %gs, %gr = llm.rms_norm_quantize %x, @norm eps 1.0e-5 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>, tensor<?x32xbf16>
    // CHECK: llm.linear %{{.*}} scales %{{.*}}, @q : (tensor<?x32xi8>, tensor<?xf32>) -> tensor<?x32xbf16>
    %q = llm.linear %v scales %s, @q : (tensor<?x32xi8>, tensor<?xf32>) -> tensor<?x32xbf16>
    // CHECK: llm.linear %{{.*}}, @k bias @kb : (tensor<?x32xbf16>) -> tensor<?x16xbf16>
    %k = llm.linear %n, @k bias @kb : (tensor<?x32xbf16>) -> tensor<?x16xbf16>
    // CHECK: llm.rope %{{.*}}, @freq heads 2 head_dim 16 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    %qr = llm.rope %q, @freq heads 2 head_dim 16 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    // CHECK: llm.rope %{{.*}}, @freq heads 2 head_dim 16 magnitude 1.250000e+00 temperature 1.000000e-01 every 16384 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    %farther = llm.rope %q, @freq heads 2 head_dim 16 magnitude 1.25 temperature 0.1 every 16384 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    // CHECK: llm.rope %{{.*}}, @freq heads 1 head_dim 32 rotary_dim 16 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    %partial = llm.rope %q, @freq heads 1 head_dim 32 rotary_dim 16 : tensor<?x32xbf16> -> tensor<?x32xbf16>
    // CHECK: llm.append %{{.*}}, %{{.*}}, @k0, @v0 kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<?x16xbf16>
    llm.append %k, %k, @k0, @v0 kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<?x16xbf16>
    // CHECK: llm.attention %{{.*}}, @k0, @v0 heads 2 kv_heads 1 head_dim 16 scale 2.500000e-01 : tensor<?x32xbf16>
    %a = llm.attention %qr, @k0, @v0 heads 2 kv_heads 1 head_dim 16 scale 0.25 : tensor<?x32xbf16>
    // CHECK: llm.attention %{{.*}}, @k0, @v0 heads 2 kv_heads 1 head_dim 16 scale 2.500000e-01 window 5 : tensor<?x32xbf16>
    %w = llm.attention %qr, @k0, @v0 heads 2 kv_heads 1 head_dim 16 scale 0.25 window 5 : tensor<?x32xbf16>
    // CHECK: llm.gated_mul silu %{{.*}}, %{{.*}} : tensor<?x32xbf16>, tensor<?x32xbf16> -> tensor<?x32xbf16>
    %m = llm.gated_mul silu %a, %w : tensor<?x32xbf16>, tensor<?x32xbf16> -> tensor<?x32xbf16>
    // CHECK: llm.add %{{.*}}, %{{.*}} : tensor<?x32xbf16>
    %y = llm.add %m, %x : tensor<?x32xbf16>
    // CHECK: %{{.*}}:2 = llm.linear %{{.*}}, @k bias @kb, @k : (tensor<?x32xbf16>) -> (tensor<?x16xf32>, tensor<?x16xbf16>)
    %two:2 = llm.linear %n, @k bias @kb, @k : (tensor<?x32xbf16>) -> (tensor<?x16xf32>, tensor<?x16xbf16>)
    // CHECK: llm.linear %{{.*}}, @k, @k : (tensor<?x32xbf16>) -> tensor<?x16xbf16> epilogue(%[[A:.*]]: tensor<?x16xf32>, %[[B:.*]]: tensor<?x16xf32>) {
    // CHECK-NEXT: %[[M:.*]] = llm.gated_mul silu %[[A]], %[[B]]
    // CHECK-NEXT: llm.yield %[[M]] : tensor<?x16xbf16>
    // CHECK-NEXT: }
    %gated = llm.linear %n, @k, @k : (tensor<?x32xbf16>) -> tensor<?x16xbf16> epilogue(%ga: tensor<?x16xf32>, %gb: tensor<?x16xf32>) {
      %ab = llm.gated_mul silu %ga, %gb : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xbf16>
      llm.yield %ab : tensor<?x16xbf16>
    }
    // CHECK: llm.gated_mul sigmoid %{{.*}}, %{{.*}} : tensor<?x1xf32>, tensor<?x32xbf16> -> tensor<?x32xf32>
    %g1 = llm.linear %n, @one : (tensor<?x32xbf16>) -> tensor<?x1xf32>
    %sg = llm.gated_mul sigmoid %g1, %m : tensor<?x1xf32>, tensor<?x32xbf16> -> tensor<?x32xf32>
    // CHECK: llm.gated_mul gelu_tanh
    %gg = llm.gated_mul gelu_tanh %m, %m : tensor<?x32xbf16>, tensor<?x32xbf16> -> tensor<?x32xbf16>
    // CHECK: llm.linear %{{.*}} quantized, @q : (tensor<?x32xbf16>) -> tensor<?x32xbf16>
    %self = llm.linear %m quantized, @q : (tensor<?x32xbf16>) -> tensor<?x32xbf16>
    // CHECK: llm.rms_norm %{{.*}}, @headnorm eps 9.99999974E-6 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
    %hn = llm.rms_norm %sg, @headnorm eps 1.0e-5 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
    // CHECK: llm.heads(%{{.*}}, %{{.*}}) : (tensor<?x32xf32>, tensor<?x16xbf16>) -> tensor<?x32xbf16> body(%[[HA:.*]]: tensor<?x32xf32>, %[[HB:.*]]: tensor<?x16xbf16>) {
    // CHECK-NEXT: llm.rms_norm %[[HA]], @headnorm eps 9.99999974E-6 heads 2
    // CHECK-NEXT: llm.append %[[HB]], %[[HB]]
    // CHECK-NEXT: llm.yield
    // CHECK-NEXT: }
    %hs = llm.heads(%sg, %k) : (tensor<?x32xf32>, tensor<?x16xbf16>) -> tensor<?x32xbf16> body(%ha: tensor<?x32xf32>, %hb: tensor<?x16xbf16>) {
      %hm = llm.rms_norm %ha, @headnorm eps 1.0e-5 heads 2 : tensor<?x32xf32> -> tensor<?x32xbf16>
      llm.append %hb, %hb, @k0, @v0 kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<?x16xbf16>
      llm.yield %hm : tensor<?x32xbf16>
    }
    // CHECK: llm.last_token %{{.*}} : tensor<?x32xbf16> -> tensor<1x32xbf16>
    %l = llm.last_token %y : tensor<?x32xbf16> -> tensor<1x32xbf16>
    // CHECK: llm.linear %{{.*}}, @head : (tensor<1x32xbf16>) -> tensor<1x48xf32>
    %logits = llm.linear %l, @head : (tensor<1x32xbf16>) -> tensor<1x48xf32>
    // CHECK: llm.softcap %{{.*}} cap 3.000000e+01 : tensor<1x48xf32>
    %capped = llm.softcap %logits cap 30.0 : tensor<1x48xf32>
    return %capped : tensor<1x48xf32>
  }

  // CHECK-LABEL: func.func @greedy
  func.func @greedy(%logits: tensor<1x48xf32>) {
    // CHECK: llm.argmax %{{.*}} : tensor<1x48xf32> -> tensor<1xi32>
    %t = llm.argmax %logits : tensor<1x48xf32> -> tensor<1xi32>
    // CHECK: llm.advance %{{.*}} : tensor<1xi32>
    llm.advance %t : tensor<1xi32>
    return
  }

  // CHECK-LABEL: func.func @decode_greedy
  func.func @decode_greedy(%x: tensor<1x32xf32>) {
    // CHECK: %[[BEST:.*]]:2 = llm.linear %{{.*}} norm @norm eps 9.99999974E-6, @head : (tensor<1x32xf32>) -> (tensor<1x3xf32>, tensor<1x3xi32>) epilogue(%[[L:.*]]: tensor<1x48xf32>) {
    // CHECK-NEXT: llm.tile_argmax %[[L]] : tensor<1x48xf32> -> tensor<1x3xf32>, tensor<1x3xi32>
    %b:2 = llm.linear %x norm @norm eps 1.0e-5, @head : (tensor<1x32xf32>) -> (tensor<1x3xf32>, tensor<1x3xi32>) epilogue(%l: tensor<1x48xf32>) {
      %v, %c = llm.tile_argmax %l : tensor<1x48xf32> -> tensor<1x3xf32>, tensor<1x3xi32>
      llm.yield %v, %c : tensor<1x3xf32>, tensor<1x3xi32>
    }
    // CHECK: llm.advance_best %[[BEST]]#0 at %[[BEST]]#1 : tensor<1x3xf32>, tensor<1x3xi32>
    llm.advance_best %b#0 at %b#1 : tensor<1x3xf32>, tensor<1x3xi32>
    // CHECK: llm.linear %{{.*}} norm @norm eps 9.99999974E-6 quantized, @q : (tensor<1x32xf32>) -> tensor<1x32xf32>
    %y = llm.linear %x norm @norm eps 1.0e-5 quantized, @q : (tensor<1x32xf32>) -> tensor<1x32xf32>
    return
  }

  // CHECK-LABEL: func.func @sample
  func.func @sample(%logits: tensor<1x48xf32>) {
    // CHECK: llm.sample %{{.*}} : tensor<1x48xf32> -> tensor<1xi32>
    %t = llm.sample %logits : tensor<1x48xf32> -> tensor<1xi32>
    llm.advance %t : tensor<1xi32>
    return
  }
}
