// The GGUF container, versions 2 and 3, little-endian: metadata and tensor records over a memory map. Nothing here
// knows what a model is. Everything is checked against the file's end before it is used; arrays are walked once when
// the file is opened and stay in the map, so a record that claims 2^60 elements costs nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "compiler/checkpoint/mapped_file.h"
#include "compiler/checkpoint/storage.h"

namespace ingot {

enum class GgufType : uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12,
};

// A metadata value; views into the map. For an array `element` is the element type and `payload` its `count` elements.
struct GgufValue {
  GgufType type = GgufType::U8;
  GgufType element = GgufType::U8;
  uint64_t count = 1;
  std::span<const uint8_t> payload;
};

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> shape; // outermost first (the file has them innermost first)
  const StorageType *storage;
  uint64_t offset; // from the start of the file
  uint64_t bytes;
};

class GgufFile {
public:
  static absl::StatusOr<GgufFile> open(const std::string &path);

  const std::string &path() const { return filePath; }
  const std::vector<GgufTensor> &tensors() const { return records; }
  std::span<const uint8_t> tensorBytes(const GgufTensor &tensor) const {
    return file.bytes().subspan(tensor.offset, tensor.bytes);
  }
  void expect(const GgufTensor &tensor) const { file.expect(tensor.offset, tensor.bytes); }
  void release(const GgufTensor &tensor) const { file.release(tensor.offset, tensor.bytes); }
  // All bytes before the first tensor's data.
  std::span<const uint8_t> header() const { return file.bytes().first(dataStart); }

  const GgufValue *find(std::string_view key) const;
  // Null optional when the key is absent; an error when it has another type. Integers of any width are accepted for
  // `integer`; `real` accepts both floats. A one-element view is given for a scalar by `integers`.
  absl::StatusOr<std::optional<int64_t>> integer(std::string_view key) const;
  absl::StatusOr<std::optional<double>> real(std::string_view key) const;
  absl::StatusOr<std::optional<bool>> boolean(std::string_view key) const;
  // Valid UTF-8, or an error.
  absl::StatusOr<std::optional<std::string>> text(std::string_view key) const;
  absl::StatusOr<std::optional<std::vector<int64_t>>> integers(std::string_view key) const;
  absl::StatusOr<std::optional<std::vector<float>>> floats(std::string_view key) const;
  // Strings as the file has them, any bytes.
  absl::StatusOr<std::optional<std::vector<std::string_view>>> strings(std::string_view key) const;

private:
  explicit GgufFile(std::string path, MappedFile file) : filePath(std::move(path)), file(std::move(file)) {}
  absl::Status parse();
  absl::Status wrongType(std::string_view key, const GgufValue &value, std::string_view expected) const;

  std::string filePath;
  MappedFile file;
  std::unordered_map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> records;
  uint64_t dataStart = 0;
};

// `bytes` made fit for a one-line message: escaped, and cut when long.
std::string printable(std::string_view bytes);
bool isValidUtf8(std::string_view bytes);

} // namespace ingot
