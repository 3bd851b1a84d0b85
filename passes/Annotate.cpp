// Recipe -> scheme attributes. All complaints of a recipe are reported before the pass fails, so that a person who
// edits one sees them at once.
#include "models/recipe.h"
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_ANNOTATE
#include "passes/Passes.h.inc"

namespace {

// Names of weights by where they stand to recurrent states.
struct Recurrence {
  explicit Recurrence(ModuleOp module) {
    module.walk([&](Operation *op) {
      if (!isa<llm::ShortConvOp, llm::DeltaRuleOp>(op))
        return;
      for (Value operand : op->getOperands())
        walkBack(operand);
      if (isa<llm::DeltaRuleOp>(op))
        walkOn(op->getResult(0));
    });
  }

  llvm::StringSet<> before; // of linears whose products become a state
  llvm::StringSet<> after;  // of linears that read what a delta rule made, normed and gated or not

private:
  static void add(llvm::StringSet<> &names, llm::LinearOp linear) {
    for (auto name : linear.getWeights().getAsRange<FlatSymbolRefAttr>())
      names.insert(name.getValue());
  }
  void walkBack(Value value) {
    Operation *maker = value.getDefiningOp();
    if (!maker || !seen.insert(maker).second)
      return;
    if (auto linear = dyn_cast<llm::LinearOp>(maker))
      return add(before, linear);
    for (Value operand : maker->getOperands())
      walkBack(operand);
  }
  void walkOn(Value value) {
    for (Operation *user : value.getUsers()) {
      if (auto linear = dyn_cast<llm::LinearOp>(user))
        add(after, linear);
      else if (isa<llm::RmsNormOp, llm::GatedMulOp>(user))
        walkOn(user->getResult(0));
    }
  }
  llvm::DenseSet<Operation *> seen; // walking back
};

struct AnnotatePass : impl::AnnotateBase<AnnotatePass> {
  using AnnotateBase::AnnotateBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto loaded = loadRecipe(recipe);
    if (!loaded.ok()) {
      module.emitError() << std::string(loaded.status().message());
      return signalPassFailure();
    }
    const llvm::StringSet<> readByOthers = weightsReadByOthers(module);
    auto vector = llm::SchemeAttr::get(&getContext(), llm::Storage::F32);
    std::vector<bool> decided(loaded->rules.size());
    bool failed = false;
    const llvm::StringSet<> taps = weightsOfConvolutions(module);
    const Recurrence recurrence(module);
    for (auto weight : module.getOps<llm::WeightOp>()) {
      bool matrix = weight.getTensorType().getRank() >= 2 && !taps.contains(weight.getSymName());
      int index = matrix ? loaded->ruleFor(weight.getSymName().str(), weight.getTensorType().getShape().back()) : -1;
      if (index >= 0)
        decided[index] = true;
      if (weight.getScheme()) {
        remarkDeclined("annotate", weight, "it has a scheme already");
        continue;
      }
      if (!matrix) {
        weight.setSchemeAttr(vector);
        continue;
      }
      if (auto stored = weight.getStored(); stored && !readByOthers.contains(weight.getSymName())) {
        weight.setSchemeAttr(*stored);
        remarkRewritten("annotate", weight, "scheme " + stored->spelled() + ", the checkpoint's own");
        continue;
      }
      if (index < 0) {
        weight.emitError() << loaded->origin << ": no rule matches weight @" << weight.getSymName()
                           << "; add one, or a last rule with pattern \"*\"";
        failed = true;
        continue;
      }
      const Recipe::Rule &rule = loaded->rules[index];
      auto scheme = llm::SchemeAttr::fromSpelling(&getContext(), rule.scheme);
      if (!scheme) {
        weight.emitError() << loaded->origin << ":" << rule.line << ": unknown scheme \"" << rule.scheme
                           << "\"; expected bf16, w8a8, int8, int4 or fp8, the last three perhaps with groups "
                              "(int4_g128: N a power of two from 32 to 1024), int4 with zero points (int4_g128_zp)";
        failed = true;
        continue;
      }
      if (scheme.quantizesActivations() && readByOthers.contains(weight.getSymName())) {
        weight.emitError() << loaded->origin << ":" << rule.line << ": scheme " << rule.scheme
                           << " quantises activations, and @" << weight.getSymName()
                           << " is read by something other than llm.linear; give it a scheme for weights only";
        failed = true;
        continue;
      }
      if (std::string why = whyUnwise(scheme, weight.getSymName(), recurrence); !why.empty())
        weight.emitWarning() << loaded->origin << ":" << rule.line << ": scheme " << rule.scheme << " of weight @"
                             << weight.getSymName() << ": " << why;
      weight.setSchemeAttr(scheme);
      remarkRewritten("annotate", weight, "scheme " + scheme.spelled());
    }
    failed |= mlir::failed(annotateCaches(kvCache.empty() ? loaded->kvCache : kvCache.getValue()));
    for (auto [rule, used] : llvm::zip(loaded->rules, decided)) {
      if (used || rule.mayMatchNothing)
        continue;
      module.emitError()
          << loaded->origin << ":" << rule.line << ": the rule with pattern \"" << rule.pattern
          << "\" decides no weight: no matrix has such a name, or earlier rules match them all; remove it, "
             "or say may_match_nothing: true";
      failed = true;
    }
    if (failed)
      signalPassFailure();
  }

  /// Caches of bf16 become what `name` says.
  LogicalResult annotateCaches(StringRef name) {
    Builder b(&getContext());
    Type element = llvm::StringSwitch<Type>(name)
                       .Case("bf16", b.getBF16Type())
                       .Case("int8", b.getI8Type())
                       .Case("fp8", b.getType<Float8E4M3FNType>())
                       .Default(Type());
    if (!element)
      return getOperation().emitError() << "expected kv-cache to be one of " << llvm::join(kvCacheNames(), ", ")
                                        << ", got \"" << name << "\"";
    for (auto state : getOperation().getOps<llm::StateOp>()) {
      if (!state.isCache() || state.getTensorType().getElementType() == element)
        continue;
      if (state.holdsCodes()) {
        remarkDeclined("annotate", state, "it holds codes already");
        continue;
      }
      state.setType(state.getTensorType().clone(element));
      remarkRewritten("annotate", state, ("holds " + name).str());
    }
    return success();
  }

  /// What of a scheme is known to cost quality; empty if nothing is.
  static std::string whyUnwise(llm::SchemeAttr scheme, StringRef weight, const Recurrence &recurrence) {
    if (scheme.scaled() && recurrence.before.contains(weight))
      return "its product becomes a recurrent state, which remembers an error for as long as it remembers anything; "
             "bf16 is safe, and what codes cost has to be measured";
    if (scheme.quantizesActivations() && recurrence.after.contains(weight))
      return "it reads what a delta rule made, whose rows span orders of magnitude, too many for one int8 scale a "
             "token; a scheme for weights only (int8) keeps them";
    return "";
  }

  /// Names of weights of short convolutions: a few elements a channel, kept in fp32 as vectors are.
  static llvm::StringSet<> weightsOfConvolutions(ModuleOp module) {
    llvm::StringSet<> names;
    module.walk([&](llm::ShortConvOp op) { names.insert(op.getWeight()); });
    return names;
  }

  /// Names of weights that an op other than a linear reads.
  static llvm::StringSet<> weightsReadByOthers(ModuleOp module) {
    llvm::StringSet<> names;
    module.walk([&](Operation *op) {
      if (isa<llm::LinearOp>(op))
        return;
      for (NamedAttribute attribute : op->getAttrs())
        if (auto name = dyn_cast<FlatSymbolRefAttr>(attribute.getValue()))
          names.insert(name.getValue());
    });
    return names;
  }
};

} // namespace

} // namespace ingot
