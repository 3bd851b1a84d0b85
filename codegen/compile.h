// From a gpu.module of kernels to a code object: MLIR -> LLVM IR -> AMDGPU object -> linked ELF, in process.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/DialectRegistry.h"

#include "codegen/target.h"

namespace ingot {

// What the compiler reports of one kernel, read back from the finished code object.
struct KernelFacts {
  std::string name;
  unsigned vgprs = 0, sgprs = 0, ldsBytes = 0, scratchBytes = 0, codeBytes = 0, workgroupSize = 0;
};

struct CodeObject {
  std::string elf;
  std::vector<KernelFacts> kernels;
};

struct CompileOptions {
  std::string dumpDirectory; // when not empty: the kernels' MLIR, LLVM IR, assembly and code object go here
};

// Dialects and translations that `compileKernels` needs; call on the registry of the module's context.
void registerCodegenDialects(mlir::DialectRegistry &registry);

// Lowers a copy of `module`; the argument is unchanged. Thread-safe for modules of different contexts.
absl::StatusOr<CodeObject> compileKernels(mlir::gpu::GPUModuleOp module, const TargetInfo &target,
                                          const CompileOptions &options = {});

// The offload bundle of one entry a target, as clang-offload-bundler writes it uncompressed: a host entry of no bytes
// first, code objects at multiples of 4096.
std::string bundleCodeObjects(const std::vector<std::pair<const TargetInfo *, std::string>> &codeObjects);

} // namespace ingot
