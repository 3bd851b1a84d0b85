// The sequences that a model has room for, and the tree of what earlier prompts left behind. A new request whose prompt
// begins as an earlier one did goes on from there instead of computing it again, on the same pages.
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

private:
  friend class Slots;
  std::unique_ptr<Session> sequence;
  uint32_t promised = 0; // pages
  bool taken = false;
};

class Slots {
public:
  // As many as the model was loaded for. `cacheBytes`: the most that is kept of what prompts leave behind, in pages and
  // in host memory together; 0 remembers nothing.
  static absl::StatusOr<std::unique_ptr<Slots>> create(const std::shared_ptr<Model> &model, uint64_t cacheBytes);
  ~Slots();
  Slots(const Slots &) = delete;
  Slots &operator=(const Slots &) = delete;

  size_t size() const { return slots.size(); }
  // Positions that one sequence may come to have.
  uint32_t context() const;
  // Whether a sequence of so many positions, at most context(), may begin: a slot is idle, and there are so many pages
  // that nobody was promised.
  bool mayBegin(uint32_t positions) const;
  // Takes an idle slot and promises it pages for so many positions. Its sequence is begun with as much of `prompt` as
  // is remembered (see session().position()), but never all of it. There must be room: mayBegin().
  absl::StatusOr<Slot *> begin(std::span<const int32_t> prompt, uint32_t positions);
  // Runs the next chunk of `prompt`, of which session().position() tokens are done. Where another request has meanwhile
  // left more of the same prompt behind, first takes that over; the answer is how many tokens it was.
  absl::StatusOr<uint32_t> prefill(Slot &slot, std::span<const int32_t> prompt);
  void release(Slot &slot);

  const PrefixTree &remembered() const { return *tree; }
  uint64_t restoredBytes() const { return restored; } // copied to the device for hits
  uint32_t promisedPages() const { return promised; } // to sequences that run
  uint32_t freePages() const { return model->pages().free(); }

  // What prompts left behind, in a file of `folder` that is named by the artifact and the chip. Errors are those of
  // savePrefixes and restorePrefixes, each with the file's name; NotFound where there is none.
  absl::Status save(const std::string &folder) const;
  absl::Status restore(const std::string &folder);

private:
  Slots() = default;
  absl::StatusOr<uint32_t> takeOver(Slot &slot, std::span<const int32_t> prompt);
  absl::Status remember(Slot &slot, std::span<const int32_t> prefix);
  uint32_t pagesFor(uint32_t positions) const;
  uint32_t pagesOfBlock() const;
  uint64_t identity() const;
  std::string fileIn(const std::string &folder) const;

  std::shared_ptr<Model> model;
  std::vector<Slot> slots;
  std::unique_ptr<PrefixTree> tree;
  uint64_t restored = 0;
  uint32_t promised = 0;
};

} // namespace ingot
