// Memory maps and whole-file reads for the checkpoint readers.
#include "compiler/checkpoint/mapped_file.h"
#include "compiler/checkpoint/message.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace ingot {
namespace {

absl::Status systemError(const std::string &path, std::string_view what) {
  const int error = errno;
  return absl::ErrnoToStatus(error, cat(path, ": cannot ", what));
}

// An open regular file's descriptor, closed on every path.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
};

absl::StatusOr<uint64_t> openRegular(const std::string &path, Descriptor &file) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0)
    return systemError(path, "open");
  struct stat facts;
  if (::fstat(file.fd, &facts) != 0)
    return systemError(path, "stat");
  if (!S_ISREG(facts.st_mode))
    return absl::InvalidArgumentError(cat(path, ": expected a regular file"));
  return static_cast<uint64_t>(facts.st_size);
}

} // namespace

absl::StatusOr<MappedFile> MappedFile::open(const std::string &path) {
  Descriptor file;
  absl::StatusOr<uint64_t> size = openRegular(path, file);
  if (!size.ok())
    return size.status();
  MappedFile mapped;
  if (*size == 0)
    return mapped;
  void *data = ::mmap(nullptr, *size, PROT_READ, MAP_SHARED, file.fd, 0);
  if (data == MAP_FAILED)
    return systemError(path, "map");
  mapped.data = static_cast<const uint8_t *>(data);
  mapped.size = *size;
  return mapped;
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : data(std::exchange(other.data, nullptr)), size(std::exchange(other.size, 0)) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(data, other.data);
  std::swap(size, other.size);
  return *this;
}

MappedFile::~MappedFile() {
  if (data)
    ::munmap(const_cast<uint8_t *>(data), size);
}

void MappedFile::expect(uint64_t offset, uint64_t count) const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)), first = offset / page * page;
  if (data && offset + count <= size && count > 0)
    ::madvise(const_cast<uint8_t *>(data) + first, offset + count - first, MADV_WILLNEED);
}

void MappedFile::release(uint64_t offset, uint64_t count) const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t first = (offset + page - 1) / page * page, last = (offset + count) / page * page;
  if (data && offset + count <= size && first < last)
    ::madvise(const_cast<uint8_t *>(data) + first, last - first, MADV_DONTNEED);
}

absl::StatusOr<std::string> readWholeFile(const std::string &path, uint64_t limit) {
  Descriptor file;
  absl::StatusOr<uint64_t> size = openRegular(path, file);
  if (!size.ok())
    return size.status();
  if (*size > limit)
    return absl::InvalidArgumentError(cat(path, ": expected at most ", limit, " bytes, the file has ", *size));
  std::string text(*size, '\0');
  uint64_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.fd, text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return systemError(path, "read");
    if (got == 0)
      return absl::DataLossError(cat(path, ": expected ", text.size(), " bytes, the file ended after ", done));
    done += static_cast<uint64_t>(got);
  }
  return text;
}

} // namespace ingot
