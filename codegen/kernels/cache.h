// Where the positions of a KV cache lie (docs/design/layouts.md): in blocks of 16, which in a ring follow one another
// again from the first.
#pragma once

#include "codegen/kernel_builder.h"

namespace ingot {

/// The block that holds positions [16 block, 16 block + 16) of a ring of so many positions, a multiple of 16; 0: of a
/// cache that holds them all.
inline Val cacheBlock(Val block, uint64_t ring) { return ring == 0 ? block : block % static_cast<int64_t>(ring / 16); }

} // namespace ingot
