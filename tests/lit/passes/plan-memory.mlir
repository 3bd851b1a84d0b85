// RUN: ingot-opt %s --plan-memory --split-input-file | FileCheck %s

// @a and @c never live at the same time, so two buffers' room is enough for three.
// CHECK-LABEL: module @chain
module @chain {
  // CHECK: exec.buffer @scratch scratch bytes 512
  // CHECK-NOT: exec.buffer @a
  exec.buffer @a scratch bytes 256
  exec.buffer @b scratch bytes 256
  exec.buffer @c scratch bytes 256
  exec.target @chip {
    gpu.module @kernels {
      gpu.func @k(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>) kernel { gpu.return }
    }
    exec.program @decode weight_bytes 0 {
      // CHECK: exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@scratch, @scratch + 256)
      exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@a, @b)
      // CHECK: exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@scratch + 256, @scratch)
      exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@b, @c)
    }
  }
}

// -----

// Programs hand nothing over in scratch, so each starts at the arena's beginning.
// CHECK-LABEL: module @programs
module @programs {
  // CHECK: exec.buffer @scratch scratch bytes 512
  exec.buffer @a scratch bytes 512
  exec.buffer @b scratch bytes 256
  exec.target @chip {
    gpu.module @kernels {
      gpu.func @k(%x: !llvm.ptr<1>) kernel { gpu.return }
    }
    exec.program @prefill weight_bytes 0 {
      // CHECK: args(@scratch)
      exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@a)
    }
    exec.program @decode weight_bytes 0 {
      // CHECK: args(@scratch)
      exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@b)
    }
  }
}

// -----

// Nothing to do.
// CHECK-LABEL: module @none
module @none {
  // CHECK-NEXT: exec.buffer @step step bytes 64
  // CHECK-NEXT: }
  exec.buffer @step step bytes 64
}
