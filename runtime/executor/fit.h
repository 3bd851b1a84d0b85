// Whether a model fits a device's memory, from the manifest alone, before anything is allocated.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/device/device.h"

namespace ingot {

// Whether each sequence has a buffer of this role for itself; the others are the model's and serve all of them.
bool ownedBySequence(Buffer::Role role);
// Whether the buffer holds a state that grows with the sequence and nothing else: what lies at or past the current
// position is written before it is read, so that going back to an earlier position needs nothing but the position; and
// each state_block positions are one contiguous piece, in order.
bool growsWithPosition(const Buffer &buffer);
// Any other state: to come back to a position, all of its bytes must be as they were.
bool isFixedState(const Buffer &buffer);
// Whether the buffer holds keys or values of attention, and whether these are the keys, of which each cache has one: by
// the name that the declarations give them. A fixed one is a ring, which keeps what its layers' window sees.
bool isKeyValueCache(const Buffer &buffer);
bool isKeyCache(const Buffer &buffer);
// Of all states that grow, a position; and of all that do not, in one sequence.
uint64_t rowBytes(const Manifest &manifest);
uint64_t fixedStateBytes(const Manifest &manifest, uint32_t context);

// What a model needs and what there is, in bytes.
struct Fit {
  uint64_t weights, states, scratch; // of all sequences together; scratch: everything that is neither weights nor state
  uint64_t perPosition;              // what one more position of context costs, in all sequences together
  uint64_t perSequence;              // what one more sequence of this context costs
  uint64_t free;                     // as the device says
  uint32_t sequences;                // as asked for
  uint32_t context;                  // positions of each, as asked for, rounded up
  uint32_t largestContext;           // that fits with so many sequences, 0 if none
  uint32_t mostSequences;            // that fit with such a context, 0 if none
  uint64_t needed() const { return weights + states + scratch; }
};

// `context` of 0: all that the model was made for. InvalidArgument for more than that, or no sequence at all.
absl::StatusOr<Fit> computeFit(const Manifest &manifest, const Device &device, uint32_t context, bool allLogits,
                               uint32_t sequences = 1);
// ResourceExhausted with the numbers and what to do; OK if it fits.
absl::Status checkFit(const Fit &fit);

} // namespace ingot
