#include "runtime/server/slots.h"

#include <algorithm>
#include <set>

namespace ingot {
namespace {

size_t commonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

} // namespace

absl::StatusOr<std::unique_ptr<Slots>> Slots::create(const std::shared_ptr<Model> &model, uint64_t snapshotBytes) {
  std::unique_ptr<Slots> made(new Slots(snapshotBytes));
  for (uint32_t count = 0; count < model->fit().sequences; ++count) {
    auto session = Session::create(model);
    if (!session.ok())
      return session.status();
    made->slots.emplace_back(*std::move(session));
  }
  return made;
}

bool Slots::anyIdle() const {
  return std::ranges::any_of(slots, [](const Slot &slot) { return !slot.taken; });
}

Slots::Match Slots::longestMatch(std::span<const int32_t> prompt) {
  Match best;
  for (Slot &slot : slots) {
    // The last token must go through the model again, for its logits.
    size_t common = std::min(commonPrefix(slot.tokens, prompt), prompt.size() - 1);
    for (const auto &snapshot : slot.snapshots)
      if (snapshot->position <= common && (!best.snapshot || snapshot->position > best.snapshot->position))
        best = {&slot, snapshot};
  }
  return best;
}

Slot &Slots::chooseIdle(const Match &match) {
  // A conversation goes on in its own slot. One that only begins alike (a system message in common) is copied, so that
  // the longer memory stays for its own next turn.
  if (match.slot && !match.slot->taken && 2 * size_t(match.snapshot->position) >= match.slot->tokens.size())
    return *match.slot;
  Slot *oldest = nullptr;
  for (Slot &slot : slots)
    if (!slot.taken && (!oldest || slot.lastUse < oldest->lastUse))
      oldest = &slot;
  return *oldest;
}

absl::StatusOr<Slot *> Slots::begin(std::span<const int32_t> prompt) {
  Match match = longestMatch(prompt);
  Slot &slot = chooseIdle(match);
  slot.lastUse = ++uses;
  std::vector<std::shared_ptr<const Snapshot>> kept;
  absl::Status status;
  if (match.slot) {
    for (const auto &snapshot : match.slot->snapshots)
      if (snapshot->position <= match.snapshot->position)
        kept.push_back(snapshot);
    status = slot.session().resume(match.slot->session(), *match.snapshot);
  } else {
    status = slot.session().reset();
  }
  slot.tokens.assign(prompt.begin(), prompt.begin() + slot.session().position());
  slot.snapshots = std::move(kept);
  if (!status.ok())
    return status;
  slot.taken = true;
  return &slot;
}

absl::Status Slots::prefill(Slot &slot, std::span<const int32_t> prompt) {
  Session &session = slot.session();
  size_t chunk = session.manifest().facts().prefill_chunk();
  std::span<const int32_t> part = prompt.subspan(session.position());
  part = part.first(std::min(chunk, part.size()));
  if (absl::Status status = session.prefill(part); !status.ok())
    return status;
  slot.tokens.insert(slot.tokens.end(), part.begin(), part.end());
  if (part.size() < chunk)
    return absl::OkStatus();
  auto snapshot = session.snapshot();
  if (!snapshot.ok())
    return snapshot.status();
  slot.snapshots.push_back(std::make_shared<const Snapshot>(*std::move(snapshot)));
  forgetBeyondBudget();
  return absl::OkStatus();
}

void Slots::release(Slot &slot) {
  slot.lastUse = ++uses;
  slot.taken = false;
}

uint64_t Slots::snapshotBytes() const {
  // Slots that began alike share theirs.
  std::set<const Snapshot *> counted;
  uint64_t bytes = 0;
  for (const Slot &slot : slots)
    for (const auto &snapshot : slot.snapshots)
      if (counted.insert(snapshot.get()).second)
        bytes += snapshot->bytes.size();
  return bytes;
}

size_t Slots::snapshotCount() const {
  size_t count = 0;
  for (const Slot &slot : slots)
    count += slot.snapshots.size();
  return count;
}

void Slots::forgetBeyondBudget() {
  while (snapshotBytes() > budget) {
    Slot *loser = nullptr;
    size_t lost = 0;
    uint32_t cost = 0;
    for (Slot &slot : slots) {
      uint32_t before = 0;
      for (size_t index = 0; index < slot.snapshots.size(); ++index) {
        uint32_t position = slot.snapshots[index]->position;
        // The last border is where the conversation's next turn goes on.
        uint32_t loses = index + 1 == slot.snapshots.size() ? UINT32_MAX : position - before;
        if (!loser || loses < cost || (loses == cost && slot.lastUse < loser->lastUse)) {
          loser = &slot;
          lost = index;
          cost = loses;
        }
        before = position;
      }
    }
    loser->snapshots.erase(loser->snapshots.begin() + static_cast<std::ptrdiff_t>(lost));
  }
}

} // namespace ingot
