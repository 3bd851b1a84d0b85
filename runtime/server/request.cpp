#include "runtime/server/request.h"

#include <charconv>
#include <limits>

#include "absl/strings/str_cat.h"

namespace ingot {
namespace {

constexpr size_t kMostStops = 16, kMostPrompts = 64, kMostTools = 256;
constexpr int64_t kMostChoices = 16, kMostLogprobs = 20;
constexpr int64_t kMostTokens = 1 << 30;

absl::Status wrong(const std::string &field, const std::string &what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}
absl::Status unsupported(const std::string &field, const std::string &what) {
  return absl::UnimplementedError(absl::StrCat(field, ": ", what));
}

// Reads the fields of an object; the first error stays. A field that is null counts as absent, as OpenAI's does.
class Fields {
public:
  explicit Fields(const Json &object) : object(object) {}

  const Json *find(const std::string &name) {
    auto found = object.find(name);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  void fail(const absl::Status &why) { failure.Update(why); }
  const absl::Status &status() const { return failure; }

  bool boolean(const std::string &name, bool otherwise) {
    const Json *value = find(name);
    if (value && !value->is_boolean())
      fail(wrong(name, absl::StrCat("expected true or false, got ", value->type_name())));
    return value && value->is_boolean() ? value->get<bool>() : otherwise;
  }
  std::optional<int64_t> integer(const std::string &name, int64_t least, int64_t most) {
    const Json *value = find(name);
    if (!value)
      return std::nullopt;
    if (!value->is_number_integer() || (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t(INT64_MAX)) ||
        value->get<int64_t>() < least || value->get<int64_t>() > most) {
      fail(wrong(name, absl::StrCat("expected an integer from ", least, " to ", most, ", got ", shown(*value))));
      return std::nullopt;
    }
    return value->get<int64_t>();
  }
  float number(const std::string &name, float otherwise) {
    const Json *value = find(name);
    if (value && !value->is_number())
      fail(wrong(name, absl::StrCat("expected a number, got ", value->type_name())));
    return value && value->is_number() ? value->get<float>() : otherwise;
  }
  std::string text(const std::string &name) {
    const Json *value = find(name);
    if (value && !value->is_string())
      fail(wrong(name, absl::StrCat("expected a string, got ", value->type_name())));
    return value && value->is_string() ? value->get<std::string>() : "";
  }
  static std::string shown(const Json &value) {
    std::string text = dumpJson(value);
    return text.size() <= 40 ? text : value.type_name();
  }

private:
  const Json &object;
  absl::Status failure;
};

void readStops(Fields &fields, std::vector<std::string> &stops) {
  const Json *value = fields.find("stop");
  if (!value)
    return;
  for (const Json &each : value->is_array() ? *value : Json::array({*value})) {
    if (!each.is_string() || each.get<std::string>().empty())
      return fields.fail(wrong("stop", "expected a string that is not empty, or an array of such"));
    stops.push_back(each.get<std::string>());
  }
  if (stops.size() > kMostStops)
    fields.fail(wrong("stop", absl::StrCat("expected at most ", kMostStops, " strings, got ", stops.size())));
}

void readBias(Fields &fields, std::map<int32_t, float> &bias) {
  const Json *value = fields.find("logit_bias");
  if (!value)
    return;
  if (!value->is_object())
    return fields.fail(wrong("logit_bias", "expected an object of token ids and numbers"));
  for (const auto &[key, each] : value->items()) {
    int32_t id = 0;
    auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || !each.is_number())
      return fields.fail(wrong("logit_bias", "expected an object of token ids and numbers"));
    bias[id] = each.get<float>();
  }
}

void readSampling(Fields &fields, ApiRequest &request) {
  Sampling &sampling = request.generation.sampling;
  sampling.temperature = fields.number("temperature", 1);
  // Zero is allowed by OpenAI: the likeliest token alone.
  sampling.topP = std::max(fields.number("top_p", 1), std::numeric_limits<float>::min());
  // Some clients say -1 for all.
  int64_t topK = fields.integer("top_k", -1, INT32_MAX).value_or(0);
  sampling.topK = topK < 0 ? 0 : static_cast<int32_t>(topK);
  if (!(sampling.topP <= 1) || fields.number("top_p", 1) < 0)
    fields.fail(wrong("top_p", "expected a number from 0 to 1"));
  if (!(sampling.temperature >= 0 && sampling.temperature <= 100))
    fields.fail(wrong("temperature", "expected a number from 0 to 100"));
  LogitRules &rules = request.generation.rules;
  rules.presence = fields.number("presence_penalty", 0);
  rules.frequency = fields.number("frequency_penalty", 0);
  rules.repetition = fields.number("repetition_penalty", 1);
  rules.minP = fields.number("min_p", 0);
  readBias(fields, rules.bias);
  if (auto seed = fields.integer("seed", INT64_MIN, INT64_MAX))
    request.seed = static_cast<uint64_t>(*seed);
}

void readCommon(Fields &fields, ApiRequest &request) {
  request.model = fields.text("model");
  request.stream = fields.boolean("stream", false);
  request.choices = static_cast<uint32_t>(fields.integer("n", 1, kMostChoices).value_or(1));
  request.generation.ignoreEnd = fields.boolean("ignore_eos", false);
  for (const char *name : {"max_tokens", "max_completion_tokens"})
    if (auto most = fields.integer(name, 1, kMostTokens))
      request.maxTokens = static_cast<uint32_t>(*most);
  if (const Json *options = fields.find("stream_options")) {
    if (!options->is_object())
      return fields.fail(wrong("stream_options", "expected an object"));
    Fields inner(*options);
    request.includeUsage = inner.boolean("include_usage", false);
    fields.fail(inner.status());
  }
  readStops(fields, request.stops);
  readSampling(fields, request);
}

// The text of a message's content: a string, or parts of which each must be text.
absl::StatusOr<std::string> contentOf(const Json &content, const std::string &where) {
  if (content.is_null())
    return std::string();
  if (content.is_string())
    return content.get<std::string>();
  if (!content.is_array())
    return wrong(where, "expected a string or an array of parts");
  std::string text;
  for (const Json &part : content) {
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string())
      return wrong(where, "expected parts with a type");
    if (part["type"] != "text")
      return unsupported(where, absl::StrCat("expected parts of type text, got ", Fields::shown(part["type"]),
                                             "; this server takes text only"));
    if (!part.contains("text") || !part["text"].is_string())
      return wrong(where, "expected a text in each part");
    if (!text.empty())
      text += '\n';
    text += part["text"].get<std::string>();
  }
  return text;
}

// Calls in the history, with their arguments as the objects that templates print.
absl::Status readCalls(Json &calls, const std::string &where) {
  if (!calls.is_array())
    return wrong(where, "expected an array");
  for (Json &call : calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
        !call["function"].contains("name") || !call["function"]["name"].is_string())
      return wrong(where, "expected objects with a function that has a name");
    Json &arguments = call["function"]["arguments"];
    if (arguments.is_null())
      arguments = Json::object();
    if (arguments.is_string()) {
      const auto text = arguments.get<std::string>();
      auto parsed = parseJson(text.empty() ? "{}" : text);
      if (!parsed.ok())
        return wrong(where, absl::StrCat("arguments: ", std::string(parsed.status().message())));
      arguments = *std::move(parsed);
    }
    if (!arguments.is_object())
      return wrong(where, "expected arguments that are a JSON object");
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> messagesOf(const Json *given) {
  if (!given || !given->is_array() || given->empty())
    return wrong("messages", "expected an array of at least one message");
  Json messages = *given;
  for (size_t index = 0; index < messages.size(); ++index) {
    Json &message = messages[index];
    std::string where = absl::StrCat("messages[", index, "]");
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      return wrong(where, "expected an object with a role");
    std::string role = message["role"].get<std::string>();
    if (role == "developer")
      message["role"] = role = "system"; // OpenAI's newer word for it, which no template knows
    if (role != "system" && role != "user" && role != "assistant" && role != "tool")
      return wrong(absl::StrCat(where, ".role"),
                   absl::StrCat("expected system, developer, user, assistant or tool, got ", Fields::shown(role)));
    auto content = contentOf(message.value("content", Json()), absl::StrCat(where, ".content"));
    if (!content.ok())
      return content.status();
    message["content"] = *std::move(content);
    if (message.contains("tool_calls") && message["tool_calls"].is_null())
      message.erase("tool_calls");
    if (message.contains("tool_calls"))
      if (absl::Status status = readCalls(message["tool_calls"], absl::StrCat(where, ".tool_calls")); !status.ok())
        return status;
  }
  return messages;
}

void readTools(Fields &fields, ApiRequest &request) {
  const Json *tools = fields.find("tools");
  if (tools && !tools->is_array())
    return fields.fail(wrong("tools", "expected an array"));
  if (tools && tools->size() > kMostTools)
    return fields.fail(wrong("tools", absl::StrCat("expected at most ", kMostTools, ", got ", tools->size())));
  for (const Json &tool : tools ? *tools : Json::array()) {
    if (!tool.is_object() || tool.value("type", Json()) != "function" || !tool.contains("function") ||
        !tool["function"].is_object() || !tool["function"].contains("name") || !tool["function"]["name"].is_string())
      return fields.fail(wrong("tools", "expected objects of type function that have a function with a name"));
  }
  const Json *choice = fields.find("tool_choice");
  if (tools && !tools->empty() && !(choice && *choice == "none"))
    request.tools = *tools;
  if (!choice || *choice == "auto" || *choice == "none")
    return;
  const Json function = choice->is_object() ? choice->value("function", Json()) : Json();
  const Json name = function.is_object() ? function.value("name", Json()) : Json();
  if (*choice != "required" && !(name.is_string() && !name.get<std::string>().empty()))
    return fields.fail(
        wrong("tool_choice",
              absl::StrCat("expected auto, none, required or a function with its name, got ", Fields::shown(*choice))));
  if (request.tools.is_null())
    return fields.fail(wrong("tool_choice", "expected tools to choose from"));
  request.call = name.is_string() ? name.get<std::string>() : "";
}

void readVariables(Fields &fields, ApiRequest &request) {
  if (const Json *given = fields.find("chat_template_kwargs")) {
    if (!given->is_object())
      return fields.fail(wrong("chat_template_kwargs", "expected an object"));
    for (const auto &[key, value] : given->items()) {
      if (key == "messages" || key == "tools" || key == "add_generation_prompt")
        return fields.fail(wrong("chat_template_kwargs", absl::StrCat(key, " has a field of its own")));
      request.variables[key] = value;
    }
  }
  if (std::string effort = fields.text("reasoning_effort"); !effort.empty())
    request.variables["reasoning_effort"] = effort;
}

// As llama.cpp's server has it.
void readGrammar(Fields &fields, ApiRequest &request) {
  const std::string text = fields.text("grammar");
  if (text.empty())
    return;
  auto grammar = Grammar::ofText(text);
  if (!grammar.ok())
    return fields.fail(grammar.status());
  request.grammar = *std::move(grammar);
  if (!request.tools.is_null())
    fields.fail(unsupported("grammar", "it does not go with tools"));
}

void readFormat(Fields &fields, ApiRequest &request) {
  const Json *format = fields.find("response_format");
  if (!format)
    return;
  if (request.grammar)
    return fields.fail(wrong("response_format", "it does not go with grammar"));
  const Json type = format->is_object() ? format->value("type", Json()) : Json();
  if (type == "text")
    return;
  if (type == "json_object") {
    request.grammar = Grammar::ofObject();
  } else if (type == "json_schema") {
    const Json given = format->value("json_schema", Json());
    if (!given.is_object() || !given.contains("schema"))
      return fields.fail(wrong("response_format", "expected a json_schema that has a schema"));
    auto grammar = Grammar::ofSchema(given["schema"]);
    if (!grammar.ok())
      return fields.fail(grammar.status());
    request.grammar = *std::move(grammar);
  } else {
    fields.fail(wrong("response_format", "expected type text, json_object or json_schema"));
  }
  if (!request.tools.is_null())
    fields.fail(unsupported("response_format", "it does not go with tools"));
}

absl::StatusOr<Json> objectOf(std::string_view body) {
  auto json = parseJson(body);
  if (!json.ok())
    return wrong("body", std::string(json.status().message()));
  if (!json->is_object())
    return wrong("body", absl::StrCat("expected a JSON object, got ", json->type_name()));
  return json;
}

absl::Status readPrompt(const Json &given, std::vector<ApiRequest::Prompt> &prompts) {
  auto isIds = [](const Json &value) {
    if (!value.is_array() || value.empty())
      return false;
    for (const Json &id : value)
      if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
        return false;
    return true;
  };
  if (given.is_string()) {
    prompts.push_back({given.get<std::string>(), {}});
  } else if (isIds(given)) {
    prompts.push_back({"", given.get<std::vector<int32_t>>()});
  } else {
    return wrong("prompt", "expected a string, an array of token ids, or an array of either");
  }
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<ApiRequest> parseChatRequest(std::string_view body) {
  auto json = objectOf(body);
  if (!json.ok())
    return json.status();
  ApiRequest request;
  request.chat = true;
  Fields fields(*json);
  readCommon(fields, request);
  readTools(fields, request);
  readVariables(fields, request);
  if (fields.boolean("logprobs", false))
    request.generation.logprobs = static_cast<uint32_t>(fields.integer("top_logprobs", 0, kMostLogprobs).value_or(0));
  else if (fields.find("top_logprobs"))
    fields.fail(wrong("top_logprobs", "goes only with logprobs set to true"));
  readGrammar(fields, request);
  readFormat(fields, request);
  if (fields.find("functions"))
    fields.fail(unsupported("functions", "give tools instead"));
  if (!fields.status().ok())
    return fields.status();
  auto messages = messagesOf(fields.find("messages"));
  if (!messages.ok())
    return messages.status();
  request.messages = *std::move(messages);
  return request;
}

absl::StatusOr<ApiRequest> parseCompletionRequest(std::string_view body) {
  constexpr uint32_t kDefaultTokens = 16; // OpenAI's
  auto json = objectOf(body);
  if (!json.ok())
    return json.status();
  ApiRequest request;
  Fields fields(*json);
  readCommon(fields, request);
  if (!request.maxTokens)
    request.maxTokens = kDefaultTokens;
  if (auto count = fields.integer("logprobs", 0, kMostLogprobs))
    request.generation.logprobs = static_cast<uint32_t>(*count);
  readGrammar(fields, request);
  if (fields.boolean("echo", false))
    fields.fail(unsupported("echo", "the reply has the new text only"));
  if (!fields.text("suffix").empty())
    fields.fail(unsupported("suffix", "text is continued, not filled in"));
  if (fields.integer("best_of", 1, kMostChoices).value_or(request.choices) != request.choices)
    fields.fail(unsupported("best_of", "expected the same as n"));
  if (!fields.status().ok())
    return fields.status();
  const Json *given = fields.find("prompt");
  if (!given)
    return wrong("prompt", "expected a string, an array of token ids, or an array of either");
  bool several = given->is_array() && !given->empty() && !given->front().is_number();
  if (several && given->size() > kMostPrompts)
    return wrong("prompt", absl::StrCat("expected at most ", kMostPrompts, " prompts, got ", given->size()));
  for (const Json &each : several ? *given : Json::array({*given}))
    if (absl::Status status = readPrompt(each, request.prompts); !status.ok())
      return status;
  return request;
}

} // namespace ingot
