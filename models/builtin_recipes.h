// The recipes of models/recipes/, compiled in so that `--recipe=w8a8` needs no file beside the program.
#pragma once

#include <string_view>
#include <vector>

namespace ingot {

struct BuiltinRecipe {
  std::string_view name;
  std::string_view text;
};

/// In alphabetical order.
const std::vector<BuiltinRecipe> &builtinRecipes();

} // namespace ingot
