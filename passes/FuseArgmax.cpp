// The first stage of argmax in the epilogue of the head, the second together with the step's advance.
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSEARGMAX
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(argmaxCounter, "fuse-argmax", "Which choices of the best token are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-argmax";

std::string whyNot(llm::ArgmaxOp argmax) {
  auto linear = argmax.getLogits().getDefiningOp<llm::LinearOp>();
  if (!linear)
    return "it chooses from what is not the product of a linear";
  if (linear.getPartCount() != 1)
    return "the linear computes several products";
  if (!argmax.getLogits().hasOneUse())
    return "something else reads the logits";
  if (cast<RankedTensorType>(argmax.getLogits().getType()).getDimSize(0) != 1)
    return "it chooses for other than one row";
  if (!argmax.getToken().hasOneUse() || !isa<llm::AdvanceOp>(*argmax.getToken().user_begin()))
    return "the token does not go to one advance";
  return whyNotInEpilogue(linear, argmax);
}

struct FuseArgmaxPass : impl::FuseArgmaxBase<FuseArgmaxPass> {
  void runOnOperation() override {
    SmallVector<llm::ArgmaxOp> all;
    getOperation().walk([&](llm::ArgmaxOp argmax) { all.push_back(argmax); });
    for (llm::ArgmaxOp argmax : all) {
      if (std::string why = whyNot(argmax); !why.empty()) {
        remarkDeclined(kName, argmax, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(argmaxCounter))
        continue;
      remarkRewritten(kName, argmax, "its first stage moved into the epilogue");
      auto linear = argmax.getLogits().getDefiningOp<llm::LinearOp>();
      auto advance = cast<llm::AdvanceOp>(*argmax.getToken().user_begin());
      OpBuilder b(argmax);
      auto tiles = llm::TileArgmaxOp::create(b, argmax.getLoc(), argmax.getLogits());
      b.setInsertionPoint(advance);
      llm::AdvanceBestOp::create(b, advance.getLoc(), tiles.getValues(), tiles.getColumns());
      advance.erase();
      argmax.erase();
      moveIntoEpilogue(linear, tiles);
    }
  }
};

} // namespace

} // namespace ingot
