#include "runtime/server/prefix_file.h"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <xxhash.h>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/atomic_file.h"

namespace ingot {
namespace {

constexpr uint32_t kVersion = 2;

struct Header {
  std::array<char, 8> magic = {'I', 'N', 'G', 'O', 'T', 'P', 'R', 'E'};
  uint32_t version = kVersion;
  uint32_t block = 0;
  uint64_t pagesBytes = 0, stateBytes = 0, identity = 0, blocks = 0, checksum = 0;
};
static_assert(sizeof(Header) == 56);

uint64_t checksumOf(const Header &header) { return XXH3_64bits(&header, offsetof(Header, checksum)); }

struct BlockHeader {
  uint32_t depth = 0, hasState = 0;
};

// What of a block is covered by its checksum, in order.
class Digest {
public:
  Digest() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~Digest() { XXH3_freeState(state); }
  Digest(const Digest &) = delete;
  Digest &operator=(const Digest &) = delete;
  void add(std::span<const std::byte> bytes) { XXH3_64bits_update(state, bytes.data(), bytes.size()); }
  uint64_t value() const { return XXH3_64bits_digest(state); }

private:
  XXH3_state_t *state;
};

template <typename T> std::span<const std::byte> bytesOf(const T &value) { return std::as_bytes(std::span(&value, 1)); }

bool readInto(std::istream &in, std::span<std::byte> bytes) {
  in.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return static_cast<size_t>(in.gcount()) == bytes.size();
}
template <typename T> bool readInto(std::istream &in, T &value) {
  return readInto(in, std::as_writable_bytes(std::span(&value, 1)));
}

absl::Status damaged(uint64_t block, const char *what) {
  return absl::DataLossError(absl::StrCat("block ", block, " of the saved prompts: ", what));
}

} // namespace

absl::Status savePrefixes(const PrefixTree &tree, uint64_t identity, const ReadPages &read, const std::string &path) {
  auto file = AtomicFile::create(path);
  if (!file.ok())
    return file.status();
  const PrefixTree::Shape &shape = tree.shape();
  Header header;
  header.block = shape.block;
  header.pagesBytes = shape.pagesBytes;
  header.stateBytes = shape.stateBytes;
  header.identity = identity;
  header.blocks = tree.blocks();
  header.checksum = checksumOf(header);
  absl::Status status = (*file)->append(bytesOf(header));
  tree.visit([&](const PrefixTree::Block &block) {
    if (!status.ok())
      return;
    auto rows = read(block.pages);
    status = rows.status();
    if (!status.ok())
      return;
    BlockHeader about = {block.position / shape.block, block.state ? 1U : 0U};
    Digest digest;
    auto append = [&](std::span<const std::byte> bytes) {
      digest.add(bytes);
      if (status.ok())
        status = (*file)->append(bytes);
    };
    append(bytesOf(about));
    append(std::as_bytes(std::span(block.tokens)));
    append(*rows);
    if (block.state)
      append(*block.state);
    const uint64_t checksum = digest.value();
    append(bytesOf(checksum));
  });
  return status.ok() ? (*file)->commit() : status;
}

absl::Status restorePrefixes(std::istream &in, uint64_t identity, const MakePages &make, PrefixTree &tree) {
  Header header, expected;
  if (!readInto(in, header) || header.magic != expected.magic || checksumOf(header) != header.checksum)
    return absl::DataLossError("expected saved prompts of a server, got another file or a damaged one");
  const PrefixTree::Shape &shape = tree.shape();
  if (header.version != kVersion)
    return absl::FailedPreconditionError(
        absl::StrCat("expected saved prompts of version ", kVersion, ", got version ", header.version));
  if (header.identity != identity || header.block != shape.block || header.pagesBytes != shape.pagesBytes ||
      header.stateBytes != shape.stateBytes)
    return absl::FailedPreconditionError("expected prompts saved with this model and chip, got those of another");
  std::vector<int32_t> prefix;
  for (uint64_t index = 0; index < header.blocks; ++index) {
    BlockHeader about;
    if (!readInto(in, about))
      return damaged(index, "the file ends before it");
    if (about.depth == 0 || about.depth > prefix.size() / shape.block + 1 || about.hasState > 1)
      return damaged(index, "it follows no block before it");
    prefix.resize(size_t{about.depth} * shape.block);
    std::span<int32_t> tokens = std::span(prefix).last(shape.block);
    std::vector<std::byte> rows(shape.pagesBytes), state(about.hasState ? shape.stateBytes : 0);
    uint64_t checksum = 0;
    if (!readInto(in, std::as_writable_bytes(tokens)) || !readInto(in, std::span(rows)) ||
        !readInto(in, std::span(state)) || !readInto(in, checksum))
      return damaged(index, "the file ends within it");
    Digest digest;
    for (std::span<const std::byte> part : {bytesOf(about), std::as_bytes(std::span<const int32_t>(tokens)),
                                            std::span<const std::byte>(rows), std::span<const std::byte>(state)})
      digest.add(part);
    if (digest.value() != checksum)
      return damaged(index, "its checksum differs");
    auto pages = make(rows);
    if (!pages.ok())
      return pages.status();
    tree.put(prefix, *std::move(pages), about.hasState ? std::optional(std::move(state)) : std::nullopt);
  }
  return in.peek() == std::istream::traits_type::eof() ? absl::OkStatus()
                                                       : absl::DataLossError("bytes follow the last saved prompt");
}

} // namespace ingot
