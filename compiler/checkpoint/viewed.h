// A checkpoint whose tensors are seen under other names and in other pieces: what a family's graph names, made of what
// publishers happen to store (experts in one tensor or apart, projections packed into one another, norms without their
// 1). Nothing is copied; rows are found where they lie.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"

namespace ingot {

// A tensor made of rows of others, in fp32 element by element through a function.
struct TensorView {
  enum class Function : uint8_t {
    Same,
    OnePlus,     // 1 + x
    NegativeExp, // -exp(x)
  };
  // Rows [firstRow, firstRow + rows) of tensor `source`, as TensorInfo::rows counts them.
  struct Piece {
    std::string source;
    uint64_t firstRow = 0, rows = 0;
  };

  std::string name;
  std::vector<uint64_t> shape;
  std::vector<Piece> pieces;
  Function function = Function::Same;
  float factor = 1; // of what the function gives
};

// `base` with `views` in the place of the tensors they read, before its other tensors, and with `config`. A view may
// have the name of a tensor that views read. Codes, scales and bf16 rows pass through where the pieces allow. Errors: a
// piece that is not in its source, a source that is missing or of another width (names tensor and view), two tensors of
// one name.
absl::StatusOr<std::unique_ptr<Checkpoint>> viewed(std::unique_ptr<Checkpoint> base, std::vector<TensorView> views,
                                                   nlohmann::json config);

} // namespace ingot
