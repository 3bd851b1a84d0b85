// The kernels of Gated DeltaNet: states are buffers of their own, of one size, and taps lie without padding between rows.
// RUN: ingot-opt %s --select=targets=gfx1151,gfx1201 | FileCheck %s

// CHECK: exec.weight @conv offset 0 bytes 1280 row_f32 : tensor<80x4xf32> from ["conv"] scheme #llm.scheme<f32>
// CHECK: exec.buffer @layers.0.conv.cache state bytes 960{{$}}
// CHECK: exec.buffer @layers.0.s.cache state bytes 3072{{$}}
module attributes {llm.facts = {architecture = "qwen", context_length = 64 : i64, end_of_sequence = array<i64>, hidden_size = 64 : i64, layers = 1 : i64, name = "small", prefill_chunk = 64 : i64, skipped_tensors = [], vocabulary = 80 : i64}} {
  llm.weight @conv from "conv" : tensor<80x4xf32> {scheme = #llm.scheme<f32>}
  llm.weight @decay from "decay" : tensor<3xf32> {scheme = #llm.scheme<f32>}
  llm.weight @dt from "dt" : tensor<3xf32> {scheme = #llm.scheme<f32>}
  llm.weight @rows from "rows" : tensor<97x80xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @gates from "gates" : tensor<97x3xf32> {scheme = #llm.scheme<bf16>}
  llm.state @layers.0.conv conv : tensor<3x80xf32>
  llm.state @layers.0.s recurrent : tensor<3x16x16xf32>
  llm.state @layers.1.s recurrent : tensor<3x144x16xf32>

  // CHECK: exec.program @decode
  // CHECK: exec.launch @kernels::@short_conv_80x4 grid(2, 1, 1) block 64 args(@step, @decode.0, @weights, @layers.0.conv.cache, @decode.1)
  // CHECK: exec.launch @kernels::@delta_rule_1x16_3x16 grid(1, 3, 1) block 32 args(@step, @decode.1, @decode.2, @decode.2, @weights + 1280, @weights + 1536, @layers.0.s.cache, @decode.3)
  func.func @decode(%tokens: tensor<1xi32>) {
    %x = llm.embed %tokens, @rows : (tensor<1xi32>) -> tensor<1x80xf32>
    %c = llm.short_conv %x, @conv, @layers.0.conv : tensor<1x80xf32>
    %g = llm.embed %tokens, @gates : (tensor<1xi32>) -> tensor<1x3xf32>
    %y = llm.delta_rule %c, %g, %g, @decay, @dt, @layers.0.s key_heads 1 value_heads 3 key_dim 16 value_dim 16 : tensor<1x80xf32>, tensor<1x3xf32>, tensor<1x3xf32> -> tensor<1x48xf32>
    return
  }

  // CHECK: exec.program @prefill
  // CHECK: exec.launch @kernels::@short_conv_80x4 grid(2, 1, 1) block 64
  // CHECK: exec.launch @kernels::@delta_prepare_1x16_3x16 grid(1, 1, 1) tokens_per_workgroup 64 block 128 args(@step, @prefill.1, @prefill.2, @prefill.2, @weights + 1280, @weights + 1536, @prefill.4)
  // CHECK-NEXT: exec.launch @kernels::@delta_chunks_1x16_3x16 grid(1, 3, 1) block 64 args(@step, @prefill.1, @prefill.4, @layers.0.s.cache, @prefill.3)
  func.func @prefill(%tokens: tensor<?xi32>) {
    %x = llm.embed %tokens, @rows : (tensor<?xi32>) -> tensor<?x80xf32>
    %c = llm.short_conv %x, @conv, @layers.0.conv : tensor<?x80xf32>
    %g = llm.embed %tokens, @gates : (tensor<?xi32>) -> tensor<?x3xf32>
    %y = llm.delta_rule %c, %g, %g, @decay, @dt, @layers.0.s key_heads 1 value_heads 3 key_dim 16 value_dim 16 : tensor<?x80xf32>, tensor<?x3xf32>, tensor<?x3xf32> -> tensor<?x48xf32>
    return
  }

  // A few tokens are done one by one, and so are heads that are too wide for chunks.
  // CHECK: exec.program @verify
  // CHECK: exec.launch @kernels::@delta_rule_1x16_3x16 grid(1, 3, 1) block 32
  func.func @verify(%x: tensor<5x80xf32>, %g: tensor<5x3xf32>) {
    %y = llm.delta_rule %x, %g, %g, @decay, @dt, @layers.0.s key_heads 1 value_heads 3 key_dim 16 value_dim 16 : tensor<5x80xf32>, tensor<5x3xf32>, tensor<5x3xf32> -> tensor<5x48xf32>
    return
  }
  // CHECK: exec.program @wide
  // CHECK: exec.launch @kernels::@delta_rule_1x144_3x16 grid(1, 3, 1) block 128
  func.func @wide(%x: tensor<?x336xf32>, %g: tensor<?x3xf32>) {
    %y = llm.delta_rule %x, %g, %g, @decay, @dt, @layers.1.s key_heads 1 value_heads 3 key_dim 144 value_dim 16 : tensor<?x336xf32>, tensor<?x3xf32>, tensor<?x3xf32> -> tensor<?x48xf32>
    return
  }
}
