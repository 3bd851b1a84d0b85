// The inverse frequencies of rotary embeddings, from the configuration.
#pragma once

#include <cstdint>
#include <vector>

#include "models/config.h"

namespace ingot {

/// `theta^(-2i/dim)` for i < dim/2 in fp32, scaled as `rope_scaling` or `rope_parameters` says (types default, linear
/// and llama3). Errors, among them every other type, go to `config`.
std::vector<float> inverseFrequencies(ConfigReader &config, int64_t dim);

} // namespace ingot
