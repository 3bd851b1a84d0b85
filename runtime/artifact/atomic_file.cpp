#include "runtime/artifact/atomic_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace ingot {
namespace {

constexpr size_t kGather = 1 << 20;

absl::StatusCode codeOf(int error) {
  switch (error) {
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
    return absl::StatusCode::kResourceExhausted;
  case ENOENT:
    return absl::StatusCode::kNotFound;
  case EACCES:
  case EPERM:
  case EROFS:
    return absl::StatusCode::kPermissionDenied;
  default:
    return absl::StatusCode::kInternal;
  }
}

const char *adviceFor(int error) {
  switch (error) {
  case ENOSPC:
  case EDQUOT:
    return "; free some space or write to another disk";
  case EFBIG:
    return "; the file size limit of this process or file system is reached";
  case ENOENT:
    return "; make the folder first";
  case EACCES:
  case EPERM:
  case EROFS:
    return "; choose a folder that you may write to";
  default:
    return "";
  }
}

} // namespace

AtomicFile::AtomicFile(std::string path, std::string partial, int descriptor)
    : path(std::move(path)), partial(std::move(partial)), descriptor(descriptor) {}

absl::Status AtomicFile::failure(const char *action, int error) const {
  return {codeOf(error), absl::StrCat(path, ": ", action, " failed after ", flushed, " bytes: ", std::strerror(error),
                                      adviceFor(error))};
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::create(const std::string &path) {
  struct stat info = {};
  if (path.empty())
    return absl::InvalidArgumentError("expected the name of an output file, got an empty one");
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a regular file or a new name to write to, got ",
                                                   S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe",
                                                   "; give another name"));
  std::string partial = absl::StrCat(path, ".partial-", ::getpid());
  int descriptor = ::open(partial.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor < 0) {
    int error = errno;
    return absl::Status(codeOf(error),
                        absl::StrCat(partial, ": cannot be created: ", std::strerror(error), adviceFor(error)));
  }
  return std::unique_ptr<AtomicFile>(new AtomicFile(path, std::move(partial), descriptor));
}

AtomicFile::~AtomicFile() {
  if (descriptor < 0)
    return;
  ::close(descriptor);
  ::unlink(partial.c_str());
}

absl::Status AtomicFile::writeAll(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return failure("writing", errno);
    if (written == 0)
      return failure("writing", ENOSPC);
    flushed += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::flush() {
  absl::Status status = writeAll(std::as_bytes(std::span(gathered)));
  gathered.clear();
  return status;
}

absl::Status AtomicFile::append(std::span<const std::byte> bytes) {
  if (gathered.size() + bytes.size() > kGather) {
    if (absl::Status status = flush(); !status.ok())
      return status;
    if (bytes.size() >= kGather)
      return writeAll(bytes);
  }
  gathered.append(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  return absl::OkStatus();
}

absl::Status AtomicFile::append(std::string_view text) { return append(std::as_bytes(std::span(text))); }

absl::Status AtomicFile::alignTo(uint64_t alignment) {
  uint64_t padding = (alignment - offset() % alignment) % alignment;
  return append(std::string(padding, '\0'));
}

absl::Status AtomicFile::overwrite(uint64_t offset, std::span<const std::byte> bytes) {
  if (absl::Status status = flush(); !status.ok())
    return status;
  while (!bytes.empty()) {
    ssize_t written = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return failure("writing", written < 0 ? errno : ENOSPC);
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::commit() {
  if (absl::Status status = flush(); !status.ok())
    return status;
  if (::fsync(descriptor) != 0)
    return failure("syncing", errno);
  int closing = descriptor;
  descriptor = -1;
  if (::close(closing) != 0) {
    int error = errno;
    ::unlink(partial.c_str());
    return failure("closing", error);
  }
  if (::rename(partial.c_str(), path.c_str()) != 0) {
    int error = errno;
    ::unlink(partial.c_str());
    return failure("renaming the finished file", error);
  }
  // The rename is durable once the folder is; a file system that cannot sync a folder loses nothing by it.
  std::string folder = std::filesystem::path(path).parent_path().string();
  int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
  return absl::OkStatus();
}

} // namespace ingot
