// Norm, quantisation and the kernels that go element by element, against the texts of their ops.
#include "tests/numerics/harness.h"

#include <cmath>

using namespace ingot;
using namespace ingot::numerics;

namespace {

struct NormRows {
  uint64_t columns;
  unsigned tokens;
  Element element;
  std::vector<float> x;      // what the rows hold, exactly
  std::vector<float> weight; // padded

  NormRows(uint64_t c, unsigned t, Element e)
      : columns(c), tokens(t), element(e), x(normalFloat(t * c, 31, 2)), weight(normalFloat(paddedRow(c), 32)) {
    std::fill(weight.begin() + static_cast<ptrdiff_t>(c), weight.end(), 0.0F);
    if (t > 1) // a row of zeros
      std::fill_n(x.begin() + static_cast<ptrdiff_t>(c), c, 0.0F);
    if (e == Element::Bf16)
      for (float &v : x)
        v = toFloat(toBf16(v));
  }
  [[nodiscard]] std::vector<Bf16> narrow() const {
    std::vector<Bf16> rows;
    rows.reserve(x.size());
    for (float v : x)
      rows.push_back(toBf16(v));
    return rows;
  }
  [[nodiscard]] std::unique_ptr<Buffer> input() const {
    return element == Element::F32 ? std::make_unique<Buffer>(padRows(x, columns))
                                   : std::make_unique<Buffer>(padRows(narrow(), columns));
  }
  [[nodiscard]] NormConfig config(bool norm, bool quantize) const {
    return {.columns = columns, .x = element, .norm = norm, .quantize = quantize, .epsilon = 1e-5};
  }
};

std::vector<Bf16> runNorm(const NormRows &r) {
  Kernel kernel(
      [&](auto module, auto &target, auto name) { return emitNorm(module, target, name, r.config(true, false)); });
  Buffer weight(r.weight), out(r.tokens * paddedRow(r.columns) * 2);
  kernel.run(r.tokens, {r.input().get(), &weight, &out});
  return out.read<Bf16>();
}

// llm.quantize bit for bit, in fp32 as its text says.
void expectQuantized(const std::vector<Bf16> &rows, uint64_t columns, const std::vector<int8_t> &values,
                     const std::vector<float> &scales) {
  uint64_t stride = paddedRow(columns);
  for (uint64_t t = 0; t < scales.size(); ++t) {
    float most = 0;
    for (uint64_t k = 0; k < columns; ++k)
      most = std::max(most, std::abs(toFloat(rows[t * stride + k])));
    EXPECT_EQ(scales[t], most / 127) << "token " << t;
    float inverse = most > 0 ? 127 / most : 0;
    for (uint64_t k = 0; k < stride; ++k) {
      float wanted = k < columns ? std::nearbyint(toFloat(rows[t * stride + k]) * inverse) : 0;
      ASSERT_EQ(values[t * stride + k], static_cast<int8_t>(wanted)) << "token " << t << ", column " << k;
    }
  }
}

class Norm : public testing::TestWithParam<std::tuple<uint64_t, Element>> {
protected:
  static NormRows rows(unsigned tokens) { return {std::get<0>(GetParam()), tokens, std::get<1>(GetParam())}; }
};
INSTANTIATE_TEST_SUITE_P(Columns, Norm,
                         testing::Combine(testing::Values(48, 64, 97, 576, 1536, 5000),
                                          testing::Values(Element::Bf16, Element::F32)));

TEST_P(Norm, Normalises) {
  NormRows r = rows(5);
  std::vector<Bf16> got = runNorm(r);
  Difference difference;
  uint64_t stride = paddedRow(r.columns);
  for (unsigned t = 0; t < r.tokens; ++t) {
    double squares = 0;
    for (uint64_t k = 0; k < r.columns; ++k)
      squares += std::pow(r.x[t * r.columns + k], 2);
    double factor = 1 / std::sqrt(squares / static_cast<double>(r.columns) + 1e-5);
    for (uint64_t k = 0; k < stride; ++k) {
      double wanted = k < r.columns ? r.x[t * r.columns + k] * factor * r.weight[k] : 0;
      // One rounding to bf16, 2^-8, on values good to 2^-20 in fp32.
      difference.expect(toFloat(got[t * stride + k]), wanted, 0, 0x1.01p-8,
                        "token " + std::to_string(t) + ", column " + std::to_string(k));
    }
  }
  difference.report("norm");
}

TEST_P(Norm, NormThenQuantiseIsBothInOne) {
  NormRows r = rows(3);
  std::vector<Bf16> normed = runNorm(r);
  Kernel fused(
      [&](auto module, auto &target, auto name) { return emitNorm(module, target, name, r.config(true, true)); });
  Buffer weight(r.weight), out(r.tokens * paddedRow(r.columns)), scales(r.tokens * 4);
  fused.run(r.tokens, {r.input().get(), &weight, &out, &scales});
  expectQuantized(normed, r.columns, out.read<int8_t>(), scales.read<float>());
}

TEST_P(Norm, QuantisesAlone) {
  NormRows r(std::get<0>(GetParam()), 4, Element::Bf16);
  Kernel kernel(
      [&](auto module, auto &target, auto name) { return emitNorm(module, target, name, r.config(false, true)); });
  std::vector<Bf16> rows = padRows(r.narrow(), r.columns);
  Buffer in(rows), out(r.tokens * paddedRow(r.columns)), scales(r.tokens * 4);
  kernel.run(r.tokens, {&in, &out, &scales});
  expectQuantized(rows, r.columns, out.read<int8_t>(), scales.read<float>());
}

TEST(Elementwise, AddsExactly) {
  for (uint64_t columns : {48U, 576U, 1100U}) {
    constexpr unsigned kTokens = 3;
    std::vector<Bf16> a = padRows(normalBf16(kTokens * columns, 41), columns),
                      b = padRows(normalBf16(kTokens * columns, 42), columns);
    Kernel kernel([&](auto module, auto &target, auto name) {
      return emitElementwise(module, target, name, Elementwise::Add, Element::Bf16, Element::Bf16, columns);
    });
    Buffer first(a), second(b), out(a.size() * 2);
    kernel.run(kTokens, {&first, &second, &out});
    std::vector<Bf16> wanted;
    wanted.reserve(a.size());
    for (size_t i = 0; i < a.size(); ++i)
      wanted.push_back(toBf16(toFloat(a[i]) + toFloat(b[i])));
    EXPECT_TRUE(out.read<Bf16>() == wanted) << columns;

    std::vector<float> c = padRows(normalFloat(kTokens * columns, 48), columns),
                       d = padRows(normalFloat(kTokens * columns, 49), columns);
    Kernel wide([&](auto module, auto &target, auto name) {
      return emitElementwise(module, target, name, Elementwise::Add, Element::F32, Element::F32, columns);
    });
    Buffer third(c), fourth(d), sums(c.size() * 4);
    wide.run(kTokens, {&third, &fourth, &sums});
    for (size_t i = 0; i < c.size(); ++i)
      c[i] += d[i];
    EXPECT_TRUE(sums.read<float>() == c) << columns;
  }
}

TEST(Elementwise, SiluMul) {
  constexpr uint64_t kColumns = 1536;
  std::vector<Bf16> gate = normalBf16(2 * kColumns, 43, 4), up = normalBf16(2 * kColumns, 44);
  gate[0] = toBf16(-200);
  gate[1] = toBf16(200);
  gate[2] = toBf16(0);
  Kernel kernel([&](auto module, auto &target, auto name) {
    return emitElementwise(module, target, name, Elementwise::SiluMul, Element::Bf16, Element::Bf16, kColumns);
  });
  Buffer first(gate), second(up), out(gate.size() * 2);
  kernel.run(2, {&first, &second, &out});
  Difference difference;
  std::vector<Bf16> got = out.read<Bf16>();
  for (size_t i = 0; i < gate.size(); ++i) {
    double g = toFloat(gate[i]);
    // exp2 and the reciprocal are good to 1 ulp of fp32, the argument of exp2 to |g| ulp; then one rounding to bf16.
    // Below the smallest normal fp32 the result may be 0.
    difference.expect(toFloat(got[i]), g / (1 + std::exp(-g)) * toFloat(up[i]), 0x1p-126, 0x1.02p-8, std::to_string(i));
  }
  difference.report("silu_mul");

  std::vector<float> wideGate, wideUp;
  for (size_t i = 0; i < gate.size(); ++i) {
    wideGate.push_back(toFloat(gate[i]));
    wideUp.push_back(toFloat(up[i]));
  }
  Kernel wide([&](auto module, auto &target, auto name) {
    return emitElementwise(module, target, name, Elementwise::SiluMul, Element::F32, Element::Bf16, kColumns);
  });
  Buffer third(wideGate), fourth(wideUp), same(gate.size() * 2);
  wide.run(2, {&third, &fourth, &same});
  EXPECT_TRUE(same.read<Bf16>() == got);
}

TEST(Embed, CopiesAndScales) {
  for (double scale : {1.0, 24.0}) {
    constexpr uint64_t kVocabulary = 37, kHidden = 80;
    std::vector<Bf16> table = padRows(normalBf16(kVocabulary * kHidden, 45), kHidden);
    std::vector<int32_t> ids = {0, 36, 5, 5, 17};
    Kernel kernel([&](auto module, auto &target, auto name) {
      return emitEmbed(module, target, name,
                       {.vocabulary = kVocabulary, .hidden = kHidden, .out = Element::Bf16, .scale = scale});
    });
    Kernel wide([&](auto module, auto &target, auto name) {
      return emitEmbed(module, target, name,
                       {.vocabulary = kVocabulary, .hidden = kHidden, .out = Element::F32, .scale = scale});
    });
    StepBuffer step({.tokens = static_cast<int32_t>(ids.size())});
    Buffer tokens(ids), rows(table), out(ids.size() * paddedRow(kHidden) * 2);
    kernel.run(static_cast<unsigned>(ids.size()), {&step, &tokens, &rows, &out});
    std::vector<Bf16> wanted;
    for (int32_t id : ids)
      for (uint64_t e = 0; e < paddedRow(kHidden); ++e)
        wanted.push_back(
            toBf16(toFloat(table[static_cast<uint64_t>(id) * paddedRow(kHidden) + e]) * static_cast<float>(scale)));
    EXPECT_TRUE(out.read<Bf16>() == wanted) << scale;

    Buffer stream(ids.size() * paddedRow(kHidden) * 4);
    wide.run(static_cast<unsigned>(ids.size()), {&step, &tokens, &rows, &stream});
    std::vector<float> exact;
    for (int32_t id : ids)
      for (uint64_t e = 0; e < paddedRow(kHidden); ++e)
        exact.push_back(toFloat(table[static_cast<uint64_t>(id) * paddedRow(kHidden) + e]) * static_cast<float>(scale));
    EXPECT_TRUE(stream.read<float>() == exact) << scale;
  }
}

TEST(Embed, IdsOutsideTheTableStayInside) {
  std::vector<Bf16> table = padRows(normalBf16(4 * 64, 46), 64);
  Kernel kernel([&](auto module, auto &target, auto name) {
    return emitEmbed(module, target, name, {.vocabulary = 4, .hidden = 64, .out = Element::Bf16});
  });
  StepBuffer step({.tokens = 2});
  Buffer tokens(std::vector<int32_t>{-1, 1000000}), rows(table), out(2 * 64 * 2);
  kernel.run(2, {&step, &tokens, &rows, &out});
  for (Bf16 bits : out.read<Bf16>())
    EXPECT_NE(bits, 0xffff);
}

TEST(LastToken, IsTheLastRow) {
  constexpr uint64_t kColumns = 100;
  std::vector<float> x = padRows(normalFloat(18 * kColumns, 47), kColumns);
  Kernel kernel([&](auto module, auto &target, auto name) {
    return emitLastToken(module, target, name, Element::F32, kColumns);
  });
  for (unsigned tokens : {1U, 17U, 18U}) {
    StepBuffer step({.tokens = static_cast<int32_t>(tokens)});
    Buffer in(x), out(paddedRow(kColumns) * 4);
    kernel.run(tokens, {&step, &in, &out});
    auto row = x.begin() + static_cast<ptrdiff_t>((tokens - 1) * paddedRow(kColumns));
    EXPECT_TRUE(std::equal(row, row + static_cast<ptrdiff_t>(paddedRow(kColumns)), out.read<float>().begin()))
        << tokens;
  }
}

// Bit for bit; an order beyond the row, as a damaged file may hold, stays inside it.
TEST(GatherColumns, ReadsEachColumnWhereTheOrderSays) {
  for (uint64_t columns : {64U, 80U, 1536U})
    for (unsigned tokens : {1U, 5U}) {
      SCOPED_TRACE(columns);
      const uint64_t stride = paddedRow(columns);
      std::vector<Bf16> x = normalBf16(tokens * columns, 41);
      std::vector<int32_t> order(stride);
      for (uint64_t k = 0; k < stride; ++k)
        order[k] = static_cast<int32_t>(k < columns ? (k * 7 + 3) % columns : k);
      order[5] = -1;
      order[6] = 1 << 30;
      Kernel kernel(
          [&](auto module, auto &target, auto name) { return emitGatherColumns(module, target, name, columns); });
      Buffer rows(padRows(x, columns)), table(order), out(tokens * stride * 2);
      kernel.run(tokens, {&rows, &table, &out});
      const std::vector<Bf16> got = out.read<Bf16>(), padded = padRows(x, columns);
      for (unsigned t = 0; t < tokens; ++t)
        for (uint64_t k = 0; k < stride; ++k) {
          uint64_t from = k == 5 || k == 6 ? stride - 1 : static_cast<uint64_t>(order[k]);
          ASSERT_EQ(got[t * stride + k], padded[t * stride + from]) << "token " << t << ", column " << k;
        }
    }
}

} // namespace
