// A folder of quantised linears, which are read and packed. The input is config.json, a zero byte, a line "name type
// extent ..." for each tensor, a zero byte, and bytes that fill the tensors over and over: so that a mutation of one
// shape leaves the rest of the file in place.
#include <charconv>

#include "compiler/checkpoint/safetensors_file.h"
#include "compiler/pack/pack.h"
#include "tests/fuzz/fuzz.h"

namespace ingot::fuzz {
namespace {

constexpr uint64_t kLargest = 1 << 16;

class NullSink final : public WeightSink {
public:
  absl::Status append(std::span<const std::byte> bytes) override {
    count += bytes.size();
    return absl::OkStatus();
  }
  uint64_t offset() const override { return count; }

private:
  uint64_t count = 0;
};

std::string_view takeWord(std::string_view &line) {
  const size_t end = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return word;
}

// The file that the lines describe; empty when it would be too large.
std::string safetensors(std::string_view lines, std::string_view fill) {
  nlohmann::json header = nlohmann::json::object();
  uint64_t offset = 0;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    const std::string name(takeWord(line)), type(takeWord(line));
    const StorageType *storage = findSafetensorsStorage(type);
    uint64_t bytes = storage ? storage->blockBytes : 1;
    nlohmann::json shape = nlohmann::json::array();
    while (!line.empty()) {
      const std::string_view word = takeWord(line);
      uint64_t extent = 0;
      std::from_chars(word.data(), word.data() + word.size(), extent);
      shape.push_back(extent);
      if (__builtin_mul_overflow(bytes, extent, &bytes) || bytes > kLargest)
        return {};
    }
    header[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
    if (offset > kLargest)
      return {};
  }
  const std::string text = header.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  const uint64_t length = text.size();
  std::string file(reinterpret_cast<const char *>(&length), sizeof length);
  file += text;
  for (uint64_t i = 0; i < offset; ++i)
    file += fill.empty() ? '\0' : fill[i % fill.size()];
  return file;
}

void packAll(const Checkpoint &checkpoint) {
  for (const TensorInfo &tensor : checkpoint.tensors()) {
    PackedWeight weight{PackedWeight::Layout::Tile16, {}, {tensor.name}, tensor.rows(), tensor.columns()};
    if (!tensor.quantization || !storedScheme(*tensor.quantization, tensor.columns(), weight.scheme).ok())
      continue;
    weight.permuted = tensor.quantization->permutedColumns;
    NullSink sink;
    // Only numbers that are not finite are a reason to refuse.
    if (packWeight(weight, checkpoint, sink, {}, 1).ok() && sink.offset() != packedBytes(weight))
      std::abort();
  }
}

} // namespace
} // namespace ingot::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  using namespace ingot::fuzz;
  static const Folder folder;
  std::string_view input = textOf({data, size});
  folder.put("config.json", takePiece(input));
  const std::string_view lines = takePiece(input);
  const std::string file = safetensors(lines, input);
  if (file.empty())
    return 0;
  folder.put("model.safetensors", file);
  const auto checkpoint = ingot::Checkpoint::open(folder.path());
  if (!checkpoint.ok())
    return 0;
  readEverything(**checkpoint);
  packAll(**checkpoint);
  return 0;
}
