#include "passes/Epilogue.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;

namespace ingot {

// Whether one of the two writes what the other touches. Reads of the step do not conflict with each other.
static bool conflict(Operation *a, Operation *b) {
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

std::string whyNotInEpilogue(llm::LinearOp linear, Operation *op) {
  if (op->getBlock() != linear->getBlock())
    return "it is in another block";
  bool reads = false;
  for (Value operand : op->getOperands()) {
    if (operand.getDefiningOp() == linear.getOperation())
      reads = true;
    else if (Operation *from = operand.getDefiningOp(); from && !from->isBeforeInBlock(linear))
      return "it reads a value that is not known before the linear";
  }
  if (!reads)
    return "it reads no product";
  for (Operation *between = linear->getNextNode(); between && between != op; between = between->getNextNode())
    if (conflict(between, op))
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

  OpBuilder b(linear);
  auto next = llm::LinearOp::create(b, linear.getLoc(), types, linear.getX(), linear.getScales(), linear.getWeights(),
                                    linear.getBiases());
  next.setGathered(linear.getGathered());
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
