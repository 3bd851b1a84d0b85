// A chat template, and the messages it is rendered with as JSON where there are any.
#include "runtime/server/json.h"
#include "runtime/tokenizer/chat_template.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view input = ingot::fuzz::textOf({data, size});
  const std::string_view source = ingot::fuzz::takePiece(input);
  const auto parsed = ingot::ChatTemplate::create(source);
  if (!parsed.ok())
    return 0;
  (void)parsed->checkNames();
  const ingot::Json plain = {{{"role", "system"}, {"content", "s"}},
                             {{"role", "user"}, {"content", "hello"}},
                             {{"role", "assistant"},
                              {"content", ""},
                              {"tool_calls", {{{"function", {{"name", "f"}, {"arguments", {{"x", 1}}}}}}}}}};
  const auto given = ingot::parseJson(input);
  const ingot::Json &messages = given.ok() && given->is_array() ? *given : plain;
  for (const bool generate : {false, true})
    (void)parsed->render(messages, generate, {{"tools", plain}, {"bos_token", "<s>"}});
  return 0;
}
