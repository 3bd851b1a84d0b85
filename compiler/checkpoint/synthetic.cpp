#include "compiler/checkpoint/synthetic.h"

#include <cmath>
#include <filesystem>
#include <unordered_map>

#include <xxhash.h>

#include "compiler/checkpoint/mapped_file.h"
#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;

// SplitMix64's output function (Steele, Lea, Flood 2014): neighbouring inputs give unrelated outputs.
uint64_t mix(uint64_t state) {
  state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9ull;
  state = (state ^ state >> 27) * 0x94d049bb133111ebull;
  return state ^ state >> 31;
}

class SyntheticCheckpoint final : public Checkpoint {
public:
  SyntheticCheckpoint(nlohmann::json config, std::string name, uint64_t seed)
      : facts(std::move(config)), name(std::move(name)), seed(seed) {}

  const std::vector<TensorInfo> &tensors() const override { return infos; }
  const nlohmann::json &config() const override { return facts; }
  const TokenizerData &tokenizer() const override { return none; }
  uint64_t digest() const override {
    const std::string text = facts.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    return XXH3_64bits_withSeed(text.data(), text.size(), seed);
  }
  std::string sourceName() const override { return name; }

  const TensorInfo *demand(std::string_view tensor, const std::vector<uint64_t> &shape) const override {
    if (const auto [at, isNew] = places.try_emplace(std::string(tensor), infos.size()); isNew)
      infos.push_back({.name = std::string(tensor), .shape = shape, .storage = "made up"});
    return &infos[places.at(std::string(tensor))];
  }

  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    const uint64_t columns = tensor.columns();
    if (!places.contains(tensor.name) || first > tensor.rows() || count > tensor.rows() - first ||
        out.size() != count * columns)
      return absl::OutOfRangeError(cat(name, ": rows ", first, " + ", count, " of '", tensor.name, "' into ",
                                       out.size(), " floats: the tensor has ", tensor.rows(), " rows of ", columns));
    const bool vector = tensor.shape.size() < 2, bias = tensor.name.ends_with("bias");
    const bool decay = tensor.name.ends_with(".decay");
    const float width = decay ? 4.0F : vector ? 0.2F : std::sqrt(3.0F / static_cast<float>(columns));
    const float middle = decay ? -4.0F : vector && !bias ? 1.0F : 0.0F;
    const uint64_t key = XXH3_64bits_withSeed(tensor.name.data(), tensor.name.size(), seed);
    // Four numbers of 16 bits from each word; a row starts with a word of its own.
    for (uint64_t r = 0; r < count; ++r)
      for (uint64_t k = 0; k < columns; k += 4) {
        uint64_t word = mix(key + ((first + r) * ((columns + 3) / 4) + k / 4) * 0x9e3779b97f4a7c15ull);
        for (uint64_t i = k; i < std::min(k + 4, columns); ++i, word >>= 16)
          out[r * columns + i] = middle + width * (static_cast<float>(static_cast<int16_t>(word)) * 0x1p-15F);
      }
    return absl::OkStatus();
  }

private:
  nlohmann::json facts;
  std::string name;
  uint64_t seed;
  TokenizerData none;
  mutable std::vector<TensorInfo> infos;
  mutable std::unordered_map<std::string, size_t> places;
};

} // namespace

absl::StatusOr<nlohmann::json> readConfiguration(const std::string &path) {
  std::error_code error;
  const std::filesystem::path given(path);
  const std::string file = (std::filesystem::is_directory(given, error) ? given / "config.json" : given).string();
  absl::StatusOr<std::string> text = readWholeFile(file, kMaxConfigBytes);
  if (!text.ok())
    return text.status();
  absl::StatusOr<nlohmann::json> config = parseJson(file, *text);
  if (config.ok() && !config->is_object())
    return absl::InvalidArgumentError(cat(file, ": expected a JSON object"));
  return config;
}

std::unique_ptr<Checkpoint> makeUp(nlohmann::json configuration, std::string name, uint64_t seed) {
  return std::make_unique<SyntheticCheckpoint>(std::move(configuration), std::move(name), seed);
}

} // namespace ingot
