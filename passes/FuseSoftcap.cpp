// The cap on logits in the epilogue of the head that makes them.
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSESOFTCAP
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(softcapCounter, "fuse-softcap", "Which caps are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-softcap";

std::string whyNot(llm::SoftcapOp cap) {
  auto linear = cap.getX().getDefiningOp<llm::LinearOp>();
  if (!linear)
    return "it caps what is not the product of a linear";
  if (linear.getPartCount() != 1)
    return "the linear computes several products";
  if (!cap.getX().hasOneUse())
    return "something else reads the product";
  return whyNotInEpilogue(linear, cap);
}

struct FuseSoftcapPass : impl::FuseSoftcapBase<FuseSoftcapPass> {
  void runOnOperation() override {
    SmallVector<llm::SoftcapOp> caps;
    getOperation().walk([&](llm::SoftcapOp cap) {
      if (!cap->getParentOfType<llm::LinearOp>())
        caps.push_back(cap);
    });
    for (llm::SoftcapOp cap : caps) {
      if (std::string why = whyNot(cap); !why.empty()) {
        remarkDeclined(kName, cap, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(softcapCounter))
        continue;
      remarkRewritten(kName, cap, "moved into the epilogue");
      moveIntoEpilogue(cap.getX().getDefiningOp<llm::LinearOp>(), cap);
    }
  }
};

} // namespace

} // namespace ingot
