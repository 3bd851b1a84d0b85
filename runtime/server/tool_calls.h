// Function calls as the families write them into their replies, and reasoning around them. Which markers a model uses
// is read from its chat template, which spells them out; nothing depends on a model's name.
//
//   Hermes, Qwen3        <tool_call>{"name": "f", "arguments": {...}}</tool_call>
//   Qwen3-Coder, 3.6     <tool_call><function=f><parameter=x>value</parameter></function></tool_call>
//   Mistral              [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]   or   [TOOL_CALLS]f[ARGS]{...}
//   Gemma 4              <|tool_call>call:f{x:<|"|>value<|"|>,y:1}<tool_call|>
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/server/json.h"

namespace ingot {

struct ReplyFormat {
  std::string reasoningOpen, reasoningClose; // empty: the model has no reasoning of its own
  std::string toolOpen, toolClose;           // empty toolOpen: no calls; empty toolClose: a call lasts to the end

  static ReplyFormat of(std::string_view chatTemplate);
  // Whether `piece`, a control token, is a part of the format and not to be left out of the text.
  bool isMarker(std::string_view piece) const;
};

struct ToolCall {
  std::string name;
  std::string arguments; // a JSON object as text
};

// The calls between `toolOpen` and `toolClose`, in any of the notations above. `tools` is the request's array, whose
// schemas say which parameters of an XML call are text; others are read as JSON where they are. InvalidArgument for
// what is no call.
absl::StatusOr<std::vector<ToolCall>> parseToolCalls(std::string_view body, const Json &tools);

} // namespace ingot
