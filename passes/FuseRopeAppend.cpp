// Rotations and the write to the KV cache in the epilogue of the projections that feed them. A wave computes the two
// halves of a head that a rotation pairs, so both must be whole tiles of rows.
#include "codegen/kernels/linear.h"
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSEROPEAPPEND
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(ropeAppendCounter, "fuse-rope-append", "Which rotations and cache writes are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-rope-append";

std::string whyNotRotated(llm::LinearOp linear, llm::RopeOp rope) {
  if (std::string why = whyNotPaired(rope); !why.empty())
    return why;
  if (!rope.getX().hasOneUse())
    return "something else reads the projection";
  if (!linear.hasEpilogue())
    return "";
  for (Operation &op : linear.getEpilogue().front())
    if (auto other = dyn_cast<llm::RopeOp>(op)) {
      if (other.getHeadDim() != rope.getHeadDim())
        return "the linear rotates heads of another size";
    } else if (!isa<llm::AppendOp, llm::YieldOp>(op)) {
      return "the linear has another epilogue";
    }
  return "";
}

std::string whyNot(Operation *op) {
  llm::LinearOp linear;
  for (Value operand : op->getOperands()) {
    auto from = operand.getDefiningOp<llm::LinearOp>();
    if (!from)
      return "it reads what is not the product of a linear";
    if (linear && from != linear)
      return "keys and values are products of different linears";
    linear = from;
  }
  if (auto append = dyn_cast<llm::AppendOp>(op); append && llm::lookupState(op, append.getKStateAttr()).holdsCodes())
    return "a head in the cache has one scale, and no wave of a projection has a whole head";
  if (auto rope = dyn_cast<llm::RopeOp>(op))
    if (std::string why = whyNotRotated(linear, rope); !why.empty())
      return why;
  return whyNotInEpilogue(linear, op);
}

struct FuseRopeAppendPass : impl::FuseRopeAppendBase<FuseRopeAppendPass> {
  void runOnOperation() override {
    // Rotations come first in the program, so an append finds its keys among the linear's results.
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa<llm::RopeOp, llm::AppendOp>(op) && !op->getParentOfType<llm::LinearOp>())
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      if (std::string why = whyNot(op); !why.empty()) {
        remarkDeclined(kName, op, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(ropeAppendCounter))
        continue;
      auto linear = op->getOperand(0).getDefiningOp<llm::LinearOp>();
      remarkRewritten(kName, op, "moved into the epilogue");
      moveIntoEpilogue(linear, op);
    }
  }
};

} // namespace

} // namespace ingot
