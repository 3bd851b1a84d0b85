// What config.json says about how its linears are quantised, in one form for all publishers' tools. Only what the
// tensors themselves cannot say is kept: which packing, which convention for zeros, what is done to activations. Bits
// and groups follow from the shapes, for a file may have others in single layers; those said here settle what shapes
// leave open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "compiler/checkpoint/checkpoint.h"

namespace ingot {

struct QuantizationConfig {
  enum class Packing : uint8_t {
    Awq,   // qweight I32 [K, N/8], nibbles interleaved along N; zeros as they are
    Gptq,  // qweight I32 [K*bits/32, N], along K
    Plain, // weight I8 or F8_E4M3 [N, K], or weight_packed I32 along K, with weight_scale or weight_scale_inv
  };
  // One way in which linears of the file may be quantised.
  struct Rule {
    std::string name;                            // where it stands, for messages
    bool integer = true;                         // else FP8
    std::optional<unsigned> bits = std::nullopt; // none: either
    uint64_t groupColumns = 0, groupRows = 1;
    StoredQuantization::Activation activation = StoredQuantization::Activation::None;
  };

  std::string method; // as the file says it
  Packing packing = Packing::Plain;
  unsigned zeroOffset = 0; // what is added to a stored zero: 1 for the first GPTQ format
  std::vector<Rule> rules; // at least one
};

// None when `config` has no quantisation. InvalidArgument or Unimplemented, beginning with `where`, for one that is
// damaged or of a kind that is not read.
absl::StatusOr<std::optional<QuantizationConfig>> readQuantizationConfig(const std::string &where,
                                                                         const nlohmann::json &config);

} // namespace ingot
