#include "passes/Epilogue.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;

namespace ingot {

bool touchSameState(Operation *a, Operation *b) {
  auto effectsA = getEffectsRecursively(a), effectsB = getEffectsRecursively(b);
  if (!effectsA || !effectsB)
    return true;
  for (const MemoryEffects::EffectInstance &x : *effectsA)
    for (const MemoryEffects::EffectInstance &y : *effectsB)
      if (x.getResource() == y.getResource() &&
          (isa<MemoryEffects::Write>(x.getEffect()) || isa<MemoryEffects::Write>(y.getEffect())))
        return true;
  return false;
}

// Whether `op` reads a value that is made between `linear` and itself.
static bool readsLater(llm::LinearOp linear, Operation *op) {
  return llvm::any_of(op->getOperands(), [&](Value operand) {
    Operation *from = operand.getDefiningOp();
    return from && from != linear.getOperation() && from->getBlock() == linear->getBlock() &&
           !from->isBeforeInBlock(linear);
  });
}

// Whether `linear` may as well run where `op` is: nobody needs its results before, and it touches no state.
static bool mayWaitFor(llm::LinearOp linear, Operation *op) {
  return isMemoryEffectFree(linear) && llvm::none_of(linear->getUsers(), [&](Operation *user) {
           Operation *ancestor = linear->getBlock()->findAncestorOpInBlock(*user);
           return ancestor && ancestor->isBeforeInBlock(op);
         });
}

std::string whyNotInEpilogue(llm::LinearOp linear, Operation *op) {
  if (op->getBlock() != linear->getBlock())
    return "it is in another block";
  if (llvm::none_of(op->getOperands(), [&](Value v) { return v.getDefiningOp() == linear.getOperation(); }))
    return "it reads no product";
  if (readsLater(linear, op))
    return mayWaitFor(linear, op) ? "" : "it reads a value that is not known before the linear";
  for (Operation *between = linear->getNextNode(); between && between != op; between = between->getNextNode())
    if (touchSameState(between, op))
      return "an op in between touches the same state";
  return "";
}

llm::LinearOp moveIntoEpilogue(llm::LinearOp linear, Operation *op) {
  SmallVector<Value> kept;
  for (Value result : linear.getResults())
    if (llvm::any_of(result.getUsers(), [&](Operation *user) { return user != op; }))
      kept.push_back(result);
  SmallVector<Type> types = llvm::map_to_vector(kept, [](Value value) { return value.getType(); });
  llvm::append_range(types, op->getResultTypes());

  OpBuilder b(readsLater(linear, op) ? op : linear.getOperation());
  auto next = llm::LinearOp::create(b, linear.getLoc(), types, linear.getX(), linear.getScales(), linear.getExperts(),
                                    linear.getWeights(), linear.getBiases(), linear.getQuantized());
  next.setGathered(linear.getGathered());
  next.setSharedAttr(linear.getSharedAttr());
  next.setNormAttr(linear.getNormAttr());
  next.setEpsAttr(linear.getEpsAttr());
  Region &epilogue = next.getEpilogue();
  SmallVector<Value> stored; // what the region yields now, a value for each result of `linear`
  if (linear.hasEpilogue()) {
    epilogue.takeBody(linear.getEpilogue());
    auto yield = cast<llm::YieldOp>(epilogue.front().back());
    stored.assign(yield.getValues().begin(), yield.getValues().end());
    yield.erase();
  } else {
    SmallVector<Location> locations(linear.getNumResults(), linear.getLoc());
    Block *block = b.createBlock(&epilogue, {}, linear.getResultTypes(), locations);
    stored.assign(block->args_begin(), block->args_end());
  }
  b.setInsertionPointToEnd(&epilogue.front());
  IRMapping mapping;
  for (auto [result, value] : llvm::zip(linear.getResults(), stored))
    mapping.map(result, value);
  Operation *inner = b.clone(*op, mapping);
  SmallVector<Value> yielded = llvm::map_to_vector(kept, [&](Value value) { return mapping.lookup(value); });
  llvm::append_range(yielded, inner->getResults());
  llm::YieldOp::create(b, linear.getLoc(), yielded);

  for (auto [value, result] : llvm::zip(kept, next.getResults()))
    value.replaceUsesWithIf(result, [&](OpOperand &use) { return use.getOwner() != op; });
  op->replaceAllUsesWith(next.getResults().drop_front(kept.size()));
  op->erase();
  linear.erase();
  return next;
}

} // namespace ingot
