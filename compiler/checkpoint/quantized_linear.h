// A linear that several tensors of a safetensors folder make up: codes, scales, zeros, the group of each column. It
// knows where the bytes of each packing lie; which tensors belong together is found in quantized_folder.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compiler/checkpoint/checkpoint.h"

namespace ingot {

struct QuantizedLinear {
  enum class Codes : uint8_t {
    AwqWords,  // I32 [K, N/8], eight rows a word, interleaved; scales and zeros [G, N]
    GptqWords, // I32 [K*bits/32, N], columns along a word; scales and zeros [G, N]
    RowWords,  // I32 [N, ceil(K*bits/32)], columns along a word; scales [N, G], zeros packed along N [N*bits/32, G]
    RowBytes,  // I8 or F8_E4M3 [N, K]; scales [row groups, G], zeros I8 [N, G]
  };

  StoredQuantization quantization;
  uint64_t rows = 0, columns = 0;
  Codes packing = Codes::RowBytes;
  unsigned zeroOffset = 0; // added to each stored zero

  // Little-endian, any alignment. Sizes are those that the packing implies; `zeros` may be null.
  const uint8_t *codes = nullptr, *scales = nullptr, *zeros = nullptr;
  std::vector<uint32_t> columnOrder; // see QuantizedRows

  uint64_t groups() const { return quantization.groups(columns); }
  unsigned bits() const { return quantization.storage == StoredQuantization::Storage::Int4 ? 4 : 8; }

  // The zero of a row and group as an unsigned number, offset included, not yet checked. `zeros` must not be null.
  unsigned zero(uint64_t row, uint64_t group) const;
  float scale(uint64_t row, uint64_t group) const;

  // Rows [first, first + count), which must be inside.
  void read(uint64_t first, uint64_t count, QuantizedRows &out) const;
  void dequantize(uint64_t first, uint64_t count, std::span<float> out) const;
};

// The formulas at QuantizedRows: one row of codes in its own order of columns, to floats in the weight's order.
void dequantizeStoredRow(const StoredQuantization &quantization, std::span<const int8_t> codes,
                         std::span<const float> scales, std::span<const uint8_t> zeros,
                         std::span<const uint32_t> columnOrder, std::span<float> out);

} // namespace ingot
