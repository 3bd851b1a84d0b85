// Opens and writes `.ingot` files. docs/design/artifact.md is the format.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/manifest.pb.h"
#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

inline constexpr uint32_t kArtifactVersion = 1;

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
  // Reads every byte of the weights; DataLoss if the checksum differs.
  absl::Status verifyWeights() const;

private:
  Artifact();
  struct Impl;
  std::unique_ptr<Impl> impl;
};

// Where a writer streams the weights section to. Append-only; `offset` is relative to the section.
class WeightSink {
public:
  virtual ~WeightSink() = default;
  virtual absl::Status append(std::span<const std::byte> bytes) = 0;
  virtual uint64_t offset() const = 0;
};

// Writes FILE whole or not at all. `packWeights` is called once and streams the weights section; the other sections are
// small and given whole. A failure (disk full included) removes the partial file and leaves an older FILE as it was.
absl::Status writeArtifact(const std::string &path, const Manifest &manifest, const TokenizerData &tokenizer,
                           std::span<const std::byte> bundle,
                           const std::function<absl::Status(WeightSink &)> &packWeights);

} // namespace ingot
