// What a request may want of the logits beyond temperature, top-k, top-p and a mask, which the device does by itself.
// It is worked out on the host between a decode and the choice of its token (Session::setLogitsProcessor): one row goes
// down and, where it was changed, up again. The choice itself stays the device's, so there is one sampler.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include "runtime/artifact/step.h"

namespace ingot {

// Says token by token what a reply may hold. One reply has one filter.
class TokenFilter {
public:
  virtual ~TokenFilter() = default;
  // What may come next, as Session::setMask() takes it; none: any token. Valid until the next call of any function.
  virtual std::span<const uint32_t> mask(uint32_t vocabulary) = 0;
  virtual void accept(int32_t token) = 0;
  // Not OK: the reply cannot be held to it any longer, and must end.
  virtual absl::Status status() const { return absl::OkStatus(); }
};

// Sets to kExcludedLogit what `mask` leaves out; none: nothing. `row` is f32 [vocabulary].
void exclude(std::span<const uint32_t> mask, std::span<float> row);

struct LogitRules {
  float presence = 0;            // subtracted once from each token of the reply so far
  float frequency = 0;           // subtracted as often as the token stands in the reply so far
  float repetition = 1;          // divides positive and multiplies negative logits of tokens in prompt or reply
  float minP = 0;                // [0, 1]: tokens less likely than this times the likeliest are left out
  std::map<int32_t, float> bias; // added to these tokens' logits

  bool none() const;
};

// InvalidArgument for values out of range (penalties -2 to 2, repetition above 0 to 100, min-p 0 to 1, bias -100 to 100
// of ids below `vocabulary`).
absl::Status checkRules(const LogitRules &rules, int32_t vocabulary);

// The tokens of one sequence, counted.
class TokenCounts {
public:
  void addPrompt(std::span<const int32_t> tokens);
  void addReply(int32_t token) { ++seen[token].reply; }

  // Changes `row`, f32 [vocabulary], in the order repetition, presence and frequency, bias, min-p. `temperature` is the
  // one that the choice will use: min-p compares probabilities at it. Every value stays finite.
  void apply(const LogitRules &rules, float temperature, std::span<float> row) const;

private:
  struct Count {
    uint32_t reply = 0;
    bool prompt = false;
  };
  absl::flat_hash_map<int32_t, Count> seen;
};

struct TokenLogprob {
  int32_t id;
  float logprob; // natural logarithm
};

// Log-probability of `token` under `row` as the model gave it, before any rule and temperature 1; and of the `count`
// likeliest tokens in falling order, ties to the lower id.
TokenLogprob logprobOf(std::span<const float> row, int32_t token);
std::vector<TokenLogprob> likeliest(std::span<const float> row, size_t count);

} // namespace ingot
