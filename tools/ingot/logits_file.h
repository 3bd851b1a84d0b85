// Reads the safetensors file that `ingot logits` writes, a row at a time: such a file may be larger than memory.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ingot::cli {

class LogitsFile {
public:
  // Whether the file's name says that it is one.
  static bool named(const std::string &path) { return path.ends_with(".safetensors"); }
  // InvalidArgument for anything but a tensor `logits`, F32 [tokens, vocabulary], that lies inside the file.
  static absl::StatusOr<std::unique_ptr<LogitsFile>> open(const std::string &path);

  uint64_t rows() const { return rowCount; }
  uint64_t vocabulary() const { return columns; }
  // `out` has room for a row.
  absl::Status read(uint64_t row, std::span<float> out);

private:
  std::string path;
  std::ifstream in;
  uint64_t rowCount = 0, columns = 0, begin = 0; // of the data, in the file
};

} // namespace ingot::cli
