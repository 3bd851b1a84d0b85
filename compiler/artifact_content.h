// The content of an artifact, read off an `exec` module.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "codegen/compile.h"
#include "compiler/checkpoint/checkpoint.h"
#include "compiler/pack/pack.h"
#include "dialects/Exec.h"
#include "dialects/Llm.h"
#include "runtime/artifact/artifact.h"

namespace ingot {

// Everything of the manifest but the provenance. `code` holds what codegen reported of each target.
absl::StatusOr<Manifest> makeManifest(mlir::ModuleOp module, const std::map<std::string, CodeObject> &code,
                                      const TokenizerData &tokenizer);

// Streams every `exec.weight` of the module to its place. `progress` gets the bytes written so far.
absl::Status packWeights(mlir::ModuleOp module, const Checkpoint &checkpoint, WeightSink &sink,
                         const std::function<void(uint64_t)> &progress);

// How the packer is told of a weight that comes from the checkpoint.
PackedWeight packedWeight(exec::WeightOp op);

// Bytes that packWeights writes.
uint64_t weightSectionBytes(mlir::ModuleOp module);

} // namespace ingot
