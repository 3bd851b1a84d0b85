// Every index, offset and size in a manifest must point somewhere: what passes here can be executed without further
// checks against the manifest itself. Only what depends on the chosen context is left to the executor.
#pragma once

#include <cstdint>

#include "absl/status/status.h"

#include "runtime/artifact/manifest.pb.h"

namespace ingot {

// InvalidArgument naming the first field that is wrong, what was expected there and what came.
absl::Status checkManifest(const Manifest &manifest, uint64_t weightsBytes);

// Whether the buffer holds a state that grows with the sequence and nothing else: what lies at or past the current
// position is written before it is read, so that going back to an earlier position needs nothing but the position. Its
// pages, state_block positions each, are one contiguous piece each and belong to any sequence.
bool growsWithPosition(const Buffer &buffer);

// `bytes + bytes_per_position * positions`. The buffer has passed checkManifest and positions <= context_length
// rounded up to state_block, so it does not overflow.
uint64_t bufferBytes(const Buffer &buffer, uint64_t positions);

// `context` rounded up to whole blocks of state.
uint64_t roundContext(const ModelFacts &facts, uint64_t context);

} // namespace ingot
