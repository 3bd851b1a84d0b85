// Turns a checkpoint's configuration into an `llm` module. A family is one file that emits ops; declareModel finds the
// family by the configuration's `model_type`.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"
#include "dialects/Llm.h"

namespace ingot {

struct DeclareOptions {
  std::string name;           // what the model is called; empty takes the checkpoint's own name
  int64_t contextLength = 0;  // 0 takes the configuration's
  int64_t prefillChunk = 256; // the most tokens of one run of `prefill` or `logits`
};

/// The model as an `llm` module: weights, states, facts, and the functions that dialects/Llm.td lists. It reads no
/// weights. Loads the dialects it needs into `context`. Errors: an unknown family, a configuration that the family
/// cannot express (names the key), a tensor that is missing, has another shape, or that nothing reads (names the
/// tensor).
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> declareModel(mlir::MLIRContext &context, const Checkpoint &checkpoint,
                                                               const DeclareOptions &options = {});

} // namespace ingot
