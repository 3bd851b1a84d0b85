// From what the user typed to the token ids the model sees: the checkpoint's chat template unless the prompt is raw.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/artifact/artifact.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ingot::cli {

struct Prompt {
  std::string text;
  std::string system; // the system message; empty: the template's own, if it has one
  bool raw = false;   // the text goes in as it is
};

// Whether the template applies: the file has one and the prompt is not raw.
bool usesTemplate(const Artifact &artifact, const Prompt &prompt);

// InvalidArgument if the result has no tokens, or one that stands for an image.
absl::StatusOr<std::vector<int32_t>> encodePrompt(const Artifact &artifact, const Tokenizer &tokenizer,
                                                  const Prompt &prompt);

} // namespace ingot::cli
