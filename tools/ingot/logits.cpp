// `ingot logits`: token ids in, logits out, as a safetensors file. It needs no tokenizer, so that any checkpoint, also
// a random one, can be compared with another implementation.
#include <chrono>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/artifact/atomic_file.h"
#include "tools/ingot/command.h"
#include "tools/ingot/stats.h"

namespace ingot::cli {
namespace {

struct LogitsOptions {
  std::string file, tokens, output;
  bool steps = false, draft = false;
  DeviceFlags device;
};

absl::StatusOr<std::vector<int32_t>> readIds(const std::string &path) {
  auto text = readFile(path);
  if (!text.ok())
    return text.status();
  auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_array() || json.empty())
    return absl::InvalidArgumentError(absl::StrCat(path,
                                                   ": expected a JSON array of token ids such as [1, 22, 333], got ",
                                                   json.is_discarded() ? "no valid JSON"
                                                   : json.empty()      ? "nothing in it"
                                                                       : json.type_name()));
  std::vector<int32_t> ids;
  for (const auto &value : json) {
    if (!value.is_number_integer() || value < 0 || value > INT32_MAX)
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": element ", ids.size(), ": expected a token id, got ", value.dump().substr(0, 40)));
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

absl::Status writeHeader(AtomicFile &out, size_t tokens, size_t vocabulary) {
  nlohmann::ordered_json header;
  header["logits"]["dtype"] = "F32";
  header["logits"]["shape"] = {tokens, vocabulary};
  header["logits"]["data_offsets"] = {0, tokens * vocabulary * sizeof(float)};
  std::string text = header.dump();
  // The data begins at a multiple of 8; spaces are the padding that safetensors allows.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  if (absl::Status status = out.append(std::as_bytes(std::span(&length, 1))); !status.ok())
    return status;
  return out.append(std::as_bytes(std::span(text)));
}

absl::Status computeLogits(const LogitsOptions &options) {
  auto ids = readIds(options.tokens);
  if (!ids.ok())
    return ids.status();
  auto opened = Artifact::open(options.file);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = *std::move(opened);
  if (ids->size() > artifact->manifest().facts().context_length())
    return absl::InvalidArgumentError(absl::StrCat(options.tokens, ": expected at most the ",
                                                   artifact->manifest().facts().context_length(),
                                                   " tokens of the model's context, got ", ids->size()));
  auto out = AtomicFile::create(options.output);
  if (!out.ok())
    return out.status();
  auto selected = chooseDevice(*artifact, options.device);
  if (!selected.ok())
    return selected.status();
  SessionOptions settings;
  settings.context = static_cast<uint32_t>(ids->size());
  settings.graph = !options.device.noGraph;
  settings.allLogits = !options.steps;
  settings.cancel = interruptFlag();
  auto session = Session::load(artifact, selected->device, selected->target, settings);
  if (!session.ok())
    return session.status();
  if (absl::Status status = writeHeader(**out, ids->size(), artifact->manifest().facts().vocabulary()); !status.ok())
    return status;
  auto start = std::chrono::steady_clock::now();
  auto append = [&](std::span<const float> row) { return (*out)->append(std::as_bytes(row)); };
  absl::Status status =
      options.draft ? (*session)->draftLogits(*ids, append) : (*session)->allLogits(*ids, options.steps, append);
  if (!status.ok())
    return status;
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (options.device.stats) {
    absl::FPrintF(stderr, "%d tokens in %.2f s, %.2f tokens/s\n", ids->size(), elapsed.count(),
                  static_cast<double>(ids->size()) / elapsed.count());
    printCounters(options.steps ? "decode" : "logits", counters(*selected->device), ids->size(), elapsed.count());
  }
  return (*out)->commit();
}

} // namespace

void addLogits(CLI::App &app, Command &command) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App *sub = app.add_subcommand("logits", "Write the logits after each of the given tokens");
  sub->add_option("FILE", options->file, "a .ingot file")->required();
  sub->add_option("--tokens", options->tokens, "a JSON array of token ids")->required()->type_name("IDS.json");
  sub->add_option("-o,--output", options->output, "safetensors file to write: `logits`, f32 [tokens, vocabulary]")
      ->required()
      ->type_name("OUT.safetensors");
  auto *steps = sub->add_flag("--steps", options->steps, "one decode step a token instead of prefill by chunks");
  sub->add_flag(
         "--draft", options->draft,
         "those of the head that drafts: row p is from token p and what the model made of token p - 1, and predicts "
         "token p + 1; row 0 means nothing")
      ->excludes(steps);
  options->device.add(*sub);
  sub->final_callback([options, &command] {
    options->device.check();
    command.action = [options] { return computeLogits(*options); };
  });
}

} // namespace ingot::cli
