// A module with a layer of every kind, for tests that hold steps of several rows to steps of one.
#pragma once

#include <string>
#include <vector>

namespace ingot::numerics {

// A function of so many tokens. In its texts `?` is their number; `%tokens` and `%logits` (f32 [?][101]) are known at
// the end.
struct LayersFunction {
  std::string name;
  unsigned rows;
  std::string signature; // results and attributes
  std::string end;
};

struct LayersFacts {
  unsigned chunk, context;
};

// Weights that are multiplied have `scheme`, and KV caches elements of type `cache`.
std::string layersOf(const std::string &scheme, const std::string &cache, LayersFacts facts,
                     const std::vector<LayersFunction> &functions);

} // namespace ingot::numerics
