// Which part of a linear a workgroup computes, and which of its row tiles.
#pragma once

#include "codegen/kernels/epilogue.h"

namespace ingot {

struct PartPlaces {
  // Zipped: of each part. Else: of the workgroup's part, in [0].
  std::vector<Val> weights, scales;
  std::vector<Val> ownScales; // of each part, whatever the workgroup's
  std::vector<Val> mine;      // Side and Paired: whether the workgroup belongs to part i, uniform
  // Of the workgroup (or wave), in its part: first row tile, and the distance to the second of a pair.
  Val first, distance;

  // Row tile `i` of the workgroup.
  Val tile(KernelBuilder &k, unsigned i) const { return tile(k, k.constant(i)); }
  Val tile(KernelBuilder & /*k*/, Val i) const { return distance ? first + i * distance : first + i; }
};

// `group` counts through the row tiles, `tiles` at a time, of all parts one after another (of one part, if Zipped).
// `expert`, uniform, is whose weights they are; null where the linear has no experts. Where `shared`, uniform, is true,
// they are those of the expert that every row goes to; null where there is none.
PartPlaces placeParts(KernelBuilder &k, const LinearConfig &c, LinearLayout layout, const Epilogue &epilogue, Val group,
                      unsigned tiles, Val expert = {}, Val shared = {});

// How many such groups there are.
unsigned workgroupsOf(const LinearConfig &c, LinearLayout layout, unsigned tiles);

} // namespace ingot
