#include "tools/ingot/stats.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/artifact/manifest_check.h"
#include "runtime/executor/fit.h"
#include "tools/ingot/command.h"

namespace ingot::cli {
namespace {

using Json = nlohmann::json;

double per(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

double number(const Json &object, const char *key) {
  auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

} // namespace

void printCounters(const char *phase, const Json &counters, size_t units, double seconds) {
  if (!counters.is_object() || !counters.contains("totals") || units == 0)
    return;
  const Json &totals = counters["totals"];
  double tokens = static_cast<double>(units);
  double instructions = number(totals, "instructions");
  absl::FPrintF(stderr, "\nemulator, %s: %.0f wave-instructions a token (%.1f M/s), %s read and %s written a token\n",
                phase, instructions / tokens, per(instructions, seconds) / 1e6,
                bytesText(number(totals, "bytes_read") / tokens), bytesText(number(totals, "bytes_written") / tokens));
  std::string classes;
  for (const char *name :
       {"scalar", "vector", "dot", "wmma", "cross_lane", "lds", "global", "scratch", "branch", "wait", "barrier"})
    if (double count = number(totals, name); count > 0)
      absl::StrAppend(&classes, classes.empty() ? "" : ", ", name, " ",
                      absl::StrFormat("%.1f%%", 100 * count / std::max(1.0, instructions)));
  absl::FPrintF(stderr, "  by class: %s; LDS conflict cycles a token: %.0f\n", classes,
                number(totals, "lds_conflict_cycles") / tokens);
  if (!counters.contains("kernels") || !counters["kernels"].is_object())
    return;
  std::vector<std::pair<double, std::string>> order;
  for (const auto &[name, kernel] : counters["kernels"].items())
    order.emplace_back(-number(kernel, "bytes_read"), name);
  std::ranges::sort(order);
  absl::FPrintF(stderr, "  %10s %14s %12s %12s %8s  %s\n", "launches", "instructions", "read", "written", "time",
                "kernel (a token)");
  for (const auto &[bytes, name] : order) {
    const Json &kernel = counters["kernels"][name];
    absl::FPrintF(stderr, "  %10.1f %14.0f %12s %12s %7.1f%%  %s\n", number(kernel, "launches") / tokens,
                  number(kernel, "instructions") / tokens, bytesText(number(kernel, "bytes_read") / tokens),
                  bytesText(number(kernel, "bytes_written") / tokens),
                  100 * per(number(kernel, "seconds"), number(totals, "seconds")), name);
  }
}

uint64_t plannedWeightBytes(const Session &session) {
  for (const Program &program : session.code().programs())
    if (program.name() == "decode")
      return program.weight_bytes();
  return 0;
}

std::optional<Traffic> trafficOf(const Session &session, const Json &counters) {
  if (!counters.is_object() || !counters.contains("totals") || !counters["totals"].contains("buffers"))
    return std::nullopt;
  std::map<std::string, const Buffer *> buffers;
  for (const Buffer &buffer : session.manifest().buffers())
    buffers[buffer.name()] = &buffer;
  Traffic traffic;
  for (const auto &[name, bytes] : counters["totals"]["buffers"].items()) {
    auto found = buffers.find(name);
    double read = number(bytes, "read"), written = number(bytes, "written");
    if (found != buffers.end() && found->second->role() == Buffer::WEIGHTS) {
      traffic.weightsRead += read;
    } else if (found != buffers.end() && found->second->role() == Buffer::STATE) {
      const bool cache = growsWithPosition(*found->second) || isKeyValueCache(*found->second);
      (cache ? traffic.cacheRead : traffic.recurrentRead) += read;
      (cache ? traffic.cacheWritten : traffic.recurrentWritten) += written;
    } else {
      traffic.activationRead += read;
      traffic.activationWritten += written;
    }
  }
  return traffic;
}

std::string trafficText(const Traffic &traffic, double tokens, double planned) {
  auto text = [&](double bytes) { return bytesText(bytes / tokens); };
  std::string ratio;
  if (planned > 0)
    ratio = absl::StrFormat(" (%.4f times the planned %s)", traffic.weightsRead / tokens / planned, bytesText(planned));
  // Models have one kind of state or both.
  std::string states;
  for (auto [name, read, written] : {std::tuple{"KV cache", traffic.cacheRead, traffic.cacheWritten},
                                     {"recurrent states", traffic.recurrentRead, traffic.recurrentWritten}})
    if (read + written > 0)
      absl::StrAppend(&states, name, " ", text(read), " read and ", text(written), " written, ");
  return absl::StrFormat("weights %s read%s, %sactivations %s read and %s written a token", text(traffic.weightsRead),
                         ratio, states, text(traffic.activationRead), text(traffic.activationWritten));
}

void printStats(const Session &session, const RunStats &stats) {
  const DeviceInfo &info = session.device().info();
  auto prompt = static_cast<double>(stats.promptTokens), steps = static_cast<double>(stats.decodeSteps);
  double weightBytes = static_cast<double>(plannedWeightBytes(session));
  absl::FPrintF(stderr, "\ndevice       %s, code for %s, context %d, weights %s\n", info.name, session.code().target(),
                session.context(), session.weightsMapped() ? "mapped" : "copied");
  absl::FPrintF(stderr, "load         %.2f s\n", stats.loadSeconds);
  absl::FPrintF(stderr, "first token  %.2f s\n", stats.firstTokenSeconds);
  absl::FPrintF(stderr, "prefill      %d tokens, %.2f tokens/s\n", stats.promptTokens,
                per(prompt, stats.prefillSeconds));
  absl::FPrintF(stderr, "decode       %d tokens, %.2f tokens/s, %d launches and %s of weights a token (%s/s)\n",
                stats.decodeSteps, per(steps, stats.decodeSeconds), session.launchesPerToken(), bytesText(weightBytes),
                bytesText(per(weightBytes * steps, stats.decodeSeconds)));
  const DraftCounts &drafts = session.drafts().counts();
  if (drafts.steps > 0)
    absl::FPrintF(
        stderr,
        "drafts       %d of %d accepted (%.3f), %.2f tokens a step over %d steps of %d launches; a step costs "
        "%.2f plain ones in weights; %d plain steps, turned off %d times\n",
        drafts.accepted, drafts.drafted, per(static_cast<double>(drafts.accepted), drafts.drafted),
        1 + per(static_cast<double>(drafts.accepted), static_cast<double>(drafts.steps)), drafts.steps,
        session.launchesPerDraft(), session.drafts().costOfStep(), drafts.plainSteps, drafts.pauses);
  if (auto traffic = trafficOf(session, stats.decodeCounters); traffic && stats.decodeSteps > 0)
    absl::FPrintF(stderr, "bytes        decode: %s\n", trafficText(*traffic, steps, weightBytes));
  printCounters("prefill", stats.prefillCounters, stats.promptTokens, stats.prefillSeconds);
  printCounters("decode", stats.decodeCounters, stats.decodeSteps, stats.decodeSeconds);
}

} // namespace ingot::cli
