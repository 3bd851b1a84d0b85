#include "compiler/stored_schemes.h"

using namespace mlir;

namespace ingot {

using Storage = WeightScheme::Storage;
using ScaleType = WeightScheme::ScaleType;

WeightScheme weightScheme(llm::SchemeAttr scheme) {
  if (!scheme.scaled())
    return WeightScheme::Bf16;
  return {.storage = scheme.getStorage() == llm::Storage::Int8   ? Storage::Int8
                     : scheme.getStorage() == llm::Storage::Int4 ? Storage::Int4
                                                                 : Storage::Fp8E4M3,
          .group = static_cast<uint32_t>(scheme.getGroup()),
          .zeroPoints = scheme.getZeros(),
          .blockRows = scheme.getBands() ? 16U : 1U,
          .scaleType = scheme.getScales() == llm::ScaleType::F16    ? ScaleType::F16
                       : scheme.getScales() == llm::ScaleType::BF16 ? ScaleType::BF16
                                                                    : ScaleType::F32};
}

static llm::SchemeAttr schemeAttr(MLIRContext *context, const WeightScheme &scheme, bool int8Activations) {
  auto storage = scheme.storage == Storage::Int8   ? llm::Storage::Int8
                 : scheme.storage == Storage::Int4 ? llm::Storage::Int4
                                                   : llm::Storage::Fp8;
  auto scales = scheme.scaleType == ScaleType::F16    ? llm::ScaleType::F16
                : scheme.scaleType == ScaleType::BF16 ? llm::ScaleType::BF16
                                                      : llm::ScaleType::F32;
  // What the IR has no scheme for: groups of 16, int8 activations with zero points.
  auto get = [&](llm::Activation activation) {
    bool bands = scheme.blockRows != 1;
    return llm::SchemeAttr::whyNot(storage, scheme.group, activation, scales, scheme.zeroPoints, bands).empty()
               ? llm::SchemeAttr::get(context, storage, scheme.group, activation, scales, scheme.zeroPoints, bands)
               : llm::SchemeAttr();
  };
  if (int8Activations)
    if (auto attribute = get(llm::Activation::Int8PerToken))
      return attribute;
  return get(llm::Activation::None);
}

bool keepsCodes(const PackedWeight &weight, const TensorInfo &source) {
  return source.quantization && source.quantization->permutedColumns == weight.permuted &&
         copiesCodes(weight.scheme, *source.quantization, weight.columns);
}

void noteStoredSchemes(ModuleOp module, const Checkpoint &checkpoint) {
  for (auto op : module.getOps<llm::WeightOp>()) {
    const TensorInfo *tensor = op.getSource() ? checkpoint.find(op.getSource()->str()) : nullptr;
    if (!tensor || !tensor->quantization || op.getTensorType().getRank() < 2)
      continue;
    const StoredQuantization &stored = *tensor->quantization;
    if (stored.permutedColumns && op.getTensorType().getRank() == 3)
      continue; // each expert would have an order of its own: the values are quantised again
    WeightScheme scheme;
    if (!storedScheme(stored, tensor->columns(), scheme).ok() || !copiesCodes(scheme, stored, tensor->columns()))
      continue;
    if (auto attribute = schemeAttr(module.getContext(), scheme,
                                    stored.activation == StoredQuantization::Activation::Int8PerToken)) {
      op.setStoredAttr(attribute);
      op.setPermuted(stored.permutedColumns);
    }
  }
}

} // namespace ingot
