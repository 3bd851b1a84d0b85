#include "runtime/server/tool_calls.h"

#include <algorithm>
#include <array>

#include "runtime/tokenizer/text.h"

namespace ingot {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kQuote = "<|\"|>"; // Gemma's quotation mark, one token

std::string_view trim(std::string_view text) {
  size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool take(std::string_view &text, std::string_view prefix) {
  if (!text.starts_with(prefix))
    return false;
  text.remove_prefix(prefix.size());
  return true;
}

// What is before `mark`, which is taken too. False if there is none.
bool takeUntil(std::string_view &text, std::string_view mark, std::string_view &before) {
  size_t at = text.find(mark);
  if (at == std::string_view::npos)
    return false;
  before = text.substr(0, at);
  text.remove_prefix(at + mark.size());
  return true;
}

absl::Status malformed(std::string_view what) {
  return absl::InvalidArgumentError(cat("a tool call: expected ", what));
}

bool isName(std::string_view name) {
  return !name.empty() && name.size() <= 256 && std::ranges::none_of(name, [](char c) {
    return static_cast<unsigned char>(c) <= ' ' || c == '<' || c == '>' || c == '{' || c == '"';
  });
}

absl::StatusOr<ToolCall> fromJson(const Json &call) {
  if (!call.is_object() || !call.contains("name") || !call["name"].is_string())
    return malformed("an object with a name");
  ToolCall made{call["name"].get<std::string>(), "{}"};
  if (!isName(made.name))
    return malformed("a name without spaces");
  for (const char *key : {"arguments", "parameters"}) {
    if (!call.contains(key))
      continue;
    Json arguments = call[key];
    // Some models encode them twice.
    if (arguments.is_string()) {
      auto inner = parseJson(arguments.get<std::string>());
      if (!inner.ok())
        return inner.status();
      arguments = *std::move(inner);
    }
    if (!arguments.is_object())
      return malformed("arguments that are an object");
    made.arguments = dumpJson(arguments);
    break;
  }
  return made;
}

// The schema of parameter `key` of function `name`; null if the request does not say.
Json schemaOf(const Json &tools, std::string_view name, std::string_view key) {
  if (!tools.is_array())
    return nullptr;
  for (const Json &tool : tools) {
    const Json function = tool.is_object() ? tool.value("function", Json()) : Json();
    if (!function.is_object() || function.value("name", Json()) != name)
      continue;
    const Json parameters = function.value("parameters", Json());
    const Json properties = parameters.is_object() ? parameters.value("properties", Json()) : Json();
    if (properties.is_object() && properties.contains(std::string(key)))
      return properties[std::string(key)];
  }
  return nullptr;
}

// A parameter's text, as what its schema says it is.
Json valueOf(std::string_view text, const Json &schema) {
  bool isText = !schema.is_object() || !schema.contains("type") || schema["type"] == "string";
  if (!isText)
    if (auto parsed = parseJson(trim(text)); parsed.ok())
      return *std::move(parsed);
  return std::string(text);
}

absl::StatusOr<std::vector<ToolCall>> parseXml(std::string_view body, const Json &tools) {
  std::vector<ToolCall> calls;
  while (take(body, "<function=")) {
    std::string_view name, inner;
    if (!takeUntil(body, ">", name) || !takeUntil(body, "</function>", inner))
      return malformed("<function=NAME> ... </function>");
    name = trim(name);
    if (!isName(name))
      return malformed("a name without spaces");
    Json arguments = Json::object();
    for (inner = trim(inner); !inner.empty(); inner = trim(inner)) {
      std::string_view key, value;
      if (!take(inner, "<parameter=") || !takeUntil(inner, ">", key) || !takeUntil(inner, "</parameter>", value))
        return malformed("<parameter=NAME> ... </parameter>");
      // The value stands on lines of its own.
      take(value, "\n");
      if (value.ends_with('\n'))
        value.remove_suffix(1);
      arguments[std::string(trim(key))] = valueOf(value, schemaOf(tools, name, trim(key)));
    }
    calls.push_back({std::string(name), dumpJson(arguments)});
    body = trim(body);
  }
  if (calls.empty() || !body.empty())
    return malformed("<function=NAME> ... </function>");
  return calls;
}

absl::StatusOr<std::vector<ToolCall>> parseJsonCalls(std::string_view body) {
  auto json = parseJson(body);
  if (!json.ok())
    return json.status();
  std::vector<ToolCall> calls;
  for (const Json &each : json->is_array() ? *json : Json::array({*json})) {
    auto call = fromJson(each);
    if (!call.ok())
      return call.status();
    calls.push_back(*std::move(call));
  }
  if (calls.empty())
    return malformed("at least one call");
  return calls;
}

absl::StatusOr<std::vector<ToolCall>> parseMistral(std::string_view body) {
  std::string_view name;
  if (!takeUntil(body, "[ARGS]", name))
    return malformed("NAME[ARGS]{...}");
  name = trim(name.substr(0, name.find("[CALL_ID]")));
  if (!isName(name))
    return malformed("a name without spaces");
  auto arguments = parseJson(body);
  if (!arguments.ok())
    return arguments.status();
  if (!arguments->is_object())
    return malformed("arguments that are an object");
  return std::vector<ToolCall>{{std::string(name), dumpJson(*arguments)}};
}

// Gemma's notation: JSON without quotation marks around keys, and with a token of its own around strings.
class GemmaReader {
public:
  explicit GemmaReader(std::string_view text) : rest(text) {}

  absl::StatusOr<Json> value(int depth) {
    if (depth > kMaxJsonDepth)
      return malformed("arguments nested less deeply");
    rest = trimLeft(rest);
    if (take(rest, kQuote)) {
      std::string_view text;
      if (!takeUntil(rest, kQuote, text))
        return malformed("a closing quotation mark");
      return Json(std::string(text));
    }
    if (take(rest, "{"))
      return object(depth);
    if (take(rest, "["))
      return list(depth);
    size_t end = std::min(rest.find_first_of(",]}"), rest.size());
    std::string_view word = trim(rest.substr(0, end));
    rest.remove_prefix(end);
    return parseJson(word);
  }
  bool atEnd() { return trim(rest).empty(); }

private:
  static std::string_view trimLeft(std::string_view text) {
    return text.substr(std::min(text.find_first_not_of(kSpace), text.size()));
  }
  bool takeMark(std::string_view mark) {
    rest = trimLeft(rest);
    return take(rest, mark);
  }
  absl::StatusOr<Json> object(int depth) {
    Json made = Json::object();
    while (!takeMark("}")) {
      if (!made.empty() && !takeMark(","))
        return malformed("a comma between arguments");
      std::string_view key;
      rest = trimLeft(rest);
      bool quoted = take(rest, kQuote);
      if (!(quoted ? takeUntil(rest, kQuote, key) && takeMark(":") : takeUntil(rest, ":", key)))
        return malformed("KEY:VALUE");
      auto inner = value(depth + 1);
      if (!inner.ok())
        return inner;
      made[std::string(trim(key))] = *std::move(inner);
    }
    return made;
  }
  absl::StatusOr<Json> list(int depth) {
    Json made = Json::array();
    while (!takeMark("]")) {
      if (!made.empty() && !takeMark(","))
        return malformed("a comma between elements");
      auto inner = value(depth + 1);
      if (!inner.ok())
        return inner;
      made.push_back(*std::move(inner));
    }
    return made;
  }

  std::string_view rest;
};

absl::StatusOr<std::vector<ToolCall>> parseGemma(std::string_view body) {
  size_t brace = body.find('{');
  std::string_view name = trim(body.substr(0, brace));
  if (brace == std::string_view::npos || !isName(name))
    return malformed("call:NAME{...}");
  GemmaReader reader(body.substr(brace));
  auto arguments = reader.value(0);
  if (!arguments.ok())
    return arguments.status();
  if (!reader.atEnd())
    return malformed("nothing after the arguments");
  return std::vector<ToolCall>{{std::string(name), dumpJson(*arguments)}};
}

} // namespace

ReplyFormat ReplyFormat::of(std::string_view chatTemplate) {
  struct Markers {
    std::string_view open, close;
  };
  constexpr std::array<Markers, 3> kReasoning = {
      {{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}, {"<|channel>thought\n", "<channel|>"}}};
  constexpr std::array<Markers, 3> kTools = {
      {{"<tool_call>", "</tool_call>"}, {"<|tool_call>", "<tool_call|>"}, {"[TOOL_CALLS]", ""}}};
  auto spells = [&](std::string_view marker) {
    return !marker.empty() && chatTemplate.find(trim(marker)) != std::string_view::npos;
  };
  ReplyFormat format;
  for (Markers each : kReasoning) {
    // In a template a line break may be spelled \n.
    if (spells(each.open) || (each.close == "<channel|>" && spells("<|channel>"))) {
      format.reasoningOpen = each.open;
      format.reasoningClose = each.close;
      break;
    }
  }
  for (Markers each : kTools) {
    if (spells(each.open)) {
      format.toolOpen = each.open;
      format.toolClose = each.close;
      break;
    }
  }
  return format;
}

bool ReplyFormat::isMarker(std::string_view piece) const {
  if (piece.empty())
    return false;
  auto within = [&](const std::string &marker) { return marker.find(piece) != std::string::npos; };
  if (within(reasoningOpen) || within(reasoningClose) || within(toolOpen) || within(toolClose))
    return true;
  return !toolOpen.empty() && (piece == "[ARGS]" || piece == "[CALL_ID]" || piece == kQuote);
}

absl::StatusOr<std::vector<ToolCall>> parseToolCalls(std::string_view body, const Json &tools) {
  body = trim(body);
  if (body.starts_with('{') || body.starts_with('['))
    return parseJsonCalls(body);
  if (body.starts_with("<function="))
    return parseXml(body, tools);
  if (take(body, "call:"))
    return parseGemma(body);
  return parseMistral(body);
}

} // namespace ingot
