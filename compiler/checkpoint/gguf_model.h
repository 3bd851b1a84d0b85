// What a GGUF's architecture means: its metadata in the words of Hugging Face's config.json, its tensors under Hugging
// Face's names, and in what order a converter has put their rows and columns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "compiler/checkpoint/gguf_file.h"

namespace ingot {

struct GgufArchitecture {
  const char *name;      // `general.architecture`
  const char *modelType; // Hugging Face's
  bool pairedHeads;      // q and k rows are in the order of adjacent RoPE pairs
  bool hybrid;           // Gated DeltaNet layers; norms hold 1 + w, decays -exp(A_log)
  bool tiledValueHeads;  // value heads go round the key heads, where Hugging Face has those of a key head together
  bool experts;
  bool postNorms = false; // norms after attention and MLP too; in Gemma 3 all norms hold 1 + w
  bool fourth = false;    // Gemma 4, whose norms hold w
};

// The architecture of `file`. Errors: none, or one that is not in the table (names those that are).
absl::StatusOr<const GgufArchitecture *> findGgufArchitecture(const GgufFile &file);

// config.json's keys, from the metadata and from which tensors there are.
absl::StatusOr<nlohmann::json> readGgufConfig(const GgufFile &file, const GgufArchitecture &architecture);

// The same for Gemma 4.
absl::StatusOr<nlohmann::json> readGemma4Config(const GgufFile &file);

struct GgufPlace {
  std::string name; // Hugging Face's
  // Row (of a 1-D tensor: element) and column of the file behind each of Hugging Face's; empty where they are the same.
  std::vector<uint32_t> rows, columns;
  bool converted = false; // TensorInfo::converted
};

// Where `tensor` belongs. Errors: a shape that has not the heads which `config` says.
absl::StatusOr<GgufPlace> placeGgufTensor(const GgufFile &file, const GgufTensor &tensor,
                                          const GgufArchitecture &architecture, const nlohmann::json &config);

} // namespace ingot
