// Which sequences a step of several takes. Programs of one sequence have the addresses of its buffers as arguments;
// those of several have addresses of tables of them instead, a row of the step each, so that a captured step is
// replayed for whichever sequences the host wrote down. Compiler and runtime share this layout.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ingot {

// Rows of the widest step.
inline constexpr uint32_t kBatchRows = 8;
// How the names of programs of several sequences begin; their number follows.
enum BatchProgram : uint8_t { kBatchGreedy, kBatchDecode, kBatchSample };
inline constexpr std::array<const char *, 3> kBatchPrograms = {"decode_greedy_", "decode_", "sample_"};

inline constexpr bool takesSeveral(std::string_view program) {
  return std::ranges::find(kBatchPrograms, program.substr(0, program.find_last_not_of("0123456789") + 1)) !=
         kBatchPrograms.end();
}

// The start of the buffer of role BATCH. A table like `steps` follows for each further buffer that a sequence has for
// itself and that such a program uses: `Buffer.batch_table` of the manifest says where.
//
// Rows from `rows` on belong to no sequence. Their addresses are those of row 0, so that reading is harmless; a kernel
// writes nothing to a sequence for them, and what else it makes of them nobody reads.
struct Batch {
  int32_t rows; // sequences of this step, 1 to the program's N
  int32_t reserved[15];
  uint64_t steps[kBatchRows]; // of Step (runtime/artifact/step.h)
};
static_assert(sizeof(Batch) == 128 && offsetof(Batch, steps) == 64);

} // namespace ingot
