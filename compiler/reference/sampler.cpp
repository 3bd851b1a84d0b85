// Sorting by (value descending, index ascending) once serves top-k and top-p alike: both keep a prefix of that order.
#include "compiler/reference/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "compiler/reference/numerics.h"

namespace ingot::reference {

int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

int32_t sample(std::span<const float> logits, const Step &step) {
  if (step.temperature == 0)
    return argmax(logits);
  std::vector<float> scaled(logits.begin(), logits.end());
  for (float &z : scaled)
    z /= step.temperature;
  std::vector<int32_t> kept(scaled.size());
  std::iota(kept.begin(), kept.end(), 0);
  std::sort(kept.begin(), kept.end(),
            [&](int32_t a, int32_t b) { return scaled[a] != scaled[b] ? scaled[a] > scaled[b] : a < b; });
  if (step.top_k > 0 && static_cast<size_t>(step.top_k) < kept.size())
    kept.resize(static_cast<size_t>(step.top_k));

  // Probabilities in the order of `kept`.
  std::vector<float> probabilities;
  float sum = 0;
  for (int32_t index : kept) {
    probabilities.push_back(std::exp(scaled[index] - scaled[kept.front()]));
    sum += probabilities.back();
  }
  for (float &p : probabilities)
    p /= sum;
  if (step.top_p < 1) {
    float mass = 0;
    size_t count = 0;
    while (count < kept.size() && mass < step.top_p)
      mass += probabilities[count++];
    kept.resize(std::max<size_t>(count, 1));
    probabilities.resize(kept.size());
  }

  std::vector<float> byIndex(scaled.size(), 0.0F);
  for (size_t i = 0; i < kept.size(); ++i)
    byIndex[kept[i]] = probabilities[i];
  std::sort(kept.begin(), kept.end());
  float total = 0;
  for (int32_t index : kept)
    total += byIndex[index];
  uint32_t word = philox(step.seed[0], step.seed[1], static_cast<uint32_t>(step.position + step.tokens));
  const float threshold = static_cast<float>(word >> 8) * 0x1p-24F * total;
  float running = 0;
  for (int32_t index : kept) {
    running += byIndex[index];
    if (running > threshold)
      return index;
  }
  return kept.back();
}

} // namespace ingot::reference
