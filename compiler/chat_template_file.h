// A chat template from a file of its own (`ingotc --chat-template`), for a checkpoint that has none or a broken one.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

struct ChatTemplateFile {
  std::string source; // Jinja
  std::string origin; // for provenance: file name, XXH3-64
};

// Errors name the file, and the line where there is one: not there, not a regular file, over 1 MiB, empty, not UTF-8, not
// Jinja, a statement, filter or test that the runtime's Jinja does not have.
absl::StatusOr<ChatTemplateFile> readChatTemplate(const std::string &path);

// Puts it in the place of the tokenizer's own. Control tokens that are named as ends of turns end a reply from now on.
// FailedPrecondition where there is no tokenizer.
absl::Status setChatTemplate(TokenizerData &tokenizer, const ChatTemplateFile &file);

} // namespace ingot
