// A gate's product in the epilogue of a projection: of gate and up together, so that neither is written to memory, or
// of one of them, where the other is known by then.
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSEGATEDMUL
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(gatedMulCounter, "fuse-gated-mul", "Which gated products are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-gated-mul";

// Why the product cannot move into `linear`, which makes one operand of it or both.
std::string whyNot(llm::GatedMulOp product, llm::LinearOp linear) {
  Value gate = product.getGate(), up = product.getUp();
  bool both = gate.getDefiningOp() == up.getDefiningOp();
  if (gate == up)
    return "gate and up are the same product";
  if (linear.getPartCount() != (both ? 2 : 1) || (both && linear.hasEpilogue()))
    return "the linear computes more than gate and up";
  for (Value operand : {gate, up})
    if (operand.getDefiningOp() == linear.getOperation() && !operand.hasOneUse())
      return "something else reads gate or up";
  if (product.isBroadcast() && gate.getDefiningOp() == linear.getOperation())
    return "one gate serves a whole row, which many workgroups compute";
  return whyNotInEpilogue(linear, product);
}

// The linear that takes the product in. The later of two, since the other must be known before it; failing that, the
// earlier. Null, and why, if there is none.
llm::LinearOp chooseLinear(llm::GatedMulOp product, std::string &why) {
  auto first = product.getGate().getDefiningOp<llm::LinearOp>(),
       second = product.getUp().getDefiningOp<llm::LinearOp>();
  if (first && second && first->getBlock() == second->getBlock() && second->isBeforeInBlock(first))
    std::swap(first, second);
  why = "neither gate nor up is the product of a linear";
  for (llm::LinearOp linear : {second, first}) {
    if (!linear)
      continue;
    why = whyNot(product, linear);
    if (why.empty())
      return linear;
  }
  return nullptr;
}

struct FuseGatedMulPass : impl::FuseGatedMulBase<FuseGatedMulPass> {
  void runOnOperation() override {
    SmallVector<llm::GatedMulOp> products;
    getOperation().walk([&](llm::GatedMulOp product) {
      if (!product->getParentOfType<llm::LinearOp>())
        products.push_back(product);
    });
    for (llm::GatedMulOp product : products) {
      std::string why;
      llm::LinearOp linear = chooseLinear(product, why);
      if (!linear) {
        remarkDeclined(kName, product, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(gatedMulCounter))
        continue;
      remarkRewritten(kName, product, "moved into the epilogue");
      moveIntoEpilogue(linear, product);
    }
  }
};

} // namespace

} // namespace ingot
