// The sequences that a model has room for, and what each remembers of its last prompt. A new request whose prompt
// begins as a remembered one did goes on from there instead of computing it again.
//
// Only what was computed by whole prefill chunks from position 0 is reused, at the borders of chunks. So a request that
// finds its prefix here runs the very launches that it would run alone, less the first of them, and every token it
// gives has the same bits: a hit changes the time and nothing else.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/executor/session.h"

namespace ingot {

class Slot {
public:
  explicit Slot(std::unique_ptr<Session> session) : sequence(std::move(session)) {}
  Session &session() { return *sequence; }
  bool busy() const { return taken; }

private:
  friend class Slots;
  std::unique_ptr<Session> sequence;
  std::vector<int32_t> tokens;                            // that went through prefill since the sequence began
  std::vector<std::shared_ptr<const Snapshot>> snapshots; // by position, each a border of chunks within `tokens`
  uint64_t lastUse = 0;
  bool taken = false;
};

class Slots {
public:
  // As many as the model was loaded for. `snapshotBytes`: host memory for states that cannot be cut back; beyond it
  // borders are forgotten, the one first whose loss costs the fewest tokens.
  static absl::StatusOr<std::unique_ptr<Slots>> create(const std::shared_ptr<Model> &model, uint64_t snapshotBytes);

  size_t size() const { return slots.size(); }
  bool anyIdle() const;
  // Takes an idle slot, its sequence begun with as much of `prompt` as any slot remembers (see session().position()),
  // but never all of it. There must be an idle one.
  absl::StatusOr<Slot *> begin(std::span<const int32_t> prompt);
  // Runs the next chunk of `prompt`, of which session().position() tokens are done.
  absl::Status prefill(Slot &slot, std::span<const int32_t> prompt);
  void release(Slot &slot);

  uint64_t snapshotBytes() const;
  size_t snapshotCount() const;

private:
  struct Match {
    Slot *slot = nullptr;
    std::shared_ptr<const Snapshot> snapshot;
  };
  explicit Slots(uint64_t budget) : budget(budget) {}
  Match longestMatch(std::span<const int32_t> prompt);
  Slot &chooseIdle(const Match &match);
  void forgetBeyondBudget();

  std::vector<Slot> slots;
  uint64_t budget;
  uint64_t uses = 0;
};

} // namespace ingot
