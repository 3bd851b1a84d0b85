// The compiler's passes. passes/Passes.td says what each does; compiler/ decides their order.
#pragma once

#include <memory>
#include <string>

#include "dialects/Exec.h"
#include "dialects/Llm.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/ROCDLDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassRegistry.h"

namespace ingot {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

/// Makes every pass of Passes.td known to pipelines given as text.
#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

/// How many launches `select` makes of an op of `llm`.
unsigned launchesOf(mlir::Operation *op);

} // namespace ingot
