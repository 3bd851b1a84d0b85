// Turns the tensors of a folder's files into those that a Checkpoint shows: a quantised linear's several tensors become
// one, everything else stays as it is, and nothing is left over.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "compiler/checkpoint/checkpoint.h"
#include "compiler/checkpoint/quantization_config.h"
#include "compiler/checkpoint/quantized_linear.h"
#include "compiler/checkpoint/safetensors_file.h"

namespace ingot {

// A tensor as a file of the folder has it. The file outlives whatever is made of it.
struct FileTensor {
  const SafetensorsFile *file;
  const SafetensorsTensor *record;

  const uint8_t *data() const { return file->data(*record); }
};

struct ShownTensor {
  TensorInfo info;
  std::vector<FileTensor> parts;         // one for a plain tensor
  std::optional<QuantizedLinear> linear; // with info.quantization
};

// In file order, a linear at the place of its first part. An error names the file and the tensor: a part without the
// others, shapes that do not fit each other or `config`, integers and FP8 that belong to no linear.
absl::StatusOr<std::vector<ShownTensor>> foldQuantizedLinears(std::span<const FileTensor> tensors,
                                                              const std::optional<QuantizationConfig> &config);

} // namespace ingot
