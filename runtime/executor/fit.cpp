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

bool ownedBySequence(Buffer::Role role) {
  return role != Buffer::WEIGHTS && role != Buffer::SCRATCH && role != Buffer::ALL_LOGITS && role != Buffer::BATCH;
}

bool growsWithPosition(const Buffer &buffer) {
  return buffer.role() == Buffer::STATE && buffer.bytes_per_position() > 0 && buffer.bytes() == 0;
}

bool isFixedState(const Buffer &buffer) { return buffer.role() == Buffer::STATE && !growsWithPosition(buffer); }

bool isKeyCache(const Buffer &buffer) {
  return buffer.role() == Buffer::STATE && absl::EndsWith(buffer.name(), ".k.cache");
}

bool isKeyValueCache(const Buffer &buffer) {
  return isKeyCache(buffer) || (buffer.role() == Buffer::STATE && absl::EndsWith(buffer.name(), ".v.cache"));
}

uint64_t rowBytes(const Manifest &manifest) {
  uint64_t bytes = 0;
  for (const Buffer &buffer : manifest.buffers())
    if (growsWithPosition(buffer))
      bytes += buffer.bytes_per_position();
  return bytes;
}

uint64_t fixedStateBytes(const Manifest &manifest, uint32_t context) {
  uint64_t bytes = 0;
  for (const Buffer &buffer : manifest.buffers())
    if (isFixedState(buffer))
      bytes += bufferBytes(buffer, context);
  return bytes;
}

absl::StatusOr<Fit> computeFit(const Manifest &manifest, const Device &device, uint32_t context, bool allLogits,
                               uint32_t sequences) {
  const ModelFacts &facts = manifest.facts();
  if (context > facts.context_length())
    return absl::InvalidArgumentError(absl::StrCat("expected a context of at most the ", facts.context_length(),
                                                   " positions this model was made for, got ", context,
                                                   "; give a smaller --context"));
  if (sequences == 0)
    return absl::InvalidArgumentError("expected room for at least one sequence, got 0");
  auto memory = device.memory();
  if (!memory.ok())
    return memory.status();
  Fit fit = {};
  fit.free = memory->free;
  fit.sequences = sequences;
  fit.context = static_cast<uint32_t>(roundContext(facts, context ? context : facts.context_length()));
  uint64_t fixed = 0;
  for (const Buffer &buffer : manifest.buffers()) {
    if (buffer.role() == Buffer::ALL_LOGITS && !allLogits)
      continue;
    uint64_t copies = ownedBySequence(buffer.role()) ? sequences : 1;
    uint64_t bytes = bufferBytes(buffer, fit.context);
    (buffer.role() == Buffer::WEIGHTS ? fit.weights
     : buffer.role() == Buffer::STATE ? fit.states
                                      : fit.scratch) += copies * bytes;
    fit.perPosition += copies * buffer.bytes_per_position();
    fixed += copies * buffer.bytes();
    if (ownedBySequence(buffer.role()))
      fit.perSequence += bytes;
  }
  uint64_t most = roundContext(facts, facts.context_length());
  uint64_t positions = fixed > fit.free ? 0 : fit.perPosition == 0 ? most : (fit.free - fixed) / fit.perPosition;
  fit.largestContext = static_cast<uint32_t>(std::min(most, positions / facts.state_block() * facts.state_block()));
  uint64_t shared = fit.needed() - sequences * fit.perSequence;
  uint64_t room = shared > fit.free ? 0 : fit.perSequence == 0 ? sequences : (fit.free - shared) / fit.perSequence;
  fit.mostSequences = static_cast<uint32_t>(std::min<uint64_t>(room, UINT32_MAX));
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
  std::string sequences = fit.sequences == 1 ? "" : absl::StrCat(fit.sequences, " sequences of ");
  return absl::ResourceExhaustedError(
      absl::StrCat("expected ", mebibytes(fit.needed()), " of free device memory (weights ", mebibytes(fit.weights),
                   ", states ", mebibytes(fit.states), " for ", sequences, fit.context, " positions, scratch ",
                   mebibytes(fit.scratch), "), got ", mebibytes(fit.free), "; ", advice));
}

} // namespace ingot
