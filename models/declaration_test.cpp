// Declarations: the module that a configuration gives, and the errors that a wrong configuration or checkpoint gives.
#include "models/declaration.h"

#include <cmath>

#include "compiler/checkpoint/synthetic.h"
#include "dialects/Sequences.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "models/config.h"
#include "models/rope.h"
#include "models/testing/fake_checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ingot {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class DeclarationTest : public testing::Test {
protected:
  std::string errorOf(const FakeCheckpoint &checkpoint, const DeclareOptions &options = {}) {
    auto module = declareModel(context_, checkpoint, options);
    return module.ok() ? "" : std::string(module.status().message());
  }
  /// The error after one key of the small configuration is set.
  std::string errorWith(const char *key, const nlohmann::json &value) {
    FakeCheckpoint checkpoint = FakeCheckpoint::small();
    checkpoint.editConfig()[key] = value;
    return errorOf(checkpoint);
  }
  mlir::MLIRContext context_;
};

TEST_F(DeclarationTest, MakesEveryFunctionAndSymbol) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  auto module = declareModel(context_, checkpoint, {.name = "small", .prefillChunk = 64});
  ASSERT_TRUE(module.ok()) << module.status();
  for (const char *name : {"prefill", "decode", "decode_greedy", "logits", "greedy", "sample"})
    EXPECT_TRUE((*module)->lookupSymbol<mlir::func::FuncOp>(name)) << name;
  auto weights = (*module)->getOps<llm::WeightOp>();
  // Every tensor once, and the inverse frequencies.
  EXPECT_EQ(static_cast<size_t>(std::distance(weights.begin(), weights.end())), checkpoint.tensors().size() + 1);
  auto states = (*module)->getOps<llm::StateOp>();
  EXPECT_EQ(std::distance(states.begin(), states.end()), 4);
  auto facts = llm::Facts::of(**module);
  EXPECT_EQ(facts.name, "small");
  EXPECT_EQ(facts.vocabulary, 40);
  EXPECT_EQ(facts.contextLength, 128);
  EXPECT_EQ(facts.prefillChunk, 64);
  EXPECT_THAT(facts.endOfSequence, ElementsAre(2));
}

TEST_F(DeclarationTest, StepsOfSeveralSequences) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  auto module = declareModel(context_, checkpoint, {.name = "", .streams = 4});
  ASSERT_TRUE(module.ok()) << module.status();
  for (const std::string kind : {"decode_greedy_", "decode_", "sample_"}) {
    for (int64_t rows : {2, 4}) {
      auto function = (*module)->lookupSymbol<mlir::func::FuncOp>(kind + std::to_string(rows));
      ASSERT_TRUE(function) << kind << rows;
      EXPECT_EQ(function.getNumResults(), kind == "decode_" ? 1U : 0U);
      EXPECT_EQ(llm::sequencesOf(function), rows);
      EXPECT_EQ(llm::sequencesOf(&function.getBody().front().front()), rows);
    }
    EXPECT_FALSE((*module)->lookupSymbol(kind + "8"));
  }
  EXPECT_EQ(llm::sequencesOf((*module)->lookupSymbol("decode")), 0);
  for (int64_t streams : {-1, 0, 3, 16})
    EXPECT_THAT(errorOf(checkpoint, {.name = "", .streams = streams}),
                HasSubstr("expected steps of 1, 2, 4 or 8 streams, got " + std::to_string(streams)));
}

TEST_F(DeclarationTest, OpsCarryLabels) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  auto module = declareModel(context_, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  std::vector<std::string> labels;
  (*module)->lookupSymbol<mlir::func::FuncOp>("decode").walk(
      [&](llm::LinearOp op) { labels.push_back(llm::labelOf(op)); });
  EXPECT_EQ(labels.size(), 15U);
  EXPECT_EQ(labels.at(8), "layers.1.self_attn.k_proj");
}

TEST_F(DeclarationTest, TextRoundTrips) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  auto module = declareModel(context_, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  std::string text, again;
  llvm::raw_string_ostream(text) << **module;
  auto parsed = mlir::parseSourceString<mlir::ModuleOp>(text, &context_);
  ASSERT_TRUE(parsed);
  llvm::raw_string_ostream(again) << *parsed;
  EXPECT_EQ(text, again);
}

TEST_F(DeclarationTest, TiedHeadReadsTheEmbedding) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  checkpoint.editConfig()["tie_word_embeddings"] = true;
  auto module = declareModel(context_, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  auto head = (*module)->lookupSymbol<llm::WeightOp>("lm_head.weight");
  EXPECT_EQ(head.getSource()->str(), "model.embed_tokens.weight");
  EXPECT_THAT(llm::Facts::of(**module).skippedTensors, ElementsAre("lm_head.weight"));
}

TEST_F(DeclarationTest, BiasesAndWindowFollowTheConfiguration) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  checkpoint.editConfig()["attention_bias"] = true;
  checkpoint.editConfig()["sliding_window"] = 5;
  EXPECT_THAT(errorOf(checkpoint), HasSubstr("tensor \"model.layers.0.self_attn.q_proj.bias\" is missing"));
  for (const char *layer : {"0", "1"})
    for (auto [name, size] : {std::pair("q", 32), std::pair("k", 16), std::pair("v", 16), std::pair("o", 32)})
      checkpoint.fill(std::string("model.layers.") + layer + ".self_attn." + name + "_proj.bias",
                      {static_cast<uint64_t>(size)});
  auto module = declareModel(context_, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  int biased = 0;
  (*module)->lookupSymbol<mlir::func::FuncOp>("prefill").walk(
      [&](llm::LinearOp op) { biased += static_cast<bool>(op.getPartBias(0)); });
  EXPECT_EQ(biased, 8);
  (*module)->walk([&](llm::AttentionOp op) { EXPECT_EQ(op.getWindow(), 5U); });
}

TEST_F(DeclarationTest, TensorsMustFit) {
  FakeCheckpoint missing = FakeCheckpoint::small();
  missing.erase("model.layers.1.mlp.up_proj.weight");
  EXPECT_THAT(errorOf(missing), HasSubstr("tensor \"model.layers.1.mlp.up_proj.weight\" is missing"));
  FakeCheckpoint wrong = FakeCheckpoint::small();
  wrong.fill("model.norm.weight", {33});
  EXPECT_THAT(errorOf(wrong), AllOf(HasSubstr("\"model.norm.weight\" has shape [33]"), HasSubstr("expected [32]")));
  FakeCheckpoint unknown = FakeCheckpoint::small();
  unknown.fill("model.layers.0.self_attn.q_norm.weight", {16});
  EXPECT_THAT(errorOf(unknown), HasSubstr("unknown tensor \"model.layers.0.self_attn.q_norm.weight\""));
}

TEST_F(DeclarationTest, FrequencyBuffersAreSkippedAndListed) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  checkpoint.fill("model.layers.0.self_attn.rotary_emb.inv_freq", {8});
  auto module = declareModel(context_, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_THAT(llm::Facts::of(**module).skippedTensors, ElementsAre("model.layers.0.self_attn.rotary_emb.inv_freq"));
}

TEST_F(DeclarationTest, FrequencyDivisorsAreApplied) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  checkpoint.set("rope_freqs.weight", {8}, {1, 1, 1, 1, 2, 4, 8, 8});
  auto module = declareModel(context_, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  auto values = (*module)->lookupSymbol<llm::WeightOp>("rope.inv_freq").getValue()->getValues<float>();
  EXPECT_FLOAT_EQ(values[0], 1.0F);
  EXPECT_FLOAT_EQ(values[4], 0.01F / 2);
  checkpoint.set("rope_freqs.weight", {8}, {1, 1, 1, 1, 0, 4, 8, 8});
  EXPECT_THAT(errorOf(checkpoint), HasSubstr("positive divisors"));
  checkpoint.set("rope_freqs.weight", {2}, {1, 1});
  EXPECT_THAT(errorOf(checkpoint), HasSubstr("8 divisors"));
}

TEST_F(DeclarationTest, WrongConfigurationsNameTheKey) {
  EXPECT_THAT(errorWith("model_type", "qwen9"), AllOf(HasSubstr("unknown architecture \"qwen9\""), HasSubstr("llama")));
  EXPECT_THAT(errorWith("model_type", 7), HasSubstr("`model_type` to be a string, got 7"));
  EXPECT_THAT(errorWith("hidden_size", "32"), HasSubstr("`hidden_size` to be a whole number"));
  EXPECT_THAT(errorWith("hidden_size", -1), HasSubstr("`hidden_size`"));
  EXPECT_THAT(errorWith("hidden_size", 1e30), HasSubstr("`hidden_size`"));
  EXPECT_THAT(errorWith("num_hidden_layers", nullptr), HasSubstr("`num_hidden_layers`"));
  EXPECT_THAT(errorWith("num_attention_heads", 3), HasSubstr("`num_attention_heads` to divide `hidden_size`"));
  EXPECT_THAT(errorWith("num_key_value_heads", 3), HasSubstr("`num_key_value_heads` to divide"));
  EXPECT_THAT(errorWith("head_dim", 24), HasSubstr("multiple of 16, got 24"));
  EXPECT_THAT(errorWith("hidden_act", "gelu"), HasSubstr("`hidden_act` silu"));
  EXPECT_THAT(errorWith("eos_token_id", 40), HasSubstr("`eos_token_id`"));
  EXPECT_THAT(errorWith("rope_scaling", {{"rope_type", "longrope"}}), HasSubstr("proportional, got \"longrope\""));
  EXPECT_THAT(errorWith("rope_scaling", {{"type", "linear"}}), HasSubstr("`factor`"));
  EXPECT_THAT(errorWith("rope_scaling", 3), HasSubstr("`rope_scaling` to be an object"));
  EXPECT_THAT(errorWith("rope_theta", 0), HasSubstr("`rope_theta`"));
  FakeCheckpoint array{nlohmann::json::array()};
  EXPECT_THAT(errorOf(array), HasSubstr("unknown architecture \"\""));
}

TEST_F(DeclarationTest, OptionsAreChecked) {
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  EXPECT_THAT(errorOf(checkpoint, {.name = "", .contextLength = 129}), HasSubstr("was made for 128"));
  EXPECT_THAT(errorOf(checkpoint, {.name = "", .prefillChunk = 0}), HasSubstr("at least 1"));
}

TEST(Frequencies, FollowTheirScaling) {
  const nlohmann::json plain = {{"rope_theta", 10000.0}};
  ConfigReader config(plain, "config");
  auto frequencies = readRotary(config, 8).frequencies;
  EXPECT_THAT(frequencies, ElementsAre(1.0F, 0.1F, 0.01F, 0.001F));

  const nlohmann::json linear = {{"rope_theta", 10000.0}, {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}};
  ConfigReader linearConfig(linear, "config");
  EXPECT_FLOAT_EQ(readRotary(linearConfig, 8).frequencies[1], 0.025F);

  // Wave lengths are 6.28, 62.8, 628 and 6283. Against 8192 / 4 = 2048 the first three stay; the last lies between 2048
  // and 8192: smooth = (8192 / 6283.19 - 1) / 3 = 0.101266, so it is 0.001 * (0.898734 / 8 + 0.101266).
  const nlohmann::json llama3 = {{"rope_parameters",
                                  {{"rope_type", "llama3"},
                                   {"rope_theta", 10000.0},
                                   {"factor", 8.0},
                                   {"low_freq_factor", 1.0},
                                   {"high_freq_factor", 4.0},
                                   {"original_max_position_embeddings", 8192}}}};
  ConfigReader llama3Config(llama3, "config");
  auto scaled = readRotary(llama3Config, 8).frequencies;
  ASSERT_TRUE(llama3Config.status().ok()) << llama3Config.status();
  EXPECT_FLOAT_EQ(scaled[2], 0.01F);
  EXPECT_NEAR(scaled[3], 0.000213608, 1e-8);

  // A quarter of 32 elements rotates, and its own 8 are the denominator.
  const nlohmann::json partial = {{"rope_parameters", {{"rope_theta", 10000.0}, {"partial_rotary_factor", 0.25}}}};
  ConfigReader partialConfig(partial, "config");
  EXPECT_EQ(readRotary(partialConfig, 32).dim, 8);
  EXPECT_THAT(readRotary(partialConfig, 32).frequencies, ElementsAre(1.0F, 0.1F, 0.01F, 0.001F));
  EXPECT_TRUE(partialConfig.status().ok());
  EXPECT_EQ(readRotary(partialConfig, 32).magnitude, 1);
  readRotary(partialConfig, 4); // one element
  EXPECT_THAT(std::string(partialConfig.status().message()), HasSubstr("`partial_rotary_factor`"));
}

// Ministral-3's: its ramp leads from frequency 20 to 37 of 64 (model card and transformers agree), each end included.
TEST(Frequencies, OfYarn) {
  nlohmann::json yarn = {{"rope_parameters",
                          {{"rope_type", "yarn"},
                           {"rope_theta", 1e6},
                           {"factor", 16.0},
                           {"original_max_position_embeddings", 16384},
                           {"beta_fast", 32.0},
                           {"beta_slow", 1.0},
                           {"mscale", 1.0},
                           {"mscale_all_dim", 1.0},
                           {"llama_4_scaling_beta", 0.1}}}};
  ConfigReader config(yarn, "config");
  Rotary rotary = readRotary(config, 128);
  ASSERT_TRUE(config.status().ok()) << config.status();
  const auto plain = [](int i) { return std::pow(1e6, -2 * i / 128.0); };
  EXPECT_FLOAT_EQ(rotary.frequencies[20], static_cast<float>(plain(20)));
  EXPECT_FLOAT_EQ(rotary.frequencies[21], static_cast<float>(plain(21) * (16.0 / 17 + 1.0 / 17 / 16)));
  EXPECT_FLOAT_EQ(rotary.frequencies[37], static_cast<float>(plain(37) / 16));
  EXPECT_FLOAT_EQ(rotary.frequencies[63], static_cast<float>(plain(63) / 16));
  EXPECT_EQ(rotary.magnitude, 1);
  EXPECT_FLOAT_EQ(rotary.temperature, 0.1F);
  EXPECT_EQ(rotary.every, 16384);

  // Without multipliers the attention factor is 1 + 0.1 ln 16, unless the configuration names it.
  yarn["rope_parameters"].erase("mscale");
  ConfigReader usual(yarn, "config");
  EXPECT_FLOAT_EQ(readRotary(usual, 128).magnitude, 1.2772589F);
  yarn["rope_parameters"]["attention_factor"] = 0.5;
  ConfigReader named(yarn, "config");
  EXPECT_FLOAT_EQ(readRotary(named, 128).magnitude, 0.5F);
}

// Gemma from its configuration alone, with made-up weights.
class GemmaTest : public testing::Test {
protected:
  static nlohmann::json gemma3() {
    return {{"model_type", "gemma3_text"},
            {"hidden_size", 1152},
            {"intermediate_size", 64},
            {"num_hidden_layers", 7},
            {"num_attention_heads", 2},
            {"num_key_value_heads", 1},
            {"head_dim", 32},
            {"vocab_size", 40},
            {"max_position_embeddings", 128},
            {"sliding_window", 8},
            {"query_pre_attn_scalar", 64}};
  }
  static nlohmann::json gemma4() {
    return {{"model_type", "gemma4_text"},
            {"hidden_size", 32},
            {"intermediate_size", 64},
            {"num_hidden_layers", 4},
            {"num_attention_heads", 2},
            {"num_key_value_heads", 2},
            {"head_dim", 16},
            {"global_head_dim", 32},
            {"num_global_key_value_heads", 1},
            {"attention_k_eq_v", true},
            {"vocab_size", 40},
            {"vocab_size_per_layer_input", 40},
            {"sliding_window", 8},
            {"hidden_size_per_layer_input", 16},
            {"num_kv_shared_layers", 2},
            {"layer_types", {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}}};
  }
  absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> declare(nlohmann::json config) {
    checkpoint_ = makeUp(std::move(config), "gemma", 1);
    return declareModel(context_, *checkpoint_);
  }
  std::string errorOf(nlohmann::json config, const char *key, const nlohmann::json &value) {
    config[key] = value;
    auto module = declare(std::move(config));
    return module.ok() ? "" : std::string(module.status().message());
  }
  template <typename Op> static std::vector<Op> opsOf(mlir::ModuleOp module) {
    std::vector<Op> ops;
    module.lookupSymbol<mlir::func::FuncOp>("decode").walk([&](Op op) { ops.push_back(op); });
    return ops;
  }
  mlir::MLIRContext context_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// sqrt(1152) is 33.94; in bf16 it is 34. The reference rounds it to what it holds the table in.
TEST_F(GemmaTest, EmbeddingScaleRoundsToTheTypeOfTheTable) {
  nlohmann::json config = gemma3();
  config["torch_dtype"] = "bfloat16";
  auto rounded = declare(config);
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  EXPECT_EQ(opsOf<llm::EmbedOp>(**rounded).at(0).getScale().convertToFloat(), 34.0F);
  config["torch_dtype"] = "float32";
  auto exact = declare(config);
  ASSERT_TRUE(exact.ok()) << exact.status();
  EXPECT_EQ(opsOf<llm::EmbedOp>(**exact).at(0).getScale().convertToFloat(), std::sqrt(1152.0F));
}

TEST_F(GemmaTest, EverySixthLayerSeesEverything) {
  auto module = declare(gemma3());
  ASSERT_TRUE(module.ok()) << module.status();
  std::vector<int64_t> windows;
  for (llm::AttentionOp op : opsOf<llm::AttentionOp>(**module)) {
    windows.push_back(static_cast<int64_t>(op.getWindow().value_or(0)));
    EXPECT_EQ(op.getScale().convertToFloat(), 0.125F);
  }
  EXPECT_THAT(windows, ElementsAre(8, 8, 8, 8, 8, 0, 8));
}

TEST_F(GemmaTest, LayersThatShareACacheReadTheLastOfTheirType) {
  auto module = declare(gemma4());
  ASSERT_TRUE(module.ok()) << module.status();
  std::vector<std::string> read;
  for (llm::AttentionOp op : opsOf<llm::AttentionOp>(**module)) {
    read.push_back(op.getKState().str());
    EXPECT_EQ(op.getScale().convertToFloat(), 1.0F);
  }
  EXPECT_THAT(read, ElementsAre("layers.0.k", "layers.1.k", "layers.0.k", "layers.1.k"));
  EXPECT_EQ(opsOf<llm::AppendOp>(**module).size(), 2U);
  for (const char *none : {"model.layers.1.self_attn.v_proj.weight", "model.layers.2.self_attn.k_proj.weight"})
    EXPECT_FALSE((*module)->lookupSymbol(none)) << none;
}

TEST_F(GemmaTest, ProportionalRotationLeavesTheRestOfAHead) {
  auto module = declare(gemma4());
  ASSERT_TRUE(module.ok()) << module.status();
  auto frequencies = llvm::cast<llm::WeightOp>((*module)->lookupSymbol("rope.inv_freq")).getValue();
  ASSERT_TRUE(frequencies);
  auto values = frequencies->getValues<float>();
  ASSERT_EQ(values.size(), 16U); // of heads of 32, a quarter of which rotates
  for (int i = 0; i < 16; ++i)
    EXPECT_FLOAT_EQ(values[i], i < 4 ? std::pow(1e6F, -static_cast<float>(i) / 16) : 0) << i;
}

TEST_F(GemmaTest, KeysThatTheGraphHasNot) {
  EXPECT_THAT(errorOf(gemma3(), "attn_logit_softcapping", 50.0), HasSubstr("expected no `attn_logit_softcapping`"));
  EXPECT_THAT(errorOf(gemma3(), "use_bidirectional_attention", true), HasSubstr("`use_bidirectional_attention`"));
  EXPECT_THAT(errorOf(gemma4(), "use_bidirectional_attention", "all"), HasSubstr("`use_bidirectional_attention`"));
  EXPECT_EQ(errorOf(gemma4(), "use_bidirectional_attention", "vision"), "");
  EXPECT_THAT(errorOf(gemma3(), "hidden_activation", "silu"), HasSubstr("gelu_pytorch_tanh, got \"silu\""));
  EXPECT_THAT(errorOf(gemma3(), "layer_types", {"full_attention"}), HasSubstr("`layer_types` to name 7 layers, got 1"));
  EXPECT_THAT(errorOf(gemma4(), "num_kv_shared_layers", 3), HasSubstr("num_kv_shared_layers"));
  EXPECT_THAT(errorOf(gemma4(), "global_head_dim", 520), HasSubstr("multiple of 16 up to 512, got 520"));
  EXPECT_THAT(errorOf(gemma4(), "hidden_size_per_layer_input", 24), HasSubstr("multiple of 16 up to 512, got 24"));
  EXPECT_THAT(errorOf(gemma4(), "rope_parameters", {{"full_attention", {{"rope_type", "other"}}}}),
              HasSubstr("\"other\""));
  EXPECT_THAT(errorOf(gemma3(), "rope_parameters", {{"rope_theta", 1e5}}), HasSubstr("by type of layer"));
  nlohmann::json experts = gemma4();
  experts["enable_moe_block"] = true;
  EXPECT_THAT(errorOf(experts, "num_experts", 4), HasSubstr("top_k_experts"));
}

} // namespace
} // namespace ingot
