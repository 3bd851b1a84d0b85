// A checkpoint whose weights are made up, for models that nobody wants to fetch: shapes, bytes and launches of a
// compile are those of the real one, and so is the work, but not what it says.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"

namespace ingot {

// The configuration of a model: `path` is a config.json, or a folder that has one.
absl::StatusOr<nlohmann::json> readConfiguration(const std::string &path);

// A model of that configuration, called `name`. A tensor comes into being when a declaration demands it. Its values
// depend on `seed`, its name and the place alone: evenly distributed, matrices with a variance of 1 / columns, vectors
// around 1, decays (`.decay`) from -8 to 0, biases (`bias`) around 0.
std::unique_ptr<Checkpoint> makeUp(nlohmann::json configuration, std::string name, uint64_t seed);

} // namespace ingot
