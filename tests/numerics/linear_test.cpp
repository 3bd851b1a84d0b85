// Linear layers of every scheme, decode and prefill, against the text of llm.linear, with weights laid out from the
// description in docs/design/layouts.md.
#include "tests/numerics/harness.h"

#include <array>
#include <cmath>

#include "codegen/kernels/linear.h"

using namespace ingot;
using namespace ingot::numerics;

namespace {

// f16 of a small positive value that f16 holds exactly: m * 2^-14 with m below 1024.
uint16_t halfOf(unsigned m) {
  unsigned exponent = 1;
  while (m >= 2048) {
    m /= 2;
    ++exponent;
  }
  if (m < 1024) { // normalise
    unsigned shift = 0;
    while ((m << shift) < 1024)
      ++shift;
    return static_cast<uint16_t>(((15 + 10 - 14 - shift) << 10) | ((m << shift) - 1024));
  }
  return static_cast<uint16_t>(((15 + 10 - 14 + exponent - 1) << 10) | (m - 1024));
}

// A linear with one weight and no epilogue.
struct Shape {
  uint64_t rows, columns;
  LinearScheme scheme;
  bool bias = false;
  LinearOutput output = LinearOutput::Bf16;

  [[nodiscard]] LinearConfig config() const {
    return {.columns = columns,
            .scheme = scheme,
            .parts = {{.rows = rows, .bias = bias}},
            .results = {{.columns = rows, .output = output}}};
  }
};

// One layer with random weights: the packed form, and the same numbers as the reference reads them.
struct Layer {
  Shape c;
  std::vector<uint8_t> packed;
  std::vector<float> bias;
  std::vector<double> weight; // [N][K], dequantised except for the per-channel scale
  std::vector<float> channel; // [N]

  explicit Layer(const Shape &shape)
      : c(shape), packed(linearBytes(c.scheme, c.rows, c.columns), 0), weight(c.rows * c.columns) {
    bool bf16 = c.scheme == LinearScheme::Bf16;
    uint64_t bytes = bf16 ? 2 : 1, steps = stepsOfK(c.scheme, c.columns),
             scales = linearScalesOffset(c.scheme, c.rows, c.columns);
    std::vector<Bf16> floats = normalBf16(c.rows * c.columns, 21);
    std::vector<int8_t> integers = uniformInt8(c.rows * c.columns, 22);
    std::mt19937 random(static_cast<uint32_t>(c.rows));
    for (uint64_t n = 0; n < c.rows; ++n)
      for (uint64_t k = 0; k < c.columns; ++k) {
        uint64_t i = n * c.columns + k, byte = k * bytes;
        uint64_t tile = (n / 16 * steps + byte / 32) * 512,
                 place = tile + (byte % 32 / 16 * 16 + n % 16) * 16 + byte % 16;
        std::memcpy(&packed[place], bf16 ? static_cast<const void *>(&floats[i]) : &integers[i], bytes);
        weight[i] = bf16 ? toFloat(floats[i]) : integers[i];
      }
    if (c.scheme == LinearScheme::Int8PerToken) {
      for (uint64_t n = 0; n < c.rows; ++n)
        channel.push_back(static_cast<float>(1 + random() % 1000) * 1e-5F);
      std::memcpy(&packed[scales], channel.data(), c.rows * 4);
    }
    if (c.scheme == LinearScheme::Int8Group32)
      for (uint64_t n = 0; n < c.rows; ++n)
        for (uint64_t group = 0; group * 32 < c.columns; ++group) {
          unsigned m = 1 + random() % 1023;
          uint16_t half = halfOf(m);
          std::memcpy(&packed[scales + ((n / 16 * steps + group) * 16 + n % 16) * 2], &half, 2);
          for (uint64_t k = group * 32; k < std::min(c.columns, group * 32 + 32); ++k)
            weight[n * c.columns + k] *= m * 0x1p-14;
        }
    if (c.bias) {
      bias = normalFloat(paddedRow(c.rows), 24);
      std::fill(bias.begin() + static_cast<ptrdiff_t>(c.rows), bias.end(), 0.0F);
    }
  }
};

void check(const Shape &c, const std::vector<unsigned> &counts) {
  std::string what = std::to_string(c.rows) + " x " + std::to_string(c.columns) + ", scheme " +
                     std::to_string(static_cast<int>(c.scheme)) + (c.bias ? ", bias" : "") + ", output " +
                     std::to_string(static_cast<int>(c.output));
  SCOPED_TRACE(what);
  Layer layer(c);
  bool integer = c.scheme == LinearScheme::Int8PerToken;
  Kernel decode(
      [&](auto module, auto &target, auto name) { return emitLinearDecode(module, target, name, c.config()); });
  Kernel prefill(
      [&](auto module, auto &target, auto name) { return emitLinearPrefill(module, target, name, c.config()); });
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
            double a = integer ? xq[t * c.columns + k] : toFloat(x[t * c.columns + k]);
            sum += a * layer.weight[n * c.columns + k];
            magnitude += std::abs(a * layer.weight[n * c.columns + k]);
          }
          if (integer) {
            sum *= static_cast<double>(layer.channel[n]) * xScales[t];
            magnitude = std::abs(sum);
          }
          if (c.bias) {
            sum += layer.bias[n];
            magnitude += std::abs(layer.bias[n]);
          }
        }
        // fp32 sums in any order: 2^-24 of the terms' magnitude an addition, in random directions, so 2^-20 is ample to
        // a thousand terms; the decode kernel's group dot adds 128 times x first, which costs it two bits more. Integer
        // dots are exact and round three times. Then one rounding to bf16.
        double absolute = magnitude * (c.scheme == LinearScheme::Int8Group32 ? 0x1p-18 : integer ? 0x1p-22 : 0x1p-20);
        difference.expect(got[t * outStride + n], sum, absolute, wide ? 0 : 0x1.01p-8,
                          "token " + std::to_string(t) + ", row " + std::to_string(n));
      }
    difference.report(count == 0 ? "decode" : std::to_string(count) + " tokens");
  }
}

std::string nameOf(const testing::TestParamInfo<LinearScheme> &info) {
  constexpr std::array kNames = {"Bf16", "Int8PerToken", "Int8Group32"};
  return kNames.at(static_cast<size_t>(info.param));
}

class Linear : public testing::TestWithParam<LinearScheme> {};
INSTANTIATE_TEST_SUITE_P(Schemes, Linear,
                         testing::Values(LinearScheme::Bf16, LinearScheme::Int8PerToken, LinearScheme::Int8Group32),
                         nameOf);

TEST_P(Linear, Square) { check({.rows = 64, .columns = 64, .scheme = GetParam()}, {0, 1, 15, 16, 17, 64, 65}); }
TEST_P(Linear, RowsPadded) { check({.rows = 48, .columns = 80, .scheme = GetParam(), .bias = true}, {0, 1, 17, 64}); }
TEST_P(Linear, BothOdd) {
  check({.rows = 97, .columns = 48, .scheme = GetParam(), .output = LinearOutput::Logits}, {0, 15, 16, 65});
  check({.rows = 97, .columns = 48, .scheme = GetParam(), .output = LinearOutput::F32}, {0, 15, 65});
}
TEST_P(Linear, OddWithBias) {
  check({.rows = 97, .columns = 48, .scheme = GetParam(), .bias = true, .output = LinearOutput::Logits}, {0, 3});
}
TEST_P(Linear, RealShape) { check({.rows = 576, .columns = 1536, .scheme = GetParam()}, {0, 17}); }
// Enough row tiles that a wave takes several.
TEST_P(Linear, TallDecode) {
  check({.rows = 8192, .columns = 64, .scheme = GetParam(), .output = LinearOutput::F32}, {0});
}

} // namespace
