// JSON from strangers: bounded in depth before it is parsed, so that nothing that walks it can overflow the stack.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace ingot {

// Keys keep their order: templates print objects in it.
using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 64;

// InvalidArgument: not JSON, not UTF-8, or nested more deeply than kMaxJsonDepth.
absl::StatusOr<Json> parseJson(std::string_view text);

// One line, well-formed UTF-8 whatever the strings hold.
std::string dumpJson(const Json &json);

} // namespace ingot
