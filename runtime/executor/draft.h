// When a stream drafts. Drafts cost the same whether they are accepted or not, so a text that the head cannot predict
// is decoded faster without them; what a stream is like shows only from its drafts.
#pragma once

#include <cstdint>

namespace ingot {

enum class Drafting : uint8_t {
  Never,
  Auto,  // while it pays
  Always // but where the context has no room for drafts
};

// What came of the steps of a stream.
struct DraftCounts {
  uint64_t steps = 0;      // that checked drafts
  uint64_t drafted = 0;    // tokens that they checked
  uint64_t accepted = 0;   // of those
  uint64_t plainSteps = 0; // of one token, after the first
  uint64_t pauses = 0;     // how often drafting was turned off
};

class DraftPolicy {
public:
  // `length` drafts a step, which costs as much as `cost` plain steps.
  DraftPolicy(uint32_t length, double cost) : length(length), cost(cost) {}

  // Forgets what the last stream was like.
  void reset();
  // Whether the next step should draft.
  bool wanted() const { return length > 0 && pause == 0; }
  // A step checked drafts of the step before and kept `accepted` of them.
  void checked(uint32_t accepted);
  // A step drafted, and had no drafts to check.
  void began() { ++counted.plainSteps; }
  // A step of one token.
  void plain();

  const DraftCounts &counts() const { return counted; }
  // Plain steps that one which drafts costs.
  double costOfStep() const { return cost; }

private:
  // Steps that are looked at together, and the plain steps of the first pause; each that follows is twice as long.
  static constexpr uint32_t kTrial = 16, kPause = 64, kLongestPause = 1024;

  uint32_t length;
  double cost;
  uint32_t trialSteps = 0, trialTokens = 0;
  uint32_t pause = 0, nextPause = kPause; // plain steps
  DraftCounts counted;
};

} // namespace ingot
