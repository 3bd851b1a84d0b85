// How kernels read and write a row of activations: eight elements a lane, whatever they are made of, and fp32 in
// registers.
#pragma once

#include "codegen/kernels/kernels.h"
#include "mlir/IR/TypeUtilities.h"

namespace ingot {

constexpr unsigned bytesOf(Element element) { return element == Element::Bf16 ? 2 : 4; }

// Values of either kind as f32.
inline Val widen(KernelBuilder &k, Val values) {
  return mlir::getElementTypeOrSelf(values.type()).isF32() ? values : k.extend(values);
}

inline Val loadPiece(KernelBuilder &k, Element element, Val row, Val piece) {
  if (element == Element::Bf16)
    return k.extend(k.load(k.vec(8, k.bf16()), row, piece * 16));
  return k.load(k.vec(8, k.f32()), row, piece * 32, 16);
}

inline void storePiece(KernelBuilder &k, Element element, Val eight, Val row, Val piece) {
  if (element == Element::Bf16)
    k.store(k.round(eight, k.bf16()), row, piece * 16);
  else
    k.store(eight, row, piece * 32, 16);
}

// The steps of llm.quantize and of a cache of codes, from the largest magnitude of the row or head. `top` is the
// largest code.
inline Val quantizingFactor(KernelBuilder &k, Val most, double top = 127) {
  return k.select(most > 0, k.constantF(top) / most, k.constantF(0));
}
inline Val scaleOfRow(KernelBuilder &k, Val most, double top = 127) { return most / k.constantF(top); }
// Eight values as int8, in two i32.
inline Val quantizePiece(KernelBuilder &k, Val eight, Val factor) {
  return k.bitcast(k.trunc(k.toInt(k.roundEven(eight * factor)), k.vec(8, k.i8())), k.vec(2, k.i32()));
}

} // namespace ingot
