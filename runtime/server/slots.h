// The sequences that a model has room for, and the tree of what earlier prompts left behind. A new request whose prompt
// begins as an earlier one did goes on from there instead of computing it again.
//
// Only what was computed by whole prefill chunks from position 0 is reused, at the borders of blocks of them. So a
// request that finds its prefix here runs the very launches that it would run alone, less the first of them, and every
// token it gives has the same bits: a hit changes the time and nothing else.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/executor/session.h"
#include "runtime/server/prefix_tree.h"

namespace ingot {

class Slot {
public:
  explicit Slot(std::unique_ptr<Session> session) : sequence(std::move(session)) {}
  Session &session() { return *sequence; }
  bool busy() const { return taken; }

private:
  friend class Slots;
  std::unique_ptr<Session> sequence;
  std::vector<int32_t> tokens; // whose rows the sequence holds as whole chunks made them, from position 0
  uint64_t lastUse = 0;
  bool taken = false;
};

class Slots {
public:
  // As many as the model was loaded for. `cacheBytes`: host memory for what prompts leave behind; 0 remembers nothing.
  static absl::StatusOr<std::unique_ptr<Slots>> create(const std::shared_ptr<Model> &model, uint64_t cacheBytes);

  size_t size() const { return slots.size(); }
  bool anyIdle() const;
  // Takes an idle slot, its sequence begun with as much of `prompt` as is remembered (see session().position()), but
  // never all of it. There must be an idle one.
  absl::StatusOr<Slot *> begin(std::span<const int32_t> prompt);
  // Runs the next chunk of `prompt`, of which session().position() tokens are done. Where another request has meanwhile
  // left more of the same prompt behind, first takes that over; the answer is how many tokens it was.
  absl::StatusOr<uint32_t> prefill(Slot &slot, std::span<const int32_t> prompt);
  void release(Slot &slot);

  const PrefixTree &remembered() const { return *tree; }
  uint64_t restoredBytes() const { return restored; } // copied to the device for hits

  // What prompts left behind, in a file of `folder` that is named by the artifact and the chip. Errors are those of
  // savePrefixes and restorePrefixes, each with the file's name; NotFound where there is none.
  absl::Status save(const std::string &folder) const;
  absl::Status restore(const std::string &folder);

private:
  Slots() = default;
  Slot &chooseIdle(std::span<const int32_t> prompt);
  absl::StatusOr<uint32_t> takeOver(Slot &slot, std::span<const int32_t> prompt, uint32_t done);
  absl::Status remember(Slot &slot);
  uint64_t identity() const;
  std::string fileIn(const std::string &folder) const;

  std::shared_ptr<const Model> model;
  std::vector<Slot> slots;
  std::unique_ptr<PrefixTree> tree;
  uint64_t uses = 0, restored = 0;
};

} // namespace ingot
