#include "compiler/artifact_content.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "codegen/kernels/kernels.h"
#include "codegen/target.h"
#include "compiler/pack/pack.h"
#include "compiler/stored_schemes.h"
#include "runtime/artifact/step.h"

using namespace mlir;

namespace ingot {

static Buffer::Role roleOf(exec::Role role) {
  switch (role) {
  case exec::Role::Weights:
    return Buffer::WEIGHTS;
  case exec::Role::State:
    return Buffer::STATE;
  case exec::Role::Scratch:
    return Buffer::SCRATCH;
  case exec::Role::Step:
    return Buffer::STEP;
  case exec::Role::Tokens:
    return Buffer::TOKENS;
  case exec::Role::Logits:
    return Buffer::LOGITS;
  case exec::Role::AllLogits:
    return Buffer::ALL_LOGITS;
  case exec::Role::Output:
    return Buffer::OUTPUT;
  case exec::Role::Batch:
    return Buffer::BATCH;
  case exec::Role::Mask:
    return Buffer::MASK;
  case exec::Role::BatchLogits:
    return Buffer::BATCH_LOGITS;
  }
  return Buffer::ROLE_UNSPECIFIED;
}

static void addLaunch(Program &program, exec::LaunchOp op, const std::map<std::string, uint32_t> &kernels,
                      const std::map<std::string, uint32_t> &buffers) {
  Launch &launch = *program.add_launches();
  launch.set_kernel(kernels.at(op.getKernel().getLeafReference().str()));
  launch.set_grid_x(op.getGrid()[0]);
  launch.set_grid_y(op.getGrid()[1]);
  launch.set_grid_z(op.getGrid()[2]);
  launch.set_tokens_per_workgroup(op.getTokensPerWorkgroup().value_or(0));
  launch.set_workgroup_size(op.getBlock());
  if (op.getLabel())
    launch.set_label(op.getLabel()->str());
  for (auto [name, offset] : llvm::zip(op.getBuffers().getAsRange<FlatSymbolRefAttr>(), op.getOffsets())) {
    Argument &argument = *launch.add_arguments();
    argument.set_buffer(buffers.at(name.getValue().str()));
    argument.set_offset(offset);
  }
}

absl::StatusOr<Manifest> makeManifest(ModuleOp module, const std::map<std::string, CodeObject> &code,
                                      const TokenizerData &tokenizer) {
  Manifest manifest;
  llm::Facts facts = llm::Facts::of(module);
  manifest.set_model_name(facts.name);
  manifest.set_architecture(facts.architecture);
  ModelFacts &out = *manifest.mutable_facts();
  out.set_vocabulary(facts.vocabulary);
  out.set_context_length(facts.contextLength);
  out.set_prefill_chunk(facts.prefillChunk);
  out.set_hidden_size(facts.hiddenSize);
  out.set_layers(facts.layers);
  out.set_state_block(kPagePositions);
  out.set_draft_length(facts.draftLength);
  std::set<uint32_t> ends(facts.endOfSequence.begin(), facts.endOfSequence.end());
  ends.insert(tokenizer.end_of_sequence().begin(), tokenizer.end_of_sequence().end());
  out.mutable_end_of_sequence()->Add(ends.begin(), ends.end());

  std::map<std::string, uint32_t> buffers;
  for (auto op : module.getOps<exec::BufferOp>()) {
    buffers[op.getSymName().str()] = manifest.buffers_size();
    Buffer &buffer = *manifest.add_buffers();
    buffer.set_name(op.getSymName().str());
    buffer.set_role(roleOf(op.getRole()));
    buffer.set_bytes(op.getBytes());
    buffer.set_bytes_per_position(op.getPerPosition());
    buffer.set_batch_table(op.getBatchTable().value_or(0));
  }
  for (auto op : module.getOps<exec::WeightOp>()) {
    Weight &weight = *manifest.add_weights();
    weight.set_name(op.getSymName().str());
    weight.set_scheme(op.getLayout() == exec::Layout::RowF32 ? "f32" : op.getScheme().spelled());
    for (int64_t d : op.getTensorType().getShape())
      weight.add_shape(d);
    weight.set_offset(op.getOffset());
    weight.set_bytes(op.getBytes());
  }
  for (auto op : module.getOps<exec::TargetOp>()) {
    TargetCode &target = *manifest.add_targets();
    target.set_target(op.getSymName().str());
    auto info = findTarget(target.target());
    if (!info.ok())
      return info.status();
    std::map<std::string, uint32_t> kernels;
    for (const KernelFacts &facts : code.at(target.target()).kernels) {
      kernels[facts.name] = target.kernels_size();
      Kernel &kernel = *target.add_kernels();
      kernel.set_name(facts.name);
      kernel.set_vgprs(facts.vgprs);
      kernel.set_sgprs(facts.sgprs);
      kernel.set_lds_bytes(facts.ldsBytes);
      kernel.set_scratch_bytes(facts.scratchBytes);
      kernel.set_code_bytes(facts.codeBytes);
      kernel.set_occupancy(occupancy(**info, facts.vgprs, facts.ldsBytes, facts.workgroupSize / (*info)->waveSize));
    }
    for (auto programOp : op.getBody().getOps<exec::ProgramOp>()) {
      Program &program = *target.add_programs();
      program.set_name(programOp.getSymName().str());
      program.set_weight_bytes(programOp.getWeightBytes());
      for (auto launch : programOp.getBody().getOps<exec::LaunchOp>())
        addLaunch(program, launch, kernels, buffers);
    }
  }
  for (const TargetCode &target : manifest.targets()) // each has the same programs
    for (const Program &program : target.programs())
      if (llvm::StringRef count(program.name()); count.consume_front("decode_greedy_"))
        if (uint32_t streams = 0; !count.getAsInteger(10, streams))
          out.set_streams(std::max(out.streams(), streams));
  return manifest;
}

uint64_t weightSectionBytes(ModuleOp module) {
  uint64_t bytes = 0;
  for (auto buffer : module.getOps<exec::BufferOp>())
    if (buffer.getRole() == exec::Role::Weights)
      bytes = buffer.getBytes();
  return bytes;
}

static absl::Status padTo(WeightSink &sink, uint64_t offset) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (sink.offset() < offset) {
    uint64_t n = std::min<uint64_t>(kZeros.size(), offset - sink.offset());
    if (absl::Status s = sink.append(std::span(kZeros).first(n)); !s.ok())
      return s;
  }
  return absl::OkStatus();
}

static absl::Status packConstant(exec::WeightOp op, WeightSink &sink) {
  std::vector<float> values(op.getBytes() / 4, 0.0f);
  size_t i = 0;
  for (float value : llvm::cast<DenseElementsAttr>(*op.getValue()).getValues<float>())
    values[i++] = value;
  return sink.append(std::as_bytes(std::span(values)));
}

PackedWeight packedWeight(exec::WeightOp op) {
  PackedWeight weight;
  switch (op.getLayout()) {
  case exec::Layout::Tile16:
    weight.layout = PackedWeight::Layout::Tile16;
    break;
  case exec::Layout::RowBF16:
    weight.layout = PackedWeight::Layout::RowMajorBf16;
    break;
  case exec::Layout::RowF32:
    weight.layout = PackedWeight::Layout::RowMajorF32;
    break;
  }
  if (weight.layout == PackedWeight::Layout::Tile16)
    weight.scheme = weightScheme(op.getScheme());
  weight.permuted = op.getPermuted();
  if (op.getSources())
    for (auto source : op.getSources()->getAsRange<StringAttr>())
      weight.sources.push_back(source.str());
  llvm::ArrayRef<int64_t> shape = op.getTensorType().getShape();
  const bool flat = shape.size() == 1 || op.getLayout() == exec::Layout::RowF32;
  weight.rows = flat ? 1 : shape.end()[-2];
  weight.columns = flat ? op.getTensorType().getNumElements() : shape.back();
  if (!flat && shape.size() == 3)
    weight.experts = shape[0];
  return weight;
}

absl::Status packWeights(ModuleOp module, const Checkpoint &checkpoint, WeightSink &sink,
                         const std::function<void(uint64_t)> &progress) {
  for (auto op : module.getOps<exec::WeightOp>()) {
    if (absl::Status s = padTo(sink, op.getOffset()); !s.ok())
      return s;
    if (op.getValue()) {
      if (absl::Status s = packConstant(op, sink); !s.ok())
        return s;
      continue;
    }
    PackedWeight weight = packedWeight(op);
    if (packedBytes(weight) != static_cast<uint64_t>(op.getBytes()))
      return absl::InternalError(absl::StrCat("weight ", op.getSymName().str(), " packs to ", packedBytes(weight),
                                              " bytes, but its kernels expect ", op.getBytes()));
    absl::Status s = packWeight(weight, checkpoint, sink, [&](uint64_t) { progress(sink.offset()); });
    if (!s.ok())
      return s;
  }
  return padTo(sink, weightSectionBytes(module));
}

} // namespace ingot
