// Norms of heads, rotations and the write to the cache in one launch, where the projections could not take them into
// their epilogues: a norm needs a whole head, and a head is wider than what a wave of a projection computes.
#include "codegen/kernels/heads.h"
#include "mlir/IR/IRMapping.h"
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSEHEADS
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(headsCounter, "fuse-heads", "Which appends are fused with what happens to their heads");

namespace {

constexpr llvm::StringLiteral kName = "fuse-heads";

// The norms and rotations before `append` that can run where it is, in the order of the program: those of its keys and
// values, and those of the queries beside them.
SmallVector<Operation *> membersOf(llm::AppendOp append) {
  SmallVector<Operation *> members;
  for (Operation *op = append->getPrevNode(); op && !touchSameState(op, append); op = op->getPrevNode()) {
    if (!isa<llm::RmsNormOp, llm::RopeOp>(op) || llm::headDimOf(op) != static_cast<int64_t>(append.getHeadDim()))
      continue;
    if (std::string why = whyNotHead(op); !why.empty()) {
      remarkDeclined(kName, op, why);
      continue;
    }
    bool neededBefore = llvm::any_of(op->getUsers(), [&](Operation *user) {
      Operation *ancestor = op->getBlock()->findAncestorOpInBlock(*user);
      return ancestor && ancestor->isBeforeInBlock(append) && !llvm::is_contained(members, user);
    });
    if (neededBefore)
      remarkDeclined(kName, op, "something else reads it before the cache is written");
    else
      members.push_back(op);
  }
  std::reverse(members.begin(), members.end());
  return members;
}

void fuse(llm::AppendOp append, ArrayRef<Operation *> members) {
  SmallVector<Operation *> all(members);
  all.push_back(append);
  llvm::SetVector<Value> inputs;
  SmallVector<Value> results;
  for (Operation *op : all) {
    for (Value operand : op->getOperands())
      if (!llvm::is_contained(all, operand.getDefiningOp()))
        inputs.insert(operand);
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !llvm::is_contained(all, user); }))
        results.push_back(result);
  }
  OpBuilder b(append);
  auto heads = llm::HeadsOp::create(b, append.getLoc(), ValueRange(results).getTypes(), inputs.getArrayRef());
  SmallVector<Location> locations(inputs.size(), append.getLoc());
  b.createBlock(&heads.getBody(), {}, ValueRange(inputs.getArrayRef()).getTypes(), locations);
  IRMapping mapping;
  for (auto [input, argument] : llvm::zip(inputs, heads.getBody().getArguments()))
    mapping.map(input, argument);
  for (Operation *op : all)
    b.clone(*op, mapping);
  llm::YieldOp::create(b, append.getLoc(),
                       llvm::map_to_vector(results, [&](Value result) { return mapping.lookup(result); }));
  for (auto [old, result] : llvm::zip(results, heads.getResults()))
    old.replaceAllUsesWith(result);
  for (Operation *op : llvm::reverse(all))
    op->erase();
  remarkRewritten(kName, heads, "one launch from the projections to attention");
}

struct FuseHeadsPass : impl::FuseHeadsBase<FuseHeadsPass> {
  void runOnOperation() override {
    SmallVector<llm::AppendOp> appends;
    getOperation().walk([&](llm::AppendOp append) {
      if (!isa<llm::LinearOp, llm::HeadsOp>(append->getParentOp()))
        appends.push_back(append);
    });
    for (llm::AppendOp append : appends) {
      SmallVector<Operation *> members = membersOf(append);
      if (members.empty())
        remarkDeclined(kName, append, "no norm or rotation of heads comes before it");
      else if (DebugCounter::shouldExecute(headsCounter))
        fuse(append, members);
    }
  }
};

} // namespace

} // namespace ingot
