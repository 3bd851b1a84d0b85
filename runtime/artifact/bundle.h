// The offload-bundle format of the field: one container for the code objects of several chips, which
// `clang-offload-bundler` lists and unbundles and hipModuleLoadData accepts. Uncompressed only.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace ingot {

struct BundleEntry {
  std::string id;     // "hipv4-amdgcn-amd-amdhsa--gfx1151"
  std::string target; // "gfx1151", "gfx11-generic"; empty for the host entry
  std::span<const std::byte> code;
};

// Entries in file order; their spans point into `bundle`. DataLoss when anything lies outside it.
absl::StatusOr<std::vector<BundleEntry>> parseBundle(std::span<const std::byte> bundle);

// A bundle of (target, code object), each at a multiple of 4096, after the empty host entry that comes first by custom.
// The same input gives the same bytes.
std::string makeBundle(std::span<const std::pair<std::string, std::string>> codeObjects);

} // namespace ingot
