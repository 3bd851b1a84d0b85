#include "runtime/executor/model.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/manifest_check.h"

namespace ingot {
namespace {

absl::Status annotate(const absl::Status &status, const std::string &where) {
  return {status.code(), absl::StrCat(where, ": ", std::string(status.message()))};
}

} // namespace

Model::~Model() {
  // Nothing may be freed under a step that still runs.
  if (gpu)
    (void)stream.synchronize();
}

absl::StatusOr<std::shared_ptr<Model>> Model::load(std::shared_ptr<const Artifact> artifact,
                                                   std::shared_ptr<const Device> device, const std::string &target,
                                                   const SessionOptions &options) {
  auto code = artifact->code(target);
  if (!code.ok())
    return code.status();
  auto fit = computeFit(artifact->manifest(), *device, options, options.allLogits);
  if (!fit.ok())
    return annotate(fit.status(), artifact->path());
  if (absl::Status status = checkFit(*fit); !status.ok())
    return annotate(status, artifact->path());
  auto stream = Stream::create(device);
  if (!stream.ok())
    return stream.status();

  std::shared_ptr<Model> model(new Model());
  model->file = std::move(artifact);
  model->gpu = std::move(device);
  model->target = *code;
  model->options = options;
  model->needs = *fit;
  model->pool.emplace(fit->pages + fit->cachePages);
  model->stream = *std::move(stream);
  for (auto step : {&Model::loadModule, &Model::allocate})
    if (absl::Status status = (model.get()->*step)(); !status.ok())
      return annotate(status, model->file->path());
  return model;
}

absl::Status Model::loadModule() {
  auto code = file->codeObject(target->target());
  if (!code.ok())
    return code.status();
  auto loaded = Module::load(gpu, *code);
  if (!loaded.ok())
    return loaded.status();
  module = *std::move(loaded);
  for (const Kernel &kernel : target->kernels()) {
    auto function = module.function(kernel.name());
    if (!function.ok())
      return function.status();
    kernels.push_back(*std::move(function));
  }
  return absl::OkStatus();
}

absl::Status Model::allocate() {
  buffers.resize(static_cast<size_t>(manifest().buffers_size()));
  for (size_t index = 0; index < buffers.size(); ++index) {
    const Buffer &plan = manifest().buffers(static_cast<int>(index));
    if (ownedBySequence(plan))
      continue;
    if (plan.role() == Buffer::WEIGHTS) {
      if (absl::Status status = loadWeights(index); !status.ok())
        return status;
      continue;
    }
    // Large, and of no use to generation.
    bool skipped = plan.role() == Buffer::ALL_LOGITS && !options.allLogits;
    uint64_t positions =
        growsWithPosition(plan) ? uint64_t{pool->size()} * manifest().facts().state_block() : needs.context;
    auto memory = DeviceBuffer::allocate(gpu, skipped ? 0 : bufferBytes(plan, positions), plan.name());
    if (!memory.ok())
      return memory.status();
    buffers[index] = *std::move(memory);
  }
  return absl::OkStatus();
}

absl::Status Model::loadWeights(size_t index) {
  const Buffer &plan = manifest().buffers(static_cast<int>(index));
  std::span<const std::byte> weights = file->weights();
  if (options.mapWeights && gpu->info().integrated && !weights.empty()) {
    if (auto memory = DeviceBuffer::map(gpu, weights, plan.name()); memory.ok()) {
      buffers[index] = *std::move(memory);
      mapped = true;
      return options.verify ? file->verifyWeights() : absl::OkStatus();
    }
    // Not every driver maps the pages of a file; a copy always works.
  }
  auto memory = DeviceBuffer::allocate(gpu, plan.bytes(), plan.name());
  if (!memory.ok())
    return memory.status();
  buffers[index] = *std::move(memory);
  return copyWeights(buffers[index]);
}

absl::Status Model::copyWeights(const DeviceBuffer &to) {
  std::span<const std::byte> weights = file->weights();
  std::vector<uint64_t> digests((weights.size() + kWeightsChunk - 1) / kWeightsChunk);
  for (size_t chunk = 0; chunk < digests.size(); ++chunk) {
    if (cancelled())
      return absl::CancelledError("stopped on request");
    uint64_t begin = chunk * kWeightsChunk;
    std::span<const std::byte> bytes = weights.subspan(begin, std::min(kWeightsChunk, weights.size() - begin));
    // Hashed while the copy runs, so that the file's pages are read once.
    std::jthread hash;
    if (options.verify)
      hash = std::jthread([&digests, chunk, bytes] { digests[chunk] = weightsChunkDigest(bytes); });
    if (absl::Status status = stream.upload(to, begin, bytes); !status.ok())
      return status;
    if (absl::Status status = stream.synchronize(); !status.ok())
      return status;
  }
  return options.verify ? file->checkWeightDigests(digests) : absl::OkStatus();
}

absl::StatusOr<Model::Prepared> Model::prepare(const Program &program, const MemoryOf &memory) const {
  Prepared prepared;
  prepared.plan = &program;
  for (int index = 0; index < program.launches_size(); ++index) {
    const Launch &launch = program.launches(index);
    PreparedLaunch ready = {
        kernels[launch.kernel()], {launch.grid_x(), launch.grid_y(), launch.grid_z()}, launch.workgroup_size(), {}};
    for (const Argument &argument : launch.arguments()) {
      const DeviceBuffer &buffer = memory(argument.buffer());
      // The file was checked at its longest context; a shorter one has smaller buffers.
      if (argument.offset() >= buffer.bytes())
        return absl::InvalidArgumentError(
            absl::StrCat("program ", program.name(), ", launch ", index, ": expected an offset under the ",
                         buffer.bytes(), " bytes that buffer ", buffer.label(), " has at a context of ", needs.context,
                         ", got ", argument.offset(), "; give a larger --context"));
      ready.arguments.push_back(buffer.address() + argument.offset());
    }
    prepared.launches.push_back(std::move(ready));
  }
  return prepared;
}

absl::Status Model::run(const Prepared &prepared, uint32_t tokens, const MemoryOf &memory) {
  for (size_t index = 0; index < prepared.launches.size(); ++index) {
    const Launch &launch = prepared.plan->launches(static_cast<int>(index));
    const uint32_t each = launch.tokens_per_workgroup();
    absl::Status status = stream.launch(prepared.launches[index], each == 0 ? 0 : (tokens + each - 1) / each);
    if (status.ok() && options.observer)
      status = observe(launch, memory);
    if (!status.ok())
      return annotate(status, absl::StrCat("program ", prepared.plan->name()));
  }
  return absl::OkStatus();
}

absl::Status Model::observe(const Launch &launch, const MemoryOf &memory) {
  return options.observer(launch, [&](unsigned index, std::span<std::byte> out) {
    const Argument &argument = launch.arguments(static_cast<int>(index));
    absl::Status status = stream.download(memory(argument.buffer()), argument.offset(), out);
    return status.ok() ? stream.synchronize() : status;
  });
}

absl::Status Model::forPages(
    std::span<const Page> pages,
    const std::function<absl::Status(const DeviceBuffer &state, uint64_t offset, uint64_t bytes)> &visit) const {
  for (size_t index = 0; index < buffers.size(); ++index) {
    const Buffer &plan = manifest().buffers(static_cast<int>(index));
    if (!growsWithPosition(plan))
      continue;
    const uint64_t bytes = plan.bytes_per_position() * manifest().facts().state_block();
    for (size_t first = 0, last = 0; first < pages.size(); first = last) {
      for (last = first + 1; last < pages.size() && pages[last].index() == pages[last - 1].index() + 1;)
        ++last;
      if (absl::Status status = visit(buffers[index], pages[first].index() * bytes, (last - first) * bytes);
          !status.ok())
        return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> Model::read(std::span<const Page> pages) {
  std::vector<std::byte> taken(pages.size() * pageBytes(manifest()));
  std::span<std::byte> rest = taken;
  absl::Status status = forPages(pages, [&](const DeviceBuffer &state, uint64_t offset, uint64_t bytes) {
    std::span<std::byte> part = rest.first(bytes);
    rest = rest.subspan(bytes);
    return stream.download(state, offset, part);
  });
  if (status.ok())
    status = stream.synchronize();
  return status.ok() ? absl::StatusOr<std::vector<std::byte>>(std::move(taken)) : status;
}

absl::Status Model::write(std::span<const Page> pages, std::span<const std::byte> bytes) {
  if (bytes.size() != pages.size() * pageBytes(manifest()))
    return absl::InvalidArgumentError(absl::StrCat("expected ", pages.size() * pageBytes(manifest()), " bytes for ",
                                                   pages.size(), " pages, got ", bytes.size()));
  absl::Status status = forPages(pages, [&](const DeviceBuffer &state, uint64_t offset, uint64_t size) {
    std::span<const std::byte> part = bytes.first(size);
    bytes = bytes.subspan(size);
    return stream.upload(state, offset, part);
  });
  return status.ok() ? stream.synchronize() : status;
}

absl::StatusOr<Graph> Model::capture(const std::function<absl::Status()> &issue) {
  if (absl::Status status = stream.beginCapture(); !status.ok())
    return status;
  absl::Status recorded = issue();
  auto graph = stream.endCapture();
  if (!recorded.ok())
    return recorded;
  return graph;
}

} // namespace ingot
