// How each kernel is laid over its chip, and why: the grid and the cost function's choice from the `exec` module,
// registers and occupancy from the built code object.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "mlir/IR/BuiltinOps.h"
#include "nlohmann/json.hpp"

namespace ingot {

struct KernelReport {
  // One candidate of the cost function (codegen/launch_shape.h).
  struct Choice {
    int64_t tiles = 0, tokenTiles = 0; // of 16 rows and of 16 tokens, a wave; no tiles of tokens where they are few
    int64_t waves = 0, unroll = 0;     // along K, or side by side where there are tiles of tokens; steps of K in flight
    int64_t bytesInFlight = 0;         // whole chip
    double seconds = 0;                // modelled
  };
  std::string target, program, kernel; // the program that launches it first
  unsigned launches = 0;               // in that program
  std::array<uint64_t, 3> grid{};      // for a whole chunk, where it depends on the tokens
  bool wholeChunk = false;
  unsigned workgroupSize = 0; // lanes
  unsigned vgprs = 0, ldsBytes = 0, wavesPerSimd = 0;
  double workgroupsPerComputeUnit = 0;
  std::string bound; // what keeps the grid under two workgroups a compute unit; empty where it is not under
  int64_t considered = 0;
  std::optional<Choice> chosen, runnerUp; // where the cost function chose
};

// Every kernel that a program launches, by target and program in the order of their first launch. `code` holds what
// codegen reported of each target.
std::vector<KernelReport> explainKernels(mlir::ModuleOp module, const std::map<std::string, CodeObject> &code);

// For reading.
std::string kernelTable(const std::vector<KernelReport> &kernels);
// For programs: a list.
nlohmann::ordered_json kernelJson(const std::vector<KernelReport> &kernels);

} // namespace ingot
