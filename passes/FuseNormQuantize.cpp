// rms_norm + quantize -> rms_norm_quantize: exact, because the fused op rounds the normalised row to bf16 as the chain
// does.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSENORMQUANTIZE
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(normQuantizeCounter, "fuse-norm-quantize", "Which norms are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-norm-quantize";

struct FuseNormQuantizePass : impl::FuseNormQuantizeBase<FuseNormQuantizePass> {
  void runOnOperation() override {
    SmallVector<llm::RmsNormOp> norms;
    getOperation().walk([&](llm::RmsNormOp norm) { norms.push_back(norm); });
    for (llm::RmsNormOp norm : norms) {
      auto isQuantize = [](Operation *user) { return isa<llm::QuantizeOp>(user); };
      if (llvm::none_of(norm->getUsers(), isQuantize))
        continue;
      if (!llvm::all_of(norm->getUsers(), isQuantize)) {
        remarkDeclined(kName, norm, "something reads the normalised row in bf16 too");
        continue;
      }
      if (norm.getHeads()) {
        remarkDeclined(kName, norm, "it normalises heads, and a scale is of a row");
        continue;
      }
      if (!DebugCounter::shouldExecute(normQuantizeCounter))
        continue;
      OpBuilder builder(norm);
      auto fused =
          llm::RmsNormQuantizeOp::create(builder, norm.getLoc(), norm.getX(), norm.getWeightAttr(), norm.getEpsAttr());
      for (Operation *user : llvm::make_early_inc_range(norm->getUsers())) {
        user->replaceAllUsesWith(fused);
        user->erase();
      }
      norm.erase();
      remarkRewritten(kName, fused, "fused with its quantisation");
    }
  }
};

} // namespace

} // namespace ingot
