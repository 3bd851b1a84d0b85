// What a mixture of experts is made of: routing with its ties, the order of a chunk's rows by experts, products of
// every scheme by one row at a time and in tiles of an expert's rows, and the weighted sum. Against the text of the
// ops.
#include "tests/numerics/packed_linear.h"

#include <algorithm>
#include <limits>
#include <numeric>

using namespace ingot;
using namespace ingot::numerics;

namespace {

// NOLINTNEXTLINE(bugprone-throwing-static-initialization): how GoogleTest registers them
const auto *const printWorst = testing::AddGlobalTestEnvironment(new PrintWorst);

//===--------------------------------------------------------------------------------------------------------------===//
// Routing
//===--------------------------------------------------------------------------------------------------------------===//

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// `factors`: of each expert, where its share is multiplied by one.
void checkRoute(const std::vector<std::vector<float>> &rows, uint64_t top, bool normalize,
                const std::vector<float> &factors = {}) {
  const uint64_t experts = rows.front().size(), tokens = rows.size();
  SCOPED_TRACE(std::to_string(top) + " of " + std::to_string(experts));
  std::vector<float> logits;
  for (const std::vector<float> &row : rows)
    logits.insert(logits.end(), row.begin(), row.end());
  Kernel kernel([&](auto module, auto &target, auto name) {
    return emitRoute(module, target, name,
                     {.experts = experts, .top = top, .normalize = normalize, .scaled = !factors.empty()});
  });
  Buffer in(padRows(logits, experts)), weights(tokens * paddedRow(top) * 4), indices(tokens * paddedRow(top) * 4);
  Buffer own(factors.empty() ? std::vector<float>{1} : factors);
  std::vector<const Buffer *> arguments{&in};
  if (!factors.empty())
    arguments.push_back(&own);
  arguments.insert(arguments.end(), {&weights, &indices});
  kernel.run(static_cast<unsigned>(tokens), arguments);
  std::vector<float> gotWeights = weights.read<float>();
  std::vector<int32_t> gotIndices = indices.read<int32_t>();
  Difference difference;
  for (uint64_t t = 0; t < tokens; ++t) {
    std::vector<float> row = rows[t];
    for (float &x : row)
      if (std::isnan(x))
        x = -kInfinity;
    std::vector<int32_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, [&](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    const float most = row[order[0]];
    auto share = [&](int32_t e) { return row[e] == most ? 1.0 : std::exp(static_cast<double>(row[e]) - most); };
    double all = 0, chosen = 0;
    for (int32_t e : order)
      all += share(e);
    for (uint64_t j = 0; j < top; ++j)
      chosen += share(order[j]);
    for (uint64_t j = 0; j < paddedRow(top); ++j) {
      const std::string where = "token " + std::to_string(t) + ", slot " + std::to_string(j);
      const bool real = j < top;
      EXPECT_EQ(gotIndices[t * paddedRow(top) + j], real ? order[j] : 0) << where;
      double wanted = real ? share(order[j]) / (normalize ? chosen : all) : 0;
      if (real && !factors.empty())
        wanted *= factors[order[j]];
      // The exponent's argument is a difference and two products by 1.44, each off by 2^-24 of up to |z|: e^z errs by
      // |z| 2^-22 at most. Then exp2, sums of at most 1024 terms in a tree, and two divisions: a few ulp.
      const double z =
          real && std::isfinite(row[order[j]]) ? std::min(100.0, static_cast<double>(most) - row[order[j]]) : 0;
      difference.expect(gotWeights[t * paddedRow(top) + j], wanted, 0x1p-126, (z + 4) * 0x1p-22, where);
    }
  }
  difference.report("weights");
}

TEST(Route, RandomLogits) {
  for (auto [experts, top] :
       {std::pair<uint64_t, uint64_t>{256, 8}, {128, 8}, {8, 3}, {512, 10}, {1024, 32}, {33, 32}, {97, 1}, {1, 1}})
    for (bool normalize : {false, true}) {
      std::vector<std::vector<float>> rows;
      for (uint32_t t = 0; t < 5; ++t)
        rows.push_back(normalFloat(experts, 40 + t, t == 4 ? 30.0F : 2.0F));
      checkRoute(rows, top, normalize);
    }
}

TEST(Route, SharesTimesFactorsOfTheirExperts) {
  for (auto [experts, top] : {std::pair<uint64_t, uint64_t>{128, 8}, {5, 1}, {33, 32}})
    for (bool normalize : {false, true})
      checkRoute({normalFloat(experts, 61, 2.0F), normalFloat(experts, 62, 2.0F)}, top, normalize,
                 normalFloat(experts, 63));
}

TEST(Route, EqualLogitsGoToTheLowestIndices) {
  std::vector<float> equal(256, 0.25F), zeros(256, 0.0F), few(256, -1.0F);
  for (size_t e = 1; e < zeros.size(); e += 2)
    zeros[e] = -0.0F; // equal to 0
  for (size_t e : {200, 31, 32, 64, 255, 5, 63, 128, 3, 7})
    few[e] = 1.0F; // ten of the largest, of which eight are chosen
  checkRoute({equal, zeros, few}, 8, true);
}

TEST(Route, GapsOfOneUlp) {
  // Descending by an ulp from the last expert to the first, and ascending, so that no rounding before the choice is
  // right.
  std::vector<float> up(256), down(256);
  float x = 1.0F;
  for (size_t e = 0; e < up.size(); ++e, x = std::nextafter(x, 2.0F))
    up[e] = down[up.size() - 1 - e] = x;
  std::vector<float> negative(256);
  std::ranges::transform(up, negative.begin(), [](float value) { return -value; });
  checkRoute({up, down, negative}, 8, true);
}

TEST(Route, HugeAndStrangeLogits) {
  constexpr float kHuge = 3e38F, kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> apart(64, -kHuge), infinite(64, 0.0F), none(64, kNan), some(64, kNan), low(64, -kInfinity);
  apart[9] = kHuge;
  apart[40] = 1.0F;
  infinite[17] = infinite[50] = kInfinity; // two that share everything
  some[60] = 1.0F;
  some[20] = -2.0F;
  checkRoute({apart, infinite, none, some, low}, 4, true);
  checkRoute({apart, infinite, none, some, low}, 4, false);
}

//===--------------------------------------------------------------------------------------------------------------===//
// Products
//===--------------------------------------------------------------------------------------------------------------===//

// Which experts tokens go to.
enum class Pattern { Spread, OneMissing, AllToOne };

std::vector<int32_t> choose(Pattern pattern, unsigned tokens, uint64_t slots, uint64_t experts) {
  std::mt19937 random(tokens + 7 * static_cast<unsigned>(pattern));
  std::vector<int32_t> indices, all(experts);
  std::iota(all.begin(), all.end(), 0);
  if (pattern == Pattern::OneMissing)
    all.erase(all.begin() + 1);
  for (unsigned t = 0; t < tokens; ++t) {
    for (size_t i = all.size() - 1; i > 0; --i)
      std::swap(all[i], all[random() % (i + 1)]);
    for (uint64_t j = 0; j < slots; ++j)
      indices.push_back(pattern == Pattern::AllToOne ? static_cast<int32_t>(experts) - 1 : all[j]);
  }
  return indices;
}

struct ExpertShape {
  uint64_t experts, slots;
  bool ownRows;
  Shape linear;
  uint64_t chunkRows = 192;

  [[nodiscard]] LinearConfig config() const {
    LinearConfig config = linear.config();
    config.experts = {.count = experts, .slots = slots, .ownRows = ownRows, .chunkRows = chunkRows};
    return config;
  }
};

// The list and the tiles: every row once, under its expert, in order; nothing after the last tile.
void checkGroups(const ExpertShape &c, const std::vector<int32_t> &indices, const Buffer &groups) {
  const uint64_t tiles = groupTiles(c.experts, c.slots, c.chunkRows);
  std::vector<int32_t> got = groups.read<int32_t>();
  std::vector<int32_t> wanted;
  for (int32_t e = 0; e < static_cast<int32_t>(c.experts); ++e)
    for (size_t r = 0; r < indices.size(); ++r)
      if (indices[r] == e)
        wanted.push_back(static_cast<int32_t>(r));
  ASSERT_EQ(std::vector<int32_t>(got.begin() + static_cast<ptrdiff_t>(tiles * 4),
                                 got.begin() + static_cast<ptrdiff_t>(tiles * 4 + indices.size())),
            wanted);
  int32_t next = 0;
  bool ended = false;
  for (uint64_t i = 0; i < tiles; ++i) {
    const int32_t expert = got[i * 4], first = got[i * 4 + 1], count = got[i * 4 + 2];
    ended |= count == 0;
    EXPECT_EQ(ended, count == 0) << "tile " << i;
    if (count == 0)
      continue;
    EXPECT_EQ(first, next) << "tile " << i;
    EXPECT_LE(count, static_cast<int32_t>(kGroupRows));
    for (int32_t r = first; r < first + count; ++r)
      EXPECT_EQ(indices[static_cast<size_t>(wanted[static_cast<size_t>(r)])], expert) << "tile " << i;
    next += count;
  }
  EXPECT_EQ(next, static_cast<int32_t>(indices.size()));
}

void check(const ExpertShape &c, Pattern pattern, const std::vector<unsigned> &counts) {
  const Shape &linear = c.linear;
  SCOPED_TRACE(std::to_string(c.slots) + " of " + std::to_string(c.experts) + ", " + std::to_string(linear.rows) +
               " x " + std::to_string(linear.columns) + ", scheme " + linear.scheme.spelled());
  std::vector<Layer> layers;
  std::vector<uint8_t> packed;
  const uint64_t stride = expertStride(linear.scheme, linear.rows, linear.columns);
  for (uint32_t e = 0; e < c.experts; ++e) {
    layers.emplace_back(linear, 1000 * (e + 1));
    std::vector<uint8_t> bytes = layers.back().packed;
    bytes.resize(stride, kUntouched);
    packed.insert(packed.end(), bytes.begin(), bytes.end());
  }
  const bool integer = integerDots(linear.scheme);
  const LinearConfig config = c.config();
  Kernel rowwise([&](auto module, auto &target, auto name) { return emitLinearDecode(module, target, name, config); });
  Kernel tiled([&](auto module, auto &target, auto name) { return emitLinearPrefill(module, target, name, config); });
  Kernel group([&](auto module, auto &target, auto name) { return emitGroup(module, target, name, config.experts); });
  Buffer weight(packed);
  for (unsigned tokens : counts) {
    const std::vector<int32_t> chosen = choose(pattern, tokens, c.slots, c.experts);
    const uint64_t xRows = c.ownRows ? tokens * c.slots : tokens;
    std::vector<Bf16> x = normalBf16(xRows * linear.columns, 25);
    std::vector<int8_t> xq = uniformInt8(xRows * linear.columns, 26);
    std::vector<float> xScales;
    for (uint64_t r = 0; r < xRows; ++r)
      xScales.push_back(0.001F * static_cast<float>(r % 7 + 1));
    StepBuffer step({.tokens = static_cast<int32_t>(tokens)});
    Buffer rows = integer ? Buffer(padRows(xq, linear.columns)) : Buffer(padRows(x, linear.columns));
    Buffer scales(c.ownRows ? padRows(xScales, c.slots) : xScales);
    Buffer indices(padRows(chosen, c.slots));
    Buffer groups(groupBytes(c.experts, c.slots, c.chunkRows));
    group.run(tokens, {&step, &indices, &groups});
    checkGroups(c, chosen, groups);
    const uint64_t outStride = paddedRow(linear.rows);
    std::vector<float> bits;
    for (bool byRow : {true, false}) {
      Buffer out(tokens * c.slots * outStride * 4);
      std::vector<const Buffer *> arguments = {&rows, byRow ? &indices : &groups, &weight, &out};
      if (integer)
        arguments.insert(arguments.begin() + 1, &scales);
      (byRow ? rowwise : tiled).run(tokens, arguments);
      std::vector<float> got = out.read<float>();
      Difference difference;
      for (uint64_t r = 0; r < tokens * c.slots; ++r) {
        const Layer &layer = layers[static_cast<size_t>(chosen[r])];
        const uint64_t from = c.ownRows ? r : r / c.slots;
        for (uint64_t n = 0; n < outStride; ++n) {
          double sum = 0, magnitude = 0;
          for (uint64_t k = 0; n < linear.rows && k < linear.columns; ++k) {
            const double a = integer ? static_cast<double>(xScales[from]) * xq[from * linear.columns + k]
                                     : toFloat(x[from * linear.columns + k]);
            sum += a * layer.weight[n * linear.columns + k];
            magnitude += std::abs(a * layer.weight[n * linear.columns + k]);
          }
          if (integer)
            magnitude = std::abs(sum);
          noteWorst(linear.scheme, byRow, std::abs(got[r * outStride + n] - sum), magnitude);
          difference.expect(got[r * outStride + n], sum, magnitude * boundOf(linear.scheme), 0,
                            "row " + std::to_string(r) + ", column " + std::to_string(n));
        }
      }
      difference.report(std::to_string(tokens) + (byRow ? " tokens, a row at a time" : " tokens, in tiles"));
    }
  }
}

using llm::ScaleType;
using llm::Storage;

std::string nameOf(const testing::TestParamInfo<llm::SchemeAttr> &info) { return info.param.spelled(); }

class Experts : public testing::TestWithParam<llm::SchemeAttr> {
protected:
  static ExpertShape shape(uint64_t experts, uint64_t slots, bool ownRows, uint64_t rows, uint64_t columns) {
    return {.experts = experts,
            .slots = slots,
            .ownRows = ownRows,
            .linear = {.rows = rows, .columns = columns, .scheme = GetParam(), .output = LinearOutput::F32}};
  }
};
INSTANTIATE_TEST_SUITE_P(Schemes, Experts,
                         testing::Values(scheme(Storage::BF16),
                                         scheme(Storage::Int8, 0, false, {}, false, llm::Activation::Int8PerToken),
                                         scheme(Storage::Int8), scheme(Storage::Int8, 32), scheme(Storage::Int8, 128),
                                         scheme(Storage::Int4, 128), scheme(Storage::Int4, 32, /*zeros=*/true),
                                         scheme(Storage::Int4, 128, /*zeros=*/true), scheme(Storage::Fp8),
                                         scheme(Storage::Fp8, 128, false, {}, /*bands=*/true)),
                         nameOf);

// A row a token, K no multiple of a group or step, N none of a tile.
TEST_P(Experts, SharedRows) { check(shape(7, 3, false, 41, 200), Pattern::Spread, {1, 2, 17, 64, 65, 130}); }
// A row a slot.
TEST_P(Experts, OwnRows) { check(shape(5, 2, true, 97, 48), Pattern::OneMissing, {1, 17, 65}); }
TEST_P(Experts, AllToOne) { check(shape(4, 1, true, 64, 64), Pattern::AllToOne, {1, 2, 65, 130}); }

// More experts than rows, and as many slots as there may be.
TEST(ExpertsShapes, ManyExperts) {
  for (uint64_t slots : {8, 32})
    check({.experts = slots == 8 ? 256UL : 33UL,
           .slots = slots,
           .ownRows = true,
           .linear = {.rows = 16, .columns = 64, .scheme = scheme(Storage::BF16), .output = LinearOutput::F32},
           .chunkRows = 64},
          Pattern::Spread, {1, 3, 33});
}

TEST(Combine, AddsInTheOrderOfSlots) {
  for (auto [slots, columns] : {std::pair<uint64_t, uint64_t>{8, 2048}, {3, 41}, {1, 64}, {32, 1100}})
    for (bool wide : {true, false}) {
      const CombineConfig c{
          .slots = slots, .columns = columns, .x = wide ? Element::F32 : Element::Bf16, .out = Element::F32};
      Kernel kernel([&](auto module, auto &target, auto name) { return emitCombine(module, target, name, c); });
      constexpr unsigned kTokens = 3;
      std::vector<float> x = normalFloat(kTokens * slots * columns, 31), weights = normalFloat(kTokens * slots, 32);
      std::vector<Bf16> narrow;
      for (float &value : x) {
        narrow.push_back(toBf16(value));
        value = wide ? value : toFloat(narrow.back());
      }
      Buffer rows = wide ? Buffer(padRows(x, columns)) : Buffer(padRows(narrow, columns));
      Buffer shares(padRows(weights, slots)), out(kTokens * paddedRow(columns) * 4);
      kernel.run(kTokens, {&rows, &shares, &out});
      std::vector<float> got = out.read<float>();
      for (uint64_t t = 0; t < kTokens; ++t)
        for (uint64_t n = 0; n < paddedRow(columns); ++n) {
          float sum = 0;
          for (uint64_t j = 0; n < columns && j < slots; ++j) {
            volatile float product =
                weights[t * slots + j] * x[(t * slots + j) * columns + n]; // rounded before it is added
            sum += product;
          }
          ASSERT_EQ(got[t * paddedRow(columns) + n], sum) << "token " << t << ", column " << n;
        }
    }
}

} // namespace
