// Recipes: what matches, what the built-in ones say, and that errors name the line.
#include "models/recipe.h"

#include <fstream>

#include "models/builtin_recipes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ingot {
namespace {

using testing::HasSubstr;

TEST(Pattern, StarsStandForAnyRun) {
  EXPECT_TRUE(matchesPattern("*", ""));
  EXPECT_TRUE(matchesPattern("*", "lm_head.weight"));
  EXPECT_TRUE(matchesPattern("model.layers.*.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"));
  EXPECT_TRUE(matchesPattern("a*b*c", "aXbbXcXc"));
  EXPECT_FALSE(matchesPattern("a*b*c", "aXbbXcX"));
  EXPECT_FALSE(matchesPattern("lm_head", "lm_head.weight"));
  EXPECT_FALSE(matchesPattern("", "x"));
  EXPECT_TRUE(matchesPattern("", ""));
}

TEST(Recipe, BuiltinOnesParse) {
  ASSERT_GE(builtinRecipes().size(), 2U);
  for (const BuiltinRecipe &builtin : builtinRecipes()) {
    auto recipe = loadRecipe(std::string(builtin.name));
    ASSERT_TRUE(recipe.ok()) << recipe.status();
    EXPECT_EQ(recipe->name, builtin.name);
    EXPECT_EQ(recipe->text, builtin.text);
  }
}

TEST(Recipe, FirstMatchWins) {
  auto recipe = loadRecipe("w8a8");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  auto scheme = [&](std::string_view name) { return recipe->rules.at(recipe->ruleFor(name, 64)).scheme; };
  EXPECT_EQ(scheme("model.embed_tokens.weight"), "bf16");
  EXPECT_EQ(scheme("lm_head.weight"), "int8_g32");
  EXPECT_EQ(scheme("model.layers.11.mlp.down_proj.weight"), "int8_g32");
  EXPECT_EQ(scheme("model.layers.11.mlp.up_proj.weight"), "w8a8");
  EXPECT_EQ(recipe->ruleFor("vision.weight", 64), -1);
}

TEST(Recipe, RulesForMultiplesOfColumnsLeaveOthersToTheNext) {
  auto recipe = parseRecipe(R"(name: "t"
      rules { pattern: "*" scheme: "int4_g128_zp" columns_multiple_of: 128 }
      rules { pattern: "*" scheme: "int4_g32_zp" })",
                            "t");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->ruleFor("down", 2816), 0);
  EXPECT_EQ(recipe->ruleFor("down", 704), 1);
  EXPECT_EQ(recipe->ruleFor("down", 64), 1);
}

TEST(Recipe, SaysWhatTheCacheHolds) {
  const std::string rules = "\nrules { pattern: \"*\" scheme: \"bf16\" }";
  EXPECT_EQ(parseRecipe("name: \"t\"" + rules, "t")->kvCache, "bf16");
  EXPECT_EQ(parseRecipe("name: \"t\" kv_cache: \"int8\"" + rules, "t")->kvCache, "int8");
  auto unknown = parseRecipe("name: \"t\"\nkv_cache: \"int4\"" + rules, "t");
  EXPECT_THAT(std::string(unknown.status().message()),
              HasSubstr("t:2: expected kv_cache to be one of bf16, int8, fp8, got \"int4\""));
}

TEST(Recipe, RulesKnowTheirLine) {
  auto recipe = parseRecipe("name: \"x\"\n\nrules { pattern: \"a\" scheme: \"bf16\" }\nrules {\n  pattern: \"b\"\n"
                            "  scheme: \"f32\" may_match_nothing: true }\n",
                            "x.textproto");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  ASSERT_EQ(recipe->rules.size(), 2U);
  EXPECT_EQ(recipe->rules[0].line, 3);
  EXPECT_EQ(recipe->rules[1].line, 4);
  EXPECT_TRUE(recipe->rules[1].mayMatchNothing);
}

TEST(Recipe, ErrorsNameFileAndLine) {
  EXPECT_THAT(parseRecipe("name: \"x\"\nrules { patern: \"a\" }", "x.textproto").status().message(),
              HasSubstr("x.textproto:2:"));
  EXPECT_THAT(parseRecipe("name: \"x\"\nrules { pattern: \"a\" }", "x.textproto").status().message(),
              HasSubstr("x.textproto:2: a rule needs both"));
  EXPECT_THAT(parseRecipe("name: \"x\"", "x.textproto").status().message(), HasSubstr("at least one rule"));
  EXPECT_THAT(parseRecipe("rules { pattern: \"*\" scheme: \"bf16\" }", "x.textproto").status().message(),
              HasSubstr("expected a `name`"));
  EXPECT_THAT(parseRecipe(std::string(2 << 20, ' '), "x").status().message(), HasSubstr("right file"));
}

TEST(Recipe, UnknownNamesListTheKnownOnes) {
  EXPECT_THAT(loadRecipe("w4a4").status().message(),
              HasSubstr("bf16, gemma-int4, int4, mistral-fp8, mistral-int4, qwen3.6-int4, qwen3.6-w8a8, w8a8"));
  EXPECT_THAT(loadRecipe(INGOT_SOURCE_DIR).status().message(), HasSubstr("nor a file"));
}

TEST(Recipe, FilesAreRead) {
  auto recipe = loadRecipe(INGOT_SOURCE_DIR "/models/recipes/bf16.textproto");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->name, "bf16");
}

} // namespace
} // namespace ingot
