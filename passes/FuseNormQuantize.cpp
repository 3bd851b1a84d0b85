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
      const bool rows = !llvm::all_of(norm->getUsers(), isQuantize); // also as they are
      if (norm.getHeads()) {
        remarkDeclined(kName, norm, "it normalises heads, and a scale is of a row");
        continue;
      }
      if (!DebugCounter::shouldExecute(normQuantizeCounter))
        continue;
      OpBuilder builder(norm);
      auto first = cast<llm::QuantizeOp>(*llvm::find_if(norm->getUsers(), isQuantize));
      auto fused = llm::RmsNormQuantizeOp::create(
          builder, norm.getLoc(), first.getValues().getType(), first.getScales().getType(),
          rows ? norm.getResult().getType() : Type(), norm.getX(), norm.getWeightAttr(), norm.getEpsAttr());
      for (Operation *user : llvm::make_early_inc_range(norm->getUsers()))
        if (isQuantize(user)) {
          user->replaceAllUsesWith(fused->getResults().take_front(2));
          user->erase();
        }
      if (rows)
        norm.getResult().replaceAllUsesWith(fused.getRows());
      norm.erase();
      remarkRewritten(kName, fused, "fused with its quantisation");
    }
  }
};

} // namespace

} // namespace ingot
