// A recipe's text.
#include "models/builtin_recipes.h"
#include "models/recipe.h"
#include "tests/fuzz/fuzz.h"

// The built-in recipes are no input.
const std::vector<ingot::BuiltinRecipe> &ingot::builtinRecipes() {
  static const std::vector<BuiltinRecipe> none;
  return none;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (const auto recipe = ingot::parseRecipe(ingot::fuzz::textOf({data, size}), "recipe"); recipe.ok())
    for (const char *name : {"", "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"})
      if (recipe->ruleFor(name, 64) >= static_cast<int>(recipe->rules.size()))
        std::abort();
  return 0;
}
