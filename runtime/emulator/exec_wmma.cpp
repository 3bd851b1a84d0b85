// Matrix instructions. Fragments are unpacked to plain [k][row] and [k][column] tables by each generation's layout,
// then multiplied row by row with host vectors of 16 columns, accumulating k in order with one rounding a step (the
// chips' order is not documented).
#include "runtime/emulator/simd.h"

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

typedef float Row __attribute__((vector_size(64)));
typedef uint32_t RowU __attribute__((vector_size(64)));

// Entry::detail of a matrix instruction.
constexpr uint32_t generation12 = 1;

INGOT_INLINE RowU lanesLow(U32 v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
INGOT_INLINE RowU lanesHigh(U32 v) {
  return __builtin_shufflevector(v, v, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
}
INGOT_INLINE U32 join(RowU low, RowU high) {
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                                 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
}

__attribute__((noinline)) bool usable(Wave *w, const Op *op, int aRegisters, int bRegisters) {
  if (w->exec() != ~0u) {
    fault(w, op, 719, -1, "matrix instruction with inactive lanes: its result is undefined");
    return false;
  }
  if (op->detail & generation12)
    return true;
  // The older generation wants rows and columns repeated in both halves of the wave.
  for (int side = 0; side < 2; ++side)
    for (int v = 0; v < (side ? bRegisters : aRegisters); ++v) {
      U32 x = get(w, nextWord(op->s[side], v));
      if (maskOf(x == __builtin_shufflevector(x, x, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 0,
                                              1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)) != ~0u) {
        fault(w, op, 719, -1,
              std::string("operand ") + (side ? "B" : "A") + " of a matrix instruction, register " + std::to_string(v) +
                  ": lanes 16-31 differ from lanes 0-15");
        return false;
      }
    }
  return true;
}

// Rows of the accumulator in register v: the low 16 lanes hold one row, the high 16 another.
INGOT_INLINE int lowRow(bool gen12, int v) { return gen12 ? v : 2 * v; }
INGOT_INLINE int highRow(bool gen12, int v) { return gen12 ? v + 8 : 2 * v + 1; }

enum class Element { f16, bf16, fp8, bf8 };
template <Element e> constexpr bool isByte = e == Element::fp8 || e == Element::bf8;

INGOT_INLINE F32 fromE4m3(U32 b) {
  U32 magnitude = b & 127u;
  U32 bits = as<U32>(as<F32>(magnitude << 20) * 0x1p120f) | (b & 128u) << 24;
  return as<F32>(select(magnitude == 127u, splat(0x7fc00000u), bits));
}
INGOT_INLINE F32 fromE5m2(U32 b) {
  U32 magnitude = b & 127u;
  U32 bits = select(magnitude >= 0x7cu, (magnitude << 21) | 0x7f800000u, as<U32>(as<F32>(magnitude << 21) * 0x1p112f));
  return as<F32>(bits | (b & 128u) << 24);
}
template <Element e> INGOT_INLINE F32 convert(U32 raw) {
  switch (e) {
  case Element::f16:
    return fromHalf(raw & 0xffffu);
  case Element::bf16:
    return as<F32>(raw << 16);
  case Element::fp8:
    return fromE4m3(raw & 255u);
  case Element::bf8:
    return fromE5m2(raw & 255u);
  }
}

// table[k][row or column] as f32.
template <Element e, bool gen12>
INGOT_INLINE void unpack(const Wave *w, int32_t source, uint8_t mods, float (*table)[16]) {
  auto put = [&](int k, RowU v) {
    if constexpr (!isByte<e>)
      if ((k & 1 ? mods & 2 : mods & 1) != 0)
        v ^= 0x80000000u;
    *reinterpret_cast<RowU *>(table[k]) = v;
  };
  if constexpr (isByte<e>) {
    for (int v = 0; v < 2; ++v) {
      U32 x = get(w, nextWord(source, v));
      for (int byte = 0; byte < 4; ++byte) {
        U32 f = as<U32>(convert<e>(x >> uint32_t(8 * byte)));
        put(4 * v + byte, lanesLow(f));
        put(8 + 4 * v + byte, lanesHigh(f));
      }
    }
  } else if constexpr (gen12) {
    for (int v = 0; v < 4; ++v) {
      U32 x = get(w, nextWord(source, v));
      for (int half = 0; half < 2; ++half) {
        U32 f = as<U32>(convert<e>(x >> uint32_t(16 * half)));
        int k = 8 * (v / 2) + 2 * (v % 2) + half;
        put(k, lanesLow(f));
        put(k + 4, lanesHigh(f));
      }
    }
  } else {
    for (int v = 0; v < 8; ++v) {
      U32 x = get(w, nextWord(source, v));
      put(2 * v, lanesLow(as<U32>(convert<e>(x))));
      put(2 * v + 1, lanesLow(as<U32>(convert<e>(x >> 16))));
    }
  }
}

// sum[row][column] += over k, a[k][row] * b[k][column].
INGOT_INLINE void multiply(const float (*a)[16], const float (*b)[16], Row *sum) {
#ifdef __AVX512F__
  constexpr int rows = 16;
#else
  constexpr int rows = 4;
#endif
  for (int first = 0; first < 16; first += rows) {
    Row s[rows];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; ++i)
      s[i] = sum[first + i];
    for (int k = 0; k < 16; ++k) {
      Row column = *reinterpret_cast<const Row *>(b[k]);
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; ++i)
        s[i] = __builtin_elementwise_fma(Row{} + a[k][first + i], column, s[i]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; ++i)
      sum[first + i] = s[i];
  }
}

enum class Sum { f32, f16, bf16 };

template <Element ea, Element eb, Sum kind, bool gen12> void matrixFloat(Wave *w, const Op *op) {
  constexpr int registers = isByte<ea> ? 2 : gen12 ? 4 : 8;
  if (!usable(w, op, registers, registers)) [[unlikely]]
    return;
  alignas(64) float a[16][16], b[16][16];
  alignas(64) Row sum[16];
  uint32_t control = 0;
  if constexpr (isByte<ea>) {
    control = _mm_getcsr();
    _mm_setcsr(control & ~0x8040u); // fp8 denormals pass through f32 denormals
  }
  unpack<ea, gen12>(w, op->s[0], op->mods[0], a);
  unpack<eb, gen12>(w, op->s[1], op->mods[1], b);
  if constexpr (isByte<ea>)
    _mm_setcsr(control);

  auto widen = [](U32 raw) { return kind == Sum::f16 ? fromHalf(raw & 0xffffu) : fromBf16(raw & 0xffffu); };
  auto narrow = [](F32 v) { return kind == Sum::f16 ? toHalf(v) : toBf16(v); };
  bool highHalf = op->mods[2] & 4; // 16-bit results of the older generation live in one half of 8 registers
  if constexpr (kind == Sum::f32) {
    for (int v = 0; v < 8; ++v) {
      U32 c = get(w, nextWord(op->s[2], v));
      if (op->mods[2] & 2)
        c &= 0x7fffffffu;
      if (op->mods[2] & 1)
        c ^= 0x80000000u;
      sum[lowRow(gen12, v)] = as<Row>(lanesLow(c));
      sum[highRow(gen12, v)] = as<Row>(lanesHigh(c));
    }
  } else {
    for (int v = 0; v < (gen12 ? 4 : 8); ++v) {
      U32 c = get(w, nextWord(op->s[2], v));
      if constexpr (gen12) {
        F32 even = widen(c), odd = widen(c >> 16);
        sum[2 * v] = as<Row>(lanesLow(as<U32>(even)));
        sum[2 * v + 1] = as<Row>(lanesLow(as<U32>(odd)));
        sum[2 * v + 8] = as<Row>(lanesHigh(as<U32>(even)));
        sum[2 * v + 9] = as<Row>(lanesHigh(as<U32>(odd)));
      } else {
        U32 f = as<U32>(widen(highHalf ? c >> 16 : c));
        sum[2 * v] = as<Row>(lanesLow(f));
        sum[2 * v + 1] = as<Row>(lanesHigh(f));
      }
    }
  }
  multiply(a, b, sum);
  auto result = [&](int low, int high) { return join(as<RowU>(sum[low]), as<RowU>(sum[high])); };
  for (int v = 0; v < (kind != Sum::f32 && gen12 ? 4 : 8); ++v) {
    U32 &d = *reinterpret_cast<U32 *>(at(w, op->d + 128 * v));
    if constexpr (kind == Sum::f32) {
      d = result(lowRow(gen12, v), highRow(gen12, v));
    } else if constexpr (gen12) {
      d = narrow(as<F32>(result(2 * v, 2 * v + 8))) | narrow(as<F32>(result(2 * v + 1, 2 * v + 9))) << 16;
    } else {
      U32 n = narrow(as<F32>(result(2 * v, 2 * v + 1)));
      d = highHalf ? (d & 0xffffu) | n << 16 : (d & 0xffff0000u) | n;
    }
  }
  INGOT_NEXT;
}

// Integer: four k a dword. rows[k/4][row], columns[k/4][column]; nibbles are widened to bytes first.
INGOT_INLINE U32 widenNibbles(U32 x, bool upper, bool isSigned) {
  // Nibbles 0..3 or 4..7 to bytes.
  U32 n = upper ? x >> 16 : x & 0xffffu;
  n = (n | n << 8) & 0x00ff00ffu;
  n = (n | n << 4) & 0x0f0f0f0fu;
  return isSigned ? n | (n & 0x08080808u) * 0x1eu : n;
}

template <int bits, int depth, bool gen12, bool saturate> void matrixInteger(Wave *w, const Op *op) {
  constexpr int registers = gen12 ? (bits == 8 ? 2 : depth / 16) : (bits == 8 ? 4 : 2);
  if (!usable(w, op, registers, registers)) [[unlikely]]
    return;
  bool isSigned[2] = {bool(op->mods[0] & 1), bool(op->mods[1] & 1)};
  constexpr int groups = depth / 4;
  alignas(64) uint32_t table[2][groups][16];
  for (int side = 0; side < 2; ++side)
    for (int v = 0; v < registers; ++v) {
      U32 x = get(w, nextWord(op->s[side], v));
      auto put = [&](int group, RowU row) { *reinterpret_cast<RowU *>(table[side][group]) = row; };
      constexpr int highGroup = depth / 8; // the other half of k lies in lanes 16-31
      if constexpr (bits == 8) {
        put(v, lanesLow(x));
        if constexpr (gen12)
          put(v + highGroup, lanesHigh(x));
      } else {
        for (int upper = 0; upper < 2; ++upper) {
          U32 n = widenNibbles(x, upper, isSigned[side]);
          put(2 * v + upper, lanesLow(n));
          if constexpr (gen12)
            put(2 * v + upper + highGroup, lanesHigh(n));
        }
      }
    }

  alignas(64) RowU sum[16];
  for (int v = 0; v < 8; ++v) {
    U32 c = get(w, nextWord(op->s[2], v));
    sum[lowRow(gen12, v)] = lanesLow(c);
    sum[highRow(gen12, v)] = lanesHigh(c);
  }
  RowU start[16];
  if constexpr (saturate)
    for (int i = 0; i < 16; ++i) {
      start[i] = sum[i];
      sum[i] = RowU{};
    }
#ifdef __AVX512VNNI__
  // The host multiplies unsigned by signed bytes: a signed A is shifted up by 128 and 128 times the column sums taken
  // off; an unsigned B is shifted down and 128 times the row sums added.
  const __m512i zero = _mm512_setzero_si512(), top = _mm512_set1_epi8(char(0x80));
  __m512i columns[groups], correction = zero;
  uint32_t flip = isSigned[0] ? 0x80808080u : 0;
  for (int g = 0; g < groups; ++g) {
    columns[g] = _mm512_load_si512(table[1][g]);
    if (!isSigned[1])
      columns[g] = _mm512_xor_si512(columns[g], top);
    if (isSigned[0])
      correction = _mm512_dpbusd_epi32(correction, top, columns[g]);
  }
  for (int i = 0; i < 16; ++i) {
    __m512i s = _mm512_sub_epi32(_mm512_load_si512(&sum[i]), correction);
    uint32_t rowSum = 0;
    for (int g = 0; g < groups; ++g) {
      s = _mm512_dpbusd_epi32(s, _mm512_set1_epi32(int(table[0][g][i] ^ flip)), columns[g]);
      if (!isSigned[1])
        for (int byte = 0; byte < 4; ++byte) {
          uint32_t x = table[0][g][i] >> (8 * byte) & 255;
          rowSum += isSigned[0] ? uint32_t(int32_t(int8_t(x))) : x;
        }
    }
    s = _mm512_add_epi32(s, _mm512_set1_epi32(int(rowSum * 128)));
    _mm512_store_si512(&sum[i], s);
  }
#else
  // Bytes to 16-bit pairs, so that one multiply-add serves two k.
  struct Two {
    __m256i v[2];
  };
  alignas(64) uint32_t wide[2][groups][2][16];
  for (int side = 0; side < 2; ++side)
    for (int g = 0; g < groups; ++g) {
      Two x = as<Two>(*reinterpret_cast<RowU *>(table[side][g]));
      for (int h = 0; h < 2; ++h) {
        __m256i e = _mm256_slli_epi16(x.v[h], 8);
        e = isSigned[side] ? _mm256_srai_epi16(e, 8) : _mm256_srli_epi16(e, 8);
        __m256i o = isSigned[side] ? _mm256_srai_epi16(x.v[h], 8) : _mm256_srli_epi16(x.v[h], 8);
        _mm256_store_si256(reinterpret_cast<__m256i *>(&wide[side][g][0][8 * h]), e);
        _mm256_store_si256(reinterpret_cast<__m256i *>(&wide[side][g][1][8 * h]), o);
      }
    }
  for (int i = 0; i < 16; ++i) {
    Two s = as<Two>(sum[i]);
    for (int g = 0; g < groups; ++g)
      for (int odd = 0; odd < 2; ++odd) {
        __m256i row = _mm256_set1_epi32(int(wide[0][g][odd][i]));
        for (int h = 0; h < 2; ++h) {
          __m256i column = _mm256_load_si256(reinterpret_cast<const __m256i *>(&wide[1][g][odd][8 * h]));
          s.v[h] = _mm256_add_epi32(s.v[h], _mm256_madd_epi16(row, column));
        }
      }
    sum[i] = as<RowU>(s);
  }
#endif
  if constexpr (saturate) {
    typedef int32_t RowI __attribute__((vector_size(64)));
    for (int i = 0; i < 16; ++i)
      sum[i] = (RowU)__builtin_elementwise_add_sat((RowI)sum[i], (RowI)start[i]);
  }
  for (int v = 0; v < 8; ++v)
    *reinterpret_cast<U32 *>(at(w, op->d + 128 * v)) = join(sum[lowRow(gen12, v)], sum[highRow(gen12, v)]);
  INGOT_NEXT;
}

Entry matrix(const char *names, Handler run, uint32_t detail, uint8_t a, uint8_t c) {
  // words: registers of A and B; sources' count is 3. The accumulator's registers ride in the upper half of detail.
  return {names,       run,       Form::wmma,
          Class::wmma, Type::raw, {Type::raw, Type::raw, Type::raw, Type::none},
          3,           a,         detail | uint32_t(c) << 8};
}

} // namespace

// A name may be in the table once for each generation; the decoder takes the one of its chip (detail bit 0).
std::span<const Entry> wmmaEntries() {
  using E = Element;
  static const Entry rows[] = {
      matrix("v_wmma_f32_16x16x16_f16", matrixFloat<E::f16, E::f16, Sum::f32, false>, 0, 8, 8),
      matrix("v_wmma_f32_16x16x16_bf16", matrixFloat<E::bf16, E::bf16, Sum::f32, false>, 0, 8, 8),
      matrix("v_wmma_f16_16x16x16_f16", matrixFloat<E::f16, E::f16, Sum::f16, false>, 0, 8, 8),
      matrix("v_wmma_bf16_16x16x16_bf16", matrixFloat<E::bf16, E::bf16, Sum::bf16, false>, 0, 8, 8),
      matrix("v_wmma_i32_16x16x16_iu8", matrixInteger<8, 16, false, false>, 0, 4, 8),
      matrix("v_wmma_i32_16x16x16_iu8_clamp", matrixInteger<8, 16, false, true>, 0, 4, 8),
      matrix("v_wmma_i32_16x16x16_iu4", matrixInteger<4, 16, false, false>, 0, 2, 8),
      matrix("v_wmma_i32_16x16x16_iu4_clamp", matrixInteger<4, 16, false, true>, 0, 2, 8),

      matrix("v_wmma_f32_16x16x16_f16", matrixFloat<E::f16, E::f16, Sum::f32, true>, 1, 4, 8),
      matrix("v_wmma_f32_16x16x16_bf16", matrixFloat<E::bf16, E::bf16, Sum::f32, true>, 1, 4, 8),
      matrix("v_wmma_f16_16x16x16_f16", matrixFloat<E::f16, E::f16, Sum::f16, true>, 1, 4, 4),
      matrix("v_wmma_bf16_16x16x16_bf16", matrixFloat<E::bf16, E::bf16, Sum::bf16, true>, 1, 4, 4),
      matrix("v_wmma_i32_16x16x16_iu8", matrixInteger<8, 16, true, false>, 1, 2, 8),
      matrix("v_wmma_i32_16x16x16_iu8_clamp", matrixInteger<8, 16, true, true>, 1, 2, 8),
      matrix("v_wmma_i32_16x16x16_iu4", matrixInteger<4, 16, true, false>, 1, 1, 8),
      matrix("v_wmma_i32_16x16x16_iu4_clamp", matrixInteger<4, 16, true, true>, 1, 1, 8),
      matrix("v_wmma_i32_16x16x32_iu4", matrixInteger<4, 32, true, false>, 1, 2, 8),
      matrix("v_wmma_i32_16x16x32_iu4_clamp", matrixInteger<4, 32, true, true>, 1, 2, 8),
      matrix("v_wmma_f32_16x16x16_fp8_fp8", matrixFloat<E::fp8, E::fp8, Sum::f32, true>, 1, 2, 8),
      matrix("v_wmma_f32_16x16x16_fp8_bf8", matrixFloat<E::fp8, E::bf8, Sum::f32, true>, 1, 2, 8),
      matrix("v_wmma_f32_16x16x16_bf8_fp8", matrixFloat<E::bf8, E::fp8, Sum::f32, true>, 1, 2, 8),
      matrix("v_wmma_f32_16x16x16_bf8_bf8", matrixFloat<E::bf8, E::bf8, Sum::f32, true>, 1, 2, 8),
  };
  return rows;
}

} // namespace ingot::emu::INGOT_EXEC_ISA
