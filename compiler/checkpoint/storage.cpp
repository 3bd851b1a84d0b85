// Decoders of the storage types. Each works on the bytes of consecutive blocks; the inner loops have constant bounds
// and no branches so that the compiler turns them into vector code. Built without contraction: see storage.h.
#include "compiler/checkpoint/storage.h"

#include <array>
#include <cstring>

#include "compiler/checkpoint/half.h"
#include "compiler/checkpoint/simd.h"

namespace ingot {
namespace {

INGOT_INLINE uint16_t load16(const uint8_t *bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

INGOT_INLINE uint32_t load32(const uint8_t *bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

void decodeF32(const uint8_t *source, uint64_t blocks, float *out) { std::memcpy(out, source, blocks * sizeof(float)); }

INGOT_SIMD void decodeF16(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t i = 0; i < blocks; ++i)
    out[i] = halfToFloat(load16(source + 2 * i));
}

INGOT_SIMD void decodeBF16(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t i = 0; i < blocks; ++i)
    out[i] = bf16ToFloat(load16(source + 2 * i));
}

// Q8_0: f16 scale, 32 signed bytes.
INGOT_SIMD void decodeQ8_0(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 34, out += 32) {
    const float scale = halfToFloat(load16(source));
    for (int i = 0; i < 32; ++i)
      out[i] = static_cast<float>(static_cast<int8_t>(source[2 + i])) * scale;
  }
}

// Q4_0: f16 scale, 16 bytes; element i in the low nibbles, i + 16 in the high ones; offset 8.
INGOT_SIMD void decodeQ4_0(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 18, out += 32) {
    const float scale = halfToFloat(load16(source));
    const uint8_t *nibbles = source + 2;
    for (int i = 0; i < 16; ++i)
      out[i] = scale * static_cast<float>((nibbles[i] & 15) - 8);
    for (int i = 0; i < 16; ++i)
      out[16 + i] = scale * static_cast<float>((nibbles[i] >> 4) - 8);
  }
}

// Q4_1: f16 scale, f16 minimum, 16 bytes of nibbles as in Q4_0.
INGOT_SIMD void decodeQ4_1(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 20, out += 32) {
    const float scale = halfToFloat(load16(source)), minimum = halfToFloat(load16(source + 2));
    const uint8_t *nibbles = source + 4;
    for (int i = 0; i < 16; ++i)
      out[i] = scale * static_cast<float>(nibbles[i] & 15) + minimum;
    for (int i = 0; i < 16; ++i)
      out[16 + i] = scale * static_cast<float>(nibbles[i] >> 4) + minimum;
  }
}

// The 32 five-bit numbers of a Q5_0 or Q5_1 block: nibbles, and bit i of `high` as the fifth bit of element i.
INGOT_INLINE void fiveBits(const uint8_t *nibbles, uint32_t high, int32_t *out) {
  for (int i = 0; i < 16; ++i)
    out[i] = (nibbles[i] & 15) | static_cast<int32_t>(((high >> i) & 1) << 4);
  for (int i = 0; i < 16; ++i)
    out[16 + i] = (nibbles[i] >> 4) | static_cast<int32_t>(((high >> (16 + i)) & 1) << 4);
}

INGOT_SIMD void decodeQ5_0(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 22, out += 32) {
    const float scale = halfToFloat(load16(source));
    int32_t numbers[32];
    fiveBits(source + 6, load32(source + 2), numbers);
    for (int i = 0; i < 32; ++i)
      out[i] = scale * static_cast<float>(numbers[i] - 16);
  }
}

INGOT_SIMD void decodeQ5_1(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 24, out += 32) {
    const float scale = halfToFloat(load16(source)), minimum = halfToFloat(load16(source + 2));
    int32_t numbers[32];
    fiveBits(source + 8, load32(source + 4), numbers);
    for (int i = 0; i < 32; ++i)
      out[i] = scale * static_cast<float>(numbers[i]) + minimum;
  }
}

// Q4_K and Q5_K keep eight six-bit scales and eight six-bit minima in 12 bytes: numbers 0-3 in the low six bits of
// bytes 0-3 (4-7 for minima), numbers 4-7 as four bits of bytes 8-11 below the two top bits of those bytes.
INGOT_INLINE void sixBitScales(const uint8_t *packed, float *scales, float *minima) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = static_cast<float>(packed[i] & 63);
    minima[i] = static_cast<float>(packed[4 + i] & 63);
    scales[4 + i] = static_cast<float>((packed[8 + i] & 15) | ((packed[i] >> 2) & 48));
    minima[4 + i] = static_cast<float>((packed[8 + i] >> 4) | ((packed[4 + i] >> 2) & 48));
  }
}

// Q4_K: f16 scale, f16 scale of minima, 12 bytes of six-bit scales, 128 bytes of nibbles (32 low, then 32 high).
INGOT_SIMD void decodeQ4_K(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 144, out += 256) {
    const float scale = halfToFloat(load16(source)), minimumScale = halfToFloat(load16(source + 2));
    float scales[8], minima[8];
    sixBitScales(source + 4, scales, minima);
    for (int pair = 0; pair < 4; ++pair) {
      const uint8_t *nibbles = source + 16 + 32 * pair;
      const float lowScale = scale * scales[2 * pair], lowMinimum = minimumScale * minima[2 * pair];
      const float highScale = scale * scales[2 * pair + 1], highMinimum = minimumScale * minima[2 * pair + 1];
      float *target = out + 64 * pair;
      for (int i = 0; i < 32; ++i)
        target[i] = lowScale * static_cast<float>(nibbles[i] & 15) - lowMinimum;
      for (int i = 0; i < 32; ++i)
        target[32 + i] = highScale * static_cast<float>(nibbles[i] >> 4) - highMinimum;
    }
  }
}

// Q5_K: as Q4_K with 32 bytes of fifth bits before the nibbles; bit s of byte i belongs to element i of sub-block s.
INGOT_SIMD void decodeQ5_K(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 176, out += 256) {
    const float scale = halfToFloat(load16(source)), minimumScale = halfToFloat(load16(source + 2));
    float scales[8], minima[8];
    sixBitScales(source + 4, scales, minima);
    const uint8_t *high = source + 16;
    for (int pair = 0; pair < 4; ++pair) {
      const uint8_t *nibbles = source + 48 + 32 * pair;
      const float lowScale = scale * scales[2 * pair], lowMinimum = minimumScale * minima[2 * pair];
      const float highScale = scale * scales[2 * pair + 1], highMinimum = minimumScale * minima[2 * pair + 1];
      float *target = out + 64 * pair;
      for (int i = 0; i < 32; ++i) {
        const int number = (nibbles[i] & 15) | (((high[i] >> (2 * pair)) & 1) << 4);
        target[i] = lowScale * static_cast<float>(number) - lowMinimum;
      }
      for (int i = 0; i < 32; ++i) {
        const int number = (nibbles[i] >> 4) | (((high[i] >> (2 * pair + 1)) & 1) << 4);
        target[32 + i] = highScale * static_cast<float>(number) - highMinimum;
      }
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales (one for 16 elements), f16 scale; offset 32.
// A half block of 128 elements takes 64 nibble bytes (64 low, then 64 high) and 32 bytes of pairs (four times 32).
INGOT_SIMD void decodeQ6_K(const uint8_t *__restrict source, uint64_t blocks, float *__restrict out) {
  for (uint64_t block = 0; block < blocks; ++block, source += 210, out += 256) {
    const float scale = halfToFloat(load16(source + 208));
    for (int half = 0; half < 2; ++half) {
      for (int quarter = 0; quarter < 4; ++quarter) {
        const uint8_t *nibbles = source + 64 * half + 32 * (quarter & 1);
        const uint8_t *pairs = source + 128 + 32 * half;
        const uint8_t *scales = source + 192 + 8 * half + 2 * quarter;
        const int nibbleShift = 4 * (quarter >> 1), pairShift = 2 * quarter;
        float *target = out + 128 * half + 32 * quarter;
        for (int group = 0; group < 2; ++group) {
          const float groupScale = scale * static_cast<float>(static_cast<int8_t>(scales[group]));
          for (int i = 16 * group; i < 16 * group + 16; ++i) {
            const int number = ((nibbles[i] >> nibbleShift) & 15) | (((pairs[i] >> pairShift) & 3) << 4);
            target[i] = groupScale * static_cast<float>(number - 32);
          }
        }
      }
    }
  }
}

struct GgmlType {
  uint32_t number;
  StorageType storage; // decode is null for a type that is known but not read
};

constexpr std::array kGgmlTypes = {
    GgmlType{0, {"F32", 1, 4, decodeF32}},        GgmlType{1, {"F16", 1, 2, decodeF16}},
    GgmlType{2, {"Q4_0", 32, 18, decodeQ4_0}},    GgmlType{3, {"Q4_1", 32, 20, decodeQ4_1}},
    GgmlType{6, {"Q5_0", 32, 22, decodeQ5_0}},    GgmlType{7, {"Q5_1", 32, 24, decodeQ5_1}},
    GgmlType{8, {"Q8_0", 32, 34, decodeQ8_0}},    GgmlType{9, {"Q8_1", 32, 36, nullptr}},
    GgmlType{10, {"Q2_K", 256, 84, nullptr}},     GgmlType{11, {"Q3_K", 256, 110, nullptr}},
    GgmlType{12, {"Q4_K", 256, 144, decodeQ4_K}}, GgmlType{13, {"Q5_K", 256, 176, decodeQ5_K}},
    GgmlType{14, {"Q6_K", 256, 210, decodeQ6_K}}, GgmlType{15, {"Q8_K", 256, 292, nullptr}},
    GgmlType{16, {"IQ2_XXS", 256, 66, nullptr}},  GgmlType{17, {"IQ2_XS", 256, 74, nullptr}},
    GgmlType{18, {"IQ3_XXS", 256, 98, nullptr}},  GgmlType{19, {"IQ1_S", 256, 50, nullptr}},
    GgmlType{20, {"IQ4_NL", 32, 18, nullptr}},    GgmlType{21, {"IQ3_S", 256, 110, nullptr}},
    GgmlType{22, {"IQ2_S", 256, 82, nullptr}},    GgmlType{23, {"IQ4_XS", 256, 136, nullptr}},
    GgmlType{24, {"I8", 1, 1, nullptr}},          GgmlType{25, {"I16", 1, 2, nullptr}},
    GgmlType{26, {"I32", 1, 4, nullptr}},         GgmlType{27, {"I64", 1, 8, nullptr}},
    GgmlType{28, {"F64", 1, 8, nullptr}},         GgmlType{29, {"IQ1_M", 256, 56, nullptr}},
    GgmlType{30, {"BF16", 1, 2, decodeBF16}},     GgmlType{34, {"TQ1_0", 256, 54, nullptr}},
    GgmlType{35, {"TQ2_0", 256, 66, nullptr}},    GgmlType{39, {"MXFP4", 32, 17, nullptr}},
};

// What quantised linears are made of in safetensors files.
constexpr StorageType kQuantizedParts[] = {
    {"I8", 1, 1, nullptr},  {"U8", 1, 1, nullptr},      {"I32", 1, 4, nullptr},
    {"I64", 1, 8, nullptr}, {"F8_E4M3", 1, 1, nullptr},
};

} // namespace

const StorageType *findGgmlStorage(uint32_t ggmlType) {
  for (const GgmlType &type : kGgmlTypes)
    if (type.number == ggmlType)
      return type.storage.decode ? &type.storage : nullptr;
  return nullptr;
}

std::string_view ggmlTypeName(uint32_t ggmlType) {
  for (const GgmlType &type : kGgmlTypes)
    if (type.number == ggmlType)
      return type.storage.name;
  return {};
}

const StorageType *findSafetensorsStorage(std::string_view dtype) {
  for (const StorageType &type : kQuantizedParts)
    if (type.name == dtype)
      return &type;
  for (const GgmlType &type : kGgmlTypes)
    if (type.storage.blockElements == 1 && type.storage.decode && type.storage.name == dtype)
      return &type.storage;
  return nullptr;
}

} // namespace ingot
