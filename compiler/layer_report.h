// `ingotc --report`: one page that shows a layer before and after each pass that changed it, with launches and bytes.
// The page needs no script and nothing but itself.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compiler/layer_graph.h"

namespace ingot {

// Watches a compile, pass by pass; then writes the page.
class LayerReport {
public:
  // Layer `layer` of the function that decodes one token greedily; of the model's layers the middle one where `layer`
  // is negative.
  explicit LayerReport(int64_t layer) : layer(layer) {}

  // After `pass`, of which `summary` says in a sentence what it does; "declare" is the first. Fails where the model has
  // no such layer: `error`.
  void record(mlir::ModuleOp module, const std::string &pass, const std::string &summary);
  // Why there is nothing to show; empty if there is.
  const std::string &error() const { return problem; }

  // `module` is what the last pass left: it knows the weights' packed bytes, and one target's plan of scratch memory.
  std::string page(mlir::ModuleOp module, const std::string &recipe) const;

private:
  struct Stage {
    std::string pass, summary;
    LayerState state;
    bool hasSchemes = false;
    bool elsewhere = false; // the pass left the layer as it was, and changed the launches of the whole step
  };
  // Where a scratch buffer lies in the arena, and from which box to which it lives.
  struct Life {
    unsigned first, last;
    int64_t offset;
    uint64_t bytes;
  };

  void recordPlan(mlir::ModuleOp module);
  uint64_t weightBytes(const Stage &stage, const std::map<std::string, uint64_t> &packed) const;
  std::string table(const std::map<std::string, uint64_t> &packed) const;
  std::string arena() const;

  int64_t layer, layers = 0;
  std::string model, target, problem;
  std::vector<Stage> stages;
  std::vector<std::string> idle; // passes that changed nothing here
  std::vector<Life> lives;
};

} // namespace ingot
