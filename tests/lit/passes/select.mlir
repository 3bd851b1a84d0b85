// RUN: ingot-opt %s --select=targets=gfx1151,gfx1201 | FileCheck %s
// RUN: not ingot-opt %s --select=targets=gfx0 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not ingot-opt %s --select 2>&1 | FileCheck %s --check-prefix=NONE

// TARGET: unknown target 'gfx0': expected one of gfx1151, gfx1201
// NONE: select needs at least one target

// CHECK: exec.weight @embed offset 0 bytes 12416 row_bf16 : tensor<97x64xf32> from ["embed"] scheme #llm.scheme<bf16>
// CHECK: exec.weight @norm offset 12544 bytes 256 row_f32
// 64 x 64 int8 and 64 f32 scales.
// CHECK: exec.weight @w offset 12800 bytes 4352 tile16
// 128 padded rows of 64 int8, then two f16 scales a row.
// CHECK: exec.weight @head offset 17152 bytes 8704 tile16
// CHECK: exec.weight @gain offset 34048 bytes 256 row_f32 : tensor<32xf32> from ["gain"] scheme
// CHECK: exec.buffer @weights weights bytes 34304
// CHECK: exec.buffer @all_logits all_logits bytes 24832
module attributes {llm.facts = {architecture = "llama", context_length = 64 : i64, end_of_sequence = array<i64>, hidden_size = 64 : i64, layers = 1 : i64, name = "small", prefill_chunk = 64 : i64, skipped_tensors = [], vocabulary = 97 : i64}} {
  llm.weight @embed from "embed" : tensor<97x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @norm from "norm" : tensor<64xf32> {scheme = #llm.scheme<f32>}
  llm.weight @w from "w" : tensor<64x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
  llm.weight @head from "head" : tensor<97x64xf32> {scheme = #llm.scheme<int8, group = 32>}
  llm.weight @one from "one" : tensor<1x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @gain from "gain" : tensor<32xf32> {scheme = #llm.scheme<f32>}
  llm.state @k key : tensor<?x2x32xbf16>
  llm.state @v value : tensor<?x2x32xbf16>

  // CHECK: exec.target @gfx1151
  // CHECK: gpu.module @kernels
  // CHECK-DAG: gpu.func @linear_w8a8_64x64({{.*}}exec.launch_shape = {bound = "only 4 row tiles, taken 1 at a time (K's split follows from K)", chosen = {bytes_in_flight = 4352 : i64, modelled_seconds = {{.*}}, tiles = 1 : i64, token_tiles = 0 : i64, unroll = 2 : i64, waves = 1 : i64}, considered = 6 : i64, runner_up = {{.*}}unroll = 1 : i64
  // CHECK-DAG: gpu.func @linear_int8_g32_97x64_logits
  // CHECK-DAG: gpu.func @linear_prefill_w8a8_64_64x64_silu_mul({{.*}}exec.launch_shape = {bound = "only 4 row tiles and 4 tiles of tokens, taken 1 and 1 at a time", {{.*}}token_tiles = 1 : i64
  // CHECK: exec.program @decode weight_bytes 13440
  // CHECK-NEXT: exec.launch @kernels::@embed_97x64 grid(1, 1, 1) block 128 args(@step, @tokens, @weights, @decode.0)
  // CHECK-NEXT: exec.launch @kernels::@rms_norm_quantize_64_{{.*}} args(@decode.0, @weights + 12544, @decode.1, @decode.2)
  // CHECK-NEXT: exec.launch @kernels::@linear_w8a8_64x64 {{.*}} args(@decode.1, @decode.2, @weights + 12800, @decode.3)
  // CHECK-NEXT: exec.launch @kernels::@linear_int8_g32_97x64_logits {{.*}} args(@decode.3, @weights + 17152, @logits)
  func.func @decode(%tokens: tensor<1xi32>) -> tensor<1x97xf32> {
    %x = llm.embed %tokens, @embed : (tensor<1xi32>) -> tensor<1x64xbf16>
    %q, %s = llm.rms_norm_quantize %x, @norm eps 1.0e-5 : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
    %y = llm.linear %q scales %s, @w : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x64xbf16>
    %l = llm.linear %y, @head : (tensor<1x64xbf16>) -> tensor<1x97xf32>
    return %l : tensor<1x97xf32>
  }

  // Many tokens: other kernels, a grid that follows the chunk; one row again after last_token.
  // CHECK: exec.program @prefill
  // CHECK-NEXT: @embed_97x64 grid(1, 1, 1) tokens_per_workgroup 1
  // CHECK-NEXT: @last_token_64 grid(1, 1, 1) block
  // CHECK-NEXT: @linear_int8_g32_97x64_logits grid
  func.func @prefill(%tokens: tensor<?xi32>) -> tensor<1x97xf32> {
    %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x64xbf16>
    %y = llm.last_token %x : tensor<?x64xbf16> -> tensor<1x64xbf16>
    %l = llm.linear %y, @head : (tensor<1x64xbf16>) -> tensor<1x97xf32>
    return %l : tensor<1x97xf32>
  }
  // Two weights and an epilogue are one launch; what is captured and what is written are arguments.
  // CHECK: exec.program @fused
  // CHECK: @linear_prefill_w8a8_64_64x64_silu_mul grid(4, 1, 1) tokens_per_workgroup 16 block 32 args(@step, @fused.1, @fused.2, @weights + 12800, @weights + 12800, @fused.3)
  // CHECK-NEXT: @linear_prefill_int8_g32_97x64_f32 grid
  // CHECK-NEXT: @linear_prefill_int8_g32_97x64_add_f32 grid(8, 1, 1) tokens_per_workgroup 16 block 32 args(@step, @fused.3, @weights + 17152, @fused.4, @fused.5)
  // CHECK-NEXT: }
  func.func @fused(%tokens: tensor<?xi32>) {
    %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x64xbf16>
    %q, %s = llm.rms_norm_quantize %x, @norm eps 1.0e-5 : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    %h = llm.linear %q scales %s, @w, @w : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x64xbf16> epilogue(%a: tensor<?x64xf32>, %b: tensor<?x64xf32>) {
      %m = llm.gated_mul silu %a, %b : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xbf16>
      llm.yield %m : tensor<?x64xbf16>
    }
    %r = llm.linear %x, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32>
    %y = llm.linear %h, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32> epilogue(%p: tensor<?x97xf32>) {
      %sum = llm.add %r, %p : tensor<?x97xf32>
      llm.yield %sum : tensor<?x97xf32>
    }
    return
  }
  // Gates, the cap, norms of heads and the launch of them all; a linear that quantises has no scales to read.
  // CHECK: exec.program @heads
  // CHECK: @sigmoid_mul_64_f32_bf16_bf16_broadcast grid(1, 1, 1) block 128 args(@heads.1, @heads.0, @heads.2)
  // CHECK-NEXT: @linear_w8a8_quantized_64x64 grid(4, 1, 1) block 32 args(@heads.2, @weights + 12800, @heads.3)
  // CHECK-NEXT: @head_norm_2x32_to_f32_{{.*}} grid(1, 1, 1) block 64 args(@heads.3, @weights + [[GAIN:.*]], @heads.4)
  // CHECK-NEXT: @heads_32_rms_norm_append grid(1, 1, 1) block 64 args(@step, @heads.4, @heads.0, @weights + [[GAIN]], @k.cache, @v.cache, @heads.5)
  // CHECK-NEXT: @linear_int8_g32_97x64_f32 {{.*}} args(@heads.0, @weights + 17152, @heads.6)
  // CHECK-NEXT: @softcap_97_{{.*}}_logits grid(1, 1, 1) block 128 args(@heads.6, @logits)
  func.func @heads(%tokens: tensor<1xi32>) -> tensor<1x97xf32> {
    %x = llm.embed %tokens, @embed : (tensor<1xi32>) -> tensor<1x64xbf16>
    %g = llm.linear %x, @one : (tensor<1x64xbf16>) -> tensor<1x1xf32>
    %y = llm.gated_mul sigmoid %g, %x : tensor<1x1xf32>, tensor<1x64xbf16> -> tensor<1x64xbf16>
    %q = llm.linear %y quantized, @w : (tensor<1x64xbf16>) -> tensor<1x64xbf16>
    %n = llm.rms_norm %q, @gain eps 1.0e-6 heads 2 : tensor<1x64xbf16> -> tensor<1x64xf32>
    %h = llm.heads(%n, %x) : (tensor<1x64xf32>, tensor<1x64xbf16>) -> tensor<1x64xf32> body(%a: tensor<1x64xf32>, %b: tensor<1x64xbf16>) {
      %m = llm.rms_norm %a, @gain eps 1.0e-6 heads 2 : tensor<1x64xf32> -> tensor<1x64xf32>
      llm.append %b, %b, @k, @v kv_heads 2 head_dim 32 : tensor<1x64xbf16>, tensor<1x64xbf16>
      llm.yield %m : tensor<1x64xf32>
    }
    %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x97xf32>
    %c = llm.softcap %l cap 30.0 : tensor<1x97xf32>
    return %c : tensor<1x97xf32>
  }
  // CHECK: exec.buffer @decode.0 scratch bytes 256
  // CHECK: exec.target @gfx1201
}
