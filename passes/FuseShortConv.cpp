// The short convolution of one token of a sequence in the epilogue of the projection that it reads: the lane that
// finishes a channel also has its state.
#include "dialects/Sequences.h"
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSESHORTCONV
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(shortConvCounter, "fuse-short-conv", "Which short convolutions are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-short-conv";

std::string whyNot(llm::ShortConvOp conv, llm::LinearOp linear) {
  if (!linear || linear.getExperts())
    return "it reads what is not the product of a linear";
  if (cast<RankedTensorType>(conv.getX().getType()).getDimSize(0) != 1 && !llm::sequencesOf(conv))
    return "other workgroups have the rows before of many tokens";
  if (!conv.getX().hasOneUse())
    return "something else reads the product";
  if (linear.hasEpilogue())
    return "the linear has another epilogue";
  return whyNotInEpilogue(linear, conv);
}

struct FuseShortConvPass : impl::FuseShortConvBase<FuseShortConvPass> {
  void runOnOperation() override {
    SmallVector<llm::ShortConvOp> convolutions;
    getOperation().walk([&](llm::ShortConvOp conv) {
      if (!conv->getParentOfType<llm::LinearOp>())
        convolutions.push_back(conv);
    });
    for (llm::ShortConvOp conv : convolutions) {
      auto linear = conv.getX().getDefiningOp<llm::LinearOp>();
      if (std::string why = whyNot(conv, linear); !why.empty()) {
        remarkDeclined(kName, conv, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(shortConvCounter))
        continue;
      remarkRewritten(kName, conv, "moved into the epilogue");
      moveIntoEpilogue(linear, conv);
    }
  }
};

} // namespace

} // namespace ingot
