// A checkpoint as the compiler sees it: named tensors whose rows can be read as fp32 one piece at a time, the model's
// configuration, and its tokenizer. GGUF files and Hugging Face folders look the same from here: tensor names and q/k
// row order are Hugging Face's (a GGUF's are translated; its permuted q/k rows are put back), so nothing above knows
// the format.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

struct TensorInfo {
  std::string name;            // Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  std::vector<uint64_t> shape; // outermost first: a linear is [out, in]
  std::string storage;         // as the file stores it: "Q4_1", "BF16", ...

  // The two-dimensional view of readRows: [shape[0], product of the rest]; one row for a 1-D tensor or a scalar.
  uint64_t rows() const;
  uint64_t columns() const;
};

class Checkpoint {
public:
  // `path` is a GGUF file or a folder with config.json and safetensors. Errors say which file, offset and tensor.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> open(const std::string &path);
  virtual ~Checkpoint() = default;

  // In file order. Every tensor of the checkpoint is here; nothing is dropped.
  virtual const std::vector<TensorInfo> &tensors() const = 0;
  const TensorInfo *find(std::string_view name) const;

  // Decodes rows [first, first + count) of tensor `name`, seen as [shape[0], product of the rest], into `out`
  // (count * row length floats). A 1-D tensor is one row. Thread-safe. Values are exact for every storage type.
  virtual absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count,
                                std::span<float> out) const = 0;

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

} // namespace ingot
