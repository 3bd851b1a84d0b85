// The packer against a plain restatement of docs/design/layouts.md, and the number rules against hand-made values.
#include "compiler/pack/pack.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "compiler/checkpoint/checkpoint_testing.h"
#include "compiler/checkpoint/half.h"

namespace ingot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Layout = PackedWeight::Layout;
using Scheme = PackedWeight::Scheme;

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

TEST(Quantize, Int8PerChannelRoundsHalfToEven) {
  const std::vector<float> row = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f, -127, 0};
  std::vector<int8_t> out(row.size());
  EXPECT_EQ(quantizeInt8PerChannel(row, out.data()), 1.0f);
  EXPECT_THAT(out, ElementsAre(127, 0, 2, 2, 0, -2, 126, -127, 0));
  const std::vector<float> zeros(5, 0.0f);
  EXPECT_EQ(quantizeInt8PerChannel(zeros, out.data()), 0.0f);
  EXPECT_EQ(out[0], 0);
  const std::vector<float> tiny = {1e-40f, -1e-38f};
  EXPECT_EQ(quantizeInt8PerChannel(tiny, out.data()), 0.0f);
  EXPECT_EQ(out[1], 0);
}

TEST(Quantize, Int8Group32UsesTheRoundedScale) {
  std::vector<float> row = randomValues(100, 3); // the last group is short
  row[40] = 1000;
  for (int i = 64; i < 96; ++i)
    row[i] = 0;
  std::vector<int8_t> out(row.size());
  std::vector<uint16_t> scales(4);
  ASSERT_TRUE(quantizeInt8Group32(row, out.data(), scales.data()));
  for (size_t g = 0; g < 4; ++g) {
    float maximum = 0;
    for (size_t i = 32 * g; i < std::min<size_t>(32 * g + 32, row.size()); ++i)
      maximum = std::max(maximum, std::fabs(row[i]));
    EXPECT_EQ(scales[g], floatToHalf(maximum / 127));
    for (size_t i = 32 * g; i < std::min<size_t>(32 * g + 32, row.size()); ++i) {
      const float scale = halfToFloat(scales[g]);
      const float expected = scale == 0 ? 0 : std::clamp(std::nearbyint(row[i] / scale), -127.0f, 127.0f);
      EXPECT_EQ(out[i], expected) << i;
    }
  }
  row[0] = 1e8f;
  EXPECT_FALSE(quantizeInt8Group32(row, out.data(), scales.data()));
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
  for (Scheme scheme : {Scheme::Bf16, Scheme::Int8PerChannel, Scheme::Int8Group32}) {
    row[2] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(quantizeDequantizeRow(scheme, row, out).ok());
    row[2] = -std::numeric_limits<float>::infinity();
    EXPECT_FALSE(quantizeDequantizeRow(scheme, row, out).ok());
  }
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

TEST_P(Tile16, ComesBackAsTheDeviceSeesIt) {
  for (Scheme scheme : {Scheme::Bf16, Scheme::Int8PerChannel, Scheme::Int8Group32}) {
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

TEST(Pack, SameBytesForAnyNumberOfThreads) {
  MemoryCheckpoint checkpoint;
  checkpoint.add("w", {5000, 300}, randomValues(5000 * 300, 2));
  for (Scheme scheme : {Scheme::Bf16, Scheme::Int8PerChannel, Scheme::Int8Group32}) {
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
