// A folder in Mistral's own files: params.json, a zero byte, and consolidated.safetensors. What comes of the
// configuration has the numbers that every declaration reads first, and the folder opens with it or says why not.
#include "compiler/checkpoint/readers.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  using namespace ingot::fuzz;
  static const Folder folder;
  std::string_view input = textOf({data, size});
  const std::string_view text = takePiece(input);
  const nlohmann::json params = nlohmann::json::parse(text, nullptr, false);
  if (const auto facts = ingot::readMistralParams("params.json", params); facts.ok())
    for (const char *key :
         {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rope_theta"})
      if (!facts->contains(key) || !(*facts)[key].is_number())
        std::abort();
  folder.put("params.json", text);
  folder.put("consolidated.safetensors", input);
  if (const auto checkpoint = ingot::Checkpoint::open(folder.path()); checkpoint.ok())
    readEverything(**checkpoint);
  return 0;
}
