#include "runtime/executor/testing/toy_model.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/batch.h"
#include "runtime/artifact/bundle.h"
#include "runtime/artifact/step.h"
#include "runtime/executor/testing/toy_kernels.h"

namespace ingot::testing {
namespace {

enum BufferIndex {
  kWeights,
  kStep,
  kTokens,
  kLogits,
  kAllLogits,
  kOutput,
  kArena,
  kState,
  kMask,
  kBatch,
  kBatchLogits
};

// Where the tables of the tokens, outputs and masks are in the buffer of role BATCH.
constexpr uint64_t kTokensTable = 128, kOutputTable = 192, kMaskTable = 256;

uint8_t weightOf(int32_t token) { return static_cast<uint8_t>((7 * token + 3) % 29); }

struct LaunchPlan {
  const char *kernel;
  uint32_t tokensPerWorkgroup;
  std::span<const uint32_t> buffers;
  bool byRow = false; // a workgroup for each row of a step of several sequences
};

constexpr std::array kEmbedBuffers = {uint32_t(kWeights), uint32_t(kStep), uint32_t(kTokens), uint32_t(kArena)};
constexpr LaunchPlan kEmbed = {"toy_embed", kToyTokensPerWorkgroup, kEmbedBuffers};
constexpr std::array kScanBuffers = {uint32_t(kStep), uint32_t(kArena), uint32_t(kState)};
constexpr LaunchPlan kScan = {"toy_scan", 0, kScanBuffers};
constexpr std::array kLastBuffers = {uint32_t(kStep), uint32_t(kState), uint32_t(kLogits)};
constexpr LaunchPlan kLast = {"toy_logits", 0, kLastBuffers};
constexpr std::array kAllBuffers = {uint32_t(kStep), uint32_t(kState), uint32_t(kAllLogits)};
constexpr LaunchPlan kAll = {"toy_all_logits", 1, kAllBuffers};
constexpr std::array kGreedyBuffers = {uint32_t(kStep), uint32_t(kTokens), uint32_t(kLogits), uint32_t(kOutput)};
constexpr LaunchPlan kGreedy = {"toy_greedy", 0, kGreedyBuffers};
constexpr std::array kSampleBuffers = {uint32_t(kStep), uint32_t(kTokens), uint32_t(kLogits), uint32_t(kOutput),
                                       uint32_t(kMask)};
constexpr LaunchPlan kSample = {"toy_sample", 0, kSampleBuffers};
// Of steps of several: a buffer that each sequence has for itself stands for its table.
constexpr std::array kEmbedRowsBuffers = {uint32_t(kWeights), uint32_t(kTokens), uint32_t(kArena)};
constexpr LaunchPlan kEmbedRows = {"toy_embed_rows", 0, kEmbedRowsBuffers};
constexpr LaunchPlan kScanRows = {"toy_scan_rows", 0, kScanBuffers, true};
constexpr std::array kLogitsRowsBuffers = {uint32_t(kStep), uint32_t(kState), uint32_t(kBatchLogits)};
constexpr LaunchPlan kLogitsRows = {"toy_logits_rows", 0, kLogitsRowsBuffers, true};
constexpr std::array kGreedyRowsBuffers = {uint32_t(kStep), uint32_t(kTokens), uint32_t(kBatchLogits),
                                           uint32_t(kOutput)};
constexpr LaunchPlan kGreedyRows = {"toy_greedy_rows", 0, kGreedyRowsBuffers, true};
constexpr std::array kSampleRowsBuffers = {uint32_t(kStep), uint32_t(kTokens), uint32_t(kBatchLogits),
                                           uint32_t(kOutput), uint32_t(kMask)};
constexpr LaunchPlan kSampleRows = {"toy_sample_rows", 0, kSampleRowsBuffers, true};

// The table of a sequence's buffer, as an offset in that of role BATCH; struct Batch itself for the steps.
uint64_t tableOf(uint32_t buffer) {
  return buffer == kTokens ? kTokensTable : buffer == kOutput ? kOutputTable : buffer == kMask ? kMaskTable : 0;
}

// `rows` of 0: of one sequence.
void addProgram(TargetCode &code, const std::string &name, const std::vector<LaunchPlan> &plans, uint32_t rows = 0) {
  Program &program = *code.add_programs();
  program.set_name(name);
  program.set_weight_bytes(1);
  for (const LaunchPlan &plan : plans) {
    Launch &launch = *program.add_launches();
    for (int index = 0; index < code.kernels_size(); ++index)
      if (code.kernels(index).name() == plan.kernel)
        launch.set_kernel(static_cast<uint32_t>(index));
    launch.set_grid_x(1);
    launch.set_grid_y(plan.tokensPerWorkgroup ? 0 : plan.byRow ? rows : 1);
    launch.set_tokens_per_workgroup(plan.tokensPerWorkgroup);
    launch.set_grid_z(1);
    launch.set_workgroup_size(32);
    launch.set_label(plan.kernel);
    for (uint32_t buffer : plan.buffers) {
      Argument &argument = *launch.add_arguments();
      const bool table = rows > 0 && (buffer == kStep || tableOf(buffer) > 0);
      argument.set_buffer(table ? uint32_t(kBatch) : buffer);
      argument.set_offset(table ? tableOf(buffer) : 0);
    }
  }
}

std::vector<int32_t> reply(std::vector<int32_t> tokens, size_t count, const uint32_t *seed,
                           std::span<const uint32_t> masks = {}, const ToyChange &change = {}) {
  std::vector<int32_t> chosen;
  // The sampler sees the position of the first token of the chunk it follows: the prompt's last chunk, then each token.
  size_t position = (tokens.size() - 1) / kToyChunk * kToyChunk;
  while (chosen.size() < count) {
    const uint32_t mask = masks.empty() ? ~0U : masks[chosen.size()];
    std::vector<float> row = toyLogitsOf(tokens).back();
    if (change)
      change(row, chosen.size());
    std::vector<uint32_t> allowed;
    for (uint32_t token = 0; token < kToyVocabulary; ++token)
      if (mask >> token & 1)
        allowed.push_back(token);
    auto best = static_cast<size_t>(std::ranges::max_element(allowed, {}, [&](uint32_t token) { return row[token]; }) -
                                    allowed.begin());
    if (seed)
      best = (best + ((*seed ^ static_cast<uint32_t>(position)) & 7)) % allowed.size();
    position = tokens.size();
    tokens.push_back(static_cast<int32_t>(allowed[best]));
    chosen.push_back(tokens.back());
  }
  return chosen;
}

} // namespace

absl::StatusOr<std::vector<ToyCode>> readToyCode(const std::string &folder) {
  std::vector<ToyCode> code;
  for (const char *name : {"gfx1151", "gfx1201"}) {
    std::ifstream in(absl::StrCat(folder, "/toy.", name, ".hsaco"), std::ios::binary);
    code.push_back({name, {std::istreambuf_iterator<char>(in), {}}});
    if (code.back().codeObject.empty())
      return absl::NotFoundError(absl::StrCat("no toy kernels for ", name, " in ", folder));
  }
  return code;
}

Manifest toyManifest(std::span<const ToyCode> code, uint32_t streams) {
  Manifest manifest;
  manifest.set_model_name("toy");
  manifest.set_architecture("toy");
  ModelFacts &facts = *manifest.mutable_facts();
  facts.set_vocabulary(kToyVocabulary);
  facts.set_context_length(kToyContext);
  facts.set_prefill_chunk(kToyChunk);
  facts.set_hidden_size(1);
  facts.set_layers(1);
  facts.set_state_block(kToyPage);
  auto add = [&](const char *name, Buffer::Role role, uint64_t bytes, uint64_t perPosition) {
    Buffer &buffer = *manifest.add_buffers();
    buffer.set_name(name);
    buffer.set_role(role);
    buffer.set_bytes(bytes);
    buffer.set_bytes_per_position(perPosition);
  };
  add("weights", Buffer::WEIGHTS, kToyVocabulary, 0);
  add("step", Buffer::STEP, sizeof(Step) + kToyContext / kToyPage * sizeof(int32_t), 0);
  add("tokens", Buffer::TOKENS, 4 * kToyChunk, 0);
  add("logits", Buffer::LOGITS, 4 * kToyVocabulary, 0);
  add("all_logits", Buffer::ALL_LOGITS, 4 * kToyVocabulary * kToyChunk, 0);
  add("output", Buffer::OUTPUT, 0, 4);
  add("arena", Buffer::SCRATCH, 4 * (streams > 0 ? uint64_t(kToyRows) : kToyChunk), 0);
  add("state", Buffer::STATE, 0, 4);
  add("mask", Buffer::MASK, 4, 0);
  if (streams > 0) {
    facts.set_streams(streams);
    add("batch", Buffer::BATCH, kMaskTable + sizeof(Batch::steps), 0);
    add("batch_logits", Buffer::BATCH_LOGITS, 4 * kToyVocabulary * uint64_t{streams}, 0);
    for (uint32_t buffer : {kTokens, kOutput, kMask})
      manifest.mutable_buffers(static_cast<int>(buffer))->set_batch_table(tableOf(buffer));
    manifest.mutable_buffers(kStep)->set_batch_table(offsetof(Batch, steps));
  }
  for (const ToyCode &each : code) {
    TargetCode &target = *manifest.add_targets();
    target.set_target(each.target);
    for (const LaunchPlan *plan : {&kEmbed, &kScan, &kLast, &kAll, &kGreedy, &kSample, &kEmbedRows, &kScanRows,
                                   &kLogitsRows, &kGreedyRows, &kSampleRows})
      target.add_kernels()->set_name(plan->kernel);
    addProgram(target, "prefill", {kEmbed, kScan, kLast});
    addProgram(target, "decode", {kEmbed, kScan, kLast});
    addProgram(target, "decode_greedy", {kEmbed, kScan, kLast, kGreedy});
    addProgram(target, "logits", {kEmbed, kScan, kAll});
    addProgram(target, "greedy", {kGreedy});
    addProgram(target, "sample", {kSample});
    for (uint32_t rows = 2; rows <= streams; rows *= 2) {
      auto addRows = [&](BatchProgram kind, const std::vector<LaunchPlan> &plans) {
        addProgram(target, absl::StrCat(kBatchPrograms[kind], rows), plans, rows);
      };
      addRows(kBatchGreedy, {kEmbedRows, kScanRows, kLogitsRows, kGreedyRows});
      addRows(kBatchDecode, {kEmbedRows, kScanRows, kLogitsRows});
      addRows(kBatchSample, {kSampleRows});
    }
  }
  Weight &weight = *manifest.add_weights();
  weight.set_name("embedding");
  weight.set_scheme("u8");
  weight.add_shape(kToyVocabulary);
  weight.set_bytes(kToyVocabulary);
  return manifest;
}

absl::Status writeToyModel(const std::string &path, std::span<const ToyCode> code, const TokenizerData &tokenizer,
                           uint64_t fixedState, uint32_t streams) {
  Manifest manifest = toyManifest(code, streams);
  if (fixedState > 0) {
    Buffer &buffer = *manifest.add_buffers();
    buffer.set_name("fixed");
    buffer.set_role(Buffer::STATE);
    buffer.set_bytes(fixedState);
  }
  std::vector<std::pair<std::string, std::string>> objects;
  for (const ToyCode &each : code)
    objects.emplace_back(each.target, each.codeObject);
  std::string bundle = makeBundle(objects);
  return writeArtifact(path, manifest, tokenizer, std::as_bytes(std::span(bundle)), [](WeightSink &sink) {
    std::vector<uint8_t> weights;
    weights.reserve(kToyVocabulary);
    for (int32_t token = 0; token < kToyVocabulary; ++token)
      weights.push_back(weightOf(token));
    return sink.append(std::as_bytes(std::span(weights)));
  });
}

std::vector<std::vector<float>> toyLogitsOf(std::span<const int32_t> tokens) {
  std::vector<std::vector<float>> rows;
  uint32_t value = 0;
  for (int32_t token : tokens) {
    value = value * 5 + weightOf(token) + 1;
    std::vector<float> row;
    for (uint32_t index = 1; index <= kToyVocabulary; ++index)
      row.push_back(static_cast<float>(static_cast<uint16_t>(value * index * 2654435761u >> 16)));
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<int32_t> toyReply(std::vector<int32_t> prompt, size_t count) {
  return reply(std::move(prompt), count, nullptr);
}

std::vector<int32_t> toySampledReply(std::vector<int32_t> prompt, size_t count, uint32_t seed) {
  return reply(std::move(prompt), count, &seed);
}

std::vector<int32_t> toyMaskedReply(std::vector<int32_t> prompt, std::span<const uint32_t> masks,
                                    std::optional<uint32_t> seed, const ToyChange &change) {
  return reply(std::move(prompt), masks.size(), seed ? &*seed : nullptr, masks, change);
}

} // namespace ingot::testing
