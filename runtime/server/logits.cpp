#include "runtime/server/logits.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace ingot {
namespace {

double logSum(std::span<const float> row) {
  double most = *std::ranges::max_element(row), sum = 0;
  for (float value : row)
    sum += std::exp(static_cast<double>(value) - most);
  return most + std::log(sum);
}

} // namespace

void exclude(std::span<const uint32_t> mask, std::span<float> row) {
  for (size_t id = 0; id < row.size() && !mask.empty(); ++id)
    if ((mask[id / 32] >> id % 32 & 1) == 0)
      row[id] = kExcludedLogit;
}

bool LogitRules::none() const {
  return presence == 0 && frequency == 0 && repetition == 1 && minP == 0 && bias.empty();
}

absl::Status checkRules(const LogitRules &rules, int32_t vocabulary) {
  // The negated comparisons refuse NaN too.
  for (auto [name, value] : {std::pair{"presence_penalty", rules.presence}, {"frequency_penalty", rules.frequency}})
    if (!(value >= -2 && value <= 2))
      return absl::InvalidArgumentError(absl::StrCat(name, ": expected a number from -2 to 2, got ", value));
  if (!(rules.repetition > 0 && rules.repetition <= 100))
    return absl::InvalidArgumentError(
        absl::StrCat("repetition_penalty: expected a number above 0 and at most 100, got ", rules.repetition));
  if (!(rules.minP >= 0 && rules.minP <= 1))
    return absl::InvalidArgumentError(absl::StrCat("min_p: expected a number from 0 to 1, got ", rules.minP));
  for (auto [id, value] : rules.bias) {
    if (id < 0 || id >= vocabulary)
      return absl::InvalidArgumentError(
          absl::StrCat("logit_bias: expected token ids from 0 to ", vocabulary - 1, ", got ", id));
    if (!(value >= -100 && value <= 100))
      return absl::InvalidArgumentError(
          absl::StrCat("logit_bias of token ", id, ": expected a number from -100 to 100, got ", value));
  }
  return absl::OkStatus();
}

void TokenCounts::addPrompt(std::span<const int32_t> tokens) {
  for (int32_t token : tokens)
    seen[token].prompt = true;
}

void TokenCounts::apply(const LogitRules &rules, float temperature, std::span<float> row) const {
  for (const auto &[token, count] : seen) {
    float &value = row[static_cast<size_t>(token)];
    value = value > 0 ? value / rules.repetition : value * rules.repetition;
    if (count.reply > 0)
      value -= rules.presence + rules.frequency * static_cast<float>(count.reply);
  }
  for (auto [token, bias] : rules.bias)
    row[static_cast<size_t>(token)] += bias;
  // A probability of minP times the greatest is a logit of temperature x log(minP) below it. Greedy needs none of this.
  if (rules.minP > 0 && temperature > 0) {
    float least = *std::ranges::max_element(row) + temperature * std::log(rules.minP);
    for (float &value : row)
      if (value < least)
        value = kExcludedLogit;
  }
  for (float &value : row)
    value = std::clamp(value, kExcludedLogit, -kExcludedLogit);
}

TokenLogprob logprobOf(std::span<const float> row, int32_t token) {
  return {token, static_cast<float>(static_cast<double>(row[static_cast<size_t>(token)]) - logSum(row))};
}

std::vector<TokenLogprob> likeliest(std::span<const float> row, size_t count) {
  std::vector<int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, order.size());
  auto middle = order.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(order.begin(), middle, order.end(), [&](int32_t a, int32_t b) {
    float x = row[static_cast<size_t>(a)], y = row[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  double sum = logSum(row);
  std::vector<TokenLogprob> found;
  for (auto id = order.begin(); id != middle; ++id)
    found.push_back({*id, static_cast<float>(static_cast<double>(row[static_cast<size_t>(*id)]) - sum)});
  return found;
}

} // namespace ingot
