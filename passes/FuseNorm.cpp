// The norm of a row in the prologue of the linear that reads it.
#include "codegen/kernels/prologue.h"
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSENORM
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(normCounter, "fuse-norm", "Which norms are fused with their reader");

namespace {

constexpr llvm::StringLiteral kName = "fuse-norm";

// Rows of weights from which on the grid is wide enough on every chip for workgroups of 64 of them: two for each of 64
// compute units.
constexpr uint64_t kWideLinear = 8192, kRowsOfWide = 64;

RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

// Whether what every workgroup reads again, the row and the norm's weight, is at most an eighth of its weights:
// docs/design/fusion.md, "Norms as a prologue".
bool pays(llm::LinearOp linear, unsigned elementBytes, unsigned bitsOfWeight) {
  uint64_t rows = 0;
  for (Value product : linear.getProducts())
    rows += paddedRow(static_cast<uint64_t>(typeOf(product).getShape().back()));
  return rows >= kWideLinear && 8 * (elementBytes + 4) <= kRowsOfWide * bitsOfWeight / 8;
}

// `made`: the row that the norm makes, or the values and scales, and perhaps the row too.
std::string whyNot(Operation *norm, Value x, ValueRange made) {
  RankedTensorType type = typeOf(x);
  if (type.getDimSize(0) != 1)
    return "every workgroup would normalise many rows again";
  if (auto plain = dyn_cast<llm::RmsNormOp>(norm); plain && plain.getHeads())
    return "it normalises heads";
  if (made.size() > 2 || llvm::any_of(made, [](Value value) { return !value.hasOneUse(); }))
    return "several ops read the normalised row";
  auto linear = dyn_cast<llm::LinearOp>(*made.front().user_begin());
  if (!linear || linear.getX() != made.front() || (made.size() == 2 && linear.getScales() != made.back()))
    return "what reads the normalised row is not one linear";
  if (linear.getGathered())
    return "the linear reads the row in another order";
  if (linear.getExperts())
    return "the linear multiplies by experts";
  auto columns = static_cast<uint64_t>(type.getShape().back());
  bool quantized = made.size() == 2 || linear.getQuantized();
  if (paddedRow(columns) * (quantized ? 1 : 2) > kPrologueBytes)
    return "the row is wider than a workgroup has room for";
  auto scheme = llm::lookupWeight(linear, linear.getPartWeight(0)).getScheme();
  if (!pays(linear, type.getElementTypeBitWidth() / 8, scheme ? scheme->bits() : 16))
    return "each workgroup has too few weights beside the row";
  return "";
}

struct FuseNormPass : impl::FuseNormBase<FuseNormPass> {
  void runOnOperation() override {
    SmallVector<Operation *> all;
    getOperation().walk([&](Operation *op) {
      if (isa<llm::RmsNormOp, llm::RmsNormQuantizeOp>(op) && !isa<llm::HeadsOp>(op->getParentOp()))
        all.push_back(op);
    });
    for (Operation *norm : all) {
      Value x = norm->getOperand(0);
      if (std::string why = whyNot(norm, x, norm->getResults()); !why.empty()) {
        remarkDeclined(kName, norm, why);
        continue;
      }
      if (!DebugCounter::shouldExecute(normCounter))
        continue;
      auto linear = cast<llm::LinearOp>(*norm->getResult(0).user_begin());
      linear.getXMutable().assign(x);
      linear.getScalesMutable().clear();
      if (auto both = dyn_cast<llm::RmsNormQuantizeOp>(norm)) {
        linear.setNormAttr(both.getWeightAttr());
        linear.setEpsAttr(both.getEpsAttr());
        linear.setQuantized(true);
      } else {
        auto plain = cast<llm::RmsNormOp>(norm);
        linear.setNormAttr(plain.getWeightAttr());
        linear.setEpsAttr(plain.getEpsAttr());
      }
      norm->erase();
      remarkRewritten(kName, linear, "normalises its operand itself");
    }
  }
};

} // namespace

} // namespace ingot
