// What the two kernels of a linear share: the tile16 geometry of a weight, the order of arguments, and how parts and
// epilogue are laid over workgroups.
#pragma once

#include "codegen/kernels/cache.h"
#include "codegen/kernels/kernels.h"
#include "dialects/Llm.h"

namespace ingot {

inline constexpr int64_t kTileBytes = 512;

// Columns of a tile: 16 rows of 32 bytes.
inline uint64_t columnsOfTile(llm::SchemeAttr scheme) { return 256 / scheme.bits(); }

// Tiles along K, which is padded to 64 elements.
inline uint64_t stepsOfK(llm::SchemeAttr scheme, uint64_t columns) {
  return paddedRow(columns) / columnsOfTile(scheme);
}

// Bytes of the values; scales begin at the next multiple of 256.
inline uint64_t linearScalesOffset(llm::SchemeAttr scheme, uint64_t rows, uint64_t columns) {
  return (paddedRow(rows) / 16 * stepsOfK(scheme, columns) * kTileBytes + 255) / 256 * 256;
}

// Scales along K.
inline uint64_t groupsOfK(llm::SchemeAttr scheme, uint64_t columns) {
  auto group = static_cast<uint64_t>(scheme.getGroup());
  return group == 0 ? 1 : (paddedRow(columns) + group - 1) / group;
}

inline uint64_t bytesOfScale(llm::SchemeAttr scheme) { return scheme.getScales() == llm::ScaleType::F32 ? 4 : 2; }

// Scales, and zero points as bytes, of a band of 16 rows and one group.
inline uint64_t bytesOfRecord(llm::SchemeAttr scheme) {
  if (!scheme.scaled())
    return 0;
  return scheme.getBands() ? bytesOfScale(scheme) : 16 * bytesOfScale(scheme) + (scheme.getZeros() ? 16 : 0);
}

// Bytes of values and scales together.
inline uint64_t linearBytes(llm::SchemeAttr scheme, uint64_t rows, uint64_t columns) {
  return linearScalesOffset(scheme, rows, columns) +
         paddedRow(rows) / 16 * groupsOfK(scheme, columns) * bytesOfRecord(scheme);
}

// From expert to expert.
inline uint64_t expertStride(llm::SchemeAttr scheme, uint64_t rows, uint64_t columns) {
  return (linearBytes(scheme, rows, columns) + 255) / 256 * 256;
}

// Whether dots are of integers, and scales wait until the end. Else codes become numbers in the K loop and meet bf16.
inline bool integerDots(llm::SchemeAttr scheme) { return scheme.quantizesActivations(); }
inline bool widensCodes(llm::SchemeAttr scheme) { return scheme.scaled() && !integerDots(scheme); }

// An argument of a kernel that inlines a region, in the order of `linearArguments` or `headsArguments`.
struct LinearArgument {
  enum class Kind : uint8_t {
    Step,
    X, // operand `index`
    XScales,
    Experts, // the indices of each token's experts
    Groups,  // of `emitGroup`, for many tokens
    Weight,  // of part `index`
    Shared,  // of part `index`: the weight of the expert that every row goes to
    Bias,    // of part `index`
    Capture, // `value`, which the region reads from outside: rows of the same tokens
    Vector,  // `symbol`, f32: the frequencies of a rope, the weight of a norm of heads
    Cache,   // of an append: `symbol`, of which `ring` says where its positions lie
    State,   // of a short convolution: `symbol`
    Result,  // `index`
  };
  Kind kind;
  unsigned index = 0;
  mlir::Value value = {};
  mlir::FlatSymbolRefAttr symbol = {};
  uint64_t ring = 0;

  // `sequences`: of a step of several.
  Access access(bool sequences = false) const {
    if (kind == Kind::State)
      return Sequences::access(sequences, Access::ReadWrite);
    if (kind == Kind::Cache)
      return cacheAccess(sequences, Access::Write, ring);
    return kind == Kind::Result ? Access::Write : Access::Read;
  }
};
// What the ops of a region read and write beside its own arguments and results: captures, vectors, caches.
std::vector<LinearArgument> regionArguments(mlir::Region &region);
std::vector<LinearArgument> linearArguments(const LinearConfig &c, bool decode);

// How workgroups see the parts.
//   Single   there is one part
//   Zipped   an op combines two parts element by element: a workgroup computes the same rows of both
//   Side     parts have nothing to do with each other: a workgroup belongs to one of them
//   Paired   as Side, and a rope turns some: a wave computes rows n and n + head_dim / 2 of a head
enum class LinearLayout { Single, Zipped, Side, Paired };
LinearLayout layoutOf(const LinearConfig &c);

// Whether the epilogue adds up the experts of a token, which a workgroup then computes for its rows.
bool combinesExperts(const LinearConfig &c);

// Whether the epilogue moves a state on, which only the kernel of one token of a sequence does.
bool movesState(const LinearConfig &c);

// Why a linear cannot rotate its product so, in an epilogue; empty if it can.
std::string whyNotPaired(llm::RopeOp rope);

} // namespace ingot
