// What `--stats` prints after a run, and the emulator's counters made readable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "runtime/executor/session.h"

namespace ingot::cli {

struct RunStats {
  size_t promptTokens = 0, replyTokens = 0, decodeSteps = 0;
  double loadSeconds = 0;       // open, check and load the weights
  double firstTokenSeconds = 0; // from the first launch of prefill to the first token chosen
  double prefillSeconds = 0, decodeSeconds = 0;
  nlohmann::json prefillCounters, decodeCounters; // null on a real device
};

// Bytes that an emulated phase moved, by what they are.
struct Traffic {
  double weightsRead = 0;
  // What lives from token to token: keys and values, of all positions or of a window; and recurrent states.
  double cacheRead = 0, cacheWritten = 0;
  double recurrentRead = 0, recurrentWritten = 0;
  double activationRead = 0, activationWritten = 0; // everything else, kernel arguments and logits included
};
// Nothing for null counters.
std::optional<Traffic> trafficOf(const Session &session, const nlohmann::json &counters);
// "weights 132.4 MiB read, ..." of one token; with `planned` bytes also the ratio of the weights to them.
std::string trafficText(const Traffic &traffic, double tokens, double planned = 0);

// To stderr.
void printStats(const Session &session, const RunStats &stats);

// One phase, to stderr: instructions by class, then each kernel, the one that reads the most first. All figures are
// divided by `tokens`; nothing is printed for null counters.
void printCounters(const char *phase, const nlohmann::json &counters, size_t tokens, double seconds);

// The weight bytes that one decode step reads, as the compiler planned them.
uint64_t plannedWeightBytes(const Session &session);

} // namespace ingot::cli
