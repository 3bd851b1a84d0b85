// What the fuzzers share: the input as a file that readers can open by name, and pieces of an input with several files.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "compiler/checkpoint/checkpoint.h"

namespace ingot::fuzz {

// A file without a name in any folder.
class MemoryFile {
public:
  explicit MemoryFile(std::span<const uint8_t> bytes) : descriptor(memfd_create("fuzz", 0)) {
    if (descriptor < 0 || write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      std::abort();
  }
  ~MemoryFile() { close(descriptor); }
  MemoryFile(const MemoryFile &) = delete;
  MemoryFile &operator=(const MemoryFile &) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor); }

private:
  int descriptor;
};

// One folder for the whole run; it goes when the process ends.
class Folder {
public:
  Folder() {
    // Thousands of files a second: in memory where the system has such a folder.
    const std::filesystem::path memory = "/dev/shm";
    const bool usable = access(memory.c_str(), W_OK) == 0;
    std::string pattern = ((usable ? memory : std::filesystem::temp_directory_path()) / "ingot-fuzz-XXXXXX").string();
    if (!mkdtemp(pattern.data()))
      std::abort();
    name = pattern;
  }
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(name, error);
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;

  const std::string &path() const { return name; }
  void put(std::string_view file, std::string_view bytes) const {
    const int descriptor =
        open((name + "/" + std::string(file)).c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (descriptor < 0 || write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      std::abort();
    close(descriptor);
  }
  void remove(std::string_view file) const { unlink((name + "/" + std::string(file)).c_str()); }

private:
  std::string name;
};

inline std::string_view textOf(std::span<const uint8_t> input) {
  return {reinterpret_cast<const char *>(input.data()), input.size()};
}

// Takes what is before the next zero byte off the front.
inline std::string_view takePiece(std::string_view &input) {
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view piece = input.substr(0, end);
  input.remove_prefix(std::min(end + 1, input.size()));
  return piece;
}

// Every number of an opened checkpoint. Its tensors cannot be larger than its bytes allow.
inline void readEverything(const Checkpoint &checkpoint) {
  for (const TensorInfo &tensor : checkpoint.tensors()) {
    std::vector<float> values(tensor.rows() * tensor.columns());
    if (!checkpoint.readRows(tensor, 0, tensor.rows(), values).ok())
      std::abort();
    QuantizedRows rows;
    if (tensor.quantization && !checkpoint.readQuantized(tensor, 0, tensor.rows(), rows).ok())
      std::abort();
    checkpoint.bf16Rows(tensor, 0, tensor.rows());
  }
  if (checkpoint.config().dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).empty())
    std::abort();
}

} // namespace ingot::fuzz
