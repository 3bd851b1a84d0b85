// The residual's sum in the epilogue of the projection that it adds.
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSERESIDUALADD
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(residualAddCounter, "fuse-residual-add", "Which sums are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-residual-add";

// The linear whose product the sum takes: the later of the two, since the other must be known before it.
llm::LinearOp linearOf(llm::AddOp add) {
  auto left = add.getLhs().getDefiningOp<llm::LinearOp>(), right = add.getRhs().getDefiningOp<llm::LinearOp>();
  if (left && right && left->getBlock() == right->getBlock())
    return left->isBeforeInBlock(right) ? right : left;
  return left ? left : right;
}

std::string whyNot(llm::AddOp add, llm::LinearOp linear) {
  if (add.getFactor())
    return "it scales the sum";
  if (!linear)
    return "neither operand is the product of a linear";
  if (add.getLhs() == add.getRhs())
    return "it adds a product to itself";
  Value product = add.getLhs().getDefiningOp() == linear.getOperation() ? add.getLhs() : add.getRhs();
  if (linear.getPartCount() != 1)
    return "the linear computes several products";
  if (!product.hasOneUse())
    return "something else reads the product";
  return whyNotInEpilogue(linear, add);
}

struct FuseResidualAddPass : impl::FuseResidualAddBase<FuseResidualAddPass> {
  void runOnOperation() override {
    SmallVector<llm::AddOp> sums;
    getOperation().walk([&](llm::AddOp add) {
      if (!add->getParentOfType<llm::LinearOp>())
        sums.push_back(add);
    });
    for (llm::AddOp add : sums) {
      llm::LinearOp linear = linearOf(add);
      if (std::string why = whyNot(add, linear); !why.empty()) {
        remarkDeclined(kName, add, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(residualAddCounter))
        continue;
      remarkRewritten(kName, add, "moved into the epilogue");
      moveIntoEpilogue(linear, add);
    }
  }
};

} // namespace

} // namespace ingot
