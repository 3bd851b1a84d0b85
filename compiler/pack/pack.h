// Turns checkpoint tensors into the bytes that kernels read (docs/design/layouts.md), streamed: at any time there are a
// few bands of 16 rows in memory, plus the scales of the weight at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "compiler/checkpoint/checkpoint.h"
#include "compiler/pack/quantize.h"
#include "runtime/artifact/artifact.h"

namespace ingot {

// One weight of the model, as the device will see it.
struct PackedWeight {
  enum class Layout : uint8_t {
    Tile16,       // a linear [rows, columns]: rows and columns padded to 64
    RowMajorBf16, // a table [rows, columns]: columns padded to 64
    RowMajorF32,  // norms, biases and small matrices as one row (rows = 1): padded to 64
  };
  using Scheme = WeightScheme;

  Layout layout = Layout::Tile16;
  Scheme scheme = Scheme::Bf16; // for Tile16
  // Names in the checkpoint. Their rows are concatenated in this order. Where rows = 1, tensors of one row, and of
  // RowMajorF32 those of any, are joined end to end.
  std::vector<std::string> sources;
  uint64_t rows = 0, columns = 0; // of the whole, or of one expert, unpadded
  // For Tile16: matrices one after another, each packed as if it were alone, at a multiple of 256 bytes. The one source
  // has the rows of all of them.
  uint64_t experts = 1;
  // For Tile16: column k of the packed weight is column order[k] of the checkpoint's, as in QuantizedRows::columnOrder.
  // Only for sources that all have permuted columns, in one order, and whose codes are copied.
  bool permuted = false;
};

// All bytes of the weight: values, padding, scales and zeros, padding, column order.
uint64_t packedBytes(const PackedWeight &weight);
// Where the scales begin (of the first expert): the end of the values at the next multiple of 256. The end of its bytes
// when there are none.
uint64_t scalesOffset(const PackedWeight &weight);
// Where the column order, u32 [columns padded], begins: the end of the scales at the next multiple of 256.
// packedBytes(weight) when there is none.
uint64_t columnOrderOffset(const PackedWeight &weight);

// Called with the number of bytes appended since the last call, on the calling thread.
using PackProgress = std::function<void(uint64_t bytes)>;

// Appends exactly packedBytes(weight) bytes to `sink`, the same bytes for any number of threads (0: the cores, at most
// 16). A source that the checkpoint stores quantised is copied code by code where the scheme can hold it (copiesCodes);
// else its values are quantised like any other's. InvalidArgument when a source is missing, its shape does not fit, or
// a weight is not finite or cannot be stored: the message names tensor and row.
absl::Status packWeight(const PackedWeight &weight, const Checkpoint &checkpoint, WeightSink &sink,
                        const PackProgress &progress = {}, unsigned threads = 0);

// The inverse: rows [first, first + count) of a packed weight (of experts: of all of them) as fp32 [count, columns],
// the values that the device sees.
absl::Status dequantizeRows(const PackedWeight &weight, std::span<const std::byte> packed, uint64_t first,
                            uint64_t count, std::span<float> out);

} // namespace ingot
