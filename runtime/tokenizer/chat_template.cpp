// Only the variables' names are Hugging Face's convention; the rest is the template's business.
#include "runtime/tokenizer/chat_template.h"

#include "absl/status/status.h"

#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {

absl::StatusOr<ChatTemplate> ChatTemplate::create(std::string_view source) {
  if (source.empty())
    return absl::InvalidArgumentError("this model has no chat template: it continues text, it does not chat. Give the "
                                      "prompt as raw text");
  absl::StatusOr<std::unique_ptr<jinja::Template>> parsed = jinja::Template::parse(source);
  if (!parsed.ok())
    return parsed.status();
  ChatTemplate made;
  made.parsed = *std::move(parsed);
  return made;
}

absl::StatusOr<std::string> ChatTemplate::render(const nlohmann::ordered_json &messages, bool addGenerationPrompt,
                                                 const nlohmann::ordered_json &extras,
                                                 const jinja::RenderOptions &options) const {
  if (!messages.is_array())
    return absl::InvalidArgumentError("chat template: the messages must be a JSON array");
  if (!extras.is_object())
    return absl::InvalidArgumentError("chat template: the extra variables must be a JSON object");
  nlohmann::ordered_json variables = {{"messages", messages},
                                      {"tools", nullptr},
                                      {"documents", nullptr},
                                      {"add_generation_prompt", addGenerationPrompt}};
  variables.update(extras);
  return parsed->render(variables, options);
}

nlohmann::ordered_json ChatTemplate::specialTokens(const Tokenizer &tokenizer) {
  nlohmann::ordered_json tokens = nlohmann::ordered_json::object();
  if (tokenizer.bos() >= 0)
    tokens["bos_token"] = utf8::replaceBroken(tokenizer.pieceText(tokenizer.bos()));
  if (tokenizer.eos() >= 0)
    tokens["eos_token"] = utf8::replaceBroken(tokenizer.pieceText(tokenizer.eos()));
  return tokens;
}

} // namespace ingot
