// Of several sequences what each has for itself is found in tables; a row is then a sequence, not a position. Caches that
// grow are pages of all of them. What does not care has the kernels of any few rows.
// RUN: ingot-opt %s --select=targets=gfx1151 --split-input-file --verify-diagnostics | FileCheck %s

module attributes {llm.facts = {architecture = "test", context_length = 64 : i64,
    end_of_sequence = array<i64>, hidden_size = 64 : i64, layers = 1 : i64, name = "test", prefill_chunk = 2 : i64,
    skipped_tensors = [], vocabulary = 96 : i64}} {
  // CHECK: exec.buffer @step step bytes 80 batch_table 64
  // CHECK: exec.buffer @tokens tokens bytes 8 batch_table 128
  // CHECK: exec.buffer @logits logits bytes 384{{$}}
  // CHECK: exec.buffer @output output bytes 0 per_position 4 batch_table 192
  // CHECK: exec.buffer @k.cache state bytes 0 per_position 64{{$}}
  // CHECK: exec.buffer @v.cache state bytes 0 per_position 64{{$}}
  // CHECK: exec.buffer @conv.cache state bytes 768 batch_table 256
  // CHECK: exec.buffer @s.cache state bytes 2048 batch_table 320
  // CHECK: exec.buffer @hidden.cache state bytes 256 batch_table 384
  // CHECK: exec.buffer @mask mask bytes 12 batch_table 448
  // CHECK: exec.buffer @batch batch bytes 512
  // CHECK: exec.buffer @batch_logits batch_logits bytes 2048
  llm.weight @embed from "embed" : tensor<96x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @head from "head" : tensor<96x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @norm from "norm" : tensor<64xf32> {scheme = #llm.scheme<f32>}
  llm.weight @freq from "freq" : tensor<16xf32> {scheme = #llm.scheme<f32>}
  llm.weight @taps from "taps" : tensor<64x4xf32> {scheme = #llm.scheme<f32>}
  llm.weight @decay from "decay" : tensor<1xf32> {scheme = #llm.scheme<f32>}
  llm.weight @dt from "dt" : tensor<1xf32> {scheme = #llm.scheme<f32>}
  llm.state @k key : tensor<?x1x32xbf16>
  llm.state @v value : tensor<?x1x32xbf16>
  llm.state @conv conv : tensor<3x64xf32>
  llm.state @s recurrent : tensor<1x16x32xf32>
  llm.state @hidden conv : tensor<1x64xf32>
  llm.weight @b from "b" : tensor<1x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @q from "q" : tensor<32x64xf32> {scheme = #llm.scheme<bf16>}

  // CHECK-LABEL: exec.program @decode_4
  func.func @decode_4(%tokens: tensor<4xi32>) -> tensor<4x96xf32> attributes {llm.sequences} {
    // CHECK: @embed_96x64_f32_sequences grid(1, 4, 1) block {{[0-9]+}} args(@batch, @batch + 128,
    %x = llm.embed %tokens, @embed : (tensor<4xi32>) -> tensor<4x64xf32>
    // CHECK: @short_conv_64x4_sequences grid(1, 4, 1) {{.*}} args(@batch, {{.*}}, @batch + 256,
    %y = llm.short_conv %x, @taps, @conv : tensor<4x64xf32>
    // CHECK: @rms_norm_64_f32_3727C5AC grid(1, 4, 1)
    %n = llm.rms_norm %y, @norm eps 1.0e-5 : tensor<4x64xf32> -> tensor<4x64xbf16>
    // CHECK: @linear_bf16_32x64_tokens4_f32 grid
    %p = llm.linear %n, @q : (tensor<4x64xbf16>) -> tensor<4x32xf32>
    // CHECK: @rope_1x32_32_f32_sequences grid(1, 4, 1) {{.*}} args(@batch,
    %r = llm.rope %p, @freq heads 1 head_dim 32 : tensor<4x32xf32> -> tensor<4x32xbf16>
    // CHECK: @append_1x32_sequences grid(1, 4, 1) {{.*}} args(@batch, {{.*}}, @k.cache, @v.cache)
    llm.append %r, %r, @k, @v kv_heads 1 head_dim 32 : tensor<4x32xbf16>, tensor<4x32xbf16>
    // CHECK: @attention_1_1x32_3F800000_sequences_tokens grid(1, 4, {{.*}} args(@batch, {{.*}}, @k.cache, @v.cache,
    // CHECK: @attention_combine_1_1x32_3F800000_sequences grid(1, 4, 1) {{.*}} args(@batch,
    %a = llm.attention %r, @k, @v heads 1 kv_heads 1 head_dim 32 scale 1.0 : tensor<4x32xbf16>
    %g = llm.linear %n, @b : (tensor<4x64xbf16>) -> tensor<4x1xf32>
    // CHECK: @delta_rule_1x16_1x32_sequences grid(1, 4, 1) {{.*}} args(@batch, {{.*}}, @batch + 320,
    %d = llm.delta_rule %y, %g, %g, @decay, @dt, @s key_heads 1 value_heads 1 key_dim 16 value_dim 32
        : tensor<4x64xf32>, tensor<4x1xf32>, tensor<4x1xf32> -> tensor<4x32xf32>
    // CHECK: @delay_64_sequences grid(1, 4, 1) {{.*}} args(@batch, {{.*}}, @batch + 384,
    %h = llm.delay %n, @hidden : tensor<4x64xbf16>
    // CHECK: @linear_bf16_96x64_tokens4_f32 {{.*}}, @batch_logits)
    %l = llm.linear %h, @head : (tensor<4x64xbf16>) -> tensor<4x96xf32>
    return %l : tensor<4x96xf32>
  }

  // CHECK-LABEL: exec.program @sample_4
  func.func @sample_4(%l: tensor<4x96xf32>) attributes {llm.sequences} {
    // CHECK: @sample_96_sequences grid(1, 4, 1) {{.*}} args(@batch, @batch + 448, @batch_logits,
    %t = llm.sample %l : tensor<4x96xf32> -> tensor<4xi32>
    // CHECK: @advance_sequences grid(1, 4, 1) {{.*}} args(@batch, {{.*}}, @batch + 128, @batch + 192)
    llm.advance %t : tensor<4xi32>
    return
  }
}

// -----

// Nobody has tables without such a function.
module attributes {llm.facts = {architecture = "test", context_length = 64 : i64,
    end_of_sequence = array<i64>, hidden_size = 64 : i64, layers = 1 : i64, name = "test", prefill_chunk = 2 : i64,
    skipped_tensors = [], vocabulary = 96 : i64}} {
  // CHECK: exec.buffer @step step bytes 80{{$}}
  // CHECK-NOT: batch
  // CHECK: exec.program @greedy
  func.func @greedy(%l: tensor<1x96xf32>) {
    %t = llm.argmax %l : tensor<1x96xf32> -> tensor<1xi32>
    llm.advance %t : tensor<1xi32>
    return
  }
}

// -----

llm.weight @embed from "embed" : tensor<96x64xf32> {scheme = #llm.scheme<bf16>}
func.func @f(%tokens: tensor<2xi32>) attributes {llm.sequences} {
  %x = llm.embed %tokens, @embed : (tensor<2xi32>) -> tensor<2x64xf32>
  // expected-error @+1 {{has no kernel for several sequences}}
  %l = llm.last_token %x : tensor<2x64xf32> -> tensor<1x64xf32>
  return
}
