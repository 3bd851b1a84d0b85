#include "runtime/executor/fit.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/artifact/manifest_check.h"

namespace ingot {
namespace {

std::string mebibytes(uint64_t bytes) { return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); }

} // namespace

bool ownedBySequence(const Buffer &buffer) {
  switch (buffer.role()) {
  case Buffer::STATE:
    return !growsWithPosition(buffer);
  case Buffer::STEP:
  case Buffer::TOKENS:
  case Buffer::LOGITS:
  case Buffer::OUTPUT:
  case Buffer::MASK:
    return true;
  default:
    return false;
  }
}

bool isFixedState(const Buffer &buffer) { return buffer.role() == Buffer::STATE && !growsWithPosition(buffer); }

bool isKeyCache(const Buffer &buffer) {
  return buffer.role() == Buffer::STATE && absl::EndsWith(buffer.name(), ".k.cache");
}

bool isKeyValueCache(const Buffer &buffer) {
  return isKeyCache(buffer) || (buffer.role() == Buffer::STATE && absl::EndsWith(buffer.name(), ".v.cache"));
}

uint64_t pageBytes(const Manifest &manifest) {
  uint64_t bytes = 0;
  for (const Buffer &buffer : manifest.buffers())
    if (growsWithPosition(buffer))
      bytes += buffer.bytes_per_position() * manifest.facts().state_block();
  return bytes;
}

uint64_t fixedStateBytes(const Manifest &manifest, uint32_t context) {
  uint64_t bytes = 0;
  for (const Buffer &buffer : manifest.buffers())
    if (isFixedState(buffer))
      bytes += bufferBytes(buffer, context);
  return bytes;
}

absl::StatusOr<Fit> computeFit(const Manifest &manifest, const Device &device, const Room &room, bool allLogits) {
  const ModelFacts &facts = manifest.facts();
  if (room.context > facts.context_length())
    return absl::InvalidArgumentError(absl::StrCat("expected a context of at most the ", facts.context_length(),
                                                   " positions this model was made for, got ", room.context,
                                                   "; give a smaller --context"));
  if (room.sequences == 0)
    return absl::InvalidArgumentError("expected room for at least one sequence, got 0");
  auto memory = device.memory();
  if (!memory.ok())
    return memory.status();
  const uint64_t block = facts.state_block(), perPage = pageBytes(manifest);
  Fit fit = {};
  fit.free = memory->free;
  fit.sequences = room.sequences;
  fit.context = static_cast<uint32_t>(roundContext(facts, room.context ? room.context : facts.context_length()));
  // More than each sequence can use is of use to none.
  const uint64_t most = uint64_t{fit.context} * fit.sequences,
                 positions = room.positions ? std::min(roundContext(facts, room.positions), most) : most;
  const bool shared = positions < most;
  fit.pages = static_cast<uint32_t>(std::min<uint64_t>(positions / block, INT32_MAX));
  fit.states = fit.pages * perPage;
  fit.perPosition = shared ? 0 : fit.sequences * perPage / block;
  fit.perSequence = shared ? 0 : fit.context / block * perPage;
  uint64_t fixed = shared ? fit.states : 0; // whatever the context is
  for (const Buffer &buffer : manifest.buffers()) {
    if ((buffer.role() == Buffer::ALL_LOGITS && !allLogits) || growsWithPosition(buffer))
      continue;
    const uint64_t copies = ownedBySequence(buffer) ? fit.sequences : 1, bytes = bufferBytes(buffer, fit.context);
    (buffer.role() == Buffer::WEIGHTS ? fit.weights
     : buffer.role() == Buffer::STATE ? fit.states
                                      : fit.scratch) += copies * bytes;
    fit.perPosition += copies * buffer.bytes_per_position();
    fixed += copies * buffer.bytes();
    if (ownedBySequence(buffer))
      fit.perSequence += bytes;
  }
  auto left = [&](uint64_t taken) { return taken > fit.free ? 0 : fit.free - taken; };
  const uint64_t longest = roundContext(facts, facts.context_length());
  if (fixed <= fit.free)
    fit.largestContext = static_cast<uint32_t>(
        fit.perPosition == 0 ? longest : std::min(longest, left(fixed) / fit.perPosition / block * block));
  const uint64_t others = fit.needed() - fit.sequences * fit.perSequence;
  if (others <= fit.free)
    fit.mostSequences = static_cast<uint32_t>(
        std::min<uint64_t>(fit.perSequence == 0 ? fit.sequences : left(others) / fit.perSequence, UINT32_MAX));
  // Of a model whose states do not grow pages cost nothing.
  auto pagesIn = [&](uint64_t bytes) { return perPage == 0 ? most / block : bytes / perPage; };
  fit.mostPositions = std::min(pagesIn(left(fit.needed() - fit.pages * perPage)) * block, most);
  fit.cachePages = static_cast<uint32_t>(
      std::min<uint64_t>(pagesIn(std::min(room.cacheBytes, left(fit.needed()))), INT32_MAX - fit.pages));
  return fit;
}

absl::Status checkFit(const Fit &fit) {
  if (fit.needed() <= fit.free)
    return absl::OkStatus();
  std::string advice = fit.largestContext > 0
                           ? absl::StrCat("--context ", fit.largestContext, " would fit")
                           : "no context fits: free memory, or compile with a recipe of smaller weights";
  if (fit.mostSequences > 0)
    absl::StrAppend(&advice, ", and so would --streams ", fit.mostSequences);
  if (fit.sequences > 1 && fit.mostPositions > 0)
    absl::StrAppend(&advice, ", or --kv-tokens ", fit.mostPositions, " for all streams together");
  std::string sequences = fit.sequences == 1 ? "" : absl::StrCat(fit.sequences, " sequences of ");
  return absl::ResourceExhaustedError(
      absl::StrCat("expected ", mebibytes(fit.needed()), " of free device memory (weights ", mebibytes(fit.weights),
                   ", states ", mebibytes(fit.states), " for ", sequences, fit.context, " positions, scratch ",
                   mebibytes(fit.scratch), "), got ", mebibytes(fit.free), "; ", advice));
}

} // namespace ingot
