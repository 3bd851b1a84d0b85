#include "tools/ingot/prompt.h"

#include "absl/strings/str_cat.h"

#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/text_only.h"

namespace ingot::cli {

bool usesTemplate(const Artifact &artifact, const Prompt &prompt) {
  return !prompt.raw && !artifact.tokenizer().chat_template().empty();
}

absl::StatusOr<std::vector<int32_t>> encodePrompt(const Artifact &artifact, const Tokenizer &tokenizer,
                                                  const Prompt &prompt) {
  std::vector<int32_t> ids;
  if (usesTemplate(artifact, prompt)) {
    auto chat = ChatTemplate::create(artifact.tokenizer().chat_template());
    if (!chat.ok())
      return absl::Status(chat.status().code(), absl::StrCat(artifact.path(), ": chat template: ",
                                                             std::string(chat.status().message()), "; use --raw"));
    auto messages = nlohmann::ordered_json::array();
    if (!prompt.system.empty())
      messages.push_back({{"role", "system"}, {"content", prompt.system}});
    messages.push_back({{"role", "user"}, {"content", prompt.text}});
    auto text = chat->render(messages, /*addGenerationPrompt=*/true, ChatTemplate::specialTokens(tokenizer));
    if (!text.ok())
      return absl::Status(text.status().code(), absl::StrCat(artifact.path(), ": chat template: ",
                                                             std::string(text.status().message()), "; use --raw"));
    ids = tokenizer.encode(*text, {.addBos = false, .parseSpecial = true});
  } else {
    if (!prompt.system.empty())
      return absl::InvalidArgumentError(absl::StrCat("--system needs a chat template, and ",
                                                     prompt.raw ? "--raw leaves it out" : "this model has none",
                                                     "; put the text into the prompt"));
    ids = tokenizer.encode(prompt.text, {.addBos = tokenizer.addsBos(), .parseSpecial = false});
  }
  if (ids.empty())
    return absl::InvalidArgumentError("the prompt is empty; give some text with --prompt");
  if (absl::Status status = checkTextOnly(tokenizer, ids); !status.ok())
    return status;
  return ids;
}

} // namespace ingot::cli
