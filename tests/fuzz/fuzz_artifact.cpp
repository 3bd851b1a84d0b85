// A model.ingot. Checksums that lie inside the file are put right first: without that no mutation would be read any
// further.
#include <cstring>

#include <xxhash.h>

#include "runtime/artifact/artifact.h"
#include "runtime/artifact/file_format.h"
#include "tests/fuzz/fuzz.h"

namespace ingot::fuzz {
namespace {

uint64_t sectionDigest(uint32_t kind, std::span<const uint8_t> bytes) {
  if (kind != static_cast<uint32_t>(format::Section::kWeights))
    return XXH3_64bits(bytes.data(), bytes.size());
  std::vector<uint64_t> chunks;
  for (uint64_t begin = 0; begin < bytes.size(); begin += kWeightsChunk)
    chunks.push_back(XXH3_64bits(bytes.data() + begin, std::min(kWeightsChunk, bytes.size() - begin)));
  return XXH3_64bits(chunks.data(), chunks.size() * sizeof(uint64_t));
}

void putChecksumsRight(std::vector<uint8_t> &file) {
  format::Header header;
  if (file.size() < sizeof header)
    return;
  std::memcpy(&header, file.data(), sizeof header);
  const uint64_t count = header.sectionCount, at = header.contentsOffset;
  if (count == 0 || count > 16 || at > file.size() || count * sizeof(format::ContentsEntry) > file.size() - at)
    return;
  std::vector<format::ContentsEntry> contents(count);
  std::memcpy(contents.data(), file.data() + at, count * sizeof contents[0]);
  for (format::ContentsEntry &entry : contents)
    if (entry.offset <= file.size() && entry.bytes <= file.size() - entry.offset)
      entry.checksum = sectionDigest(entry.kind, std::span(file).subspan(entry.offset, entry.bytes));
  std::memcpy(file.data() + at, contents.data(), count * sizeof contents[0]);
  header.contentsChecksum = XXH3_64bits(contents.data(), count * sizeof contents[0]);
  header.fileBytes = file.size();
  std::memcpy(file.data(), &header, sizeof header);
}

} // namespace
} // namespace ingot::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  ingot::fuzz::putChecksumsRight(bytes);
  const ingot::fuzz::MemoryFile file(bytes);
  const auto artifact = ingot::Artifact::open(file.path());
  if (!artifact.ok())
    return 0;
  (void)(*artifact)->verifyWeights(1).ok();
  for (const ingot::TargetCode &target : (*artifact)->manifest().targets()) {
    (void)(*artifact)->codeObject(target.target()).ok();
    (void)(*artifact)->code(target.target()).ok();
  }
  return 0;
}
