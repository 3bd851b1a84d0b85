// A Hugging Face folder: config.json, safetensors in one file or in shards with an index, and the tokenizer's files. Or
// one of Mistral's own: params.json, and the safetensors called `consolidated`.
#include <algorithm>
#include <filesystem>
#include <map>
#include <unordered_map>

#include <xxhash.h>

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/quantized_folder.h"
#include "compiler/checkpoint/readers.h"
#include "compiler/checkpoint/safetensors_file.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr uint64_t kMaxIndexBytes = 100 << 20;

class FolderCheckpoint final : public Checkpoint {
public:
  explicit FolderCheckpoint(std::string folder) : folder(std::move(folder)) {}

  absl::Status load() {
    if (absl::Status status = readConfig(); !status.ok())
      return status;
    if (absl::Status status = openFiles(); !status.ok())
      return status;
    absl::StatusOr<TokenizerData> read = readFolderTokenizer(folder, facts);
    if (!read.ok())
      return read.status();
    tokenizerData = std::move(*read);
    return absl::OkStatus();
  }

  const std::vector<TensorInfo> &tensors() const override { return infos; }
  const nlohmann::json &config() const override { return facts; }
  const TokenizerData &tokenizer() const override { return tokenizerData; }
  uint64_t digest() const override { return headerDigest; }
  std::string sourceName() const override {
    const std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
    return (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
  }

  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    absl::StatusOr<const ShownTensor *> known = locate(tensor, first, count);
    if (!known.ok())
      return known.status();
    const ShownTensor &found = **known;
    const uint64_t columns = found.info.columns();
    if (out.size() != count * columns)
      return absl::OutOfRangeError(
          cat(folder, ": ", count, " rows of '", tensor.name, "' into ", out.size(), " floats: a row has ", columns));
    if (found.linear) {
      found.linear->dequantize(first, count, out);
    } else {
      const SafetensorsTensor &record = *found.parts.front().record;
      record.storage->decode(found.parts.front().data() + first * columns * record.storage->blockBytes, count * columns,
                             out.data());
    }
    return absl::OkStatus();
  }

  absl::Status readQuantized(const TensorInfo &tensor, uint64_t first, uint64_t count,
                             QuantizedRows &out) const override {
    absl::StatusOr<const ShownTensor *> known = locate(tensor, first, count);
    if (!known.ok())
      return known.status();
    if (!(*known)->linear)
      return Checkpoint::readQuantized(tensor, first, count, out);
    (*known)->linear->read(first, count, out);
    return absl::OkStatus();
  }

  std::span<const uint8_t> bf16Rows(const TensorInfo &tensor, uint64_t first, uint64_t count) const override {
    absl::StatusOr<const ShownTensor *> known = locate(tensor, first, count);
    if (!known.ok() || (*known)->linear || (*known)->info.storage != "BF16")
      return {};
    const uint64_t rowBytes = (*known)->info.columns() * sizeof(uint16_t);
    return {(*known)->parts.front().data() + first * rowBytes, count * rowBytes};
  }

  void expect(const TensorInfo &tensor) const override {
    if (const auto found = places.find(tensor.name); found != places.end())
      for (const FileTensor &part : shown[found->second].parts)
        part.file->expect(*part.record);
  }

  void release(const TensorInfo &tensor) const override {
    if (const auto found = places.find(tensor.name); found != places.end())
      for (const FileTensor &part : shown[found->second].parts)
        part.file->release(*part.record);
  }

private:
  // The tensor, once rows [first, first + count) are known to be in it.
  absl::StatusOr<const ShownTensor *> locate(const TensorInfo &tensor, uint64_t first, uint64_t count) const {
    const auto found = places.find(tensor.name);
    if (found == places.end())
      return absl::NotFoundError(cat(folder, ": no tensor '", tensor.name, "'"));
    const ShownTensor &known = shown[found->second];
    if (first > known.info.rows() || count > known.info.rows() - first)
      return absl::OutOfRangeError(cat(folder, ": rows ", first, " + ", count, " of '", tensor.name,
                                       "': the tensor has ", known.info.rows(), " rows of ", known.info.columns()));
    return &known;
  }

  absl::Status readConfig() {
    std::error_code error;
    const bool own = !std::filesystem::exists(cat(folder, "/config.json"), error) &&
                     std::filesystem::exists(cat(folder, "/params.json"), error);
    const std::string path = cat(folder, own ? "/params.json" : "/config.json");
    absl::StatusOr<std::string> text = readWholeFile(path, kMaxConfigBytes);
    if (!text.ok())
      return absl::Status(text.status().code(), cat(text.status().message(),
                                                    "; a Hugging Face folder has a config.json, one of Mistral's own a "
                                                    "params.json (or give a GGUF file)"));
    absl::StatusOr<nlohmann::json> parsed = parseJson(path, *text);
    if (parsed.ok() && own)
      parsed = readMistralParams(path, *parsed);
    if (!parsed.ok())
      return parsed.status();
    if (!parsed->is_object())
      return absl::InvalidArgumentError(cat(path, ": expected a JSON object"));
    facts = std::move(*parsed);
    // Newer files keep all RoPE facts in one object; the keys that every older file has are filled from it.
    if (const auto rope = facts.find("rope_parameters"); rope != facts.end() && rope->is_object()) {
      const nlohmann::json &parameters = *rope; // adding keys to an object leaves the others in place
      if (parameters.contains("rope_theta") && !facts.contains("rope_theta"))
        facts["rope_theta"] = parameters["rope_theta"];
      if (parameters.contains("rope_type") && parameters["rope_type"] != "default" && !facts.contains("rope_scaling"))
        facts["rope_scaling"] = parameters;
    }
    headers = std::move(*text);
    return absl::OkStatus();
  }

  absl::Status openFiles() {
    std::error_code error;
    for (const char *stem : {"/model", "/consolidated"}) {
      const std::string single = cat(folder, stem, ".safetensors");
      const std::string index = cat(single, ".index.json");
      if (!files.empty())
        break;
      if (std::filesystem::exists(single, error)) {
        if (absl::Status status = addFile(single); !status.ok())
          return status;
      } else if (std::filesystem::exists(index, error)) {
        if (absl::Status status = openShards(index); !status.ok())
          return status;
      }
    }
    if (files.empty())
      return absl::NotFoundError(cat(folder, ": expected model.safetensors or model.safetensors.index.json (or, of "
                                             "Mistral's own, consolidated.safetensors)"));
    headerDigest = XXH3_64bits(headers.data(), headers.size());
    headers = {};
    return showTensors();
  }

  // From the files' tensors to those of the checkpoint.
  absl::Status showTensors() {
    absl::StatusOr<std::optional<QuantizationConfig>> quantization =
        readQuantizationConfig(cat(folder, "/config.json"), facts);
    if (!quantization.ok())
      return quantization.status();
    std::vector<FileTensor> tensors;
    for (const SafetensorsFile &file : files)
      for (const SafetensorsTensor &record : file.tensors())
        tensors.push_back({&file, &record});
    absl::StatusOr<std::vector<ShownTensor>> folded = foldQuantizedLinears(tensors, *quantization);
    if (!folded.ok())
      return folded.status();
    shown = std::move(*folded);
    for (size_t i = 0; i < shown.size(); ++i) {
      places.emplace(shown[i].info.name, i);
      infos.push_back(shown[i].info);
    }
    return absl::OkStatus();
  }

  absl::Status openShards(const std::string &index) {
    absl::StatusOr<std::string> text = readWholeFile(index, kMaxIndexBytes);
    if (!text.ok())
      return text.status();
    absl::StatusOr<nlohmann::json> parsed = parseJson(index, *text);
    if (!parsed.ok())
      return parsed.status();
    const auto map = parsed->is_object() ? parsed->find("weight_map") : parsed->end();
    if (!parsed->is_object() || map == parsed->end() || !map->is_object() || map->empty())
      return absl::InvalidArgumentError(cat(index, ": expected an object 'weight_map' from tensor to file"));
    std::map<std::string, std::vector<std::string>> shards; // by file name, so that the order is the same every time
    for (const auto &[tensor, file] : map->items()) {
      if (!file.is_string())
        return absl::InvalidArgumentError(cat(index, ": the file of tensor '", printable(tensor), "' is not a name"));
      const std::string &name = file.get_ref<const std::string &>();
      if (name.empty() || name == ".." || name.find_first_of(std::string("/\\\0", 3)) != std::string::npos)
        return absl::InvalidArgumentError(cat(index, ": tensor '", printable(tensor), "' is said to be in '",
                                              printable(name), "', expected a file name in the same folder"));
      shards[name].push_back(tensor);
    }
    for (const auto &[name, expected] : shards) {
      if (absl::Status status = addFile(cat(folder, "/", name)); !status.ok())
        return status;
      for (const std::string &tensor : expected) {
        const auto found = fileOf.find(tensor);
        if (found == fileOf.end() || found->second != files.size() - 1)
          return absl::InvalidArgumentError(
              cat(index, ": tensor '", printable(tensor), "' should be in ", name, ", it is not there"));
      }
      if (files.back().tensors().size() != expected.size())
        return absl::InvalidArgumentError(cat(index, ": ", name, " has ", files.back().tensors().size(),
                                              " tensors, the index knows ", expected.size(), " of them"));
    }
    return absl::OkStatus();
  }

  absl::Status addFile(const std::string &path) {
    absl::StatusOr<SafetensorsFile> opened = SafetensorsFile::open(path);
    if (!opened.ok())
      return opened.status();
    headers.append(reinterpret_cast<const char *>(opened->header().data()), opened->header().size());
    files.push_back(std::move(*opened));
    for (const SafetensorsTensor &record : files.back().tensors())
      if (!fileOf.emplace(record.name, files.size() - 1).second)
        return absl::InvalidArgumentError(
            cat(path, ": tensor '", printable(record.name), "' is in another file of the folder too"));
    return absl::OkStatus();
  }

  std::string folder;
  std::string headers; // what the digest is made of: config.json and each file's header
  std::vector<SafetensorsFile> files;
  std::unordered_map<std::string, size_t> fileOf; // each tensor of the files
  std::vector<ShownTensor> shown;
  std::vector<TensorInfo> infos;                  // of `shown`
  std::unordered_map<std::string, size_t> places; // name to index in `shown`
  nlohmann::json facts;
  TokenizerData tokenizerData;
  uint64_t headerDigest = 0;
};

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> openFolderCheckpoint(const std::string &folder) {
  auto checkpoint = std::make_unique<FolderCheckpoint>(folder);
  if (absl::Status status = checkpoint->load(); !status.ok())
    return status;
  return checkpoint;
}

} // namespace ingot
