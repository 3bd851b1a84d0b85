// Makes the order of columns that a stored weight asks for explicit. Runs on the whole module, because schemes sit on
// weights.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_INSERTGATHER
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(gatherCounter, "insert-gather", "Which linears are rewritten");

namespace {

constexpr llvm::StringLiteral kName = "insert-gather";

std::string whyNot(llm::LinearOp linear, llm::WeightOp weight) {
  if (linear.getGathered())
    return "its columns are gathered already";
  if (!weight || !weight.getPermuted())
    return "its weight is stored in the model's order";
  if (weight.getScheme() != weight.getStored())
    return "its weight is not kept as it is stored";
  return "";
}

struct InsertGatherPass : impl::InsertGatherBase<InsertGatherPass> {
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    getOperation().walk([&](llm::LinearOp linear) {
      auto weight = symbols.lookup<llm::WeightOp>(linear.getPartWeight(0).getValue());
      if (std::string why = whyNot(linear, weight); !why.empty())
        return remarkDeclined(kName, linear, why);
      if (!DebugCounter::shouldExecute(gatherCounter))
        return;
      OpBuilder builder(linear);
      auto gather = llm::GatherColumnsOp::create(builder, linear.getLoc(), linear.getX(), linear.getPartWeight(0));
      linear.getXMutable().assign(gather.getResult());
      linear.setGathered(true);
      remarkRewritten(kName, linear, "takes columns in the weight's order now");
    });
  }
};

} // namespace

} // namespace ingot
