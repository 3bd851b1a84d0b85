// The `llm` dialect in C++: dialects/Llm.td is its specification. Facts reads the module's `llm.facts`.
#pragma once

#include <string>
#include <vector>

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Attributes.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/LlmDialect.h.inc"
#include "dialects/LlmEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/LlmAttributes.h.inc"

namespace ingot::llm {

/// The KV caches, as a thing that ops read and write.
struct CacheResource : mlir::SideEffects::Resource::Base<CacheResource> {
  llvm::StringRef getName() final { return "llm.cache"; }
};

/// States of kind conv and recurrent, as a thing that ops read and write.
struct RecurrentResource : mlir::SideEffects::Resource::Base<RecurrentResource> {
  llvm::StringRef getName() final { return "llm.recurrent"; }
};

/// Step, TOKENS and OUTPUT, as a thing that ops read and write.
struct StepResource : mlir::SideEffects::Resource::Base<StepResource> {
  llvm::StringRef getName() final { return "llm.step"; }
};

} // namespace ingot::llm

#define GET_OP_CLASSES
#include "dialects/LlmOps.h.inc"

namespace ingot::llm {

/// The most rows of a tensor whose number of rows is known: those of the tokens of one step. Kernels take them as they
/// take one, side by side.
inline constexpr int64_t kFewRows = 8;

/// The content of `llm.facts`. Missing entries of a hand-written module are 0 or empty; the dialect's verifier reports
/// them.
struct Facts {
  std::string name;
  std::string architecture;
  int64_t vocabulary = 0;
  int64_t contextLength = 0;
  int64_t hiddenSize = 0;
  int64_t layers = 0;
  int64_t prefillChunk = 0;
  int64_t draftLength = 0; // tokens that a step drafts; 0, and no entry, where the model has no head for it
  std::vector<int64_t> endOfSequence;
  std::vector<std::string> skippedTensors;

  static Facts of(mlir::ModuleOp module);
  mlir::DictionaryAttr toAttribute(mlir::MLIRContext *context) const;
};

/// What reports call `op`: the name in its location ("layers.3.mlp.gate_proj"; of a fused location the first), or else
/// the op's own name.
std::string labelOf(mlir::Operation *op);

/// The head_dim of an op that works on heads (a norm of heads, a rotation, an append); 0 for every other.
int64_t headDimOf(mlir::Operation *op);

/// The weight that `name` refers to as seen from `user`; null if there is none.
WeightOp lookupWeight(mlir::Operation *user, mlir::FlatSymbolRefAttr name);
/// The state that `name` refers to as seen from `user`; null if there is none.
StateOp lookupState(mlir::Operation *user, mlir::FlatSymbolRefAttr name);

} // namespace ingot::llm
