#include "codegen/kernels/codes.h"

namespace ingot {

using llm::ScaleType;
using llm::Storage;

Codes::Codes(KernelBuilder &k, llm::SchemeAttr scheme, uint64_t columns)
    : k(k), scheme(scheme), stride(groupsOfK(scheme, columns) * bytesOfRecord(scheme)) {}

Val Codes::groupOf(Val unit, uint64_t unitColumns) const {
  auto group = static_cast<uint64_t>(scheme.getGroup());
  if (group == 0)
    return k.constant(0);
  return group >= unitColumns ? unit / static_cast<int64_t>(group / unitColumns)
                              : unit * static_cast<int64_t>(unitColumns / group);
}

Codes::Group Codes::group(Val records, Val group, Val scaleRow, unsigned rows, Val zeroRow) const {
  auto size = static_cast<int64_t>(bytesOfScale(scheme));
  Val record = group * static_cast<int64_t>(bytesOfRecord(scheme));
  mlir::Type type = scheme.getScales() == ScaleType::F32   ? k.f32()
                    : scheme.getScales() == ScaleType::F16 ? k.f16()
                                                           : k.bf16();
  bool vector = rows > 1 && !scheme.getBands();
  Group result;
  // Records are multiples of 16 bytes where there is one scale a row.
  result.scale = k.load(vector ? k.vec(rows, type) : type, records,
                        scheme.getBands() ? record : record + scaleRow * size, vector ? 16 : 0);
  if (scheme.getScales() != ScaleType::F32)
    result.scale = k.extend(result.scale);
  if (scheme.getStorage() == Storage::Fp8) {
    if (double unit = k.fp8Unit(); unit != 1)
      result.scale = result.scale * k.constantF(unit);
    return result;
  }
  result.zero = scheme.getZeros()
                    ? k.toFloatUnsigned(k.zext(k.load(k.i8(), records, record + zeroRow + 16 * size), k.i32()))
                    : k.constantF(scheme.getStorage() == Storage::Int4 ? 8 : 128);
  return result;
}

std::vector<Val> Codes::numbers(Val word) const {
  std::vector<Val> result;
  // A byte converts to float in one instruction, but only unsigned.
  auto byte = [&](Val bytes, unsigned i) { return k.toFloatUnsigned((bytes >> 8 * i) & 0xff); };
  switch (scheme.getStorage()) {
  case Storage::Int4: {
    Val low = word & 0x0f0f0f0f, high = (word >> 4) & 0x0f0f0f0f;
    for (unsigned pair : {0, 1})
      for (Val half : {low, high})
        for (unsigned odd : {0, 2})
          result.push_back(byte(half, pair + odd));
    return result;
  }
  case Storage::Int8:
    word = word ^ 0x80808080LL;
    for (unsigned i = 0; i < 4; ++i)
      result.push_back(byte(word, i));
    return result;
  case Storage::Fp8: {
    Val values = k.fp8(word);
    for (unsigned i = 0; i < 4; ++i)
      result.push_back(k.element(values, i));
    return result;
  }
  case Storage::F32:
  case Storage::BF16:
    break;
  }
  llvm_unreachable("not a scheme of codes");
}

Val Codes::asBf16(Val words, Val zero) const {
  std::vector<Val> pairs;
  for (unsigned w = 0, n = k.lanes(words); w < n; ++w) {
    std::vector<Val> values = numbers(k.element(words, w));
    for (size_t i = 0; i < values.size(); i += 2) {
      Val low = values[i], high = values[i + 1];
      pairs.push_back(zero ? k.packBf16(low - zero, high - zero) : k.packBf16(low, high));
    }
  }
  return k.build(pairs);
}

} // namespace ingot
