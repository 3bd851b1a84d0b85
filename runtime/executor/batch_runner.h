// Steps of several sequences of one model: the weights are read once for all of them. A captured program has no address
// of a sequence in it but reads them from tables (runtime/artifact/batch.h), so one graph for each number of rows
// serves whichever sequences the host writes down.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/batch.h"
#include "runtime/device/device.h"
#include "runtime/executor/model.h"
#include "runtime/executor/session.h"

namespace ingot {

struct BatchCounts {
  uint64_t steps = 0;
  uint64_t rows = 0;    // of sequences
  uint64_t padding = 0; // of none
  uint64_t launches = 0;
  uint64_t weightBytes = 0; // that they read, as planned
};

class BatchRunner {
public:
  // FailedPrecondition where the model was compiled for one sequence a step.
  static absl::StatusOr<std::unique_ptr<BatchRunner>> create(std::shared_ptr<Model> model);
  ~BatchRunner();

  // Sequences that one step takes.
  uint32_t most() const { return model->manifest().facts().streams(); }

  // The tokens that Session::next() gives for each of `sequences`, by one step of all of them. They are different ones
  // of this model, at most most(), each of which mayJoin(). Where all of them may go ahead (Session::setAhead), the
  // step after it is launched before its tokens are waited for.
  //
  // An entry without a token belongs to a sequence that came to others whose step was under way: its token comes by the
  // next call. A sequence with a step under way may also leave: its next() gives that step's token, and reset() drops
  // it. Valid until the next call; allocates nothing once the steps are captured.
  absl::StatusOr<std::span<const std::optional<int32_t>>> next(std::span<Session *const> sequences);

  const BatchCounts &counts() const { return counted; }

private:
  struct Width {
    uint32_t rows;
    Model::Prepared program;
    Graph graph; // empty until it is first used
  };

  BatchRunner() = default;
  absl::Status prepare();
  absl::Status check(std::span<Session *const> sequences) const;
  absl::Status launch(std::span<Session *const> sequences);
  // Issues the program of this kind for so many rows, 2, 4 or 8.
  absl::Status issue(BatchProgram kind, size_t rows);
  // Between decode and choice: what the sequences' processors make of their rows.
  absl::Status processLogits(std::span<Session *const> sequences);
  absl::Status writeTables(std::span<Session *const> sequences);
  absl::Status collect(std::span<Session *const> sequences);

  // Destroyed in reverse: graphs and host memory before the model.
  std::shared_ptr<Model> model;
  size_t buffer = 0, logits = 0; // those of roles BATCH and BATCH_LOGITS, in the manifest
  std::vector<std::byte> tables; // of the step that is launched
  HostBuffer staging;            // those that were uploaded last; they stay until the device has taken them
  Event taken;
  bool uploaded = false;                                        // `tables` are on the device, or on their way
  std::array<std::vector<Width>, kBatchPrograms.size()> widths; // by BatchProgram; in order of rows
  std::array<std::optional<int32_t>, kBatchRows> chosen;
  BatchCounts counted;
};

} // namespace ingot
