// Short convolution and the delta rule against the texts of their ops, in double: every length around the edges of a
// chunk, any starting state, a sequence in pieces, and the inputs that break careless forms.
#include "tests/numerics/harness.h"

#include <cmath>

using namespace ingot;
using namespace ingot::numerics;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

//===--------------------------------------------------------------------------------------------------------------===//
// Short convolution
//===--------------------------------------------------------------------------------------------------------------===//

// A sum of `taps` products in fp32 is within taps * 2^-24 of the terms' magnitude, silu's steepest slope is 1.1, and
// its exp2 and reciprocal add a few ulp of the result.
constexpr double kConvTerms = 10 * 0x1p-24, kConvResult = 8 * 0x1p-24;

void checkConv(uint64_t channels, uint64_t taps, const std::vector<unsigned> &pieces) {
  SCOPED_TRACE(std::to_string(channels) + " channels, " + std::to_string(taps) + " taps");
  const ShortConvConfig c{.channels = channels, .taps = taps};
  Kernel kernel([&](auto module, auto &target, auto name) { return emitShortConv(module, target, name, c); });
  const uint64_t before = taps - 1, stride = paddedRow(channels);
  const std::vector<float> w = normalFloat(channels * taps, 1, 0.5);
  std::vector<float> rows = normalFloat(before * channels, 2); // the state's, then those of every piece
  Buffer weight(w), state(rows);
  for (unsigned tokens : pieces) {
    const uint64_t first = rows.size() / channels - before;
    const std::vector<float> x = normalFloat(tokens * channels, 3 + static_cast<uint32_t>(rows.size()), 2);
    rows.insert(rows.end(), x.begin(), x.end());
    StepBuffer step({.tokens = static_cast<int32_t>(tokens)});
    Buffer in(padRows(x, channels, 1)), out(tokens * stride * 4);
    kernel.run(tokens, {&step, &in, &weight, &state, &out});
    Difference difference;
    const std::vector<float> got = out.read<float>(), left = state.read<float>();
    for (uint64_t t = 0; t < tokens; ++t)
      for (uint64_t e = 0; e < stride; ++e) {
        double sum = 0, size = 0;
        for (uint64_t j = 0; e < channels && j < taps; ++j) {
          const double term = static_cast<double>(w[e * taps + j]) * rows[(first + t + j) * channels + e];
          sum += term;
          size += std::abs(term);
        }
        difference.expect(got[t * stride + e], sum * sigmoid(sum), size * kConvTerms, kConvResult,
                          "token " + std::to_string(t) + ", element " + std::to_string(e));
      }
    for (uint64_t i = 0; i < left.size(); ++i)
      difference.expect(left[i], rows[rows.size() - left.size() + i], 0, 0, "state " + std::to_string(i));
    difference.report(std::to_string(tokens) + " tokens");
  }
}

TEST(ShortConv, EveryNumberOfTaps) {
  for (uint64_t taps = 2; taps <= 8; ++taps)
    checkConv(48, taps, {1, 1, 2, 3, 9, 1});
}
TEST(ShortConv, OddWidths) {
  for (uint64_t channels : {16, 64, 80, 192})
    checkConv(channels, 4, {63, 64, 65, 1, 2});
}

//===--------------------------------------------------------------------------------------------------------------===//
// The delta rule
//===--------------------------------------------------------------------------------------------------------------===//

enum class Form { Recurrent, Chunks };

struct Inputs {
  uint64_t width, heads; // of a row of qkv; value heads
  std::vector<float> qkv, b, a, decay, bias, state;

  Inputs(const DeltaConfig &c, uint64_t tokens, uint32_t seed = 1)
      : width(2 * c.keyHeads * c.keyDim + c.valueHeads * c.valueDim), heads(c.valueHeads),
        qkv(normalFloat(tokens * width, seed)), b(normalFloat(tokens * heads, seed + 1, 2)),
        a(normalFloat(tokens * heads, seed + 2, 2)), decay(normalFloat(heads, seed + 3)),
        bias(normalFloat(heads, seed + 4)), state(heads * c.keyDim * c.valueDim, 0.0F) {
    for (float &d : decay) // as exp of a trained A_log: from 0.02 to 12
      d = -std::exp(d);
  }
};

// The recurrence of llm.delta_rule in double, and the largest norm that a column of a state had.
struct Reference {
  std::vector<double> out, state;
  double largest = 0;

  Reference(const DeltaConfig &c, const Inputs &in)
      : out(in.qkv.size() / in.width * c.valueHeads * c.valueDim), state(in.state.begin(), in.state.end()) {
    const uint64_t tokens = in.qkv.size() / in.width;
    for (uint64_t h = 0; h < c.valueHeads; ++h)
      for (uint64_t t = 0; t < tokens; ++t) {
        const uint64_t keyHead = h / (c.valueHeads / c.keyHeads);
        const float *row = &in.qkv[t * in.width];
        const std::vector<double> q = normalised(row + keyHead * c.keyDim, c.keyDim),
                                  k = normalised(row + (c.keyHeads + keyHead) * c.keyDim, c.keyDim);
        const float *v = row + 2 * c.keyHeads * c.keyDim + h * c.valueDim;
        const double x = static_cast<double>(in.a[t * in.heads + h]) + in.bias[h];
        const double kept = std::exp(in.decay[h] * (std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)))));
        const double beta = sigmoid(in.b[t * in.heads + h]);
        for (uint64_t e = 0; e < c.valueDim; ++e) {
          double *s = &state[h * c.keyDim * c.valueDim + e], remembered = 0, y = 0, norm = 0;
          for (uint64_t d = 0; d < c.keyDim; ++d)
            norm += s[d * c.valueDim] * s[d * c.valueDim];
          largest = std::max(largest, std::sqrt(norm) + std::abs(v[e]));
          for (uint64_t d = 0; d < c.keyDim; ++d)
            remembered += k[d] * (s[d * c.valueDim] *= kept);
          const double correction = beta * (v[e] - remembered);
          for (uint64_t d = 0; d < c.keyDim; ++d)
            y += q[d] * (s[d * c.valueDim] += k[d] * correction);
          out[(t * c.valueHeads + h) * c.valueDim + e] = y / std::sqrt(static_cast<double>(c.keyDim));
        }
      }
  }

private:
  static std::vector<double> normalised(const float *x, uint64_t dim) {
    double sum = 1e-6;
    for (uint64_t d = 0; d < dim; ++d)
      sum += static_cast<double>(x[d]) * x[d];
    std::vector<double> y(x, x + dim);
    for (double &value : y)
      value /= std::sqrt(sum);
    return y;
  }
};

class Rule {
public:
  Rule(const DeltaConfig &c, Form form) : config(c) {
    auto add = [&](auto emitter) {
      kernels.push_back(std::make_unique<Kernel>(
          [&](auto module, auto &target, auto name) { return emitter(module, target, name, c); }));
    };
    if (form == Form::Recurrent) {
      add(emitDeltaRecurrent);
    } else {
      add(emitDeltaPrepare);
      add(emitDeltaChunks);
    }
  }

  [[nodiscard]] Form form() const { return kernels.size() == 1 ? Form::Recurrent : Form::Chunks; }

  // The rows of the result; `in.state` becomes what is left.
  std::vector<float> run(Inputs &in, uint64_t first, uint64_t tokens) const {
    auto rows = [&](const std::vector<float> &all, uint64_t columns) {
      auto begin = all.begin() + static_cast<ptrdiff_t>(first * columns);
      return padRows(std::vector<float>(begin, begin + static_cast<ptrdiff_t>(tokens * columns)), columns,
                     tileRest(tokens));
    };
    const uint64_t width = config.valueHeads * config.valueDim, stride = paddedRow(width);
    StepBuffer step({.tokens = static_cast<int32_t>(tokens), .position = static_cast<int32_t>(first)});
    Buffer qkv(rows(in.qkv, in.width)), b(rows(in.b, in.heads)), a(rows(in.a, in.heads)), decay(in.decay),
        bias(in.bias), state(in.state), out((tokens + tileRest(tokens)) * stride * 4);
    const auto count = static_cast<unsigned>(tokens);
    if (kernels.size() == 1) {
      kernels[0]->run(count, {&step, &qkv, &b, &a, &decay, &bias, &state, &out});
    } else {
      Buffer prepared((tokens + tileRest(tokens)) / 64 * deltaPreparedBytes(config));
      kernels[0]->run(count, {&step, &qkv, &b, &a, &decay, &bias, &prepared});
      kernels[1]->run(count, {&step, &qkv, &prepared, &state, &out});
    }
    in.state = state.read<float>();
    std::vector<float> got = out.read<float>(), result;
    Difference padding;
    for (uint64_t t = 0; t < tokens; ++t) {
      for (uint64_t e = width; e < stride; ++e)
        padding.expect(got[t * stride + e], 0, 0, 0, "padding of token " + std::to_string(t));
      result.insert(result.end(), got.begin() + static_cast<ptrdiff_t>(t * stride),
                    got.begin() + static_cast<ptrdiff_t>(t * stride + width));
    }
    if (width < stride)
      padding.report("the padding");
    return result;
  }

private:
  DeltaConfig config;
  std::vector<std::unique_ptr<Kernel>> kernels;
};

// What fp32 may lose. An error of a column of the state is no larger after the next token, since decay and
// I - beta k k^T shrink; so errors of tokens add up at most. A token's: sums of key_dim products in four parts, and a
// dozen roundings more, of terms no larger than the column and v. The gates' 2^-17 is of the exponent, whose effect on
// a column is the same part of what decays, however many tokens that takes. An output is a product with q, whose norm
// is key_dim^-0.5.
//
// In chunks, a product of two split operands is within 3 * 2^-18 of the product of their magnitudes, so a dot of two
// vectors is within 2^-16 of the product of their norms. A row of T or P adds up 64 terms of such errors, which are
// independent of each other: 8 * 2^-16 of what a token adds to a column; and a result has two of these in it.
double bound(const DeltaConfig &c, Form form, const Reference &reference, uint64_t tokens) {
  const double perToken = (static_cast<double>(c.keyDim) / 4 + 16) * 0x1p-24;
  const double split = form == Form::Chunks ? 0x1p-12 : 0;
  return (0x1p-16 + split + static_cast<double>(tokens) * perToken) * reference.largest;
}

std::string describe(const DeltaConfig &c) {
  return std::to_string(c.keyHeads) + " x " + std::to_string(c.keyDim) + " and " + std::to_string(c.valueHeads) +
         " x " + std::to_string(c.valueDim);
}

// Runs `in` in pieces of these lengths and compares every row and the state that is left.
void check(const DeltaConfig &c, const Rule &rule, Inputs in, const std::vector<unsigned> &pieces) {
  SCOPED_TRACE(describe(c));
  const Reference reference(c, in);
  const uint64_t width = c.valueHeads * c.valueDim;
  std::vector<float> got;
  for (unsigned tokens : pieces) {
    std::vector<float> rows = rule.run(in, got.size() / width, tokens);
    got.insert(got.end(), rows.begin(), rows.end());
  }
  ASSERT_EQ(got.size(), reference.out.size());
  const double state = bound(c, rule.form(), reference, got.size() / width),
               out = state / std::sqrt(static_cast<double>(c.keyDim));
  Difference difference;
  for (uint64_t i = 0; i < got.size(); ++i)
    difference.expect(got[i], reference.out[i], out, 0x1p-22,
                      "token " + std::to_string(i / width) + ", element " + std::to_string(i % width));
  for (uint64_t i = 0; i < in.state.size(); ++i)
    difference.expect(in.state[i], reference.state[i], state, 0x1p-22, "state " + std::to_string(i));
  difference.report(std::to_string(got.size() / width) + " tokens");
}

void checkLengths(const DeltaConfig &c, Form form, const std::vector<unsigned> &lengths) {
  const Rule rule(c, form);
  for (unsigned tokens : lengths) {
    Inputs in(c, tokens, tokens);
    check(c, rule, in, {tokens});
    in.state = normalFloat(in.state.size(), 99);
    check(c, rule, in, {tokens});
  }
}

class DeltaForms : public testing::TestWithParam<Form> {};
INSTANTIATE_TEST_SUITE_P(Forms, DeltaForms, testing::Values(Form::Recurrent, Form::Chunks));

TEST_P(DeltaForms, EveryLength) {
  checkLengths({.keyHeads = 1, .valueHeads = 2, .keyDim = 32, .valueDim = 32}, GetParam(),
               {1, 2, 3, 63, 64, 65, 130, 257});
}
TEST_P(DeltaForms, SharedKeys) {
  checkLengths({.keyHeads = 2, .valueHeads = 2, .keyDim = 16, .valueDim = 16}, GetParam(), {1, 70});
  checkLengths({.keyHeads = 2, .valueHeads = 6, .keyDim = 16, .valueDim = 16}, GetParam(), {1, 70});
}
TEST_P(DeltaForms, OddDims) {
  for (auto [keyDim, valueDim] : {std::pair<uint64_t, uint64_t>{16, 48}, {64, 16}, {80, 32}, {112, 80}, {48, 256}})
    checkLengths({.keyHeads = 1, .valueHeads = 1, .keyDim = keyDim, .valueDim = valueDim}, GetParam(), {1, 66});
}
TEST_P(DeltaForms, RealDims) {
  checkLengths({.keyHeads = 1, .valueHeads = 3, .keyDim = 128, .valueDim = 128}, GetParam(), {1, 65});
}
// Wider than chunks can be.
TEST(Delta, WidestHeads) {
  for (uint64_t dim : {176, 256}) {
    const DeltaConfig c{.keyHeads = 1, .valueHeads = 1, .keyDim = dim, .valueDim = dim};
    EXPECT_FALSE(deltaInChunks(c));
    checkLengths(c, Form::Recurrent, {1, 65});
  }
}
TEST_P(DeltaForms, InPieces) {
  const DeltaConfig c{.keyHeads = 1, .valueHeads = 2, .keyDim = 32, .valueDim = 48};
  const Rule rule(c, GetParam());
  check(c, rule, Inputs(c, 130, 5), {50, 80});
  check(c, rule, Inputs(c, 130, 5), {1, 64, 1, 1, 63});
}

// The relative error (L2) of the state after 4096 tokens in chunks of prefills of 512, below 1e-3: gates as a trained
// head has them, which remembers from a few to a thousand tokens.
TEST(DeltaChunks, StateAfter4096Tokens) {
  const DeltaConfig c{.keyHeads = 1, .valueHeads = 2, .keyDim = 64, .valueDim = 32};
  const Rule rule(c, Form::Chunks);
  Inputs in(c, 4096, 11);
  in.decay = {-0.05F, -1};
  in.bias = {-3, -1};
  const Reference reference(c, in);
  for (uint64_t first = 0; first < 4096; first += 512)
    rule.run(in, first, 512);
  for (uint64_t h = 0; h < c.valueHeads; ++h) {
    double error = 0, size = 0;
    for (uint64_t i = h * 64 * 32; i < (h + 1) * 64 * 32; ++i) {
      error += std::pow(in.state[i] - reference.state[i], 2);
      size += std::pow(reference.state[i], 2);
    }
    RecordProperty("head" + std::to_string(h), std::to_string(std::sqrt(error / size)));
    EXPECT_LT(std::sqrt(error / size), 1e-3) << "head " << h;
    if (std::getenv("INGOT_NUMERICS_FACTS"))
      std::printf("%s: head %u, relative error of the state %.2e\n", target().name, static_cast<unsigned>(h),
                  std::sqrt(error / size));
  }
}

// Decay of e^-50 a token (and of nothing), beta of 0 and of 1, rows of zeros, tiny and huge vectors.
TEST_P(DeltaForms, Extremes) {
  const DeltaConfig c{.keyHeads = 1, .valueHeads = 4, .keyDim = 32, .valueDim = 16};
  const Rule rule(c, GetParam());
  Inputs in(c, 100, 7);
  in.state = normalFloat(in.state.size(), 98);
  in.decay = {-50, -1e-6F, -1, 0};
  in.bias = {0.5413F, 0, 100, -100}; // softplus(0.5413) is 1
  for (uint64_t t = 0; t < 100; ++t) {
    in.a[4 * t] = 0;
    in.b[4 * t + 1] = t % 2 ? 200.0F : -200.0F;
    in.b[4 * t + 3] = 200;
    float *row = &in.qkv[t * in.width];
    if (t % 7 == 3)
      std::fill_n(row, 64, 0.0F);
    if (t % 7 == 4)
      std::fill_n(row + 32, 32, 1e-5F);
    if (t % 7 == 5)
      std::fill_n(row, 64, -1e6F);
  }
  check(c, rule, in, {100});
}

} // namespace
