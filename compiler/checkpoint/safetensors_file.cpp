// Parses and checks a safetensors header.
#include "compiler/checkpoint/safetensors_file.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "nlohmann/json.hpp"

#include "compiler/checkpoint/gguf_file.h"
#include "compiler/checkpoint/message.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000; // the format's own limit
constexpr int kMaxDepth = 3;                      // {tensor: {shape: [n]}}

struct Header {
  nlohmann::json root;
  std::string duplicate; // a tensor named twice; a JSON object would silently keep the last
  bool tooDeep = false;
};

Header parseHeader(std::string_view text) {
  Header header;
  std::unordered_set<std::string> names;
  const nlohmann::json::parser_callback_t watch = [&](int depth, nlohmann::json::parse_event_t event,
                                                      nlohmann::json &parsed) {
    header.tooDeep |= depth > kMaxDepth;
    if (event == nlohmann::json::parse_event_t::key && depth == 1 && parsed.is_string() &&
        !names.insert(parsed.get_ref<const std::string &>()).second)
      header.duplicate = parsed.get_ref<const std::string &>();
    return !header.tooDeep;
  };
  header.root = nlohmann::json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  return header;
}

// An array of unsigned integers of at most `limit` entries.
bool readNumbers(const nlohmann::json &object, const char *key, size_t limit, std::vector<uint64_t> &out) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array() || found->size() > limit)
    return false;
  for (const nlohmann::json &number : *found) {
    if (!number.is_number_unsigned())
      return false;
    out.push_back(number.get<uint64_t>());
  }
  return true;
}

} // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  absl::StatusOr<MappedFile> file = MappedFile::open(path);
  if (!file.ok())
    return file.status();
  SafetensorsFile result(path, std::move(*file));
  if (absl::Status status = result.parse(); !status.ok())
    return status;
  return result;
}

absl::Status SafetensorsFile::parse() {
  const std::span<const uint8_t> bytes = file.bytes();
  if (bytes.size() < 8)
    return absl::DataLossError(cat(filePath, ": a safetensors file begins with an 8-byte length, this one has ",
                                   bytes.size(), " bytes; it is truncated, fetch it again"));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kMaxHeaderBytes)
    return absl::InvalidArgumentError(cat(filePath, ": the header claims ", length, " bytes, expected at most ",
                                          kMaxHeaderBytes, "; this is not a safetensors file"));
  if (length > bytes.size() - 8)
    return absl::DataLossError(cat(filePath, ": the header needs ", length, " bytes, the file has ", bytes.size() - 8,
                                   " after its length; it is truncated, fetch it again"));
  headerBytes = 8 + length;
  Header header = parseHeader({reinterpret_cast<const char *>(bytes.data()) + 8, length});
  if (header.tooDeep || !header.root.is_object())
    return absl::InvalidArgumentError(
        cat(filePath, ": the header of ", length, " bytes is not a JSON object of tensors; the file is damaged"));
  if (!header.duplicate.empty())
    return absl::InvalidArgumentError(
        cat(filePath, ": tensor '", printable(header.duplicate), "' appears twice in the header"));

  const uint64_t dataBytes = bytes.size() - headerBytes;
  for (const auto &[name, entry] : header.root.items()) {
    if (name == "__metadata__")
      continue;
    const std::string where = cat(filePath, ": tensor '", printable(name), "'");
    SafetensorsTensor tensor;
    tensor.name = name;
    std::vector<uint64_t> range;
    const auto dtype = entry.is_object() ? entry.find("dtype") : entry.end();
    if (!entry.is_object() || dtype == entry.end() || !dtype->is_string() ||
        !readNumbers(entry, "shape", 8, tensor.shape) || !readNumbers(entry, "data_offsets", 2, range) ||
        range.size() != 2)
      return absl::InvalidArgumentError(
          cat(where, " has no proper dtype, shape and data_offsets in the header; the file is damaged"));
    const std::string &type = dtype->get_ref<const std::string &>();
    tensor.storage = findSafetensorsStorage(type);
    if (!tensor.storage)
      return absl::UnimplementedError(cat(where, " has dtype ", printable(type),
                                          ", which is not read; F32, F16, BF16, F8_E4M3, I8, U8, I32 and I64 are"));
    uint64_t size = tensor.storage->blockBytes;
    for (uint64_t extent : tensor.shape)
      if (extent == 0 || __builtin_mul_overflow(size, extent, &size))
        return absl::InvalidArgumentError(cat(where, " has the extent ", extent, ", which cannot be"));
    if (range[0] > range[1] || range[1] > dataBytes)
      return absl::DataLossError(cat(where, " lies at data offsets ", range[0], " to ", range[1], ", the file has ",
                                     dataBytes, " bytes of data; it is truncated or damaged, fetch it again"));
    if (range[1] - range[0] != size)
      return absl::InvalidArgumentError(
          cat(where, " should have ", size, " bytes by its dtype and shape, its offsets give ", range[1] - range[0]));
    tensor.offset = headerBytes + range[0];
    tensor.bytes = size;
    records.push_back(std::move(tensor));
  }
  std::sort(records.begin(), records.end(),
            [](const SafetensorsTensor &a, const SafetensorsTensor &b) { return a.offset < b.offset; });
  uint64_t end = headerBytes;
  for (const SafetensorsTensor &tensor : records) {
    if (tensor.offset != end)
      return absl::InvalidArgumentError(
          cat(filePath, ": tensor '", printable(tensor.name), "' begins at data offset ", tensor.offset - headerBytes,
              tensor.offset < end ? ", inside the tensor before it, which ends at " : ", after a hole that begins at ",
              end - headerBytes));
    end += tensor.bytes;
  }
  if (end != bytes.size())
    return absl::InvalidArgumentError(
        cat(filePath, ": ", bytes.size() - end, " bytes after the last tensor belong to none; the file is damaged"));
  return absl::OkStatus();
}

} // namespace ingot
