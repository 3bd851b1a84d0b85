// Makes the int8 activations that a scheme asks for explicit. Runs on the whole module, because schemes sit on weights.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_INSERTQUANTIZE
#include "passes/Passes.h.inc"

namespace {

struct InsertQuantizePass : impl::InsertQuantizeBase<InsertQuantizePass> {
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    // In program order: the output must not depend on where values lie in memory.
    llvm::MapVector<Value, SmallVector<llm::LinearOp>> readers;
    getOperation().walk([&](llm::LinearOp linear) {
      auto weight = symbols.lookup<llm::WeightOp>(linear.getPartWeight(0).getValue());
      auto scheme = weight ? weight.getScheme() : std::nullopt;
      if (linear.getScales() || !scheme || !scheme->quantizesActivations()) {
        remarkDeclined("insert-quantize", linear,
                       linear.getScales() ? "it takes int8 rows already" : "its weight takes bf16 rows");
        return;
      }
      readers[linear.getX()].push_back(linear);
    });
    for (auto &[value, linears] : readers) {
      OpBuilder builder(&getContext());
      builder.setInsertionPointAfterValue(value);
      // A block argument has no op of its own to be called after.
      Location loc = value.getDefiningOp() ? value.getLoc() : linears.front().getLoc();
      auto quantize = llm::QuantizeOp::create(builder, loc, value);
      for (llm::LinearOp linear : linears) {
        linear.getXMutable().assign(quantize.getValues());
        linear.getScalesMutable().assign(quantize.getScales());
        remarkRewritten("insert-quantize", linear, "takes int8 rows now");
      }
      remarkRewritten("insert-quantize", quantize, "inserted");
    }
  }
};

} // namespace

} // namespace ingot
