// One case a rule of dialects/Llm.td and LlmScheme.td; the comment names it.
// RUN: ingot-opt %s --split-input-file --verify-diagnostics

// llm.facts R1
// expected-error @+1 {{'llm.facts' belongs to a builtin.module, got func.func}}
func.func private @f() attributes {llm.facts = {}}

// -----

// llm.facts R2
// expected-error @+1 {{'llm.facts' expected a dictionary, got 3 : i64}}
module attributes {llm.facts = 3 : i64} {
}

// -----

// llm.facts R2
// expected-error @+1 {{'llm.facts' expected 'vocabulary' to be an i64 greater than 0}}
module attributes {llm.facts = {name = "x", architecture = "llama", vocabulary = 0 : i64}} {
}

// -----

// llm.facts R2
// expected-error @+1 {{'llm.facts' expected 'architecture' to be a string}}
module attributes {llm.facts = {name = "x", vocabulary = 8 : i64, context_length = 8 : i64, hidden_size = 8 : i64,
                                layers = 1 : i64, prefill_chunk = 8 : i64}} {
}

// -----

// An attribute that the dialect does not have.
// expected-error @+1 {{unknown attribute 'llm.fact'}}
module attributes {llm.fact = 3 : i64} {
}

// -----

// llm.scheme R1
// expected-error @+1 {{a group is a power of two from 32 to 1024 elements of int8, int4 or fp8, got group = 16 of int8}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int8, group = 16>}

// -----

// llm.scheme R1
// expected-error @+1 {{a group is a power of two from 32 to 1024 elements of int8, int4 or fp8, got group = 32 of bf16}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<bf16, group = 32>}

// -----

// llm.scheme R2
// expected-error @+1 {{int8_per_token activations need int8 storage with one f32 scale a channel, got bf16 with group = 0, scales = f32}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<bf16, activation = int8_per_token>}

// -----

// llm.scheme R3
// expected-error @+1 {{zero points belong to int8 and int4, got fp8}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<fp8, zeros>}

// -----

// llm.scheme R4
// expected-error @+1 {{bands belong to fp8, got int4}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int4, bands>}

// -----

// llm.scheme R5
// expected-error @+1 {{bf16 has no scales, got scales = f16}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<bf16, scales = f16>}

// -----

// llm.scheme syntax
// expected-error @+1 {{unknown type of scales 'f8'}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int8, scales = f8>}

// -----

// llm.scheme syntax
// expected-error @+1 {{unknown storage 'int3'}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int3>}

// -----

// llm.scheme syntax
// expected-error @+1 {{expected 'group', 'scales', 'zeros', 'bands' or 'activation', got 'block'}}
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int8, block = 32>}

// -----

// llm.weight R1
// expected-error @+1 {{expected a static f32 tensor of rank 1 to 3, got 'tensor<?x32xf32>'}}
llm.weight @w from "w" : tensor<?x32xf32>

// -----

// llm.weight R1
// expected-error @+1 {{expected a static f32 tensor of rank 1 to 3, got 'tensor<32xbf16>'}}
llm.weight @w from "w" : tensor<32xbf16>

// -----

// llm.weight R2
// expected-error @+1 {{expected either 'from' or 'value', got neither}}
llm.weight @w : tensor<2xf32>

// -----

// llm.weight R2
// expected-error @+1 {{expected either 'from' or 'value', got both}}
llm.weight @w from "w" : tensor<2xf32> value dense<1.0> : tensor<2xf32>

// -----

// llm.weight R3
// expected-error @+1 {{expected 'value' of type 'tensor<2xf32>', got 'tensor<3xf32>'}}
llm.weight @w : tensor<2xf32> value dense<1.0> : tensor<3xf32>

// -----

// llm.weight R4
// expected-error @+1 {{expected a weight of rank 2 or 3 for scheme int8, got 'tensor<32xf32>'}}
llm.weight @w from "w" : tensor<32xf32> {scheme = #llm.scheme<int8>}

// -----

// llm.weight R5
// expected-error @+1 {{expected 'stored' to be a scheme of codes, of a weight of rank 2 or 3 that a tensor holds, got bf16}}
llm.weight @w from "w" : tensor<32x32xf32> {stored = #llm.scheme<bf16>}

// -----

// llm.weight R6
// expected-error @+1 {{expected 'permuted' of a weight of rank 2 that has 'stored', got 'tensor<32x32xf32>'}}
llm.weight @w from "w" : tensor<32x32xf32> {permuted}

// -----

// llm.gather_columns R1
llm.weight @w from "w" : tensor<32x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a permuted weight as wide as 'tensor<?x32xbf16>', got @w}}
  %y = llm.gather_columns %x, @w : tensor<?x32xbf16>
  return
}

// -----

// llm.linear R9
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected bf16 rows and one permuted weight for 'gathered' columns, got [@w]}}
  %y = llm.linear %x, @w {gathered} : (tensor<?x32xbf16>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.state R1
// expected-error @+1 {{expected tensor<?xHxDxT> or a ring tensor<RxHxDxT>, T bf16, i8 or f8E4M3FN, H at least 1, R and D positive multiples of 16, got 'tensor<?x0x16xbf16>'}}
llm.state @k key : tensor<?x0x16xbf16>

// -----

// llm.state R1
// expected-error @+1 {{expected tensor<?xHxDxT> or a ring tensor<RxHxDxT>, T bf16, i8 or f8E4M3FN, H at least 1, R and D positive multiples of 16, got 'tensor<?x1x24xbf16>'}}
llm.state @k value : tensor<?x1x24xbf16>

// -----

// llm.state R1
// expected-error @+1 {{expected tensor<?xHxDxT> or a ring tensor<RxHxDxT>, T bf16, i8 or f8E4M3FN, H at least 1, R and D positive multiples of 16, got 'tensor<8x1x16xbf16>'}}
llm.state @k key : tensor<8x1x16xbf16>

// -----

// llm.state R1
// expected-error @+1 {{expected tensor<?xHxDxT> or a ring tensor<RxHxDxT>, T bf16, i8 or f8E4M3FN, H at least 1, R and D positive multiples of 16, got 'tensor<?x1x16xf32>'}}
llm.state @k key : tensor<?x1x16xf32>

// -----

// llm.state R1
// expected-error @+1 {{T bf16, i8 or f8E4M3FN, H at least 1, R and D positive multiples of 16, got 'tensor<?x1x16xf8E5M2>'}}
llm.state @k key : tensor<?x1x16xf8E5M2>

// -----

// llm.state R2
// expected-error @+1 {{expected tensor<TxCxf32>, T from 1 to 7 and C a positive multiple of 8, got 'tensor<8x32xf32>'}}
llm.state @c conv : tensor<8x32xf32>

// -----

// llm.state R2
// expected-error @+1 {{expected tensor<TxCxf32>, T from 1 to 7 and C a positive multiple of 8, got 'tensor<3x20xf32>'}}
llm.state @c conv : tensor<3x20xf32>

// -----

// llm.state R2
// expected-error @+1 {{expected tensor<TxCxf32>, T from 1 to 7 and C a positive multiple of 8, got 'tensor<?x32xf32>'}}
llm.state @c conv : tensor<?x32xf32>

// -----

// llm.state R3
// expected-error @+1 {{expected tensor<HxKxVxf32>, H at least 1, K and V multiples of 16 from 16 to 256, got 'tensor<2x24x16xf32>'}}
llm.state @s recurrent : tensor<2x24x16xf32>

// -----

// llm.state R3
// expected-error @+1 {{expected tensor<HxKxVxf32>, H at least 1, K and V multiples of 16 from 16 to 256, got 'tensor<2x16x272xf32>'}}
llm.state @s recurrent : tensor<2x16x272xf32>

// -----

// llm.state R3
// expected-error @+1 {{expected tensor<HxKxVxf32>, H at least 1, K and V multiples of 16 from 16 to 256, got 'tensor<2x16x16xbf16>'}}
llm.state @s recurrent : tensor<2x16x16xbf16>

// -----

// llm.embed R1
llm.weight @t from "t" : tensor<8x16xf32> // expected-note {{declared here}}
func.func @f(%t: tensor<?xi32>) {
  // expected-error @+1 {{expected @t to have type 'tensor<8x32xf32>', got 'tensor<8x16xf32>'}}
  %x = llm.embed %t, @t : (tensor<?xi32>) -> tensor<?x32xbf16>
  return
}

// -----

// llm.embed R1
llm.state @t key : tensor<?x1x16xbf16>
func.func @f(%t: tensor<?xi32>) {
  // expected-error @+1 {{expected @t to be an llm.weight, got llm.state}}
  %x = llm.embed %t, @t : (tensor<?xi32>) -> tensor<?x32xbf16>
  return
}

// -----

// llm.embed R2
llm.weight @t from "t" : tensor<8x32xf32>
func.func @f(%t: tensor<?xi32>) {
  // expected-error @+1 {{expected tokens and result to have the same first dimension}}
  %x = llm.embed %t, @t : (tensor<?xi32>) -> tensor<1x32xbf16>
  return
}

// -----

// llm.rms_norm R1
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @w to be an llm.weight, got no such symbol}}
  %y = llm.rms_norm %x, @w eps 1.0 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.rms_norm R2
llm.weight @w from "w" : tensor<32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a finite eps that is not negative, got -1}}
  %y = llm.rms_norm %x, @w eps -1.0 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.quantize R1
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+2 {{inferred type(s) 'tensor<?x32xi8>', 'tensor<?xf32>' are incompatible with return type(s)}}
  // expected-error @+1 {{failed to infer returned types}}
  %v, %s = llm.quantize %x : tensor<?x32xbf16> -> tensor<?x64xi8>, tensor<?xf32>
  return
}

// -----

// llm.rms_norm_quantize R1
llm.weight @w from "w" : tensor<16xf32> // expected-note {{declared here}}
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @w to have type 'tensor<32xf32>', got 'tensor<16xf32>'}}
  %v, %s = llm.rms_norm_quantize %x, @w eps 1.0 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>
  return
}

// -----

// llm.rms_norm_quantize R2
llm.weight @w from "w" : tensor<32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a finite eps that is not negative}}
  %v, %s = llm.rms_norm_quantize %x, @w eps 0x7F800000 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<?xf32>
  return
}

// -----

// llm.rms_norm_quantize R3
llm.weight @w from "w" : tensor<32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected results of types 'tensor<?x32xi8>', 'tensor<?xf32>', 'tensor<?x32xbf16>' (the last may be absent), got 'tensor<?x32xi8>', 'tensor<1xf32>'}}
  %v, %s = llm.rms_norm_quantize %x, @w eps 1.0 : tensor<?x32xbf16> -> tensor<?x32xi8>, tensor<1xf32>
  return
}

// -----

// llm.linear R1
llm.weight @w from "w" : tensor<8x32xf32> // expected-note {{declared here}}
func.func @f(%x: tensor<?x16xbf16>) {
  // expected-error @+1 {{expected @w to have type 'tensor<8x16xf32>', got 'tensor<8x32xf32>'}}
  %y = llm.linear %x, @w : (tensor<?x16xbf16>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R2
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected operand and result to have the same first dimension}}
  %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<1x8xbf16>
  return
}

// -----

// llm.linear R3
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xi8>) {
  // expected-error @+1 {{expected 'scales' for int8 rows}}
  %y = llm.linear %x, @w : (tensor<?x32xi8>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R3
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>, %s: tensor<?xf32>) {
  // expected-error @+1 {{expected no 'scales' for rows that are not int8}}
  %y = llm.linear %x scales %s, @w : (tensor<?x32xbf16>, tensor<?xf32>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R3
llm.weight @w from "w" : tensor<8x32xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
func.func @f(%x: tensor<?x32xi8>, %s: tensor<1xf32>) {
  // expected-error @+1 {{expected a scale a row of 'tensor<?x32xi8>', got 'tensor<1xf32>'}}
  %y = llm.linear %x scales %s, @w : (tensor<?x32xi8>, tensor<1xf32>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R4
llm.weight @w from "w" : tensor<8x32xf32> {scheme = #llm.scheme<int8>}
func.func @f(%x: tensor<?x32xi8>, %s: tensor<?xf32>) {
  // expected-error @+1 {{expected @w to have a scheme with activation = int8_per_token for int8 rows, got int8}}
  %y = llm.linear %x scales %s, @w : (tensor<?x32xi8>, tensor<?xf32>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R5
llm.weight @w from "w" : tensor<8x32xf32>
llm.weight @b from "b" : tensor<7xf32> // expected-note {{declared here}}
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @b to have type 'tensor<8xf32>', got 'tensor<7xf32>'}}
  %y = llm.linear %x, @w bias @b : (tensor<?x32xbf16>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R6
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a result for each of 2 weights, got 1}}
  %y = llm.linear %x, @w, @w : (tensor<?x32xbf16>) -> tensor<?x8xbf16>
  return
}

// -----

// llm.linear R6
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a block argument for each of 1 weights, got 2}}
  %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x8xbf16> epilogue(%a: tensor<?x8xbf16>, %b: tensor<?x8xbf16>) {
    llm.yield %a : tensor<?x8xbf16>
  }
  return
}

// -----

// llm.linear R7
llm.weight @w from "w" : tensor<8x32xf32> {scheme = #llm.scheme<bf16>}
llm.weight @v from "v" : tensor<8x32xf32> {scheme = #llm.scheme<int8, group = 32>}
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected weights of one scheme, got bf16 and int8_g32 (@v)}}
  %y:2 = llm.linear %x, @w, @v : (tensor<?x32xbf16>) -> (tensor<?x8xbf16>, tensor<?x8xbf16>)
  return
}

// -----

// llm.linear R8
llm.weight @w from "w" : tensor<8x32xf32>
llm.weight @n from "n" : tensor<8xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected ops in the epilogue to work row by row, got llm.rms_norm}}
  %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x8xbf16> epilogue(%a: tensor<?x8xbf16>) {
    %b = llm.rms_norm %a, @n eps 1.0 : tensor<?x8xbf16> -> tensor<?x8xbf16>
    llm.yield %b : tensor<?x8xbf16>
  }
  return
}

// -----

// llm.linear R8
llm.weight @w from "w" : tensor<8x32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected the epilogue to yield the results' types}}
  %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x8xbf16> epilogue(%a: tensor<?x8xf32>) {
    llm.yield %a : tensor<?x8xf32>
  }
  return
}

// -----

// llm.rope R1
llm.weight @f from "f" : tensor<8xf32>
func.func @g(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected rows of 3 heads of 16 elements, got 'tensor<?x32xbf16>'}}
  %y = llm.rope %x, @f heads 3 head_dim 16 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.rope R2
llm.weight @f from "f" : tensor<8xf32>
func.func @g(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected rotary_dim to be even, positive and at most head_dim 16, got 18}}
  %y = llm.rope %x, @f heads 2 head_dim 16 rotary_dim 18 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.rope R3
llm.weight @f from "f" : tensor<7xf32> // expected-note {{declared here}}
func.func @g(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @f to have type 'tensor<8xf32>', got 'tensor<7xf32>'}}
  %y = llm.rope %x, @f heads 2 head_dim 16 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.rope R5
llm.weight @f from "f" : tensor<8xf32>
func.func @g(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a finite, positive magnitude, got 0}}
  %y = llm.rope %x, @f heads 2 head_dim 16 magnitude 0.0 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.rope R6
llm.weight @f from "f" : tensor<8xf32>
func.func @g(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected 'temperature' and 'every' together, got only one of them}}
  %y = llm.rope %x, @f heads 2 head_dim 16 temperature 0.1 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.rope R6, no positions
llm.weight @f from "f" : tensor<8xf32>
func.func @g(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a finite temperature of at least 0 every positive number of positions, got 1.000000e+00 every 0}}
  %y = llm.rope %x, @f heads 2 head_dim 16 temperature 1.0 every 0 : tensor<?x32xbf16> -> tensor<?x32xbf16>
  return
}

// -----

// llm.append R1
llm.state @k key : tensor<?x1x16xbf16>
llm.state @v value : tensor<?x1x16xbf16>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected rows of 1 heads of 16 elements, got 'tensor<?x32xbf16>'}}
  llm.append %x, %x, @k, @v kv_heads 1 head_dim 16 : tensor<?x32xbf16>, tensor<?x32xbf16>
  return
}

// -----

// llm.append R1
llm.state @k key : tensor<?x1x16xbf16>
llm.state @v value : tensor<?x1x16xbf16>
func.func @f(%x: tensor<?x16xbf16>, %y: tensor<1x16xbf16>) {
  // expected-error @+1 {{expected keys and values of one type}}
  llm.append %x, %y, @k, @v kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<1x16xbf16>
  return
}

// -----

// llm.append R2
llm.state @k key : tensor<?x1x16xbf16>
llm.state @v value : tensor<?x1x16xbf16> // expected-note {{declared here}}
func.func @f(%x: tensor<?x16xbf16>) {
  // expected-error @+1 {{expected @v to be a key state of type 'tensor<?x1x16xbf16>', got value of type 'tensor<?x1x16xbf16>'}}
  llm.append %x, %x, @v, @k kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<?x16xbf16>
  return
}

// -----

// llm.append R2
llm.state @k key : tensor<?x1x16xi8>
llm.state @v value : tensor<?x1x16xbf16>
func.func @f(%x: tensor<?x16xbf16>) {
  // expected-error @+1 {{expected keys and values of one element type, got 'tensor<?x1x16xi8>' and 'tensor<?x1x16xbf16>'}}
  llm.append %x, %x, @k, @v kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<?x16xbf16>
  return
}

// -----

// llm.attention R3
llm.state @k key : tensor<?x1x16xi8>
llm.state @v value : tensor<?x1x16xf8E4M3FN>
func.func @f(%x: tensor<?x16xbf16>) {
  // expected-error @+1 {{expected keys and values of one element type, got 'tensor<?x1x16xi8>' and 'tensor<?x1x16xf8E4M3FN>'}}
  %y = llm.attention %x, @k, @v heads 1 kv_heads 1 head_dim 16 scale 0.25 : tensor<?x16xbf16>
  return
}

// -----

// llm.attention R1
llm.state @k key : tensor<?x1x16xbf16>
llm.state @v value : tensor<?x1x16xbf16>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected rows of 4 heads of 16 elements, got 'tensor<?x32xbf16>'}}
  %y = llm.attention %x, @k, @v heads 4 kv_heads 1 head_dim 16 scale 1.0 : tensor<?x32xbf16>
  return
}

// -----

// llm.attention R2
llm.state @k key : tensor<?x3x16xbf16>
llm.state @v value : tensor<?x3x16xbf16>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected kv_heads to divide heads 2, got 3}}
  %y = llm.attention %x, @k, @v heads 2 kv_heads 3 head_dim 16 scale 1.0 : tensor<?x32xbf16>
  return
}

// -----

// llm.attention R3
llm.state @k key : tensor<?x1x16xbf16>
llm.weight @v from "v" : tensor<16xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @v to be an llm.state, got llm.weight}}
  %y = llm.attention %x, @k, @v heads 2 kv_heads 1 head_dim 16 scale 1.0 : tensor<?x32xbf16>
  return
}

// -----

// llm.attention R4
llm.state @k key : tensor<?x1x16xbf16>
llm.state @v value : tensor<?x1x16xbf16>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a window of at least 1, got 0}}
  %y = llm.attention %x, @k, @v heads 2 kv_heads 1 head_dim 16 scale 1.0 window 0 : tensor<?x32xbf16>
  return
}

// -----

// llm.attention R3
llm.state @k key : tensor<64x1x16xbf16>
llm.state @v value : tensor<?x1x16xbf16> // expected-note {{declared here}}
func.func @f(%x: tensor<1x32xbf16>) {
  // expected-error @+1 {{expected @v to be a value state of type 'tensor<64x1x16xbf16>', got value of type 'tensor<?x1x16xbf16>'}}
  %y = llm.attention %x, @k, @v heads 2 kv_heads 1 head_dim 16 scale 1.0 window 8 : tensor<1x32xbf16>
  return
}

// -----

// llm.attention R5
llm.state @k key : tensor<64x1x16xbf16>
llm.state @v value : tensor<64x1x16xbf16>
func.func @f(%x: tensor<1x32xbf16>) {
  // expected-error @+1 {{expected a window W with W + rows - 1 at most the 64 positions of the ring @k, got none and up to 1 rows}}
  %y = llm.attention %x, @k, @v heads 2 kv_heads 1 head_dim 16 scale 1.0 : tensor<1x32xbf16>
  return
}

// -----

// llm.attention R5
llm.state @k key : tensor<64x1x16xbf16>
llm.state @v value : tensor<64x1x16xbf16>
func.func @f(%x: tensor<48x32xbf16>) {
  // expected-error @+1 {{expected a window W with W + rows - 1 at most the 64 positions of the ring @k, got W = 18 and up to 48 rows}}
  %y = llm.attention %x, @k, @v heads 2 kv_heads 1 head_dim 16 scale 1.0 window 18 : tensor<48x32xbf16>
  return
}

// -----

// llm.add R1
llm.weight @s from "s" : tensor<2xf32> // expected-note {{declared here}}
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected @s to have type 'tensor<1xf32>', got 'tensor<2xf32>'}}
  %y = llm.add %x, %x times @s : tensor<?x32xf32>
  return
}

// -----

// llm.columns R1
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected operand and result to have the same first dimension, got 'tensor<?x32xf32>' and 'tensor<1x8xf32>'}}
  %y = llm.columns %x from 0 : tensor<?x32xf32> -> tensor<1x8xf32>
  return
}

// -----

// llm.columns R2
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected columns of 'tensor<?x32xf32>', got 8 from 25 on}}
  %y = llm.columns %x from 25 : tensor<?x32xf32> -> tensor<?x8xf32>
  return
}

// -----

// llm.columns R2
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected columns of 'tensor<?x32xf32>', got 8 from -1 on}}
  %y = llm.columns %x from -1 : tensor<?x32xf32> -> tensor<?x8xf32>
  return
}

// -----

// llm.last_token R1
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+2 {{inferred type(s) 'tensor<1x32xbf16>' are incompatible}}
  // expected-error @+1 {{failed to infer returned types}}
  %y = llm.last_token %x : tensor<?x32xbf16> -> tensor<2x32xbf16>
  return
}

// -----

// llm.argmax R1
func.func @f(%x: tensor<1x32xf32>) {
  // expected-error @+2 {{inferred type(s) 'tensor<1xi32>' are incompatible}}
  // expected-error @+1 {{failed to infer returned types}}
  %y = llm.argmax %x : tensor<1x32xf32> -> tensor<2xi32>
  return
}

// -----

// llm.sample R1
func.func @f(%x: tensor<1x32xf32>) {
  // expected-error @+2 {{inferred type(s) 'tensor<1xi32>' are incompatible}}
  // expected-error @+1 {{failed to infer returned types}}
  %y = llm.sample %x : tensor<1x32xf32> -> tensor<2xi32>
  return
}

// -----

// llm.tile_argmax R1
func.func @f(%x: tensor<2x32xf32>) {
  // expected-error @+1 {{expected one row, got 'tensor<2x32xf32>'}}
  %v, %c = llm.tile_argmax %x : tensor<2x32xf32> -> tensor<1x2xf32>, tensor<1x2xi32>
  return
}

// -----

// llm.tile_argmax R2
func.func @f(%x: tensor<1x33xf32>) {
  // expected-error @+2 {{inferred type(s) 'tensor<1x3xf32>', 'tensor<1x3xi32>' are incompatible}}
  // expected-error @+1 {{failed to infer returned types}}
  %v, %c = llm.tile_argmax %x : tensor<1x33xf32> -> tensor<1x2xf32>, tensor<1x2xi32>
  return
}

// -----

// llm.advance_best R1
func.func @f(%v: tensor<2x3xf32>, %c: tensor<2x3xi32>) {
  // expected-error @+1 {{expected one row, got 'tensor<2x3xf32>'}}
  llm.advance_best %v at %c : tensor<2x3xf32>, tensor<2x3xi32>
  return
}

// -----

// llm.advance_best R2
func.func @f(%v: tensor<1x3xf32>, %c: tensor<1x2xi32>) {
  // expected-error @+1 {{to have the same shape}}
  llm.advance_best %v at %c : tensor<1x3xf32>, tensor<1x2xi32>
  return
}

// -----

// llm.advance R1
func.func @f(%x: tensor<?xi32>) {
  // expected-error @+1 {{expected exactly one token, got 'tensor<?xi32>'}}
  llm.advance %x : tensor<?xi32>
  return
}

// -----

// llm.gated_mul R1
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected operand and result to have the same shape}}
  %y = llm.gated_mul silu %x, %x : tensor<?x32xbf16>, tensor<?x32xbf16> -> tensor<?x16xbf16>
  return
}

// -----

// llm.rms_norm R3
llm.weight @w from "w" : tensor<32xf32>
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected operand and result to have the same shape}}
  %y = llm.rms_norm %x, @w eps 1.0 : tensor<?x32xbf16> -> tensor<1x32xbf16>
  return
}

// -----

// llm.rope R4
llm.weight @f from "f" : tensor<16xf32>
func.func @f_(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected operand and result to have the same shape}}
  %y = llm.rope %x, @f heads 1 head_dim 32 : tensor<?x32xf32> -> tensor<1x32xbf16>
  return
}

// -----

// llm.gated_mul R2
func.func @f(%x: tensor<?x32xf32>, %g: tensor<?x2xf32>) {
  // expected-error @+1 {{expected a gate of the shape of 'tensor<?x32xf32>', or of one column, got 'tensor<?x2xf32>'}}
  %y = llm.gated_mul sigmoid %g, %x : tensor<?x2xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.softcap R1
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected a finite cap greater than 0, got 0.0}}
  %y = llm.softcap %x cap 0.0 : tensor<?x32xf32>
  return
}

// -----

// llm.rms_norm R4
llm.weight @w from "w" : tensor<8xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected heads of at least 1 that divide the rows of 'tensor<?x32xf32>', got 3}}
  %y = llm.rms_norm %x, @w eps 1.0 heads 3 : tensor<?x32xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.rms_norm R1, of heads
// expected-note @+1 {{declared here}}
llm.weight @w from "w" : tensor<32xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected @w to have type 'tensor<8xf32>', got 'tensor<32xf32>'}}
  %y = llm.rms_norm %x, @w eps 1.0 heads 4 : tensor<?x32xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.linear R10
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
func.func @f(%x: tensor<?x32xi8>, %s: tensor<?xf32>) {
  // expected-error @+1 {{expected bf16 rows to be quantized, got 'tensor<?x32xi8>'}}
  %y = llm.linear %x scales %s quantized, @w : (tensor<?x32xi8>, tensor<?xf32>) -> tensor<?x32xf32>
  return
}

// -----

// llm.linear R12
llm.weight @w from "w" : tensor<32x32xf32>
// expected-note @+1 {{declared here}}
llm.weight @n from "n" : tensor<16xf32>
func.func @f(%x: tensor<1x32xf32>) -> tensor<1x32xf32> {
  // expected-error @+1 {{@n}}
  %y = llm.linear %x norm @n eps 1.0e-5, @w : (tensor<1x32xf32>) -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// -----

// llm.linear R12
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
llm.weight @n from "n" : tensor<32xf32>
func.func @f(%x: tensor<1x32xi8>, %s: tensor<1xf32>) -> tensor<1x32xf32> {
  // expected-error @+1 {{expected rows of bf16 or f32, and no experts, for a norm, got 'tensor<1x32xi8>'}}
  %y = llm.linear %x scales %s norm @n eps 1.0e-5, @w : (tensor<1x32xi8>, tensor<1xf32>) -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// -----

// llm.linear R12
llm.weight @w from "w" : tensor<32x32xf32>
llm.weight @n from "n" : tensor<32xf32>
func.func @f(%x: tensor<1x32xf32>) -> tensor<1x32xf32> {
  // expected-error @+1 {{expected a finite eps that is not negative, got -1}}
  %y = llm.linear %x norm @n eps -1.0, @w : (tensor<1x32xf32>) -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// -----

// llm.linear R13
llm.weight @w from "w" : tensor<32x32xf32>
func.func @f(%x: tensor<1x32xf32>) -> tensor<1x32xf32> {
  // expected-error @+1 {{expected a norm for rows of f32, got 'tensor<1x32xf32>'}}
  %y = llm.linear %x, @w : (tensor<1x32xf32>) -> tensor<1x32xf32>
  return %y : tensor<1x32xf32>
}

// -----

// llm.linear R4, quantized
llm.weight @w from "w" : tensor<32x32xf32> {scheme = #llm.scheme<bf16>}
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected @w to have a scheme with activation = int8_per_token}}
  %y = llm.linear %x quantized, @w : (tensor<?x32xbf16>) -> tensor<?x32xf32>
  return
}

// -----

// llm.heads R1
func.func @f(%x: tensor<?x32xbf16>) {
  // expected-error @+1 {{expected a block argument for each operand, of its type}}
  llm.heads(%x) : (tensor<?x32xbf16>) -> () body() {
    llm.yield
  }
  return
}

// -----

// llm.heads R2
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected norms of heads, rotations and appends in the body, got llm.add}}
  %y = llm.heads(%x) : (tensor<?x32xf32>) -> tensor<?x32xf32> body(%a: tensor<?x32xf32>) {
    %s = llm.add %a, %a : tensor<?x32xf32>
    llm.yield %s : tensor<?x32xf32>
  }
  return
}

// -----

// llm.heads R2, of one size
llm.weight @w from "w" : tensor<16xf32>
llm.weight @f from "f" : tensor<16xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected heads of one size, got 16 and 32}}
  %y = llm.heads(%x) : (tensor<?x32xf32>) -> tensor<?x32xbf16> body(%a: tensor<?x32xf32>) {
    %n = llm.rms_norm %a, @w eps 1.0 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
    %s = llm.rope %n, @f heads 1 head_dim 32 : tensor<?x32xf32> -> tensor<?x32xbf16>
    llm.yield %s : tensor<?x32xbf16>
  }
  return
}

// -----

// llm.heads R3
llm.weight @w from "w" : tensor<16xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected the body to do something and yield the results' types}}
  %y = llm.heads(%x) : (tensor<?x32xf32>) -> tensor<?x32xf32> body(%a: tensor<?x32xf32>) {
    %n = llm.rms_norm %a, @w eps 1.0 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
    llm.yield
  }
  return
}

// -----

// llm.heads R4
llm.weight @w from "w" : tensor<16xf32>
func.func @f(%x: tensor<?x32xf32>, %y: tensor<1x32xf32>) {
  // expected-error @+1 {{expected operands to have the same first dimension, got 'tensor<?x32xf32>' and 'tensor<1x32xf32>'}}
  llm.heads(%x, %y) : (tensor<?x32xf32>, tensor<1x32xf32>) -> () body(%a: tensor<?x32xf32>, %b: tensor<1x32xf32>) {
    %n = llm.rms_norm %a, @w eps 1.0 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
    llm.yield
  }
  return
}

// -----

// llm.short_conv R1
llm.weight @w from "w" : tensor<48x4xf32> // expected-note {{declared here}}
llm.state @c conv : tensor<3x32xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected @w to have type 'tensor<32x4xf32>', got 'tensor<48x4xf32>'}}
  %o = llm.short_conv %x, @w, @c : tensor<?x32xf32>
  return
}

// -----

// llm.short_conv R1
llm.weight @w from "w" : tensor<32xf32> // expected-note {{declared here}}
llm.state @c conv : tensor<3x32xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected @w to have type 'tensor<32x2xf32>', got 'tensor<32xf32>'}}
  %o = llm.short_conv %x, @w, @c : tensor<?x32xf32>
  return
}

// -----

// llm.short_conv R1
llm.weight @w from "w" : tensor<32x9xf32>
llm.state @c conv : tensor<3x32xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected a weight of 2 to 8 taps, got 'tensor<32x9xf32>'}}
  %o = llm.short_conv %x, @w, @c : tensor<?x32xf32>
  return
}

// -----

// llm.short_conv R1
llm.state @w conv : tensor<3x32xf32>
llm.state @c conv : tensor<3x32xf32>
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected @w to be an llm.weight, got llm.state}}
  %o = llm.short_conv %x, @w, @c : tensor<?x32xf32>
  return
}

// -----

// llm.short_conv R2
llm.weight @w from "w" : tensor<32x4xf32>
llm.state @c conv : tensor<2x32xf32> // expected-note {{declared here}}
func.func @f(%x: tensor<?x32xf32>) {
  // expected-error @+1 {{expected @c to be a conv state of type 'tensor<3x32xf32>', got conv of type 'tensor<2x32xf32>'}}
  %o = llm.short_conv %x, @w, @c : tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R1
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected key_heads of at least 1 that divide value_heads of at most 65536, got 0 and 2}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 0 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R1
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected key_heads of at least 1 that divide value_heads of at most 65536, got 2 and 3}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 2 value_heads 3 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R1
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected key_heads of at least 1 that divide value_heads of at most 65536, got 1 and 1152921504606846976}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 1152921504606846976 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R2
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected key_dim and value_dim to be multiples of 16 from 16 to 256, got 24 and 16}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 24 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R2
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected key_dim and value_dim to be multiples of 16 from 16 to 256, got 16 and 272}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 272 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R3
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x80xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected qkv of type 'tensor<?x64xf32>', got 'tensor<?x80xf32>'}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x80xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R3
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<1x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected b of type 'tensor<?x2xf32>', got 'tensor<1x2xf32>'}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<1x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R3
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x1xf32>) {
  // expected-error @+1 {{expected a of type 'tensor<?x2xf32>', got 'tensor<?x1xf32>'}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x1xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R3
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected a result of type 'tensor<?x32xf32>', got 'tensor<?x64xf32>'}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x64xf32>
  return
}

// -----

// llm.delta_rule R4
llm.weight @decay from "decay" : tensor<1xf32> // expected-note {{declared here}}
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected @decay to have type 'tensor<2xf32>', got 'tensor<1xf32>'}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R5
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.state @s recurrent : tensor<2x16x32xf32> // expected-note {{declared here}}
func.func @f(%x: tensor<?x64xf32>, %b: tensor<?x2xf32>, %a: tensor<?x2xf32>) {
  // expected-error @+1 {{expected @s to be a recurrent state of type 'tensor<2x16x16xf32>', got recurrent of type 'tensor<2x16x32xf32>'}}
  %o = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

// llm.delta_rule R6
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.weight @norm from "norm" : tensor<32xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<1x64xf32>, %b: tensor<1x2xf32>, %g: tensor<1x1xf32>) {
  // expected-error @+1 {{expected norms of 2 heads and gated products in the epilogue, got llm.rms_norm}}
  %o = llm.delta_rule %x, %b, %b, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16> epilogue(%h: tensor<1x32xf32>) {
    %n = llm.rms_norm %h, @norm eps 1.0 : tensor<1x32xf32> -> tensor<1x32xbf16>
    llm.yield %n : tensor<1x32xbf16>
  }
  return
}

// -----

// llm.delta_rule R6
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.weight @norm from "norm" : tensor<16xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<1x64xf32>, %b: tensor<1x2xf32>, %g: tensor<1x1xf32>) {
  // expected-error @+1 {{expected norms of 2 heads and gated products in the epilogue, got llm.gated_mul}}
  %o = llm.delta_rule %x, %b, %b, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16> epilogue(%h: tensor<1x32xf32>) {
    %n = llm.gated_mul silu %g, %h : tensor<1x1xf32>, tensor<1x32xf32> -> tensor<1x32xbf16>
    llm.yield %n : tensor<1x32xbf16>
  }
  return
}

// -----

// llm.delta_rule R6
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.weight @norm from "norm" : tensor<16xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<1x64xf32>, %b: tensor<1x2xf32>, %g: tensor<1x1xf32>) {
  // expected-error @+1 {{expected the epilogue to yield the result's type}}
  %o = llm.delta_rule %x, %b, %b, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16> epilogue(%h: tensor<1x32xf32>) {
    llm.yield %h : tensor<1x32xf32>
  }
  return
}

// -----

// llm.delta_rule R6
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.weight @norm from "norm" : tensor<16xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<1x64xf32>, %b: tensor<1x2xf32>, %g: tensor<1x1xf32>) {
  // expected-error @+1 {{expected one block argument in the epilogue: the rows of all heads}}
  %o = llm.delta_rule %x, %b, %b, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16> epilogue(%h: tensor<1x32xf32>, %i: tensor<1x32xf32>) {
    llm.yield %h : tensor<1x32xf32>
  }
  return
}

// -----

// llm.delta_rule R7
llm.weight @decay from "decay" : tensor<2xf32>
llm.weight @dt from "dt" : tensor<2xf32>
llm.weight @norm from "norm" : tensor<16xf32>
llm.state @s recurrent : tensor<2x16x16xf32>
func.func @f(%x: tensor<1x64xf32>, %b: tensor<1x2xf32>, %g: tensor<1x1xf32>) {
  // expected-error @+1 {{expected a result of f32 without an epilogue, got 'tensor<1x32xbf16>'}}
  %o = llm.delta_rule %x, %b, %b, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16 : tensor<1x64xf32>, tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x32xbf16>
  return
}
