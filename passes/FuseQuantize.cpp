// The quantisation of a row in the prologue of the linear that reads it.
#include "codegen/kernels/prologue.h"
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSEQUANTIZE
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(quantizeCounter, "fuse-quantize", "Which quantisations are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-quantize";

std::string whyNot(llm::QuantizeOp quantize) {
  auto type = cast<RankedTensorType>(quantize.getX().getType());
  if (type.getDimSize(0) != 1)
    return "every workgroup would quantise many rows again";
  if (!quantize.getValues().hasOneUse() || !quantize.getScales().hasOneUse())
    return "several ops read the quantised row";
  auto linear = dyn_cast<llm::LinearOp>(*quantize.getValues().user_begin());
  if (!linear || linear.getX() != quantize.getValues() || linear.getScales() != quantize.getScales())
    return "what reads the quantised row is not one linear";
  auto columns = static_cast<uint64_t>(type.getShape().back()), rows = uint64_t{1}; // of a workgroup
  if (linear.hasEpilogue() && llvm::any_of(linear.getEpilogue().front(), llvm::IsaPred<llm::CombineOp>)) {
    rows = static_cast<uint64_t>(linear.getSlots());
    if (columns > kColumnsOfWave)
      return "a row is wider than a wave has registers for";
  }
  if (rows * paddedRow(columns) > kPrologueBytes) // a byte an element
    return "the row is wider than a workgroup has room for";
  return "";
}

struct FuseQuantizePass : impl::FuseQuantizeBase<FuseQuantizePass> {
  void runOnOperation() override {
    SmallVector<llm::QuantizeOp> all;
    getOperation().walk([&](llm::QuantizeOp quantize) { all.push_back(quantize); });
    for (llm::QuantizeOp quantize : all) {
      if (std::string why = whyNot(quantize); !why.empty()) {
        remarkDeclined(kName, quantize, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(quantizeCounter))
        continue;
      auto linear = cast<llm::LinearOp>(*quantize.getValues().user_begin());
      linear.getXMutable().assign(quantize.getX());
      linear.getScalesMutable().clear();
      linear.setQuantized(true);
      quantize.erase();
      remarkRewritten(kName, linear, "quantises its operand itself");
    }
  }
};

} // namespace

} // namespace ingot
