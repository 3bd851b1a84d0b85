// A prefix tree in a file, from one run of a server to the next. Little-endian:
//
//   "INGOTPRE", u32 version, u32 block, u64 rowsBytes, u64 stateBytes, u64 identity, u64 blocks, u64 XXH3 of these
//   each block, after the one that it follows: u32 depth (1: the first of a prompt), u32 1 if it has a state,
//     i32 tokens[block], rows, state if it has one; u64 XXH3 of these
//
// A block follows the last one before it of a depth less by one.
#pragma once

#include <cstdint>
#include <istream>
#include <string>

#include "absl/status/status.h"

#include "runtime/server/prefix_tree.h"

namespace ingot {

// Whole or not at all. `identity`: of whatever the bytes depend on.
absl::Status savePrefixes(const PrefixTree &tree, uint64_t identity, const std::string &path);
// Adds what was saved to `tree`, as far as its budget goes. FailedPrecondition for another version, identity or shape,
// DataLoss for damage; blocks before the damage are kept, since each has its own checksum.
absl::Status restorePrefixes(std::istream &in, uint64_t identity, PrefixTree &tree);

} // namespace ingot
