// The tokenizer files of a folder, in pieces that zero bytes end: tokenizer_config.json, chat_template.jinja, then "m"
// and a tokenizer.model, "t" and a tekken.json, or anything else and a tokenizer.json. The tokenizer is used once, and
// so is its template.
#include "compiler/checkpoint/readers.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  using namespace ingot::fuzz;
  static const Folder folder;
  std::string_view input = textOf({data, size});
  const auto putPiece = [](std::string_view name, std::string_view piece) {
    if (piece.empty())
      folder.remove(name);
    else
      folder.put(name, piece);
  };
  putPiece("tokenizer_config.json", takePiece(input));
  putPiece("chat_template.jinja", takePiece(input));
  const std::string_view kind = takePiece(input);
  for (const char *name : {"tokenizer.model", "tekken.json", "tokenizer.json"})
    folder.remove(name);
  folder.put(kind == "m" ? "tokenizer.model" : kind == "t" ? "tekken.json" : "tokenizer.json", input);
  const auto read = ingot::readFolderTokenizer(folder.path(), nlohmann::json::object());
  if (!read.ok())
    return 0;
  const auto tokenizer = ingot::Tokenizer::create(*read);
  if (!tokenizer.ok())
    return 0;
  (*tokenizer)->decode((*tokenizer)->encode("Hello \xf0\x9f\x98\x80 the\xff  cat 123\n", {true, true}), false);
  if (const auto chat = ingot::ChatTemplate::create(read->chat_template()); chat.ok())
    (void)chat
        ->render(nlohmann::ordered_json::parse(R"([{"role": "user", "content": "Hi"}])"), true,
                 ingot::ChatTemplate::specialTokens(**tokenizer))
        .ok();
  return 0;
}
