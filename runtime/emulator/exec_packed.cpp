// Packed 16-bit arithmetic, dot products, and the micro-operations that source modifiers, clamps and half registers are
// expanded to by the decoder, so that the handlers of plain instructions carry no such cases.
#include "runtime/emulator/simd.h"

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

INGOT_INLINE F32 lowF(U32 a) { return fromHalf(a & 0xffffu); }
INGOT_INLINE F32 highF(U32 a) { return fromHalf(a >> 16); }
INGOT_INLINE U32 packF(F32 low, F32 high) { return toHalf(low) | toHalf(high) << 16; }
INGOT_INLINE F32 unit(F32 x) {
  x = select(x > 0.0f, x, F32{});
  return select(x > 1.0f, splatF(1.0f), x);
}
INGOT_INLINE U32 low16(U32 a) { return a & 0xffffu; }
INGOT_INLINE I32 lowS(U32 a) { return (I32)(a << 16) >> 16; }
INGOT_INLINE I32 highS(U32 a) { return (I32)a >> 16; }
template <class V> INGOT_INLINE U32 pack(V low, V high) { return ((U32)low & 0xffffu) | (U32)high << 16; }
INGOT_INLINE I32 clamp16(I32 a) {
  return __builtin_elementwise_min(__builtin_elementwise_max(a, (I32)splat(-32768u)), (I32)splat(32767u));
}

// The same expression on both halves, as f32, unsigned or signed values.
template <class F> INGOT_INLINE U32 bothF(U32 a, U32 b, U32 c, F f) {
  return packF(f(lowF(a), lowF(b), lowF(c)), f(highF(a), highF(b), highF(c)));
}
template <class F> INGOT_INLINE U32 bothU(U32 a, U32 b, U32 c, F f) {
  return pack(f(low16(a), low16(b), low16(c)), f(a >> 16, b >> 16, c >> 16));
}
template <class F> INGOT_INLINE U32 bothS(U32 a, U32 b, U32 c, F f) {
  return pack(f(lowS(a), lowS(b), lowS(c)), f(highS(a), highS(b), highS(c)));
}
#define PF2(names, ...)                                                                                                \
  V2(names, pkf16, pkf16, pkf16, bothF(a, b, b, INGOT_LAMBDA(__VA_ARGS__))),                                           \
      V2(names "_clamp", pkf16, pkf16, pkf16, bothF(a, b, b, INGOT_LAMBDA(unit(__VA_ARGS__))))
#define PF3(names, ...)                                                                                                \
  V3(names, pkf16, pkf16, pkf16, pkf16, bothF(a, b, c, INGOT_LAMBDA(__VA_ARGS__))),                                    \
      V3(names "_clamp", pkf16, pkf16, pkf16, pkf16, bothF(a, b, c, INGOT_LAMBDA(unit(__VA_ARGS__))))
#define PU2(names, ...) V2(names, pk16, pk16, pk16, bothU(a, b, b, INGOT_LAMBDA(__VA_ARGS__)))
#define PU3(names, ...) V3(names, pk16, pk16, pk16, pk16, bothU(a, b, c, INGOT_LAMBDA(__VA_ARGS__)))
#define PS2(names, ...) V2(names, pk16, pk16, pk16, bothS(a, b, b, INGOT_LAMBDA(__VA_ARGS__)))
#define PS3(names, ...) V3(names, pk16, pk16, pk16, pk16, bothS(a, b, c, INGOT_LAMBDA(__VA_ARGS__)))

// Sum over the four byte products plus c.
template <bool aSigned, bool bSigned> INGOT_INLINE U32 dotBytes(U32 a, U32 b, U32 c) {
#ifdef __AVX512VNNI__
  struct Halves {
    __m512i v[2];
  } x = as<Halves>(a), y = as<Halves>(b), z = as<Halves>(c);
  const __m512i top = _mm512_set1_epi8(char(0x80)), ones = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
  for (int i = 0; i < 2; ++i) {
    // The host multiplies unsigned by signed bytes; an operand of the other kind is shifted by 128 and corrected.
    if constexpr (!aSigned && bSigned) {
      z.v[i] = _mm512_dpbusd_epi32(z.v[i], x.v[i], y.v[i]);
    } else if constexpr (aSigned && !bSigned) {
      z.v[i] = _mm512_dpbusd_epi32(z.v[i], y.v[i], x.v[i]);
    } else if constexpr (aSigned) {
      __m512i shifted = _mm512_dpbusd_epi32(z.v[i], _mm512_xor_si512(x.v[i], top), y.v[i]);
      z.v[i] = _mm512_sub_epi32(shifted, _mm512_dpbusd_epi32(zero, top, y.v[i]));
    } else {
      __m512i shifted = _mm512_dpbusd_epi32(z.v[i], x.v[i], _mm512_xor_si512(y.v[i], top));
      __m512i sum = _mm512_dpbusd_epi32(zero, x.v[i], ones);
      z.v[i] = _mm512_add_epi32(shifted, _mm512_slli_epi32(sum, 7));
    }
  }
  return as<U32>(z);
#else
  struct Quarters {
    __m256i v[4];
  } x = as<Quarters>(a), y = as<Quarters>(b), z = as<Quarters>(c);
  auto even = [](__m256i v, bool isSigned) {
    v = _mm256_slli_epi16(v, 8);
    return isSigned ? _mm256_srai_epi16(v, 8) : _mm256_srli_epi16(v, 8);
  };
  auto odd = [](__m256i v, bool isSigned) { return isSigned ? _mm256_srai_epi16(v, 8) : _mm256_srli_epi16(v, 8); };
  for (int i = 0; i < 4; ++i) {
    __m256i e = _mm256_madd_epi16(even(x.v[i], aSigned), even(y.v[i], bSigned));
    __m256i o = _mm256_madd_epi16(odd(x.v[i], aSigned), odd(y.v[i], bSigned));
    z.v[i] = _mm256_add_epi32(z.v[i], _mm256_add_epi32(e, o));
  }
  return as<U32>(z);
#endif
}
INGOT_INLINE U32 dotBytesMixed(U32 a, U32 b, U32 c, bool aSigned, bool bSigned) {
  if (aSigned)
    return bSigned ? dotBytes<true, true>(a, b, c) : dotBytes<true, false>(a, b, c);
  return bSigned ? dotBytes<false, true>(a, b, c) : dotBytes<false, false>(a, b, c);
}
// Nibbles as bytes, the even ones, then the odd.
INGOT_INLINE U32 dotNibblesMixed(U32 a, U32 b, U32 c, bool aSigned, bool bSigned) {
  U32 r = c;
  for (int odd = 0; odd < 2; ++odd) {
    U32 x = (odd ? a >> 4 : a) & 0x0f0f0f0fu, y = (odd ? b >> 4 : b) & 0x0f0f0f0fu;
    // Bit 3 set means minus 16: spread it over the upper half of the byte.
    if (aSigned)
      x |= (x & 0x08080808u) * 0x1eu;
    if (bSigned)
      y |= (y & 0x08080808u) * 0x1eu;
    r = dotBytesMixed(x, y, r, aSigned, bSigned);
  }
  return r;
}

enum class Dot { bytes, nibbles };
template <Dot kind, bool saturate> void dotMixed(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]), b = get(w, op->s[1]), c = get(w, op->s[2]);
  bool aSigned = op->mods[0] & 1, bSigned = op->mods[1] & 1;
  U32 start = saturate ? U32{} : c;
  U32 r = kind == Dot::bytes ? dotBytesMixed(a, b, start, aSigned, bSigned)
                             : dotNibblesMixed(a, b, start, aSigned, bSigned);
  if constexpr (saturate)
    r = (U32)__builtin_elementwise_add_sat((I32)r, (I32)c);
  put(w, op->d, r);
  INGOT_NEXT;
}
INGOT_INLINE F32 bfLow(U32 a) { return as<F32>(a << 16); }
INGOT_INLINE F32 bfHigh(U32 a) { return as<F32>(a & 0xffff0000u); }

template <class D, class A, class C, class F> Entry dot(const char *names, F f) {
  Entry e = valuEntry<D, A, A, C>(names, Class::dot, f);
  return e;
}
Entry dotInteger(const char *names, Handler run) {
  return {names, run, Form::dotInteger, Class::dot, Type::b32, {Type::b32, Type::b32, Type::b32, Type::none}, 3, 0, 0};
}

// fp8 operands of the gfx12 dot products.
template <int mantissa> INGOT_INLINE F32 byteFloat(U32 word, uint32_t byte) {
  U32 b = word >> (8 * byte) & 255u;
  U32 sign = (b & 128u) << 24, magnitude = b & 127u;
  if constexpr (mantissa == 3) {
    // Moving the bits to f32 and scaling by 2^(127-7) handles denormals too.
    F32 v = as<F32>(magnitude << 20) * 0x1p120f;
    U32 bits = as<U32>(v) | sign;
    return as<F32>(select(magnitude == 127u, splat(0x7fc00000u), bits));
  }
  F32 v = as<F32>(magnitude << 21) * 0x1p112f;
  U32 bits = select(magnitude >= 0x7cu, (magnitude << 21) | 0x7f800000u, as<U32>(v));
  return as<F32>(bits | sign);
}
template <int mantissaA, int mantissaB> void dotByteFloats(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]), b = get(w, op->s[1]);
  F32 c = as<F32>(get(w, op->s[2]));
  uint32_t control = _mm_getcsr();
  _mm_setcsr(control & ~0x8040u); // the conversion passes through f32 denormals
  F32 r = c;
  for (uint32_t i = 0; i < 4; ++i)
    r = fma(byteFloat<mantissaA>(a, i), byteFloat<mantissaB>(b, i), r);
  _mm_setcsr(control);
  put(w, op->d, as<U32>(r));
  INGOT_NEXT;
}

// Micro-operations. They write every lane of a temporary register, or of the destination under EXEC.
INGOT_INLINE void putAll(Wave *w, int32_t offset, U32 v) { *reinterpret_cast<U32 *>(at(w, offset)) = v; }
INGOT_INLINE U32 signs(U32 v, uint8_t mods, uint32_t bit) {
  if (mods & 2)
    v &= ~splat(bit);
  if (mods & 1)
    v ^= bit;
  return v;
}
void modF32(Wave *w, const Op *op) {
  putAll(w, op->d, signs(get(w, op->s[0]), op->mods[0], 0x80000000u));
  INGOT_NEXT;
}
void modF16(Wave *w, const Op *op) {
  U32 v = get(w, op->s[0]);
  if (op->mods[0] & 4)
    v >>= 16;
  putAll(w, op->d, signs(v & 0xffffu, op->mods[0], 0x8000u));
  INGOT_NEXT;
}
void modF64(Wave *w, const Op *op) {
  putAll(w, op->d, get(w, op->s[0]));
  putAll(w, op->d + 128, signs(get(w, nextWord(op->s[0])), op->mods[0], 0x80000000u));
  INGOT_NEXT;
}
void modPacked(Wave *w, const Op *op) {
  U32 v = get(w, op->s[0]);
  U32 low = op->mods[0] & 4 ? v >> 16 : v & 0xffffu, high = op->mods[0] & 8 ? v & 0xffff0000u : v << 16;
  v = low | high;
  if (op->mods[0] & 1)
    v ^= 0x8000u;
  if (op->mods[0] & 2)
    v ^= 0x80000000u;
  putAll(w, op->d, v);
  INGOT_NEXT;
}
// A source of v_fma_mix: bit 8 says f16, bit 4 which half; bit 2 is abs, bit 1 neg.
void modMix(Wave *w, const Op *op) {
  U32 v = get(w, op->s[0]);
  if (op->mods[0] & 8)
    v = as<U32>(fromHalf(op->mods[0] & 4 ? v >> 16 : v & 0xffffu));
  putAll(w, op->d, signs(v, op->mods[0], 0x80000000u));
  INGOT_NEXT;
}
template <class F> INGOT_INLINE F scaleAndClamp(F v, uint32_t omod, bool clamp) {
  if (omod)
    v *= omod == 1 ? 2 : omod == 2 ? 4 : 0.5f;
  if (clamp) {
    v = v > 0 ? v : F{};
    v = v > 1 ? F{} + 1 : v;
  }
  return v;
}
void clampF32(Wave *w, const Op *op) {
  put(w, op->d, as<U32>(scaleAndClamp(as<F32>(get(w, op->s[0])), op->imm2, op->imm)));
  INGOT_NEXT;
}
// The result half is chosen by mods[0] bit 3.
void clampF16(Wave *w, const Op *op) {
  U32 v = toHalf(scaleAndClamp(fromHalf(get(w, op->s[0]) & 0xffffu), op->imm2, op->imm));
  U32 old = *reinterpret_cast<const U32 *>(at(w, op->d));
  put(w, op->d, op->mods[0] & 8 ? (old & 0xffffu) | v << 16 : (old & 0xffff0000u) | v);
  INGOT_NEXT;
}
void clampF64(Wave *w, const Op *op) {
  F64 v = as<F64>(getWide(w, op->s[0]));
  if (op->imm2)
    v *= op->imm2 == 1 ? 2.0 : op->imm2 == 2 ? 4.0 : 0.5;
  if (op->imm) {
    v = v > 0.0 ? v : F64{};
    v = v > 1.0 ? F64{} + 1.0 : v;
  }
  putWide(w, op->d, as<U64>(v));
  INGOT_NEXT;
}
void copy(Wave *w, const Op *op) {
  put(w, op->d, get(w, op->s[0]));
  INGOT_NEXT;
}
void copyHalf(Wave *w, const Op *op) {
  U32 v = get(w, op->s[0]), old = *reinterpret_cast<const U32 *>(at(w, op->d));
  put(w, op->d, op->mods[0] & 8 ? (old & 0xffffu) | v << 16 : (old & 0xffff0000u) | (v & 0xffffu));
  INGOT_NEXT;
}
// The f32 result of v_fma_mixlo/hi to a half of the destination.
void narrow(Wave *w, const Op *op) {
  U32 v = toHalf(scaleAndClamp(as<F32>(get(w, op->s[0])), 0, op->imm));
  U32 old = *reinterpret_cast<const U32 *>(at(w, op->d));
  put(w, op->d, op->mods[0] & 8 ? (old & 0xffffu) | v << 16 : (old & 0xffff0000u) | v);
  INGOT_NEXT;
}
void restoreExec(Wave *w, const Op *op) {
  w->s[sreg::exec] = w->savedExec;
  INGOT_NEXT;
}

// DPP: where each lane reads, and which lanes have a source in their row at all.
struct DppRule {
  U32 source;
  uint32_t valid;
};
DppRule dppRule(uint32_t control) {
  DppRule rule{laneNumber, 0};
  for (int lane = 0; lane < 32; ++lane) {
    int row = lane & ~15, in = lane & 15, from = in;
    if (control < 0x100)
      from = (in & ~3) | (control >> (2 * (in & 3)) & 3);
    else if (control >= 0x101 && control <= 0x10f)
      from = in + int(control & 15);
    else if (control >= 0x111 && control <= 0x11f)
      from = in - int(control & 15);
    else if (control >= 0x121 && control <= 0x12f)
      from = (in - int(control & 15)) & 15;
    else if (control == 0x140)
      from = 15 - in;
    else if (control == 0x141)
      from = (in & 8) | (7 - (in & 7));
    else if (control >= 0x150 && control <= 0x15f)
      from = int(control & 15);
    else if (control >= 0x160 && control <= 0x16f)
      from = in ^ int(control & 15);
    bool valid = from >= 0 && from <= 15;
    rule.source[lane] = valid ? uint32_t(row + from) : uint32_t(lane);
    rule.valid |= uint32_t(valid) << lane;
  }
  return rule;
}
// Built when this instruction set is chosen, not at load time: another host could not run the initialiser.
const DppRule *rules;
const DppRule *dppRules() {
  static const DppRule *const built = [] {
    auto *r = new DppRule[0x170];
    for (uint32_t i = 0; i < 0x170; ++i)
      r[i] = dppRule(i);
    return r;
  }();
  return built;
}

INGOT_INLINE U32 fromLanes(U32 v, U32 index) {
#ifdef __AVX512F__
  struct Halves {
    __m512i v[2];
  } x = as<Halves>(v), i = as<Halves>(index), r;
  r.v[0] = _mm512_permutex2var_epi32(x.v[0], i.v[0], x.v[1]);
  r.v[1] = _mm512_permutex2var_epi32(x.v[0], i.v[1], x.v[1]);
  return as<U32>(r);
#else
  alignas(128) uint32_t from[32], r[32];
  std::memcpy(from, &v, sizeof from);
  for (int i = 0; i < 32; ++i)
    r[i] = from[index[i] & 31];
  U32 out;
  std::memcpy(&out, r, sizeof r);
  return out;
#endif
}
INGOT_INLINE void permuteAndMask(Wave *w, const Op *op, U32 source, uint32_t valid, bool bound, bool fetchInactive,
                                 uint32_t writable) {
  uint32_t exec = w->exec();
  if (exec != ~0u && !fetchInactive)
    valid &= maskOf((I32)fromLanes((U32)lanesOf(exec), source));
  U32 v = fromLanes(get(w, op->s[0]), source);
  if (valid != ~0u)
    v = select(valid, v, U32{});
  putAll(w, op->d, v);
  w->savedExec = exec;
  w->s[sreg::exec] = exec & writable & (bound ? ~0u : valid);
}
// imm: control; imm2: row mask 3:0, bank mask 7:4, bound_ctrl 8, fetch-inactive 9.
void dpp(Wave *w, const Op *op) {
  const DppRule &rule = rules[op->imm];
  uint32_t banks = op->imm2 >> 4 & 15, writable = 0;
  if ((op->imm2 & 0xff) == 0xff) {
    writable = ~0u;
  } else {
    uint32_t inRow = 0;
    for (int bank = 0; bank < 4; ++bank)
      inRow |= banks >> bank & 1 ? 15u << (4 * bank) : 0;
    writable = (op->imm2 & 1 ? inRow : 0) | (op->imm2 & 2 ? inRow << 16 : 0);
  }
  permuteAndMask(w, op, rule.source, rule.valid, op->imm2 >> 8 & 1, op->imm2 >> 9 & 1, writable);
  INGOT_NEXT;
}
// imm: eight 3-bit selectors; imm2 bit 9: fetch-inactive. A lane without a source reads 0.
void dpp8(Wave *w, const Op *op) {
  U32 source;
  for (int lane = 0; lane < 32; ++lane)
    source[lane] = uint32_t(lane & ~7) | (op->imm >> (3 * (lane & 7)) & 7);
  permuteAndMask(w, op, source, ~0u, true, op->imm2 >> 9 & 1, ~0u);
  INGOT_NEXT;
}

} // namespace

std::span<const Entry> packedEntries() {
  static const Entry rows[] = {
      PF2("v_pk_add_f16", a + b),
      PF2("v_pk_mul_f16", a * b),
      PF3("v_pk_fma_f16", fmaHalf(a, b, c)),
      V3("v_pk_fmac_f16", pkf16, pkf16, pkf16, pkf16, bothF(a, b, c, INGOT_LAMBDA(fmaHalf(a, b, c)))),
      PF2("v_pk_max_f16", maxNumber(a, b)),
      PF2("v_pk_max_num_f16", maxNumber(a, b)),
      PF2("v_pk_min_f16", minNumber(a, b)),
      PF2("v_pk_min_num_f16", minNumber(a, b)),
      PF2("v_pk_maximum_f16", maximum(a, b)),
      PF2("v_pk_minimum_f16", minimum(a, b)),
      PU2("v_pk_add_u16", a + b),
      PU2("v_pk_add_i16", a + b),
      PU2("v_pk_sub_u16", a - b),
      PU2("v_pk_sub_i16", a - b),
      PU2("v_pk_mul_lo_u16", a * b),
      PU3("v_pk_mad_u16", a * b + c),
      PU3("v_pk_mad_i16", a * b + c),
      PU2("v_pk_add_u16_clamp", __builtin_elementwise_min(a + b, splat(65535))),
      PU2("v_pk_sub_u16_clamp", __builtin_elementwise_max(a, b) - b),
      PS2("v_pk_add_i16_clamp", clamp16(a + b)),
      PS2("v_pk_sub_i16_clamp", clamp16(a - b)),
      PU2("v_pk_max_u16", __builtin_elementwise_max(a, b)),
      PU2("v_pk_min_u16", __builtin_elementwise_min(a, b)),
      PS2("v_pk_max_i16", __builtin_elementwise_max(a, b)),
      PS2("v_pk_min_i16", __builtin_elementwise_min(a, b)),
      PU2("v_pk_lshlrev_b16", b << (a & 15u)),
      PU2("v_pk_lshrrev_b16", b >> (a & 15u)),
      PS2("v_pk_ashrrev_i16", b >> (a & 15)),

      dot<f32, pkf16, f32>("v_dot2_f32_f16|v_dot2acc_f32_f16|v_dot2c_f32_f16",
                           INGOT_LAMBDA(fma(highF(a), highF(b), fma(lowF(a), lowF(b), c)))),
      dot<f32, pkbf16, f32>("v_dot2_f32_bf16|v_dot2acc_f32_bf16|v_dot2c_f32_bf16",
                            INGOT_LAMBDA(fma(bfHigh(a), bfHigh(b), fma(bfLow(a), bfLow(b), c)))),
      dot<f16, pkf16, f16>("v_dot2_f16_f16", INGOT_LAMBDA(fma(highF(a), highF(b), fma(lowF(a), lowF(b), c)))),
      dot<bf16, pkbf16, bf16>("v_dot2_bf16_bf16", INGOT_LAMBDA(fma(bfHigh(a), bfHigh(b), fma(bfLow(a), bfLow(b), c)))),
      dotInteger("v_dot4_i32_iu8", dotMixed<Dot::bytes, false>),
      dotInteger("v_dot4_i32_iu8_clamp", dotMixed<Dot::bytes, true>),
      dotInteger("v_dot8_i32_iu4", dotMixed<Dot::nibbles, false>),
      dotInteger("v_dot8_i32_iu4_clamp", dotMixed<Dot::nibbles, true>),
      dot<u32, u32, u32>("v_dot4_u32_u8", INGOT_LAMBDA(dotBytes<false, false>(a, b, c))),
      dot<u32, u32, u32>("v_dot8_u32_u4", INGOT_LAMBDA(dotNibblesMixed(a, b, c, false, false))),
      dotInteger("v_dot4_f32_fp8_fp8", dotByteFloats<3, 3>),
      dotInteger("v_dot4_f32_fp8_bf8", dotByteFloats<3, 2>),
      dotInteger("v_dot4_f32_bf8_fp8", dotByteFloats<2, 3>),
      dotInteger("v_dot4_f32_bf8_bf8", dotByteFloats<2, 2>),

      valuEntry<f32, f32, f32, f32>("v_fma_mix_f32|v_fma_mixlo_f16|v_fma_mixhi_f16", Class::vector,
                                    INGOT_LAMBDA(fma(a, b, c)), Form::mix),
  };
  return rows;
}

Micro microOperations() {
  rules = dppRules();
  return {modF32,      modF16,   modF64,   modPacked, modMix, dpp,      dpp8,
          restoreExec, clampF32, clampF16, clampF64,  copy,   copyHalf, narrow};
}

// Ends by a handler that does not go on to the next operation; the upper vector halves are cleared once, here.
void runWave(Wave *w) {
  uint32_t control = _mm_getcsr();
  _mm_setcsr(w->mxcsr);
  const Op *op = w->next;
  op->run(w, op);
  _mm_setcsr(control);
  _mm256_zeroupper();
}

} // namespace ingot::emu::INGOT_EXEC_ISA
