// The ops of drafting, and what they ask of others, print as they parse.
// RUN: ingot-opt %s | ingot-opt | FileCheck %s

llm.weight @taps from "taps" : tensor<64x4xf32>
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @bias from "bias" : tensor<2xf32>
llm.state @conv conv : tensor<3x64xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
llm.state @hidden conv : tensor<1x24xf32>
llm.state @c.k key : tensor<?x1x16xbf16>
llm.state @c.v value : tensor<?x1x16xbf16>

// CHECK-LABEL: func.func @rows
func.func @rows(%a: tensor<?x24xbf16>, %b: tensor<?x16xbf16>) -> tensor<?x40xbf16> {
  // CHECK: llm.delay %{{.*}}, @hidden : tensor<?x24xbf16>
  %d = llm.delay %a, @hidden : tensor<?x24xbf16>
  // CHECK: llm.concat %{{.*}}, %{{.*}} : tensor<?x24xbf16>, tensor<?x16xbf16> -> tensor<?x40xbf16>
  %c = llm.concat %d, %b : tensor<?x24xbf16>, tensor<?x16xbf16> -> tensor<?x40xbf16>
  return %c : tensor<?x40xbf16>
}

// CHECK-LABEL: func.func @step
func.func @step(%tokens: tensor<4xi32>, %logits: tensor<4x97xf32>) {
  // CHECK: llm.argmax %{{.*}} : tensor<4x97xf32> -> tensor<4xi32>
  %best = llm.argmax %logits : tensor<4x97xf32> -> tensor<4xi32>
  // CHECK: llm.sample %{{.*}} : tensor<4x97xf32> -> tensor<4xi32>
  %sampled = llm.sample %logits : tensor<4x97xf32> -> tensor<4xi32>
  // CHECK: llm.accept %{{.*}} of %{{.*}} ends [2, 7] : tensor<4xi32>
  %next = llm.accept %best of %tokens ends [2, 7] : tensor<4xi32>
  // CHECK: llm.accept %{{.*}} of %{{.*}} : tensor<4xi32>
  %other = llm.accept %best of %tokens : tensor<4xi32>
  // CHECK: llm.draft %{{.*}} at 1 of 3 : tensor<1xi32>
  llm.draft %next at 1 of 3 : tensor<1xi32>
  return
}

// CHECK-LABEL: func.func @peeks
func.func @peeks(%x: tensor<4x64xf32>, %g: tensor<4x2xf32>, %q: tensor<4x16xbf16>) -> tensor<4x32xf32> {
  // CHECK: llm.short_conv %{{.*}}, @taps, @conv peek : tensor<4x64xf32>
  %y = llm.short_conv %x, @taps, @conv peek : tensor<4x64xf32>
  // CHECK: value_dim 16 peek : tensor<4x64xf32>
  %z = llm.delta_rule %y, %g, %g, @decay, @bias, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 peek
      : tensor<4x64xf32>, tensor<4x2xf32>, tensor<4x2xf32> -> tensor<4x32xf32>
  // CHECK: scale 2.500000e-01 first 1 : tensor<4x16xbf16>
  %a = llm.attention %q, @c.k, @c.v heads 1 kv_heads 1 head_dim 16 scale 0.25 first 1 : tensor<4x16xbf16>
  return %z : tensor<4x32xf32>
}
