// Scales of columns that make a model easier to quantise, chosen by what its activations are (AWQ: Lin et al. 2023,
// arXiv:2306.00978). A column k of a weight that meets large activations is multiplied by s[k] before it is quantised,
// so that it is rounded more finely, and what makes column k of the activations is divided by s[k]: the model is the
// same.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"
#include "dialects/Llm.h"

namespace ingot {

// What the rows and columns of a tensor are multiplied by; empty: 1.
struct Rescaling {
  std::vector<float> rows, columns;
};
using Rescalings = std::map<std::string, Rescaling, std::less<>>; // by tensor

// What was found for the weights that read one value.
struct ScaleChoice {
  std::vector<std::string> weights;
  std::string folded;           // the weight that divides
  double exponent = 0;          // s = mean(|x|) ^ exponent, normalised; 0: all 1
  double before = 0, after = 0; // error of the products over their size, relative L2, with exponent 0 and this one
};

struct ScaleSearch {
  Rescalings rescalings;
  std::vector<ScaleChoice> choices;
  std::vector<std::string> declined; // int4 weights that keep their scales, and why
};

// `module` is annotated. Runs it in fp32 on `tokens` and searches 20 exponents for each set of weights that read one
// value, among them int4 ones that are rounded from numbers. The scales are folded into the norm that makes the value,
// or into the weight whose product is its linear factor; where neither is, the weights keep their scales. All weights
// are in memory as fp32 meanwhile. InvalidArgument: no weight is int4.
absl::StatusOr<ScaleSearch> searchScales(mlir::ModuleOp module, const Checkpoint &checkpoint,
                                         std::span<const int32_t> tokens,
                                         const std::function<void(uint64_t done, uint64_t total)> &progress);

// What was found, in a few lines for a person.
std::string scaleSearchSummary(const std::vector<ScaleChoice> &choices, const std::vector<std::string> &declined);

// The checkpoint with these tensors multiplied.
std::unique_ptr<Checkpoint> rescaled(std::unique_ptr<Checkpoint> checkpoint, Rescalings rescalings);

} // namespace ingot
