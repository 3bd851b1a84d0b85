// Every pass of the compiler: what it does, the IR before and after, when it declines. One .cpp a pass, named alike.
#ifndef INGOT_PASSES_TD
#define INGOT_PASSES_TD

include "mlir/Pass/PassBase.td"

def Annotate : Pass<"annotate", "::mlir::ModuleOp"> {
  let summary = "Give every weight its quantisation scheme, from a recipe";
  let description = [{
    Each matrix takes the scheme of the first rule of the recipe whose pattern matches its name; vectors (norms, biases,
    inverse frequencies) and taps of short convolutions take `f32`. Nothing else changes: a scheme is an annotation.

    Before:
    ```mlir
    llm.weight @lm_head.weight from "lm_head.weight" : tensor<64x32xf32>
    ```
    After `annotate{recipe=bf16}`:
    ```mlir
    llm.weight @lm_head.weight from "lm_head.weight" : tensor<64x32xf32> {scheme = #llm.scheme<bf16>}
    ```

    It warns of a scheme of codes for a linear whose product becomes a recurrent state, and of int8 activations for a linear
    that reads what a delta rule made: both lose more than they save, in public reports.

    KV caches become what the recipe's `kv_cache` says, or `kv-cache` where that option is given: the element type of their
    states is all that changes. `annotate{kv-cache=int8}` makes of `llm.state @l.k key : tensor<?x3x64xbf16>`
    ```mlir
    llm.state @l.k key : tensor<?x3x64xi8>
    ```

    A weight that already has a scheme keeps it (and counts as `declined`), and so does a cache that holds codes. Errors, each naming the recipe's line where
    there is one: a rule that decides nothing, unless it may; a matrix that no rule matches; an unknown scheme; int8
    activations for a weight that something other than `llm.linear` reads; a `kv-cache` that there is not.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
  let options = [Option<"recipe", "recipe", "std::string", /*default=*/"\"bf16\"",
                        "A recipe's name (bf16, w8a8, int4) or a file">,
                 Option<"kvCache", "kv-cache", "std::string", /*default=*/"\"\"",
                        "What KV caches hold (bf16, int8, fp8); empty: what the recipe says">];
}

def InsertQuantize : Pass<"insert-quantize", "::mlir::ModuleOp"> {
  let summary = "Quantise the activations of linears whose scheme asks for it";
  let description = [{
    Inserts `llm.quantize` before linears whose weight has `activation = int8_per_token`. Linears that read one value
    share one quantisation.

    Before, with `@q` and `@k` of scheme w8a8:
    ```mlir
    %q = llm.linear %x, @q : (tensor<?x64xbf16>) -> tensor<?x64xbf16>
    %k = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
    ```
    After:
    ```mlir
    %values, %scales = llm.quantize %x : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    %q = llm.linear %values scales %scales, @q : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x64xbf16>
    %k = llm.linear %values scales %scales, @k : (tensor<?x64xi8>, tensor<?xf32>) -> tensor<?x32xbf16>
    ```

    It declines linears whose weight has no scheme or takes bf16 activations, and those that are quantised already.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def InsertGather : Pass<"insert-gather", "::mlir::ModuleOp"> {
  let summary = "Put activations into the order in which a weight is stored";
  let description = [{
    A checkpoint in act-order stores a weight column by column in the order of its groups. Where such codes are kept, the
    activations are gathered in that order first.

    Before, with `@w` permuted:
    ```mlir
    %y = llm.linear %x, @w : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
    ```
    After:
    ```mlir
    %g = llm.gather_columns %x, @w : tensor<?x64xbf16>
    %y = llm.linear %g, @w {gathered} : (tensor<?x64xbf16>) -> tensor<?x32xbf16>
    ```

    It declines linears that are gathered already, whose weight is not permuted, and whose weight has another scheme than
    the stored one: it is rounded again, in the model's order.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseNormQuantize : Pass<"fuse-norm-quantize", "::mlir::ModuleOp"> {
  let summary = "Make one op of a norm and the quantisation of its result";
  let description = [{
    Before:
    ```mlir
    %n = llm.rms_norm %x, @w eps 9.99999974E-6 : tensor<?x64xbf16> -> tensor<?x64xbf16>
    %values, %scales = llm.quantize %n : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    ```
    After:
    ```mlir
    %values, %scales = llm.rms_norm_quantize %x, @w eps 9.99999974E-6
        : tensor<?x64xbf16> -> tensor<?x64xi8>, tensor<?xf32>
    ```

    The result is the same bit for bit; the normalised row no longer travels through memory. Where something reads it in
    bf16 too, it is a third result. It declines norms of heads, and one that nothing quantises.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseQuantize : Pass<"fuse-quantize", "::mlir::ModuleOp"> {
  let summary = "Let the one linear that reads quantised rows quantise them itself";
  let description = [{
    Before:
    ```mlir
    %values, %scales = llm.quantize %x : tensor<1x64xbf16> -> tensor<1x64xi8>, tensor<1xf32>
    %y = llm.linear %values scales %scales, @w : (tensor<1x64xi8>, tensor<1xf32>) -> tensor<1x32xf32>
    ```
    After:
    ```mlir
    %y = llm.linear %x quantized, @w : (tensor<1x64xbf16>) -> tensor<1x32xf32>
    ```

    The result is the same bit for bit. It runs after `fuse-norm-quantize`, for rows that no norm precedes. Every workgroup of
    the linear quantises the row again, so it declines, with a remark: many rows, which a tile of the product reads more often
    than weights; rows that several linears read; and a row that LDS has no room for. Rows of a token's experts, which a
    workgroup adds up, are quantised a wave each.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseNorm : Pass<"fuse-norm", "::mlir::ModuleOp"> {
  let summary = "Let the one linear that reads a normalised row normalise it itself";
  let description = [{
    Before:
    ```mlir
    %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x64xf32> -> tensor<1x64xbf16>
    %y = llm.linear %n, @w : (tensor<1x64xbf16>) -> tensor<1x49152xf32>
    ```
    After:
    ```mlir
    %y = llm.linear %x norm @norm eps 1.0e-5, @w : (tensor<1x64xf32>) -> tensor<1x49152xf32>
    ```

    An `llm.rms_norm_quantize` becomes a norm of a linear that is also `quantized`. The result is the same bit for bit: the
    sum of squares has the order of the kernel that stands alone, whatever the shape of the linear's workgroups. It runs last.
    Every workgroup of the linear normalises the row again, so it declines, with a remark: many rows; rows that several ops
    read; norms of heads; a row that LDS has no room for; and a linear whose workgroups have too few weights beside the row
    (docs/design/fusion.md). So it is for the head, and for gate and up of a large model.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseArgmax : Pass<"fuse-argmax", "::mlir::ModuleOp"> {
  let summary = "Let the head find the best of its own logits";
  let description = [{
    Before:
    ```mlir
    %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x320xf32>
    %t = llm.argmax %l : tensor<1x320xf32> -> tensor<1xi32>
    llm.advance %t : tensor<1xi32>
    ```
    After:
    ```mlir
    %b:2 = llm.linear %x, @head : (tensor<1x64xbf16>) -> (tensor<1x20xf32>, tensor<1x20xi32>) epilogue(%l: tensor<1x320xf32>) {
      %v, %c = llm.tile_argmax %l : tensor<1x320xf32> -> tensor<1x20xf32>, tensor<1x20xi32>
      llm.yield %v, %c : tensor<1x20xf32>, tensor<1x20xi32>
    }
    llm.advance_best %b#0 at %b#1 : tensor<1x20xf32>, tensor<1x20xi32>
    ```

    The token is the same: a comparison rounds nothing, and ties go to the lowest index in both stages. It declines, with a
    remark: logits that are no product, or that something else reads too, and a token that does not go to one `llm.advance`.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseDeltaNorm : Pass<"fuse-delta-norm", "::mlir::ModuleOp"> {
  let summary = "Norm and gate the heads of a delta rule where they are made";
  let description = [{
    Before:
    ```mlir
    %y = llm.delta_rule %qkv, %b, %a, @decay, @dt_bias, @s key_heads 2 value_heads 4 key_dim 32 value_dim 32
        : tensor<1x256xf32>, tensor<1x4xf32>, tensor<1x4xf32> -> tensor<1x128xf32>
    %n = llm.rms_norm %y, @norm eps 9.99999997E-7 heads 4 : tensor<1x128xf32> -> tensor<1x128xf32>
    %g = llm.gated_mul silu %z, %n : tensor<1x128xf32>, tensor<1x128xf32> -> tensor<1x128xbf16>
    ```
    After:
    ```mlir
    %g = llm.delta_rule %qkv, %b, %a, @decay, @dt_bias, @s key_heads 2 value_heads 4 key_dim 32 value_dim 32
        : tensor<1x256xf32>, tensor<1x4xf32>, tensor<1x4xf32> -> tensor<1x128xbf16> epilogue(%y: tensor<1x128xf32>) {
      %n = llm.rms_norm %y, @norm eps 9.99999997E-7 heads 4 : tensor<1x128xf32> -> tensor<1x128xf32>
      %g = llm.gated_mul silu %z, %n : tensor<1x128xf32>, tensor<1x128xf32> -> tensor<1x128xbf16>
      llm.yield %g : tensor<1x128xbf16>
    }
    ```

    The result is the same bit for bit. It runs before `merge-linears`: the gate's projection no longer waits for the norm, and
    merges with the others. It declines, with a remark: many tokens, which are taken in chunks; a rule whose heads something
    else reads, or nothing norms; heads that a workgroup has no registers for. A gate that is not known before the rule stays
    outside.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseShortConv : Pass<"fuse-short-conv", "::mlir::ModuleOp"> {
  let summary = "Move the short convolution of one token, or one a sequence, into the epilogue of its projection";
  let description = [{
    Before:
    ```mlir
    %p:2 = llm.linear %x, @qkv, @z : (tensor<1x64xbf16>) -> (tensor<1x256xf32>, tensor<1x128xf32>)
    %y = llm.short_conv %p#0, @conv, @state : tensor<1x256xf32>
    ```
    After:
    ```mlir
    %p:2 = llm.linear %x, @qkv, @z : (tensor<1x64xbf16>) -> (tensor<1x128xf32>, tensor<1x256xf32>)
        epilogue(%q: tensor<1x256xf32>, %z: tensor<1x128xf32>) {
      %c = llm.short_conv %q, @conv, @state : tensor<1x256xf32>
      llm.yield %z, %c : tensor<1x128xf32>, tensor<1x256xf32>
    }
    ```

    The result is the same bit for bit: the lane that has a channel's product reads the rows before and moves them on. Rows
    of several sequences (`llm.sequences`) have a state each, so they do the same. It declines, with a remark: many tokens of
    one sequence; what is no product, or one that something else reads; a linear with an epilogue.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseSharedExpert : Pass<"fuse-shared-expert", "::mlir::ModuleOp"> {
  let summary = "Make the expert that every token goes to one slot more of those it is routed to";
  let description = [{
    Before, with gate and up alike:
    ```mlir
    %w, %i = llm.route %l top 8 : tensor<1x256xf32> -> tensor<1x8xf32>, tensor<1x8xi32>
    ...
    %d = llm.linear %h experts %i, @experts.down : (tensor<1x8x512xbf16>, tensor<1x8xi32>) -> tensor<1x8x2048xf32>
    %c = llm.combine %d, %w : tensor<1x8x2048xf32>, tensor<1x8xf32> -> tensor<1x2048xf32>
    %e = llm.linear %s, @shared.down : (tensor<1x512xbf16>) -> tensor<1x2048xf32>
    %f = llm.gated_mul sigmoid %g, %e : tensor<1x1xf32>, tensor<1x2048xf32> -> tensor<1x2048xf32>
    %y = llm.add %c, %f : tensor<1x2048xf32>
    ```
    After:
    ```mlir
    %w, %i = llm.route %l top 8 shared %g : tensor<1x256xf32>, tensor<1x1xf32> -> tensor<1x9xf32>, tensor<1x8xi32>
    ...
    %d = llm.linear %h experts %i, @experts.down shared [@shared.down]
        : (tensor<1x9x512xbf16>, tensor<1x8xi32>) -> tensor<1x9x2048xf32>
    %y = llm.combine %d, %w : tensor<1x9x2048xf32>, tensor<1x9xf32> -> tensor<1x2048xf32>
    ```

    The result is the same bit for bit: the shared expert was the last summand, and its share is the same sigmoid. It declines,
    with a remark: many tokens, which fill the tiles of a matrix that they all meet; a shared expert of another width,
    scheme or function; values that something else reads.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def MergeLinears : Pass<"merge-linears", "::mlir::ModuleOp"> {
  let summary = "Make one op of the linears that read one value";
  let description = [{
    Linears of the same operand whose weights have the same scheme become one `llm.linear` with several weights: one
    launch, a result each.

    Before:
    ```mlir
    %q = llm.linear %x, @q : (tensor<?x64xbf16>) -> tensor<?x64xf32>
    %k = llm.linear %x, @k : (tensor<?x64xbf16>) -> tensor<?x32xf32>
    ```
    After:
    ```mlir
    %r:2 = llm.linear %x, @q, @k : (tensor<?x64xbf16>) -> (tensor<?x64xf32>, tensor<?x32xf32>)
    ```

    Numbers stay the same bit for bit: how a kernel splits and orders a sum depends on K alone. It declines, with a
    remark, a linear whose neighbours have another scheme, and one whose product gates what is computed later: that product
    never leaves the registers if the linear waits (`fuse-gated-mul`), and launches are as many. A gate and what it gates
    are merged with each other alone, so that their product has a launch without other results. Linears with experts are
    merged with those of the same experts.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseGatedMul : Pass<"fuse-gated-mul", "::mlir::ModuleOp"> {
  let summary = "Move a gate's product into the epilogue of the projection of gate, up or both";
  let description = [{
    Before:
    ```mlir
    %r:2 = llm.linear %x, @gate, @up : (tensor<?x64xbf16>) -> (tensor<?x192xf32>, tensor<?x192xf32>)
    %h = llm.gated_mul silu %r#0, %r#1 : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
    ```
    After:
    ```mlir
    %h = llm.linear %x, @gate, @up : (tensor<?x64xbf16>) -> tensor<?x192xbf16>
        epilogue(%g: tensor<?x192xf32>, %u: tensor<?x192xf32>) {
      %m = llm.gated_mul silu %g, %u : tensor<?x192xf32>, tensor<?x192xf32> -> tensor<?x192xbf16>
      llm.yield %m : tensor<?x192xbf16>
    }
    ```

    Where only one operand is a product, its linear takes the other as a value from outside; a linear that runs before that
    value is known moves down to where it is:
    ```mlir
    %g = llm.linear %x, @gate : (tensor<?x64xbf16>) -> tensor<?x64xf32>
    %a = llm.attention ...
    %h = llm.gated_mul sigmoid %g, %a : tensor<?x64xf32>, tensor<?x64xbf16> -> tensor<?x64xbf16>
    ```
    becomes
    ```mlir
    %a = llm.attention ...
    %h = llm.linear %x, @gate : (tensor<?x64xbf16>) -> tensor<?x64xbf16> epilogue(%g: tensor<?x64xf32>) {
      %m = llm.gated_mul sigmoid %g, %a : tensor<?x64xf32>, tensor<?x64xbf16> -> tensor<?x64xbf16>
      llm.yield %m : tensor<?x64xbf16>
    }
    ```

    The result is the same bit for bit. It declines, with a remark: gate and up that something else reads, that one linear
    computes beside more, neither of which is a product, or a gate of one column in the linear that makes it.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseSoftcap : Pass<"fuse-softcap", "::mlir::ModuleOp"> {
  let summary = "Move the cap on logits into the epilogue of the head";
  let description = [{
    Before:
    ```mlir
    %l = llm.linear %x, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32>
    %y = llm.softcap %l cap 3.000000e+01 : tensor<?x97xf32>
    ```
    After:
    ```mlir
    %y = llm.linear %x, @head : (tensor<?x64xbf16>) -> tensor<?x97xf32> epilogue(%p: tensor<?x97xf32>) {
      %c = llm.softcap %p cap 3.000000e+01 : tensor<?x97xf32>
      llm.yield %c : tensor<?x97xf32>
    }
    ```

    The result is the same bit for bit. It declines, with a remark: a cap of what is no product, or of a product that
    something else reads or that is one of several.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseCombine : Pass<"fuse-combine", "::mlir::ModuleOp"> {
  let summary = "Add up a token's experts where they are multiplied";
  let description = [{
    Before:
    ```mlir
    %d = llm.linear %h experts %i, @down : (tensor<1x8x96xbf16>, tensor<1x8xi32>) -> tensor<1x8x64xf32>
    %y = llm.combine %d, %w : tensor<1x8x64xf32>, tensor<1x8xf32> -> tensor<1x64xf32>
    ```
    After:
    ```mlir
    %y = llm.linear %h experts %i, @down : (tensor<1x8x96xbf16>, tensor<1x8xi32>) -> tensor<1x64xf32>
        epilogue(%p: tensor<1x8x64xf32>) {
      %c = llm.combine %p, %w : tensor<1x8x64xf32>, tensor<1x8xf32> -> tensor<1x64xf32>
      llm.yield %c : tensor<1x64xf32>
    }
    ```

    The result is the same bit for bit: a workgroup computes its rows for all experts of the token, and adds in their
    order. It declines, with a remark: many tokens, whose rows workgroups take expert by expert; what is no product; a
    product that something else reads or that is one of several.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseResidualAdd : Pass<"fuse-residual-add", "::mlir::ModuleOp"> {
  let summary = "Move the residual's sum into the epilogue of the projection it adds";
  let description = [{
    Before:
    ```mlir
    %o = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32>
    %y = llm.add %x, %o : tensor<?x64xf32>
    ```
    After:
    ```mlir
    %y = llm.linear %a, @o : (tensor<?x64xbf16>) -> tensor<?x64xf32> epilogue(%p: tensor<?x64xf32>) {
      %s = llm.add %x, %p : tensor<?x64xf32>
      llm.yield %s : tensor<?x64xf32>
    }
    ```

    The result is the same bit for bit. It declines, with a remark: a sum of which neither operand is a product, or whose
    other operand is not known before a linear that cannot wait for it, or a product that something else reads.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseRopeAppend : Pass<"fuse-rope-append", "::mlir::ModuleOp"> {
  let summary = "Move rotations and the write to the KV cache into the epilogue of q, k and v";
  let description = [{
    Before:
    ```mlir
    %r:2 = llm.linear %x, @k, @v : (tensor<?x64xbf16>) -> (tensor<?x64xf32>, tensor<?x64xbf16>)
    %t = llm.rope %r#0, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
    llm.append %t, %r#1, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
    ```
    After:
    ```mlir
    llm.linear %x, @k, @v : (tensor<?x64xbf16>) -> () epilogue(%p: tensor<?x64xf32>, %v: tensor<?x64xbf16>) {
      %t = llm.rope %p, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
      llm.append %t, %v, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
      llm.yield
    }
    ```

    Numbers stay the same bit for bit. It declines, with a remark: a rotation of a part of each head, of heads whose
    halves are not whole tiles of 16 rows, of something that is read elsewhere too; an append whose keys and values come
    from different linears, or whose cache holds codes, since a scale is of a whole head and no wave of a projection has
    one; and any of them across an op that touches the cache.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def FuseHeads : Pass<"fuse-heads", "::mlir::ModuleOp"> {
  let summary = "Make one launch of norms of heads, rotations and the write to the KV cache";
  let description = [{
    Before:
    ```mlir
    %n = llm.rms_norm %q, @q_norm eps 9.99999997E-7 heads 2 : tensor<?x128xf32> -> tensor<?x128xf32>
    %r = llm.rope %n, @f heads 2 head_dim 64 : tensor<?x128xf32> -> tensor<?x128xbf16>
    %t = llm.rope %k, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
    llm.append %t, %v, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
    ```
    After:
    ```mlir
    %r = llm.heads(%q, %k, %v) : (tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xbf16>) -> tensor<?x128xbf16>
        body(%a: tensor<?x128xf32>, %b: tensor<?x64xf32>, %c: tensor<?x64xbf16>) {
      %n = llm.rms_norm %a, @q_norm eps 9.99999997E-7 heads 2 : tensor<?x128xf32> -> tensor<?x128xf32>
      %s = llm.rope %n, @f heads 2 head_dim 64 : tensor<?x128xf32> -> tensor<?x128xbf16>
      %t = llm.rope %b, @f heads 1 head_dim 64 : tensor<?x64xf32> -> tensor<?x64xbf16>
      llm.append %t, %c, @c.k, @c.v kv_heads 1 head_dim 64 : tensor<?x64xbf16>, tensor<?x64xbf16>
      llm.yield %s : tensor<?x128xbf16>
    }
    ```

    It runs after `fuse-rope-append`, for what that leaves: heads that are normalised, or rotated in part. Numbers stay the same bit for bit. It declines, with a remark: an append before which nothing happens to heads;
    a norm or rotation that something reads before the cache is written; heads, or halves of what rotates, that 16 lanes do not
    divide.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def RingCaches : Pass<"ring-caches", "::mlir::ModuleOp"> {
  let summary = "Let caches of layers with a window keep what the window sees";
  let description = [{
    A KV cache all of whose readers have a window becomes a ring of R positions: position p lies where position p - R lay.
    R is the widest window and the longest chunk less one, in whole blocks of 16, so that the chunk's last key replaces
    nothing that its first row sees. No reader notices: it asks for positions, and those that it sees are there.

    Before, with chunks of 256 tokens:
    ```mlir
    llm.state @layers.0.k key : tensor<?x1x256xbf16>
    ...
    %a = llm.attention %q, @layers.0.k, @layers.0.v heads 4 kv_heads 1 head_dim 256 scale 6.250000e-02 window 512
        : tensor<?x1024xbf16>
    ```
    After:
    ```mlir
    llm.state @layers.0.k key : tensor<768x1x256xbf16>
    ```

    It declines caches that something reads without a window, and those for which window and chunk are no less than the
    context.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def Select : Pass<"select", "::mlir::ModuleOp"> {
  let summary = "Choose a kernel for every op, for each target";
  let description = [{
    Turns an annotated `llm` module into an `exec` module. Each op of each function becomes one or two launches of a kernel
    that a `codegen/kernels` emitter makes for its shape, scheme and phase (one token, or many); ops that need the same kernel
    share it. Each tensor becomes an `exec.buffer` of role `scratch` of its own, `plan-memory` merges them; what a function takes and
    returns becomes the buffers `@tokens`, `@logits` and `@all_logits`. Weights get their layout and place.
    A kernel carries `exec.launch_shape`: what the cost function chose for it, and what bounds its grid.

    Before:
    ```mlir
    func.func @decode(%tokens: tensor<1xi32>) -> tensor<1x97xf32> {
      %x = llm.embed %tokens, @embed : (tensor<1xi32>) -> tensor<1x64xbf16>
      %l = llm.linear %x, @head : (tensor<1x64xbf16>) -> tensor<1x97xf32>
      return %l : tensor<1x97xf32>
    }
    ```
    After:
    ```mlir
    exec.buffer @decode.0 scratch bytes 128
    exec.target @gfx1151 {
      gpu.module @kernels { ... }
      exec.program @decode weight_bytes 16512 {
        exec.launch @kernels::@embed_64 grid(1, 1, 1) block 128 args(@step, @tokens, @weights, @decode.0)
        exec.launch @kernels::@linear_bf16_97x64_f32 grid(8, 1, 1) block 32 args(@decode.0, @weights + 12544, @logits)
      }
    }
    ```

    Errors: a target that is not in the table; a linear whose scheme has no kernel; a weight without a scheme; a KV cache
    of FP8 on a target that does not convert to it.
  }];
  let dependentDialects = ["::ingot::exec::ExecDialect", "::mlir::gpu::GPUDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::ROCDL::ROCDLDialect", "::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
  let options = [ListOption<"targets", "targets", "std::string", "Chips to make code for, as the target table names them">];
}

def PlanMemory : Pass<"plan-memory", "::mlir::ModuleOp"> {
  let summary = "Lay all scratch buffers into one arena";
  let description = [{
    A scratch buffer lives from the launch that first names it to the one that names it last. Buffers whose lives do not
    overlap share room: largest first, each at the lowest offset where it meets no other. Programs run one after another and
    hand nothing over in scratch, so each starts with an empty arena.

    Before:
    ```mlir
    exec.buffer @a scratch bytes 256
    exec.buffer @b scratch bytes 256
    exec.buffer @c scratch bytes 256
    ... args(@a, @b) ... args(@b, @c) ...
    ```
    After:
    ```mlir
    exec.buffer @scratch scratch bytes 512
    ... args(@scratch, @scratch + 256) ... args(@scratch + 256, @scratch) ...
    ```

    Declines nothing; a module without scratch buffers stays as it is.
  }];
  let dependentDialects = ["::ingot::exec::ExecDialect"];
}

#endif // INGOT_PASSES_TD
