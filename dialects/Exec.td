// The `exec` dialect: what the device launches. It mirrors runtime/artifact/manifest.proto one to one, so that writing
// the artifact is a walk over these ops, and a person can read and edit the program before it is written.
#ifndef INGOT_DIALECTS_EXEC_TD
#define INGOT_DIALECTS_EXEC_TD

include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/CommonAttrConstraints.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "dialects/ExecEnums.td"
include "dialects/LlmScheme.td"

def ExecDialect : Dialect {
  let name = "exec";
  let cppNamespace = "::ingot::exec";
  let summary = "What the device launches: buffers, kernels, and flat programs";
  let description = [{
    A module of this dialect is one artifact without its bytes: `exec.buffer` for every piece of device memory,
    `exec.weight` for what the weights buffer holds, and an `exec.target` for each chip with its kernels and programs.
    A program is a flat list of launches in order; there is no control flow on the host. Everything that changes from
    token to token is read by kernels from the step buffer.

    Each op corresponds to one message of `runtime/artifact/manifest.proto`.
  }];
  let dependentDialects = ["::ingot::llm::LlmDialect"];
}

def Exec_BufferOp : Op<ExecDialect, "buffer", [Symbol]> {
  let summary = "a piece of device memory";
  let description = [{
    Its size is `bytes + per_position * context`, where the runtime chooses the context. The role says what the runtime
    does with it; only `state` and `scratch` may occur more than once.

    `batch_table` says where in the buffer of role `batch` a program of several sequences finds the addresses of their
    copies of this buffer (runtime/artifact/batch.h).

    ```mlir
    exec.buffer @scratch scratch bytes 65536
    exec.buffer @layers.0.k state bytes 0 per_position 384
    exec.buffer @layers.1.conv state bytes 768 batch_table 256
    ```

    Rules: R1, the size is not negative and not 0; R2, each role but `state` and `scratch` occurs once in a module; R3, a
    `batch_table` is a positive multiple of 64.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Exec_Role:$role, I64Attr:$bytes,
                       DefaultValuedAttr<I64Attr, "0">:$per_position,
                       OptionalAttr<I64Attr>:$batch_table, OptionalAttr<StrAttr>:$sym_visibility);
  let assemblyFormat = [{
    $sym_name $role `bytes` $bytes (`per_position` $per_position^)? (`batch_table` $batch_table^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Exec_WeightOp : Op<ExecDialect, "weight", [Symbol]> {
  let summary = "a weight's place in the weights section";
  let description = [{
    Says where the packed form of a weight lies (values, then scales), how, and from which tensors of the checkpoint it
    is made: their rows one after another. `permuted`: columns are stored in the order of their groups, and the order
    follows the scales. A weight that the configuration determines has a `value` and no sources. The type is the logical
    one, `[N, K]` or `[N]`, before padding.

    ```mlir
    exec.weight @layers.0.qkv offset 4096 bytes 1105920 tile16 : tensor<960x576xf32> from ["q", "k", "v"]
        scheme #llm.scheme<bf16>
    ```

    Rules: R1, offset is not negative and bytes positive; R2, the offset is a multiple of 256; R3, there are sources or a
    value, not both; R4, the weight lies inside the buffer of role `weights`, where there is one; R5, no two weights
    overlap.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$offset, I64Attr:$bytes, Exec_Layout:$layout,
                       Llm_SchemeAttr:$scheme, OptionalAttr<StrArrayAttr>:$sources,
                       OptionalAttr<ElementsAttr>:$value, TypeAttrOf<AnyRankedTensor>:$type, UnitAttr:$permuted,
                       OptionalAttr<StrAttr>:$sym_visibility);
  let assemblyFormat = [{
    $sym_name `offset` $offset `bytes` $bytes $layout `:` $type (`from` $sources^)? (`value` $value^)?
    `scheme` qualified($scheme) attr-dict
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
  }];
}

def Exec_TargetOp : Op<ExecDialect, "target", [Symbol, SymbolTable, IsolatedFromAbove, NoTerminator,
                                               SingleBlock, NoRegionArguments]> {
  let summary = "the code and programs for one chip";
  let description = [{
    The symbol is the chip, as the target table names it. The region holds `gpu.module`s with the kernels, and the
    programs that launch them.

    ```mlir
    exec.target @gfx1151 {
      gpu.module @kernels {}
      exec.program @decode weight_bytes 0 {
      }
    }
    ```

    Rules: R1, the region holds only `gpu.module`, `gpu.binary` and `exec.program`.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrAttr>:$sym_visibility);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$chip)>];
}

def Exec_ProgramOp : Op<ExecDialect, "program", [Symbol, NoTerminator, SingleBlock, NoRegionArguments,
                                                 HasParent<"TargetOp">]> {
  let summary = "a flat list of launches";
  let description = [{
    Runs its launches in order. `weight_bytes` is how many bytes of weights one run must read (of one token, where the
    program takes many): what the emulator's count is compared with.

    ```mlir
    exec.program @decode weight_bytes 134000000 {
      exec.launch @kernels::@embed grid(1, 1, 1) block 256 args(@tokens, @weights + 4096, @scratch)
    }
    ```

    Rules: R1, the region holds only `exec.launch`; R2, `weight_bytes` is not negative.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$weight_bytes, OptionalAttr<StrAttr>:$sym_visibility);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `weight_bytes` $weight_bytes attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "int64_t":$weightBytes)>];
}

def Exec_LaunchOp : Op<ExecDialect, "launch", [HasParent<"ProgramOp">,
                                               DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "one kernel launch";
  let description = [{
    Launches `grid` workgroups of `block` lanes. With `tokens_per_workgroup N` the number along y is
    `ceil(Step.tokens / N)` and the written y must be 1. Every argument is a global pointer: a buffer and an offset in
    bytes. The label is the `llm` op it came from, for reports.

    ```mlir
    exec.launch @kernels::@linear_576 grid(36, 1, 1) tokens_per_workgroup 16 block 256
        args(@weights + 4096, @scratch + 0, @step) label "layers.0.self_attn.q_proj"
    ```

    Rules: R1, the kernel is a function of a `gpu.module` of this target; R2, grid and `tokens_per_workgroup` are positive
    and fit 32 bits; R3, the block is 1 to 1024 lanes; R4, each argument's buffer is an `exec.buffer` of the module; R5,
    each offset lies inside its buffer (inside its first position, where the size grows with the context); R6, with
    `tokens_per_workgroup` y is 1; R7, the kernel takes as many arguments as the launch gives.
  }];
  let arguments = (ins SymbolRefAttr:$kernel, DenseI64ArrayAttr:$grid, OptionalAttr<I64Attr>:$tokens_per_workgroup,
                       I64Attr:$block, FlatSymbolRefArrayAttr:$buffers, DenseI64ArrayAttr:$offsets,
                       OptionalAttr<StrAttr>:$label);
  let assemblyFormat = [{
    $kernel `grid` `` custom<Grid>($grid) (`tokens_per_workgroup` $tokens_per_workgroup^)? `block` $block
    `args` `` custom<Arguments>($buffers, $offsets) (`label` $label^)? attr-dict
  }];
  let hasVerifier = 1;
}

#endif // INGOT_DIALECTS_EXEC_TD
