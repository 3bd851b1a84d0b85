// Checks of symbols that the verifiers of several files share. Each reports what was expected and what is there.
#pragma once

#include "dialects/Llm.h"

namespace ingot::llm {

/// Whether `name`, as `op` sees it, is a weight of `shape`.
mlir::LogicalResult checkWeight(mlir::Operation *op, mlir::SymbolTableCollection &tables, mlir::FlatSymbolRefAttr name,
                                llvm::ArrayRef<int64_t> shape);

/// Whether `name`, as `op` sees it, is a state of this kind and shape.
mlir::LogicalResult checkState(mlir::Operation *op, mlir::SymbolTableCollection &tables, mlir::FlatSymbolRefAttr name,
                               StateKind kind, llvm::ArrayRef<int64_t> shape);

} // namespace ingot::llm
