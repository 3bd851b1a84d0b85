// The weighted sum of a token's experts in the epilogue of their last projection.
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSECOMBINE
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(combineCounter, "fuse-combine", "Which sums of experts are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-combine";

std::string whyNot(llm::CombineOp combine, llm::LinearOp linear) {
  if (!linear || !linear.getExperts())
    return "it adds up what is no product of experts";
  if (cast<RankedTensorType>(combine.getX().getType()).isDynamicDim(0))
    return "workgroups take many tokens expert by expert";
  if (linear.getPartCount() != 1 || linear.hasEpilogue())
    return "the linear computes more than what is added up";
  if (!combine.getX().hasOneUse())
    return "something else reads the products";
  return whyNotInEpilogue(linear, combine);
}

struct FuseCombinePass : impl::FuseCombineBase<FuseCombinePass> {
  void runOnOperation() override {
    SmallVector<llm::CombineOp> sums;
    getOperation().walk([&](llm::CombineOp combine) {
      if (!combine->getParentOfType<llm::LinearOp>())
        sums.push_back(combine);
    });
    for (llm::CombineOp combine : sums) {
      auto linear = combine.getX().getDefiningOp<llm::LinearOp>();
      if (std::string why = whyNot(combine, linear); !why.empty()) {
        remarkDeclined(kName, combine, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(combineCounter))
        continue;
      remarkRewritten(kName, combine, "moved into the epilogue");
      moveIntoEpilogue(linear, combine);
    }
  }
};

} // namespace

} // namespace ingot
