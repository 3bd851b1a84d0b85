// Opens and writes `.ingot` files. docs/design/artifact.md is the format.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/manifest.pb.h"
#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

inline constexpr uint32_t kArtifactVersion = 1;

// The weights are checksummed in chunks of this many bytes, so that several threads can check them while they are
// copied.
inline constexpr uint64_t kWeightsChunk = 16 << 20;

// Where a section of the file lies.
struct ArtifactSection {
  std::string name; // "manifest", "code", "weights", "tokenizer"
  uint64_t offset, bytes, checksum;
};

// A read-only memory map of a checked file. Spans live as long as the object.
class Artifact {
public:
  static absl::StatusOr<std::unique_ptr<Artifact>> open(const std::string &path);
  ~Artifact();

  const Manifest &manifest() const;
  const TokenizerData &tokenizer() const;
  std::span<const std::byte> weights() const;
  std::span<const std::byte> bundle() const;
  // The code object for `target`, or an error that lists what the file was made for.
  absl::StatusOr<std::span<const std::byte>> codeObject(std::string_view target) const;
  absl::StatusOr<const TargetCode *> code(std::string_view target) const;
  // Reads every byte of the weights, on up to `threads` threads (0: all cores); DataLoss if the checksum differs.
  absl::Status verifyWeights(unsigned threads = 0) const;
  // The same for a caller that reads the weights anyway: one weightsChunkDigest for each kWeightsChunk, in order.
  absl::Status checkWeightDigests(std::span<const uint64_t> digests) const;
  // In file order.
  const std::vector<ArtifactSection> &sections() const;
  const std::string &path() const;
  uint64_t fileBytes() const;

private:
  Artifact();
  struct Impl;
  std::unique_ptr<Impl> impl;
};

// XXH3-64 of one chunk of the weights (the last one may be shorter than kWeightsChunk).
uint64_t weightsChunkDigest(std::span<const std::byte> chunk);

// Where a writer streams the weights section to. Append-only; `offset` is relative to the section.
class WeightSink {
public:
  virtual ~WeightSink() = default;
  virtual absl::Status append(std::span<const std::byte> bytes) = 0;
  virtual uint64_t offset() const = 0;
};

// Writes FILE whole or not at all. `packWeights` is called once and streams the weights section; the other sections are
// small and given whole. The manifest is checked as a reader would, and the weights written must be as many bytes as
// its WEIGHTS buffer says: else InvalidArgument. A failure (disk full included) removes the partial file and leaves an
// older FILE as it was.
absl::Status writeArtifact(const std::string &path, const Manifest &manifest, const TokenizerData &tokenizer,
                           std::span<const std::byte> bundle,
                           const std::function<absl::Status(WeightSink &)> &packWeights);

} // namespace ingot
