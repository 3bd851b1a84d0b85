// What a recipe makes of each weight: its scheme and the rule that chose it, bytes, and how far the values that the
// device sees are from the checkpoint's.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"
#include "mlir/IR/BuiltinOps.h"
#include "models/recipe.h"
#include "nlohmann/json.hpp"

namespace ingot {

struct WeightReport {
  std::string name, stored, scheme, rule;
  uint64_t bytes = 0;
  double relativeError = 0; // |w - w'| / |w|, Frobenius
  double cosine = 1;        // of the angle between w and w', both as one long vector
};

// One entry for each `exec.weight` of the module that comes from the checkpoint, in program order. Reads all of them
// once.
absl::StatusOr<std::vector<WeightReport>> explainQuantization(mlir::ModuleOp module, const Checkpoint &checkpoint,
                                                              const Recipe &recipe);

// As a table.
std::string quantizationTable(const std::vector<WeightReport> &weights);
// As a list.
nlohmann::ordered_json quantizationJson(const std::vector<WeightReport> &weights);

} // namespace ingot
