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

/// YaRN (Peng et al. 2023): waves that turn often within the original context are kept, those that hardly turn are
/// slowed by `factor`, and a ramp over the dimensions leads from the one to the other.
void scaleYarn(ConfigReader &scaling, double theta, Rotary &rotary) {
  const double factor = scaling.number("factor", 1, 1e6);
  const double fast = scaling.numberOr("beta_fast", 32, 1e-3, 1e6), slow = scaling.numberOr("beta_slow", 1, 1e-3, 1e6);
  const auto original = static_cast<double>(scaling.integer("original_max_position_embeddings", 1, 1 << 30));
  const double mscale = scaling.numberOr("mscale", 0, 0, 1e3), all = scaling.numberOr("mscale_all_dim", 0, 0, 1e3);
  const auto magnitudeOf = [&](double multiplier) { return 1 + 0.1 * multiplier * std::log(factor); };
  const double usual = mscale != 0 && all != 0 ? magnitudeOf(mscale) / magnitudeOf(all) : magnitudeOf(1);
  rotary.magnitude = static_cast<float>(scaling.numberOr("attention_factor", usual, 1e-3, 1e3));
  if (fast <= slow)
    scaling.fail("expected `beta_fast` to be greater than `beta_slow`");
  if (theta <= 1)
    scaling.fail("expected `rope_theta` greater than 1 for rope_type yarn");
  if (!scaling.status().ok())
    return;
  const auto dim = static_cast<double>(rotary.dim);
  // The dimension whose wave turns `turns` times within the original context.
  const auto dimensionOf = [&](double turns) {
    return dim * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = dimensionOf(fast), high = dimensionOf(slow);
  if (scaling.booleanOr("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high)
    high += 0.001; // the reference's way out of a ramp of no length
  for (size_t i = 0; i < rotary.frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double kept = std::pow(theta, -2 * static_cast<double>(i) / dim);
    rotary.frequencies[i] = static_cast<float>(kept / factor * ramp + kept * (1 - ramp));
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
  std::string type = scaling.textOr("rope_type", scaling.textOr("type", "default"));
  const auto rotating = static_cast<size_t>(std::max<int64_t>(rotary.dim / 2, 1));
  // The whole head rotates, most of it not at all: elements pair across the head, and angles are of its width.
  if (type == "proportional")
    rotary.dim = headDim;
  std::vector<float> &frequencies = rotary.frequencies;
  frequencies.resize(static_cast<size_t>(std::max<int64_t>(rotary.dim / 2, 1)));
  for (size_t i = 0; i < rotating; ++i)
    frequencies[i] =
        static_cast<float>(1 / std::pow(theta, 2 * static_cast<double>(i) / static_cast<double>(rotary.dim)));

  if (type == "linear" || (type == "proportional" && scaling.has("factor"))) {
    auto factor = static_cast<float>(scaling.number("factor", 1, 1e6));
    for (float &frequency : frequencies)
      frequency /= factor;
  } else if (type == "llama3") {
    scaleLlama3(scaling, frequencies);
  } else if (type == "yarn") {
    scaleYarn(scaling, theta, rotary);
  } else if (type != "default" && type != "proportional") {
    scaling.fail(
        absl::StrCat("expected `rope_type` default, linear, llama3, yarn or proportional, got \"", type, "\""));
  }
  if (scaling.has("llama_4_scaling_beta")) {
    rotary.temperature = static_cast<float>(scaling.number("llama_4_scaling_beta", 0, 1e3));
    rotary.every = scaling.integer("original_max_position_embeddings", 1, 1 << 30);
  }
  if (!scaling.status().ok() && config.status().ok())
    config.fail(std::string(scaling.status().message()).substr(config.where().size() + 2));
  return rotary;
}

} // namespace ingot
