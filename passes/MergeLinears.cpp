// Linears of one operand, side by side in one launch: the operand is read once, and the launch has more rows to fill
// the chip with. Products do not change: a kernel's order of summation depends on K alone.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_MERGELINEARS
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(mergeCounter, "merge-linears", "Which merges happen");

namespace {

constexpr llvm::StringLiteral kName = "merge-linears";

// "layers.0.q_proj" and "layers.0.k_proj" -> "layers.0.q_proj+k_proj".
Location mergedLocation(ArrayRef<llm::LinearOp> linears) {
  llm::LinearOp first = linears.front();
  std::string label = llm::labelOf(first);
  const std::string stem = llvm::StringRef(label).rsplit('.').first.str(); // its own: the label grows
  for (llm::LinearOp linear : linears.drop_front()) {
    std::string other = llm::labelOf(linear);
    auto [prefix, last] = llvm::StringRef(other).rsplit('.');
    label += "+" + (prefix == stem ? last : llvm::StringRef(other)).str();
  }
  return NameLoc::get(StringAttr::get(first.getContext(), label), first.getLoc());
}

// Whether the product only gates (or is gated by) what no linear of the same operand makes: an attention's output gate.
// Alone, it takes that product into its epilogue and is never written; merged, it would be known too early for that.
// The launches are as many either way.
bool gatesSomethingElse(llm::LinearOp linear) {
  Value product = linear.getResult(0);
  if (!product.hasOneUse())
    return false;
  auto gated = dyn_cast<llm::GatedMulOp>(*product.user_begin());
  if (!gated || (gated.isBroadcast() && gated.getGate() == product)) // which no epilogue can take
    return false;
  if (gated->getBlock() != linear->getBlock()) // another op's epilogue, which reads the gate from memory
    return false;
  auto other = (gated.getGate() == product ? gated.getUp() : gated.getGate()).getDefiningOp<llm::LinearOp>();
  return !other || other.getX() != linear.getX();
}

// The product that both operands of a gated product need to be one linear for: gate and up are merged with each other
// and with nothing else, so that `fuse-gated-mul` finds them alone. Null where there is none.
llm::GatedMulOp gatedProductOf(llm::LinearOp linear) {
  Value product = linear.getResult(0);
  auto gated = product.hasOneUse() ? dyn_cast<llm::GatedMulOp>(*product.user_begin()) : llm::GatedMulOp();
  if (!gated || gated.isBroadcast() || gated.getGate() == gated.getUp())
    return nullptr;
  auto gate = gated.getGate().getDefiningOp<llm::LinearOp>(), up = gated.getUp().getDefiningOp<llm::LinearOp>();
  return gate && up && gate.getX() == up.getX() && gate.getExperts() == up.getExperts() ? gated : nullptr;
}

struct MergeLinearsPass : impl::MergeLinearsBase<MergeLinearsPass> {
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    // In program order: the output must not depend on where values lie in memory.
    llvm::MapVector<std::tuple<Value, Value, Operation *, Attribute>, SmallVector<llm::LinearOp>> groups;
    llvm::DenseMap<Value, unsigned> readers;
    getOperation().walk([&](llm::LinearOp linear) {
      ++readers[linear.getX()];
      auto weight = symbols.lookup<llm::WeightOp>(linear.getPartWeight(0).getValue());
      auto scheme = weight ? weight.getScheme() : std::nullopt;
      if (linear.hasEpilogue() || linear.getPartCount() != 1)
        return;
      if (gatesSomethingElse(linear))
        remarkDeclined(kName, linear, "its product gates what is computed later");
      else
        groups[{linear.getX(), linear.getExperts(), gatedProductOf(linear), scheme ? Attribute(*scheme) : Attribute()}]
            .push_back(linear);
    });
    for (auto &[key, linears] : groups) {
      if (linears.size() < 2) {
        if (readers[std::get<0>(key)] > 1)
          remarkDeclined(kName, linears.front(), "no other linear of this operand has its scheme");
        continue;
      }
      if (llvm::any_of(linears, [&](llm::LinearOp l) { return l->getBlock() != linears.front()->getBlock(); })) {
        remarkDeclined(kName, linears.front(), "the linears of this operand are in several blocks");
        continue;
      }
      if (llvm::any_of(linears, [&](llm::LinearOp l) { return !l.getShared() != !linears.front().getShared(); })) {
        remarkDeclined(kName, linears.front(), "not all linears of these experts have one that every row goes to");
        continue;
      }
      if (!DebugCounter::shouldExecute(mergeCounter))
        continue;
      SmallVector<Attribute> weights, biases, shared;
      SmallVector<Type> types;
      for (llm::LinearOp linear : linears) {
        weights.push_back(linear.getPartWeight(0));
        biases.push_back(linear.getBiases()[0]);
        if (linear.getShared())
          llvm::append_range(shared, *linear.getShared());
        types.push_back(linear.getResult(0).getType());
      }
      llm::LinearOp first = linears.front();
      OpBuilder b(first);
      auto merged = llm::LinearOp::create(b, mergedLocation(linears), types, first.getX(), first.getScales(),
                                          first.getExperts(), b.getArrayAttr(weights), b.getArrayAttr(biases));
      if (!shared.empty())
        merged.setSharedAttr(b.getArrayAttr(shared));
      remarkRewritten(kName, merged, "merged with its neighbours");
      for (auto [linear, result] : llvm::zip(linears, merged.getResults())) {
        linear.getResult(0).replaceAllUsesWith(result);
        linear.erase();
      }
    }
  }
};

} // namespace

} // namespace ingot
