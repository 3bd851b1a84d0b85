// The weights of a declaration: each is checked against the checkpoint as it is declared, and at the end every tensor
// must have been used. So a checkpoint of another shape, or one with parts that the graph ignores, never compiles
// silently.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "compiler/checkpoint/checkpoint.h"
#include "dialects/Llm.h"

namespace ingot {

class WeightDeclarer {
public:
  /// Declares into the body that `builder` points at. All must outlive this.
  WeightDeclarer(mlir::OpBuilder &builder, const Checkpoint &checkpoint) : builder_(builder), checkpoint_(checkpoint) {}

  /// Declares weight `name` of `shape` from tensor `source`, and gives the reference to it. A missing tensor or another
  /// shape becomes the status; the reference is good all the same, so that a declaration can go on.
  mlir::FlatSymbolRefAttr declare(const std::string &name, const std::vector<int64_t> &shape,
                                  const std::string &source);
  mlir::FlatSymbolRefAttr declare(const std::string &name, const std::vector<int64_t> &shape) {
    return declare(name, shape, name);
  }

  /// Declares a vector whose values the configuration determines.
  mlir::FlatSymbolRefAttr constant(const std::string &name, const std::vector<float> &values);

  /// Marks a tensor as left out on purpose; it is listed in the artifact's provenance. Nothing happens if it is not
  /// there.
  void skip(const std::string &name);

  /// The same for every tensor whose name starts with `prefix`.
  void skipAll(const std::string &prefix);

  /// Marks a tensor as used by the declaration itself.
  void use(const std::string &name) { used_.insert(name); }

  /// The first error, or one that names every tensor which nothing used.
  absl::Status finish() const;
  const std::vector<std::string> &skipped() const { return skipped_; }

private:
  mlir::OpBuilder &builder_;
  const Checkpoint &checkpoint_;
  std::set<std::string> used_;
  std::vector<std::string> skipped_;
  absl::Status status_;
};

} // namespace ingot
