// One case a rule of dialects/LlmDraft.td, and of `peek` and `first`; the comment names it.
// RUN: ingot-opt %s --split-input-file --verify-diagnostics

// llm.concat R1
func.func @f(%a: tensor<4x8xbf16>, %b: tensor<5x8xbf16>) {
  // expected-error @+1 {{expected operands with the same first dimension}}
  %c = llm.concat %a, %b : tensor<4x8xbf16>, tensor<5x8xbf16> -> tensor<4x16xbf16>
  return
}

// -----

// llm.concat R2
func.func @f(%a: tensor<4x8xbf16>, %b: tensor<4x8xbf16>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{op inferred type(s) 'tensor<4x16xbf16>' are incompatible}}
  %c = llm.concat %a, %b : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  return
}

// -----

// llm.concat R3
func.func @f(%a: tensor<4x8xbf16>, %b: tensor<4x4xbf16>) {
  // expected-error @+1 {{expected widths that are multiples of 8, got 'tensor<4x4xbf16>'}}
  %c = llm.concat %a, %b : tensor<4x8xbf16>, tensor<4x4xbf16> -> tensor<4x12xbf16>
  return
}

// -----

// llm.delay R1
// expected-note @+1 {{declared here}}
llm.state @s conv : tensor<2x16xf32>
func.func @f(%a: tensor<?x16xbf16>) {
  // expected-error @+1 {{@s}}
  %d = llm.delay %a, @s : tensor<?x16xbf16>
  return
}

// -----

// llm.accept R1
func.func @f(%a: tensor<9xi32>) {
  // expected-error @+1 {{expected from 2 to 8 tokens, got 'tensor<9xi32>'}}
  %n = llm.accept %a of %a : tensor<9xi32>
  return
}

// -----

// llm.draft R1
func.func @f(%a: tensor<2xi32>) {
  // expected-error @+1 {{expected exactly one token, got 'tensor<2xi32>'}}
  llm.draft %a at 1 of 3 : tensor<2xi32>
  return
}

// -----

// llm.draft R2
func.func @f(%a: tensor<1xi32>) {
  // expected-error @+1 {{expected a count from 1 to 7 and an index from 1 to it, got 4 of 3}}
  llm.draft %a at 4 of 3 : tensor<1xi32>
  return
}

// -----

// llm.short_conv R3
llm.weight @taps from "taps" : tensor<16x4xf32>
llm.state @conv conv : tensor<3x16xf32>
func.func @f(%x: tensor<?x16xf32>) {
  // expected-error @+1 {{expected `peek` on at most 8 rows, got 'tensor<?x16xf32>'}}
  %y = llm.short_conv %x, @taps, @conv peek : tensor<?x16xf32>
  return
}

// -----

// llm.delta_rule R8
llm.weight @decay from "decay" : tensor<1xf32>
llm.weight @bias from "bias" : tensor<1xf32>
llm.state @s recurrent : tensor<1x16x16xf32>
func.func @f(%x: tensor<9x48xf32>, %g: tensor<9x1xf32>) {
  // expected-error @+1 {{expected `peek` on at most 8 rows, got 'tensor<9x48xf32>'}}
  %y = llm.delta_rule %x, %g, %g, @decay, @bias, @s key_heads 1 value_heads 1 key_dim 16 value_dim 16 peek
      : tensor<9x48xf32>, tensor<9x1xf32>, tensor<9x1xf32> -> tensor<9x16xf32>
  return
}

// -----

// llm.attention R5
llm.state @c.k key : tensor<?x1x16xbf16>
llm.state @c.v value : tensor<?x1x16xbf16>
func.func @f(%q: tensor<1x16xbf16>) {
  // expected-error @+1 {{expected a first position from 1 to 15, got 16}}
  %a = llm.attention %q, @c.k, @c.v heads 1 kv_heads 1 head_dim 16 scale 1.0 first 16 : tensor<1x16xbf16>
  return
}
