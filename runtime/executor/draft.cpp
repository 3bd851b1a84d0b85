#include "runtime/executor/draft.h"

#include <algorithm>

namespace ingot {

void DraftPolicy::reset() { *this = DraftPolicy(length, cost); }

void DraftPolicy::checked(uint32_t accepted) {
  ++counted.steps;
  counted.drafted += length;
  counted.accepted += accepted;
  ++trialSteps;
  trialTokens += accepted + 1;
  if (trialSteps < kTrial)
    return;
  if (trialTokens < cost * trialSteps) {
    pause = nextPause;
    nextPause = std::min(2 * nextPause, kLongestPause);
    ++counted.pauses;
  } else {
    nextPause = kPause;
  }
  trialSteps = trialTokens = 0;
}

void DraftPolicy::plain() {
  ++counted.plainSteps;
  if (pause > 0)
    --pause;
}

} // namespace ingot
