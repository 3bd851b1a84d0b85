// The packer against a plain restatement of docs/design/layouts.md, and the number rules against hand-made values.
#include "compiler/pack/pack.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "compiler/checkpoint/checkpoint_testing.h"
#include "compiler/checkpoint/fp8.h"
#include "compiler/checkpoint/half.h"

namespace ingot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Layout = PackedWeight::Layout;
using Scheme = PackedWeight::Scheme;
using ScaleType = WeightScheme::ScaleType;
using Storage = WeightScheme::Storage;

// Tensors in memory.
class MemoryCheckpoint final : public Checkpoint {
public:
  void add(const std::string &name, std::vector<uint64_t> shape, std::vector<float> values) {
    infos.push_back({name, std::move(shape), "F32"});
    data.push_back(std::move(values));
  }
  const std::vector<float> &values(size_t index) const { return data[index]; }
  std::vector<float> &values(size_t index) { return data[index]; }

  const std::vector<TensorInfo> &tensors() const override { return infos; }
  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    const size_t index = static_cast<size_t>(&tensor - infos.data());
    const float *rows = data[index].data() + first * tensor.columns();
    EXPECT_LE(first + count, tensor.rows());
    EXPECT_EQ(out.size(), count * tensor.columns());
    std::copy(rows, rows + out.size(), out.begin());
    return absl::OkStatus();
  }
  const nlohmann::json &config() const override { return facts; }
  const TokenizerData &tokenizer() const override { return none; }
  uint64_t digest() const override { return 0; }
  std::string sourceName() const override { return "memory"; }

private:
  std::vector<TensorInfo> infos;
  std::vector<std::vector<float>> data;
  nlohmann::json facts;
  TokenizerData none;
};

class MemorySink final : public WeightSink {
public:
  absl::Status append(std::span<const std::byte> added) override {
    if (bytes.size() + added.size() > limit)
      return absl::ResourceExhaustedError("disk full");
    bytes.insert(bytes.end(), added.begin(), added.end());
    return absl::OkStatus();
  }
  uint64_t offset() const override { return bytes.size(); }

  std::vector<std::byte> bytes;
  size_t limit = std::numeric_limits<size_t>::max();
};

// Swallows the bytes, for measuring.
class CountingSink final : public WeightSink {
public:
  absl::Status append(std::span<const std::byte> added) override {
    count += added.size();
    return absl::OkStatus();
  }
  uint64_t offset() const override { return count; }

private:
  uint64_t count = 0;
};

std::vector<float> randomValues(uint64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float &value : values)
    value = normal(random);
  return values;
}

std::vector<std::byte> mustPack(const PackedWeight &weight, const Checkpoint &checkpoint, unsigned threads = 1) {
  MemorySink sink;
  uint64_t reported = 0;
  const absl::Status status = packWeight(weight, checkpoint, sink, [&](uint64_t bytes) { reported += bytes; }, threads);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(sink.bytes.size(), packedBytes(weight));
  EXPECT_EQ(reported, packedBytes(weight));
  return sink.bytes;
}

template <typename T> T at(const std::vector<std::byte> &bytes, uint64_t offset) {
  T value{};
  EXPECT_LE(offset + sizeof value, bytes.size());
  if (offset + sizeof value <= bytes.size())
    std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The byte offset of element (row, column) by the page's formula: tiles of 16 rows x 32 bytes, [half 2][row 16][16
// bytes].
uint64_t tileOffset(uint64_t row, uint64_t column, uint64_t paddedColumns, uint64_t valueBytes) {
  const uint64_t byte = column * valueBytes, tilesOfK = paddedColumns * valueBytes / 32;
  const uint64_t tile = row / 16 * tilesOfK + byte / 32;
  return tile * 512 + 16 * (16 * (byte % 32 / 16) + row % 16) + byte % 16;
}

struct Quantized {
  bool good;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<uint8_t> zeros;
};

Quantized quantized(const Scheme &scheme, std::span<const float> row) {
  Quantized out{false, std::vector<int8_t>(row.size()), std::vector<float>(scheme.groups(row.size())), {}};
  out.zeros.resize(scheme.zeroPoints ? out.scales.size() : 0);
  out.good = quantizeRow(scheme, row, out.codes.data(), out.scales.data(), out.zeros.data());
  return out;
}

constexpr Scheme kInt4 = {.storage = Storage::Int4, .group = 32, .scaleType = ScaleType::F16};
constexpr Scheme kInt4Zeros = {.storage = Storage::Int4, .group = 32, .zeroPoints = true, .scaleType = ScaleType::F16};
constexpr Scheme kFp8 = {.storage = Storage::Fp8E4M3};

Scheme withGroup(Scheme scheme, uint32_t group) {
  scheme.group = group;
  return scheme;
}

// Every scheme that quantises.
std::vector<Scheme> quantizers() {
  std::vector<Scheme> all = {Scheme::Bf16, Scheme::Int8PerChannel, kFp8, withGroup(kInt4, 0)};
  for (uint32_t group : {32, 64, 128}) {
    for (const Scheme &scheme : {Scheme::Int8Group32, kInt4, kInt4Zeros, kFp8})
      all.push_back(withGroup(scheme, group));
    all.push_back({.storage = Storage::Int4, .group = group, .scaleType = ScaleType::BF16});
    all.push_back({.storage = Storage::Int8, .group = group, .scaleType = ScaleType::F32});
    all.push_back({.storage = Storage::Int4, .group = group, .zeroPoints = true, .scaleType = ScaleType::F32});
  }
  return all;
}

TEST(Quantize, Int8PerChannelRoundsHalfToEven) {
  const std::vector<float> row = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f, -127, 0};
  EXPECT_THAT(quantized(Scheme::Int8PerChannel, row).scales, ElementsAre(1.0f));
  EXPECT_THAT(quantized(Scheme::Int8PerChannel, row).codes, ElementsAre(127, 0, 2, 2, 0, -2, 126, -127, 0));
  EXPECT_EQ(quantized(Scheme::Int8PerChannel, std::vector<float>(5, 0.0f)).scales[0], 0.0f);
  const Quantized tiny = quantized(Scheme::Int8PerChannel, std::vector<float>{1e-40f, -1e-38f});
  EXPECT_EQ(tiny.scales[0], 0.0f);
  EXPECT_THAT(tiny.codes, ElementsAre(0, 0));
}

// Groups around zero, restated: the divisor and the range of codes of each storage.
TEST(Quantize, GroupsUseTheRoundedScale) {
  struct Case {
    Scheme scheme;
    float divisor, low, high;
  };
  for (const Case &rule :
       {Case{Scheme::Int8Group32, 127, -127, 127}, Case{withGroup(Scheme::Int8Group32, 64), 127, -127, 127},
        Case{kInt4, 7.5f, -8, 7}, Case{withGroup(kInt4, 128), 7.5f, -8, 7}}) {
    std::vector<float> row = randomValues(300, 3); // the last group is short
    row[40] = 1000;
    for (int i = 64; i < 96; ++i)
      row[i] = 0;
    const Quantized out = quantized(rule.scheme, row);
    ASSERT_TRUE(out.good);
    for (size_t i = 0; i < row.size(); ++i) {
      const size_t group = i / rule.scheme.group, begin = group * rule.scheme.group;
      float maximum = 0;
      for (size_t k = begin; k < std::min<size_t>(begin + rule.scheme.group, row.size()); ++k)
        maximum = std::max(maximum, std::fabs(row[k]));
      const float scale = halfToFloat(floatToHalf(maximum / rule.divisor));
      ASSERT_EQ(out.scales[group], scale);
      ASSERT_EQ(out.codes[i], scale == 0 ? 0 : std::clamp(std::nearbyint(row[i] / scale), rule.low, rule.high)) << i;
    }
    row[0] = 1e8f;
    EXPECT_FALSE(quantized(rule.scheme, row).good);
  }
}

TEST(Quantize, Int4WithZerosCoversTheRange) {
  std::vector<float> row = randomValues(100, 12);
  for (int i = 32; i < 64; ++i)
    row[i] = 3 + std::fabs(row[i]); // a group of one sign: the range still begins at zero
  const Quantized out = quantized(kInt4Zeros, row);
  ASSERT_TRUE(out.good);
  EXPECT_EQ(out.zeros[1], 0);
  for (size_t i = 0; i < row.size(); ++i) {
    const size_t group = i / 32;
    float low = 0, high = 0;
    for (size_t k = 32 * group; k < std::min<size_t>(32 * group + 32, row.size()); ++k) {
      low = std::min(low, row[k]);
      high = std::max(high, row[k]);
    }
    const float scale = halfToFloat(floatToHalf((high - low) / 15));
    const float zero = std::clamp(std::nearbyint(-low / scale), 0.0f, 15.0f);
    ASSERT_EQ(out.scales[group], scale);
    ASSERT_EQ(out.zeros[group], zero);
    ASSERT_EQ(out.codes[i], std::clamp(std::nearbyint(row[i] / scale) + zero, 0.0f, 15.0f));
    EXPECT_LE(std::fabs(scale * (static_cast<float>(out.codes[i]) - zero) - row[i]), scale * 1.01f);
  }
  const Quantized none = quantized(kInt4Zeros, std::vector<float>(4, 0.0f));
  EXPECT_THAT(none.codes, ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(none.zeros, ElementsAre(0));
}

TEST(Quantize, Fp8SaturatesAtItsLargest) {
  const Quantized out = quantized(kFp8, std::vector<float>{896, -896, 2, 0});
  EXPECT_THAT(out.scales, ElementsAre(2.0f));
  EXPECT_THAT(out.codes, ElementsAre(0x7e, static_cast<int8_t>(0xfe), 0x38, 0));
}

TEST(Quantize, ErrorIsHalfAStep) {
  const std::vector<float> row = randomValues(512, 13);
  std::vector<float> back(row.size());
  for (const Scheme &scheme : quantizers()) {
    ASSERT_TRUE(quantizeDequantizeRow(scheme, row, back).ok()) << describe(scheme);
    double error = 0, power = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      error += std::pow(back[i] - row[i], 2);
      power += std::pow(row[i], 2);
    }
    const double limit = scheme.storage == Storage::Bf16      ? 0.002
                         : scheme.storage == Storage::Int8    ? 0.011
                         : scheme.storage == Storage::Fp8E4M3 ? 0.03
                         : scheme.group == 0                  ? 0.16
                                                              : 0.13;
    EXPECT_LT(std::sqrt(error / power), limit) << describe(scheme);
    EXPECT_GT(std::sqrt(error / power), limit / 4) << describe(scheme);
  }
}

TEST(Quantize, SubnormalGroupScalesClamp) {
  // absmax / 127 = 2.36e-7 rounds down to 4 * 2^-24; the quotient is over 127 without the clamp.
  std::vector<float> row(32, 0.0f), back(32);
  row[0] = 3.19e-5f;
  row[1] = -3.19e-5f;
  ASSERT_TRUE(quantizeDequantizeRow(Scheme::Int8Group32, row, back).ok());
  EXPECT_EQ(back[0], 127 * 0x1p-22f);
  EXPECT_EQ(back[1], -127 * 0x1p-22f);
}

TEST(Quantize, RefusesWhatHasNoValue) {
  std::vector<float> row(4, 1.0f), out(4);
  for (const Scheme &scheme : quantizers()) {
    row[2] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(quantizeDequantizeRow(scheme, row, out).ok());
    row[2] = -std::numeric_limits<float>::infinity();
    EXPECT_FALSE(quantizeDequantizeRow(scheme, row, out).ok());
  }
  EXPECT_THAT(quantizeDequantizeRow(withGroup(kInt4, 48), row, out).ToString(), HasSubstr("int4 group 48 f16"));
  EXPECT_FALSE(quantizeDequantizeRow({.storage = Storage::Fp8E4M3, .zeroPoints = true}, row, out).ok());
  EXPECT_FALSE(quantizeDequantizeRow({.storage = Storage::Int8, .zeroPoints = true}, row, out).ok());
  row[2] = std::numeric_limits<float>::max(); // finite, but bf16 would round it to infinity
  EXPECT_FALSE(quantizeDequantizeRow(Scheme::Bf16, row, out).ok());
  row[2] = 0x1.fep127f;
  EXPECT_TRUE(quantizeDequantizeRow(Scheme::Bf16, row, out).ok());
  EXPECT_EQ(out[2], 0x1.fep127f);
}

struct Shape {
  uint64_t rows, columns;
};

class Tile16 : public ::testing::TestWithParam<Shape> {
protected:
  Tile16() { checkpoint.add("w", {rows, columns}, randomValues(rows * columns, 1)); }
  PackedWeight weight(Scheme scheme) const { return {Layout::Tile16, scheme, {"w"}, rows, columns}; }
  std::span<const float> row(uint64_t r) const { return {checkpoint.values(0).data() + r * columns, columns}; }

  const uint64_t rows = GetParam().rows, columns = GetParam().columns;
  const uint64_t paddedRows = (rows + 63) / 64 * 64, paddedColumns = (columns + 63) / 64 * 64;
  MemoryCheckpoint checkpoint;
};

INSTANTIATE_TEST_SUITE_P(Shapes, Tile16,
                         ::testing::Values(Shape{16, 64}, Shape{1, 1}, Shape{17, 65}, Shape{48, 128}, Shape{33, 100},
                                           Shape{700, 576}));

TEST_P(Tile16, Bf16LiesWhereThePageSays) {
  const std::vector<std::byte> packed = mustPack(weight(Scheme::Bf16), checkpoint);
  ASSERT_EQ(packed.size(), paddedRows * paddedColumns * 2);
  for (uint64_t r = 0; r < paddedRows; ++r)
    for (uint64_t c = 0; c < paddedColumns; ++c) {
      const uint16_t expected = r < rows && c < columns ? floatToBf16(row(r)[c]) : 0;
      ASSERT_EQ(at<uint16_t>(packed, tileOffset(r, c, paddedColumns, 2)), expected) << r << ", " << c;
    }
}

TEST_P(Tile16, Int8PerChannelLiesWhereThePageSays) {
  const std::vector<std::byte> packed = mustPack(weight(Scheme::Int8PerChannel), checkpoint);
  const uint64_t scales = scalesOffset(weight(Scheme::Int8PerChannel));
  EXPECT_EQ(scales, (paddedRows * paddedColumns + 255) / 256 * 256);
  ASSERT_EQ(packed.size(), scales + paddedRows * 4);
  for (uint64_t r = 0; r < paddedRows; ++r) {
    float maximum = 0;
    for (uint64_t c = 0; r < rows && c < columns; ++c)
      maximum = std::max(maximum, std::fabs(row(r)[c]));
    ASSERT_EQ(at<float>(packed, scales + 4 * r), maximum / 127);
    for (uint64_t c = 0; c < paddedColumns; ++c) {
      const float expected = r < rows && c < columns ? std::nearbyint(row(r)[c] * (127 / maximum)) : 0;
      ASSERT_EQ(at<int8_t>(packed, tileOffset(r, c, paddedColumns, 1)), expected) << r << ", " << c;
    }
  }
}

TEST_P(Tile16, Int8Group32LiesWhereThePageSays) {
  const std::vector<std::byte> packed = mustPack(weight(Scheme::Int8Group32), checkpoint);
  const uint64_t scales = scalesOffset(weight(Scheme::Int8Group32)), groups = paddedColumns / 32;
  ASSERT_EQ(packed.size(), scales + paddedRows * groups * 2);
  std::vector<float> expected(columns);
  for (uint64_t r = 0; r < paddedRows; ++r) {
    if (r < rows) {
      ASSERT_TRUE(quantizeDequantizeRow(Scheme::Int8Group32, row(r), expected).ok());
    }
    for (uint64_t c = 0; c < paddedColumns; ++c) {
      const float scale = halfToFloat(at<uint16_t>(packed, scales + 2 * (16 * (r / 16 * groups + c / 32) + r % 16)));
      const float value = scale * static_cast<float>(at<int8_t>(packed, tileOffset(r, c, paddedColumns, 1)));
      ASSERT_EQ(value, r < rows && c < columns ? expected[c] : 0) << r << ", " << c;
    }
  }
}

// The page's formulas for any scheme: values in tiles, then records of scales and zeros.
TEST_P(Tile16, EverySchemeLiesWhereThePageSays) {
  for (const Scheme &scheme : quantizers()) {
    if (!scheme.scaled())
      continue;
    const std::vector<std::byte> packed = mustPack(weight(scheme), checkpoint);
    const uint64_t bits = scheme.storage == Storage::Int4 ? 4 : 8, rowBytes = paddedColumns * bits / 8;
    const uint64_t groups = scheme.group ? (paddedColumns + scheme.group - 1) / scheme.group : 1;
    const uint64_t scaleBytes = scheme.scaleType == ScaleType::F32 ? 4 : 2;
    const uint64_t record = 16 * scaleBytes + (scheme.zeroPoints ? 16 : 0);
    const uint64_t scales = scalesOffset(weight(scheme));
    EXPECT_EQ(scales, (paddedRows * rowBytes + 255) / 256 * 256);
    ASSERT_EQ(packed.size(), scales + paddedRows / 16 * groups * record);
    std::vector<float> expected(columns);
    for (uint64_t r = 0; r < paddedRows; ++r) {
      if (r < rows) {
        ASSERT_TRUE(quantizeDequantizeRow(scheme, row(r), expected).ok());
      }
      for (uint64_t c = 0; c < paddedColumns; ++c) {
        const uint64_t group = scheme.group ? c / scheme.group : 0;
        const uint64_t where = scales + (r / 16 * groups + group) * record;
        float scale = 0;
        if (scheme.scaleType == ScaleType::F32)
          scale = at<float>(packed, where + 4 * (r % 16));
        else
          scale = scheme.scaleType == ScaleType::F16 ? halfToFloat(at<uint16_t>(packed, where + 2 * (r % 16)))
                                                     : bf16ToFloat(at<uint16_t>(packed, where + 2 * (r % 16)));
        float value = 0;
        if (bits == 4) {
          // Element e of a lane's 16 bytes: dword e / 8; in it, the even ones are the low four nibbles, the odd ones
          // the high four.
          const uint64_t element = c % 32;
          const uint64_t tile = (r / 16 * (rowBytes / 32) + c / 64) * 512 + 16 * (16 * (c / 32 % 2) + r % 16);
          const uint64_t nibble = element % 8 / 2 + element % 2 * 4;
          const int code = at<uint32_t>(packed, tile + element / 8 * 4) >> 4 * nibble & 15;
          value = static_cast<float>(code -
                                     (scheme.zeroPoints ? at<uint8_t>(packed, where + 16 * scaleBytes + r % 16) : 8));
        } else if (const auto code = at<uint8_t>(packed, tileOffset(r, c, paddedColumns, 1));
                   scheme.storage == Storage::Int8) {
          value = static_cast<int8_t>(code);
        } else {
          value = e4m3ToFloat(code);
        }
        ASSERT_EQ(value * scale, r < rows && c < columns ? expected[c] : 0)
            << describe(scheme) << " " << r << ", " << c;
      }
    }
  }
}

TEST_P(Tile16, ComesBackAsTheDeviceSeesIt) {
  for (const Scheme &scheme : quantizers()) {
    const std::vector<std::byte> packed = mustPack(weight(scheme), checkpoint);
    std::vector<float> back(rows * columns), expected(columns);
    ASSERT_TRUE(dequantizeRows(weight(scheme), packed, 0, rows, back).ok());
    for (uint64_t r = 0; r < rows; ++r) {
      ASSERT_TRUE(quantizeDequantizeRow(scheme, row(r), expected).ok());
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), back.begin() + static_cast<ptrdiff_t>(r * columns)));
    }
    EXPECT_FALSE(dequantizeRows(weight(scheme), packed, rows, 1, {back.data(), columns}).ok());
    EXPECT_FALSE(dequantizeRows(weight(scheme), std::span(packed).subspan(1), 0, rows, back).ok());
  }
}

TEST(Pack, RandomShapesComeBack) {
  std::mt19937 random(14); // NOLINT(bugprone-random-generator-seed): a failure must come again
  const std::vector<Scheme> schemes = quantizers();
  for (int trial = 0; trial < 200; ++trial) {
    const uint64_t columns = 1 + random() % 300;
    MemoryCheckpoint checkpoint;
    PackedWeight weight{Layout::Tile16, schemes[random() % schemes.size()], {}, 0, columns};
    std::vector<float> whole;
    for (unsigned part = 0; part <= random() % 3; ++part) {
      const uint64_t rows = 1 + random() % 50;
      const std::vector<float> values = randomValues(rows * columns, random());
      whole.insert(whole.end(), values.begin(), values.end());
      weight.sources.push_back(std::string(1, static_cast<char>('a' + part)));
      checkpoint.add(weight.sources.back(), {rows, columns}, values);
      weight.rows += rows;
    }
    const std::vector<std::byte> packed = mustPack(weight, checkpoint, 1 + random() % 3);
    const uint64_t first = random() % weight.rows, count = 1 + random() % (weight.rows - first);
    std::vector<float> back(count * columns), expected(columns);
    ASSERT_TRUE(dequantizeRows(weight, packed, first, count, back).ok());
    for (uint64_t r = 0; r < count; ++r) {
      ASSERT_TRUE(
          quantizeDequantizeRow(weight.scheme, std::span(whole).subspan((first + r) * columns, columns), expected)
              .ok());
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), back.begin() + static_cast<ptrdiff_t>(r * columns)))
          << describe(weight.scheme) << " " << weight.rows << " x " << columns;
    }
  }
}

//===--------------------------------------------------------------------------------------------------------------===//
// Weights that the checkpoint stores quantised
//===--------------------------------------------------------------------------------------------------------------===//

// Every linear of the goldens, packed into the scheme that holds it, is what the checkpoint says, bit for bit.
TEST(Stored, CodesAreCopied) {
  int linears = 0, permuted = 0, blocks = 0, zeros = 0;
  for (const auto &entry : std::filesystem::directory_iterator(testing::goldenPath("quantized"))) {
    absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::open(entry.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const TensorInfo &tensor : (*checkpoint)->tensors()) {
      if (!tensor.quantization)
        continue;
      PackedWeight weight{Layout::Tile16, {}, {tensor.name}, tensor.rows(), tensor.columns()};
      ASSERT_TRUE(storedScheme(*tensor.quantization, tensor.columns(), weight.scheme).ok()) << entry.path();
      EXPECT_TRUE(copiesCodes(weight.scheme, *tensor.quantization, tensor.columns()));
      weight.permuted = tensor.quantization->permutedColumns;
      const std::vector<std::byte> packed = mustPack(weight, **checkpoint);
      EXPECT_EQ(packed, mustPack(weight, **checkpoint, 3));
      std::vector<float> expected(tensor.rows() * tensor.columns()), back(expected.size());
      ASSERT_TRUE((*checkpoint)->readRows(tensor, 0, tensor.rows(), expected).ok());
      ASSERT_TRUE(dequantizeRows(weight, packed, 0, tensor.rows(), back).ok());
      EXPECT_EQ(back, expected) << entry.path() << " " << describe(weight.scheme);
      ++linears;
      permuted += weight.permuted;
      blocks += weight.scheme.blockRows == 16;
      zeros += weight.scheme.zeroPoints;
      // Finer groups and wider scales hold the same numbers; symmetric codes fit where zeros are kept.
      if (weight.permuted || weight.scheme.blockRows != 1)
        continue;
      PackedWeight other = weight;
      other.scheme.group = other.scheme.group == 0 ? 64 : other.scheme.group / 2;
      other.scheme.scaleType = ScaleType::F32;
      other.scheme.zeroPoints = weight.scheme.zeroPoints || weight.scheme.storage == Storage::Int4;
      EXPECT_TRUE(copiesCodes(other.scheme, *tensor.quantization, tensor.columns())) << describe(other.scheme);
      ASSERT_TRUE(dequantizeRows(other, mustPack(other, **checkpoint), 0, tensor.rows(), back).ok());
      EXPECT_EQ(back, expected) << entry.path() << " " << describe(other.scheme);
    }
  }
  EXPECT_GE(linears, 32);
  EXPECT_GE(permuted, 3);
  EXPECT_GE(blocks, 3);
  EXPECT_GE(zeros, 7);
}

// FP8 blocks of 32 rows over 40: one scale a band.
TEST(Stored, BlocksKeepOneScaleABand) {
  const auto checkpoint = Checkpoint::open(testing::goldenPath("quantized/fp8-block-f32"));
  ASSERT_TRUE(checkpoint.ok());
  PackedWeight weight{Layout::Tile16, {}, {"model.layers.0.self_attn.o_proj.weight"}, 40, 72};
  ASSERT_TRUE(storedScheme(*(*checkpoint)->find(weight.sources[0])->quantization, 72, weight.scheme).ok());
  EXPECT_EQ(weight.scheme, (Scheme{.storage = Storage::Fp8E4M3, .group = 32, .blockRows = 16}));
  EXPECT_EQ(packedBytes(weight), 64u * 128 + 4 * 4 * 4); // 4 bands x 4 groups
  weight.sources.push_back(weight.sources[0]);
  weight.rows = 80; // the second begins in the middle of a band
  MemorySink sink;
  EXPECT_THAT(packWeight(weight, **checkpoint, sink).ToString(),
              HasSubstr("cannot be packed as fp8 group 32 x 16 rows"));
}

TEST(Stored, JoinsWithOthersAndQuantisesWhatDoesNotFit) {
  const auto checkpoint = Checkpoint::open(testing::goldenPath("quantized/ct-int4-act-order"));
  ASSERT_TRUE(checkpoint.ok());
  const std::string plain = "model.layers.0.mlp.gate_proj.weight", permuted = "model.layers.0.mlp.up_proj.weight";
  const Scheme bf16Scales = {.storage = Storage::Int4, .group = 32, .scaleType = ScaleType::BF16};
  PackedWeight weight{Layout::Tile16, bf16Scales, {plain, permuted}, 24, 96};
  std::vector<float> back(24 * 96), expected(24 * 96), row(96);
  ASSERT_TRUE(dequantizeRows(weight, mustPack(weight, **checkpoint), 0, 24, back).ok());
  ASSERT_TRUE((*checkpoint)->readRows(*(*checkpoint)->find(plain), 0, 12, std::span(expected).first(12 * 96)).ok());
  ASSERT_TRUE((*checkpoint)->readRows(*(*checkpoint)->find(permuted), 0, 12, std::span(expected).last(12 * 96)).ok());
  for (uint64_t r = 0; r < 24; ++r) {
    // Without `permuted`, act-order columns have no groups of their own here and are quantised again.
    ASSERT_TRUE(quantizeDequantizeRow(bf16Scales, std::span(expected).subspan(r * 96, 96), row).ok());
    for (uint64_t c = 0; c < 96; ++c)
      ASSERT_EQ(back[r * 96 + c], r < 12 ? expected[r * 96 + c] : row[c]);
  }
  weight.permuted = true;
  MemorySink sink;
  EXPECT_THAT(packWeight(weight, **checkpoint, sink).ToString(), HasSubstr("has not the permuted columns"));
  weight.sources = {permuted, permuted};
  ASSERT_TRUE(dequantizeRows(weight, mustPack(weight, **checkpoint), 12, 12, std::span(back).first(12 * 96)).ok());
  EXPECT_TRUE(std::equal(back.begin(), back.begin() + 12 * 96, expected.begin() + 12 * 96));
}

TEST(Stored, RefusesWhatIsNotFinite) {
  testing::TemporaryFolder folder;
  testing::SafetensorsBuilder file;
  file.fill<uint8_t>("a.weight", "F8_E4M3", {4, 64}, 0x7f);
  file.fill<float>("a.weight_scale", "F32", {1}, 1.0f);
  folder.write("model.safetensors", file.bytes());
  folder.write("config.json", R"({"quantization_config":{"quant_method":"fp8"}})");
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  MemorySink sink;
  EXPECT_THAT(packWeight({Layout::Tile16, kFp8, {"a.weight"}, 4, 64}, **checkpoint, sink).ToString(),
              HasSubstr("tensor 'a.weight', row 0: a weight is infinite or not a number"));
}

// A folder's bf16 goes to the device without becoming floats; the bytes are the same.
TEST(Pack, Bf16FilesAreCopied) {
  const auto folder = Checkpoint::open(testing::goldenPath("../goldens/mistral-window5"));
  ASSERT_TRUE(folder.ok()) << folder.status();
  int compared = 0;
  for (const TensorInfo &tensor : (*folder)->tensors()) {
    if ((*folder)->bf16Rows(tensor, 0, tensor.rows()).empty())
      continue;
    MemoryCheckpoint memory;
    std::vector<float> values(tensor.rows() * tensor.columns());
    ASSERT_TRUE((*folder)->readRows(tensor, 0, tensor.rows(), values).ok());
    memory.add(tensor.name, tensor.shape, values);
    for (Layout layout : {Layout::Tile16, Layout::RowMajorBf16, Layout::RowMajorF32}) {
      const PackedWeight weight{layout, Scheme::Bf16, {tensor.name}, tensor.rows(), tensor.columns()};
      EXPECT_EQ(mustPack(weight, **folder), mustPack(weight, memory)) << tensor.name;
    }
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

TEST(Pack, SameBytesForAnyNumberOfThreads) {
  MemoryCheckpoint checkpoint;
  checkpoint.add("w", {5000, 300}, randomValues(5000 * 300, 2));
  for (const Scheme &scheme : {Scheme::Bf16, Scheme::Int8PerChannel, Scheme::Int8Group32, kInt4Zeros}) {
    const PackedWeight weight{Layout::Tile16, scheme, {"w"}, 5000, 300};
    const std::vector<std::byte> one = mustPack(weight, checkpoint, 1);
    EXPECT_EQ(one, mustPack(weight, checkpoint, 2));
    EXPECT_EQ(one, mustPack(weight, checkpoint, 5));
  }
}

TEST(Pack, JoinsSourcesInOrder) {
  MemoryCheckpoint checkpoint;
  checkpoint.add("q", {20, 70}, randomValues(20 * 70, 4));
  checkpoint.add("k", {10, 70}, randomValues(10 * 70, 5));
  const PackedWeight weight{Layout::Tile16, Scheme::Bf16, {"k", "q"}, 30, 70};
  std::vector<float> back(30 * 70);
  ASSERT_TRUE(dequantizeRows(weight, mustPack(weight, checkpoint), 0, 30, back).ok());
  for (uint64_t i = 0; i < back.size(); ++i)
    ASSERT_EQ(back[i], bf16ToFloat(floatToBf16(i < 700 ? checkpoint.values(1)[i] : checkpoint.values(0)[i - 700])))
        << i;
}

// Each expert as if it were alone, at the next multiple of 256.
TEST(Pack, ExpertsAreLinearsOneAfterAnother) {
  constexpr uint64_t kExperts = 3, kRows = 41, kColumns = 72;
  MemoryCheckpoint checkpoint;
  checkpoint.add("all", {kExperts, kRows, kColumns}, randomValues(kExperts * kRows * kColumns, 5));
  for (uint64_t e = 0; e < kExperts; ++e) {
    const auto begin = checkpoint.values(0).begin() + static_cast<ptrdiff_t>(e * kRows * kColumns);
    checkpoint.add("expert " + std::to_string(e), {kRows, kColumns}, {begin, begin + kRows * kColumns});
  }
  for (const Scheme &scheme : {Scheme(Scheme::Bf16), Scheme(Scheme::Int8PerChannel), kInt4, kInt4Zeros, kFp8}) {
    SCOPED_TRACE(describe(scheme));
    PackedWeight all{.scheme = scheme, .sources = {"all"}, .rows = kRows, .columns = kColumns, .experts = kExperts};
    const std::vector<std::byte> packed = mustPack(all, checkpoint, 2);
    const uint64_t stride = packed.size() / kExperts;
    EXPECT_EQ(packed.size() % kExperts, 0U);
    EXPECT_EQ(stride % 256, 0U);
    std::vector<float> rows(kExperts * kRows * kColumns), alone(kRows * kColumns);
    ASSERT_TRUE(dequantizeRows(all, packed, 0, kExperts * kRows, rows).ok());
    for (uint64_t e = 0; e < kExperts; ++e) {
      PackedWeight one{
          .scheme = scheme, .sources = {"expert " + std::to_string(e)}, .rows = kRows, .columns = kColumns};
      const std::vector<std::byte> wanted = mustPack(one, checkpoint);
      ASSERT_LE(wanted.size(), stride);
      EXPECT_EQ(std::memcmp(packed.data() + e * stride, wanted.data(), wanted.size()), 0) << e;
      ASSERT_TRUE(dequantizeRows(one, wanted, 0, kRows, alone).ok());
      EXPECT_EQ(std::memcmp(rows.data() + e * kRows * kColumns, alone.data(), alone.size() * 4), 0) << e;
    }
  }
  MemorySink sink;
  const auto message = [&](const PackedWeight &weight) { return packWeight(weight, checkpoint, sink).ToString(); };
  EXPECT_THAT(message({.sources = {"all"}, .rows = kRows, .columns = kColumns, .experts = 4}),
              HasSubstr("tensor 'all' has 123 rows, expected those of 4 experts"));
  EXPECT_THAT(message({.sources = {"all", "all"}, .rows = kRows, .columns = kColumns, .experts = kExperts}),
              HasSubstr("experts are packed from one tensor"));
}

TEST(Pack, RowMajorTablesAndVectors) {
  MemoryCheckpoint checkpoint;
  checkpoint.add("table", {3, 65}, randomValues(195, 6));
  checkpoint.add("a", {3}, {1, 2, 3});
  checkpoint.add("b", {2}, {4, 5});
  const std::vector<std::byte> table = mustPack({Layout::RowMajorBf16, Scheme::Bf16, {"table"}, 3, 65}, checkpoint);
  ASSERT_EQ(table.size(), 3u * 128 * 2);
  for (uint64_t r = 0; r < 3; ++r)
    for (uint64_t c = 0; c < 128; ++c)
      ASSERT_EQ(at<uint16_t>(table, (r * 128 + c) * 2), c < 65 ? floatToBf16(checkpoint.values(0)[r * 65 + c]) : 0);
  const PackedWeight joined{Layout::RowMajorF32, Scheme::Bf16, {"a", "b"}, 1, 5};
  const std::vector<std::byte> vector = mustPack(joined, checkpoint);
  ASSERT_EQ(vector.size(), 64u * 4);
  for (uint64_t c = 0; c < 64; ++c)
    ASSERT_EQ(at<float>(vector, 4 * c), c < 5 ? static_cast<float>(c + 1) : 0.0f);
  // A small matrix: its rows without padding between them.
  const std::vector<std::byte> matrix = mustPack({Layout::RowMajorF32, Scheme::Bf16, {"table"}, 1, 195}, checkpoint);
  ASSERT_EQ(matrix.size(), 256u * 4);
  for (uint64_t i = 0; i < 256; ++i)
    ASSERT_EQ(at<float>(matrix, 4 * i), i < 195 ? checkpoint.values(0)[i] : 0.0f);
  std::vector<float> back(5);
  ASSERT_TRUE(dequantizeRows(joined, vector, 0, 1, back).ok());
  EXPECT_THAT(back, ElementsAre(1, 2, 3, 4, 5));
}

TEST(Pack, RefusesByName) {
  MemoryCheckpoint checkpoint;
  checkpoint.add("a", {40, 64}, randomValues(40 * 64, 7));
  checkpoint.add("w", {3000, 64}, randomValues(3000 * 64, 8));
  const auto failure = [&](const PackedWeight &weight, unsigned threads) {
    MemorySink sink;
    return packWeight(weight, checkpoint, sink, {}, threads).ToString();
  };
  const auto tile = [](std::vector<std::string> sources, uint64_t rows, uint64_t columns) {
    return PackedWeight{Layout::Tile16, Scheme::Int8PerChannel, std::move(sources), rows, columns};
  };
  EXPECT_THAT(failure(tile({"none"}, 40, 64), 1), HasSubstr("memory: tensor 'none' is missing"));
  EXPECT_THAT(failure(tile({"a"}, 40, 63), 1), HasSubstr("tensor 'a' has 64 columns, expected 63"));
  EXPECT_THAT(failure(tile({"a"}, 41, 64), 1), HasSubstr("tensor 'a' has 40 rows, expected 41"));
  EXPECT_THAT(failure(tile({}, 1, 1), 1), HasSubstr("needs a source"));
  EXPECT_THAT(failure(tile({"a"}, 1ull << 50, 1ull << 50), 1), HasSubstr("larger than any weight"));
  checkpoint.values(1)[64 * 2999 + 5] = std::numeric_limits<float>::infinity();
  for (unsigned threads : {1u, 3u})
    EXPECT_THAT(failure(tile({"a", "w"}, 3040, 64), threads), HasSubstr("tensor 'w', row 2999: a weight is infinite"));
}

TEST(Pack, StopsWhenTheSinkFails) {
  MemoryCheckpoint checkpoint;
  checkpoint.add("w", {20000, 64}, randomValues(20000 * 64, 9));
  for (unsigned threads : {1u, 3u}) {
    MemorySink sink;
    sink.limit = 100000;
    const absl::Status status =
        packWeight({Layout::Tile16, Scheme::Bf16, {"w"}, 20000, 64}, checkpoint, sink, {}, threads);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  }
}

// INGOT_TEST_GGUF names a real Llama file; prints how fast its linears are packed.
TEST(RealFile, Speed) {
  const char *path = std::getenv("INGOT_TEST_GGUF");
  if (!path)
    GTEST_SKIP() << "set INGOT_TEST_GGUF to a GGUF file of architecture llama";
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (const auto &[name, scheme] :
       {std::pair{"bf16", Scheme::Bf16}, {"int8", Scheme::Int8PerChannel}, {"int8_g32", Scheme::Int8Group32}}) {
    CountingSink sink;
    const auto start = std::chrono::steady_clock::now();
    for (const TensorInfo &tensor : (*checkpoint)->tensors())
      if (tensor.shape.size() == 2) {
        const absl::Status status =
            packWeight({Layout::Tile16, scheme, {tensor.name}, tensor.rows(), tensor.columns()}, **checkpoint, sink);
        ASSERT_TRUE(status.ok()) << status;
      }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%s: %.0f MB at %.0f MB/s\n", name, static_cast<double>(sink.offset()) / 1e6,
                static_cast<double>(sink.offset()) / 1e6 / seconds);
  }
}

} // namespace
} // namespace ingot
