// Linear layers of every scheme, decode and prefill, against the text of llm.linear, with weights laid out from the
// description in docs/design/layouts.md.
#include "tests/numerics/packed_linear.h"

using namespace ingot;
using namespace ingot::numerics;

namespace {

// NOLINTNEXTLINE(bugprone-throwing-static-initialization): how GoogleTest registers them
const auto *const printWorst = testing::AddGlobalTestEnvironment(new PrintWorst);

// `units`: compute units of the chip that many tokens are laid out for, whose memory answers at once, so that small
// matrices get the tiles of large ones, too; 0: the chip's own.
void check(const Shape &c, const std::vector<unsigned> &counts, unsigned units = 0) {
  std::string what = std::to_string(c.rows) + " x " + std::to_string(c.columns) + ", scheme " + c.scheme.spelled() +
                     (c.bias ? ", bias" : "") + ", output " + std::to_string(static_cast<int>(c.output));
  SCOPED_TRACE(what);
  Layer layer(c);
  bool integer = integerDots(c.scheme);
  Kernel decode(
      [&](auto module, auto &target, auto name) { return emitLinearDecode(module, target, name, c.config()); });
  Kernel prefill([&](auto module, auto &target, auto name) {
    TargetInfo chip = target;
    if (units) {
      chip.computeUnits = units;
      chip.latency = 0;
    }
    LaunchShape shape = emitLinearPrefill(module, chip, name, c.config());
    const LaunchChoice &chosen = shape.decision->chosen;
    EXPECT_GE(chosen.tiles * chosen.tokenTiles, units ? 4U : 1U) << chosen.tiles << " x " << chosen.tokenTiles;
    return shape;
  });
  Buffer weight(layer.packed);
  Buffer bias(c.bias ? layer.bias : std::vector<float>{0});
  // 0 tokens stands for the decode kernel with its one.
  for (unsigned count : counts) {
    unsigned tokens = std::max(count, 1U);
    std::vector<Bf16> x = normalBf16(tokens * c.columns, 25);
    std::vector<int8_t> xq = uniformInt8(tokens * c.columns, 26);
    std::vector<float> xScales;
    xScales.reserve(tokens);
    for (unsigned t = 0; t < tokens; ++t)
      xScales.push_back(0.001F * static_cast<float>(t % 7 + 1));
    uint64_t extra = count == 0 ? 0 : tileRest(tokens);
    StepBuffer step({.tokens = static_cast<int32_t>(tokens)});
    Buffer rows = integer ? Buffer(padRows(xq, c.columns, extra)) : Buffer(padRows(x, c.columns, extra));
    Buffer scales(padRows(xScales, tokens, 0));
    bool wide = c.output != LinearOutput::Bf16;
    uint64_t outStride = c.output == LinearOutput::Logits ? c.rows : paddedRow(c.rows);
    Buffer out(tokens * outStride * (wide ? 4 : 2));
    std::vector<const Buffer *> arguments = {&rows, &weight, &out};
    if (c.bias)
      arguments.insert(arguments.end() - 1, &bias);
    if (integer)
      arguments.insert(arguments.begin() + 1, &scales);
    if (count > 0)
      arguments.insert(arguments.begin(), &step);
    (count == 0 ? decode : prefill).run(tokens, arguments);

    std::vector<float> got;
    if (wide)
      got = out.read<float>();
    else
      for (Bf16 bits : out.read<Bf16>())
        got.push_back(toFloat(bits));
    Difference difference;
    for (unsigned t = 0; t < tokens; ++t)
      for (uint64_t n = 0; n < outStride; ++n) {
        double sum = 0, magnitude = 0;
        if (n < c.rows) {
          for (uint64_t k = 0; k < c.columns; ++k) {
            double a =
                integer ? static_cast<double>(xScales[t]) * xq[t * c.columns + k] : toFloat(x[t * c.columns + k]);
            sum += a * layer.weight[n * c.columns + k];
            magnitude += std::abs(a * layer.weight[n * c.columns + k]);
          }
          if (integer)
            magnitude = std::abs(sum);
          if (c.bias) {
            sum += layer.bias[n];
            magnitude += std::abs(layer.bias[n]);
          }
        }
        const double bound = boundOf(c.scheme);
        if (wide)
          noteWorst(c.scheme, count == 0, std::abs(got[t * outStride + n] - sum), magnitude);
        difference.expect(got[t * outStride + n], sum, magnitude * bound, wide ? 0 : 0x1.01p-8,
                          "token " + std::to_string(t) + ", row " + std::to_string(n));
      }
    difference.report(count == 0 ? "decode" : std::to_string(count) + " tokens");
  }
}

std::string nameOf(const testing::TestParamInfo<llm::SchemeAttr> &info) { return info.param.spelled(); }

class Linear : public testing::TestWithParam<llm::SchemeAttr> {};

using llm::ScaleType;
using llm::Storage;
INSTANTIATE_TEST_SUITE_P(
    Schemes, Linear,
    testing::Values(scheme(Storage::BF16), scheme(Storage::Int8, 0, false, {}, false, llm::Activation::Int8PerToken),
                    scheme(Storage::Int8), scheme(Storage::Int8, 32), scheme(Storage::Int8, 64),
                    scheme(Storage::Int8, 128), scheme(Storage::Int8, 64, /*zeros=*/true),
                    scheme(Storage::Int8, 128, false, ScaleType::BF16), scheme(Storage::Int4),
                    scheme(Storage::Int4, 32), scheme(Storage::Int4, 64), scheme(Storage::Int4, 128),
                    scheme(Storage::Int4, 32, /*zeros=*/true), scheme(Storage::Int4, 64, /*zeros=*/true),
                    scheme(Storage::Int4, 128, /*zeros=*/true),
                    scheme(Storage::Int4, 128, /*zeros=*/true, ScaleType::BF16), scheme(Storage::Fp8),
                    scheme(Storage::Fp8, 0, false, {}, /*bands=*/true),
                    scheme(Storage::Fp8, 128, false, {}, /*bands=*/true), scheme(Storage::Fp8, 128)),
    nameOf);

TEST_P(Linear, Square) { check({.rows = 64, .columns = 64, .scheme = GetParam()}, {0, 1, 15, 16, 17, 64, 65}, 1); }
TEST_P(Linear, RowsPadded) { check({.rows = 48, .columns = 80, .scheme = GetParam(), .bias = true}, {0, 1, 17, 64}); }
TEST_P(Linear, BothOdd) {
  check({.rows = 97, .columns = 48, .scheme = GetParam(), .output = LinearOutput::Logits}, {0, 15, 16, 65});
  check({.rows = 97, .columns = 48, .scheme = GetParam(), .output = LinearOutput::F32}, {0, 15, 65}, 1);
}
TEST_P(Linear, OddWithBias) {
  check({.rows = 97, .columns = 48, .scheme = GetParam(), .bias = true, .output = LinearOutput::Logits}, {0, 3});
}
TEST_P(Linear, OneRow) {
  check({.rows = 1, .columns = 200, .scheme = GetParam(), .output = LinearOutput::F32}, {0, 5});
}
TEST_P(Linear, RealShape) { check({.rows = 576, .columns = 1536, .scheme = GetParam()}, {0, 17}, 4); }
// Enough row tiles that a wave takes several.
TEST_P(Linear, TallDecode) {
  check({.rows = 8192, .columns = 64, .scheme = GetParam(), .output = LinearOutput::F32}, {0});
}

} // namespace
