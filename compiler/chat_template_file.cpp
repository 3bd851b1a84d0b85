#include "compiler/chat_template_file.h"

#include <filesystem>

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "compiler/checkpoint/checkpoint.h"
#include "compiler/checkpoint/gguf_file.h"
#include "compiler/checkpoint/mapped_file.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {

static constexpr uint64_t kMostBytes = 1 << 20; // jinja::Template::parse takes no more

absl::StatusOr<ChatTemplateFile> readChatTemplate(const std::string &path) {
  auto failed = [&](const absl::Status &status, absl::string_view what) {
    return absl::Status(status.code(), absl::StrCat(what, std::string(status.message())));
  };
  absl::StatusOr<std::string> source = readWholeFile(path, kMostBytes);
  if (!source.ok())
    return failed(source.status(), "chat template ");
  if (source->find_first_not_of(" \t\r\n") == std::string::npos)
    return absl::InvalidArgumentError(
        absl::StrCat("chat template ", path, ": expected a Jinja template, the file is empty"));
  if (!isValidUtf8(*source))
    return absl::InvalidArgumentError(absl::StrCat("chat template ", path, ": expected UTF-8"));
  absl::StatusOr<ChatTemplate> parsed = ChatTemplate::create(*source);
  absl::Status status = parsed.ok() ? parsed->checkNames() : parsed.status();
  if (!status.ok())
    return failed(status, absl::StrCat(path, ": "));
  const std::string name = utf8::replaceBroken(std::filesystem::path(path).filename().string());
  const uint64_t digest = XXH3_64bits(source->data(), source->size());
  return ChatTemplateFile{*std::move(source), absl::StrCat(name, ", xxh3 ", absl::Hex(digest, absl::kZeroPad16))};
}

absl::Status setChatTemplate(TokenizerData &tokenizer, const ChatTemplateFile &file) {
  if (tokenizer.kind() == TokenizerData::NONE)
    return absl::FailedPreconditionError(
        "expected a checkpoint with a tokenizer for --chat-template, this one has none; leave the option out");
  tokenizer.set_chat_template(file.source);
  addNamedEnds(tokenizer);
  return absl::OkStatus();
}

} // namespace ingot
