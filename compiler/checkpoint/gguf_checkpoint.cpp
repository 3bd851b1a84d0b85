// A GGUF file seen as a Hugging Face checkpoint. What the architectures mean is in gguf_model.cpp; here rows are found,
// decoded and put back in order.
#include <filesystem>
#include <unordered_map>

#include <xxhash.h>

#include "compiler/checkpoint/gguf_model.h"
#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

class GgufCheckpoint final : public Checkpoint {
public:
  explicit GgufCheckpoint(GgufFile file) : file(std::move(file)) {}

  absl::Status load() {
    absl::StatusOr<const GgufArchitecture *> architecture = findGgufArchitecture(file);
    if (!architecture.ok())
      return architecture.status();
    absl::StatusOr<nlohmann::json> config = readGgufConfig(file, **architecture);
    if (!config.ok())
      return config.status();
    facts = std::move(*config);
    if (absl::Status status = placeTensors(**architecture); !status.ok())
      return status;
    absl::StatusOr<TokenizerData> read = readGgufTokenizer(file);
    if (!read.ok())
      return read.status();
    tokenizerData = std::move(*read);
    if (tokenizerData.bos() >= 0)
      facts["bos_token_id"] = tokenizerData.bos();
    if (tokenizerData.end_of_sequence_size() == 1)
      facts["eos_token_id"] = tokenizerData.end_of_sequence(0);
    else if (tokenizerData.end_of_sequence_size() > 1)
      facts["eos_token_id"] =
          std::vector<uint32_t>(tokenizerData.end_of_sequence().begin(), tokenizerData.end_of_sequence().end());
    headerDigest = XXH3_64bits(file.header().data(), file.header().size());
    return absl::OkStatus();
  }

  const std::vector<TensorInfo> &tensors() const override { return infos; }
  const nlohmann::json &config() const override { return facts; }
  const TokenizerData &tokenizer() const override { return tokenizerData; }
  uint64_t digest() const override { return headerDigest; }
  std::string sourceName() const override { return std::filesystem::path(file.path()).filename().string(); }

  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    const auto found = places.find(tensor.name);
    if (found == places.end())
      return absl::NotFoundError(cat(file.path(), ": no tensor '", tensor.name, "'"));
    const GgufTensor &record = file.tensors()[found->second];
    const GgufPlace &place = order[found->second];
    const TensorInfo &info = infos[found->second];
    const uint64_t rows = info.rows(), columns = info.columns();
    if (first > rows || count > rows - first || out.size() != count * columns)
      return absl::OutOfRangeError(cat(file.path(), ": rows ", first, " + ", count, " of '", tensor.name, "' into ",
                                       out.size(), " floats: the tensor has ", rows, " rows of ", columns));
    const uint8_t *data = file.tensorBytes(record).data();
    const uint64_t blocks = columns / record.storage->blockElements, rowBytes = blocks * record.storage->blockBytes;
    const bool vector = info.shape.size() < 2; // whose one row's elements `rows` orders
    if (place.rows.empty() || vector)
      record.storage->decode(data + first * rowBytes, count * blocks, out.data());
    else
      for (uint64_t i = 0; i < count; ++i)
        record.storage->decode(data + place.rows[first + i] * rowBytes, blocks, out.data() + i * columns);
    if (const std::vector<uint32_t> &elements = vector ? place.rows : place.columns; !elements.empty())
      for (uint64_t i = 0; i < count; ++i)
        reorder(out.subspan(i * columns, columns), elements);
    return absl::OkStatus();
  }

  void expect(const TensorInfo &tensor) const override {
    if (const auto found = places.find(tensor.name); found != places.end())
      file.expect(file.tensors()[found->second]);
  }

  void release(const TensorInfo &tensor) const override {
    if (const auto found = places.find(tensor.name); found != places.end())
      file.release(file.tensors()[found->second]);
  }

private:
  static void reorder(std::span<float> row, const std::vector<uint32_t> &from) {
    const std::vector<float> stored(row.begin(), row.end());
    for (size_t k = 0; k < row.size(); ++k)
      row[k] = stored[from[k]];
  }

  absl::Status placeTensors(const GgufArchitecture &architecture) {
    for (const GgufTensor &record : file.tensors()) {
      absl::StatusOr<GgufPlace> place = placeGgufTensor(file, record, architecture, facts);
      if (!place.ok())
        return place.status();
      if (!places.emplace(place->name, infos.size()).second)
        return absl::InvalidArgumentError(cat(file.path(), ": tensor '", printable(record.name), "' stands for '",
                                              place->name, "', which another tensor is already"));
      infos.push_back({.name = place->name,
                       .shape = record.shape,
                       .storage = std::string(record.storage->name),
                       .converted = place->converted});
      order.push_back(std::move(*place));
    }
    return absl::OkStatus();
  }

  GgufFile file;
  std::vector<TensorInfo> infos;                  // parallel to the file's records
  std::vector<GgufPlace> order;                   // the same
  std::unordered_map<std::string, size_t> places; // name to index in both
  nlohmann::json facts;
  TokenizerData tokenizerData;
  uint64_t headerDigest = 0;
};

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> openGgufCheckpoint(const std::string &path) {
  absl::StatusOr<GgufFile> file = GgufFile::open(path);
  if (!file.ok())
    return file.status();
  auto checkpoint = std::make_unique<GgufCheckpoint>(std::move(*file));
  if (absl::Status status = checkpoint->load(); !status.ok())
    return status;
  return checkpoint;
}

} // namespace ingot
