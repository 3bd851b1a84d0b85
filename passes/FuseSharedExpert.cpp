// The expert that every token goes to as one slot more of those it is routed to: the same launches, the same sum.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_FUSESHAREDEXPERT
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(sharedExpertCounter, "fuse-shared-expert", "Which shared experts become slots");

namespace {

constexpr llvm::StringLiteral kName = "fuse-shared-expert";

RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

// A gated feed-forward network, of experts or not: down(f(gate(x)) * up(x)), its row quantised or not.
struct Network {
  llm::LinearOp gate, up, down;
  llm::GatedMulOp product;
  llm::QuantizeOp quantize; // null where there is none

  SmallVector<llm::LinearOp, 3> linears() { return {gate, up, down}; }
};

// One product that one op reads, with nothing before or behind it.
bool isPlain(llm::LinearOp linear) {
  return linear && linear.getPartCount() == 1 && !linear.hasEpilogue() && !linear.getPartBias(0) &&
         !linear.getQuantized() && !linear.getNorm() && !linear.getGathered() && !linear.getShared() &&
         linear.getResult(0).hasOneUse();
}

// The network that ends in `y`, if there is one.
std::optional<Network> networkOf(Value y) {
  Network network;
  network.down = y.getDefiningOp<llm::LinearOp>();
  if (!isPlain(network.down))
    return std::nullopt;
  Value row = network.down.getX();
  network.quantize = row.getDefiningOp<llm::QuantizeOp>();
  if (network.quantize) {
    if (!row.hasOneUse() || network.quantize.getScales() != network.down.getScales() ||
        !network.quantize.getScales().hasOneUse())
      return std::nullopt;
    row = network.quantize.getX();
  }
  network.product = row.hasOneUse() ? row.getDefiningOp<llm::GatedMulOp>() : llm::GatedMulOp();
  if (!network.product || network.product.isBroadcast())
    return std::nullopt;
  network.gate = network.product.getGate().getDefiningOp<llm::LinearOp>();
  network.up = network.product.getUp().getDefiningOp<llm::LinearOp>();
  if (!isPlain(network.gate) || !isPlain(network.up) || network.gate.getX() != network.up.getX())
    return std::nullopt;
  return network;
}

// A block of experts and the one beside them.
struct Mixture {
  llm::AddOp sum;
  llm::CombineOp combine;
  llm::RouteOp route;
  llm::GatedMulOp gated; // of the shared expert, by one column
  Network experts, shared;
};

bool oneScheme(Network &a, Network &b) {
  return llvm::all_of(llvm::zip(a.linears(), b.linears()), [](auto pair) {
    auto [first, second] = pair;
    return llm::lookupWeight(first, first.getPartWeight(0)).getScheme() ==
           llm::lookupWeight(second, second.getPartWeight(0)).getScheme();
  });
}

// Reads the mixture that `sum` adds up; returns why it stays as it is.
std::string readMixture(llm::CombineOp combine, Value other, Mixture &mixture) {
  mixture.combine = combine;
  mixture.gated = other.getDefiningOp<llm::GatedMulOp>();
  mixture.route = combine.getWeights().getDefiningOp<llm::RouteOp>();
  if (!mixture.gated || mixture.gated.getFunction() != llm::Gate::Sigmoid || !mixture.gated.isBroadcast())
    return "what is added to the experts is not gated by the sigmoid of one column";
  auto experts = networkOf(combine.getX()), shared = networkOf(mixture.gated.getUp());
  if (!mixture.route || !experts || !shared || !experts->down.getExperts() || shared->down.getExperts())
    return "it adds up other things than a network of routed experts and one more";
  mixture.experts = *experts;
  mixture.shared = *shared;
  if (mixture.route.getShared() || !combine.getResult().hasOneUse() || !mixture.gated.getResult().hasOneUse() ||
      !mixture.route.getWeights().hasOneUse() ||
      llvm::any_of(mixture.route.getIndices().getUsers(),
                   [&](Operation *op) { return !llvm::is_contained(mixture.experts.linears(), op); }))
    return "something else reads the route, or one of the sums";
  if (typeOf(combine.getX()).getDimSize(0) != 1)
    return "many tokens fill the tiles of a matrix that they all meet";
  if (experts->gate.getX() != shared->gate.getX() || experts->product.getFunction() != shared->product.getFunction() ||
      typeOf(experts->gate.getX()).getRank() != 2)
    return "the shared expert reads another row, or has another function";
  if (typeOf(experts->product.getResult()).getShape().back() != typeOf(shared->product.getResult()).getShape().back())
    return "the shared expert has another width";
  if (static_cast<bool>(experts->quantize) != static_cast<bool>(shared->quantize) ||
      !oneScheme(mixture.experts, mixture.shared))
    return "the shared expert has another scheme";
  if (mixture.combine.getResult().getType() != mixture.sum.getResult().getType())
    return "the sum has another type";
  return "";
}

RankedTensorType widened(Value value) {
  SmallVector<int64_t> shape(typeOf(value).getShape());
  ++shape[1];
  return typeOf(value).clone(shape);
}

llm::LinearOp withSlot(OpBuilder &b, llm::LinearOp experts, llm::LinearOp shared, Value x, Value scales,
                       Value indices) {
  auto linear = llm::LinearOp::create(b, experts.getLoc(), widened(experts.getResult(0)), x, scales, indices,
                                      experts.getWeights(), experts.getBiases());
  linear.setSharedAttr(shared.getWeights());
  return linear;
}

void rewrite(Mixture &m) {
  OpBuilder b(m.sum);
  auto route = llm::RouteOp::create(b, m.route.getLoc(), m.route.getLogits(), m.route.getTopAttr(),
                                    m.route.getNormalizeAttr(), m.route.getFactorsAttr(), m.gated.getGate());
  Value x = m.experts.gate.getX(), scales = m.experts.gate.getScales();
  auto gate = withSlot(b, m.experts.gate, m.shared.gate, x, scales, route.getIndices());
  auto up = withSlot(b, m.experts.up, m.shared.up, x, scales, route.getIndices());
  Value row = llm::GatedMulOp::create(b, m.experts.product.getLoc(), widened(m.experts.product.getResult()),
                                      m.experts.product.getFunction(), gate.getResult(0), up.getResult(0));
  scales = nullptr;
  if (m.experts.quantize) {
    auto quantize = llm::QuantizeOp::create(b, m.experts.quantize.getLoc(), row);
    row = quantize.getValues();
    scales = quantize.getScales();
  }
  auto down = withSlot(b, m.experts.down, m.shared.down, row, scales, route.getIndices());
  auto combine = llm::CombineOp::create(b, m.combine.getLoc(), m.combine.getResult().getType(), down.getResult(0),
                                        route.getWeights());
  m.sum.getResult().replaceAllUsesWith(combine.getResult());
  SmallVector<Operation *> old{m.sum, m.combine, m.gated};
  for (Network *network : {&m.experts, &m.shared}) {
    old.push_back(network->down);
    if (network->quantize)
      old.push_back(network->quantize);
    old.append({network->product, network->gate, network->up});
  }
  old.push_back(m.route);
  for (Operation *op : old)
    op->erase();
  remarkRewritten(kName, combine, "adds up the shared expert too");
}

struct FuseSharedExpertPass : impl::FuseSharedExpertBase<FuseSharedExpertPass> {
  void runOnOperation() override {
    SmallVector<llm::AddOp> sums;
    getOperation().walk([&](llm::AddOp add) { sums.push_back(add); });
    for (llm::AddOp sum : sums) {
      Mixture mixture;
      mixture.sum = sum;
      // The shared expert comes second, as the sum of slots has it.
      auto combine = sum.getLhs().getDefiningOp<llm::CombineOp>();
      if (!combine)
        continue;
      if (std::string why = readMixture(combine, sum.getRhs(), mixture); !why.empty()) {
        remarkDeclined(kName, sum, why);
        continue;
      }
      if (DebugCounter::shouldExecute(sharedExpertCounter))
        rewrite(mixture);
    }
  }
};

} // namespace

} // namespace ingot
