// Recipes are protobuf text: the parser gives line numbers for its own errors, and a tree of locations for ours.
#include "models/recipe.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/text_format.h"
#include "models/builtin_recipes.h"
#include "models/recipe.pb.h"

namespace ingot {

namespace {

// A recipe is a page of rules; a larger file is something else that was named by mistake.
constexpr size_t largestRecipe = 1 << 20;

/// Keeps the first error of the text parser.
class FirstError : public google::protobuf::io::ErrorCollector {
public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string &message) override {
    if (!text_)
      text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  const std::optional<std::string> &text() const { return text_; }

private:
  std::optional<std::string> text_;
};

} // namespace

bool matchesPattern(std::string_view pattern, std::string_view name) {
  // On a mismatch, the last star takes one character more: linear in practice, and never exponential.
  size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

const std::vector<std::string> &kvCacheNames() {
  static const std::vector<std::string> names{"bf16", "int8", "fp8"};
  return names;
}

int Recipe::ruleFor(std::string_view weight, int64_t columns) const {
  for (size_t i = 0; i < rules.size(); ++i)
    if (columns % rules[i].columnsMultipleOf == 0 && matchesPattern(rules[i].pattern, weight))
      return static_cast<int>(i);
  return -1;
}

absl::StatusOr<Recipe> parseRecipe(std::string_view text, const std::string &origin) {
  if (text.size() > largestRecipe)
    return absl::InvalidArgumentError(absl::StrCat(origin, ": expected a recipe of at most ", largestRecipe,
                                                   " bytes, got ", text.size(), "; is this the right file?"));
  google::protobuf::TextFormat::Parser parser;
  google::protobuf::TextFormat::ParseInfoTree locations;
  FirstError error;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&locations);
  RecipeFile file;
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  if (!parser.Parse(&stream, &file))
    return absl::InvalidArgumentError(absl::StrCat(origin, ":", error.text().value_or("1:1: not a recipe"),
                                                   "; models/recipe.proto says what a recipe may hold"));

  Recipe recipe;
  recipe.name = file.name();
  recipe.text = std::string(text);
  recipe.origin = origin;
  const auto *field = RecipeFile::descriptor()->FindFieldByName("rules");
  for (int i = 0; i < file.rules_size(); ++i) {
    const RecipeRule &rule = file.rules(i);
    int line = locations.GetLocation(field, i).line + 1;
    if (rule.pattern().empty() || rule.scheme().empty())
      return absl::InvalidArgumentError(absl::StrCat(origin, ":", line,
                                                     ": a rule needs both a pattern and a scheme, got pattern \"",
                                                     rule.pattern(), "\" and scheme \"", rule.scheme(), "\""));
    recipe.rules.push_back({rule.pattern(), rule.scheme(), rule.may_match_nothing(), line,
                            std::max<int64_t>(1, rule.columns_multiple_of())});
  }
  if (!file.kv_cache().empty()) {
    recipe.kvCache = file.kv_cache();
    const auto *kvCache = RecipeFile::descriptor()->FindFieldByName("kv_cache");
    if (std::find(kvCacheNames().begin(), kvCacheNames().end(), recipe.kvCache) == kvCacheNames().end())
      return absl::InvalidArgumentError(
          absl::StrCat(origin, ":", locations.GetLocation(kvCache, -1).line + 1, ": expected kv_cache to be one of ",
                       absl::StrJoin(kvCacheNames(), ", "), ", got \"", recipe.kvCache, "\""));
  }
  if (recipe.rules.empty())
    return absl::InvalidArgumentError(absl::StrCat(origin, ": expected at least one rule"));
  if (recipe.name.empty())
    return absl::InvalidArgumentError(absl::StrCat(origin, ": expected a `name`"));
  return recipe;
}

absl::StatusOr<Recipe> loadRecipe(const std::string &nameOrPath) {
  std::vector<std::string> names;
  for (const BuiltinRecipe &builtin : builtinRecipes()) {
    if (builtin.name == nameOrPath)
      return parseRecipe(builtin.text, "recipe " + nameOrPath);
    names.emplace_back(builtin.name);
  }
  std::ifstream file(nameOrPath, std::ios::binary);
  std::string text;
  if (file) {
    // One byte more than allowed, so that parseRecipe can tell.
    text.resize(largestRecipe + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof()))
    return absl::NotFoundError(absl::StrCat("recipe \"", nameOrPath, "\": neither a name (", absl::StrJoin(names, ", "),
                                            ") nor a file that can be read"));
  return parseRecipe(text, nameOrPath);
}

} // namespace ingot
