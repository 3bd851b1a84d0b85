// Frequencies are computed in double and rounded to fp32 once; the scaling of llama3 then follows the reference's fp32
// steps, because its three bands meet at thresholds.
#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

namespace ingot {

namespace {

/// llama3: long waves are slowed by `factor`, short ones kept, and those between are mixed.
void scaleLlama3(ConfigReader &scaling, std::vector<float> &frequencies) {
  auto factor = static_cast<float>(scaling.number("factor", 1, 1e6));
  auto low = static_cast<float>(scaling.number("low_freq_factor", 1e-3, 1e6));
  auto high = static_cast<float>(scaling.number("high_freq_factor", 1e-3, 1e6));
  auto original = static_cast<float>(scaling.integer("original_max_position_embeddings", 1, 1 << 30));
  if (high <= low)
    scaling.fail("expected `high_freq_factor` to be greater than `low_freq_factor`");
  if (!scaling.status().ok())
    return;
  for (float &frequency : frequencies) {
    float wave = 2.0F * std::numbers::pi_v<float> / frequency;
    if (wave > original / low) {
      frequency /= factor;
    } else if (wave >= original / high) {
      float smooth = (original / wave - low) / (high - low);
      frequency = (1.0F - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

} // namespace

Rotary readRotary(ConfigReader &config, int64_t headDim) {
  // Newer configurations keep theta and scaling together in `rope_parameters`, older ones apart.
  const char *key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  ConfigReader scaling(config.object(key), absl::StrCat(config.where(), ", `", key, "`"));
  constexpr double leastTheta = 1, mostTheta = 1e12;
  double theta = scaling.has("rope_theta") ? scaling.number("rope_theta", leastTheta, mostTheta)
                                           : config.numberOr("rope_theta", 10000, leastTheta, mostTheta);
  double part = scaling.numberOr("partial_rotary_factor", config.numberOr("partial_rotary_factor", 1, 0, 1), 0, 1);
  Rotary rotary;
  rotary.dim = static_cast<int64_t>(static_cast<double>(headDim) * part);
  if (rotary.dim < 2 || rotary.dim % 2 != 0)
    scaling.fail(absl::StrCat("expected `partial_rotary_factor` to leave an even number of rotating elements, got ",
                              rotary.dim, " of ", headDim));
  std::vector<float> &frequencies = rotary.frequencies;
  frequencies.resize(static_cast<size_t>(std::max<int64_t>(rotary.dim / 2, 1)));
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] =
        static_cast<float>(1 / std::pow(theta, 2 * static_cast<double>(i) / static_cast<double>(rotary.dim)));

  std::string type = scaling.textOr("rope_type", scaling.textOr("type", "default"));
  if (type == "linear") {
    auto factor = static_cast<float>(scaling.number("factor", 1, 1e6));
    for (float &frequency : frequencies)
      frequency /= factor;
  } else if (type == "llama3") {
    scaleLlama3(scaling, frequencies);
  } else if (type != "default") {
    scaling.fail(absl::StrCat("expected `rope_type` default, linear or llama3, got \"", type, "\""));
  }
  if (!scaling.status().ok() && config.status().ok())
    config.fail(std::string(scaling.status().message()).substr(config.where().size() + 2));
  return rotary;
}

} // namespace ingot
