#include "compiler/activation_aware.h"

#include <array>
#include <cmath>

#include <gmock/gmock.h>

#include "codegen/compile.h"
#include "compiler/reference/interpreter.h"
#include "mlir/Pass/PassManager.h"
#include "models/declaration.h"
#include "models/testing/fake_checkpoint.h"
#include "passes/Passes.h"

namespace ingot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr std::array<int32_t, 18> kTokens = {1, 7, 39, 0, 12, 12, 5, 3, 22, 31, 8, 2, 17, 29, 11, 36, 4, 9};

// Channels that differ by orders of magnitude are what the search is for.
FakeCheckpoint uneven() {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  for (const char *norm : {"model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight",
                           "model.layers.0.post_attention_layernorm.weight"}) {
    std::vector<float> gains(32);
    for (size_t k = 0; k < gains.size(); ++k)
      gains[k] = k % 8 == 0 ? 12.0F : 0.3F;
    checkpoint.set(norm, {32}, gains);
  }
  return checkpoint;
}

class ScaleSearchTest : public testing::Test {
protected:
  mlir::OwningOpRef<mlir::ModuleOp> annotated(const Checkpoint &checkpoint, const std::string &recipe) {
    mlir::DialectRegistry registry;
    registerCodegenDialects(registry);
    context.appendDialectRegistry(registry);
    auto module = declareModel(context, checkpoint);
    EXPECT_TRUE(module.ok()) << module.status();
    mlir::PassManager passes(&context);
    passes.addPass(createAnnotate({.recipe = recipe}));
    EXPECT_TRUE(mlir::succeeded(passes.run(**module)));
    return std::move(*module);
  }

  std::vector<float> logits(mlir::ModuleOp module, const Checkpoint &checkpoint, Interpreter::Numerics numerics) {
    Interpreter interpreter(module, checkpoint, {.numerics = numerics});
    auto all = interpreter.logits(kTokens);
    EXPECT_TRUE(all.ok()) << all.status();
    return all->floats;
  }

  static double distance(const std::vector<float> &a, const std::vector<float> &b) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += (a[i] - b[i]) * (a[i] - b[i]);
      size += b[i] * b[i];
    }
    return std::sqrt(difference / size);
  }

  mlir::MLIRContext context;
};

TEST_F(ScaleSearchTest, TheModelStaysAndItsInt4FormComesNearer) {
  auto checkpoint = std::make_unique<FakeCheckpoint>(uneven());
  auto module = annotated(*checkpoint, "int4");
  std::vector<std::pair<uint64_t, uint64_t>> progress;
  auto search = searchScales(*module, *checkpoint, kTokens,
                             [&](uint64_t done, uint64_t total) { progress.emplace_back(done, total); });
  ASSERT_TRUE(search.ok()) << search.status();
  // Two norms and the gated product of each of two layers.
  ASSERT_THAT(search->choices, SizeIs(6));
  bool chosen = false;
  for (const ScaleChoice &choice : search->choices) {
    EXPECT_LE(choice.after, choice.before) << choice.folded;
    if (choice.folded == "model.layers.0.input_layernorm.weight") {
      EXPECT_THAT(choice.weights,
                  ElementsAre("model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.q_proj.weight",
                              "model.layers.0.self_attn.v_proj.weight"));
      EXPECT_LT(choice.after, 0.9 * choice.before);
      chosen = true;
    }
  }
  EXPECT_TRUE(chosen);
  EXPECT_EQ(progress.back().first, progress.back().second);
  // Attention's result is no linear function of one weight's rows where heads share them.
  ASSERT_THAT(search->declined, SizeIs(2));
  EXPECT_THAT(search->declined[0], HasSubstr("o_proj"));

  const auto exact = logits(*module, *checkpoint, Interpreter::Numerics::Fp32);
  const auto rounded = logits(*module, *checkpoint, Interpreter::Numerics::Device);
  auto scaled = rescaled(std::move(checkpoint), search->rescalings);
  // The same function: only fp32 roundings differ.
  EXPECT_LT(distance(logits(*module, *scaled, Interpreter::Numerics::Fp32), exact), 1e-5);
  EXPECT_LT(distance(logits(*module, *scaled, Interpreter::Numerics::Device), exact), distance(rounded, exact));
}

TEST_F(ScaleSearchTest, WithoutInt4ThereIsNothingToChoose) {
  FakeCheckpoint checkpoint = uneven();
  auto module = annotated(checkpoint, "w8a8");
  auto search = searchScales(*module, checkpoint, kTokens, [](uint64_t, uint64_t) {});
  EXPECT_THAT(search.status().message(), HasSubstr("no weight to int4"));
}

TEST_F(ScaleSearchTest, AWeightThatIsStoredQuantisedStaysAsItIs) {
  FakeCheckpoint checkpoint = uneven();
  auto module = annotated(checkpoint, "int4");
  mlir::SymbolTable symbols(*module);
  auto stored = symbols.lookup<llm::WeightOp>("model.layers.0.self_attn.k_proj.weight");
  stored.setStoredAttr(*stored.getScheme());
  auto search = searchScales(*module, checkpoint, kTokens, [](uint64_t, uint64_t) {});
  ASSERT_TRUE(search.ok()) << search.status();
  EXPECT_THAT(search->choices, SizeIs(5));
  EXPECT_FALSE(search->rescalings.contains("model.layers.0.input_layernorm.weight"));
  EXPECT_THAT(search->declined, testing::Contains(HasSubstr("k_proj.weight is stored quantised")));
}

} // namespace
} // namespace ingot
