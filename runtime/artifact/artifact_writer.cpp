// Sections are laid down in one pass with their checksums computed on the way; only the header, which points at the
// table of contents behind them, is written last.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <xxhash.h>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/artifact.h"
#include "runtime/artifact/atomic_file.h"
#include "runtime/artifact/bundle.h"
#include "runtime/artifact/file_format.h"
#include "runtime/artifact/manifest_check.h"

namespace ingot {
namespace {

using format::ContentsEntry;
using format::Section;

struct FreeState {
  void operator()(XXH3_state_t *state) const { XXH3_freeState(state); }
};
using HashState = std::unique_ptr<XXH3_state_t, FreeState>;

HashState newHash() {
  HashState state(XXH3_createState());
  XXH3_64bits_reset(state.get());
  return state;
}

// Passes the weights on to the file and hashes them chunk by chunk, however the packer cuts its pieces.
class HashingSink final : public WeightSink {
public:
  explicit HashingSink(AtomicFile &file) : file(file), chunkHash(newHash()), wholeHash(newHash()) {}

  absl::Status append(std::span<const std::byte> bytes) override {
    if (absl::Status status = file.append(bytes); !status.ok())
      return status;
    while (!bytes.empty()) {
      size_t room = std::min<uint64_t>(bytes.size(), kWeightsChunk - written % kWeightsChunk);
      XXH3_64bits_update(chunkHash.get(), bytes.data(), room);
      written += room;
      bytes = bytes.subspan(room);
      if (written % kWeightsChunk == 0)
        closeChunk();
    }
    return absl::OkStatus();
  }
  uint64_t offset() const override { return written; }
  uint64_t finish() {
    if (written % kWeightsChunk != 0)
      closeChunk();
    return XXH3_64bits_digest(wholeHash.get());
  }

private:
  void closeChunk() {
    uint64_t digest = XXH3_64bits_digest(chunkHash.get());
    XXH3_64bits_update(wholeHash.get(), &digest, sizeof digest);
    XXH3_64bits_reset(chunkHash.get());
  }
  AtomicFile &file;
  HashState chunkHash, wholeHash;
  uint64_t written = 0;
};

std::string serialized(const google::protobuf::MessageLite &message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  // Maps have no order of their own; without this the same message may give other bytes.
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

absl::Status checkBundle(const Manifest &manifest, std::span<const std::byte> bundle) {
  auto entries = parseBundle(bundle);
  if (!entries.ok())
    return entries.status();
  for (const TargetCode &code : manifest.targets())
    if (std::ranges::none_of(*entries, [&](const BundleEntry &entry) { return entry.target == code.target(); }))
      return absl::InvalidArgumentError(absl::StrCat("writing an artifact: the manifest lists target ", code.target(),
                                                     " but the bundle has no code object for it"));
  return absl::OkStatus();
}

const Buffer *weightsBuffer(const Manifest &manifest) {
  for (const Buffer &buffer : manifest.buffers())
    if (buffer.role() == Buffer::WEIGHTS)
      return &buffer;
  return nullptr;
}

} // namespace

absl::Status writeArtifact(const std::string &path, const Manifest &manifest, const TokenizerData &tokenizer,
                           std::span<const std::byte> bundle,
                           const std::function<absl::Status(WeightSink &)> &packWeights) {
  const Buffer *weights = weightsBuffer(manifest);
  if (absl::Status status = checkManifest(manifest, weights ? weights->bytes() : 0); !status.ok())
    return status;
  if (absl::Status status = checkBundle(manifest, bundle); !status.ok())
    return status;
  auto created = AtomicFile::create(path);
  if (!created.ok())
    return created.status();
  AtomicFile &file = **created;

  format::Header header = {};
  if (absl::Status status = file.append(std::as_bytes(std::span(&header, 1))); !status.ok())
    return status;
  std::vector<ContentsEntry> contents;
  auto addSection = [&](Section kind, std::span<const std::byte> bytes) -> absl::Status {
    if (absl::Status status = file.alignTo(format::kSectionAlignment); !status.ok())
      return status;
    contents.push_back(
        {static_cast<uint32_t>(kind), 0, file.offset(), bytes.size(), XXH3_64bits(bytes.data(), bytes.size())});
    return file.append(bytes);
  };
  std::string manifestBytes = serialized(manifest), tokenizerBytes = serialized(tokenizer);
  if (absl::Status status = addSection(Section::kManifest, std::as_bytes(std::span(manifestBytes))); !status.ok())
    return status;
  if (absl::Status status = addSection(Section::kCode, bundle); !status.ok())
    return status;
  if (absl::Status status = addSection(Section::kTokenizer, std::as_bytes(std::span(tokenizerBytes))); !status.ok())
    return status;

  if (absl::Status status = file.alignTo(format::kSectionAlignment); !status.ok())
    return status;
  uint64_t weightsOffset = file.offset();
  HashingSink sink(file);
  if (absl::Status status = packWeights(sink); !status.ok())
    return status;
  if (sink.offset() != weights->bytes())
    return absl::InvalidArgumentError(absl::StrCat("writing ", path, ": the manifest expects ", weights->bytes(),
                                                   " bytes of weights, the packer wrote ", sink.offset()));
  contents.push_back({static_cast<uint32_t>(Section::kWeights), 0, weightsOffset, sink.offset(), sink.finish()});

  if (absl::Status status = file.alignTo(format::kSectionAlignment); !status.ok())
    return status;
  auto contentsBytes = std::as_bytes(std::span(contents));
  header.magic = format::kMagic;
  header.version = kArtifactVersion;
  header.sectionCount = static_cast<uint32_t>(contents.size());
  header.contentsOffset = file.offset();
  header.fileBytes = file.offset() + contentsBytes.size();
  header.contentsChecksum = XXH3_64bits(contentsBytes.data(), contentsBytes.size());
  if (absl::Status status = file.append(contentsBytes); !status.ok())
    return status;
  if (absl::Status status = file.overwrite(0, std::as_bytes(std::span(&header, 1))); !status.ok())
    return status;
  return file.commit();
}

} // namespace ingot
