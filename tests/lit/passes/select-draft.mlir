// A few rows are taken by the kernels of one, with a grid for all of them; what may be taken back has a kernel of its own.
// RUN: ingot-opt %s --select=targets=gfx1151 | FileCheck %s

module attributes {llm.facts = {architecture = "test", context_length = 64 : i64, draft_length = 3 : i64,
    end_of_sequence = array<i64>, hidden_size = 64 : i64, layers = 1 : i64, name = "test", prefill_chunk = 2 : i64,
    skipped_tensors = [], vocabulary = 96 : i64}} {
  // A chunk is shorter than a step that drafts.
  // CHECK: exec.buffer @tokens tokens bytes 16
  llm.weight @embed from "embed" : tensor<96x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @head from "head" : tensor<96x64xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @norm from "norm" : tensor<64xf32> {scheme = #llm.scheme<f32>}
  llm.weight @taps from "taps" : tensor<64x4xf32> {scheme = #llm.scheme<f32>}
  llm.state @conv conv : tensor<3x64xf32>
  llm.state @hidden conv : tensor<1x64xf32>

  // CHECK-LABEL: exec.program @speculate
  func.func @speculate(%tokens: tensor<4xi32>) {
    // CHECK: exec.launch @kernels::@embed_96x64_f32 grid(1, 4, 1)
    %x = llm.embed %tokens, @embed : (tensor<4xi32>) -> tensor<4x64xf32>
    // CHECK: exec.launch @kernels::@short_conv_64x4_peek4
    %y = llm.short_conv %x, @taps, @conv peek : tensor<4x64xf32>
    %n = llm.rms_norm %y, @norm eps 1.0e-5 : tensor<4x64xf32> -> tensor<4x64xbf16>
    // CHECK: exec.launch @kernels::@linear_bf16_96x64_tokens4_f32
    %l = llm.linear %n, @head : (tensor<4x64xbf16>) -> tensor<4x96xf32>
    %m = llm.linear %n, @head : (tensor<4x64xbf16>) -> tensor<4x96xf32>
    // CHECK: exec.launch @kernels::@argmax_96 grid(64, 4, 1)
    // CHECK: exec.launch @kernels::@argmax_final grid(1, 4, 1)
    %b = llm.argmax %l : tensor<4x96xf32> -> tensor<4xi32>
    // CHECK: exec.launch @kernels::@sample_96 grid(1, 4, 1)
    %s = llm.sample %m : tensor<4x96xf32> -> tensor<4xi32>
    // CHECK: exec.launch @kernels::@accept_4_7
    %t = llm.accept %b of %tokens ends [7] : tensor<4xi32>
    // CHECK: exec.launch @kernels::@short_conv_64x4 grid(
    %z = llm.short_conv %x, @taps, @conv : tensor<4x64xf32>
    // CHECK: exec.launch @kernels::@delay_64 grid(1, 4, 1)
    %d = llm.delay %n, @hidden : tensor<4x64xbf16>
    // CHECK: exec.launch @kernels::@concat_64_64 grid(1, 4, 1)
    %c = llm.concat %d, %n : tensor<4x64xbf16>, tensor<4x64xbf16> -> tensor<4x128xbf16>
    // CHECK: exec.launch @kernels::@draft_1of3
    llm.draft %t at 1 of 3 : tensor<1xi32>
    return
  }
}
