// The body of an HTTP request, as a chat and as a completion.
#include "runtime/server/request.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view body = ingot::fuzz::textOf({data, size});
  for (auto *parse : {&ingot::parseChatRequest, &ingot::parseCompletionRequest}) {
    const auto request = parse(body);
    if (!request.ok())
      continue;
    // What a template or the engine relies on.
    for (const ingot::Json &message : request->messages)
      if (!message["role"].is_string() || !message["content"].is_string())
        std::abort();
    for (const std::string &stop : request->stops)
      if (stop.empty())
        std::abort();
    if (request->choices == 0 || (request->maxTokens && *request->maxTokens == 0))
      std::abort();
    ingot::dumpJson(request->messages);
    ingot::dumpJson(request->tools);
  }
  return 0;
}
