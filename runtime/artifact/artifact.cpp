// The reader trusts nothing: the header, the contents, every section's checksum and every byte between the sections are
// checked on opening, so that any flipped byte outside the weights is found at once and the weights' when they are
// read.
#include "runtime/artifact/artifact.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <google/protobuf/stubs/logging.h>
#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "runtime/artifact/bundle.h"
#include "runtime/artifact/file_format.h"
#include "runtime/artifact/manifest_check.h"

namespace ingot {
namespace {

using format::ContentsEntry;
using format::Section;

constexpr const char *kRecompile = "; compile or copy the model again";

bool allZero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte value) { return value == std::byte(0); });
}

const char *sectionName(uint32_t kind) {
  return kind >= 1 && kind <= format::kSections ? format::kSectionNames[kind] : "unknown";
}

} // namespace

struct Artifact::Impl {
  std::string path;
  std::span<const std::byte> file;
  std::vector<ContentsEntry> contents; // ordered by offset
  std::vector<ArtifactSection> sections;
  Manifest manifest;
  TokenizerData tokenizer;
  std::vector<BundleEntry> code;

  ~Impl() {
    if (!file.empty())
      ::munmap(const_cast<std::byte *>(file.data()), file.size());
  }

  template <typename... Parts> absl::Status damaged(const Parts &...parts) const {
    return absl::DataLossError(absl::StrCat(path, ": ", parts..., kRecompile));
  }
  std::span<const std::byte> section(Section kind) const {
    for (const ContentsEntry &entry : contents)
      if (entry.kind == static_cast<uint32_t>(kind))
        return file.subspan(entry.offset, entry.bytes);
    return {};
  }
  std::vector<std::string> targets() const {
    std::vector<std::string> names;
    for (const TargetCode &target : manifest.targets())
      names.push_back(target.target());
    return names;
  }
  absl::Status map();
  absl::Status readContents();
  absl::Status checkContents(uint64_t contentsOffset) const;
  absl::Status checkSections() const;
  absl::Status parseSections();
};

absl::Status Artifact::Impl::map() {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    int error = errno;
    absl::StatusCode code = error == ENOENT ? absl::StatusCode::kNotFound : absl::StatusCode::kPermissionDenied;
    return {code, absl::StrCat(path, ": cannot be opened: ", std::strerror(error),
                               "; give the name of a file that ingotc wrote")};
  }
  struct stat info = {};
  absl::Status status;
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    status = absl::InvalidArgumentError(absl::StrCat(path, ": expected a .ingot file, got something that is no regular "
                                                           "file; give the name of a file that ingotc wrote"));
  } else if (static_cast<uint64_t>(info.st_size) < sizeof(format::Header)) {
    status = damaged("expected at least the ", sizeof(format::Header), " bytes of a header, got a file of ",
                     info.st_size, " bytes");
  } else {
    size_t bytes = static_cast<size_t>(info.st_size);
    void *address = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED)
      status = absl::InternalError(absl::StrCat(path, ": cannot be mapped: ", std::strerror(errno)));
    else
      file = {static_cast<const std::byte *>(address), bytes};
  }
  ::close(descriptor);
  return status;
}

absl::Status Artifact::Impl::readContents() {
  format::Header header;
  std::memcpy(&header, file.data(), sizeof header);
  if (header.magic != format::kMagic)
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected the magic of a .ingot file, got other bytes; compile a checkpoint with `ingotc "
                           "MODEL -o FILE` and give that file"));
  if (header.version != kArtifactVersion)
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": expected format version ", kArtifactVersion, ", got ", header.version, "; ",
                     header.version > kArtifactVersion ? "the file is newer than this program: update ingot"
                                                       : "the file is older than this program: compile it again"));
  if (header.fileBytes != file.size())
    return damaged("expected ", header.fileBytes, " bytes, got ", file.size(),
                   header.fileBytes > file.size() ? " (the tail is cut off)" : " (something follows the end)");
  if (!std::ranges::all_of(header.zeros, [](uint8_t value) { return value == 0; }))
    return damaged("expected zeros at the end of the header, got other bytes");
  // Written without sums that could overflow: the contents are the last bytes of the file.
  uint64_t contentsBytes = uint64_t(header.sectionCount) * sizeof(ContentsEntry);
  if (header.sectionCount > format::kSections || contentsBytes > file.size() - sizeof header ||
      header.contentsOffset != file.size() - contentsBytes)
    return damaged("expected a table of contents at the end of the file, got ", header.sectionCount,
                   " sections listed at offset ", header.contentsOffset);
  std::span<const std::byte> table = file.subspan(header.contentsOffset);
  if (XXH3_64bits(table.data(), table.size()) != header.contentsChecksum)
    return damaged("the table of contents does not match its checksum");
  contents.resize(header.sectionCount);
  std::memcpy(contents.data(), table.data(), table.size());
  std::ranges::sort(contents, {}, &ContentsEntry::offset);
  return checkContents(header.contentsOffset);
}

absl::Status Artifact::Impl::checkContents(uint64_t contentsOffset) const {
  uint32_t seen = 0;
  for (const ContentsEntry &entry : contents) {
    if (entry.kind < 1 || entry.kind > format::kSections || entry.zero != 0)
      return damaged("expected sections of kind 1 to ", format::kSections, ", got kind ", entry.kind);
    const char *name = sectionName(entry.kind);
    if (seen & (1u << entry.kind))
      return damaged("expected one ", name, " section, got a second");
    seen |= 1u << entry.kind;
    if (entry.offset % format::kSectionAlignment != 0)
      return damaged("section ", name, ": expected at a multiple of ", format::kSectionAlignment, ", got offset ",
                     entry.offset);
    if (entry.offset > contentsOffset || entry.bytes > contentsOffset - entry.offset)
      return damaged("section ", name, ": expected inside the file's first ", contentsOffset, " bytes, got offset ",
                     entry.offset, " and ", entry.bytes, " bytes");
  }
  for (uint32_t kind = 1; kind <= format::kSections; ++kind)
    if (!(seen & (1u << kind)))
      return damaged("expected a ", sectionName(kind), " section, got none");
  uint64_t end = sizeof(format::Header);
  for (const ContentsEntry &entry : contents) {
    const char *name = sectionName(entry.kind);
    if (entry.offset < end || entry.offset - end >= format::kSectionAlignment)
      return damaged("section ", name, ": expected to follow what ends at ", end, ", got offset ", entry.offset);
    if (!allZero(file.subspan(end, entry.offset - end)))
      return damaged("expected zeros before section ", name, ", got other bytes");
    end = entry.offset + entry.bytes;
  }
  if (contentsOffset - end >= format::kSectionAlignment || !allZero(file.subspan(end, contentsOffset - end)))
    return damaged("expected less than ", format::kSectionAlignment,
                   " zeros before the table of contents, got other bytes");
  return absl::OkStatus();
}

absl::Status Artifact::Impl::checkSections() const {
  for (const ContentsEntry &entry : contents) {
    // Reading the weights costs what loading them costs: that is left to verifyWeights and to the executor.
    if (entry.kind == static_cast<uint32_t>(Section::kWeights))
      continue;
    if (XXH3_64bits(file.data() + entry.offset, entry.bytes) != entry.checksum)
      return damaged("section ", sectionName(entry.kind), " does not match its checksum");
  }
  return absl::OkStatus();
}

absl::Status Artifact::Impl::parseSections() {
  auto parse = [&](Section kind, google::protobuf::MessageLite &message) -> absl::Status {
    std::span<const std::byte> bytes = section(kind);
    // protobuf would print a line of its own about broken text; the error below says what there is to say.
    google::protobuf::LogSilencer silence;
    if (bytes.size() > INT32_MAX || !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return damaged("section ", sectionName(static_cast<uint32_t>(kind)), ": expected a valid protobuf message of ",
                     bytes.size(), " bytes, got one that does not parse");
    return absl::OkStatus();
  };
  if (absl::Status status = parse(Section::kManifest, manifest); !status.ok())
    return status;
  if (absl::Status status = parse(Section::kTokenizer, tokenizer); !status.ok())
    return status;
  auto entries = parseBundle(section(Section::kCode));
  if (!entries.ok())
    return {entries.status().code(), absl::StrCat(path, ": ", entries.status().message())};
  code = *std::move(entries);
  if (absl::Status status = checkManifest(manifest, section(Section::kWeights).size()); !status.ok())
    return {status.code(), absl::StrCat(path, ": ", status.message())};
  for (const std::string &target : targets())
    if (std::ranges::none_of(code, [&](const BundleEntry &entry) { return entry.target == target; }))
      return damaged("the manifest lists target ", target, " but the bundle has no code object for it");
  for (const ContentsEntry &entry : contents)
    sections.push_back({sectionName(entry.kind), entry.offset, entry.bytes, entry.checksum});
  return absl::OkStatus();
}

Artifact::Artifact() : impl(std::make_unique<Impl>()) {}
Artifact::~Artifact() = default;

absl::StatusOr<std::unique_ptr<Artifact>> Artifact::open(const std::string &path) {
  std::unique_ptr<Artifact> artifact(new Artifact());
  Impl &impl = *artifact->impl;
  impl.path = path;
  if (absl::Status status = impl.map(); !status.ok())
    return status;
  if (absl::Status status = impl.readContents(); !status.ok())
    return status;
  if (absl::Status status = impl.checkSections(); !status.ok())
    return status;
  if (absl::Status status = impl.parseSections(); !status.ok())
    return status;
  return artifact;
}

const Manifest &Artifact::manifest() const { return impl->manifest; }
const TokenizerData &Artifact::tokenizer() const { return impl->tokenizer; }
std::span<const std::byte> Artifact::weights() const { return impl->section(Section::kWeights); }
std::span<const std::byte> Artifact::bundle() const { return impl->section(Section::kCode); }
const std::vector<ArtifactSection> &Artifact::sections() const { return impl->sections; }
const std::string &Artifact::path() const { return impl->path; }
uint64_t Artifact::fileBytes() const { return impl->file.size(); }

absl::StatusOr<const TargetCode *> Artifact::code(std::string_view target) const {
  for (const TargetCode &code : impl->manifest.targets())
    if (code.target() == target)
      return &code;
  return absl::FailedPreconditionError(absl::StrCat(
      impl->path, ": expected code for ", std::string(target), ", got code for ", absl::StrJoin(impl->targets(), ", "),
      " only; compile it again with --targets=", absl::StrJoin(impl->targets(), ","), ",", std::string(target)));
}

absl::StatusOr<std::span<const std::byte>> Artifact::codeObject(std::string_view target) const {
  for (const BundleEntry &entry : impl->code)
    if (entry.target == target)
      return entry.code;
  return code(target).status();
}

uint64_t weightsChunkDigest(std::span<const std::byte> chunk) { return XXH3_64bits(chunk.data(), chunk.size()); }

absl::Status Artifact::checkWeightDigests(std::span<const uint64_t> digests) const {
  uint64_t expected = 0;
  for (const ContentsEntry &entry : impl->contents)
    if (entry.kind == static_cast<uint32_t>(Section::kWeights))
      expected = entry.checksum;
  if (XXH3_64bits(digests.data(), digests.size_bytes()) != expected)
    return impl->damaged("the weights do not match their checksum");
  return absl::OkStatus();
}

absl::Status Artifact::verifyWeights(unsigned threads) const {
  std::span<const std::byte> bytes = weights();
  std::vector<uint64_t> digests((bytes.size() + kWeightsChunk - 1) / kWeightsChunk);
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t chunk = next++; chunk < digests.size(); chunk = next++) {
      uint64_t begin = chunk * kWeightsChunk;
      digests[chunk] = weightsChunkDigest(bytes.subspan(begin, std::min(kWeightsChunk, bytes.size() - begin)));
    }
  };
  if (threads == 0)
    threads = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::jthread> pool;
  for (unsigned index = 1; index < std::min<size_t>(threads, digests.size()); ++index)
    pool.emplace_back(work);
  work();
  pool.clear();
  return checkWeightDigests(digests);
}

} // namespace ingot
