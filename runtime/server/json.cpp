#include "runtime/server/json.h"

#include "runtime/tokenizer/text.h"

namespace ingot {
namespace {

// The deepest nesting of brackets outside of strings; for what is not JSON any number will do.
int depthOf(std::string_view text) {
  int depth = 0, most = 0;
  bool inString = false;
  for (size_t index = 0; index < text.size(); ++index) {
    char c = text[index];
    if (inString) {
      if (c == '\\')
        ++index;
      else if (c == '"')
        inString = false;
    } else if (c == '"') {
      inString = true;
    } else if (c == '[' || c == '{') {
      most = std::max(most, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return most;
}

} // namespace

absl::StatusOr<Json> parseJson(std::string_view text) {
  if (depthOf(text) > kMaxJsonDepth)
    return absl::InvalidArgumentError(cat("expected JSON nested at most ", kMaxJsonDepth, " deep, got a deeper one"));
  try {
    return Json::parse(text);
  } catch (const Json::exception &error) {
    return absl::InvalidArgumentError(cat("expected JSON: ", error.what()));
  }
}

std::string dumpJson(const Json &json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

} // namespace ingot
