// Attention as the text of llm.attention has it, in double, and the cache's layouts built from their description.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/numerics/harness.h"

namespace ingot::numerics {

// An FP8 E4M3 from its bits: 4 of exponent with bias 7, 3 of mantissa.
inline float valueOfE4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude =
      exponent ? std::ldexp(static_cast<float>(8 + mantissa), exponent - 10) : std::ldexp(mantissa, -9);
  return code & 0x80 ? -magnitude : magnitude;
}

// The code nearest to `x`, of two equally near the even one.
inline uint8_t codeOf(CacheElement element, float x) {
  if (element == CacheElement::Int8)
    return static_cast<uint8_t>(static_cast<int8_t>(std::nearbyint(x)));
  // Codes of positive numbers ascend with them; 126 is the last.
  const double magnitude = std::abs(x);
  uint8_t above = 0;
  for (uint8_t step = 64; step > 0; step /= 2)
    if (above + step <= 126 && valueOfE4m3(above + step - 1) < magnitude)
      above += step; // all codes below it are less than the magnitude
  uint8_t best = above;
  if (above > 0) {
    const double up = valueOfE4m3(above) - magnitude, down = magnitude - valueOfE4m3(above - 1);
    if (down < up || (down == up && above % 2 == 1))
      best = above - 1;
  }
  return std::signbit(x) ? best | 0x80 : best;
}

// Rows of keys or values, [position][kv head][dim], as a cache holds them: their bytes, elements after one another, and
// the scale of each head where there are any.
struct Held {
  std::vector<uint8_t> elements;
  std::vector<float> scales; // [position][kv head]
  std::vector<float> values; // what they mean

  Held(CacheElement element, const std::vector<Bf16> &rows, uint64_t headDim) {
    const float top = element == CacheElement::Int8 ? 127.0F : 448.0F;
    for (size_t head = 0; head < rows.size(); head += headDim) {
      float most = 0;
      for (size_t e = head; e < head + headDim; ++e)
        most = std::max(most, std::abs(toFloat(rows[e])));
      const float factor = most > 0 ? top / most : 0, scale = most / top;
      if (element != CacheElement::Bf16)
        scales.push_back(scale);
      for (size_t e = head; e < head + headDim; ++e) {
        if (element == CacheElement::Bf16) {
          elements.push_back(static_cast<uint8_t>(rows[e]));
          elements.push_back(static_cast<uint8_t>(rows[e] >> 8));
          values.push_back(toFloat(rows[e]));
          continue;
        }
        elements.push_back(codeOf(element, toFloat(rows[e]) * factor));
        values.push_back(scale * (element == CacheElement::Int8 ? static_cast<int8_t>(elements.back())
                                                                : valueOfE4m3(elements.back())));
      }
    }
  }
};

// The page table of a sequence of so many positions: the last page comes first.
inline std::vector<int32_t> pagesOf(uint64_t positions) {
  std::vector<int32_t> pages((positions + kPagePositions - 1) / kPagePositions);
  std::iota(pages.rbegin(), pages.rend(), 0);
  return pages;
}

// Writes rows, the first of which is that of position `first`, into the bytes of one half of a cache
// (docs/design/layouts.md). In a ring later positions replace earlier ones; else pages are those of `pagesOf`.
inline void place(const Held &rows, CacheElement element, bool keys, uint64_t kvHeads, uint64_t headDim, uint64_t first,
                  uint64_t ring, std::vector<uint8_t> &cache) {
  const uint64_t size = element == CacheElement::Bf16 ? 2 : 1, headBytes = headDim * 16 * size + (size == 1 ? 64 : 0);
  for (uint64_t row = 0; row < rows.values.size() / (kvHeads * headDim); ++row) {
    const uint64_t at = ring ? (first + row) % ring : first + row;
    const uint64_t block = ring ? at / 16 : cache.size() / (kvHeads * headBytes) - 1 - at / 16;
    for (uint64_t j = 0; j < kvHeads; ++j) {
      uint8_t *head = &cache[(block * kvHeads + j) * headBytes];
      for (uint64_t d = 0; d < headDim; ++d) {
        const uint64_t to = keys ? (d / 16 * 2 + d / 8 % 2) * 128 + at % 16 * 8 + d % 8 : d * 16 + at % 16;
        std::memcpy(head + to * size, &rows.elements[((row * kvHeads + j) * headDim + d) * size], size);
      }
      if (size == 1)
        std::memcpy(head + headDim * 16 + at % 16 * 4, &rows.scales[row * kvHeads + j], 4);
    }
  }
}

// Bytes of one half of a cache with room for so many positions, in whole blocks.
inline uint64_t bytesOfCache(CacheElement element, uint64_t kvHeads, uint64_t headDim, uint64_t positions) {
  return (positions + 15) / 16 * 16 * kvHeads * (element == CacheElement::Bf16 ? headDim * 2 : headDim + 4);
}

// What a target's caches may hold.
inline std::vector<CacheElement> elementsOfCaches() {
  std::vector<CacheElement> all{CacheElement::Bf16, CacheElement::Int8};
  if (target().fp8Matrix)
    all.push_back(CacheElement::Fp8);
  return all;
}

// Keys and values of `length` positions; positions after the last up to the block's end are zero.
struct Caches {
  AttentionConfig config;
  uint64_t length;
  Held k, v;

  Caches(const AttentionConfig &c, uint64_t positions, uint32_t seed)
      : config(c), length(positions), k(c.element, normalBf16(positions * c.kvHeads * c.headDim, seed), c.headDim),
        v(c.element, normalBf16(positions * c.kvHeads * c.headDim, seed + 1), c.headDim) {}

  uint64_t index(uint64_t position, uint64_t head, uint64_t d) const {
    return (position * config.kvHeads + head) * config.headDim + d;
  }

  std::vector<int32_t> pages() const { return config.ring ? std::vector<int32_t>() : pagesOf(length); }

  std::vector<uint8_t> layout(bool keys) const {
    const AttentionConfig &c = config;
    std::vector<uint8_t> cache(bytesOfCache(c.element, c.kvHeads, c.headDim, c.ring ? c.ring : length), 0);
    place(keys ? k : v, c.element, keys, c.kvHeads, c.headDim, 0, c.ring, cache);
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
      dot += static_cast<double>(toFloat(q[d])) * caches.k.values[caches.index(n, j, d)];
    scores.push_back(dot * c.scale);
  }
  double largest = *std::max_element(scores.begin(), scores.end()), sum = 0;
  std::vector<double> result(c.headDim);
  for (uint64_t n = first; n <= position; ++n) {
    double p = std::exp(scores[n - first] - largest);
    sum += p;
    for (uint64_t d = 0; d < c.headDim; ++d)
      result[d] += p * caches.v.values[caches.index(n, j, d)];
  }
  for (double &value : result)
    value /= sum;
  return result;
}

// The result's one rounding to bf16 is 2^-8 relative. Before it: scores of magnitude 10 from sums of headDim products
// in fp32 are off by up to 1e-5, which moves a weight by as much, and values are at most 6. Codes are exact in every
// product; their scales round the score and the probability once more each, which 1e-5 has room for.
constexpr double kAttentionRelative = 0x1.1p-8, kAttentionAbsolute = 1e-4;

// Rows of output against `attend`, of queries [tokens][heads * headDim] from `position` on; what pads a row is zero.
inline void expectAttention(const AttentionConfig &c, const Caches &caches, const std::vector<Bf16> &q,
                            uint64_t position, const std::vector<Bf16> &got) {
  const uint64_t width = c.heads * c.headDim, stride = paddedRow(width), tokens = q.size() / width;
  Difference difference;
  for (uint64_t t = 0; t < tokens; ++t) {
    auto where = [&](uint64_t e) { return "token " + std::to_string(t) + ", element " + std::to_string(e); };
    for (uint64_t h = 0; h < c.heads; ++h) {
      std::vector<double> wanted = attend(c, caches, &q[t * width + h * c.headDim], h, position + t);
      for (uint64_t d = 0; d < c.headDim; ++d)
        difference.expect(toFloat(got[t * stride + h * c.headDim + d]), wanted[d], kAttentionAbsolute,
                          kAttentionRelative, where(h * c.headDim + d));
    }
    for (uint64_t e = width; e < stride; ++e)
      difference.expect(toFloat(got[t * stride + e]), 0, 0, 0, where(e));
  }
  difference.report(std::to_string(tokens) + " tokens at " + std::to_string(position));
}

inline std::string describe(const AttentionConfig &c) {
  return std::to_string(c.heads) + " heads on " + std::to_string(c.kvHeads) + " of " + std::to_string(c.headDim) +
         ", window " + std::to_string(c.window) + ", ring " + std::to_string(c.ring) +
         std::array{"", ", int8", ", fp8"}.at(static_cast<size_t>(c.element));
}

} // namespace ingot::numerics
