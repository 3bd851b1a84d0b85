// A file that appears whole or not at all: written as FILE.partial-PID, synced, then renamed. Every output of the tools
// goes through this, so that a full disk or an interrupt never leaves something that looks complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ingot {

class AtomicFile {
public:
  // Opens the partial file beside `path`. InvalidArgument if `path` exists and is no regular file (renaming over a
  // device or a directory would destroy it), else the error of the operating system with the path.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> create(const std::string &path);
  // Discards what was written unless commit() succeeded.
  ~AtomicFile();
  AtomicFile(const AtomicFile &) = delete;
  AtomicFile &operator=(const AtomicFile &) = delete;

  // Appends; small pieces are gathered. ResourceExhausted when the disk or the quota is full.
  absl::Status append(std::span<const std::byte> bytes);
  absl::Status append(std::string_view text);
  // Zeros up to the next multiple of `alignment`.
  absl::Status alignTo(uint64_t alignment);
  // Overwrites bytes that were appended before.
  absl::Status overwrite(uint64_t offset, std::span<const std::byte> bytes);
  // Bytes appended so far.
  uint64_t offset() const { return flushed + gathered.size(); }
  // Syncs, closes and renames to the final name. No other call may follow.
  absl::Status commit();

private:
  AtomicFile(std::string path, std::string partial, int descriptor);
  absl::Status flush();
  absl::Status writeAll(std::span<const std::byte> bytes);
  absl::Status failure(const char *action, int error) const;

  std::string path, partial;
  int descriptor;
  uint64_t flushed = 0;
  std::string gathered;
};

} // namespace ingot
