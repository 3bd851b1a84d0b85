// The epilogue of a linear, inlined: the ops of the region on values in registers, then the stores. Decode holds one
// element a lane, prefill eight rows of one token; both are a Site here.
#pragma once

#include <map>

#include "codegen/kernels/linear.h"

namespace ingot {

// Elements n ... n + width - 1 of a product, of the token `token` rows after the workgroup's first.
struct Site {
  Val token, n;
};

class Epilogue {
public:
  // `width` is 1 (f32 values) or 8 (vectors of f32). `firstToken` is the workgroup's, uniform; null: one token, row 0.
  Epilogue(KernelBuilder &k, const LinearConfig &c, bool decode, unsigned width, Val firstToken);

  // Finishes the products at `sites`: products[part][site], empty for parts that this workgroup does not compute. Two
  // sites are half a head apart where the layout is Paired.
  void finish(llvm::ArrayRef<Site> sites, const std::vector<std::vector<Val>> &products);

  // Argument of a kind, part or result.
  Val argument(LinearArgument::Kind kind, unsigned index = 0) const;

private:
  using Values = llvm::DenseMap<mlir::Value, std::vector<Val>>;
  void finishOp(mlir::Operation *op, llvm::ArrayRef<Site> sites, Values &values);
  const std::vector<Val> *operand(mlir::Value value, llvm::ArrayRef<Site> sites, Values &values);
  void storeResult(unsigned result, const Site &site, Val y);
  void append(mlir::FlatSymbolRefAttr state, bool key, uint64_t width, const Site &site, Val y);
  Val rounded(Val y, mlir::Type type);
  Val position(Val token) { return firstToken ? start + firstToken + token : start; }
  Val rowsOf(Val pointer, uint64_t stride);
  Val argument(mlir::FlatSymbolRefAttr symbol) const;

  KernelBuilder &k;
  const LinearConfig &c;
  std::vector<LinearArgument> arguments;
  unsigned width;
  Val firstToken, start;
  std::map<unsigned, Val> rows; // by argument: its rows from the workgroup's first token on
};

} // namespace ingot
