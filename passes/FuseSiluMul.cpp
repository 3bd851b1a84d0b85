// SwiGLU's product in the epilogue of the merged gate and up projections: neither is written to memory.
#include "passes/Epilogue.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSESILUMUL
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(siluMulCounter, "fuse-silu-mul", "Which gated products are fused");

namespace {

constexpr llvm::StringLiteral kName = "fuse-silu-mul";

std::string whyNot(llm::SiluMulOp product) {
  auto linear = product.getGate().getDefiningOp<llm::LinearOp>();
  if (!linear || product.getUp().getDefiningOp() != linear.getOperation())
    return "gate and up are not products of one linear: merge-linears makes them so";
  if (linear.getPartCount() != 2 || linear.hasEpilogue())
    return "the linear computes more than gate and up";
  if (product.getGate() == product.getUp())
    return "gate and up are the same product";
  if (!product.getGate().hasOneUse() || !product.getUp().hasOneUse())
    return "something else reads gate or up";
  return whyNotInEpilogue(linear, product);
}

struct FuseSiluMulPass : impl::FuseSiluMulBase<FuseSiluMulPass> {
  void runOnOperation() override {
    SmallVector<llm::SiluMulOp> products;
    getOperation().walk([&](llm::SiluMulOp product) { products.push_back(product); });
    for (llm::SiluMulOp product : products) {
      if (std::string why = whyNot(product); !why.empty()) {
        remarkDeclined(kName, product, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(siluMulCounter))
        continue;
      remarkRewritten(kName, product, "moved into the epilogue");
      moveIntoEpilogue(product.getGate().getDefiningOp<llm::LinearOp>(), product);
    }
  }
};

} // namespace

} // namespace ingot
