// Turns a checkpoint's configuration into an `llm` module. A family is a declaration that emits ops and, where
// publishers store tensors in other ways than it names them, a view of them; both are found by the configuration's
// `model_type`.
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
  int64_t draftLength = 3;    // tokens that a step drafts where the model has a head for it, at most 7; 0: none
  int64_t streams = 1;        // the most sequences that one step takes: 1, 2, 4 or 8
};

/// Opens the checkpoint at `path` as its family's declaration wants to see it: the text model's configuration, and
/// tensors under the names that the declaration uses. Errors: as Checkpoint::open and presented.
absl::StatusOr<std::unique_ptr<Checkpoint>> openModel(const std::string &path);

/// The same with weights that are made up from `seed`: of `path` only the configuration is read.
absl::StatusOr<std::unique_ptr<Checkpoint>> openModelShape(const std::string &path, uint64_t seed);

/// As openModel, of a checkpoint that is open. One of an unknown family stays as it is: declareModel refuses it.
absl::StatusOr<std::unique_ptr<Checkpoint>> presented(std::unique_ptr<Checkpoint> checkpoint);

/// The model as an `llm` module: weights, states, facts, and the functions that dialects/Llm.td lists. It reads no
/// weights. Loads the dialects it needs into `context`. Errors: an unknown family, a configuration that the family
/// cannot express (names the key), a tensor that is missing, has another shape, or that nothing reads (names the
/// tensor).
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> declareModel(mlir::MLIRContext &context, const Checkpoint &checkpoint,
                                                               const DeclareOptions &options = {});

} // namespace ingot
