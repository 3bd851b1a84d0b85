// One case a rule of dialects/LlmExperts.td, and of llm.linear with experts; the comment names it.
// RUN: ingot-opt %s --split-input-file --verify-diagnostics

// llm.weight R1
// expected-error @+1 {{expected a static f32 tensor of rank 1 to 3, got 'tensor<2x2x2x2xf32>'}}
llm.weight @w from "w" : tensor<2x2x2x2xf32>

// -----

// llm.weight R6
// expected-error @+1 {{expected 'permuted' of a weight of rank 2 that has 'stored', got 'tensor<2x8x32xf32>'}}
llm.weight @w from "w" : tensor<2x8x32xf32> {stored = #llm.scheme<int4, group = 32>, permuted}

// -----

// llm.route R1
func.func @f(%l: tensor<?x1025xf32>) {
  // expected-error @+1 {{expected at most 1024 experts, got 'tensor<?x1025xf32>'}}
  %w, %i = llm.route %l top 2 : tensor<?x1025xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

// llm.route R5
llm.weight @s from "s" : tensor<63xf32> // expected-note {{declared here}}
func.func @f(%l: tensor<?x64xf32>) {
  // expected-error @+1 {{expected @s to have type 'tensor<64xf32>', got 'tensor<63xf32>'}}
  %w, %i = llm.route %l top 2 scaled @s : tensor<?x64xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

// llm.route R2
func.func @f(%l: tensor<?x64xf32>) {
  // expected-error @+1 {{expected 'top' from 1 to 32, got 33}}
  %w, %i = llm.route %l top 33 : tensor<?x64xf32> -> tensor<?x33xf32>, tensor<?x33xi32>
  return
}

// -----

// llm.route R2
func.func @f(%l: tensor<?x4xf32>) {
  // expected-error @+1 {{expected 'top' from 1 to 4, got 0}}
  %w, %i = llm.route %l top 0 : tensor<?x4xf32> -> tensor<?x0xf32>, tensor<?x0xi32>
  return
}

// -----

// llm.route R2
func.func @f(%l: tensor<?x4xf32>) {
  // expected-error @+1 {{expected 'top' from 1 to 4, got 5}}
  %w, %i = llm.route %l top 5 : tensor<?x4xf32> -> tensor<?x5xf32>, tensor<?x5xi32>
  return
}

// -----

// llm.route R3
func.func @f(%l: tensor<?x4xf32>) {
  // expected-error @+2 {{incompatible with return type(s)}}
  // expected-error @+1 {{failed to infer returned types}}
  %w, %i = llm.route %l top 2 : tensor<?x4xf32> -> tensor<?x2xf32>, tensor<?x3xi32>
  return
}

// -----

// llm.combine R1
func.func @f(%x: tensor<?x2x8xf32>, %w: tensor<?x3xf32>) {
  // expected-error @+1 {{expected a weight for each row of 'tensor<?x2x8xf32>', got 'tensor<?x3xf32>'}}
  %y = llm.combine %x, %w : tensor<?x2x8xf32>, tensor<?x3xf32> -> tensor<?x8xf32>
  return
}

// -----

// llm.combine R2
func.func @f(%x: tensor<?x2x8xf32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{expected a result with the tokens and columns of 'tensor<?x2x8xf32>', got 'tensor<?x16xf32>'}}
  %y = llm.combine %x, %w : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  return
}

// -----

// llm.gated_mul R2
func.func @f(%g: tensor<?x3x8xf32>, %u: tensor<?x2x8xf32>) {
  // expected-error @+1 {{expected a gate of the shape of 'tensor<?x2x8xf32>', or of one column, got 'tensor<?x3x8xf32>'}}
  %y = llm.gated_mul silu %g, %u : tensor<?x3x8xf32>, tensor<?x2x8xf32> -> tensor<?x2x8xf32>
  return
}

// -----

// llm.linear R1
// expected-note @+1 {{declared here}}
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{expected @w to have type 'tensor<8x8x32xf32>', got 'tensor<8x32xf32>'}}
  %y = llm.linear %x experts %i, @w : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x8xf32>
  return
}

// -----

// llm.linear R1
// expected-note @+1 {{declared here}}
llm.weight @w from "w" : tensor<4x8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @w to have type 'tensor<8x32xf32>', got 'tensor<4x8x32xf32>'}}
  %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x8xf32>
  return
}

// -----

// llm.linear R3
llm.weight @w from "w" : tensor<4x8x32xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
func.func @f(%x: tensor<?x2x32xi8>, %s: tensor<?xf32>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{expected a scale a row of 'tensor<?x2x32xi8>', got 'tensor<?xf32>'}}
  %y = llm.linear %x scales %s experts %i, @w : (tensor<?x2x32xi8>, tensor<?xf32>, tensor<?x2xi32>) -> tensor<?x2x8xf32>
  return
}

// -----

// llm.linear R6
llm.weight @w from "w" : tensor<4x8x32xf32>
func.func @f(%x: tensor<?x32xbf16>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{expected products to be 3D tensors of f32 or bf16, got 'tensor<?x16xf32>'}}
  %y = llm.linear %x experts %i, @w : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x16xf32>
  return
}

// -----

// llm.linear R8
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>, %h: tensor<?x2x8xf32>, %s: tensor<?x2xf32>) {
  // expected-error @+1 {{expected ops in the epilogue to work row by row, got llm.combine}}
  %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x8xf32> epilogue(%p: tensor<?x8xf32>) {
    %c = llm.combine %h, %s : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
    llm.yield %c : tensor<?x8xf32>
  }
  return
}

// -----

// llm.linear R11
llm.weight @w from "w" : tensor<4x8x32xf32>
func.func @f(%x: tensor<?x32xbf16>, %i: tensor<1x2xi32>) {
  // expected-error @+1 {{expected experts for each row of 'tensor<?x32xbf16>', got 'tensor<1x2xi32>'}}
  %y = llm.linear %x experts %i, @w : (tensor<?x32xbf16>, tensor<1x2xi32>) -> tensor<?x2x8xf32>
  return
}

// -----

// llm.linear R11
llm.weight @w from "w" : tensor<4x8x32xf32>
func.func @f(%x: tensor<?x3x32xbf16>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{expected a row a token, or one for each of 2 experts, got 'tensor<?x3x32xbf16>'}}
  %y = llm.linear %x experts %i, @w : (tensor<?x3x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x8xf32>
  return
}

// -----

// llm.linear R11
llm.weight @w from "w" : tensor<4x8x32xf32>
func.func @f(%x: tensor<?x32xbf16>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{expected a product for each of 2 experts, got 'tensor<?x3x8xf32>'}}
  %y = llm.linear %x experts %i, @w : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x3x8xf32>
  return
}

// -----

// llm.linear R11
llm.weight @w from "w" : tensor<4x8x32xf32>
llm.weight @b from "b" : tensor<8xf32>
func.func @f(%x: tensor<?x32xbf16>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{expected no bias with 'experts'}}
  %y = llm.linear %x experts %i, @w bias @b : (tensor<?x32xbf16>, tensor<?x2xi32>) -> tensor<?x2x8xf32>
  return
}

// -----

// llm.linear R11
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x2x32xbf16>) {
  // expected-error @+1 {{expected an operand of rank 2 without 'experts', got 'tensor<?x2x32xbf16>'}}
  %y = llm.linear %x, @w : (tensor<?x2x32xbf16>) -> tensor<?x8xf32>
  return
}

// -----

// llm.route R4
func.func @f(%l: tensor<?x4xf32>, %g: tensor<?x2xf32>) {
  // expected-error @+1 {{expected 'shared' to have one column and a row for each of 'tensor<?x4xf32>', got 'tensor<?x2xf32>'}}
  %w, %i = llm.route %l top 2 shared %g : tensor<?x4xf32>, tensor<?x2xf32> -> tensor<?x3xf32>, tensor<?x2xi32>
  return
}

// -----

// llm.route R4
func.func @f(%l: tensor<1x64xf32>, %g: tensor<1x1xf32>) {
  // expected-error @+1 {{expected 'top' of at most 31 beside 'shared', got 32}}
  %w, %i = llm.route %l top 32 shared %g : tensor<1x64xf32>, tensor<1x1xf32> -> tensor<1x33xf32>, tensor<1x32xi32>
  return
}

// -----

// llm.linear R14
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected 'experts' where an expert is 'shared'}}
  %y = llm.linear %x, @w shared [@w] : (tensor<?x32xbf16>) -> tensor<?x8xf32>
  return
}

// -----

// llm.linear R14
llm.weight @w from "w" : tensor<4x8x32xf32>
llm.weight @s from "s" : tensor<8x32xf32>
func.func @f(%x: tensor<1x32xbf16>, %i: tensor<1x2xi32>) {
  // expected-error @+1 {{expected a 'shared' weight for each of 2, got 1}}
  %y:2 = llm.linear %x experts %i, @w, @w shared [@s] : (tensor<1x32xbf16>, tensor<1x2xi32>) -> (tensor<1x3x8xf32>, tensor<1x3x8xf32>)
  return
}

// -----

// llm.linear R14
llm.weight @w from "w" : tensor<4x8x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @s from "s" : tensor<8x32xf32> {scheme = #llm.scheme<int8, group = 32>}
func.func @f(%x: tensor<1x32xbf16>, %i: tensor<1x2xi32>) {
  // expected-error @+1 {{expected @s to have the scheme of @w}}
  %y = llm.linear %x experts %i, @w shared [@s] : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x3x8xf32>
  return
}

// -----

// llm.linear R11
llm.weight @w from "w" : tensor<4x8x32xf32>
llm.weight @s from "s" : tensor<8x32xf32>
func.func @f(%x: tensor<1x32xbf16>, %i: tensor<1x2xi32>) {
  // expected-error @+1 {{expected a product for each of 3 experts, got 'tensor<1x2x8xf32>'}}
  %y = llm.linear %x experts %i, @w shared [@s] : (tensor<1x32xbf16>, tensor<1x2xi32>) -> tensor<1x2x8xf32>
  return
}
