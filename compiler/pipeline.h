// From a checkpoint to an artifact: the one place that orders passes.
//
//   declare   config -> llm
//   annotate  each weight its scheme, quantised activations made explicit
//   fuse      fewer, larger llm ops
//   select    llm -> exec: kernels, launches, a buffer a tensor
//   plan      one arena for all scratch buffers
//   codegen   kernels -> code objects -> bundle
//   pack      weights -> the artifact
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "compiler/activation_aware.h"
#include "compiler/checkpoint/checkpoint.h"
#include "compiler/kernel_report.h"
#include "compiler/pass_report.h"
#include "compiler/quantization_report.h"
#include "mlir/IR/BuiltinOps.h"

namespace ingot {

struct CompileRequest {
  std::string model; // a GGUF file or a Hugging Face folder
  std::optional<uint64_t>
      syntheticWeights; // a seed: of `model` only the configuration is read, and weights are made up
  std::string output;   // the artifact; with stopAfter the IR ("-": standard output)
  std::vector<std::string> targets;
  std::string recipe = "bf16";
  std::string kvCache;              // of kvCacheNames(); empty: what the recipe says
  std::string calibration;          // a text file to choose scales of int4 by; empty: none
  uint64_t calibrationTokens = 512; // of it
  std::string chatTemplate;         // a Jinja file in the place of the checkpoint's template; empty: the checkpoint's
  std::vector<std::string> disabledPasses; // of `fusionNames`
  bool explainQuantization = false;        // fill CompileReport::weights, which reads the checkpoint once more
  int64_t contextLength = 0;               // 0: the model's own
  int64_t prefillChunk = 256;
  int64_t draftLength = 3;   // of a model with a head that drafts; 0: without it
  int64_t streams = 4;       // the most sequences that one step takes: 1, 2, 4 or 8
  std::string report;        // an HTML page of one layer, pass by pass (compiler/layer_report.h); empty: none
  int64_t reportLayer = -1;  // which; negative: the middle one
  std::string stopAfter;     // a phase before codegen; empty: go to the end
  std::string dumpDirectory; // IR after each phase and each target's LLVM IR, assembly and code object; empty: none
  // Called as work proceeds. `done` and `total` count bytes while packing, else both are 0.
  std::function<void(const std::string &phase, uint64_t done, uint64_t total)> progress;
  // Called after the declaration ("declare") and each pass, which says of itself what it does.
  std::function<void(mlir::ModuleOp module, const std::string &pass, const std::string &summary)> afterPass;
};

// What a finished compile can tell.
struct CompileReport {
  double codegenSeconds = 0, packSeconds = 0;
  uint64_t weightBytes = 0, codeBytes = 0, kernels = 0;
  std::vector<std::string> skippedTensors;
  PassReport passes;
  std::string calibration;         // what was calibrated with, for provenance
  std::vector<ScaleChoice> scales; // what came of it
  std::vector<std::string> unscaled;
  std::vector<WeightReport> weights;
  std::vector<KernelReport> kernelShapes;
  uint64_t requantized = 0; // weights that the checkpoint stores quantised and the recipe quantises again
};

// Opens request.model. With calibration text, a checkpoint of the same model with rescaled weights (AWQ).
absl::StatusOr<std::unique_ptr<Checkpoint>> openCheckpoint(const CompileRequest &request, CompileReport &report);

// Runs the phases up to and with `last` on a checkpoint: an `llm` or `exec` module. Also writes request.dumpDirectory.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> runPhases(mlir::MLIRContext &context, const Checkpoint &checkpoint,
                                                            const CompileRequest &request, const std::string &last);

// Passes that may be left out: the model computes the same without them, in more launches.
const std::vector<std::string> &fusionNames();

// Phases that `stopAfter` knows, in order.
const std::vector<std::string> &phaseNames();

// Leaves no output behind when it fails. The message is one line.
absl::Status compileModel(const CompileRequest &request, CompileReport &report);

} // namespace ingot
