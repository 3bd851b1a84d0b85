// One layer of a model as boxes and arrows, at any point of the pipeline: the ops of a function while the module is
// `llm`, the launches of a program once it is `exec`. For reports; nothing is compiled from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlir/IR/BuiltinOps.h"

namespace ingot {

struct LayerBox;

// Boxes are in the order of the program, so every arrow goes from a lower to a higher index.
struct LayerGraph {
  struct Arrow {
    unsigned from = 0, to = 0;
    bool cache = false; // through the KV cache, not as a value
  };
  std::vector<LayerBox> boxes;
  std::vector<Arrow> arrows;
};

struct LayerBox {
  // What it does, which also gives it its colour: an op's name without dialect, "product" for one weight's share of a
  // linear, "outside" for what the rest of the model gives or takes.
  std::string kind;
  std::string title, name;          // in words; which one ("self_attn.q_proj")
  std::vector<std::string> details; // shapes, schemes, grids
  std::string result = {};          // "4096 bf16"; empty where that is not known
  std::vector<std::string> weights; // symbols it reads
  // As stored, rows padded: of activations by the IR's types, or of the buffers written once there are buffers; of the
  // KV cache.
  uint64_t activationBytes = 0, cacheBytes = 0;
  unsigned launches = 0;
  LayerGraph parts; // what was fused into it

  // The same for boxes that a reader would call the same.
  std::string key() const;
};

// A launch argument that is a scratch buffer, in the order of launches and arguments.
struct ScratchUse {
  unsigned box; // index in the graph
  std::string buffer;
  int64_t offset = 0;
  uint64_t bytes = 0; // of the whole buffer
};

struct LayerState {
  LayerGraph graph;
  bool lowered = false;            // launches, not ops
  unsigned launchesOfProgram = 0;  // the function or program with all its layers
  std::vector<ScratchUse> scratch; // where lowered
};

// Layer `layer` of the function or program `function`; with several targets of the first. No boxes where the module has
// no such function or nothing in it belongs to the layer. What belongs is read from locations ("layers.3.mlp.add"),
// which the declarations give and every pass keeps.
LayerState layerOf(mlir::ModuleOp module, llvm::StringRef function, int64_t layer);

// "512 B", "1.5 KiB", "224.0 MiB".
std::string bytesInWords(uint64_t bytes);

} // namespace ingot
