// Argmax, sampling and advance against the texts of llm.argmax, llm.sample and llm.advance; and that samples which
// check drafts (llm.accept) keep their distribution.
#include "tests/numerics/harness.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

using namespace ingot;
using namespace ingot::numerics;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

// All four words of Philox4x32-10.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    k = {k[0] + 0x9E3779B9, k[1] + 0xBB67AE85};
  }
  return c;
}

double randomOf(const Step &step) {
  auto counter = static_cast<uint32_t>(step.position + step.tokens);
  return (philox({counter, 0, 0, 0}, {step.seed[0], step.seed[1]})[0] >> 8) * 0x1p-24;
}

struct Distribution {
  std::vector<double> p; // of the kept, summing to 1; 0 for the rest
  double margin;         // by how much of the probability the top-p cut cleared top_p, at the least
};

// The kept tokens' probabilities, in double, by sorting.
Distribution distribution(const std::vector<float> &logits, const Step &step) {
  std::vector<double> z;
  z.reserve(logits.size());
  for (float x : logits)
    z.push_back(std::isnan(x) ? -std::numeric_limits<double>::infinity() : static_cast<double>(x) / step.temperature);
  std::vector<size_t> order(z.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return z[a] > z[b] || (z[a] == z[b] && a < b); });
  if (step.top_k > 0 && static_cast<size_t>(step.top_k) < order.size())
    order.resize(static_cast<size_t>(step.top_k));
  Distribution d{std::vector<double>(z.size(), 0.0), 1};
  double sum = 0, running = 0;
  for (size_t i : order)
    sum += std::exp(z[i] - z[order[0]]);
  for (size_t n = 0; n < order.size(); ++n) {
    double p = std::exp(z[order[n]] - z[order[0]]) / sum;
    d.p[order[n]] = p;
    running += p;
    if (step.top_p < 1) {
      d.margin = std::min(d.margin, std::abs(running - step.top_p));
      if (running >= step.top_p)
        break;
    }
  }
  for (double &p : d.p)
    p /= running;
  return d;
}

bool allows(const std::vector<uint32_t> &mask, size_t token) { return (mask[token / 32] >> token % 32 & 1) != 0; }

// A mask of the tokens for which `allowed` holds; the bits behind the vocabulary are set, and mean nothing.
std::vector<uint32_t> maskOf(size_t vocabulary, const std::function<bool(size_t token)> &allowed) {
  std::vector<uint32_t> mask(maskWords(vocabulary));
  for (size_t token = 0; token < 32 * mask.size(); ++token)
    if (token >= vocabulary || allowed(token))
      mask[token / 32] |= 1U << token % 32;
  return mask;
}

// What the host makes of logits where a mask leaves tokens out.
std::vector<float> excluding(std::vector<float> logits, const std::vector<uint32_t> &mask) {
  for (size_t token = 0; token < logits.size(); ++token)
    if (!allows(mask, token))
      logits[token] = kExcludedLogit;
  return logits;
}

class SampleKernel {
public:
  explicit SampleKernel(std::vector<float> values)
      : logits(std::move(values)), row(logits), mask(std::vector<uint32_t>(maskWords(logits.size()))), token(4),
        kernel([&](auto module, auto &target, auto name) { return emitSample(module, target, name, logits.size()); }) {}

  // Others, as many.
  void setLogits(const std::vector<float> &values) {
    logits = values;
    row.write(logits.data(), 4 * logits.size());
  }

  // Without a mask all bits are 0, which must not matter.
  int32_t draw(const Step &step) {
    StepBuffer device(step);
    kernel.run(1, {&device, &mask, &row, &token});
    return token.read<int32_t>()[0];
  }

  // The same where only what `bits` allow may be chosen.
  int32_t draw(Step step, const std::vector<uint32_t> &bits) {
    step.masked = 1;
    const StepBuffer device(step);
    const Buffer allowed(bits);
    kernel.run(1, {&device, &allowed, &row, &token});
    EXPECT_EQ(row.read<int32_t>(), Buffer(excluding(logits, bits)).read<int32_t>()) << "left behind";
    setLogits(logits);
    return token.read<int32_t>()[0];
  }

  // Draws `count` tokens at successive positions. Each must be the one whose interval of the running sum holds u. The
  // kernel's sums are fp32 and so are its weights, to about 1e-6 of the total: where u comes closer than kSlack to a
  // border, the neighbour is accepted too; a top-p cut closer than kSlack to its goal may fall one token earlier or
  // later.
  void check(Step step, int count) {
    constexpr double kSlack = 4e-6;
    std::string what = std::to_string(logits.size()) + " logits, temperature " + std::to_string(step.temperature) +
                       ", top_k " + std::to_string(step.top_k) + ", top_p " + std::to_string(step.top_p);
    step.tokens = 1;
    Distribution d = distribution(logits, step);
    ASSERT_GT(d.margin, kSlack) << what << ": choose another top_p, this one cannot be decided";
    for (int i = 0; i < count; ++i, ++step.position) {
      double u = randomOf(step);
      int32_t got = draw(step);
      ASSERT_TRUE(got >= 0 && static_cast<size_t>(got) < logits.size()) << what << ": token " << got;
      double below = std::accumulate(d.p.begin(), d.p.begin() + got, 0.0);
      EXPECT_GT(d.p[static_cast<size_t>(got)], 0) << what << ": token " << got << " was not kept";
      EXPECT_TRUE(below - kSlack <= u && u <= below + d.p[static_cast<size_t>(got)] + kSlack)
          << what << ": token " << got << " has [" << below << ", " << below + d.p[static_cast<size_t>(got)]
          << "), u is " << u;
    }
  }

private:
  std::vector<float> logits;
  Buffer row, mask, token;
  Kernel kernel;
};

TEST(Philox, MatchesThePublishedVectors) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

void checkAllModes(size_t vocabulary, int count) {
  SampleKernel kernel(normalFloat(vocabulary, 11, 3));
  Step plain{.position = 40, .seed = {1, 2}, .temperature = 1, .top_p = 1};
  kernel.check(plain, count);
  for (float temperature : {0.25F, 2.0F}) {
    Step step = plain;
    step.temperature = temperature;
    step.seed[0] = 77;
    kernel.check(step, count);
  }
  for (int32_t k : {1, 2, 5, 40, 5000}) {
    Step step = plain;
    step.top_k = k;
    step.seed[1] = 0xdeadbeef;
    kernel.check(step, count);
    step.top_p = 0.71F;
    kernel.check(step, count);
  }
  for (float p : {0.0123F, 0.52F, 0.913F, 0.8F}) {
    Step step = plain;
    step.top_p = p;
    step.position = 100000;
    kernel.check(step, count);
  }
}

TEST(Sample, SmallVocabulary) { checkAllModes(7, 8); }
TEST(Sample, OddVocabulary) { checkAllModes(4099, 4); }
TEST(Sample, RealVocabulary) { checkAllModes(49152, 2); }

TEST(Sample, EqualLogitsKeepTheLowestIndices) {
  // 3 x 2.0 at 10, 700, 1999; the rest equal at 1.0: the cut falls among equals.
  std::vector<float> logits(2000, 1.0F);
  logits[10] = logits[700] = logits[1999] = 2.0F;
  logits[3] = -0.0F;
  SampleKernel kernel(logits);
  Step step{.position = 5, .seed = {9, 9}, .temperature = 1, .top_p = 1};
  for (int32_t k : {2, 3, 4, 100, 1999}) {
    step.top_k = k;
    kernel.check(step, 12);
  }
  step.top_k = 50;
  step.top_p = 0.8F; // among the ties that top-k left
  kernel.check(step, 12);
  step.top_k = 0;
  step.top_p = 0.3003F;
  kernel.check(step, 12);
}

TEST(Sample, TheWordOfPhiloxDecides) {
  // With 2^14 equal logits the token is the upper bits of u.
  SampleKernel kernel(std::vector<float>(1 << 14, -3.0F));
  Step step{.tokens = 3, .position = 1234, .seed = {0x01234567, 0x89abcdef}, .temperature = 0.7F, .top_p = 1};
  for (int i = 0; i < 8; ++i, step.position += 1000)
    EXPECT_EQ(kernel.draw(step), static_cast<int32_t>(randomOf(step) * (1 << 14)));
}

TEST(Sample, BadLogitsDoNotWin) {
  std::vector<float> logits(100, -kInfinity);
  logits[4] = kNaN;
  logits[50] = 1;
  logits[60] = 1;
  SampleKernel kernel(logits);
  Step step{.position = 1, .seed = {3, 4}, .temperature = 1, .top_p = 1};
  kernel.check(step, 8);
  step.top_k = 70;
  step.top_p = 0.9F;
  kernel.check(step, 8);
}

TEST(Sample, ATinyTemperatureTakesTheLargest) {
  SampleKernel kernel({0, 3, 7, 6.99F, 1});
  Step step{.tokens = 1, .position = 1, .temperature = 1e-39F, .top_p = 1};
  EXPECT_EQ(kernel.draw(step), 2);
}

// Steps of every kind of choice.
std::vector<Step> allKinds() {
  const Step plain{.tokens = 1, .position = 40, .seed = {1, 2}, .temperature = 1, .top_p = 1};
  std::vector<Step> kinds(6, plain);
  kinds[1].temperature = 0;
  kinds[2].temperature = 2.5F;
  kinds[3].top_k = 5;
  kinds[4].top_p = 0.8F;
  kinds[5].top_k = 40;
  kinds[5].top_p = 0.71F;
  return kinds;
}

// The token is the one that the same kernel, which the cases above hold to the text, chooses where the host has written
// over the logits; and one that may be chosen.
TEST(Sample, AMaskChoosesAsIfTheLogitsWereWrittenOver) {
  for (size_t vocabulary : {7U, 33U, 4099U, 49152U}) {
    const std::vector<float> logits = normalFloat(vocabulary, 21, 3);
    SampleKernel kernel(logits);
    const auto largest = static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const std::vector<uint32_t> masks[] = {maskOf(vocabulary, [&](size_t token) { return token != largest; }),
                                           maskOf(vocabulary, [](size_t token) { return token % 3 == 1; }),
                                           maskOf(vocabulary, [&](size_t token) { return token * 2 > vocabulary; })};
    for (const Step &step : allKinds()) {
      const int32_t free = kernel.draw(step);
      for (const std::vector<uint32_t> &mask : masks) {
        const int32_t token = kernel.draw(step, mask);
        EXPECT_TRUE(allows(mask, static_cast<size_t>(token))) << token << " of " << vocabulary;
        kernel.setLogits(excluding(logits, mask));
        EXPECT_EQ(token, kernel.draw(step)) << "of " << vocabulary << ", temperature " << step.temperature;
        kernel.setLogits(logits);
      }
      EXPECT_EQ(kernel.draw(step), free) << "after masks";
    }
  }
}

TEST(Sample, AMaskOfOneTokenLeavesNoChoice) {
  for (size_t vocabulary : {1U, 31U, 32U, 33U, 4099U}) {
    SampleKernel kernel(normalFloat(vocabulary, 22, 3));
    for (size_t only : {size_t{0}, vocabulary / 2, vocabulary - 1})
      for (const Step &step : allKinds())
        EXPECT_EQ(kernel.draw(step, maskOf(vocabulary, [&](size_t token) { return token == only; })),
                  static_cast<int32_t>(only))
            << "of " << vocabulary << ", temperature " << step.temperature;
  }
}

// Greedily it is argmax: the first of the largest.
TEST(Sample, AtTemperatureZeroTheFirstOfTheLargest) {
  for (size_t vocabulary : {1U, 7U, 4099U, 49152U}) {
    std::vector<float> logits = normalFloat(vocabulary, 23, 3);
    SampleKernel kernel(logits);
    auto check = [&] {
      kernel.setLogits(logits);
      auto best = [&](const std::vector<uint32_t> &mask) {
        int32_t found = -1;
        for (size_t token = 0; token < vocabulary; ++token)
          if (allows(mask, token) && !std::isnan(logits[token]) &&
              (found < 0 || logits[token] > logits[static_cast<size_t>(found)]))
            found = static_cast<int32_t>(token);
        return found;
      };
      for (float zero : {0.0F, -0.0F})
        for (int32_t k : {0, 3}) {
          const Step step{.tokens = 1, .position = 3, .seed = {7, 7}, .temperature = zero, .top_k = k, .top_p = 0.4F};
          const auto all = maskOf(vocabulary, [](size_t) { return true; });
          EXPECT_EQ(kernel.draw(step), best(all)) << vocabulary;
          const auto odd = maskOf(vocabulary, [](size_t token) { return token % 2 == 1 || token == 0; });
          EXPECT_EQ(kernel.draw(step, odd), best(odd)) << vocabulary;
        }
    };
    check();
    if (vocabulary > 40) {
      logits[vocabulary - 2] = logits[37] = logits[vocabulary / 2 + 8] = 100;
      logits[20] = kNaN;
      check();
      logits[37] = 0;
      check();
    }
    std::fill(logits.begin(), logits.end(), -0.0F);
    logits.back() = 0; // equal to the others
    check();
  }
}

// Rows of a step that drafts: each takes the token that it would take alone, at its own position.
TEST(Sample, EachRowChoosesAsIfAlone) {
  for (size_t vocabulary : {7U, 4099U}) {
    constexpr unsigned kRows = 4;
    Kernel kernel([&](auto module, auto &target, auto name) { return emitSample(module, target, name, vocabulary); });
    const std::vector<float> values = normalFloat(kRows * vocabulary, 12, 3);
    Buffer rows(padRows(values, vocabulary, 1)), tokens(4 * kRows), token(4);
    const Buffer mask(maskOf(vocabulary, [](size_t id) { return id % 3 == 1; }));
    auto row = [&](unsigned r) {
      auto first = values.begin() + static_cast<ptrdiff_t>(r * vocabulary);
      return std::vector<float>(first, first + static_cast<ptrdiff_t>(vocabulary));
    };
    const Step plain{.tokens = 1, .position = 40, .seed = {5, 6}, .temperature = 1, .top_p = 1};
    Step warm = plain, few = plain, likely = plain, masked = plain;
    warm.temperature = 2.5F;
    few.top_k = 5;
    likely.top_p = 0.8F;
    masked.masked = 1;
    for (const Step &settings : {plain, warm, few, likely, masked}) {
      StepBuffer together(settings);
      kernel.run(kRows, {&together, &mask, &rows, &tokens});
      for (unsigned r = 0; r < kRows; ++r) {
        Step step = settings;
        step.position += static_cast<int32_t>(r);
        StepBuffer alone(step);
        Buffer logits(row(r));
        kernel.run(1, {&alone, &mask, &logits, &token});
        EXPECT_EQ(tokens.read<int32_t>()[r], token.read<int32_t>()[0])
            << "row " << r << " of " << vocabulary << " logits, temperature " << step.temperature << ", top_k "
            << step.top_k << ", top_p " << step.top_p << ", masked " << step.masked;
      }
    }
  }
}

// Two drafts, checked by samples of three rows of five logits, for many seeds. How many stay and what follows them has
// 13 outcomes; the model's probability of each is that of as many single samples. Pearson's statistic of 12 degrees of
// freedom exceeds 50.8 once in a million sets of seeds.
TEST(Sample, DraftsThatAreCheckedKeepTheDistribution) {
  constexpr size_t kVocabulary = 5, kRows = 3;
  constexpr int kDraws = 3000;
  constexpr double kBound = 50.8;
  const std::vector<float> rows = {0.3F, 1.1F, -0.2F, 0.6F, 0.0F,  0.4F, -0.5F, 0.2F,
                                   1.4F, 0.1F, 0.9F,  0.0F, -0.3F, 0.5F, 0.7F};
  const std::vector<int32_t> drafted = {0, 1, 3};
  Step step{.tokens = 1, .position = 7, .capacity = 100, .seed = {0, 17}, .temperature = 0.8F, .top_p = 1};

  std::array<std::vector<double>, kRows> p;
  for (size_t r = 0; r < kRows; ++r) {
    auto first = rows.begin() + static_cast<ptrdiff_t>(r * kVocabulary);
    p[r] = distribution({first, first + kVocabulary}, step).p;
  }
  // By drafts that stay, and the token behind them.
  std::array<std::array<double, kVocabulary>, kRows> expected{}, seen{};
  double reached = kDraws;
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t token = 0; token < kVocabulary; ++token)
      expected[r][token] = reached * p[r][token];
    if (r + 1 < kRows) {
      const auto draft = static_cast<size_t>(drafted[r + 1]);
      reached = std::exchange(expected[r][draft], 0);
    }
  }

  Kernel sample([](auto module, auto &target, auto name) { return emitSample(module, target, name, kVocabulary); });
  Kernel accept([](auto module, auto &target, auto name) {
    return emitAccept(module, target, name, {.tokens = kRows, .ends = {}});
  });
  const Buffer mask(std::vector<uint32_t>{0});
  Buffer logits(padRows(rows, kVocabulary)), best(4 * kRows), tokens(drafted), output(4 * 100), next(4);
  StepBuffer device(step);
  for (int draw = 0; draw < kDraws; ++draw) {
    step.seed[0] = static_cast<uint32_t>(draw);
    device.write(&step, sizeof step);
    sample.run(kRows, {&device, &mask, &logits, &best});
    accept.run(1, {&device, &best, &tokens, &output, &next});
    const auto stay = static_cast<size_t>(device.read<Step>()[0].generated);
    const auto token = static_cast<size_t>(next.read<int32_t>()[0]);
    ASSERT_TRUE(stay < kRows && token < kVocabulary) << stay << " stay, then " << token;
    ++seen[stay][token];
  }
  double statistic = 0;
  for (size_t r = 0; r < kRows; ++r)
    for (size_t token = 0; token < kVocabulary; ++token) {
      if (expected[r][token] == 0) {
        EXPECT_EQ(seen[r][token], 0) << "draft " << r + 1 << " was right, and did not stay";
        continue;
      }
      EXPECT_GT(expected[r][token], 5) << "too few for Pearson's statistic";
      statistic += std::pow(seen[r][token] - expected[r][token], 2) / expected[r][token];
    }
  EXPECT_LT(statistic, kBound);
}

TEST(Argmax, FindsTheFirstOfTheLargest) {
  for (size_t vocabulary : {1U, 63U, 4099U, 49152U}) {
    Kernel partial(
        [&](auto module, auto &target, auto name) { return emitArgmaxPartial(module, target, name, vocabulary); });
    Kernel final([&](auto module, auto &target, auto name) { return emitArgmaxFinal(module, target, name); });
    auto run = [&](const std::vector<float> &logits) {
      Buffer row(logits), partials(kArgmaxWorkgroups * 8), token(4);
      partial.run(1, {&row, &partials});
      final.run(1, {&partials, &token});
      return token.read<int32_t>()[0];
    };
    std::vector<float> logits = normalFloat(vocabulary, 4);
    EXPECT_EQ(run(logits), std::max_element(logits.begin(), logits.end()) - logits.begin()) << vocabulary;
    EXPECT_EQ(run(std::vector<float>(vocabulary, -kInfinity)), 0) << vocabulary;
    EXPECT_EQ(run(std::vector<float>(vocabulary, kNaN)), 0) << vocabulary;
    if (vocabulary > 40) {
      logits[vocabulary - 1] = logits[37] = logits[vocabulary / 2 + 8] = 100;
      logits[20] = kNaN;
      EXPECT_EQ(run(logits), 37) << vocabulary;
      logits[37] = 0;
      EXPECT_EQ(run(logits), static_cast<int32_t>(vocabulary / 2 + 8)) << vocabulary;
    }
  }
}

TEST(Advance, MovesTheStep) {
  Kernel kernel([](auto module, auto &target, auto name) { return emitAdvance(module, target, name); });
  Buffer token(std::vector<int32_t>{321}), tokens(std::vector<int32_t>{1, 2, 3}), output(std::vector<int32_t>{7, 7});
  StepBuffer step({.tokens = 3, .position = 10, .generated = 1, .capacity = 2, .temperature = 1});
  auto run = [&] {
    kernel.run(1, {&step, &token, &tokens, &output});
    Step now = step.read<Step>()[0];
    return std::array{now.tokens, now.position, now.generated, now.capacity};
  };
  EXPECT_EQ(run(), (std::array{1, 13, 2, 2}));
  EXPECT_EQ(tokens.read<int32_t>(), (std::vector{321, 2, 3}));
  EXPECT_EQ(output.read<int32_t>(), (std::vector{7, 321}));
  // The output is full: nothing is written past it, and the step still moves.
  EXPECT_EQ(run(), (std::array{1, 14, 3, 2}));
  EXPECT_EQ(output.read<int32_t>(), (std::vector{7, 321}));
}

TEST(AdvanceBest, TakesTheLowestColumnOfTheLargest) {
  for (size_t candidates : {1U, 31U, 63U, 3072U}) {
    Kernel kernel(
        [&](auto module, auto &target, auto name) { return emitAdvanceBest(module, target, name, candidates); });
    auto run = [&](const std::vector<float> &values, const std::vector<int32_t> &columns) {
      Buffer value(values), column(columns), tokens(std::vector<int32_t>{1, 2}), output(std::vector<int32_t>{7, 7});
      StepBuffer step({.tokens = 3, .position = 10, .generated = 1, .capacity = 2});
      kernel.run(1, {&step, &value, &column, &tokens, &output});
      Step now = step.read<Step>()[0];
      EXPECT_EQ((std::array{now.tokens, now.position, now.generated, now.capacity}), (std::array{1, 13, 2, 2}));
      int32_t token = tokens.read<int32_t>()[0];
      EXPECT_EQ(tokens.read<int32_t>()[1], 2);
      EXPECT_EQ(output.read<int32_t>(), (std::vector{7, token}));
      return token;
    };
    std::vector<float> values = normalFloat(candidates, 4);
    std::vector<int32_t> columns(candidates);
    for (size_t i = 0; i < candidates; ++i)
      columns[i] = static_cast<int32_t>(16 * i + 5);
    auto best = std::max_element(values.begin(), values.end()) - values.begin();
    EXPECT_EQ(run(values, columns), 16 * best + 5) << candidates;
    EXPECT_EQ(run(std::vector<float>(candidates, -kInfinity), columns), 5) << candidates;
    // What tiles of NaN leave.
    EXPECT_EQ(run(std::vector<float>(candidates, -kInfinity), std::vector<int32_t>(candidates, INT32_MAX)), 0);
    if (candidates > 20) {
      values[candidates - 1] = values[17] = values[candidates / 2 + 3] = 100;
      EXPECT_EQ(run(values, columns), 16 * 17 + 5) << candidates;
      std::swap(columns[17], columns[candidates - 1]);
      std::swap(columns[17], columns[candidates / 2 + 3]);
      EXPECT_EQ(run(values, columns), 16 * 17 + 5) << candidates;
    }
  }
}

} // namespace
