// The storage types of tensors and how their bytes become fp32. Blocked types are ggml's; the values are those of the
// `gguf` Python package's dequantiser, bit for bit (no fused multiply-add, the same order of operations).
#pragma once

#include <cstdint>
#include <string_view>

namespace ingot {

struct StorageType {
  std::string_view name; // "Q4_1"
  uint32_t blockElements;
  uint32_t blockBytes;
  // Null for integers and FP8 of a safetensors file: they mean something only as parts of a quantised linear.
  // Decodes `blocks` consecutive blocks from `source` (no alignment needed) to blocks * blockElements floats.
  void (*decode)(const uint8_t *source, uint64_t blocks, float *out);
};

// Null when this type is not read. `ggmlType` is the number in a GGUF tensor record.
const StorageType *findGgmlStorage(uint32_t ggmlType);
// The name of any ggml type number, read or not; empty for a number that ggml does not have.
std::string_view ggmlTypeName(uint32_t ggmlType);
// `dtype` is a safetensors dtype: "F32", "F16", "BF16", and without a decoder "I8", "U8", "I32", "I64", "F8_E4M3".
const StorageType *findSafetensorsStorage(std::string_view dtype);

} // namespace ingot
