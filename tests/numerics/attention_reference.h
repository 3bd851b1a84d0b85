// Attention as the text of llm.attention has it, in double, and the cache's layouts built from their description.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/numerics/harness.h"

namespace ingot::numerics {

// Keys and values of `length` positions, [position][kv head][dim], in the layouts of docs/design/layouts.md; positions
// after the last up to the block's end are zero. In a ring later positions replace earlier ones.
struct Caches {
  uint64_t kvHeads, headDim, length, ring;
  std::vector<Bf16> k, v;

  Caches(const AttentionConfig &c, uint64_t positions, uint32_t seed)
      : kvHeads(c.kvHeads), headDim(c.headDim), length(positions), ring(c.ring),
        k(normalBf16(positions * c.kvHeads * c.headDim, seed)),
        v(normalBf16(positions * c.kvHeads * c.headDim, seed + 1)) {}

  uint64_t index(uint64_t position, uint64_t head, uint64_t d) const {
    return (position * kvHeads + head) * headDim + d;
  }

  std::vector<Bf16> layout(bool keys) const {
    std::vector<Bf16> cache((ring ? ring : (length + 15) / 16 * 16) * kvHeads * headDim, 0);
    for (uint64_t p = 0; p < length; ++p)
      for (uint64_t j = 0; j < kvHeads; ++j)
        for (uint64_t d = 0; d < headDim; ++d) {
          uint64_t head = ((ring ? p % ring : p) / 16 * kvHeads + j) * headDim * 16;
          uint64_t place = keys ? (d / 16 * 2 + d / 8 % 2) * 128 + p % 16 * 8 + d % 8 : d * 16 + p % 16;
          cache[head + place] = (keys ? k : v)[index(p, j, d)];
        }
    return cache;
  }
};

// One head's result for the query at `position`.
inline std::vector<double> attend(const AttentionConfig &c, const Caches &caches, const Bf16 *q, uint64_t head,
                                  uint64_t position) {
  uint64_t j = head / (c.heads / c.kvHeads);
  uint64_t first = c.window > 0 && position + 1 > c.window ? position + 1 - c.window : 0;
  std::vector<double> scores;
  for (uint64_t n = first; n <= position; ++n) {
    double dot = 0;
    for (uint64_t d = 0; d < c.headDim; ++d)
      dot += static_cast<double>(toFloat(q[d])) * toFloat(caches.k[caches.index(n, j, d)]);
    scores.push_back(dot * c.scale);
  }
  double largest = *std::max_element(scores.begin(), scores.end()), sum = 0;
  std::vector<double> result(c.headDim);
  for (uint64_t n = first; n <= position; ++n) {
    double p = std::exp(scores[n - first] - largest);
    sum += p;
    for (uint64_t d = 0; d < c.headDim; ++d)
      result[d] += p * toFloat(caches.v[caches.index(n, j, d)]);
  }
  for (double &value : result)
    value /= sum;
  return result;
}

// The result's one rounding to bf16 is 2^-8 relative. Before it: scores of magnitude 10 from sums of headDim products
// in fp32 are off by up to 1e-5, which moves a weight by as much, and values are at most 6.
constexpr double kAttentionRelative = 0x1.1p-8, kAttentionAbsolute = 1e-4;

inline std::string describe(const AttentionConfig &c) {
  return std::to_string(c.heads) + " heads on " + std::to_string(c.kvHeads) + " of " + std::to_string(c.headDim) +
         ", window " + std::to_string(c.window) + ", ring " + std::to_string(c.ring);
}

} // namespace ingot::numerics
