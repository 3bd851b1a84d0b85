// The region of an op, inlined: the ops on values in registers, then the stores. The epilogue of a linear in decode
// holds one element a lane, in prefill eight rows of one token, and the body of `llm.heads` a sixteenth of a head; a
// place of any of these is a Site here.
#pragma once

#include <map>

#include "codegen/kernels/linear.h"
#include "codegen/kernels/sequences.h"

namespace ingot {

// Elements n ... n + width - 1 of a product, of the token `token` rows after the workgroup's first.
struct Site {
  Val token, n;
  unsigned row = 0; // the same as a number, where rows are of several sequences
};

class Epilogue {
public:
  // `width` is 1 (f32 values) or 8 (vectors of f32). `firstToken` is the workgroup's, uniform; null: one token, row 0.
  // Of tensors with a row a slot it counts slots.
  Epilogue(KernelBuilder &k, const LinearConfig &c, bool decode, unsigned width, Val firstToken);
  // The same for another op's region. `arguments` are the kernel's.
  // `region` may be null: the products are the results. `rowsOfSequences`: so many rows of the workgroup are of several
  // sequences; 0: all are of one.
  Epilogue(KernelBuilder &k, mlir::Region *region, std::vector<LinearResult> results,
           std::vector<LinearArgument> arguments, unsigned width, Val firstToken, unsigned rowsOfSequences = 0);

  // Finishes the region's arguments ("products") at `sites`: products[part][site], empty for parts that this lane does
  // not have. Of a product whose experts are combined: all sites of a slot, then those of the next. Where heads are
  // rotated or normalised, the sites divide one head evenly, and it is whole: in the two tiles of a Paired layout, or
  // (for a norm always) in 16 lanes.
  void finish(llvm::ArrayRef<Site> sites, const std::vector<std::vector<Val>> &products);

  // Argument of a kind, part or result.
  Val argument(LinearArgument::Kind kind, unsigned index = 0) const;
  // The vector or cache of this name.
  Val argument(mlir::FlatSymbolRefAttr symbol) const;

private:
  using Values = llvm::DenseMap<mlir::Value, std::vector<Val>>;
  void finishOp(mlir::Operation *op, llvm::ArrayRef<Site> sites, Values &values);
  const std::vector<Val> *operand(mlir::Value value, llvm::ArrayRef<Site> sites, Values &values);
  void storeResult(unsigned result, const Site &site, Val y);
  // `conv` at a site of one token whose product is `y`; moves the state on.
  Val convolve(llm::ShortConvOp conv, int64_t channels, int64_t taps, const Site &site, Val y);
  // The largest of the 16 sites of a tile, and its n; in every lane of the tile.
  std::pair<Val, Val> bestOfTile(const Site &site, Val y, uint64_t columns);
  // `ring`: positions of the state, where it is a ring.
  void append(mlir::FlatSymbolRefAttr state, uint64_t ring, bool key, uint64_t width, const Site &site, Val y);
  // Elements i ... of an f32 vector, as many as a site has.
  Val vectorAt(mlir::FlatSymbolRefAttr symbol, Val i);
  Val rounded(Val y, mlir::Type type);
  Val position(const Site &site);
  // Of the step, the row of a site that is of several sequences.
  Val rowOf(const Site &site) { return firstToken + static_cast<int64_t>(site.row); }
  void unlessPadding(const Site &site, const std::function<void()> &body);
  // Where the site's position lies in a cache, and that cache.
  Val blockOf(const Site &site, uint64_t ring);
  Val cacheOf(mlir::FlatSymbolRefAttr symbol, const Site &site, uint64_t ring);
  // The state of this name that a site reads and writes.
  Val stateOf(mlir::FlatSymbolRefAttr symbol, const Site &site);
  Val rowsOf(Val pointer, uint64_t stride);

  KernelBuilder &k;
  mlir::Region *region;
  std::vector<LinearResult> results;
  std::vector<LinearArgument> arguments;
  unsigned width;
  Val firstToken, start;
  Sequences sequences;
  std::vector<Val> positions;   // of the rows, where they are of several sequences
  std::vector<Val> blocks;      // that hold them in caches with pages; of one sequence's one token its own
  std::map<unsigned, Val> rows; // by argument: its rows from the workgroup's first token on
};

} // namespace ingot
