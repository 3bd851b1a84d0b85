// The three ways to speak of a weight's scheme, brought together: a checkpoint's (StoredQuantization), the packer's
// (WeightScheme), and the IR's (#llm.scheme). Only here does one become another.
#pragma once

#include "compiler/checkpoint/checkpoint.h"
#include "compiler/pack/pack.h"
#include "dialects/Llm.h"

namespace ingot {

// How the packer stores a linear's weight of this scheme, which is not f32.
WeightScheme weightScheme(llm::SchemeAttr scheme);

// Sets `stored` on the weights of `module` that `checkpoint` holds quantised in a form that can be kept: its codes and
// scales as they are. Others are read as numbers, and a recipe decides.
void noteStoredSchemes(mlir::ModuleOp module, const Checkpoint &checkpoint);

// Whether `weight` is packed from `source` with the checkpoint's own codes and scales.
bool keepsCodes(const PackedWeight &weight, const TensorInfo &source);

} // namespace ingot
