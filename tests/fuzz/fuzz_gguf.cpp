// A GGUF file: all of its tensors are read and its tokenizer is made.
#include "runtime/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const ingot::fuzz::MemoryFile file({data, size});
  const auto checkpoint = ingot::Checkpoint::open(file.path());
  if (!checkpoint.ok())
    return 0;
  ingot::fuzz::readEverything(**checkpoint);
  if (const auto tokenizer = ingot::Tokenizer::create((*checkpoint)->tokenizer()); tokenizer.ok())
    (*tokenizer)->decode((*tokenizer)->encode("the\xff cat"), false);
  return 0;
}
