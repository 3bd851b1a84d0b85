// A read-only memory map of a whole file. Checkpoints are larger than memory allows to copy; pages of tensors that have
// been read are handed back with release().
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ingot {

class MappedFile {
public:
  static absl::StatusOr<MappedFile> open(const std::string &path);
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {data, size}; }
  // Asks the system to fetch these bytes from the disk while others are read.
  void expect(uint64_t offset, uint64_t count) const;
  // Tells the system that these bytes are not needed soon; reading them again is still right, only slower.
  void release(uint64_t offset, uint64_t count) const;

private:
  MappedFile() = default;
  const uint8_t *data = nullptr;
  size_t size = 0;
};

// The whole file as a string; InvalidArgument when it is larger than `limit` bytes, NotFound when it is not there.
absl::StatusOr<std::string> readWholeFile(const std::string &path, uint64_t limit);

} // namespace ingot
