#include "tools/ingot/score.h"

#include <algorithm>
#include <cmath>

namespace ingot::cli {

double logSumExp(std::span<const float> row) {
  double largest = *std::ranges::max_element(row), sum = 0;
  // An infinite maximum would turn into NaN below; it is the answer.
  if (std::isinf(largest))
    return largest;
  for (float logit : row)
    sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

double surprise(std::span<const float> row, size_t token) { return logSumExp(row) - static_cast<double>(row[token]); }

double divergence(std::span<const float> p, std::span<const float> q) {
  double pTotal = logSumExp(p), qTotal = logSumExp(q), sum = 0;
  for (size_t token = 0; token < p.size(); ++token) {
    double log = static_cast<double>(p[token]) - pTotal;
    // A token that p excludes adds nothing, whatever q thinks of it.
    if (double probability = std::exp(log); probability != 0)
      sum += probability * (log - (static_cast<double>(q[token]) - qTotal));
  }
  // Rounding can leave equal rows a little below 0; NaN stays.
  return sum < 0 ? 0 : sum;
}

size_t likeliest(std::span<const float> row) {
  return static_cast<size_t>(std::ranges::max_element(row) - row.begin());
}

void Comparison::add(std::span<const float> reference, std::span<const float> row, size_t token) {
  divergences.push_back(divergence(reference, row));
  sameTop += likeliest(reference) == likeliest(row);
  referenceSurprise += surprise(reference, token);
}

double Comparison::meanDivergence() const {
  double sum = 0;
  for (double value : divergences)
    sum += value;
  return sum / static_cast<double>(divergences.size());
}

double Comparison::largestDivergence() const { return divergences[largestAt()]; }

double Comparison::divergencePercentile(double fraction) const {
  std::vector<double> sorted = divergences;
  std::ranges::sort(sorted);
  auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

size_t Comparison::largestAt() const {
  return static_cast<size_t>(std::ranges::max_element(divergences) - divergences.begin());
}

double Comparison::topAgreement() const {
  return static_cast<double>(sameTop) / static_cast<double>(divergences.size());
}

double Comparison::referencePerplexity() const {
  return std::exp(referenceSurprise / static_cast<double>(divergences.size()));
}

std::vector<Window> makeWindows(size_t tokens, size_t length, size_t stride, bool bos) {
  std::vector<Window> windows;
  size_t room = length - (bos ? 1 : 0), first = bos ? 0 : 1;
  for (size_t begin = 0; first < tokens; begin += stride) {
    size_t end = std::min(tokens, begin + room);
    windows.push_back({begin, first, end});
    first = end;
  }
  return windows;
}

} // namespace ingot::cli
