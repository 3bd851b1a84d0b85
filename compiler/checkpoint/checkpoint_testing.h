// What the tests of the checkpoint readers and of the packer share: folders that vanish, golden files, and files
// written byte by byte.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace ingot::testing {

inline std::string goldenPath(std::string_view name) {
  return std::string(INGOT_SOURCE_DIR) + "/tests/checkpoint/" + std::string(name);
}

inline std::string readBytes(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void writeBytes(const std::string &path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

class TemporaryFolder {
public:
  TemporaryFolder() {
    // Thousands of small files: in memory where the system has such a folder.
    const std::filesystem::path memory = "/dev/shm";
    const bool usable = access(memory.c_str(), W_OK) == 0;
    std::string pattern = ((usable ? memory : std::filesystem::temp_directory_path()) / "ingot-test-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(folder, error);
  }
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;

  const std::string &path() const { return folder; }
  std::string path(std::string_view name) const { return folder + "/" + std::string(name); }
  std::string write(std::string_view name, std::string_view bytes) const {
    writeBytes(path(name), bytes);
    return path(name);
  }

private:
  std::string folder;
};

template <typename T> std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// A GGUF file in memory. Types are GGUF's numbers.
struct GgufBuilder {
  uint32_t version = 3;
  std::string entries, records, data;
  uint64_t entryCount = 0, recordCount = 0;

  static std::string text(std::string_view value) { return raw<uint64_t>(value.size()) + std::string(value); }

  void entry(std::string_view key, uint32_t type, std::string_view payload) {
    entries += text(key) + raw(type) + std::string(payload);
    ++entryCount;
  }
  void string(std::string_view key, std::string_view value) { entry(key, 8, text(value)); }
  void u32(std::string_view key, uint32_t value) { entry(key, 4, raw(value)); }
  void f32(std::string_view key, float value) { entry(key, 6, raw(value)); }
  void strings(std::string_view key, const std::vector<std::string> &values) {
    std::string payload = raw<uint32_t>(8) + raw<uint64_t>(values.size());
    for (const std::string &value : values)
      payload += text(value);
    entry(key, 9, payload);
  }
  template <typename T> void numbers(std::string_view key, uint32_t type, const std::vector<T> &values) {
    std::string payload = raw(type) + raw<uint64_t>(values.size());
    for (T value : values)
      payload += raw(value);
    entry(key, 9, payload);
  }
  // `extents` innermost first, as in the file.
  void tensor(std::string_view name, const std::vector<uint64_t> &extents, uint32_t type, uint64_t offset) {
    records += text(name) + raw<uint32_t>(static_cast<uint32_t>(extents.size()));
    for (uint64_t extent : extents)
      records += raw(extent);
    records += raw(type) + raw(offset);
    ++recordCount;
  }
  // An F32 tensor of zeros at the end of the data.
  void zeros(std::string_view name, const std::vector<uint64_t> &extents) {
    data.resize((data.size() + 31) / 32 * 32);
    tensor(name, extents, 0, data.size());
    uint64_t elements = 1;
    for (uint64_t extent : extents)
      elements *= extent;
    data.append(elements * 4, '\0');
  }
  std::string bytes() const {
    std::string file = "GGUF" + raw(version) + raw(recordCount) + raw(entryCount) + entries + records;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data;
  }

  // What every Llama file needs, and an embedding of 4 x 16.
  static GgufBuilder llama() {
    GgufBuilder builder;
    builder.string("general.architecture", "llama");
    builder.u32("llama.block_count", 1);
    builder.u32("llama.context_length", 64);
    builder.u32("llama.embedding_length", 16);
    builder.u32("llama.feed_forward_length", 32);
    builder.u32("llama.attention.head_count", 2);
    builder.f32("llama.attention.layer_norm_rms_epsilon", 1e-6f);
    builder.zeros("token_embd.weight", {16, 4});
    return builder;
  }
};

inline std::string safetensors(std::string_view header, std::string_view data) {
  return raw<uint64_t>(header.size()) + std::string(header) + std::string(data);
}

// A safetensors file in memory, tensor by tensor.
struct SafetensorsBuilder {
  std::string members, data;

  void add(std::string_view name, std::string_view dtype, const std::vector<uint64_t> &shape, std::string_view bytes) {
    std::string extents;
    for (uint64_t extent : shape)
      extents += (extents.empty() ? "" : ",") + std::to_string(extent);
    members += std::string(members.empty() ? "" : ",") + "\"" + std::string(name) + "\":{\"dtype\":\"" +
               std::string(dtype) + "\",\"shape\":[" + extents + "],\"data_offsets\":[" + std::to_string(data.size()) +
               "," + std::to_string(data.size() + bytes.size()) + "]}";
    data += bytes;
  }
  // A tensor whose every element is `value`.
  template <typename T>
  void fill(std::string_view name, std::string_view dtype, const std::vector<uint64_t> &shape, T value) {
    std::string bytes;
    uint64_t count = 1;
    for (uint64_t extent : shape)
      count *= extent;
    for (uint64_t i = 0; i < count; ++i)
      bytes += raw(value);
    add(name, dtype, shape, bytes);
  }
  std::string bytes() const { return safetensors("{" + members + "}", data); }
};

} // namespace ingot::testing
