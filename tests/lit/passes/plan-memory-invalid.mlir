// RUN: not ingot-opt %s --plan-memory 2>&1 | FileCheck %s

module @handed_over {
  exec.buffer @a scratch bytes 256
  exec.target @chip {
    gpu.module @kernels {
      gpu.func @k(%x: !llvm.ptr<1>) kernel { gpu.return }
    }
    exec.program @prefill weight_bytes 0 {
      exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@a)
    }
    exec.program @decode weight_bytes 0 {
      // CHECK: hands scratch buffer @a from program @prefill to another
      exec.launch @kernels::@k grid(1, 1, 1) block 32 args(@a)
    }
  }
}
