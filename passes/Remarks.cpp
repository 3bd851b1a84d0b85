#include "passes/Remarks.h"

#include "dialects/Llm.h"
#include "mlir/IR/Remarks.h"

using namespace mlir;

namespace ingot {

void remarkRewritten(llvm::StringRef pass, Operation *op, llvm::StringRef what) {
  remark::passed(op->getLoc(), remark::RemarkOpts::name(what).category(pass)) << llm::labelOf(op);
}

void remarkDeclined(llvm::StringRef pass, Operation *op, llvm::StringRef why) {
  remark::missed(op->getLoc(), remark::RemarkOpts::name(why).category(pass)) << llm::labelOf(op);
}

void remarkFigure(llvm::StringRef pass, Operation *op, llvm::StringRef name, int64_t value) {
  remark::analysis(op->getLoc(), remark::RemarkOpts::name(name).category(pass)) << std::to_string(value);
}

} // namespace ingot
