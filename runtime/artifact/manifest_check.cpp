#include "runtime/artifact/manifest_check.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/batch.h"
#include "runtime/artifact/step.h"

namespace ingot {
namespace {

// Beyond any machine's memory, and far enough from 2^64 that sums of a few sizes cannot overflow.
constexpr uint64_t kLargestBuffer = uint64_t(1) << 48;
constexpr uint32_t kLargestWorkgroup = 1024;
constexpr uint32_t kLargestGridYZ = 65536;
constexpr uint32_t kMostDrafts = 7;
constexpr int kMostArguments = 512; // 4096 bytes of kernel arguments

template <typename... Parts> absl::Status refuse(const Parts &...parts) {
  return absl::InvalidArgumentError(absl::StrCat("manifest: ", parts..., "; recompile the model with ingotc"));
}

absl::Status checkFacts(const ModelFacts &facts) {
  struct Field {
    const char *name;
    uint32_t value, most;
  };
  const Field fields[] = {{"facts.vocabulary", facts.vocabulary(), 1u << 28},
                          {"facts.context_length", facts.context_length(), 1u << 30},
                          {"facts.prefill_chunk", facts.prefill_chunk(), 1u << 20},
                          {"facts.state_block", facts.state_block(), 1u << 20}};
  for (const Field &field : fields)
    if (field.value < 1 || field.value > field.most)
      return refuse("expected ", field.name, " from 1 to ", field.most, ", got ", field.value);
  if (facts.draft_length() > kMostDrafts)
    return refuse("expected facts.draft_length of at most ", kMostDrafts, ", got ", facts.draft_length());
  if (facts.streams() == 1 || facts.streams() > kBatchRows || (facts.streams() & (facts.streams() - 1)) != 0)
    return refuse("expected facts.streams of 0, 2, 4 or ", kBatchRows, ", got ", facts.streams());
  return absl::OkStatus();
}

std::string nameOf(const Buffer &buffer, int index) {
  return absl::StrCat("buffer ", index, " \"", buffer.name(), "\"");
}

absl::Status checkBuffers(const Manifest &manifest, uint64_t weightsBytes) {
  const ModelFacts &facts = manifest.facts();
  uint64_t positions = roundContext(facts, facts.context_length());
  uint64_t chunk = facts.prefill_chunk(), vocabulary = facts.vocabulary();
  std::set<Buffer::Role> seen;
  for (int index = 0; index < manifest.buffers_size(); ++index) {
    const Buffer &buffer = manifest.buffers(index);
    if (buffer.bytes() > kLargestBuffer || buffer.bytes_per_position() > kLargestBuffer / positions)
      return refuse(nameOf(buffer, index), ": expected a size under 2^48 bytes, got ", buffer.bytes(), " + ",
                    buffer.bytes_per_position(), " a position at ", positions, " positions");
    uint64_t least = 0;
    switch (buffer.role()) {
    case Buffer::WEIGHTS:
      if (buffer.bytes() != weightsBytes || buffer.bytes_per_position() != 0)
        return refuse(nameOf(buffer, index), ": expected the ", weightsBytes, " bytes of the weights section, got ",
                      buffer.bytes(), " + ", buffer.bytes_per_position(), " a position");
      break;
    case Buffer::STATE:
    case Buffer::SCRATCH:
      break;
    case Buffer::STEP:
      least = sizeof(Step) + positions / facts.state_block() * sizeof(int32_t);
      break;
    case Buffer::TOKENS:
      least = 4 * std::max<uint64_t>(chunk, facts.draft_length() + 1);
      break;
    case Buffer::LOGITS:
      least = 4 * vocabulary;
      break;
    case Buffer::ALL_LOGITS:
      least = 4 * chunk * vocabulary;
      break;
    case Buffer::OUTPUT:
      // The executor sizes Step.capacity by what is there at the chosen context.
      least = 4;
      break;
    case Buffer::BATCH:
      least = sizeof(Batch);
      break;
    case Buffer::MASK:
      least = 4 * maskWords(vocabulary);
      break;
    case Buffer::BATCH_LOGITS:
      least = 4 * facts.streams() * vocabulary;
      break;
    default:
      return refuse(nameOf(buffer, index), ": expected a known role, got ", static_cast<int>(buffer.role()));
    }
    if (bufferBytes(buffer, facts.state_block()) < least)
      return refuse(nameOf(buffer, index), ": expected at least ", least, " bytes for role ",
                    Buffer::Role_Name(buffer.role()), ", got ", bufferBytes(buffer, facts.state_block()));
    bool shared = buffer.role() == Buffer::STATE || buffer.role() == Buffer::SCRATCH;
    if (!seen.insert(buffer.role()).second && !shared)
      return refuse(nameOf(buffer, index), ": expected one buffer of role ", Buffer::Role_Name(buffer.role()),
                    ", got a second");
  }
  for (Buffer::Role role :
       {Buffer::WEIGHTS, Buffer::STEP, Buffer::TOKENS, Buffer::LOGITS, Buffer::OUTPUT, Buffer::MASK})
    if (!seen.contains(role))
      return refuse("expected a buffer of role ", Buffer::Role_Name(role), ", got none");
  if (facts.streams() > 0 && !seen.contains(Buffer::BATCH_LOGITS))
    return refuse("expected a buffer of role BATCH_LOGITS where facts.streams is ", facts.streams(), ", got none");
  return absl::OkStatus();
}

// The tables of a step of several sequences: inside the buffer of role BATCH, apart from one another, each for a buffer
// that a sequence has for itself.
absl::Status checkTables(const Manifest &manifest) {
  uint64_t end = 0;
  for (const Buffer &buffer : manifest.buffers())
    if (buffer.role() == Buffer::BATCH)
      end = buffer.bytes();
  std::set<uint64_t> tables;
  std::set<Buffer::Role> found;
  for (int index = 0; index < manifest.buffers_size(); ++index) {
    const Buffer &buffer = manifest.buffers(index);
    const uint64_t table = buffer.batch_table(), bytes = sizeof(Batch::steps);
    if (table == 0)
      continue;
    const bool owned = (buffer.role() == Buffer::STATE && !growsWithPosition(buffer)) ||
                       buffer.role() == Buffer::STEP || buffer.role() == Buffer::TOKENS ||
                       buffer.role() == Buffer::OUTPUT || buffer.role() == Buffer::MASK;
    if (!owned || (buffer.role() == Buffer::STEP) != (table == offsetof(Batch, steps)))
      return refuse(nameOf(buffer, index), ": expected batch_table of ", offsetof(Batch, steps),
                    " for role STEP alone, another for TOKENS, OUTPUT, MASK and STATE of a fixed size, and none for "
                    "others, got ",
                    table, " for ", Buffer::Role_Name(buffer.role()));
    if (table % bytes != 0 || end < bytes || table > end - bytes || !tables.insert(table).second)
      return refuse(nameOf(buffer, index), ": expected a batch_table of its own at a multiple of ", bytes,
                    " in the BATCH buffer of ", end, " bytes, got ", table);
    found.insert(buffer.role());
  }
  if (manifest.facts().streams() > 0)
    for (Buffer::Role role : {Buffer::STEP, Buffer::TOKENS, Buffer::OUTPUT, Buffer::MASK})
      if (!found.contains(role))
        return refuse("expected a batch_table for role ", Buffer::Role_Name(role), " where facts.streams is ",
                      manifest.facts().streams(), ", got none");
  return absl::OkStatus();
}

absl::Status checkLaunch(const Manifest &manifest, const TargetCode &code, const Launch &launch,
                         const std::string &where) {
  if (launch.kernel() >= static_cast<uint32_t>(code.kernels_size()))
    return refuse(where, ": expected a kernel index under ", code.kernels_size(), ", got ", launch.kernel());
  if (launch.workgroup_size() < 1 || launch.workgroup_size() > kLargestWorkgroup)
    return refuse(where, ": expected a workgroup of 1 to ", kLargestWorkgroup, " lanes, got ", launch.workgroup_size());
  if (launch.grid_x() < 1 || uint64_t(launch.grid_x()) * launch.workgroup_size() > UINT32_MAX)
    return refuse(where, ": expected grid_x from 1 to 2^32-1 lanes, got ", launch.grid_x(), " workgroups of ",
                  launch.workgroup_size());
  bool byTokens = launch.tokens_per_workgroup() != 0;
  if (!byTokens && (launch.grid_y() < 1 || launch.grid_y() > kLargestGridYZ))
    return refuse(where, ": expected grid_y from 1 to ", kLargestGridYZ, ", got ", launch.grid_y());
  if (byTokens && manifest.facts().prefill_chunk() / launch.tokens_per_workgroup() >= kLargestGridYZ)
    return refuse(where, ": expected at most ", kLargestGridYZ, " workgroups along y for a chunk of ",
                  manifest.facts().prefill_chunk(), " tokens, got one for each ", launch.tokens_per_workgroup());
  if (launch.grid_z() < 1 || launch.grid_z() > kLargestGridYZ)
    return refuse(where, ": expected grid_z from 1 to ", kLargestGridYZ, ", got ", launch.grid_z());
  if (launch.arguments_size() > kMostArguments)
    return refuse(where, ": expected at most ", kMostArguments, " arguments, got ", launch.arguments_size());
  uint64_t positions = roundContext(manifest.facts(), manifest.facts().context_length());
  for (int index = 0; index < launch.arguments_size(); ++index) {
    const Argument &argument = launch.arguments(index);
    if (argument.buffer() >= static_cast<uint32_t>(manifest.buffers_size()))
      return refuse(where, ", argument ", index, ": expected a buffer index under ", manifest.buffers_size(), ", got ",
                    argument.buffer());
    const Buffer &buffer = manifest.buffers(static_cast<int>(argument.buffer()));
    if (argument.offset() >= bufferBytes(buffer, positions))
      return refuse(where, ", argument ", index, ": expected an offset under the ", bufferBytes(buffer, positions),
                    " bytes of buffer \"", buffer.name(), "\", got ", argument.offset());
  }
  return absl::OkStatus();
}

absl::Status checkTarget(const Manifest &manifest, const TargetCode &code) {
  std::set<std::string> kernels, programs;
  for (const Kernel &kernel : code.kernels())
    if (kernel.name().empty() || !kernels.insert(kernel.name()).second)
      return refuse("target ", code.target(), ": expected kernels with names of their own, got \"", kernel.name(),
                    "\" empty or twice");
  int speculates = 0;
  for (const Program &program : code.programs()) {
    speculates += program.name() == "speculate" || program.name() == "speculate_sample";
    if (program.name().empty() || !programs.insert(program.name()).second)
      return refuse("target ", code.target(), ": expected programs with names of their own, got \"", program.name(),
                    "\" empty or twice");
    for (int index = 0; index < program.launches_size(); ++index) {
      std::string where = absl::StrCat("target ", code.target(), ", program ", program.name(), ", launch ", index);
      if (absl::Status status = checkLaunch(manifest, code, program.launches(index), where); !status.ok())
        return status;
    }
    if (takesSeveral(program.name()))
      for (const Launch &launch : program.launches())
        for (const Argument &argument : launch.arguments()) {
          const Buffer &buffer = manifest.buffers(static_cast<int>(argument.buffer()));
          if (buffer.role() != Buffer::WEIGHTS && buffer.role() != Buffer::SCRATCH && buffer.role() != Buffer::BATCH &&
              buffer.role() != Buffer::BATCH_LOGITS && !growsWithPosition(buffer))
            return refuse(
                "target ", code.target(), ", program ", program.name(), ": expected buffers that sequences share, got ",
                nameOf(buffer, static_cast<int>(argument.buffer())), " of role ", Buffer::Role_Name(buffer.role()));
        }
    if (program.name() == "logits" || program.name() == "draft_logits") {
      bool found = false;
      for (const Buffer &buffer : manifest.buffers())
        found |= buffer.role() == Buffer::ALL_LOGITS;
      if (!found)
        return refuse("target ", code.target(), ": expected a buffer of role ALL_LOGITS for program ", program.name(),
                      ", got none");
    }
  }
  for (uint32_t rows = 2; rows <= manifest.facts().streams(); rows *= 2)
    for (const char *kind : kBatchPrograms)
      if (std::string name = absl::StrCat(kind, rows); !programs.contains(name))
        return refuse("target ", code.target(), ": expected a program ", name, " where facts.streams is ",
                      manifest.facts().streams(), ", got none");
  if (speculates != (manifest.facts().draft_length() > 0 ? 2 : 0))
    return refuse("target ", code.target(),
                  ": expected programs speculate and speculate_sample where facts.draft_length is not 0, got ",
                  speculates, " of them and ", manifest.facts().draft_length(), "; compile the model again");
  return absl::OkStatus();
}

} // namespace

bool growsWithPosition(const Buffer &buffer) {
  return buffer.role() == Buffer::STATE && buffer.bytes_per_position() > 0 && buffer.bytes() == 0;
}

uint64_t bufferBytes(const Buffer &buffer, uint64_t positions) {
  return buffer.bytes() + buffer.bytes_per_position() * positions;
}

uint64_t roundContext(const ModelFacts &facts, uint64_t context) {
  uint64_t block = facts.state_block();
  return (context + block - 1) / block * block;
}

absl::Status checkManifest(const Manifest &manifest, uint64_t weightsBytes) {
  if (absl::Status status = checkFacts(manifest.facts()); !status.ok())
    return status;
  if (absl::Status status = checkBuffers(manifest, weightsBytes); !status.ok())
    return status;
  if (absl::Status status = checkTables(manifest); !status.ok())
    return status;
  if (manifest.targets_size() == 0)
    return refuse("expected code for at least one chip, got none");
  std::set<std::string> targets;
  for (const TargetCode &code : manifest.targets()) {
    if (code.target().empty() || !targets.insert(code.target()).second)
      return refuse("expected targets with names of their own, got \"", code.target(), "\" empty or twice");
    if (absl::Status status = checkTarget(manifest, code); !status.ok())
      return status;
  }
  for (const Weight &weight : manifest.weights())
    if (weight.offset() > weightsBytes || weight.bytes() > weightsBytes - weight.offset())
      return refuse("weight \"", weight.name(), "\": expected inside the ", weightsBytes,
                    " bytes of the weights section, got offset ", weight.offset(), " and ", weight.bytes(), " bytes");
  return absl::OkStatus();
}

} // namespace ingot
