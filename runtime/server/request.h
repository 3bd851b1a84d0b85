// OpenAI's requests as JSON, checked field by field. An error's message begins with the field it is about.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/server/engine.h"
#include "runtime/server/grammar.h"
#include "runtime/server/json.h"

namespace ingot {

struct ApiRequest {
  bool chat = false;
  bool stream = false, includeUsage = false;
  uint32_t choices = 1; // of each prompt
  std::string model;    // as asked for; may be empty
  std::optional<uint32_t> maxTokens;
  std::optional<uint64_t> seed;
  std::vector<std::string> stops;
  GenerationRequest generation; // all but prompt, seed and maxTokens
  // Chat:
  Json messages;                          // contents are text, arguments of calls objects, as templates expect
  Json tools;                             // null: none
  Json variables = Json::object();        // further ones for the template
  std::shared_ptr<const Grammar> grammar; // that the reply is held to; null: none
  std::optional<std::string> call;        // the function that the reply must call, empty: any of `tools`
  // Completions: each either text or token ids.
  struct Prompt {
    std::string text;
    std::vector<int32_t> tokens;
  };
  std::vector<Prompt> prompts;
};

// InvalidArgument, or Unimplemented for what OpenAI knows and this server does not.
absl::StatusOr<ApiRequest> parseChatRequest(std::string_view body);
absl::StatusOr<ApiRequest> parseCompletionRequest(std::string_view body);

} // namespace ingot
