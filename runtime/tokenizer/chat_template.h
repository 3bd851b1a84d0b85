// The model's chat template: messages in, the prompt text out, exactly as the checkpoint's authors render it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "runtime/tokenizer/jinja.h"

namespace ingot {

class Tokenizer;

class ChatTemplate {
public:
  // Errors: those of jinja::Template::parse, and InvalidArgument for an empty template.
  static absl::StatusOr<ChatTemplate> create(std::string_view source);

  // jinja::Template::checkNames.
  absl::Status checkNames() const { return parsed->checkNames(); }

  // `messages` is an array of {"role", "content", ...}; `extras` an object of further variables ("bos_token", "tools",
  // "enable_thinking", ...), which win over `messages` and `add_generation_prompt`. Use ordered_json throughout:
  // templates print objects in the order of their keys. Encode the result with `parseSpecial` and without `addBos`.
  absl::StatusOr<std::string> render(const nlohmann::ordered_json &messages, bool addGenerationPrompt,
                                     const nlohmann::ordered_json &extras = nlohmann::ordered_json::object(),
                                     const jinja::RenderOptions &options = {}) const;

  // {"bos_token": ..., "eos_token": ...} as `tokenizer` spells them, for `extras`.
  static nlohmann::ordered_json specialTokens(const Tokenizer &tokenizer);

private:
  std::shared_ptr<const jinja::Template> parsed;
};

} // namespace ingot
