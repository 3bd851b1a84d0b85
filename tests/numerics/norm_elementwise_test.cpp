// Norm, quantisation and the kernels that go element by element, against the texts of their ops.
#include "tests/numerics/harness.h"

#include <cmath>
#include <numbers>

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

// The same without the rounding: f32 rows out, which round to those of bf16.
TEST_P(Norm, KeepsF32) {
  NormRows r = rows(3);
  std::vector<Bf16> rounded = runNorm(r);
  NormConfig config = r.config(true, false);
  config.out = Element::F32;
  Kernel kernel([&](auto module, auto &target, auto name) { return emitNorm(module, target, name, config); });
  Buffer weight(r.weight), out(r.tokens * paddedRow(r.columns) * 4);
  kernel.run(r.tokens, {r.input().get(), &weight, &out});
  std::vector<float> got = out.read<float>();
  ASSERT_EQ(got.size(), rounded.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(toBf16(got[i]), rounded[i]) << i;
}

struct HeadShape {
  uint64_t heads, headDim;
  Element x, out;
};
class HeadNorm : public testing::TestWithParam<HeadShape> {};
INSTANTIATE_TEST_SUITE_P(
    Shapes, HeadNorm,
    testing::Values(HeadShape{1, 16, Element::F32, Element::F32}, HeadShape{3, 48, Element::F32, Element::Bf16},
                    HeadShape{5, 64, Element::Bf16, Element::F32}, HeadShape{9, 128, Element::F32, Element::F32},
                    HeadShape{2, 512, Element::Bf16, Element::Bf16}),
    [](const auto &info) { return std::to_string(info.param.heads) + "x" + std::to_string(info.param.headDim); });

TEST_P(HeadNorm, NormalisesEachHead) {
  const HeadShape &c = GetParam();
  constexpr unsigned kTokens = 5;
  uint64_t width = c.heads * c.headDim;
  NormRows r(width, kTokens, c.x);
  std::vector<float> gain = normalFloat(paddedRow(c.headDim), 64);
  Kernel kernel([&](auto module, auto &target, auto name) {
    return emitHeadNorm(module, target, name,
                        {.heads = c.heads, .headDim = c.headDim, .x = c.x, .out = c.out, .epsilon = 1e-6});
  });
  bool wide = c.out == Element::F32;
  Buffer weight(gain), out(kTokens * paddedRow(width) * (wide ? 4 : 2));
  kernel.run(kTokens, {r.input().get(), &weight, &out});
  std::vector<float> got;
  if (wide)
    got = out.read<float>();
  else
    for (Bf16 bits : out.read<Bf16>())
      got.push_back(toFloat(bits));
  Difference difference;
  for (unsigned t = 0; t < kTokens; ++t)
    for (uint64_t n = 0; n < paddedRow(width); ++n) {
      double wanted = 0;
      if (n < width) {
        const float *head = &r.x[t * width + n / c.headDim * c.headDim];
        double squares = 0;
        for (uint64_t k = 0; k < c.headDim; ++k)
          squares += std::pow(head[k], 2);
        wanted = head[n % c.headDim] / std::sqrt(squares / static_cast<double>(c.headDim) + 1e-6) * gain[n % c.headDim];
      }
      // At most 32 additions a lane and four across, of positive terms: 36 * 2^-24 on the mean, half of it on its root,
      // and four roundings more; then one to bf16.
      difference.expect(got[t * paddedRow(width) + n], wanted, 0, wide ? 0x1p-19 : 0x1.01p-8,
                        "token " + std::to_string(t) + ", column " + std::to_string(n));
    }
  difference.report("head norm");
}

TEST(Elementwise, AddsExactly) {
  for (uint64_t columns : {48U, 576U, 1100U}) {
    constexpr unsigned kTokens = 3;
    std::vector<Bf16> a = padRows(normalBf16(kTokens * columns, 41), columns),
                      b = padRows(normalBf16(kTokens * columns, 42), columns);
    Kernel kernel([&](auto module, auto &target, auto name) {
      return emitElementwise(
          module, target, name,
          {.op = Elementwise::Add, .columns = columns, .a = Element::Bf16, .b = Element::Bf16, .out = Element::Bf16});
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
      return emitElementwise(
          module, target, name,
          {.op = Elementwise::Add, .columns = columns, .a = Element::F32, .b = Element::F32, .out = Element::F32});
    });
    Buffer third(c), fourth(d), sums(c.size() * 4);
    wide.run(kTokens, {&third, &fourth, &sums});
    for (size_t i = 0; i < c.size(); ++i)
      c[i] += d[i];
    EXPECT_TRUE(sums.read<float>() == c) << columns;

    // The sum rounds before the product.
    Kernel scaled([&](auto module, auto &target, auto name) {
      return emitElementwise(module, target, name,
                             {.op = Elementwise::Add,
                              .columns = columns,
                              .a = Element::F32,
                              .b = Element::F32,
                              .out = Element::F32,
                              .scaled = true});
    });
    constexpr float kFactor = 0.3F;
    Buffer factor(std::vector<float>{kFactor}), products(c.size() * 4);
    scaled.run(kTokens, {&third, &fourth, &factor, &products});
    for (float &sum : c)
      sum *= kFactor;
    EXPECT_TRUE(products.read<float>() == c) << columns;
  }
}

struct GateCase {
  const char *name;
  Elementwise op;
  double (*function)(double);
};
class Gated : public testing::TestWithParam<GateCase> {};
INSTANTIATE_TEST_SUITE_P(
    Functions, Gated,
    testing::Values(GateCase{"Silu", Elementwise::SiluMul, [](double g) { return g / (1 + std::exp(-g)); }},
                    GateCase{"GeluTanh", Elementwise::GeluTanhMul,
                             [](double g) {
                               // g / 2 (1 + tanh u) in a form that double can hold far to the left.
                               double u = std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g);
                               return g / (1 + std::exp(-2 * u));
                             }},
                    GateCase{"Sigmoid", Elementwise::SigmoidMul, [](double g) { return 1 / (1 + std::exp(-g)); }}),
    [](const auto &info) { return info.param.name; });

TEST_P(Gated, Multiplies) {
  constexpr uint64_t kColumns = 1536;
  std::vector<Bf16> gate = normalBf16(2 * kColumns, 43, 4), up = normalBf16(2 * kColumns, 44);
  gate[0] = toBf16(-200);
  gate[1] = toBf16(200);
  gate[2] = toBf16(0);
  gate[3] = toBf16(-3e38F);
  gate[4] = toBf16(3e38F);
  up[4] = toBf16(0.5F);
  auto kernelOf = [&](Element a, Element b) {
    return std::make_unique<Kernel>([=](auto module, auto &target, auto name) {
      return emitElementwise(module, target, name,
                             {.op = GetParam().op, .columns = kColumns, .a = a, .b = b, .out = Element::Bf16});
    });
  };
  Buffer first(gate), second(up), out(gate.size() * 2);
  kernelOf(Element::Bf16, Element::Bf16)->run(2, {&first, &second, &out});
  Difference difference;
  std::vector<Bf16> got = out.read<Bf16>();
  for (size_t i = 0; i < gate.size(); ++i) {
    // exp2 and the reciprocal are good to 1 ulp of fp32, the argument of exp2 to as many ulp as it is large, which is
    // 127 where the result is not 0: 2^-15, then one rounding to bf16. A factor below the smallest normal fp32 may be
    // 0.
    double g = toFloat(gate[i]), u = toFloat(up[i]), wanted = GetParam().function(g) * u;
    difference.expect(toFloat(got[i]), wanted, 0x1p-126 * std::max(1.0, std::abs(g)) * std::max(1.0, std::abs(u)),
                      0x1.02p-8, std::to_string(i));
  }
  difference.report("gated");

  std::vector<float> wideGate, wideUp;
  for (size_t i = 0; i < gate.size(); ++i) {
    wideGate.push_back(toFloat(gate[i]));
    wideUp.push_back(toFloat(up[i]));
  }
  Buffer third(wideGate), fourth(wideUp), same(gate.size() * 2), mixed(gate.size() * 2);
  kernelOf(Element::F32, Element::F32)->run(2, {&third, &fourth, &same});
  EXPECT_TRUE(same.read<Bf16>() == got);
  kernelOf(Element::F32, Element::Bf16)->run(2, {&third, &second, &mixed});
  EXPECT_TRUE(mixed.read<Bf16>() == got);
}

TEST(Elementwise, OneGateForARow) {
  constexpr uint64_t kColumns = 97;
  constexpr unsigned kTokens = 3;
  std::vector<float> gate = normalFloat(kTokens, 61), up = normalFloat(kTokens * kColumns, 62);
  Kernel kernel([&](auto module, auto &target, auto name) {
    return emitElementwise(module, target, name,
                           {.op = Elementwise::SigmoidMul,
                            .columns = kColumns,
                            .a = Element::F32,
                            .b = Element::F32,
                            .out = Element::F32,
                            .broadcast = true});
  });
  Buffer first(padRows(gate, 1)), second(padRows(up, kColumns)), out(kTokens * paddedRow(kColumns) * 4);
  kernel.run(kTokens, {&first, &second, &out});
  std::vector<float> got = out.read<float>();
  Difference difference;
  for (unsigned t = 0; t < kTokens; ++t)
    for (uint64_t n = 0; n < paddedRow(kColumns); ++n)
      difference.expect(got[t * paddedRow(kColumns) + n],
                        n < kColumns ? up[t * kColumns + n] / (1 + std::exp(-static_cast<double>(gate[t]))) : 0, 0,
                        0x1p-20, std::to_string(t) + ", " + std::to_string(n));
  difference.report("one gate a row");
}

// Both pieces of tanh, their border and the ends. With a cap of 1 only tanh rounds: 2^-22.7 at most on the emulator,
// whose exp2 and reciprocal are closer than the ulp that a chip may err by; the bound in llm.softcap allows for that
// ulp. Another cap rounds twice more.
TEST(Elementwise, SoftcapIsAccurate) {
  constexpr uint64_t kColumns = 1003;
  constexpr unsigned kTokens = 8;
  for (double cap : {1.0, 30.0}) {
    for (bool logits : {false, true}) {
      std::vector<float> x(kTokens * kColumns);
      std::mt19937 random(63);
      for (float &v : x) // magnitudes from 2^-30 to 2^6
        v = std::ldexp(static_cast<float>(random() * 0x1p-32 + 0.5), static_cast<int>(random() % 36) - 29) *
            static_cast<float>(random() % 2 ? cap : -cap);
      for (uint64_t i = 0; i < kColumns; ++i) // densely around the border and where tanh saturates
        x[i] = static_cast<float>(cap) *
               (i % 2 ? 0.625F + (static_cast<float>(i) - 500) * 0x1p-16F : 0.5F + static_cast<float>(i) * 0x1p-6F);
      x[1] = 0;
      x[3] = 3e38F;
      x[5] = -3e38F;
      Kernel kernel([&](auto module, auto &target, auto name) {
        return emitSoftcap(module, target, name, {.columns = kColumns, .cap = cap, .logits = logits});
      });
      uint64_t stride = logits ? kColumns : paddedRow(kColumns);
      Buffer in(padRows(x, kColumns)), out(kTokens * stride * 4);
      kernel.run(kTokens, {&in, &out});
      std::vector<float> got = out.read<float>();
      Difference difference;
      for (unsigned t = 0; t < kTokens; ++t)
        for (uint64_t n = 0; n < stride; ++n) {
          double wanted = n < kColumns ? cap * std::tanh(x[t * kColumns + n] / cap) : 0;
          difference.expect(got[t * stride + n], wanted, 0, cap == 1 ? 0x1p-22 : 0x1p-21,
                            std::to_string(x[t * kColumns + n]));
        }
      difference.report("softcap");
    }
  }
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

// Unchanged where the type is, and else rounded once.
TEST(Columns, TakesNeighbours) {
  for (auto [width, from, columns] : {std::tuple<uint64_t, uint64_t, uint64_t>{96, 40, 8}, {300, 7, 200}, {80, 0, 80}})
    for (Element x : {Element::F32, Element::Bf16})
      for (Element result : {Element::F32, Element::Bf16}) {
        SCOPED_TRACE(std::to_string(columns) + " from " + std::to_string(from));
        constexpr unsigned kTokens = 3;
        const uint64_t stride = paddedRow(columns);
        std::vector<float> wide = normalFloat(kTokens * width, 51);
        std::vector<Bf16> narrow = normalBf16(kTokens * width, 52);
        Kernel kernel([&](auto module, auto &target, auto name) {
          return emitColumns(module, target, name,
                             {.width = width, .from = from, .columns = columns, .x = x, .out = result});
        });
        Buffer wideRows(padRows(wide, width)), narrowRows(padRows(narrow, width));
        Buffer out(kTokens * stride * (result == Element::F32 ? 4 : 2));
        kernel.run(kTokens, {x == Element::F32 ? &wideRows : &narrowRows, &out});
        for (unsigned t = 0; t < kTokens; ++t)
          for (uint64_t n = 0; n < stride; ++n) {
            const uint64_t at = t * width + from + n;
            const float wanted = n >= columns ? 0 : x == Element::F32 ? wide[at] : toFloat(narrow[at]);
            if (result == Element::F32)
              ASSERT_EQ(out.read<float>()[t * stride + n], wanted) << "token " << t << ", column " << n;
            else
              ASSERT_EQ(out.read<Bf16>()[t * stride + n], toBf16(wanted)) << "token " << t << ", column " << n;
          }
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
