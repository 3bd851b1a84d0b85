// One case a rule of dialects/Exec.td; the comment names it.
// RUN: ingot-opt %s --split-input-file --verify-diagnostics

// exec.buffer R1
// expected-error @+1 {{expected a size greater than 0, got bytes 0 per_position 0}}
exec.buffer @b scratch bytes 0

// -----

// exec.buffer R1
// expected-error @+1 {{expected a size greater than 0, got bytes -4 per_position 16}}
exec.buffer @b scratch bytes -4 per_position 16

// -----

// exec.buffer R2
exec.buffer @a weights bytes 4 // expected-note {{the other one}}
// expected-error @+1 {{expected one buffer of role weights}}
exec.buffer @b weights bytes 4

// -----

// exec.weight R1
// expected-error @+1 {{expected an offset of at least 0 and bytes greater than 0, got -256 and 16}}
exec.weight @w offset -256 bytes 16 row_f32 : tensor<4xf32> from ["w"] scheme #llm.scheme<f32>

// -----

// exec.weight R2
// expected-error @+1 {{expected an offset that is a multiple of 256, got 16}}
exec.weight @w offset 16 bytes 16 row_f32 : tensor<4xf32> from ["w"] scheme #llm.scheme<f32>

// -----

// exec.weight R3
// expected-error @+1 {{expected either 'from' or 'value', got neither}}
exec.weight @w offset 0 bytes 16 row_f32 : tensor<4xf32> scheme #llm.scheme<f32>

// -----

// exec.weight R4
exec.buffer @weights weights bytes 264
// expected-error @+1 {{expected to lie inside @weights of 264 bytes, got offset 256 bytes 16}}
exec.weight @w offset 256 bytes 16 row_f32 : tensor<4xf32> from ["w"] scheme #llm.scheme<f32>

// -----

// exec.weight R5
exec.weight @a offset 0 bytes 257 row_f32 : tensor<4xf32> from ["a"] scheme #llm.scheme<f32> // expected-note {{declared here}}
// expected-error @+1 {{overlaps @a}}
exec.weight @b offset 256 bytes 16 row_f32 : tensor<4xf32> from ["b"] scheme #llm.scheme<f32>

// -----

// exec.target R1
exec.target @chip {
  // expected-error @+1 {{expected gpu.module, gpu.binary or exec.program in exec.target, got exec.buffer}}
  exec.buffer @b scratch bytes 4
}

// -----

// exec.program R1
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected exec.launch in exec.program, got arith.constant}}
    %c = arith.constant 0 : i32
  }
}

// -----

// exec.program R2
exec.target @chip {
  // expected-error @+1 {{expected weight_bytes of at least 0, got -1}}
  exec.program @p weight_bytes -1 {
  }
}

// -----

// exec.launch R1
exec.target @chip {
  gpu.module @kernels {
  }
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected @kernels::@k to be a function of a gpu.module of this target}}
    exec.launch @kernels::@k grid(1, 1, 1) block 32 args()
  }
}

// -----

// exec.launch R2
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected a grid of three positive 32-bit sizes, got (1, 0, 1)}}
    exec.launch @kernels::@k grid(1, 0, 1) block 32 args()
  }
}

// -----

// exec.launch R2
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected a grid of three positive 32-bit sizes, got (4294967296, 1, 1)}}
    exec.launch @kernels::@k grid(4294967296, 1, 1) block 32 args()
  }
}

// -----

// exec.launch R2
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected tokens_per_workgroup to be a positive 32-bit number, got 0}}
    exec.launch @kernels::@k grid(1, 1, 1) tokens_per_workgroup 0 block 32 args()
  }
}

// -----

// exec.launch R3
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected a block of 1 to 1024 lanes, got 2048}}
    exec.launch @kernels::@k grid(1, 1, 1) block 2048 args()
  }
}

// -----

// exec.launch R4
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected argument 0 to name an exec.buffer, got @b}}
    exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@b)
  }
}

// -----

// exec.launch R5
exec.buffer @b scratch bytes 64
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected the offset of argument 0 to lie inside @b of 64 bytes, got 64}}
    exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@b + 64)
  }
}

// -----

// exec.launch R6
exec.target @chip {
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected y of the grid to be 1 with tokens_per_workgroup, got 2}}
    exec.launch @kernels::@k grid(1, 2, 1) tokens_per_workgroup 16 block 32 args()
  }
}

// -----

// exec.launch R7
exec.buffer @b scratch bytes 64
exec.target @chip {
  gpu.module @kernels {
    llvm.func @k(%x: !llvm.ptr<1>) { // expected-note {{the kernel}}
      llvm.return
    }
  }
  exec.program @p weight_bytes 0 {
    // expected-error @+1 {{expected 1 arguments, got 2}}
    exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@b, @b + 32)
  }
}
