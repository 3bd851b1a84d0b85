// `ingot inspect`: what is in a file, without a device: chips, kernels and their registers, launches and bytes a token,
// weights by scheme, and where it all came from.
#include <algorithm>
#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "runtime/artifact/manifest_check.h"
#include "runtime/executor/fit.h"
#include "tools/ingot/command.h"

namespace ingot::cli {
namespace {

using Json = nlohmann::ordered_json;

Json programJson(const TargetCode &code, const Program &program) {
  std::map<std::string, int> perKernel;
  for (const Launch &launch : program.launches())
    ++perKernel[code.kernels(static_cast<int>(launch.kernel())).name()];
  return {{"name", program.name()},
          {"launches", program.launches_size()},
          {"weight_bytes", program.weight_bytes()},
          {"launches_by_kernel", perKernel}};
}

Json targetJson(const Artifact &artifact, const TargetCode &code) {
  Json kernels = Json::array(), programs = Json::array();
  for (const Kernel &kernel : code.kernels())
    kernels.push_back({{"name", kernel.name()},
                       {"vgprs", kernel.vgprs()},
                       {"sgprs", kernel.sgprs()},
                       {"lds_bytes", kernel.lds_bytes()},
                       {"scratch_bytes_per_lane", kernel.scratch_bytes()},
                       {"occupancy_waves_per_simd", kernel.occupancy()},
                       {"code_bytes", kernel.code_bytes()}});
  for (const Program &program : code.programs())
    programs.push_back(programJson(code, program));
  auto object = artifact.codeObject(code.target());
  return {{"target", code.target()},
          {"code_object_bytes", object.ok() ? object->size() : 0},
          {"kernels", kernels},
          {"programs", programs}};
}

Json schemesJson(const Manifest &manifest) {
  std::map<std::string, std::pair<uint64_t, uint64_t>> schemes; // tensors, bytes
  for (const Weight &weight : manifest.weights()) {
    auto &[tensors, bytes] = schemes[weight.scheme()];
    ++tensors;
    bytes += weight.bytes();
  }
  Json list = Json::array();
  for (const auto &[scheme, total] : schemes)
    list.push_back({{"scheme", scheme}, {"tensors", total.first}, {"bytes", total.second}});
  return list;
}

// Bytes of keys and values of a sequence of so many positions: of layers whose window bounds them, and of those that
// keep all.
Json cachesJson(const Manifest &manifest, uint64_t positions) {
  uint64_t rings = 0, whole = 0, ringBytes = 0, wholeBytes = 0;
  for (const Buffer &buffer : manifest.buffers()) {
    if (!isKeyValueCache(buffer))
      continue;
    const bool grows = growsWithPosition(buffer);
    (grows ? whole : rings) += isKeyCache(buffer);
    (grows ? wholeBytes : ringBytes) += bufferBytes(buffer, positions);
  }
  return {{"positions", positions},
          {"of_windows", {{"caches", rings}, {"bytes", ringBytes}}},
          {"of_all_positions", {{"caches", whole}, {"bytes", wholeBytes}}},
          {"bytes", ringBytes + wholeBytes}};
}

Json memoryJson(const Manifest &manifest, uint64_t context) {
  uint64_t fixed = 0, perPosition = 0;
  Json buffers = Json::array();
  for (const Buffer &buffer : manifest.buffers()) {
    fixed += buffer.bytes();
    perPosition += buffer.bytes_per_position();
    buffers.push_back({{"name", buffer.name()},
                       {"role", Buffer::Role_Name(buffer.role())},
                       {"bytes", buffer.bytes()},
                       {"bytes_per_position", buffer.bytes_per_position()}});
  }
  return {{"fixed_bytes", fixed},
          {"bytes_per_position", perPosition},
          {"bytes_at_full_context",
           fixed + perPosition * roundContext(manifest.facts(), manifest.facts().context_length())},
          {"kv_cache", cachesJson(manifest, roundContext(manifest.facts(), context))},
          {"buffers", buffers}};
}

Json describe(const Artifact &artifact, uint64_t context) {
  const Manifest &manifest = artifact.manifest();
  const ModelFacts &facts = manifest.facts();
  const Provenance &origin = manifest.provenance();
  const TokenizerData &tokenizer = artifact.tokenizer();
  Json json;
  json["file"] = artifact.path();
  json["bytes"] = artifact.fileBytes();
  json["format_version"] = kArtifactVersion;
  json["model"] = manifest.model_name();
  json["architecture"] = manifest.architecture();
  json["facts"] = {
      {"vocabulary", facts.vocabulary()},
      {"context_length", facts.context_length()},
      {"prefill_chunk", facts.prefill_chunk()},
      {"hidden_size", facts.hidden_size()},
      {"layers", facts.layers()},
      {"state_block", facts.state_block()},
      {"streams", std::max(facts.streams(), 1U)},
      {"end_of_sequence", std::vector<uint32_t>(facts.end_of_sequence().begin(), facts.end_of_sequence().end())}};
  json["tokenizer"] = {{"kind", TokenizerData::Kind_Name(tokenizer.kind())},
                       {"pieces", tokenizer.pieces_size()},
                       {"chat_template", !tokenizer.chat_template().empty()}};
  json["sections"] = Json::array();
  for (const ArtifactSection &section : artifact.sections())
    json["sections"].push_back({{"name", section.name},
                                {"offset", section.offset},
                                {"bytes", section.bytes},
                                {"xxh3", absl::StrFormat("%016x", section.checksum)}});
  json["targets"] = Json::array();
  for (const TargetCode &code : manifest.targets())
    json["targets"].push_back(targetJson(artifact, code));
  json["memory"] = memoryJson(manifest, context);
  json["weights_by_scheme"] = schemesJson(manifest);
  json["weights"] = Json::array();
  for (const Weight &weight : manifest.weights())
    json["weights"].push_back({{"name", weight.name()},
                               {"scheme", weight.scheme()},
                               {"shape", std::vector<uint64_t>(weight.shape().begin(), weight.shape().end())},
                               {"offset", weight.offset()},
                               {"bytes", weight.bytes()}});
  json["provenance"] = {
      {"compiler", origin.compiler()},
      {"recipe", origin.recipe()},
      {"recipe_text", origin.recipe_text()},
      {"calibration", origin.calibration()},
      {"kv_cache", origin.kv_cache()},
      {"chat_template", origin.chat_template()},
      {"source", origin.source()},
      {"source_digest", absl::StrFormat("%016x", origin.source_digest())},
      {"skipped_tensors", std::vector<std::string>(origin.skipped_tensors().begin(), origin.skipped_tensors().end())}};
  return json;
}

// The text form is the JSON form laid out for reading: one source, so that they cannot disagree.
void print(const Json &json) {
  auto text = [](const Json &value) { return value.get<std::string>(); };
  auto size = [](const Json &value) { return bytesText(value.get<double>()); };
  const Json &facts = json["facts"], &origin = json["provenance"], &memory = json["memory"];
  absl::PrintF("%s: %s, format %d\n", text(json["file"]), size(json["bytes"]), json["format_version"].get<int>());
  absl::PrintF("model        %s (%s), %d layers, hidden size %d, vocabulary %d, context %d\n", text(json["model"]),
               text(json["architecture"]), facts["layers"].get<int>(), facts["hidden_size"].get<int>(),
               facts["vocabulary"].get<int>(), facts["context_length"].get<int>());
  absl::PrintF("made by      %s from %s, recipe %s%s\n", text(origin["compiler"]), text(origin["source"]),
               text(origin["recipe"]),
               text(origin["calibration"]).empty() ? "" : ", calibrated with " + text(origin["calibration"]));
  if (const size_t skipped = origin["skipped_tensors"].size(); skipped > 0)
    absl::PrintF("left out     %d tensors of the checkpoint (--json names them)\n", skipped);
  absl::PrintF("tokenizer    %s, %d pieces, %s%s\n", text(json["tokenizer"]["kind"]),
               json["tokenizer"]["pieces"].get<int>(),
               json["tokenizer"]["chat_template"].get<bool>() ? "with a chat template" : "no chat template",
               text(origin["chat_template"]).empty() ? "" : " of " + text(origin["chat_template"]));
  absl::PrintF("memory       %s + %s a position = %s at the full context%s\n", size(memory["fixed_bytes"]),
               size(memory["bytes_per_position"]), size(memory["bytes_at_full_context"]),
               text(origin["kv_cache"]).empty() ? "" : ", the KV cache in " + text(origin["kv_cache"]));
  if (const int streams = facts["streams"].get<int>(); streams > 1)
    absl::PrintF("streams      steps of up to %d sequences\n", streams);
  const Json &caches = memory["kv_cache"], &rings = caches["of_windows"], &whole = caches["of_all_positions"];
  absl::PrintF("KV cache     %s for %d positions: %d caches of a window %s, %d of all positions %s\n",
               size(caches["bytes"]), caches["positions"].get<uint64_t>(), rings["caches"].get<uint64_t>(),
               size(rings["bytes"]), whole["caches"].get<uint64_t>(), size(whole["bytes"]));
  absl::PrintF("\nsections     %-10s %14s %14s  %s\n", "", "offset", "bytes", "xxh3");
  for (const Json &section : json["sections"])
    absl::PrintF("             %-10s %14d %14d  %s\n", text(section["name"]), section["offset"].get<uint64_t>(),
                 section["bytes"].get<uint64_t>(), text(section["xxh3"]));
  absl::PrintF("\nweights      %-22s %8s %14s\n", "scheme", "tensors", "bytes");
  for (const Json &scheme : json["weights_by_scheme"])
    absl::PrintF("             %-22s %8d %14d\n", text(scheme["scheme"]), scheme["tensors"].get<uint64_t>(),
                 scheme["bytes"].get<uint64_t>());
  for (const Json &target : json["targets"]) {
    absl::PrintF("\n%s: code object of %s\n", text(target["target"]), size(target["code_object_bytes"]));
    absl::PrintF("  %-14s %9s %22s\n", "program", "launches", "weight bytes a token");
    for (const Json &program : target["programs"])
      absl::PrintF("  %-14s %9d %22d\n", text(program["name"]), program["launches"].get<int>(),
                   program["weight_bytes"].get<uint64_t>());
    size_t width = 6;
    for (const Json &kernel : target["kernels"])
      width = std::max(width, text(kernel["name"]).size());
    absl::PrintF("  %-*s %6s %6s %8s %8s %10s %8s\n", static_cast<int>(width), "kernel", "VGPRs", "SGPRs", "LDS",
                 "scratch", "waves/SIMD", "code");
    for (const Json &kernel : target["kernels"])
      absl::PrintF("  %-*s %6d %6d %8d %8d %10d %8d\n", static_cast<int>(width), text(kernel["name"]),
                   kernel["vgprs"].get<int>(), kernel["sgprs"].get<int>(), kernel["lds_bytes"].get<int>(),
                   kernel["scratch_bytes_per_lane"].get<int>(), kernel["occupancy_waves_per_simd"].get<int>(),
                   kernel["code_bytes"].get<int>());
  }
}

} // namespace

void addInspect(CLI::App &app, Command &command) {
  auto file = std::make_shared<std::string>();
  auto asJson = std::make_shared<bool>(false);
  auto context = std::make_shared<uint32_t>(0);
  CLI::App *sub = app.add_subcommand("inspect", "Describe a file: chips, kernels, weights, origin. Needs no device");
  sub->add_option("FILE", *file, "a .ingot file")->required();
  sub->add_flag("--json", *asJson, "print JSON, with every weight and buffer");
  sub->add_option("--context", *context, "positions to state the KV cache for (default: the model's context)")
      ->check(CLI::Range(1u, 1u << 30));
  sub->final_callback([file, asJson, context, &command] {
    command.action = [file, asJson, context]() -> absl::Status {
      auto artifact = Artifact::open(*file);
      if (!artifact.ok())
        return artifact.status();
      const uint32_t most = (*artifact)->manifest().facts().context_length();
      if (*context > most)
        return absl::InvalidArgumentError(absl::StrCat("expected a --context of at most the ", most,
                                                       " positions this model was made for, got ", *context));
      Json json = describe(**artifact, *context ? *context : most);
      if (*asJson)
        // A name in the file may hold any bytes; what is no UTF-8 is shown replaced.
        std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
      else
        print(json);
      return absl::OkStatus();
    };
  });
}

} // namespace ingot::cli
