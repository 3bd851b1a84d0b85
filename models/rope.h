// The inverse frequencies of rotary embeddings, from the configuration.
#pragma once

#include <cstdint>
#include <vector>

#include "models/config.h"

namespace ingot {

struct Rotary {
  int64_t dim = 0; // leading elements of a head that rotate: all of them, or `partial_rotary_factor` of them
  std::vector<float> frequencies; // [dim / 2]
  float magnitude = 1;            // of cosines and sines: YaRN's attention factor
  float temperature = 0;          // of queries, `llama_4_scaling_beta`; 0: none
  int64_t every = 0;              // positions in which the temperature's step grows by one
};

/// `theta^(-2i/dim)` for i < dim/2 in fp32, scaled as `rope_scaling` or `rope_parameters` says (types default, linear,
/// llama3, yarn, and proportional: as many frequencies as rotate, then zeros up to half the head). Sections of
/// positions
/// (`mrope_section`) are read as what they are for text: one position. Errors, among them every other type, go to
/// `config`.
Rotary readRotary(ConfigReader &config, int64_t headDim);

} // namespace ingot
