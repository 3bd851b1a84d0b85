// One safetensors file: u64 header length, a JSON header that gives each tensor's dtype, shape and byte range, then the
// data. The ranges must tile the data exactly: the format forbids holes and overlaps, so either is damage or an attack.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "compiler/checkpoint/mapped_file.h"
#include "compiler/checkpoint/storage.h"

namespace ingot {

struct SafetensorsTensor {
  std::string name;
  std::vector<uint64_t> shape;
  const StorageType *storage;
  uint64_t offset; // from the start of the file
  uint64_t bytes;
};

class SafetensorsFile {
public:
  static absl::StatusOr<SafetensorsFile> open(const std::string &path);

  const std::string &path() const { return filePath; }
  // In the order of the data.
  const std::vector<SafetensorsTensor> &tensors() const { return records; }
  const uint8_t *data(const SafetensorsTensor &tensor) const { return file.bytes().data() + tensor.offset; }
  void expect(const SafetensorsTensor &tensor) const { file.expect(tensor.offset, tensor.bytes); }
  void release(const SafetensorsTensor &tensor) const { file.release(tensor.offset, tensor.bytes); }
  std::span<const uint8_t> header() const { return file.bytes().first(headerBytes); }

private:
  SafetensorsFile(std::string path, MappedFile file) : filePath(std::move(path)), file(std::move(file)) {}
  absl::Status parse();

  std::string filePath;
  MappedFile file;
  std::vector<SafetensorsTensor> records;
  uint64_t headerBytes = 0;
};

} // namespace ingot
