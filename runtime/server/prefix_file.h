// A prefix tree in a file, from one run of a server to the next. Little-endian:
//
//   "INGOTPRE", u32 version, u32 block, u64 pagesBytes, u64 stateBytes, u64 identity, u64 blocks, u64 XXH3 of these
//   each block, after the one that it follows: u32 depth (1: the first of a prompt), u32 1 if it has a state,
//     i32 tokens[block], what lies in its pages, state if it has one; u64 XXH3 of these
//
// A block follows the last one before it of a depth less by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <istream>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/server/prefix_tree.h"

namespace ingot {

using ReadPages = std::function<absl::StatusOr<std::vector<std::byte>>(std::span<const Page> pages)>;
using MakePages = std::function<absl::StatusOr<std::vector<Page>>(std::span<const std::byte> bytes)>;

// Whole or not at all. `identity`: of whatever the bytes depend on. `read`: what lies in a block's pages.
absl::Status savePrefixes(const PrefixTree &tree, uint64_t identity, const ReadPages &read, const std::string &path);
// Adds what was saved to `tree`, as far as its budget goes. `make`: pages in which such bytes lie. FailedPrecondition
// for another version, identity or shape, DataLoss for damage; blocks before the damage are kept, since each has its
// own checksum.
absl::Status restorePrefixes(std::istream &in, uint64_t identity, const MakePages &make, PrefixTree &tree);

} // namespace ingot
