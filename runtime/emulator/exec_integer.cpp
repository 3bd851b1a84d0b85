// Integer vector arithmetic, shifts, bit fields, carries and wide multiplies.
#include "runtime/emulator/simd.h"

#include <utility>

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

INGOT_INLINE U32 umin(U32 a, U32 b) { return __builtin_elementwise_min(a, b); }
INGOT_INLINE U32 umax(U32 a, U32 b) { return __builtin_elementwise_max(a, b); }
INGOT_INLINE I32 imin(I32 a, I32 b) { return __builtin_elementwise_min(a, b); }
INGOT_INLINE I32 imax(I32 a, I32 b) { return __builtin_elementwise_max(a, b); }
INGOT_INLINE U32 lowProduct24(U32 a, U32 b) { return (a & 0xffffffu) * (b & 0xffffffu); }
INGOT_INLINE I32 extend24(I32 a) { return (I32)((U32)a << 8) >> 8; }
INGOT_INLINE U64 product(U32 a, U32 b) { return __builtin_convertvector(a, U64) * __builtin_convertvector(b, U64); }
INGOT_INLINE I64 product(I32 a, I32 b) { return __builtin_convertvector(a, I64) * __builtin_convertvector(b, I64); }
INGOT_INLINE U32 upper(U64 a) { return __builtin_convertvector(a >> 32, U32); }
INGOT_INLINE U64 shiftCount(U32 a) { return __builtin_convertvector(a & 63u, U64); }
INGOT_INLINE U32 fieldMask(U32 width) { return (splat(1) << (width & 31u)) - 1u; }
INGOT_INLINE I32 signedField(U32 a, U32 width) {
  U32 up = (32u - width) & 31u;
  return select(width == 0u, I32{}, (I32)(a << up) >> (I32)up);
}
INGOT_INLINE U32 bytesDistance(U32 a, U32 b, int i) {
  U32 x = a >> uint32_t(8 * i) & 255u, y = b >> uint32_t(8 * i) & 255u;
  return umax(x, y) - umin(x, y);
}
INGOT_INLINE U32 sumOfDistances(U32 a, U32 b) {
  return bytesDistance(a, b, 0) + bytesDistance(a, b, 1) + bytesDistance(a, b, 2) + bytesDistance(a, b, 3);
}
INGOT_INLINE U32 maskedDistances(U32 a, U32 b) {
  U32 r{};
  for (int i = 0; i < 4; ++i)
    r += select((b >> uint32_t(8 * i) & 255u) != 0u, bytesDistance(a, b, i), U32{});
  return r;
}
INGOT_INLINE U32 lerp(U32 a, U32 b, U32 c) {
  U32 r{};
  for (uint32_t i = 0; i < 32; i += 8)
    r |= (((a >> i & 255u) + (b >> i & 255u) + (c >> i & 1u)) >> 1 & 255u) << i;
  return r;
}
INGOT_INLINE U32 reverseBits(U32 a) { return __builtin_elementwise_bitreverse(a); }
INGOT_INLINE U32 countBits(U32 a) { return __builtin_elementwise_popcount(a); }
uint32_t firstHigh(uint32_t x) { return x ? uint32_t(__builtin_clz(x)) : ~0u; }
uint32_t firstLow(uint32_t x) { return x ? uint32_t(__builtin_ctz(x)) : ~0u; }
uint32_t firstDifferent(uint32_t x) {
  uint32_t y = int32_t(x) < 0 ? ~x : x;
  return y ? uint32_t(__builtin_clz(y)) : ~0u;
}

// v_perm_b32: each selector byte picks one of the eight bytes {a, b} (b is 0..3), a sign, 0 or 0xff.
INGOT_INLINE U32 permute(U32 a, U32 b, U32 selector) {
#ifdef __AVX512BW__
  struct Halves {
    __m512i v[2];
  } x = as<Halves>(a), y = as<Halves>(b), s = as<Halves>(selector), r;
  const __m512i laneBase =
      _mm512_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c,
                       0x08080808, 0x04040404, 0, 0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  const __m512i seven = _mm512_set1_epi8(7), three = _mm512_set1_epi8(3);
  for (int i = 0; i < 2; ++i) {
    __m512i index = _mm512_add_epi8(_mm512_and_si512(s.v[i], three), laneBase);
    __m512i fromA = _mm512_shuffle_epi8(x.v[i], index), fromB = _mm512_shuffle_epi8(y.v[i], index);
    __m512i v = _mm512_mask_blend_epi8(_mm512_cmpgt_epu8_mask(_mm512_and_si512(s.v[i], seven), three), fromB, fromA);
    __mmask64 special = _mm512_cmpgt_epu8_mask(s.v[i], seven);
    if (special) [[unlikely]] {
      // 8, 9: the signs of b's halves; 10, 11: of a's; 12: 0; above: 0xff.
      auto sign = [](__m512i word, int bit) {
        __m512i t = bit == 15 ? _mm512_srai_epi32(_mm512_slli_epi32(word, 16), 31) : _mm512_srai_epi32(word, 31);
        return t;
      };
      auto pick = [&](int code, __m512i value) {
        v = _mm512_mask_mov_epi8(v, _mm512_cmpeq_epi8_mask(s.v[i], _mm512_set1_epi8(char(code))), value);
      };
      pick(8, sign(y.v[i], 15));
      pick(9, sign(y.v[i], 31));
      pick(10, sign(x.v[i], 15));
      pick(11, sign(x.v[i], 31));
      pick(12, _mm512_setzero_si512());
      v = _mm512_mask_mov_epi8(v, _mm512_cmpgt_epu8_mask(s.v[i], _mm512_set1_epi8(12)), _mm512_set1_epi8(-1));
    }
    r.v[i] = v;
  }
  return as<U32>(r);
#else
  U32 r{};
  for (uint32_t i = 0; i < 32; i += 8) {
    U32 s = selector >> i & 255u, shift = (s & 3u) * 8u;
    U32 v = select((s & 4u) != 0u, a >> shift, b >> shift) & 255u;
    U32 word = select((s & 2u) != 0u, a, b);
    U32 sign = (U32)((I32)(word << select((s & 1u) != 0u, U32{}, splat(16))) >> 31) & 255u;
    v = select(s > 7u, sign, v);
    v = select(s == 12u, U32{}, v);
    v = select(s > 12u, splat(255), v);
    r |= v << i;
  }
  return r;
#endif
}

// Additions with a carry out: D, carry mask, sources, carry-in mask.
enum class Carry { add, sub, subrev };
template <Carry kind, bool in> void withCarry(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]), b = get(w, op->s[1]), r, out;
  if constexpr (kind == Carry::subrev)
    std::swap(a, b);
  U32 carry = in ? select(w->word(op->s[2] & ~1), splat(1), U32{}) : U32{};
  if constexpr (kind == Carry::add) {
    U32 partial = a + b;
    r = partial + carry;
    out = (U32)(partial < a) | (U32)(r < partial);
  } else {
    U32 partial = a - b;
    r = partial - carry;
    out = (U32)(a < b) | (U32)(partial < carry);
  }
  uint32_t bits = maskOf((I32)out) & w->exec();
  put(w, op->d, r);
  w->word(op->d2) = bits;
  INGOT_NEXT;
}
template <bool isSigned> void multiplyAddWide(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]), b = get(w, op->s[1]);
  U64 c = getWide(w, op->s[2]);
  U64 p = isSigned ? (U64)product((I32)a, (I32)b) : product(a, b);
  U64 r = p + c;
  // Signed: the sum of a 64-bit product and c overflows when both have one sign and the result the other.
  U64 out = isSigned ? (U64)((I64)((p ^ r) & (c ^ r)) < 0) : (U64)(r < p);
  uint32_t bits = maskOf((I64)out) & w->exec();
  putWide(w, op->d, r);
  w->word(op->d2) = bits;
  INGOT_NEXT;
}
Entry carryEntry(const char *names, Handler run, Type result, std::array<Type, 4> sources, uint8_t count) {
  return {names, run, Form::carry, Class::vector, result, sources, count, 0, 0};
}
void swapRegisters(Wave *w, const Op *op) {
  U32 a = get(w, op->d), b = get(w, op->s[0]);
  put(w, op->d, b);
  put(w, op->s[0], a);
  INGOT_NEXT;
}

} // namespace

std::span<const Entry> integerEntries() {
  constexpr Type B = Type::b32, W = Type::b64, M = Type::mask, N = Type::none;
  static const Entry rows[] = {
      V1("v_mov_b32", u32, u32, a),
      V1("v_mov_b16", u16, u16, a),
      V1("v_not_b32", u32, u32, ~a),
      V1("v_not_b16", u16, u16, ~a),
      V1("v_bfrev_b32", u32, u32, reverseBits(a)),
      V1("v_ffbh_u32|v_clz_i32_u32", u32, u32, each(a, firstHigh)),
      V1("v_ffbl_b32|v_ctz_i32_b32", u32, u32, each(a, firstLow)),
      V1("v_ffbh_i32|v_cls_i32", u32, u32, each(a, firstDifferent)),
      valuEntry<u32, u32, u32, mask>("v_cndmask_b32", Class::vector, INGOT_LAMBDA(select(c, b, a))),
      valuEntry<u16, u16, u16, mask>("v_cndmask_b16", Class::vector, INGOT_LAMBDA(select(c, b, a))),
      V2("v_add_nc_u32", u32, u32, u32, a + b),
      V2("v_sub_nc_u32", u32, u32, u32, a - b),
      V2("v_subrev_nc_u32", u32, u32, u32, b - a),
      V2("v_add_nc_i32", u32, u32, u32, a + b),
      V2("v_sub_nc_i32", u32, u32, u32, a - b),
      V2("v_add_nc_u32_clamp", u32, u32, u32, __builtin_elementwise_add_sat(a, b)),
      V2("v_sub_nc_u32_clamp", u32, u32, u32, __builtin_elementwise_sub_sat(a, b)),
      V2("v_subrev_nc_u32_clamp", u32, u32, u32, __builtin_elementwise_sub_sat(b, a)),
      V2("v_add_nc_i32_clamp", i32, i32, i32, __builtin_elementwise_add_sat(a, b)),
      V2("v_sub_nc_i32_clamp", i32, i32, i32, __builtin_elementwise_sub_sat(a, b)),
      V2("v_mul_lo_u32", u32, u32, u32, a * b),
      V2("v_mul_hi_u32", u32, u32, u32, upper(product(a, b))),
      V2("v_mul_hi_i32", u32, i32, i32, upper((U64)product(a, b))),
      V2("v_mul_u32_u24", u32, u32, u32, lowProduct24(a, b)),
      V2("v_mul_i32_i24", i32, i32, i32, extend24(a) * extend24(b)),
      V2("v_mul_hi_u32_u24", u32, u32, u32, upper(product(a & 0xffffffu, b & 0xffffffu))),
      V2("v_mul_hi_i32_i24", u32, i32, i32, upper((U64)product(extend24(a), extend24(b)))),
      V2("v_and_b32", u32, u32, u32, a & b),
      V2("v_or_b32", u32, u32, u32, a | b),
      V2("v_xor_b32", u32, u32, u32, a ^ b),
      V2("v_xnor_b32", u32, u32, u32, ~(a ^ b)),
      V2("v_and_b16", u16, u16, u16, a & b),
      V2("v_or_b16", u16, u16, u16, a | b),
      V2("v_xor_b16", u16, u16, u16, a ^ b),
      V2("v_lshlrev_b32", u32, u32, u32, b << (a & 31u)),
      V2("v_lshrrev_b32", u32, u32, u32, b >> (a & 31u)),
      V2("v_ashrrev_i32", i32, u32, i32, b >> (I32)(a & 31u)),
      V2("v_lshlrev_b16", u16, u16, u16, b << (a & 15u)),
      V2("v_lshrrev_b16", u16, u16, u16, b >> (a & 15u)),
      V2("v_ashrrev_i16", i16, u16, i16, b >> (I32)(a & 15u)),
      V2("v_lshlrev_b64", u64, u32, u64, b << shiftCount(a)),
      V2("v_lshrrev_b64", u64, u32, u64, b >> shiftCount(a)),
      V2("v_ashrrev_i64", i64, u32, i64, b >> (I64)shiftCount(a)),
      V2("v_min_u32", u32, u32, u32, umin(a, b)),
      V2("v_max_u32", u32, u32, u32, umax(a, b)),
      V2("v_min_i32", i32, i32, i32, imin(a, b)),
      V2("v_max_i32", i32, i32, i32, imax(a, b)),
      V2("v_min_u16", u16, u16, u16, umin(a, b)),
      V2("v_max_u16", u16, u16, u16, umax(a, b)),
      V2("v_min_i16", i16, i16, i16, imin(a, b)),
      V2("v_max_i16", i16, i16, i16, imax(a, b)),
      V2("v_add_nc_u16", u16, u16, u16, a + b),
      V2("v_sub_nc_u16", u16, u16, u16, a - b),
      V2("v_add_nc_i16", u16, u16, u16, a + b),
      V2("v_sub_nc_i16", u16, u16, u16, a - b),
      V2("v_add_nc_u16_clamp", u16, u16, u16, umin(a + b, splat(65535))),
      V2("v_sub_nc_u16_clamp", u16, u16, u16, umax(a, b) - b),
      V2("v_add_nc_i16_clamp", i16, i16, i16, imax(imin(a + b, (I32)splat(32767)), (I32)splat(-32768u))),
      V2("v_sub_nc_i16_clamp", i16, i16, i16, imax(imin(a - b, (I32)splat(32767)), (I32)splat(-32768u))),
      V2("v_mul_lo_u16", u16, u16, u16, a * b),
      V3("v_mad_u16", u16, u16, u16, u16, a * b + c),
      V3("v_mad_i16", i16, i16, i16, i16, a * b + c),
      V3("v_mad_u16_clamp", u16, u16, u16, u16, umin(a * b + c, splat(65535))),
      V3("v_mad_u32_u16", u32, u16, u16, u32, a * b + c),
      V3("v_mad_i32_i16", i32, i16, i16, i32, a * b + c),
      V3("v_mad_u32_u24", u32, u32, u32, u32, lowProduct24(a, b) + c),
      V3("v_mad_i32_i24", i32, i32, i32, i32, extend24(a) * extend24(b) + c),
      V3("v_add3_u32", u32, u32, u32, u32, a + b + c),
      V3("v_lshl_add_u32", u32, u32, u32, u32, (a << (b & 31u)) + c),
      V3("v_add_lshl_u32", u32, u32, u32, u32, (a + b) << (c & 31u)),
      V3("v_lshl_or_b32", u32, u32, u32, u32, (a << (b & 31u)) | c),
      V3("v_and_or_b32", u32, u32, u32, u32, (a & b) | c),
      V3("v_or3_b32", u32, u32, u32, u32, a | b | c),
      V3("v_xor3_b32", u32, u32, u32, u32, a ^ b ^ c),
      V3("v_xad_u32", u32, u32, u32, u32, (a ^ b) + c),
      V3("v_bfe_u32", u32, u32, u32, u32, (a >> (b & 31u)) & fieldMask(c)),
      V3("v_bfe_i32", i32, i32, u32, u32, signedField((U32)(a >> (I32)(b & 31u)), c & 31u)),
      V3("v_bfi_b32", u32, u32, u32, u32, (a & b) | (~a & c)),
      V2("v_bfm_b32", u32, u32, u32, fieldMask(a) << (b & 31u)),
      V3("v_alignbit_b32", u32, u32, u32, u32,
         __builtin_convertvector((__builtin_convertvector(a, U64) << 32 | __builtin_convertvector(b, U64)) >>
                                     __builtin_convertvector(c & 31u, U64),
                                 U32)),
      V3("v_alignbyte_b32", u32, u32, u32, u32,
         __builtin_convertvector((__builtin_convertvector(a, U64) << 32 | __builtin_convertvector(b, U64)) >>
                                     __builtin_convertvector((c & 3u) * 8u, U64),
                                 U32)),
      V3("v_perm_b32", u32, u32, u32, u32, permute(a, b, c)),
      V3("v_min3_u32", u32, u32, u32, u32, umin(umin(a, b), c)),
      V3("v_max3_u32", u32, u32, u32, u32, umax(umax(a, b), c)),
      V3("v_med3_u32", u32, u32, u32, u32, umax(umin(a, b), umin(umax(a, b), c))),
      V3("v_min3_i32", i32, i32, i32, i32, imin(imin(a, b), c)),
      V3("v_max3_i32", i32, i32, i32, i32, imax(imax(a, b), c)),
      V3("v_med3_i32", i32, i32, i32, i32, imax(imin(a, b), imin(imax(a, b), c))),
      V3("v_maxmin_u32", u32, u32, u32, u32, umin(umax(a, b), c)),
      V3("v_minmax_u32", u32, u32, u32, u32, umax(umin(a, b), c)),
      V3("v_maxmin_i32", i32, i32, i32, i32, imin(imax(a, b), c)),
      V3("v_minmax_i32", i32, i32, i32, i32, imax(imin(a, b), c)),
      V3("v_min3_u16", u16, u16, u16, u16, umin(umin(a, b), c)),
      V3("v_max3_u16", u16, u16, u16, u16, umax(umax(a, b), c)),
      V3("v_med3_u16", u16, u16, u16, u16, umax(umin(a, b), umin(umax(a, b), c))),
      V3("v_min3_i16", i16, i16, i16, i16, imin(imin(a, b), c)),
      V3("v_max3_i16", i16, i16, i16, i16, imax(imax(a, b), c)),
      V3("v_med3_i16", i16, i16, i16, i16, imax(imin(a, b), imin(imax(a, b), c))),
      V3("v_sad_u8", u32, u32, u32, u32, sumOfDistances(a, b) + c),
      V3("v_sad_hi_u8", u32, u32, u32, u32, (sumOfDistances(a, b) << 16) + c),
      V3("v_msad_u8", u32, u32, u32, u32, maskedDistances(a, b) + c),
      V3("v_sad_u16", u32, u32, u32, u32,
         umax(a & 0xffffu, b & 0xffffu) - umin(a & 0xffffu, b & 0xffffu) + umax(a >> 16, b >> 16) -
             umin(a >> 16, b >> 16) + c),
      V3("v_sad_u32", u32, u32, u32, u32, umax(a, b) - umin(a, b) + c),
      V3("v_lerp_u8", u32, u32, u32, u32, lerp(a, b, c)),
      V2("v_bcnt_u32_b32", u32, u32, u32, countBits(a) + b),
      V2("v_mbcnt_lo_u32_b32", u32, u32, u32, countBits(a & (laneBit - 1u)) + b),
      V2("v_mbcnt_hi_u32_b32", u32, u32, u32, b + a * 0u),
      V2("v_pack_b32_f16", u32, h16, h16, a | b << 16),
      V1("v_sat_pk_u8_i16", u16, u32,
         ((U32)imax(imin((I32)(a << 16) >> 16, (I32)splat(255)), I32{}) |
          (U32)imax(imin((I32)a >> 16, (I32)splat(255)), I32{}) << 8)),
      carryEntry("v_add_co_u32", withCarry<Carry::add, false>, B, {B, B, N, N}, 2),
      carryEntry("v_sub_co_u32", withCarry<Carry::sub, false>, B, {B, B, N, N}, 2),
      carryEntry("v_subrev_co_u32", withCarry<Carry::subrev, false>, B, {B, B, N, N}, 2),
      carryEntry("v_add_co_ci_u32", withCarry<Carry::add, true>, B, {B, B, M, N}, 3),
      carryEntry("v_sub_co_ci_u32", withCarry<Carry::sub, true>, B, {B, B, M, N}, 3),
      carryEntry("v_subrev_co_ci_u32", withCarry<Carry::subrev, true>, B, {B, B, M, N}, 3),
      carryEntry("v_mad_u64_u32|v_mad_co_u64_u32", multiplyAddWide<false>, W, {B, B, W, N}, 3),
      carryEntry("v_mad_i64_i32|v_mad_co_i64_i32", multiplyAddWide<true>, W, {B, B, W, N}, 3),
      {"v_swap_b32", swapRegisters, Form::valu, Class::vector, B, {B, N, N, N}, 1, 0, 0},
  };
  return rows;
}

} // namespace ingot::emu::INGOT_EXEC_ISA
