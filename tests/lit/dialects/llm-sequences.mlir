// One case a rule of `llm.sequences` and of llm.advance in such functions; the comment names it.
// RUN: ingot-opt %s --split-input-file --verify-diagnostics

// A token for each of several sequences.
func.func @decode_greedy_4(%tokens: tensor<4xi32>) attributes {llm.sequences} {
  llm.advance %tokens : tensor<4xi32>
  return
}

// -----

// Logits of each, and a choice from them.
llm.weight @table from "table" : tensor<8x8xf32>
func.func @decode_4(%tokens: tensor<4xi32>) -> tensor<4x8xf32> attributes {llm.sequences} {
  %rows = llm.embed %tokens, @table : (tensor<4xi32>) -> tensor<4x8xf32>
  return %rows : tensor<4x8xf32>
}
func.func @sample_4(%logits: tensor<4x8xf32>) attributes {llm.sequences} {
  %token = llm.sample %logits : tensor<4x8xf32> -> tensor<4xi32>
  llm.advance %token : tensor<4xi32>
  return
}

// -----

// R1, where
// expected-error @+1 {{'llm.sequences' belongs to a function, got builtin.module}}
module attributes {llm.sequences} {
}

// -----

// R1, a unit
// expected-error @+1 {{'llm.sequences' expected no value, got 4 : i64}}
func.func @f(%tokens: tensor<4xi32>) attributes {llm.sequences = 4 : i64} {
  return
}

// -----

// R1, how many
// expected-error @+1 {{'llm.sequences' expected a function of 2 to 8 tokens (i32) or rows of logits (f32) that returns nothing or as many rows of logits, got '(tensor<9xi32>) -> ()'}}
func.func @f(%tokens: tensor<9xi32>) attributes {llm.sequences} {
  return
}

// -----

// R1, of tokens or logits
// expected-error @+1 {{or rows of logits (f32) that returns nothing or as many rows of logits, got '(tensor<4x8xbf16>) -> ()'}}
func.func @f(%rows: tensor<4x8xbf16>) attributes {llm.sequences} {
  return
}

// -----

// R1, of one of them
// expected-error @+1 {{got '(tensor<4xi32>, tensor<4x8xf32>) -> ()'}}
func.func @f(%tokens: tensor<4xi32>, %logits: tensor<4x8xf32>) attributes {llm.sequences} {
  return
}

// -----

// R1, what comes back
// expected-error @+1 {{got '(tensor<4xi32>) -> tensor<4xi32>'}}
func.func @f(%tokens: tensor<4xi32>) -> tensor<4xi32> attributes {llm.sequences} {
  return %tokens : tensor<4xi32>
}

// -----

// R1, how much comes back
// expected-error @+1 {{got '(tensor<4x8xf32>) -> tensor<1x8xf32>'}}
func.func @f(%logits: tensor<4x8xf32>) -> tensor<1x8xf32> attributes {llm.sequences} {
  %last = llm.last_token %logits : tensor<4x8xf32> -> tensor<1x8xf32>
  return %last : tensor<1x8xf32>
}

// -----

// llm.advance R1
func.func @f(%tokens: tensor<4xi32>, %one: tensor<1xi32>) {
  // expected-error @+1 {{expected exactly one token, got 'tensor<4xi32>'}}
  llm.advance %tokens : tensor<4xi32>
  return
}

// -----

// llm.advance R1, of several sequences
llm.weight @table from "table" : tensor<8x8xf32>
func.func @f(%tokens: tensor<4xi32>) attributes {llm.sequences} {
  %rows = llm.embed %tokens, @table : (tensor<4xi32>) -> tensor<4x8xf32>
  %logits = llm.last_token %rows : tensor<4x8xf32> -> tensor<1x8xf32>
  %token = llm.argmax %logits : tensor<1x8xf32> -> tensor<1xi32>
  // expected-error @+1 {{expected a token for each of 4 sequences, got 'tensor<1xi32>'}}
  llm.advance %token : tensor<1xi32>
  return
}
