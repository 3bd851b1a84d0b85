#include "tools/ingot/command.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ingot::cli {
namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

void onInterrupt(int signal) {
  interrupted.store(true);
  std::signal(signal, SIG_DFL);
}

} // namespace

void DeviceFlags::add(CLI::App &app) {
  app.add_option("--device", device,
                 "where to run: hip (an AMD GPU), emulator, or auto (the GPU if it can, else the emulator)")
      ->check(CLI::IsMember({"auto", "hip", "emulator"}))
      ->capture_default_str();
  app.add_option("--target", target, "the chip to emulate, one the file has code for (default: its first)")
      ->type_name("CHIP");
  app.add_flag("--stats", stats, "afterwards print times and, on the emulator, instructions and bytes by kernel");
  app.add_flag("--no-graph", noGraph, "launch each kernel by itself instead of replaying a recorded step");
}

void DeviceFlags::check() const {
  if (device == "hip" && !target.empty())
    throw CLI::ValidationError("--target", "chooses the emulated chip; it does not go with --device hip");
}

absl::StatusOr<SelectedDevice> chooseDevice(const Artifact &artifact, const DeviceFlags &flags) {
  DeviceRequest request;
  request.choice = flags.device == "hip"        ? DeviceChoice::kHip
                   : flags.device == "emulator" ? DeviceChoice::kEmulator
                                                : DeviceChoice::kAuto;
  request.target = flags.target;
  for (const TargetCode &code : artifact.manifest().targets())
    request.available.push_back(code.target());
  request.codeObject = [&artifact](const std::string &target) {
    auto code = artifact.codeObject(target);
    return code.ok() ? *code : std::span<const std::byte>();
  };
  auto selected = selectDevice(request);
  if (!selected.ok())
    return absl::Status(selected.status().code(),
                        absl::StrCat(artifact.path(), ": ", std::string(selected.status().message())));
  if (!selected->note.empty())
    absl::FPrintF(stderr, "ingot: note: %s\n", selected->note);
  return selected;
}

void addSampling(CLI::App &app, Sampling &sampling) {
  app.add_option("--temperature", sampling.temperature, "0 always takes the likeliest token; higher is more varied")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  app.add_option("--top-k", sampling.topK, "sample among the K likeliest tokens; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  app.add_option("--top-p", sampling.topP, "sample among the likeliest tokens of total probability P")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
}

void addDrafting(CLI::App &app, Drafting &drafting) {
  const std::map<std::string, Drafting> modes{
      {"auto", Drafting::Auto}, {"always", Drafting::Always}, {"never", Drafting::Never}};
  auto *draft =
      app.add_option("--draft", drafting,
                     "check several drafted tokens a step where the model has a head for it: auto (while it pays), "
                     "always or never; the text is the same, also of samples with one seed")
          ->transform(CLI::CheckedTransformer(modes))
          ->option_text(absl::StrCat("auto|always|never [", drafting == Drafting::Auto ? "auto" : "never", "]"));
  app.add_flag_callback(
         "--no-draft", [&drafting] { drafting = Drafting::Never; }, "the same as --draft never")
      ->excludes(draft);
}

const std::atomic<bool> *interruptFlag() {
  std::signal(SIGINT, onInterrupt);
  std::signal(SIGTERM, onInterrupt);
  return &interrupted;
}

const std::atomic<bool> *rearmInterrupt() {
  interrupted.store(false);
  return interruptFlag();
}

absl::StatusOr<std::string> readFile(const std::string &path) {
  std::error_code error;
  // Reading a directory as a stream throws.
  if (std::filesystem::is_directory(path, error))
    return absl::InvalidArgumentError(absl::StrCat(path, ": is a directory; give the name of a file"));
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in)
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read; give the name of an existing file"));
  return text;
}

std::string bytesText(double bytes) {
  constexpr std::array<const char *, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit)
    bytes /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, bytes, kUnits[unit]);
}

nlohmann::json counters(const Device &device) {
  auto parsed = nlohmann::json::parse(device.hip().countersJson(), nullptr, false);
  return parsed.is_object() ? parsed : nlohmann::json();
}

Summary summarize(std::vector<double> values) {
  if (values.empty())
    return {0, 0, 0};
  std::ranges::sort(values);
  size_t middle = values.size() / 2;
  double median = values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

} // namespace ingot::cli
