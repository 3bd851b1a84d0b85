// Codes, scales and zeros of the packings of quantised checkpoints. Eight nibbles of a word become eight bytes at once;
// AWQ's words, which hold eight rows of one column, are transposed eight columns at a time. Built without contraction.
#include "compiler/checkpoint/quantized_linear.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "compiler/checkpoint/fp8.h"
#include "compiler/checkpoint/half.h"
#include "compiler/checkpoint/simd.h"

namespace ingot {
namespace {

using Storage = StoredQuantization::Storage;
using ScaleType = StoredQuantization::ScaleType;

// Row 8c + j of word c is its nibble kAwqNibble[j].
constexpr std::array<unsigned, 8> kAwqNibble = {0, 4, 1, 5, 2, 6, 3, 7};

template <typename T> T load(const uint8_t *at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

uint32_t word(const uint8_t *words, uint64_t index) { return load<uint32_t>(words + 4 * index); }

// Nibble i of `packed` as byte i.
uint64_t spreadNibbles(uint32_t packed) {
  uint64_t bytes = packed;
  bytes = (bytes | bytes << 16) & 0x0000ffff0000ffffull;
  bytes = (bytes | bytes << 8) & 0x00ff00ff00ff00ffull;
  return (bytes | bytes << 4) & 0x0f0f0f0f0f0f0f0full;
}

// Byte j of lane i becomes byte i of lane j.
void transposeBytes(std::array<uint64_t, 8> &lanes) {
  const auto swap = [](uint64_t &low, uint64_t &high, unsigned shift, uint64_t mask) {
    const uint64_t difference = ((low >> shift) ^ high) & mask;
    high ^= difference;
    low ^= difference << shift;
  };
  for (unsigned i = 0; i < 8; i += 2)
    swap(lanes[i], lanes[i + 1], 8, 0x00ff00ff00ff00ffull);
  for (unsigned i : {0, 1, 4, 5})
    swap(lanes[i], lanes[i + 2], 16, 0x0000ffff0000ffffull);
  for (unsigned i = 0; i < 4; ++i)
    swap(lanes[i], lanes[i + 4], 32, 0x00000000ffffffffull);
}

// Stores up to eight consecutive codes of one row.
void store(int8_t *row, uint64_t column, uint64_t columns, uint64_t bytes) {
  if (columns - column >= sizeof bytes)
    std::memcpy(row + column, &bytes, sizeof bytes);
  else
    std::memcpy(row + column, &bytes, columns - column);
}

// Columns done at once by the packings whose memory lies along N: a cache line of each row that is written, while the
// lines that are read stay in the first cache.
constexpr uint64_t kBlockColumns = 64;

void readAwq(const QuantizedLinear &linear, uint64_t first, uint64_t count, int8_t *out) {
  const uint64_t columns = linear.columns, words = linear.rows / 8;
  for (uint64_t block = 0; block < columns; block += kBlockColumns)
    for (uint64_t octet = first / 8; octet <= (first + count - 1) / 8; ++octet)
      for (uint64_t column = block; column < std::min(block + kBlockColumns, columns); column += 8) {
        const uint64_t width = std::min<uint64_t>(8, columns - column);
        std::array<uint64_t, 8> lanes{};
        for (uint64_t i = 0; i < width; ++i)
          lanes[i] = spreadNibbles(word(linear.codes, (column + i) * words + octet));
        transposeBytes(lanes);
        for (uint64_t j = 0; j < 8; ++j)
          if (const uint64_t row = 8 * octet + j; row >= first && row < first + count)
            store(out + (row - first) * columns, column, columns, lanes[kAwqNibble[j]]);
      }
}

template <unsigned Bits> void readGptq(const QuantizedLinear &linear, uint64_t first, uint64_t count, int8_t *out) {
  constexpr uint64_t kPerWord = 32 / Bits, kLines = kBlockColumns / kPerWord;
  const uint64_t columns = linear.columns, lines = columns / kPerWord;
  for (uint64_t block = 0; block < lines; block += kLines)
    for (uint64_t i = 0; i < count; ++i)
      for (uint64_t line = block; line < std::min(block + kLines, lines); ++line) {
        const uint32_t packed = word(linear.codes, line * linear.rows + first + i);
        int8_t *row = out + i * columns + line * kPerWord;
        if constexpr (Bits == 4) {
          const uint64_t bytes = spreadNibbles(packed);
          std::memcpy(row, &bytes, sizeof bytes);
        } else {
          std::memcpy(row, &packed, sizeof packed);
        }
      }
}

void readRowWords(const QuantizedLinear &linear, uint64_t first, uint64_t count, int8_t *out) {
  const uint64_t columns = linear.columns, perWord = 32 / linear.bits();
  const uint64_t words = (columns + perWord - 1) / perWord;
  for (uint64_t i = 0; i < count; ++i) {
    const uint8_t *source = linear.codes + (first + i) * words * 4;
    int8_t *row = out + i * columns;
    if (perWord == 4)
      std::memcpy(row, source, columns);
    else
      for (uint64_t w = 0; w < words; ++w)
        store(row, 8 * w, columns, spreadNibbles(word(source, w)));
  }
}

// From unsigned codes around `middle` to signed ones.
INGOT_SIMD void subtract(int8_t *__restrict codes, uint64_t count, uint8_t middle) {
  for (uint64_t i = 0; i < count; ++i)
    codes[i] = static_cast<int8_t>(static_cast<uint8_t>(codes[i]) - middle);
}

INGOT_SIMD void scaleCodes(const int8_t *__restrict codes, uint64_t count, int zero, float scale,
                           float *__restrict out) {
  for (uint64_t i = 0; i < count; ++i)
    out[i] = static_cast<float>(codes[i] - zero) * scale;
}

INGOT_SIMD void scaleFp8(const int8_t *__restrict codes, uint64_t count, float scale, float *__restrict out) {
  for (uint64_t i = 0; i < count; ++i)
    out[i] = e4m3ToFloat(static_cast<uint8_t>(codes[i])) * scale;
}

} // namespace

unsigned QuantizedLinear::zero(uint64_t row, uint64_t group) const {
  switch (packing) {
  case Codes::AwqWords:
    return ((word(zeros, group * (rows / 8) + row / 8) >> (4 * kAwqNibble[row % 8])) & 15) + zeroOffset;
  case Codes::GptqWords: {
    const unsigned perWord = 32 / bits();
    const uint32_t packed = word(zeros, group * (rows / perWord) + row / perWord);
    return ((packed >> (row % perWord * bits())) & ((1u << bits()) - 1)) + zeroOffset;
  }
  case Codes::RowWords: {
    const unsigned perWord = 32 / bits();
    const uint32_t packed = word(zeros, row / perWord * groups() + group);
    return ((packed >> (row % perWord * bits())) & ((1u << bits()) - 1)) + zeroOffset;
  }
  case Codes::RowBytes:
    return (zeros[row * groups() + group] ^ 0x80u) + zeroOffset;
  }
  return 0;
}

float QuantizedLinear::scale(uint64_t row, uint64_t group) const {
  const bool groupMajor = packing == Codes::AwqWords || packing == Codes::GptqWords;
  const uint64_t rowGroup = quantization.groupRows == 0 ? 0 : row / quantization.groupRows;
  const uint64_t index = groupMajor ? group * rows + row : rowGroup * groups() + group;
  switch (quantization.scaleType) {
  case ScaleType::F16:
    return halfToFloat(load<uint16_t>(scales + 2 * index));
  case ScaleType::BF16:
    return bf16ToFloat(load<uint16_t>(scales + 2 * index));
  case ScaleType::F32:
    return load<float>(scales + 4 * index);
  }
  return 0;
}

void QuantizedLinear::read(uint64_t first, uint64_t count, QuantizedRows &out) const {
  const uint64_t groupCount = groups();
  out.codes.resize(count * columns);
  out.scales.resize(count * groupCount);
  out.zeros.resize(quantization.zeroPoints ? count * groupCount : 0);
  out.columnOrder = columnOrder;
  if (count == 0)
    return;
  switch (packing) {
  case Codes::AwqWords:
    readAwq(*this, first, count, out.codes.data());
    break;
  case Codes::GptqWords:
    if (bits() == 4)
      readGptq<4>(*this, first, count, out.codes.data());
    else
      readGptq<8>(*this, first, count, out.codes.data());
    break;
  case Codes::RowWords:
    readRowWords(*this, first, count, out.codes.data());
    break;
  case Codes::RowBytes:
    std::memcpy(out.codes.data(), codes + first * columns, count * columns);
    break;
  }
  // Words hold unsigned codes; only int4 with zero points keeps them so.
  if (packing != Codes::RowBytes && !(quantization.storage == Storage::Int4 && quantization.zeroPoints))
    subtract(out.codes.data(), out.codes.size(), quantization.storage == Storage::Int4 ? 8 : 128);
  if (!columnOrder.empty()) {
    std::vector<int8_t> row(columns);
    for (uint64_t i = 0; i < count; ++i) {
      int8_t *target = out.codes.data() + i * columns;
      std::copy_n(target, columns, row.begin());
      for (uint64_t k = 0; k < columns; ++k)
        target[k] = row[columnOrder[k]];
    }
  }
  // Scales and zeros that lie group by group are read along their memory.
  for (uint64_t g = 0; g < groupCount; ++g)
    for (uint64_t i = 0; i < count; ++i) {
      out.scales[i * groupCount + g] = scale(first + i, g);
      if (quantization.zeroPoints)
        out.zeros[i * groupCount + g] = static_cast<uint8_t>(zero(first + i, g));
    }
}

void QuantizedLinear::dequantize(uint64_t first, uint64_t count, std::span<float> out) const {
  QuantizedRows stored;
  constexpr uint64_t kPiece = 64; // rows at once: a few cache lines of each line of a packing that lies along N
  for (uint64_t begin = 0; begin < count; begin += kPiece) {
    const uint64_t size = std::min(kPiece, count - begin), groupCount = groups();
    read(first + begin, size, stored);
    for (uint64_t i = 0; i < size; ++i)
      dequantizeStoredRow(quantization, std::span(stored.codes).subspan(i * columns, columns),
                          std::span(stored.scales).subspan(i * groupCount, groupCount),
                          quantization.zeroPoints ? std::span(stored.zeros).subspan(i * groupCount, groupCount)
                                                  : std::span<uint8_t>(),
                          stored.columnOrder, out.subspan((begin + i) * columns, columns));
  }
}

void dequantizeStoredRow(const StoredQuantization &quantization, std::span<const int8_t> codes,
                         std::span<const float> scales, std::span<const uint8_t> zeros,
                         std::span<const uint32_t> columnOrder, std::span<float> out) {
  const uint64_t columns = codes.size(), group = quantization.groupColumns ? quantization.groupColumns : columns;
  std::vector<float> ordered(columnOrder.empty() ? 0 : columns);
  float *target = columnOrder.empty() ? out.data() : ordered.data();
  for (uint64_t g = 0, begin = 0; begin < columns; ++g, begin += group) {
    const uint64_t width = std::min(group, columns - begin);
    if (quantization.storage == Storage::Fp8E4M3) {
      scaleFp8(codes.data() + begin, width, scales[g], target + begin);
      continue;
    }
    const int bias = quantization.storage == Storage::Int8 ? 128 : 0;
    scaleCodes(codes.data() + begin, width, zeros.empty() ? 0 : zeros[g] - bias, scales[g], target + begin);
  }
  for (uint64_t k = 0; k < columnOrder.size(); ++k)
    out[columnOrder[k]] = ordered[k];
}

} // namespace ingot
