// Whether a model fits a device's memory, from the manifest alone, before anything is allocated.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/device/device.h"

namespace ingot {

// Whether each sequence has such a buffer for itself; the others are the model's and serve all of them.
bool ownedBySequence(const Buffer &buffer);
// A state of a fixed size: to come back to a position, all of its bytes must be as they were.
bool isFixedState(const Buffer &buffer);
// Whether the buffer holds keys or values of attention, and whether these are the keys, of which each cache has one: by
// the name that the declarations give them. A fixed one is a ring, which keeps what its layers' window sees.
bool isKeyValueCache(const Buffer &buffer);
bool isKeyCache(const Buffer &buffer);
// Of all states that grow, a page; and of all that do not, in one sequence.
uint64_t pageBytes(const Manifest &manifest);
uint64_t fixedStateBytes(const Manifest &manifest, uint32_t context);

// What a model needs and what there is, in bytes.
struct Fit {
  uint64_t weights, states, scratch; // of all sequences together; scratch: everything that is neither weights nor state
  uint64_t perPosition;              // what one more position of context costs, in all sequences together
  uint64_t perSequence;              // what one more sequence of this context costs
  uint32_t pages;                    // of the states that grow, of all sequences together
  uint32_t cachePages;               // beside those, for what prompts leave behind
  uint64_t free;                     // as the device says
  uint32_t sequences;                // as asked for
  uint32_t context;                  // positions of each, as asked for, rounded up
  uint32_t largestContext;           // that fits with so many sequences, 0 if none
  uint32_t mostSequences;            // that fit with such a context, 0 if none
  uint64_t mostPositions;            // that the states which grow may have in all, beside the rest; 0 if none
  uint64_t needed() const { return weights + states + scratch; }
};

struct Room {
  uint32_t context = 0;    // positions that a sequence may have, rounded up to whole pages; 0: all it was made for
  uint32_t sequences = 1;  // that live at the same time
  uint64_t positions = 0;  // that they may have together; 0: each as many as its context has
  uint64_t cacheBytes = 0; // of pages for what prompts leave behind; where so many do not fit, as many as do
};

// InvalidArgument for a context of more than the model was made for, or no sequence at all.
absl::StatusOr<Fit> computeFit(const Manifest &manifest, const Device &device, const Room &room, bool allLogits);
// ResourceExhausted with the numbers and what to do; OK if it fits.
absl::Status checkFit(const Fit &fit);

} // namespace ingot
