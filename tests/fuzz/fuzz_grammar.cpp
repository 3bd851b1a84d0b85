// A grammar as text, or a JSON schema, and a text that is followed through it. Whatever is accepted can be followed,
// byte by byte, and what a text may go on with keeps it alive.
#include "runtime/server/grammar.h"
#include "tests/fuzz/fuzz.h"

namespace {

void follow(std::shared_ptr<const ingot::Grammar> grammar, std::string_view text) {
  for (const auto &alternatives : grammar->rules())
    for (const auto &alternative : alternatives)
      for (const ingot::Grammar::Symbol &symbol : alternative)
        if (symbol.bytes.none() && symbol.rule >= grammar->rules().size())
          std::abort();
  ingot::Matcher matcher(std::move(grammar));
  matcher.allowWork(20'000);
  ingot::Matcher::State state = matcher.start();
  // Each byte of the text, or another that may come where it may not.
  for (const char wanted : text.substr(0, 64)) {
    ingot::Matcher::State next = matcher.step(state, static_cast<uint8_t>(wanted));
    for (unsigned byte = 0; byte < 256 && next.empty() && !matcher.gaveUp(); byte += 7)
      next = matcher.step(state, static_cast<uint8_t>(byte));
    if (matcher.gaveUp() && !next.empty())
      std::abort();
    state = std::move(next);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view input = ingot::fuzz::textOf({data, size});
  const std::string_view source = ingot::fuzz::takePiece(input);
  if (auto grammar = ingot::Grammar::ofText(source); grammar.ok())
    follow(*grammar, input);
  else if (!std::string_view(grammar.status().message().data(), grammar.status().message().size())
                .starts_with("grammar: "))
    std::abort();
  if (auto schema = ingot::parseJson(source); schema.ok())
    if (auto grammar = ingot::Grammar::ofSchema(*schema); grammar.ok())
      follow(*grammar, input);
  return 0;
}
