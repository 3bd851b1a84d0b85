// Every op of `exec`, parsed, printed and parsed again.
// RUN: ingot-opt %s | ingot-opt | FileCheck %s
// RUN: ingot-opt %s --mlir-print-op-generic | ingot-opt | FileCheck %s

// CHECK: exec.buffer @weights weights bytes 65536
exec.buffer @weights weights bytes 65536
// CHECK: exec.buffer @scratch scratch bytes 4096
exec.buffer @scratch scratch bytes 4096
// CHECK: exec.buffer @layers.0.k state bytes 0 per_position 384
exec.buffer @layers.0.k state bytes 0 per_position 384
// CHECK: exec.buffer @step step bytes 64
exec.buffer @step step bytes 64
// CHECK: exec.weight @norm offset 0 bytes 256 row_f32 : tensor<32xf32> from ["norm"] scheme #llm.scheme<f32>
exec.weight @norm offset 0 bytes 256 row_f32 : tensor<32xf32> from ["norm"] scheme #llm.scheme<f32>
// CHECK: exec.weight @qk offset 256 bytes 4096 tile16 : tensor<48x32xf32> from ["q", "k"] scheme #llm.scheme<int8, activation = int8_per_token>
exec.weight @qk offset 256 bytes 4096 tile16 : tensor<48x32xf32> from ["q", "k"] scheme #llm.scheme<int8, activation = int8_per_token>
// CHECK: exec.weight @freq offset 8192 bytes 256 row_f32 : tensor<2xf32> value dense<1.000000e+00> : tensor<2xf32> scheme #llm.scheme<f32>
exec.weight @freq offset 8192 bytes 256 row_f32 : tensor<2xf32> value dense<1.0> : tensor<2xf32> scheme #llm.scheme<f32>
// CHECK: exec.target @gfx1151 {
exec.target @gfx1151 {
  // CHECK: gpu.module @kernels
  gpu.module @kernels {
    llvm.func @linear(%weights: !llvm.ptr<1>, %out: !llvm.ptr<1>, %step: !llvm.ptr<1>) {
      llvm.return
    }
  }
  // CHECK: exec.program @decode weight_bytes 4096 {
  exec.program @decode weight_bytes 4096 {
    // CHECK: exec.launch @kernels::@linear grid(3, 1, 1) block 256 args(@weights + 256, @scratch, @step) label "q"
    exec.launch @kernels::@linear grid(3, 1, 1) block 256 args(@weights + 256, @scratch, @step) label "q"
  }
  // CHECK: exec.program @prefill weight_bytes 4096 {
  exec.program @prefill weight_bytes 4096 {
    // CHECK: exec.launch @kernels::@linear grid(3, 1, 2) tokens_per_workgroup 16 block 64 args(@weights, @layers.0.k, @step)
    exec.launch @kernels::@linear grid(3, 1, 2) tokens_per_workgroup 16 block 64 args(@weights, @layers.0.k + 0, @step)
  }
}
