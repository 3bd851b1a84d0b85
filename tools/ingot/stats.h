// What `--stats` prints after a run, and the emulator's counters made readable.
#pragma once

#include <cstdint>

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

// To stderr.
void printStats(const Session &session, const RunStats &stats);

// One phase, to stderr: instructions by class, then each kernel, the one that reads the most first. All figures are
// divided by `tokens`; nothing is printed for null counters.
void printCounters(const char *phase, const nlohmann::json &counters, size_t tokens, double seconds);

// The weight bytes that one decode step reads, as the compiler planned them.
uint64_t plannedWeightBytes(const Session &session);

} // namespace ingot::cli
