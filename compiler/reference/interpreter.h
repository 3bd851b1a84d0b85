// Executes an `llm` module on the host, one op at a time, in loops that are easy to check against dialects/Llm.td. It
// is the oracle that device runs are compared with, op by op.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"
#include "dialects/Llm.h"
#include "runtime/artifact/step.h"

namespace ingot {

/// A tensor on the host. Exactly one of the vectors is filled, row-major `rows * columns`; a 1-D tensor has one column,
/// and a 3-D one, which has a row for each expert of a token, the rows of all tokens one after another.
struct HostTensor {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<float> floats; // bf16 and f32; in fp32 numerics also what would be int8
  std::vector<int8_t> int8s; // i8 in device numerics
  std::vector<int32_t> ids;  // i32

  std::span<const float> row(int64_t index) const { return std::span(floats).subspan(index * columns, columns); }
};

class Interpreter {
public:
  enum class Numerics {
    Fp32,   // no rounding anywhere and exact weights: comparable with another framework in fp32
    Device, // bf16 results, int8 activations, weights as their scheme stores them: comparable with a device
  };
  struct Options {
    Numerics numerics = Numerics::Device;
    int threads = 2;
  };
  /// Called after each op, also one that only writes state (with no results). Later ops read what it leaves in
  /// `results`.
  using Observer = std::function<void(mlir::Operation *op, std::span<HostTensor> results)>;

  /// `module` is verified; it and `checkpoint` must outlive the interpreter. Weights are read when first used and kept
  /// as fp32 (four bytes a parameter; one more for int8).
  Interpreter(mlir::ModuleOp module, const Checkpoint &checkpoint, Options options);
  ~Interpreter();

  /// What a device holds as `Step`: ops read it, and `llm.advance` writes it. Starts with position 0, temperature 1, no
  /// top-k and no top-p.
  Step &step();
  /// TOKENS as the last step left it: the token that `llm.advance` chose, then those of `llm.draft`.
  const std::vector<int32_t> &next() const;
  /// Every token that `llm.advance` and `llm.accept` recorded, in order.
  const std::vector<int32_t> &output() const;
  /// Position 0, no tokens generated, empty caches; sampling settings stay.
  void reset();
  void observe(Observer observer);

  /// Runs function `name` on one tensor (token ids, or logits) and gives its result (an empty tensor if it has none).
  /// Step.tokens becomes the number of rows where a function takes any number, and 1 where it takes so many ids.
  /// Step.position stays, as on a device, unless the function advances. Errors: no such function, an op outside `llm`,
  /// a token outside the vocabulary, a weight that cannot be read.
  absl::StatusOr<HostTensor> run(const std::string &name, const HostTensor &argument);

  /// Logits [1, V] of the last of `tokens`, by `prefill`; then moves on by their number.
  absl::StatusOr<HostTensor> prefill(std::span<const int32_t> tokens);
  /// Logits [n, V] of all `tokens`, by `logits`; then moves on by their number.
  absl::StatusOr<HostTensor> logits(std::span<const int32_t> tokens);
  /// Logits [1, V] of one token, by `decode`; then moves on by one.
  absl::StatusOr<HostTensor> decode(int32_t token);

private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

} // namespace ingot
