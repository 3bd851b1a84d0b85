// What the subcommands of `ingot` share: the model file, the choice of device, Ctrl-C, and how results and errors are
// printed. Results go to stdout; everything else goes to stderr.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/device/select.h"
#include "runtime/executor/session.h"

namespace ingot::cli {

// A subcommand registers itself and stores here what to do once the command line is understood.
struct Command {
  std::function<absl::Status()> action;
};

void addRun(CLI::App &app, Command &command);
void addLogits(CLI::App &app, Command &command);
void addInspect(CLI::App &app, Command &command);
void addDoctor(CLI::App &app, Command &command);
void addBench(CLI::App &app, Command &command);
void addEval(CLI::App &app, Command &command);
void addServe(CLI::App &app, Command &command);
void addChat(CLI::App &app, Command &command);

// --device, --target, --stats, --no-graph: the flags of every command that uses a device.
struct DeviceFlags {
  std::string device = "auto", target;
  bool noGraph = false, stats = false;
  void add(CLI::App &app);
  // Throws CLI::ValidationError for flags that contradict each other, as CLI11 expects while it parses.
  void check() const;
};

// --temperature, --top-k and --top-p, with what `sampling` holds as defaults.
void addSampling(CLI::App &app, Sampling &sampling);
// --draft and --no-draft.
void addDrafting(CLI::App &app, Drafting &drafting);

absl::StatusOr<SelectedDevice> chooseDevice(const Artifact &artifact, const DeviceFlags &flags);

// Turns true with the first Ctrl-C; a second one ends the process at once.
const std::atomic<bool> *interruptFlag();
// The same for one piece of work after another: an earlier Ctrl-C is forgotten.
const std::atomic<bool> *rearmInterrupt();

absl::StatusOr<std::string> readFile(const std::string &path);
// "1.5 MiB", "420 B"
std::string bytesText(double bytes);
// The emulator's counters; null on a real device.
nlohmann::json counters(const Device &device);

struct Summary {
  double median, least, most;
};
Summary summarize(std::vector<double> values);

} // namespace ingot::cli
