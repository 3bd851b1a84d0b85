// The bytes of a `.ingot` file outside its sections, as docs/design/artifact.md lays them out. Reader and writer share
// nothing else. Little-endian, as every machine this runs on is.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace ingot::format {

static_assert(std::endian::native == std::endian::little);

inline constexpr std::array<char, 8> kMagic = {'I', 'N', 'G', 'O', 'T', '\0', '\0', '\1'};
inline constexpr uint64_t kSectionAlignment = 4096;

enum class Section : uint32_t { kManifest = 1, kCode = 2, kWeights = 3, kTokenizer = 4 };
inline constexpr uint32_t kSections = 4;
inline constexpr std::array<const char *, kSections + 1> kSectionNames = {"", "manifest", "code", "weights",
                                                                          "tokenizer"};

struct Header {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t sectionCount;
  uint64_t contentsOffset;
  uint64_t fileBytes;
  uint64_t contentsChecksum; // XXH3-64
  std::array<uint8_t, 24> zeros;
};
static_assert(sizeof(Header) == 64);

struct ContentsEntry {
  uint32_t kind;
  uint32_t zero;
  uint64_t offset;
  uint64_t bytes;
  uint64_t checksum; // XXH3-64 of the bytes; of the weights: XXH3-64 of the chunks' XXH3-64
};
static_assert(sizeof(ContentsEntry) == 32);

} // namespace ingot::format
