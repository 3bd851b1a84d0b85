// The gated norm of heads in the epilogue of the delta rule that makes them: a workgroup that has a whole head norms it
// and multiplies it by its gate before it is stored.
#include "codegen/kernels/delta.h"
#include "codegen/kernels/heads.h"
#include "mlir/IR/IRMapping.h"
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSEDELTANORM
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(deltaNormCounter, "fuse-delta-norm", "Which norms of heads are fused with their delta rule");

namespace {

constexpr llvm::StringLiteral kName = "fuse-delta-norm";

std::string whyNot(llm::DeltaRuleOp rule, llm::RmsNormOp norm) {
  if (!norm || norm->getBlock() != rule->getBlock() || norm.getHeads() != rule.getValueHeads())
    return "no norm of its heads reads it";
  if (!takesTokenByToken(rule))
    return "many tokens are taken in chunks, and no workgroup has a whole head of one";
  if (std::string why = whyNoWholeHead(deltaConfig(rule)); !why.empty())
    return why;
  return whyNotHead(norm);
}

// The product with a gate that is known before the rule, if that is all that the norm is for.
llm::GatedMulOp gatedProductOf(llm::DeltaRuleOp rule, llm::RmsNormOp norm) {
  Value y = norm.getResult();
  auto gated = y.hasOneUse() ? dyn_cast<llm::GatedMulOp>(*y.user_begin()) : llm::GatedMulOp();
  if (!gated || gated.isBroadcast() || gated->getBlock() != rule->getBlock())
    return nullptr;
  Operation *other = (gated.getGate() == y ? gated.getUp() : gated.getGate()).getDefiningOp();
  if (other && other->getBlock() == rule->getBlock() && !other->isBeforeInBlock(rule)) {
    remarkDeclined(kName, gated, "its gate is not known before the delta rule");
    return nullptr;
  }
  return gated;
}

void moveIntoEpilogue(llm::DeltaRuleOp rule, ArrayRef<Operation *> ops) {
  OpBuilder b(rule);
  Value result = ops.back()->getResult(0);
  auto next =
      llm::DeltaRuleOp::create(b, rule.getLoc(), result.getType(), rule.getQkv(), rule.getB(), rule.getA(),
                               rule.getDecayAttr(), rule.getDtBiasAttr(), rule.getStateAttr(), rule.getKeyHeadsAttr(),
                               rule.getValueHeadsAttr(), rule.getKeyDimAttr(), rule.getValueDimAttr());
  next.setPeek(rule.getPeek());
  Block *block = b.createBlock(&next.getEpilogue(), {}, rule.getResult().getType(), rule.getLoc());
  IRMapping mapping;
  mapping.map(rule.getResult(), block->getArgument(0));
  for (Operation *op : ops)
    b.clone(*op, mapping);
  llm::YieldOp::create(b, rule.getLoc(), mapping.lookup(result));
  result.replaceAllUsesWith(next.getResult());
  for (Operation *op : llvm::reverse(ops))
    op->erase();
  rule.erase();
  remarkRewritten(kName, next, "norms its heads itself");
}

struct FuseDeltaNormPass : impl::FuseDeltaNormBase<FuseDeltaNormPass> {
  void runOnOperation() override {
    SmallVector<llm::DeltaRuleOp> rules;
    getOperation().walk([&](llm::DeltaRuleOp rule) {
      if (!rule.hasEpilogue())
        rules.push_back(rule);
    });
    for (llm::DeltaRuleOp rule : rules) {
      Value heads = rule.getResult();
      auto norm = heads.hasOneUse() ? dyn_cast<llm::RmsNormOp>(*heads.user_begin()) : llm::RmsNormOp();
      if (std::string why = whyNot(rule, norm); !why.empty()) {
        remarkDeclined(kName, rule, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(deltaNormCounter))
        continue;
      SmallVector<Operation *> ops{norm};
      if (llm::GatedMulOp gated = gatedProductOf(rule, norm))
        ops.push_back(gated);
      moveIntoEpilogue(rule, ops);
    }
  }
};

} // namespace

} // namespace ingot
