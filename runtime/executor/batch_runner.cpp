#include "runtime/executor/batch_runner.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ingot {

absl::StatusOr<std::unique_ptr<BatchRunner>> BatchRunner::create(std::shared_ptr<Model> model) {
  std::unique_ptr<BatchRunner> runner(new BatchRunner());
  runner->model = std::move(model);
  if (absl::Status status = runner->prepare(); !status.ok())
    return absl::Status(status.code(),
                        absl::StrCat(runner->model->artifact().path(), ": ", std::string(status.message())));
  return runner;
}

BatchRunner::~BatchRunner() {
  // Nothing may be freed under a step that still runs.
  if (model)
    (void)model->stream.synchronize();
}

absl::Status BatchRunner::prepare() {
  if (most() == 0)
    return absl::FailedPreconditionError(
        "expected a model compiled for steps of several sequences, got one without; compile it with --streams 8");
  const Manifest &manifest = model->manifest();
  size_t bytes = sizeof(Batch);
  for (int index = 0; index < manifest.buffers_size(); ++index) {
    if (manifest.buffers(index).role() == Buffer::BATCH)
      buffer = static_cast<size_t>(index);
    if (manifest.buffers(index).role() == Buffer::BATCH_LOGITS)
      logits = static_cast<size_t>(index);
    if (uint64_t table = manifest.buffers(index).batch_table(); table != 0)
      bytes = std::max<size_t>(bytes, table + sizeof(Batch::steps));
  }
  tables.resize(bytes);
  auto host = HostBuffer::allocate(model->gpu, bytes);
  if (!host.ok())
    return host.status();
  staging = *std::move(host);
  auto event = Event::create(model->gpu);
  if (!event.ok())
    return event.status();
  taken = *std::move(event);
  // It is waited for before the first upload too.
  if (absl::Status status = model->stream.record(taken); !status.ok())
    return status;
  for (size_t kind = 0; kind < widths.size(); ++kind)
    for (uint32_t rows = 2; rows <= most(); rows *= 2)
      for (const Program &program : model->code().programs())
        if (program.name() == absl::StrCat(kBatchPrograms[kind], rows)) {
          auto prepared =
              model->prepare(program, [&](size_t index) -> const DeviceBuffer & { return model->buffers[index]; });
          if (!prepared.ok())
            return prepared.status();
          widths[kind].push_back({rows, *std::move(prepared), {}});
        }
  return absl::OkStatus();
}

absl::Status BatchRunner::check(std::span<Session *const> sequences) const {
  if (sequences.empty() || sequences.size() > most())
    return absl::InvalidArgumentError(
        absl::StrCat("expected from 1 to ", most(), " sequences for a step, got ", sequences.size()));
  for (size_t row = 0; row < sequences.size(); ++row) {
    const Session &sequence = *sequences[row];
    if (sequence.model != model || !sequence.mayJoin() || std::ranges::count(sequences, sequences[row]) != 1)
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", row,
                       " of a step: expected a different one of this model that has chosen its reply's first token "
                       "and not its last"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<const std::optional<int32_t>>> BatchRunner::next(std::span<Session *const> sequences) {
  if (absl::Status status = check(sequences); !status.ok())
    return status;
  chosen.fill(std::nullopt);
  auto underWay = [](const Session *sequence) { return sequence->inFlight > 0; };
  auto mayGoAhead = [](const Session *sequence) { return sequence->mayGoAhead(); };
  const bool all = std::ranges::all_of(sequences, underWay), any = std::ranges::any_of(sequences, underWay);
  absl::Status status = absl::OkStatus();
  // Some came to others: what these began is taken first, and then there is a step of all.
  if (any && !all)
    status = collect(sequences);
  if (status.ok() && !any)
    status = launch(sequences);
  if (status.ok() && std::ranges::all_of(sequences, mayGoAhead))
    status = launch(sequences);
  if (status.ok() && (all || !any))
    status = collect(sequences);
  if (!status.ok())
    return status;
  return std::span<const std::optional<int32_t>>(chosen).first(sequences.size());
}

// Those that have one give the token of their oldest step.
absl::Status BatchRunner::collect(std::span<Session *const> sequences) {
  for (size_t row = 0; row < sequences.size(); ++row) {
    if (sequences[row]->inFlight == 0)
      continue;
    auto token = sequences[row]->collect();
    if (!token.ok())
      return token.status();
    chosen[row] = *token;
  }
  return absl::OkStatus();
}

absl::Status BatchRunner::launch(std::span<Session *const> sequences) {
  for (Session *sequence : sequences)
    if (absl::Status status = sequence->makeRoom(sequence->length + 1); !status.ok())
      return status;
  if (absl::Status status = writeTables(sequences); !status.ok())
    return status;
  const size_t rows = std::bit_ceil(std::max<size_t>(sequences.size(), 2));
  // Only a greedy choice by all does without logits. For those beside others, `sample` is greedy at temperature 0.
  auto needsLogits = [](const Session *sequence) { return sequence->samples() || sequence->processor; };
  absl::Status status = absl::OkStatus();
  if (std::ranges::none_of(sequences, needsLogits)) {
    status = issue(kBatchGreedy, rows);
  } else {
    status = issue(kBatchDecode, rows);
    if (status.ok())
      status = processLogits(sequences);
    if (status.ok())
      status = issue(kBatchSample, rows);
  }
  for (Session *sequence : sequences)
    if (status.ok())
      status = sequence->fetch(false);
  ++counted.steps;
  counted.rows += sequences.size();
  counted.padding += rows - sequences.size();
  return status;
}

absl::Status BatchRunner::issue(BatchProgram kind, size_t rows) {
  Width &width = *std::ranges::find(widths[kind], rows, &Width::rows);
  auto run = [this, &width] {
    return model->run(width.program, width.rows,
                      [this](size_t index) -> const DeviceBuffer & { return model->buffers[index]; });
  };
  counted.launches += width.program.launches.size();
  counted.weightBytes += width.program.plan->weight_bytes();
  if (!model->options.graph)
    return run();
  if (!width.graph) {
    auto graph = model->capture(run);
    if (!graph.ok())
      return graph.status();
    width.graph = *std::move(graph);
  }
  return model->stream.launch(width.graph);
}

absl::Status BatchRunner::processLogits(std::span<Session *const> sequences) {
  if (std::ranges::none_of(sequences, [](const Session *sequence) { return bool(sequence->processor); }))
    return absl::OkStatus();
  const DeviceBuffer &rows = model->buffers[logits];
  const uint64_t pitch = rows.bytes() / most();
  for (size_t row = 0; row < sequences.size(); ++row)
    if (absl::Status status = sequences[row]->fetchLogits(rows, row * pitch); !status.ok())
      return status;
  if (absl::Status status = model->stream.synchronize(); !status.ok())
    return status;
  for (size_t row = 0; row < sequences.size(); ++row)
    if (absl::Status status = sequences[row]->processLogits(rows, row * pitch); !status.ok())
      return status;
  return absl::OkStatus();
}

absl::Status BatchRunner::writeTables(std::span<Session *const> sequences) {
  const auto rows = static_cast<int32_t>(sequences.size());
  bool same = uploaded && std::memcmp(tables.data(), &rows, sizeof rows) == 0;
  std::memcpy(tables.data(), &rows, sizeof rows);
  for (int index = 0; index < model->manifest().buffers_size(); ++index) {
    const uint64_t table = model->manifest().buffers(index).batch_table();
    if (table == 0)
      continue;
    std::array<uint64_t, kBatchRows> addresses;
    for (size_t row = 0; row < kBatchRows; ++row)
      addresses[row] = sequences[row < sequences.size() ? row : 0]->own[static_cast<size_t>(index)].address();
    same = same && std::memcmp(&tables[table], addresses.data(), sizeof addresses) == 0;
    std::memcpy(&tables[table], addresses.data(), sizeof addresses);
  }
  if (same)
    return absl::OkStatus();
  uploaded = false;
  // It came before a step that was launched earlier than the one that still runs: no long wait.
  if (absl::Status status = taken.wait(); !status.ok())
    return status;
  std::memcpy(staging.bytes().data(), tables.data(), tables.size());
  if (absl::Status status = model->stream.upload(model->buffers[buffer], 0, staging.bytes()); !status.ok())
    return status;
  uploaded = true;
  return model->stream.record(taken);
}

} // namespace ingot
