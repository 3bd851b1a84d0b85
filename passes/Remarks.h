// What a pass did and what it declined, as MLIR's optimisation remarks: `ingot-opt --remarks-filter=.*` prints them,
// and `ingotc --explain-passes` counts them by pass and reason. The category of a remark is the pass.
#pragma once

#include <string>

#include "mlir/IR/Operation.h"

namespace ingot {

/// `pass` rewrote `op`; `what` is a few words that are the same for all rewrites of a kind, so that they can be
/// counted.
void remarkRewritten(llvm::StringRef pass, mlir::Operation *op, llvm::StringRef what);

/// `pass` looked at `op` and left it; `why` is the reason, the same words for the same reason.
void remarkDeclined(llvm::StringRef pass, mlir::Operation *op, llvm::StringRef why);

/// A figure that `pass` worked out.
void remarkFigure(llvm::StringRef pass, mlir::Operation *op, llvm::StringRef name, int64_t value);

} // namespace ingot
