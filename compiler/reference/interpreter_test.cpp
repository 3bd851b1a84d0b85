// Each op of the interpreter against values worked by hand, in both numerics; then whole models: prefill equals decode,
// and golden logits made with another framework.
#include "compiler/reference/interpreter.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "compiler/pack/quantize.h"
#include "compiler/reference/numerics.h"
#include "compiler/reference/sampler.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "models/declaration.h"
#include "models/testing/fake_checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ingot {
namespace {

using reference::philox;
using reference::quantizeRow;
using reference::roundBf16;
using reference::roundF16;
using testing::Each;
using testing::ElementsAre;
using testing::FloatEq;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

constexpr auto fp32 = Interpreter::Numerics::Fp32;
constexpr auto device = Interpreter::Numerics::Device;

//===--------------------------------------------------------------------------------------------------------------===//
// Numerics
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Numerics, RoundsToBf16HalfToEven) {
  EXPECT_EQ(roundBf16(1.0F), 1.0F);
  EXPECT_EQ(roundBf16(1.0F + 0x1p-8F), 1.0F);                     // a tie goes to the even neighbour below
  EXPECT_EQ(roundBf16(1.0F + 0x1p-7F + 0x1p-8F), 1.0F + 0x1p-6F); // and above
  EXPECT_EQ(roundBf16(1.0F + 0x1p-8F + 0x1p-20F), 1.0F + 0x1p-7F);
  EXPECT_EQ(roundBf16(-3.4e38F), -INFINITY); // above the largest bf16 by more than half a step
  EXPECT_TRUE(std::isnan(roundBf16(NAN)));
}

TEST(Numerics, RoundsToF16) {
  EXPECT_EQ(roundF16(1.0F + 0x1p-11F), 1.0F);
  EXPECT_EQ(roundF16(1.0F + 0x1p-10F + 0x1p-11F), 1.0F + 0x1p-9F);
  EXPECT_EQ(roundF16(65504.0F), 65504.0F);
  EXPECT_EQ(roundF16(65520.0F), INFINITY);
  EXPECT_EQ(roundF16(0x1p-24F), 0x1p-24F);
  EXPECT_EQ(roundF16(0x1p-25F), 0.0F);
  EXPECT_EQ(roundF16(-0x1.8p-24F), -0x1p-23F);
}

TEST(Numerics, QuantisesRows) {
  const float row[] = {-127, 63.5F, 64.5F, 1, 0};
  int8_t values[5];
  EXPECT_EQ(quantizeRow(row, values), 1.0F);
  EXPECT_THAT(values, ElementsAre(-127, 64, 64, 1, 0));
  const float zeros[] = {0, -0.0F};
  int8_t none[2] = {5, 5};
  EXPECT_EQ(quantizeRow(zeros, none), 0.0F);
  EXPECT_THAT(none, ElementsAre(0, 0));
}

// The packer has rounding code of its own, on purpose; both must mean the same numbers.
TEST(Numerics, AgreesWithThePacker) {
  uint32_t state = 7;
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> row(static_cast<size_t>(1 + trial % 100));
    for (float &x : row) {
      state = state * 1664525 + 1013904223;
      x = std::ldexp(static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31F, trial % 12 - 6);
    }
    std::vector<float> packed(row.size());
    ASSERT_TRUE(quantizeDequantizeRow(WeightScheme::Int8PerChannel, row, packed).ok());
    std::vector<int8_t> values(row.size());
    const float scale = quantizeRow(row, values);
    for (size_t k = 0; k < row.size(); ++k)
      EXPECT_EQ(packed[k], scale * static_cast<float>(values[k])) << trial << " " << k;
    ASSERT_TRUE(quantizeDequantizeRow(WeightScheme::Int8Group32, row, packed).ok());
    std::vector<float> groups = row;
    reference::quantizeDequantizeGroups(groups, 32, 127, -127, 127);
    EXPECT_EQ(packed, groups) << trial;
    using Storage = WeightScheme::Storage;
    using ScaleType = WeightScheme::ScaleType;
    for (uint32_t group : {0U, 32U, 64U, 128U}) {
      const ScaleType scales = group == 0 ? ScaleType::F32 : ScaleType::F16;
      auto agrees = [&](const WeightScheme &scheme, auto quantize) {
        ASSERT_TRUE(quantizeDequantizeRow(scheme, row, packed).ok());
        groups = row;
        quantize(groups, group);
        EXPECT_EQ(packed, groups) << trial << " " << describe(scheme);
      };
      agrees({.storage = Storage::Int4, .group = group, .scaleType = scales},
             [](std::span<float> values, int64_t of) { reference::quantizeDequantizeGroups(values, of, 7.5F, -8, 7); });
      agrees({.storage = Storage::Int4, .group = group, .zeroPoints = true, .scaleType = scales},
             reference::quantizeDequantizeAround);
      agrees({.storage = Storage::Fp8E4M3, .group = group}, reference::quantizeDequantizeFp8);
    }
    ASSERT_TRUE(quantizeDequantizeRow(WeightScheme::Bf16, row, packed).ok());
    for (size_t k = 0; k < row.size(); ++k)
      EXPECT_EQ(packed[k], roundBf16(row[k])) << trial << " " << k;
  }
}

// The first word of the published known answers for Philox4x32-10: all zeros. The counter's other words are always 0
// here.
TEST(Numerics, PhiloxGivesItsKnownAnswer) { EXPECT_EQ(philox(0, 0, 0), 0x6627E8D5U); }

//===--------------------------------------------------------------------------------------------------------------===//
// Sampling
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Sampler, ArgmaxTakesTheLowestOfEqual) {
  const float logits[] = {1, 3, 3, 2};
  EXPECT_EQ(reference::argmax(logits), 1);
}

class SamplerTest : public testing::Test {
protected:
  SamplerTest() {
    step.tokens = 1;
    step.temperature = 1;
    step.top_p = 1;
  }
  /// How often each of `logits` is chosen over many positions.
  std::vector<int> histogram(std::vector<float> logits, int draws = 4000) {
    std::vector<int> counts(logits.size());
    for (int position = 0; position < draws; ++position) {
      step.position = position;
      ++counts.at(reference::sample(logits, step));
    }
    return counts;
  }
  Step step = {};
};

TEST_F(SamplerTest, FollowsTheProbabilities) {
  // ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8; three standard deviations of 4000 draws are 92.
  auto counts = histogram({0, std::log(2.0F), std::log(5.0F)});
  EXPECT_NEAR(counts[0], 500, 92);
  EXPECT_NEAR(counts[1], 1000, 92);
  EXPECT_NEAR(counts[2], 2500, 92);
}

TEST_F(SamplerTest, TopKKeepsTheLowerIndexOfEqualLogits) {
  step.top_k = 2;
  auto counts = histogram({1, 5, 5, 5}, 200);
  EXPECT_EQ(counts[0] + counts[3], 0);
  EXPECT_GT(counts[1], 0);
  EXPECT_GT(counts[2], 0);
}

TEST_F(SamplerTest, TopPKeepsTheShortestPrefix) {
  // Probabilities 5/8, 2/8, 1/8: 0.6 needs one, 0.7 needs two.
  step.top_p = 0.6F;
  EXPECT_THAT(histogram({0, std::log(2.0F), std::log(5.0F)}, 200), ElementsAre(0, 0, 200));
  step.top_p = 0.7F;
  auto counts = histogram({0, std::log(2.0F), std::log(5.0F)}, 200);
  EXPECT_EQ(counts[0], 0);
  EXPECT_GT(counts[1], 20);
}

TEST_F(SamplerTest, LowTemperatureIsGreedy) {
  step.temperature = 1e-3F;
  EXPECT_THAT(histogram({0, 1, 0.5F}, 100), ElementsAre(0, 100, 0));
  step.temperature = 0;
  EXPECT_THAT(histogram({0, 1, 1}, 100), ElementsAre(0, 100, 0));
}

TEST_F(SamplerTest, SeedAndPositionDecide) {
  const std::vector<float> logits(64, 0.0F);
  step.position = 7;
  int32_t first = reference::sample(logits, step);
  EXPECT_EQ(reference::sample(logits, step), first);
  std::vector<int> seen(64);
  for (uint32_t seed = 0; seed < 64; ++seed) {
    step.seed[0] = seed;
    ++seen.at(reference::sample(logits, step));
  }
  EXPECT_LT(*std::max_element(seen.begin(), seen.end()), 10);
}

//===--------------------------------------------------------------------------------------------------------------===//
// Ops
//===--------------------------------------------------------------------------------------------------------------===//

class OpTest : public testing::Test {
protected:
  OpTest() { context_.loadDialect<llm::LlmDialect, mlir::func::FuncDialect>(); }

  /// An interpreter of this text. Weights have their values in the text.
  Interpreter &load(const std::string &text, Interpreter::Numerics numerics) {
    module_ = mlir::parseSourceString<mlir::ModuleOp>(text, &context_);
    EXPECT_TRUE(module_);
    interpreter_ = std::make_unique<Interpreter>(*module_, empty_, Interpreter::Options{.numerics = numerics});
    return *interpreter_;
  }
  static HostTensor tensor(int64_t rows, std::vector<float> values) {
    HostTensor tensor;
    tensor.rows = rows;
    tensor.columns = static_cast<int64_t>(values.size()) / rows;
    tensor.floats = std::move(values);
    return tensor;
  }
  static HostTensor ids(std::vector<int32_t> values) {
    HostTensor tensor;
    tensor.rows = static_cast<int64_t>(values.size());
    tensor.columns = 1;
    tensor.ids = std::move(values);
    return tensor;
  }
  static std::vector<float> floatsOf(const absl::StatusOr<HostTensor> &result) {
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->floats : std::vector<float>();
  }

  mlir::MLIRContext context_;
  FakeCheckpoint empty_{nlohmann::json::object()};
  mlir::OwningOpRef<mlir::ModuleOp> module_;
  std::unique_ptr<Interpreter> interpreter_;
};

TEST_F(OpTest, EmbedScalesRows) {
  const char *text = R"(
    llm.weight @t : tensor<2x2xf32> value dense<[[1.0, 2.0], [3.0, 1.00390625]]> : tensor<2x2xf32>
    func.func @f(%t: tensor<?xi32>) -> tensor<?x2xbf16> {
      %x = llm.embed %t, @t scale 2.0 : (tensor<?xi32>) -> tensor<?x2xbf16>
      return %x : tensor<?x2xbf16>
    })";
  EXPECT_THAT(floatsOf(load(text, fp32).run("f", ids({1, 0}))), ElementsAre(6, 2.0078125F, 2, 4));
  EXPECT_THAT(floatsOf(load(text, device).run("f", ids({1, 0}))), ElementsAre(6, 2, 2, 4));
  EXPECT_THAT(interpreter_->run("f", ids({2})).status().message(), HasSubstr("token 2 at index 0"));
  EXPECT_THAT(interpreter_->run("f", ids({-1})).status().message(), HasSubstr("outside the vocabulary of 2"));
  EXPECT_THAT(interpreter_->run("g", ids({0})).status().message(), HasSubstr("no function @g"));
  EXPECT_THAT(interpreter_->run("f", tensor(1, {0})).status().message(), HasSubstr("token ids"));
}

TEST_F(OpTest, NormRoundsOnce) {
  const char *text = R"(
    llm.weight @w : tensor<2xf32> value dense<[2.0, 0.5]> : tensor<2xf32>
    func.func @f(%x: tensor<?x2xbf16>) -> tensor<?x2xbf16> {
      %y = llm.rms_norm %x, @w eps 0.5 : tensor<?x2xbf16> -> tensor<?x2xbf16>
      return %y : tensor<?x2xbf16>
    })";
  // mean of squares 12.5, plus 0.5: 3 / sqrt(13) * 2 and 4 / sqrt(13) / 2.
  EXPECT_THAT(floatsOf(load(text, fp32).run("f", tensor(1, {3, 4}))),
              ElementsAre(FloatNear(1.66410059F, 1e-6F), FloatNear(0.55470020F, 1e-6F)));
  EXPECT_THAT(floatsOf(load(text, device).run("f", tensor(1, {3, 4}))), ElementsAre(1.6640625F, 0.5546875F));
}

TEST_F(OpTest, QuantiseAndItsFusionAgree) {
  const char *text = R"(
    llm.weight @w : tensor<4xf32> value dense<[1.5, 0.75, 1.25, 2.0]> : tensor<4xf32>
    func.func @chain(%x: tensor<?x4xbf16>) -> tensor<?x4xi8> {
      %n = llm.rms_norm %x, @w eps 1.0e-5 : tensor<?x4xbf16> -> tensor<?x4xbf16>
      %v, %s = llm.quantize %n : tensor<?x4xbf16> -> tensor<?x4xi8>, tensor<?xf32>
      return %v : tensor<?x4xi8>
    }
    func.func @fused(%x: tensor<?x4xbf16>) -> tensor<?x4xi8> {
      %v, %s = llm.rms_norm_quantize %x, @w eps 1.0e-5 : tensor<?x4xbf16> -> tensor<?x4xi8>, tensor<?xf32>
      return %v : tensor<?x4xi8>
    }
    func.func @plain(%x: tensor<?x4xbf16>) -> tensor<?xf32> {
      %v, %s = llm.quantize %x : tensor<?x4xbf16> -> tensor<?x4xi8>, tensor<?xf32>
      return %s : tensor<?xf32>
    })";
  HostTensor x = tensor(2, {1, -2, 0.5F, 3, 0.25F, 0.125F, -1, 0.75F});
  load(text, device);
  auto chain = interpreter_->run("chain", x);
  auto fused = interpreter_->run("fused", x);
  ASSERT_TRUE(chain.ok() && fused.ok());
  EXPECT_EQ(chain->int8s, fused->int8s);
  EXPECT_EQ(chain->int8s.at(3), 127);
  EXPECT_THAT(floatsOf(interpreter_->run("plain", x)), ElementsAre(3.0F / 127, 1.0F / 127));
}

TEST_F(OpTest, LinearAddsBiasAndRoundsToItsType) {
  const char *text = R"(
    llm.weight @w : tensor<2x3xf32> value dense<[[1.0, 2.0, 3.0], [0.5, 0.0, 0.0078125]]> : tensor<2x3xf32>
    llm.weight @b : tensor<2xf32> value dense<[10.0, 1.0]> : tensor<2xf32>
    func.func @wide(%x: tensor<?x3xbf16>) -> tensor<?x2xf32> {
      %y = llm.linear %x, @w : (tensor<?x3xbf16>) -> tensor<?x2xf32>
      return %y : tensor<?x2xf32>
    }
    func.func @biased(%x: tensor<?x3xbf16>) -> tensor<?x2xbf16> {
      %y = llm.linear %x, @w bias @b : (tensor<?x3xbf16>) -> tensor<?x2xbf16>
      return %y : tensor<?x2xbf16>
    })";
  HostTensor x = tensor(2, {1, 1, 1, 2, 0, 0.5F});
  for (auto numerics : {fp32, device}) {
    load(text, numerics);
    EXPECT_THAT(floatsOf(interpreter_->run("wide", x)), ElementsAre(6, 0.5078125F, 3.5F, 1.00390625F));
  }
  // 2.00390625 lies halfway between two bf16 numbers; the rest are exact.
  EXPECT_THAT(floatsOf(interpreter_->run("biased", x)), ElementsAre(16, 1.5078125F, 13.5F, 2));
}

TEST_F(OpTest, LinearInInt8) {
  const char *text = R"(
    llm.weight @w : tensor<1x2xf32> value dense<[[1.27, 0.333]]> : tensor<1x2xf32>
        {scheme = #llm.scheme<int8, activation = int8_per_token>}
    func.func @f(%x: tensor<?x2xbf16>) -> tensor<?x1xf32> {
      %v, %s = llm.quantize %x : tensor<?x2xbf16> -> tensor<?x2xi8>, tensor<?xf32>
      %y = llm.linear %v scales %s, @w : (tensor<?x2xi8>, tensor<?xf32>) -> tensor<?x1xf32>
      return %y : tensor<?x1xf32>
    }
    func.func @itself(%x: tensor<?x2xbf16>) -> tensor<?x1xf32> {
      %y = llm.linear %x quantized, @w : (tensor<?x2xbf16>) -> tensor<?x1xf32>
      return %y : tensor<?x1xf32>
    })";
  // Weight: scale 0.01, values 127 and 33. Rows: scale 2/127, values 127 and 64 (63.5 to even).
  HostTensor x = tensor(1, {2, 1});
  auto result = floatsOf(load(text, device).run("f", x));
  ASSERT_EQ(result.size(), 1U);
  EXPECT_FLOAT_EQ(result[0], (127 * 127 + 64 * 33) * 0.01F * (2.0F / 127));
  EXPECT_EQ(floatsOf(interpreter_->run("itself", x)), result);
  EXPECT_FLOAT_EQ(floatsOf(load(text, fp32).run("f", x))[0], 2.54F + 0.333F);
}

// e^-1 = 0.36787944, e^-2 = 0.13533528, e^-3 = 0.04978707: of [0, -1, -3, -2, -1] the shares are over
// 1 + 2 e^-1 + e^-2 + e^-3 = 1.92088123.
TEST_F(OpTest, RouteTakesTheLowestOfEqual) {
  const char *text = R"(
    func.func @shares(%l: tensor<?x5xf32>) -> tensor<?x3xf32> {
      %w, %i = llm.route %l top 3 : tensor<?x5xf32> -> tensor<?x3xf32>, tensor<?x3xi32>
      return %w : tensor<?x3xf32>
    }
    func.func @normalised(%l: tensor<?x5xf32>) -> tensor<?x3xf32> {
      %w, %i = llm.route %l top 3 normalize : tensor<?x5xf32> -> tensor<?x3xf32>, tensor<?x3xi32>
      return %w : tensor<?x3xf32>
    }
    func.func @indices(%l: tensor<?x5xf32>) -> tensor<?x3xi32> {
      %w, %i = llm.route %l top 3 : tensor<?x5xf32> -> tensor<?x3xf32>, tensor<?x3xi32>
      return %i : tensor<?x3xi32>
    })";
  load(text, fp32);
  const float nan = std::nanf(""), infinity = INFINITY;
  HostTensor x = tensor(3, {0, -1, -3, -2, -1, 7, 7, 7, 7, 7, nan, -infinity, 2, infinity, infinity});
  auto indices = interpreter_->run("indices", x);
  ASSERT_TRUE(indices.ok()) << indices.status();
  EXPECT_THAT(indices->ids, ElementsAre(0, 1, 4, 0, 1, 2, 3, 4, 2));
  auto near = [](float value) { return FloatNear(value, 1e-6F); };
  const float all = 1.92088123F, chosen = 1.73575888F; // 1 + 2 e^-1
  EXPECT_THAT(floatsOf(interpreter_->run("shares", x)),
              ElementsAre(near(1 / all), near(0.36787944F / all), near(0.36787944F / all), near(0.2F), near(0.2F),
                          near(0.2F), 0.5F, 0.5F, 0.0F));
  EXPECT_THAT(floatsOf(interpreter_->run("normalised", x)),
              ElementsAre(near(1 / chosen), near(0.36787944F / chosen), near(0.36787944F / chosen), near(1.0F / 3),
                          near(1.0F / 3), near(1.0F / 3), 0.5F, 0.5F, 0.0F));
}

// Logits are the operand itself, so rows choose experts 2, 0 and 1, 2. Experts are [[1, 0], [0, 1]], [[2, 0], [0, 2]]
// and
// [[0, 1], [1, 0]]: the row, the row twice, the row the other way round.
TEST_F(OpTest, ExpertsMultiplyWhatIsRoutedToThem) {
  const char *text = R"(
    llm.weight @three : tensor<3x2xf32> value dense<[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]> : tensor<3x2xf32>
    llm.weight @w : tensor<3x2x2xf32> value dense<[[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]],
                                                   [[0.0, 1.0], [1.0, 0.0]]]> : tensor<3x2x2xf32>
    func.func @f(%x: tensor<?x2xbf16>) -> tensor<?x2xf32> {
      %l = llm.linear %x, @three : (tensor<?x2xbf16>) -> tensor<?x3xf32>
      %w, %i = llm.route %l top 2 normalize : tensor<?x3xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
      %h = llm.linear %x experts %i, @w : (tensor<?x2xbf16>, tensor<?x2xi32>) -> tensor<?x2x2xbf16>
      %d = llm.linear %h experts %i, @w : (tensor<?x2x2xbf16>, tensor<?x2xi32>) -> tensor<?x2x2xf32>
      %y = llm.combine %d, %w : tensor<?x2x2xf32>, tensor<?x2xf32> -> tensor<?x2xf32>
      return %y : tensor<?x2xf32>
    }
    func.func @fused(%x: tensor<?x2xbf16>) -> tensor<?x2xf32> {
      %l = llm.linear %x, @three : (tensor<?x2xbf16>) -> tensor<?x3xf32>
      %w, %i = llm.route %l top 2 normalize : tensor<?x3xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
      %h = llm.linear %x experts %i, @w : (tensor<?x2xbf16>, tensor<?x2xi32>) -> tensor<?x2x2xbf16>
      %y = llm.linear %h experts %i, @w : (tensor<?x2x2xbf16>, tensor<?x2xi32>) -> tensor<?x2xf32>
          epilogue(%p: tensor<?x2x2xf32>) {
        %c = llm.combine %p, %w : tensor<?x2x2xf32>, tensor<?x2xf32> -> tensor<?x2xf32>
        llm.yield %c : tensor<?x2xf32>
      }
      return %y : tensor<?x2xf32>
    })";
  // Logits of [4, 4 - 2 ln 3]: 4, 4 - 2 ln 3, 4 - ln 3, so experts 0 and 2 with the shares 3/4 and 1/4; both applied
  // twice give the row back. Of [-8, 8]: experts 1 (8) and 2 (0), shares 1 / (1 + e^-8) and the rest; expert 1 twice is
  // 4 times.
  const float low = 4 - 2 * std::log(3.0F), much = 0.99966465F;
  HostTensor x = tensor(2, {4, low, -8, 8});
  load(text, fp32);
  for (const char *function : {"f", "fused"})
    EXPECT_THAT(floatsOf(interpreter_->run(function, x)),
                Pointwise(FloatNear(1e-4F), {4.0F, low, -8 * (1 + 3 * much), 8 * (1 + 3 * much)}))
        << function;
}

// A row for each expert has a scale of its own: 2/127 and 4/127.
TEST_F(OpTest, QuantisesARowForEachExpert) {
  const char *text = R"(
    llm.weight @two : tensor<2x2xf32> value dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>
    llm.weight @w : tensor<2x1x2xf32> value dense<[[[1.27, 0.333]], [[1.27, 0.0]]]> : tensor<2x1x2xf32>
        {scheme = #llm.scheme<int8, activation = int8_per_token>}
    llm.weight @both : tensor<2x2x2xf32> value dense<[[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]]]> : tensor<2x2x2xf32>
    func.func @f(%x: tensor<?x2xbf16>) -> tensor<?x1xf32> {
      %l = llm.linear %x, @two : (tensor<?x2xbf16>) -> tensor<?x2xf32>
      %w, %i = llm.route %l top 2 : tensor<?x2xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
      %h = llm.linear %x experts %i, @both : (tensor<?x2xbf16>, tensor<?x2xi32>) -> tensor<?x2x2xbf16>
      %q, %s = llm.quantize %h : tensor<?x2x2xbf16> -> tensor<?x2x2xi8>, tensor<?x2xf32>
      %d = llm.linear %q scales %s experts %i, @w : (tensor<?x2x2xi8>, tensor<?x2xf32>, tensor<?x2xi32>) -> tensor<?x2x1xf32>
      %y = llm.combine %d, %w : tensor<?x2x1xf32>, tensor<?x2xf32> -> tensor<?x1xf32>
      return %y : tensor<?x1xf32>
    })";
  // Row [2, 1]: experts 0 and 1, shares e / (1 + e) and 1 / (1 + e). Values 127 and 64 for both (63.5 to even).
  const float share = 0.73105858F;
  const float first = (127 * 127 + 64 * 33) * 0.01F * (2.0F / 127), second = 127 * 127 * 0.01F * (4.0F / 127);
  auto result = floatsOf(load(text, device).run("f", tensor(1, {2, 1})));
  ASSERT_EQ(result.size(), 1U);
  EXPECT_NEAR(result[0], share * first + (1 - share) * second, 1e-5F);
}

TEST_F(OpTest, GroupsHaveF16Scales) {
  // One group of 32 whose largest magnitude is 1: scale f16(1/127) = 0.00787353515625.
  std::string values = "1.0, 0.5";
  for (int i = 2; i < 32; ++i)
    values += ", 0.0";
  const std::string text = R"(
    llm.weight @w : tensor<1x32xf32> value dense<[[)" +
                           values + R"(]]> : tensor<1x32xf32> {scheme = #llm.scheme<int8, group = 32>}
    func.func @f(%x: tensor<?x32xbf16>) -> tensor<?x1xf32> {
      %y = llm.linear %x, @w : (tensor<?x32xbf16>) -> tensor<?x1xf32>
      return %y : tensor<?x1xf32>
    })";
  std::vector<float> first(32, 0.0F), second(32, 0.0F);
  first[0] = second[1] = 1;
  load(text, device);
  const float scale = 0.00787353515625F;
  EXPECT_FLOAT_EQ(floatsOf(interpreter_->run("f", tensor(1, first)))[0], 127 * scale);
  EXPECT_FLOAT_EQ(floatsOf(interpreter_->run("f", tensor(1, second)))[0], 64 * scale);
}

TEST_F(OpTest, RopePairsHalves) {
  const char *text = R"(
    llm.weight @f : tensor<2xf32> value dense<[1.0, 0.0]> : tensor<2xf32>
    func.func @whole(%x: tensor<?x4xbf16>) -> tensor<?x4xbf16> {
      %y = llm.rope %x, @f heads 1 head_dim 4 : tensor<?x4xbf16> -> tensor<?x4xbf16>
      return %y : tensor<?x4xbf16>
    }
    func.func @part(%x: tensor<?x6xbf16>) -> tensor<?x6xbf16> {
      %y = llm.rope %x, @f heads 1 head_dim 6 rotary_dim 4 : tensor<?x6xbf16> -> tensor<?x6xbf16>
      return %y : tensor<?x6xbf16>
    })";
  load(text, fp32);
  interpreter_->step().position = 1;
  // Rows stand at positions 1 and 2. Element 0 pairs with 2 by the angle; element 1 with 3 by none.
  const float c1 = std::cos(1.0F), s1 = std::sin(1.0F), c2 = std::cos(2.0F), s2 = std::sin(2.0F);
  EXPECT_THAT(floatsOf(interpreter_->run("whole", tensor(2, {1, 2, 3, 4, 1, 2, 3, 4}))),
              Pointwise(FloatEq(), {c1 - 3 * s1, 2.0F, 3 * c1 + s1, 4.0F, c2 - 3 * s2, 2.0F, 3 * c2 + s2, 4.0F}));
  EXPECT_THAT(floatsOf(interpreter_->run("part", tensor(1, {1, 2, 3, 4, 5, 6}))),
              Pointwise(FloatEq(), {c1 - 3 * s1, 2.0F, 3 * c1 + s1, 4.0F, 5.0F, 6.0F}));
}

TEST_F(OpTest, RopeScales) {
  load(R"(
    llm.weight @f : tensor<1xf32> value dense<1.0> : tensor<1xf32>
    func.func @scaled(%x: tensor<?x3xf32>) -> tensor<?x3xbf16> {
      %y = llm.rope %x, @f heads 1 head_dim 3 rotary_dim 2 magnitude 2.0 temperature 0.5 every 10 : tensor<?x3xf32> -> tensor<?x3xbf16>
      return %y : tensor<?x3xbf16>
    })",
       fp32);
  interpreter_->step().position = 19;
  // At 19 the step is floor(19 / 10) = 1, at 20 it is 2. The magnitude is not of what does not rotate.
  const float warm = 1 + 0.5F * std::log(2.0F), warmer = 1 + 0.5F * std::log(3.0F);
  EXPECT_THAT(floatsOf(interpreter_->run("scaled", tensor(2, {1, 0, 4, 0, 1, 4}))),
              Pointwise(FloatNear(1e-6F), {2 * std::cos(19.0F) * warm, 2 * std::sin(19.0F) * warm, 4 * warm,
                                           -2 * std::sin(20.0F) * warmer, 2 * std::cos(20.0F) * warmer, 4 * warmer}));
}

/// A function that appends its rows as keys and values of `kvHeads` heads and attends with them as queries.
std::string attentionText(const std::string &window) {
  return R"(
    llm.state @k key : tensor<?x1x16xbf16>
    llm.state @v value : tensor<?x1x16xbf16>
    func.func @f(%x: tensor<?x16xbf16>) -> tensor<?x16xbf16> {
      llm.append %x, %x, @k, @v kv_heads 1 head_dim 16 : tensor<?x16xbf16>, tensor<?x16xbf16>
      %y = llm.attention %x, @k, @v heads 1 kv_heads 1 head_dim 16 scale 1.0 )" +
         window + R"( : tensor<?x16xbf16>
      return %y : tensor<?x16xbf16>
    })";
}

std::vector<float> unitRow(int64_t index, float value) {
  std::vector<float> row(16, 0.0F);
  row.at(index) = value;
  return row;
}

TEST_F(OpTest, AttentionIsCausal) {
  load(attentionText(""), fp32);
  HostTensor x = tensor(1, unitRow(0, 1));
  x.rows = 2;
  auto second = unitRow(1, 2);
  x.floats.insert(x.floats.end(), second.begin(), second.end());
  auto y = floatsOf(interpreter_->run("f", x));
  ASSERT_EQ(y.size(), 32U);
  // The first row sees only itself; the second has scores 0 and 4.
  EXPECT_FLOAT_EQ(y[0], 1);
  const float p = 1 / (1 + std::exp(-4.0F));
  EXPECT_NEAR(y[16], 1 - p, 1e-6);
  EXPECT_NEAR(y[17], 2 * p, 1e-6);
}

TEST_F(OpTest, AttentionKeepsItsCacheAndWindow) {
  load(attentionText("window 2"), fp32);
  for (int64_t position = 0; position < 3; ++position) {
    interpreter_->step().position = static_cast<int32_t>(position);
    auto y = floatsOf(interpreter_->run("f", tensor(1, unitRow(position, 1))));
    ASSERT_EQ(y.size(), 16U);
    // Its own key scores 1 and the one before 0; what is older than the window does not count.
    const float own = position == 0 ? 1 : 1 / (1 + std::exp(-1.0F));
    EXPECT_NEAR(y[position], own, 1e-6);
    EXPECT_NEAR(std::accumulate(y.begin(), y.end(), 0.0F), 1, 1e-6);
    if (position == 2)
      EXPECT_EQ(y[0], 0);
  }
}

TEST_F(OpTest, AttentionSharesKvHeadsAmongNeighbours) {
  load(R"(
    llm.state @k key : tensor<?x2x16xbf16>
    llm.state @v value : tensor<?x2x16xbf16>
    llm.weight @id : tensor<64x32xf32> value dense<0.0> : tensor<64x32xf32>
    func.func @f(%x: tensor<?x32xbf16>) -> tensor<?x64xbf16> {
      llm.append %x, %x, @k, @v kv_heads 2 head_dim 16 : tensor<?x32xbf16>, tensor<?x32xbf16>
      %q = llm.linear %x, @id : (tensor<?x32xbf16>) -> tensor<?x64xbf16>
      %y = llm.attention %q, @k, @v heads 4 kv_heads 2 head_dim 16 scale 1.0 : tensor<?x64xbf16>
      return %y : tensor<?x64xbf16>
    })",
       fp32);
  std::vector<float> row(32, 0.0F);
  row[0] = 3;  // kv head 0
  row[16] = 7; // kv head 1
  auto y = floatsOf(interpreter_->run("f", tensor(1, row)));
  ASSERT_EQ(y.size(), 64U);
  EXPECT_THAT((std::vector<float>{y[0], y[16], y[32], y[48]}), ElementsAre(3, 3, 7, 7));
}

// Of one position, attention gives back the values as the cache holds them, each head of them with a scale of its own.
TEST_F(OpTest, CachesOfCodesRoundHeads) {
  auto held = [&](const std::string &element) {
    load("llm.state @k key : tensor<?x2x16x" + element + ">\nllm.state @v value : tensor<?x2x16x" + element + R"(>
    func.func @f(%x: tensor<?x32xbf16>) -> tensor<?x32xbf16> {
      llm.append %x, %x, @k, @v kv_heads 2 head_dim 16 : tensor<?x32xbf16>, tensor<?x32xbf16>
      %y = llm.attention %x, @k, @v heads 2 kv_heads 2 head_dim 16 scale 1.0 : tensor<?x32xbf16>
      return %y : tensor<?x32xbf16>
    })",
         fp32);
    std::vector<float> row(32, 0.0F);
    row[0] = -2;
    row[1] = 1;
    row[2] = 0.3F;
    row[16] = 1024; // of the other head
    auto y = floatsOf(interpreter_->run("f", tensor(1, row)));
    return std::vector<float>{y.at(0), y.at(1), y.at(2), y.at(3), y.at(16)};
  };
  // 63.5 goes to the even 64; 19.05 to 19.
  EXPECT_THAT(held("i8"), Pointwise(FloatNear(1e-6F), {-2.0F, 128.0F / 127, 38.0F / 127, 0.0F, 1024.0F}));
  // E4M3 has 224; of 67.2 it keeps 64, since numbers from 64 to 128 are 8 apart.
  EXPECT_THAT(held("f8E4M3FN"), Pointwise(FloatNear(1e-6F), {-2.0F, 1.0F, 128.0F / 448, 0.0F, 1024.0F}));
}

TEST_F(OpTest, ShortConvRemembersRows) {
  std::string taps = "[0.5, 2.0, 4.0]";
  for (int c = 1; c < 16; ++c)
    taps += ", [0.0, 0.0, 1.0]";
  load("llm.weight @w : tensor<16x3xf32> value dense<[" + taps + R"(]> : tensor<16x3xf32>
    llm.state @c conv : tensor<2x16xf32>
    func.func @f(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
      %y = llm.short_conv %x, @w, @c : tensor<?x16xf32>
      return %y : tensor<?x16xf32>
    })",
       fp32);
  const auto silu = [](float x) { return x / (1 + std::exp(-x)); };
  const auto rows = [](std::vector<float> firstColumn) {
    std::vector<float> values(firstColumn.size() * 16, -1.0F);
    for (size_t t = 0; t < firstColumn.size(); ++t)
      values[16 * t] = firstColumn[t];
    return tensor(static_cast<int64_t>(firstColumn.size()), values);
  };
  auto first = floatsOf(interpreter_->run("f", rows({1})));
  ASSERT_EQ(first.size(), 16U);
  EXPECT_FLOAT_EQ(first[0], silu(4)); // nothing came before
  EXPECT_FLOAT_EQ(first[5], silu(-1));
  // The state now ends with 1. Fewer rows than it holds shift it, more replace it.
  auto next = floatsOf(interpreter_->run("f", rows({-0.5F, 0.25F, 0.125F})));
  ASSERT_EQ(next.size(), 48U);
  EXPECT_FLOAT_EQ(next[0], silu(4 * -0.5F + 2 * 1));
  EXPECT_FLOAT_EQ(next[16], silu(4 * 0.25F + 2 * -0.5F + 0.5F * 1));
  EXPECT_FLOAT_EQ(next[32], silu(4 * 0.125F + 2 * 0.25F + 0.5F * -0.5F));
  EXPECT_FLOAT_EQ(floatsOf(interpreter_->run("f", rows({0}))).at(0), silu(2 * 0.125F + 0.5F * 0.25F));
  interpreter_->reset();
  EXPECT_EQ(floatsOf(interpreter_->run("f", rows({1}))), first);
}

/// A delta rule of one key head and two value heads, 16 elements each, whose operands are rows of tables.
std::string deltaText(const std::vector<std::vector<float>> &qkv, const std::vector<std::vector<float>> &b,
                      const std::vector<std::vector<float>> &a) {
  std::string text;
  const auto table = [&](const std::string &name, const std::vector<std::vector<float>> &rows) {
    const std::string type = absl::StrCat("tensor<", rows.size(), "x", rows.front().size(), "xf32>");
    std::vector<std::string> lines;
    lines.reserve(rows.size());
    for (const auto &row : rows)
      lines.push_back(absl::StrCat(
          "[", absl::StrJoin(row, ", ", [](std::string *out, float x) { absl::StrAppendFormat(out, "%.9e", x); }),
          "]"));
    absl::StrAppend(&text, "llm.weight @", name, " : ", type, " value dense<[", absl::StrJoin(lines, ", "),
                    "]> : ", type, "\n");
  };
  table("qkv", qkv);
  table("b", b);
  table("a", a);
  return text + R"(
    llm.weight @decay : tensor<2xf32> value dense<[-1.0, -2.0]> : tensor<2xf32>
    llm.weight @dt : tensor<2xf32> value dense<[0.5, -100.0]> : tensor<2xf32>
    llm.state @s recurrent : tensor<2x16x16xf32>
    func.func @f(%t: tensor<?xi32>) -> tensor<?x32xf32> {
      %x = llm.embed %t, @qkv : (tensor<?xi32>) -> tensor<?x64xf32>
      %b = llm.embed %t, @b : (tensor<?xi32>) -> tensor<?x2xf32>
      %a = llm.embed %t, @a : (tensor<?xi32>) -> tensor<?x2xf32>
      %y = llm.delta_rule %x, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 16
          : tensor<?x64xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    })";
}

// Keys along one axis, so that a state is one row: what it holds is halved (or kept), and half of what is missing to
// the new value is added. Norms of 1000 make the eps of theirs vanish.
TEST_F(OpTest, DeltaRuleCorrectsWhatItRemembers) {
  std::vector<std::vector<float>> qkv(2, std::vector<float>(64, 0.0F));
  for (auto &row : qkv) {
    row[3] = 1000;       // q
    row[16 + 3] = -1000; // k
  }
  qkv[0][32 + 1] = 8;  // v of head 0
  qkv[0][48 + 2] = 16; // v of head 1
  // beta is 1/2 of head 0 in both rows, and 1 of head 1. Head 0: softplus(0) = ln 2; head 1: softplus(-100) = 0.
  load(deltaText(qkv, {{0, 100}, {0, 100}}, {{-0.5F, 0}, {-0.5F, 0}}), fp32);
  auto y = floatsOf(interpreter_->run("f", ids({0, 1})));
  ASSERT_EQ(y.size(), 64U);
  std::vector<float> wanted(64, 0.0F);
  // q^T S with q = e3 / 4 and S = -e3 d^T.
  wanted[1] = -0.25F * 4;       // d = (8 - 0) / 2
  wanted[16 + 2] = -0.25F * 16; // d = 16
  wanted[32 + 1] = -0.25F * 1;  // 4 decays to 2, and half of it goes
  wanted[48 + 2] = 0;           // nothing decays, and all of it goes
  EXPECT_THAT(y, Pointwise(FloatNear(2e-6F), wanted));
  // One row at a time is the same; a new sequence has forgotten.
  interpreter_->reset();
  auto first = floatsOf(interpreter_->run("f", ids({0}))), second = floatsOf(interpreter_->run("f", ids({1})));
  first.insert(first.end(), second.begin(), second.end());
  EXPECT_EQ(first, y);
  interpreter_->reset();
  EXPECT_THAT(floatsOf(interpreter_->run("f", ids({1}))), Each(0));
}

TEST_F(OpTest, DeltaRuleOfZerosAndStrongDecay) {
  // A row of zeros has no direction and changes nothing but by decay, which at -1 * softplus(200.5) forgets it all.
  std::vector<std::vector<float>> qkv(3, std::vector<float>(64, 0.0F));
  qkv[0][0] = qkv[2][0] = 1000;
  qkv[0][16] = 1000;
  qkv[0][32] = 2;
  load(deltaText(qkv, {{100, 100}, {0, 0}, {-100, -100}}, {{-100, 0}, {200, 0}, {-100, 0}}), fp32);
  auto y = floatsOf(interpreter_->run("f", ids({0, 1, 2})));
  ASSERT_EQ(y.size(), 96U);
  EXPECT_NEAR(y[0], 0.5F, 2e-6F);
  y[0] = 0;
  EXPECT_THAT(y, Each(FloatNear(0, 1e-30F)));
}

TEST_F(OpTest, AttentionWithoutKeysIsAnError) {
  load(R"(
    llm.state @k key : tensor<?x1x16xbf16>
    llm.state @v value : tensor<?x1x16xbf16>
    func.func @f(%x: tensor<?x16xbf16>) -> tensor<?x16xbf16> {
      %y = llm.attention %x, @k, @v heads 1 kv_heads 1 head_dim 16 scale 1.0 : tensor<?x16xbf16>
      return %y : tensor<?x16xbf16>
    })",
       fp32);
  EXPECT_THAT(interpreter_->run("f", tensor(1, unitRow(0, 1))).status().message(), HasSubstr("llm.append must come"));
}

TEST_F(OpTest, ElementwiseOps) {
  const char *text = R"(
    func.func @silu(%x: tensor<?x2xbf16>) -> tensor<?x2xbf16> {
      %s = llm.add %x, %x : tensor<?x2xbf16>
      %y = llm.gated_mul silu %x, %s : tensor<?x2xbf16>, tensor<?x2xbf16> -> tensor<?x2xbf16>
      return %y : tensor<?x2xbf16>
    }
    func.func @last(%x: tensor<?x2xbf16>) -> tensor<1x2xbf16> {
      %y = llm.last_token %x : tensor<?x2xbf16> -> tensor<1x2xbf16>
      return %y : tensor<1x2xbf16>
    })";
  load(text, fp32);
  EXPECT_THAT(floatsOf(interpreter_->run("silu", tensor(1, {1, -2}))),
              ElementsAre(FloatNear(2 / (1 + std::exp(-1.0F)), 1e-6F), FloatNear(8 / (1 + std::exp(2.0F)), 1e-6F)));
  EXPECT_THAT(floatsOf(interpreter_->run("last", tensor(2, {1, 2, 3, 4}))), ElementsAre(3, 4));
}

TEST_F(OpTest, GatesAndCap) {
  load(R"(
    func.func @gelu(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
      %y = llm.gated_mul gelu_tanh %x, %x : tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x2xf32>
      return %y : tensor<?x2xf32>
    }
    func.func @sigmoid(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
      %y = llm.gated_mul sigmoid %x, %x : tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x2xf32>
      return %y : tensor<?x2xf32>
    }
    llm.weight @sum : tensor<1x2xf32> value dense<1.0> : tensor<1x2xf32>
    func.func @one_gate(%x: tensor<?x2xbf16>) -> tensor<?x2xf32> {
      %g = llm.linear %x, @sum : (tensor<?x2xbf16>) -> tensor<?x1xf32>
      %y = llm.gated_mul sigmoid %g, %x : tensor<?x1xf32>, tensor<?x2xbf16> -> tensor<?x2xf32>
      return %y : tensor<?x2xf32>
    }
    func.func @cap(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
      %y = llm.softcap %x cap 2.0 : tensor<?x2xf32>
      return %y : tensor<?x2xf32>
    })",
       fp32);
  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) at 1 and -2 is 0.841192 and -0.0454023.
  EXPECT_THAT(floatsOf(interpreter_->run("gelu", tensor(1, {1, -2}))),
              ElementsAre(FloatNear(0.841192F, 1e-6F), FloatNear(0.0908046F, 1e-6F)));
  EXPECT_THAT(floatsOf(interpreter_->run("sigmoid", tensor(1, {0, -1}))),
              ElementsAre(0, FloatNear(-1 / (1 + std::exp(1.0F)), 1e-6F)));
  EXPECT_THAT(floatsOf(interpreter_->run("one_gate", tensor(2, {3, -3, 1, 1}))),
              ElementsAre(1.5F, -1.5F, FloatNear(1 / (1 + std::exp(-2.0F)), 1e-6F),
                          FloatNear(1 / (1 + std::exp(-2.0F)), 1e-6F)));
  EXPECT_THAT(floatsOf(interpreter_->run("cap", tensor(1, {0, 2}))),
              ElementsAre(0, FloatNear(2 * std::tanh(1.0F), 1e-6F)));
}

// Each head by its own mean square, alone and in the body of llm.heads.
TEST_F(OpTest, NormOfHeads) {
  load(R"(
    llm.weight @w : tensor<16xf32> value dense<2.0> : tensor<16xf32>
    func.func @alone(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
      %y = llm.rms_norm %x, @w eps 0.0 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    func.func @inside(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
      %y = llm.heads(%x) : (tensor<?x32xf32>) -> tensor<?x32xf32> body(%a: tensor<?x32xf32>) {
        %n = llm.rms_norm %a, @w eps 0.0 heads 2 : tensor<?x32xf32> -> tensor<?x32xf32>
        llm.yield %n : tensor<?x32xf32>
      }
      return %y : tensor<?x32xf32>
    })",
       device);
  std::vector<float> x(32, 3.0F), wanted(32, 2.0F);
  std::fill(x.begin() + 16, x.end(), -0.5F);
  std::fill(wanted.begin() + 16, wanted.end(), -2.0F);
  EXPECT_THAT(floatsOf(interpreter_->run("alone", tensor(1, x))), Pointwise(FloatNear(1e-6F), wanted));
  EXPECT_THAT(floatsOf(interpreter_->run("inside", tensor(1, x))), Pointwise(FloatNear(1e-6F), wanted));
}

TEST_F(OpTest, OtherDialectsAreRefusedByName) {
  context_.allowUnregisteredDialects();
  load("func.func @f(%x: tensor<?x2xbf16>) -> tensor<?x2xbf16> {\n"
       "%y = \"other.op\"(%x) : (tensor<?x2xbf16>) -> tensor<?x2xbf16>\nreturn %y : tensor<?x2xbf16> }",
       fp32);
  EXPECT_THAT(interpreter_->run("f", tensor(1, {1, 2})).status().message(), HasSubstr("no op other.op"));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Models
//===--------------------------------------------------------------------------------------------------------------===//

double relativeError(std::span<const float> got, std::span<const float> expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

TEST(Model, PrefillDecodeAndLogitsAgree) {
  mlir::MLIRContext context;
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  auto module = declareModel(context, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  const std::vector<int32_t> tokens = {1, 7, 39, 0, 12, 12, 5};
  for (auto numerics : {fp32, device}) {
    Interpreter interpreter(**module, checkpoint, {.numerics = numerics});
    auto all = interpreter.logits(tokens);
    ASSERT_TRUE(all.ok()) << all.status();
    interpreter.reset();
    auto last = interpreter.prefill(tokens);
    ASSERT_TRUE(last.ok()) << last.status();
    EXPECT_EQ(interpreter.step().position, 7);
    EXPECT_LT(relativeError(last->floats, all->row(6)), 1e-6);
    interpreter.reset();
    for (size_t i = 0; i < tokens.size(); ++i) {
      auto one = interpreter.decode(tokens[i]);
      ASSERT_TRUE(one.ok()) << one.status();
      EXPECT_LT(relativeError(one->floats, all->row(static_cast<int64_t>(i))), 1e-6) << i;
    }
    // In chunks.
    interpreter.reset();
    ASSERT_TRUE(interpreter.prefill(std::span(tokens).first(4)).ok());
    auto rest = interpreter.prefill(std::span(tokens).subspan(4));
    ASSERT_TRUE(rest.ok());
    EXPECT_LT(relativeError(rest->floats, last->floats), 1e-6);
  }
}

TEST(Model, GreedyAdvancesTheStep) {
  mlir::MLIRContext context;
  FakeCheckpoint checkpoint = FakeCheckpoint::small();
  auto module = declareModel(context, checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  Interpreter interpreter(**module, checkpoint, {});
  HostTensor tokens;
  tokens.rows = 3;
  tokens.columns = 1;
  tokens.ids = {4, 5, 6};
  int observed = 0;
  interpreter.observe([&](mlir::Operation *, std::span<const HostTensor>) { ++observed; });
  auto logits = interpreter.run("prefill", tokens);
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_EQ(observed, 36); // embed, 16 a layer, last_token, norm, head
  ASSERT_TRUE(interpreter.run("greedy", *logits).ok());
  EXPECT_THAT(interpreter.output(), ElementsAre(reference::argmax(logits->floats)));
  EXPECT_EQ(interpreter.step().position, 3);
  EXPECT_EQ(interpreter.step().tokens, 1);
  EXPECT_EQ(interpreter.step().generated, 1);
}

struct Golden {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  std::vector<float> draftLogits; // empty where the case has none
};

/// Reads `tokens` (I64 [n]), `logits` (F32 [n, V]) and, where they are there, `mtp_logits` (F32 [n - 1, V]). The file
/// is the repository's own.
Golden readGolden(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  uint64_t headerBytes = 0;
  file.read(reinterpret_cast<char *>(&headerBytes), sizeof(headerBytes));
  std::string header(headerBytes, ' ');
  file.read(header.data(), static_cast<std::streamsize>(headerBytes));
  auto json = nlohmann::json::parse(header);
  auto read = [&](const char *name, auto &values) {
    uint64_t begin = json.at(name).at("data_offsets").at(0), end = json.at(name).at("data_offsets").at(1);
    values.resize((end - begin) / sizeof(values[0]));
    file.seekg(static_cast<std::streamoff>(sizeof(headerBytes) + headerBytes + begin));
    file.read(reinterpret_cast<char *>(values.data()), static_cast<std::streamsize>(end - begin));
  };
  Golden golden;
  std::vector<int64_t> tokens;
  read("tokens", tokens);
  read("logits", golden.logits);
  if (json.contains("mtp_logits"))
    read("mtp_logits", golden.draftLogits);
  golden.tokens.assign(tokens.begin(), tokens.end());
  EXPECT_TRUE(file.good()) << path;
  return golden;
}

HostTensor idsOf(std::vector<int32_t> ids) {
  HostTensor tensor;
  tensor.rows = static_cast<int64_t>(ids.size());
  tensor.columns = 1;
  tensor.ids = std::move(ids);
  return tensor;
}

// Models whose head that drafts was compared.
std::set<std::string> drafted;

// Logits of the checkpoint at `model` by another framework in fp32.
void expectGolden(const std::filesystem::path &model, const std::filesystem::path &golden) {
  SCOPED_TRACE(model.filename().string());
  auto checkpoint = openModel(model.string());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  mlir::MLIRContext context;
  auto module = declareModel(context, **checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  const Golden expected = readGolden(golden);
  Interpreter interpreter(**module, **checkpoint, {.numerics = fp32});
  auto logits = interpreter.logits(expected.tokens);
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(logits->floats.size(), expected.logits.size());
  EXPECT_LT(relativeError(logits->floats, expected.logits), 1e-4);
  if (expected.draftLogits.empty())
    return;
  interpreter.reset();
  auto drafts = interpreter.run("draft_logits", idsOf(expected.tokens));
  ASSERT_TRUE(drafts.ok()) << drafts.status();
  // The first row pairs the first token with nothing.
  drafts->floats.erase(drafts->floats.begin(), drafts->floats.begin() + drafts->columns);
  ASSERT_EQ(drafts->floats.size(), expected.draftLogits.size());
  EXPECT_LT(relativeError(drafts->floats, expected.draftLogits), 1e-4) << "of the head that drafts";
  drafted.insert(model.filename().string());
}

constexpr char goldens[] = INGOT_SOURCE_DIR "/tests/goldens";

TEST(Model, GoldenLogits) {
  int cases = 0;
  for (const auto &entry : std::filesystem::directory_iterator(goldens)) {
    const std::filesystem::path golden = entry.path() / "golden.safetensors";
    if (!exists(golden) || !exists(entry.path() / "config.json"))
      continue;
    ++cases;
    expectGolden(entry.path(), golden);
  }
  EXPECT_GE(cases, 60) << "golden cases are missing from " << goldens;
  EXPECT_GE(drafted.size(), 2U) << "golden cases of heads that draft are missing from " << goldens;
}

TEST(Model, StepsOfSeveralSequencesAreRefused) {
  auto checkpoint = openModel(std::string(goldens) + "/qwen35-grouped");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  mlir::MLIRContext context;
  auto module = declareModel(context, **checkpoint, {.name = "", .streams = 2});
  ASSERT_TRUE(module.ok()) << module.status();
  Interpreter interpreter(**module, **checkpoint, {.numerics = fp32});
  EXPECT_THAT(interpreter.run("decode_greedy_2", idsOf({3, 14})).status().message(),
              testing::HasSubstr("takes tokens of 2 sequences, and the interpreter has one"));
}

// A head of random weights is hardly ever right, so a few drafts are put in its place: what single steps will choose,
// as far as `right` says.
TEST(Model, StepsThatDraftChooseWhatSingleStepsDo) {
  auto checkpoint = openModel(std::string(goldens) + "/qwen35-grouped");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  mlir::MLIRContext context;
  auto module = declareModel(context, **checkpoint);
  ASSERT_TRUE(module.ok()) << module.status();
  const HostTensor prompt = idsOf({3, 14, 15, 9, 26, 5, 35});
  const auto begin = [&](Interpreter &interpreter) {
    auto logits = interpreter.run("prefill", prompt);
    ASSERT_TRUE(logits.ok()) << logits.status();
    ASSERT_TRUE(interpreter.run("greedy", *logits).ok());
  };
  for (const bool samples : {false, true}) {
    Interpreter plain(**module, **checkpoint, {.numerics = fp32}), drafting(**module, **checkpoint, {.numerics = fp32});
    begin(plain);
    while (plain.output().size() < 40) {
      auto logits = plain.run(samples ? "decode" : "decode_greedy", idsOf({plain.next().front()}));
      ASSERT_TRUE(logits.ok()) << logits.status();
      if (samples)
        ASSERT_TRUE(plain.run("sample", *logits).ok());
    }
    begin(drafting);
    for (const size_t right : {0, 3, 1, 2, 0, 3, 3, 1}) {
      const size_t known = drafting.output().size();
      std::vector<int32_t> tokens = drafting.next();
      tokens.resize(4, 0);
      for (size_t i = 0; i < 3; ++i)
        tokens[i + 1] = i < right ? plain.output()[known + i] : (plain.output()[known + i] + 1) % 64;
      auto done = drafting.run(samples ? "speculate_sample" : "speculate", idsOf(tokens));
      ASSERT_TRUE(done.ok()) << done.status();
      EXPECT_EQ(drafting.output().size(), known + right + 1);
      EXPECT_EQ(drafting.next().size(), 4U);
      EXPECT_EQ(drafting.step().position, prompt.rows - 1 + static_cast<int64_t>(drafting.output().size()));
    }
    EXPECT_EQ(drafting.output(), std::vector<int32_t>(plain.output().begin(), plain.output().begin() + 22));
  }
}

// The same weights as some of the folders, as llama.cpp's converter would store them.
TEST(Model, GoldenLogitsOfGgufFiles) {
  const std::filesystem::path folder = goldens;
  for (const auto &[file, name] :
       {std::pair("qwen3", "qwen3-narrow"), std::pair("qwen3moe", "qwen3moe-renormalised"),
        std::pair("qwen3next", "qwen3next-packed"), std::pair("qwen35", "qwen35-grouped"),
        std::pair("qwen35moe", "qwen35moe-shared"), std::pair("gemma3", "gemma3-windows-only"),
        std::pair("gemma4", "gemma4-long"), std::pair("gemma4-experts", "gemma4moe-all"),
        std::pair("gemma4-shared", "gemma4e-shared")})
    expectGolden(folder / "gguf" / (std::string(file) + ".gguf"), folder / name / "golden.safetensors");
  expectGolden(folder / "gguf" / "qwen35moe-q8_0.gguf", folder / "gguf" / "qwen35moe-q8_0.safetensors");
}

} // namespace
} // namespace ingot
