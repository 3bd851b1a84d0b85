// A toy model as an artifact, and what it must answer, worked out apart from its kernels.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"

namespace ingot::testing {

inline constexpr uint32_t kToyContext = 64;
inline constexpr uint32_t kToyChunk = 4;

struct ToyCode {
  std::string target, codeObject;
};

// The kernels that the build compiled into `folder`, one code object a chip. NotFound if one is missing.
absl::StatusOr<std::vector<ToyCode>> readToyCode(const std::string &folder);

// Programs prefill, decode, logits, greedy and sample over the kernels of toy_kernels.h, and those for steps of up to
// `streams` sequences.
Manifest toyManifest(std::span<const ToyCode> code, uint32_t streams = 0);
// Writes the toy model; `tokenizer` may be empty. `fixedState`: bytes of one more state, which does not grow with the
// position and which no kernel uses. `streams`: sequences that one step takes, or 0.
absl::Status writeToyModel(const std::string &path, std::span<const ToyCode> code, const TokenizerData &tokenizer = {},
                           uint64_t fixedState = 0, uint32_t streams = 0);

// The logits after each of `tokens`.
std::vector<std::vector<float>> toyLogitsOf(std::span<const int32_t> tokens);
// The `count` tokens that follow `prompt`: greedy, or by the toy's sampling with `seed`.
std::vector<int32_t> toyReply(std::vector<int32_t> prompt, size_t count);
std::vector<int32_t> toySampledReply(std::vector<int32_t> prompt, size_t count, uint32_t seed);
// What may be done to the logits of token number `token` of a reply before it is chosen.
using ToyChange = std::function<void(std::span<float> row, size_t token)>;
// The same where only tokens whose bits are set in its mask may be chosen, of a mask for each; sampled where there is a
// `seed`.
std::vector<int32_t> toyMaskedReply(std::vector<int32_t> prompt, std::span<const uint32_t> masks,
                                    std::optional<uint32_t> seed = {}, const ToyChange &change = {});

} // namespace ingot::testing
