// A recipe says how each matrix of a model is stored: rules of name pattern and scheme, first match wins. Recipes are
// text (models/recipe.proto); those of models/recipes/ are compiled in and known by name. No MLIR here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ingot {

struct Recipe {
  struct Rule {
    std::string pattern;
    std::string scheme;
    bool mayMatchNothing = false;
    int line = 0; // of the rule in the recipe's text, from 1
    int64_t columnsMultipleOf = 1;
  };
  std::string name;
  std::string text;   // as written, for provenance
  std::string origin; // what errors call it: a path, or "recipe w8a8"
  std::vector<Rule> rules;
  std::string kvCache = "bf16"; // of kvCacheNames()

  /// The first rule that is for `weight`, a matrix of so many columns; -1 if none is.
  int ruleFor(std::string_view weight, int64_t columns) const;
};

/// Reads the recipe that `nameOrPath` means: one that is compiled in, by name, or else a file. Errors name the file and
/// line, and for an unknown name list those that exist.
absl::StatusOr<Recipe> loadRecipe(const std::string &nameOrPath);

/// Parses a recipe's text. `origin` is what errors call it.
absl::StatusOr<Recipe> parseRecipe(std::string_view text, const std::string &origin);

/// What a KV cache may hold, as recipes and `--kv-cache` spell it: bf16, int8, fp8.
const std::vector<std::string> &kvCacheNames();

/// Whether `name` matches `pattern`, where each `*` stands for any run of characters.
bool matchesPattern(std::string_view pattern, std::string_view name);

} // namespace ingot
