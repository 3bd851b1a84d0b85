// How fast a checkpoint is packed into an artifact, and in how much memory; the script pack-speed compares it with
// copying.
//
//   pack_bench make FOLDER [LAYERS]     writes a Llama of 1 B parameters (16 layers) with random bf16 weights
//   pack_bench pack FOLDER RECIPE OUT   packs all of it as `bf16` or `w8a8` means it and writes OUT as an artifact's
//                                       weights are written; prints seconds and the peak of resident memory
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <vector>

#include "compiler/checkpoint/checkpoint.h"
#include "compiler/pack/pack.h"
#include "runtime/artifact/artifact.h"
#include "runtime/artifact/bundle.h"
#include "runtime/artifact/step.h"

namespace ingot {
namespace {

constexpr uint64_t kHidden = 2048, kFfn = 8192, kKeys = 512, kVocabulary = 32000;

struct Tensor {
  std::string name;
  std::vector<uint64_t> shape;
};

std::vector<Tensor> tensorsOf(int layers) {
  std::vector<Tensor> tensors = {{"model.embed_tokens.weight", {kVocabulary, kHidden}}};
  for (int layer = 0; layer < layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    tensors.push_back({at + "input_layernorm.weight", {kHidden}});
    tensors.push_back({at + "self_attn.q_proj.weight", {kHidden, kHidden}});
    tensors.push_back({at + "self_attn.k_proj.weight", {kKeys, kHidden}});
    tensors.push_back({at + "self_attn.v_proj.weight", {kKeys, kHidden}});
    tensors.push_back({at + "self_attn.o_proj.weight", {kHidden, kHidden}});
    tensors.push_back({at + "post_attention_layernorm.weight", {kHidden}});
    tensors.push_back({at + "mlp.gate_proj.weight", {kFfn, kHidden}});
    tensors.push_back({at + "mlp.up_proj.weight", {kFfn, kHidden}});
    tensors.push_back({at + "mlp.down_proj.weight", {kHidden, kFfn}});
  }
  tensors.push_back({"model.norm.weight", {kHidden}});
  return tensors;
}

uint64_t elementsOf(const Tensor &tensor) {
  uint64_t elements = 1;
  for (uint64_t extent : tensor.shape)
    elements *= extent;
  return elements;
}

int make(const std::string &folder, int layers) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << R"({"model_type": "llama"})" << "\n";
  std::string header = "{";
  uint64_t offset = 0;
  for (const Tensor &tensor : tensorsOf(layers)) {
    std::string shape;
    for (uint64_t extent : tensor.shape)
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    const uint64_t end = offset + 2 * elementsOf(tensor);
    header += (offset ? ",\"" : "\"") + tensor.name + R"(":{"dtype":"BF16","shape":[)" + shape +
              R"(],"data_offsets":[)" + std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  header += "}";
  std::ofstream file(folder + "/model.safetensors", std::ios::binary);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char *>(&length), sizeof length);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  // bf16 between 2^-8 and 2^-4 of either sign.
  std::vector<uint16_t> block(1 << 20);
  uint64_t state = 88172645463325252ull;
  for (uint64_t done = 0; done < offset; done += 2 * block.size()) {
    for (uint16_t &value : block) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      value = static_cast<uint16_t>((state & 0x8000) | (0x3b80 + (state >> 20) % 0x200));
    }
    file.write(reinterpret_cast<const char *>(block.data()),
               static_cast<std::streamsize>(std::min<uint64_t>(2 * block.size(), offset - done)));
  }
  file.close();
  if (!file) {
    std::fprintf(stderr, "%s: cannot be written\n", folder.c_str());
    return 1;
  }
  return 0;
}

// The schemes of the built-in recipes of these names.
PackedWeight describeWeight(const TensorInfo &tensor, const std::string &recipe) {
  PackedWeight weight{PackedWeight::Layout::Tile16, WeightScheme::Bf16, {tensor.name}, tensor.rows(), tensor.columns()};
  if (tensor.quantization)
    storedScheme(*tensor.quantization, tensor.columns(), weight.scheme).IgnoreError();
  else if (tensor.shape.size() == 1)
    weight.layout = PackedWeight::Layout::RowMajorF32;
  else if (tensor.name == "model.embed_tokens.weight")
    weight.layout = PackedWeight::Layout::RowMajorBf16;
  else if (recipe == "w8a8")
    weight.scheme = tensor.name.ends_with("v_proj.weight") || tensor.name.ends_with("down_proj.weight")
                        ? WeightScheme::Int8Group32
                        : WeightScheme::Int8PerChannel;
  return weight;
}

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// `packing` is the time until the last byte is handed to the system; the file is on the disk when this returns.
absl::Status pack(const std::string &folder, const std::string &recipe, const std::string &out, double &packing) {
  const Clock::time_point start = Clock::now();
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::open(folder);
  if (!checkpoint.ok())
    return checkpoint.status();
  std::vector<PackedWeight> weights;
  uint64_t bytes = 0;
  for (const TensorInfo &tensor : (*checkpoint)->tensors()) {
    weights.push_back(describeWeight(tensor, recipe));
    bytes += packedBytes(weights.back());
  }
  Manifest manifest;
  manifest.set_model_name("bench");
  manifest.mutable_facts()->set_vocabulary(kVocabulary);
  manifest.mutable_facts()->set_context_length(64);
  manifest.mutable_facts()->set_prefill_chunk(64);
  manifest.mutable_facts()->set_state_block(16);
  const auto add = [&](const char *name, Buffer::Role role, uint64_t size, uint64_t perPosition) {
    Buffer &buffer = *manifest.add_buffers();
    buffer.set_name(name);
    buffer.set_role(role);
    buffer.set_bytes(size);
    buffer.set_bytes_per_position(perPosition);
  };
  add("weights", Buffer::WEIGHTS, bytes, 0);
  add("step", Buffer::STEP, 80, 0);
  add("tokens", Buffer::TOKENS, 256, 0);
  add("logits", Buffer::LOGITS, 4 * kVocabulary, 0);
  add("output", Buffer::OUTPUT, 0, 4);
  add("mask", Buffer::MASK, maskWords(kVocabulary) * 4, 0);
  // The least that an artifact has: one chip, one kernel, one launch.
  TargetCode &target = *manifest.add_targets();
  target.set_target("gfx1151");
  target.add_kernels()->set_name("k");
  Program &program = *target.add_programs();
  program.set_name("decode");
  Launch &launch = *program.add_launches();
  launch.set_grid_x(1);
  launch.set_grid_y(1);
  launch.set_grid_z(1);
  launch.set_workgroup_size(32);
  const std::vector<std::pair<std::string, std::string>> code = {{"gfx1151", "none"}};
  const std::string bundle = makeBundle(code);
  return writeArtifact(out, manifest, TokenizerData(), std::as_bytes(std::span(bundle)),
                       [&](WeightSink &sink) -> absl::Status {
                         for (const PackedWeight &weight : weights)
                           if (absl::Status status = packWeight(weight, **checkpoint, sink); !status.ok())
                             return status;
                         packing = secondsSince(start);
                         return absl::OkStatus();
                       });
}

int run(const std::vector<std::string> &arguments) {
  if (arguments.size() >= 2 && arguments[0] == "make")
    return make(arguments[1], arguments.size() > 2 ? std::stoi(arguments[2]) : 16);
  if (arguments.size() != 4 || arguments[0] != "pack") {
    std::fprintf(stderr, "usage: pack_bench make FOLDER [LAYERS] | pack_bench pack FOLDER bf16|w8a8 OUT\n");
    return 2;
  }
  const Clock::time_point start = Clock::now();
  double packing = 0;
  if (absl::Status status = pack(arguments[1], arguments[2], arguments[3], packing); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  const double seconds = secondsSince(start);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("{\"packed\": %.3f, \"on_disk\": %.3f, \"peak_mib\": %.0f}\n", packing, seconds,
              static_cast<double>(usage.ru_maxrss) / 1024);
  return 0;
}

} // namespace
} // namespace ingot

int main(int argc, char **argv) { return ingot::run({argv + 1, argv + argc}); }
