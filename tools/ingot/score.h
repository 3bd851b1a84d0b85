// The arithmetic of `ingot eval`: how likely a model finds the next token, and how far two models' distributions are
// apart. Rows are logits, f32 [vocabulary]; everything is summed in fp64, in nats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ingot::cli {

// log(sum(exp(row))), without overflow. NaN when a logit is NaN; the row is not empty.
double logSumExp(std::span<const float> row);

// -log p(token), with `token` inside the row.
double surprise(std::span<const float> row, size_t token);

// KL(p || q) of the distributions that two rows of one length stand for. Never below 0.
double divergence(std::span<const float> p, std::span<const float> q);

// The likeliest token; of equals the first, as greedy sampling chooses.
size_t likeliest(std::span<const float> row);

// What `--against` finds out, position by position.
class Comparison {
public:
  void add(std::span<const float> reference, std::span<const float> row, size_t token);
  size_t positions() const { return divergences.size(); }
  double meanDivergence() const;
  double largestDivergence() const;
  // The smallest value that at least `fraction` of the positions do not exceed (nearest rank).
  double divergencePercentile(double fraction) const;
  size_t largestAt() const; // the position of the largest, from 0
  double topAgreement() const;
  double referencePerplexity() const;

private:
  std::vector<double> divergences;
  size_t sameTop = 0;
  double referenceSurprise = 0;
};

// Which tokens of a text one run scores: it feeds [begin, end - 1) behind the beginning-of-sequence token, if the model
// wants one, and scores [first, end).
struct Window {
  size_t begin, first, end;
};

// Windows over a text of `tokens` so that each token is scored once (the first only with `bos`). A window is `length`
// tokens, bos included, and begins `stride` after the one before; 2 <= length, 1 <= stride < length.
std::vector<Window> makeWindows(size_t tokens, size_t length, size_t stride, bool bos);

} // namespace ingot::cli
