// A safetensors file by itself: the header's promises against the bytes that are there.
#include "compiler/checkpoint/safetensors_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const ingot::fuzz::MemoryFile file({data, size});
  const auto opened = ingot::SafetensorsFile::open(file.path());
  if (!opened.ok())
    return 0;
  for (const ingot::SafetensorsTensor &tensor : opened->tensors())
    if (tensor.storage->decode) {
      std::vector<float> values(tensor.bytes / tensor.storage->blockBytes);
      tensor.storage->decode(opened->data(tensor), values.size(), values.data());
    }
  return 0;
}
