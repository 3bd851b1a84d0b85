// A checkpoint as the compiler sees it: named tensors whose rows can be read as fp32 one piece at a time, the model's
// configuration, and its tokenizer. GGUF files and Hugging Face folders look the same from here: tensor names and q/k
// row order are Hugging Face's (a GGUF's are translated; its permuted q/k rows are put back), so nothing above knows
// the format.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

// How a checkpoint that was quantised by its publisher stores a linear [N, K]. Columns fall into groups of
// `groupColumns` (the last may be short) and rows into groups of `groupRows`; each pair of groups has one scale and
// perhaps one zero.
struct StoredQuantization {
  enum class Storage : uint8_t { Int8, Int4, Fp8E4M3 };
  enum class ScaleType : uint8_t { F16, BF16, F32 };
  // What the publisher wants done to the linear's input: nothing; int8 with a scale a token; FP8 with the scale
  // `activationScale`, with one a token, or with one for each token and group of columns.
  enum class Activation : uint8_t { None, Int8PerToken, Fp8PerTensorStatic, Fp8PerToken, Fp8PerTokenGroup };

  Storage storage = Storage::Int8;
  uint64_t groupColumns = 0;    // 0: the whole row
  uint64_t groupRows = 1;       // 0: the whole tensor
  bool zeroPoints = false;      // false when every zero of the file is the middle of the range
  bool permutedColumns = false; // groups are not runs of columns (act-order)
  ScaleType scaleType = ScaleType::F16;
  Activation activation = Activation::None;
  std::optional<float> activationScale = std::nullopt; // for Fp8PerTensorStatic

  // Groups along a row of `columns`.
  uint64_t groups(uint64_t columns) const {
    return groupColumns == 0 ? 1 : columns / groupColumns + (columns % groupColumns != 0);
  }
};

// Rows of such a linear as they are stored. The weight of row r and column position k, whose group is k / groupColumns:
//
//   Int4, zero points     (codes & 15 - zeros) * scales        codes 0..15, zeros 0..15
//   Int4                  codes * scales                       codes -8..7
//   Int8, zero points     (codes - (zeros - 128)) * scales     codes -128..127, zeros 0..255
//   Int8                  codes * scales
//   Fp8E4M3               e4m3(codes) * scales                 codes are the raw bytes
//
// in fp32, one rounding. Scales may be negative, and in a damaged file anything.
struct QuantizedRows {
  std::vector<int8_t> codes;  // [count][columns]
  std::vector<float> scales;  // [count][groups], exact values of the stored type
  std::vector<uint8_t> zeros; // [count][groups]; empty without zero points
  // With permuted columns: position k of a row of codes is column columnOrder[k] of the weight. Else empty.
  std::vector<uint32_t> columnOrder;
};

struct TensorInfo {
  std::string name;            // Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  std::vector<uint64_t> shape; // outermost first: a linear is [out, in]
  std::string storage;         // as the file stores it: "Q4_1", "BF16", "INT4", ...
  std::optional<StoredQuantization> quantization = std::nullopt; // of a linear that its publisher quantised

  // Whether the file holds what the graph computes from Hugging Face's tensor: `1 + w` of a norm that multiplies by it,
  // `-exp` of the logarithm of a decay. GGUF converters store these so.
  bool converted = false;

  // The two-dimensional view of readRows: [product of all dimensions but the last, the last]; one row for a 1-D tensor
  // or a scalar.
  uint64_t rows() const;
  uint64_t columns() const;
};

class Checkpoint {
public:
  // `path` is a GGUF file or a folder with config.json and safetensors. Errors say which file, offset and tensor.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> open(const std::string &path);
  virtual ~Checkpoint() = default;

  // In file order. Every tensor of the checkpoint is here; nothing is dropped. The several tensors of a quantised
  // linear (codes, scales, zeros, ...) are one here, under the linear's plain name "X.weight".
  virtual const std::vector<TensorInfo> &tensors() const = 0;
  const TensorInfo *find(std::string_view name) const;

  // The tensor that a declaration reads as `name`: what find gives. Where weights are made up (synthetic.h) there is
  // one for every demand, and it has the `shape`.
  virtual const TensorInfo *demand(std::string_view name, const std::vector<uint64_t> &shape) const;

  // Decodes rows [first, first + count) of `tensor`, seen as TensorInfo::rows of TensorInfo::columns, into `out`
  // (count * row length floats). Thread-safe. Values are exact for every storage type.
  virtual absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count,
                                std::span<float> out) const = 0;

  // The same rows of a tensor that has a `quantization`, as they are stored; FailedPrecondition for any other. The
  // vectors are resized. Thread-safe. readRows gives what the formulas at QuantizedRows give.
  virtual absl::Status readQuantized(const TensorInfo &tensor, uint64_t first, uint64_t count,
                                     QuantizedRows &out) const;

  // The bytes of rows [first, first + count) of a tensor whose file has them as bf16, row after row, and not changed by
  // readRows; empty for any other. They live as long as the checkpoint and may be unaligned.
  virtual std::span<const uint8_t> bf16Rows(const TensorInfo & /*tensor*/, uint64_t /*first*/,
                                            uint64_t /*count*/) const {
    return {};
  }

  // Says that all of `tensor` will be read soon, so that a cold file is fetched ahead of the reads.
  virtual void expect(const TensorInfo & /*tensor*/) const {}

  // Says that `tensor` will not be read soon, so that its pages need not stay in memory. Reading it again is right.
  virtual void release(const TensorInfo &tensor) const {}

  // Hugging Face's config.json keys; for a GGUF made from its metadata ("model_type", "hidden_size", "rope_theta",
  // ...).
  virtual const nlohmann::json &config() const = 0;
  // Empty (kind NONE) when the checkpoint has no tokenizer.
  virtual const TokenizerData &tokenizer() const = 0;
  // XXH3-64 of the headers, for provenance; file name without directory.
  virtual uint64_t digest() const = 0;
  virtual std::string sourceName() const = 0;
};

// Adds to end_of_sequence the control tokens that have a name of those by which models end a turn or a text
// ("<end_of_turn>", "<|im_end|>", ...).
void addNamedEnds(TokenizerData &tokenizer);

} // namespace ingot
