// What passes the verifiers of `llm` and has no kernel, in hand-written modules: an error at the op, with the reason.
// RUN: ingot-opt %s --select=targets=gfx1151 --split-input-file --verify-diagnostics

llm.weight @w from "w" : tensor<32x64xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
func.func @prefill(%x: tensor<?x64xbf16>) {
  // expected-error @+1 {{quantises 'tensor<?x64xbf16>', and kernels do that only to one row of at most 24576 bytes: an op of its own takes any}}
  %y = llm.linear %x quantized, @w : (tensor<?x64xbf16>) -> tensor<?x32xf32>
  return
}

// -----

llm.weight @w from "w" : tensor<32x24640xf32> {scheme = #llm.scheme<int8, activation = int8_per_token>}
func.func @decode(%x: tensor<1x24640xbf16>) {
  // expected-error @+1 {{kernels do that only to one row of at most 24576 bytes}}
  %y = llm.linear %x quantized, @w : (tensor<1x24640xbf16>) -> tensor<1x32xf32>
  return
}

// -----

llm.weight @one from "one" : tensor<1x64xf32> {scheme = #llm.scheme<bf16>}
func.func @decode(%x: tensor<1x64xbf16>, %y: tensor<1x96xf32>) {
  // expected-error @+1 {{has an epilogue that no kernel has: one gate serves a whole row, which many workgroups compute}}
  %g = llm.linear %x, @one : (tensor<1x64xbf16>) -> tensor<1x96xf32> epilogue(%p: tensor<1x1xf32>) {
    %m = llm.gated_mul sigmoid %p, %y : tensor<1x1xf32>, tensor<1x96xf32> -> tensor<1x96xf32>
    llm.yield %m : tensor<1x96xf32>
  }
  return
}

// -----

llm.weight @f from "f" : tensor<8xf32> {scheme = #llm.scheme<f32>}
func.func @decode(%x: tensor<1x64xf32>) {
  // expected-error @+1 {{has a body that no kernel has: the halves that a rotation pairs are not made of 16 elements at a time}}
  %y = llm.heads(%x) : (tensor<1x64xf32>) -> tensor<1x64xbf16> body(%a: tensor<1x64xf32>) {
    %r = llm.rope %a, @f heads 1 head_dim 64 rotary_dim 16 : tensor<1x64xf32> -> tensor<1x64xbf16>
    llm.yield %r : tensor<1x64xbf16>
  }
  return
}

// -----

llm.weight @n from "n" : tensor<24xf32> {scheme = #llm.scheme<f32>}
func.func @decode(%x: tensor<1x48xf32>) {
  // expected-error @+1 {{has no kernel: a head is not made of 16 elements at a time, or of more than 512}}
  %y = llm.rms_norm %x, @n eps 1.0e-6 heads 2 : tensor<1x48xf32> -> tensor<1x48xf32>
  return
}

// -----

llm.state @k key : tensor<?x1x528xbf16>
llm.state @v value : tensor<?x1x528xbf16>
func.func @decode(%q: tensor<1x528xbf16>) {
  // expected-error @+1 {{has no kernel for heads of 528: expected at most 512}}
  %a = llm.attention %q, @k, @v heads 1 kv_heads 1 head_dim 528 scale 0.05 : tensor<1x528xbf16>
  return
}

// -----

func.func @sample(%logits: tensor<1x96xf32>) {
  // expected-error @+1 {{chooses from logits that something else reads, and its kernel writes over what a mask leaves out}}
  %s = llm.sample %logits : tensor<1x96xf32> -> tensor<1xi32>
  %g = llm.argmax %logits : tensor<1x96xf32> -> tensor<1xi32>
  return
}
