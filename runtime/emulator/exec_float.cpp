// Float arithmetic, conversions and the transcendental unit. The chip's transcendentals are within about one ulp and
// flush denormals on both sides; so are these polynomials, which therefore are not bit for bit the chip's.
#include "runtime/emulator/simd.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

INGOT_INLINE F32 flush(F32 x) {
  U32 u = as<U32>(x);
  return as<F32>(select((u & 0x7f800000u) == 0u, u & 0x80000000u, u));
}
INGOT_INLINE F32 magnitude(F32 x) { return as<F32>(as<U32>(x) & 0x7fffffffu); }
INGOT_INLINE F32 copySign(F32 x, F32 sign) {
  return as<F32>((as<U32>(x) & 0x7fffffffu) | (as<U32>(sign) & 0x80000000u));
}
constexpr float infinity = std::numeric_limits<float>::infinity();

// 2^x without flushing: split into integer and [-1/2, 1/2]; the series is good to 5e-9 there.
INGOT_INLINE F32 exp2Full(F32 x) {
  F32 limited = select(x > 130.0f, splatF(130.0f), select(x < -160.0f, splatF(-160.0f), x));
  limited = select(x != x, F32{}, limited);
  F32 n = __builtin_elementwise_roundeven(limited), f = limited - n;
  F32 p = splatF(1.5252734e-5f);
  p = fma(p, f, splatF(1.5403530e-4f));
  p = fma(p, f, splatF(1.3333558e-3f));
  p = fma(p, f, splatF(9.6181291e-3f));
  p = fma(p, f, splatF(5.5504109e-2f));
  p = fma(p, f, splatF(2.4022651e-1f));
  p = fma(p, f, splatF(6.9314718e-1f));
  p = fma(p, f, splatF(1.0f));
  I32 e = __builtin_convertvector(n, I32);
  I32 half = e >> 1, rest = e - half;
  F32 r = p * as<F32>((half + 127) << 23) * as<F32>((rest + 127) << 23);
  return select(x != x, x, r);
}
INGOT_INLINE F32 exp2(F32 x) { return flush(exp2Full(flush(x))); }

// log2: mantissa in [sqrt(1/2), sqrt(2)) by the odd series of (m-1)/(m+1).
INGOT_INLINE F32 log2Full(F32 x) {
  I32 denormal = (x > 0.0f) & (x < 1.17549435e-38f);
  F32 y = select(denormal, x * 8388608.0f, x);
  I32 u = as<I32>(y) - 0x3f3504f3;
  I32 e = u >> 23;
  F32 m = as<F32>((u & 0x7fffff) + 0x3f3504f3);
  F32 t = (m - 1.0f) / (m + 1.0f), t2 = t * t;
  F32 p = splatF(0.26230820f);
  p = fma(p, t2, splatF(0.32059890f));
  p = fma(p, t2, splatF(0.41219859f));
  p = fma(p, t2, splatF(0.57707802f));
  p = fma(p, t2, splatF(0.96179669f));
  p = fma(p, t2, splatF(2.8853901f));
  F32 shift = select(denormal, splatF(-23.0f), F32{});
  F32 r = fma(p, t, __builtin_convertvector(e, F32) + shift);
  r = select(x == 0.0f, splatF(-infinity), r);
  r = select(x == infinity, x, r);
  return select((x < 0.0f) | (x != x), splatF(std::numeric_limits<float>::quiet_NaN()), r);
}
INGOT_INLINE F32 log2(F32 x) { return log2Full(flush(x)); }

// sin(2 pi r) for r in [-1/4, 1/4].
INGOT_INLINE F32 sineQuarter(F32 r) {
  F32 y = r * 6.28318531f, y2 = y * y;
  F32 p = splatF(1.6059044e-10f);
  p = fma(p, y2, splatF(-2.5052108e-8f));
  p = fma(p, y2, splatF(2.7557319e-6f));
  p = fma(p, y2, splatF(-1.9841270e-4f));
  p = fma(p, y2, splatF(8.3333333e-3f));
  p = fma(p, y2, splatF(-1.6666667e-1f));
  return fma(p * y2, y, y);
}
INGOT_INLINE F32 sine(F32 x) {
  F32 r = x - __builtin_elementwise_roundeven(x);
  r = select(magnitude(r) > 0.25f, copySign(splatF(0.5f), r) - r, r);
  return select(x == 0.0f, x, sineQuarter(r));
}
INGOT_INLINE F32 cosine(F32 x) {
  F32 r = x - __builtin_elementwise_roundeven(x);
  return sineQuarter(0.25f - magnitude(r));
}
INGOT_INLINE F32 reciprocal(F32 x) { return flush(1.0f / flush(x)); }
INGOT_INLINE F32 root(F32 x) { return __builtin_elementwise_sqrt(x); }
INGOT_INLINE F32 inverseRoot(F32 x) { return flush(1.0f / root(flush(x))); }
INGOT_INLINE F32 fraction(F32 x) {
  F32 r = x - __builtin_elementwise_floor(x);
  return select(r >= 1.0f, splatF(0.99999994f), r);
}

// Float to integer with saturation; NaN gives 0.
INGOT_INLINE I32 toInt(F32 x) {
  I32 big = x >= 2147483648.0f, small = x <= -2147483648.0f;
  F32 safe = select(big | small | (x != x), F32{}, x);
  I32 r = __builtin_convertvector(safe, I32);
  r = select(big, (I32)splat(0x7fffffffu), r);
  return select(small, (I32)splat(0x80000000u), r);
}
INGOT_INLINE U32 toUnsigned(F32 x) {
  I32 big = x >= 4294967296.0f;
  F32 safe = select(big | (x != x) | (x <= 0.0f), F32{}, x);
  return select(big, splat(~0u), __builtin_convertvector(safe, U32));
}
INGOT_INLINE U32 saturate(I32 x, int low, int high) {
  return (U32)__builtin_elementwise_min(__builtin_elementwise_max(x, (I32)splat(uint32_t(low))),
                                        (I32)splat(uint32_t(high)));
}
INGOT_INLINE U32 pack(U32 low, U32 high) { return (low & 0xffffu) | high << 16; }
// floor(x + 1/2) without the rounding of that sum.
INGOT_INLINE F32 halfUp(F32 x) {
  F32 below = __builtin_elementwise_floor(x);
  return select(x - below >= 0.5f, below + 1.0f, below);
}
INGOT_INLINE I32 roundedInt(F32 x) { return toInt(__builtin_elementwise_roundeven(x)); }
INGOT_INLINE F32 clampTo(F32 x, float low, float high) {
  x = select(x != x, F32{}, x);
  x = select(x < low, splatF(low), x);
  return select(x > high, splatF(high), x);
}

uint32_t frexpExponent(uint32_t u) {
  float x = __builtin_bit_cast(float, u);
  if (!std::isfinite(x) || x == 0)
    return 0;
  int e;
  std::frexp(x, &e);
  return uint32_t(e);
}
uint32_t frexpMantissa(uint32_t u) {
  float x = __builtin_bit_cast(float, u);
  if (!std::isfinite(x))
    return u;
  int e;
  return __builtin_bit_cast(uint32_t, std::frexp(x, &e));
}
uint32_t scaleExponent(uint32_t u, uint32_t by) {
  int e = std::max(-600, std::min(600, int(by)));
  return __builtin_bit_cast(uint32_t, std::ldexp(__builtin_bit_cast(float, u), e));
}
INGOT_INLINE F32 ldexp(F32 x, U32 e) { return as<F32>(each(as<U32>(x), e, scaleExponent)); }

template <class T, class F> INGOT_INLINE F64 each64(T a, F f) {
  F64 r;
  for (int i = 0; i < 32; ++i)
    r[i] = f(a[i]);
  return r;
}

// Division helpers, on one lane; T is the float type, Bits its integer.
template <class T> struct FloatTraits;
template <> struct FloatTraits<float> {
  using Bits = uint32_t;
  static constexpr int mantissa = 23, exponents = 255, scale = 64, tiny = 23, gap = 96;
};
template <> struct FloatTraits<double> {
  using Bits = uint64_t;
  static constexpr int mantissa = 52, exponents = 2047, scale = 128, tiny = 53, gap = 768;
};
template <class T> int exponentOf(T x) {
  using F = FloatTraits<T>;
  return int(__builtin_bit_cast(typename F::Bits, x) >> F::mantissa) & F::exponents;
}
template <class T> bool isDenormal(T x) { return x != 0 && exponentOf(x) == 0; }

// The operand to scale, the denominator, the numerator; `vcc` tells v_div_fmas to undo the scaling.
template <class T> T divScale(T operand, T denominator, T numerator, bool &vcc, bool flushes) {
  using F = FloatTraits<T>;
  vcc = false;
  auto bits = [](T x) { return __builtin_bit_cast(typename F::Bits, x); };
  bool isDenominator = bits(operand) == bits(denominator);
  bool isNumerator = bits(operand) == bits(numerator);
  if (denominator == 0 || numerator == 0) {
    vcc = true;
    return std::numeric_limits<T>::quiet_NaN();
  }
  int en = exponentOf(numerator), ed = exponentOf(denominator);
  if (flushes && isDenormal(denominator)) {
    vcc = true;
    return std::numeric_limits<T>::quiet_NaN();
  }
  if (en - ed >= F::gap) { // the quotient overflows or nearly so
    vcc = true;
    return isDenominator ? std::ldexp(operand, F::scale) : operand;
  }
  if (isDenormal(denominator))
    return std::ldexp(operand, F::scale);
  T inverse = T(1) / denominator, quotient = numerator / denominator;
  if (isDenormal(inverse) && isDenormal(quotient)) {
    vcc = true;
    return isDenominator ? std::ldexp(operand, -F::scale) : operand; // v_div_fmas scales down by as much
  }
  if (isDenormal(inverse))
    return std::ldexp(operand, -F::scale);
  if (isDenormal(quotient)) {
    vcc = true;
    return isNumerator ? std::ldexp(operand, F::scale) : operand;
  }
  if (en <= F::tiny)
    return std::ldexp(operand, F::scale);
  return operand;
}

template <class T> T divFixup(T estimate, T denominator, T numerator) {
  bool negative = std::signbit(denominator) != std::signbit(numerator);
  auto sign = [&](T x) { return negative ? -x : x; };
  if (std::isnan(numerator))
    return numerator;
  if (std::isnan(denominator))
    return denominator;
  if ((numerator == 0 && denominator == 0) || (std::isinf(numerator) && std::isinf(denominator)))
    return std::numeric_limits<T>::quiet_NaN();
  if (denominator == 0 || std::isinf(numerator))
    return sign(std::numeric_limits<T>::infinity());
  if (std::isinf(denominator) || numerator == 0)
    return sign(T(0));
  if (std::isnan(estimate))
    return sign(std::numeric_limits<T>::infinity());
  return sign(std::fabs(estimate));
}

// D, mask <- operand, denominator, numerator.
void divScale32(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]), b = get(w, op->s[1]), c = get(w, op->s[2]), r;
  uint32_t vcc = 0;
  for (int i = 0; i < 32; ++i) {
    bool bit;
    r[i] = __builtin_bit_cast(uint32_t, divScale(__builtin_bit_cast(float, uint32_t(a[i])),
                                                 __builtin_bit_cast(float, uint32_t(b[i])),
                                                 __builtin_bit_cast(float, uint32_t(c[i])), bit, !(w->mode & 0x10)));
    vcc |= uint32_t(bit) << i;
  }
  put(w, op->d, r);
  w->word(op->d2) = vcc & w->exec();
  INGOT_NEXT;
}
void divScale64(Wave *w, const Op *op) {
  F64 a = as<F64>(getWide(w, op->s[0])), b = as<F64>(getWide(w, op->s[1])), c = as<F64>(getWide(w, op->s[2])), r;
  uint32_t vcc = 0;
  for (int i = 0; i < 32; ++i) {
    bool bit;
    r[i] = divScale(double(a[i]), double(b[i]), double(c[i]), bit, !(w->mode & 0x40));
    vcc |= uint32_t(bit) << i;
  }
  putWide(w, op->d, as<U64>(r));
  w->word(op->d2) = vcc & w->exec();
  INGOT_NEXT;
}
// Fused multiply-add; where VCC is set the result is scaled back.
void divFmas32(Wave *w, const Op *op) {
  F32 a = as<F32>(get(w, op->s[0])), b = as<F32>(get(w, op->s[1])), c = as<F32>(get(w, op->s[2]));
  F32 r = fma(a, b, c);
  U32 exponent = (as<U32>(c) >> 23) & 255u;
  F32 scale = select(exponent > 127u, splatF(0x1p64f), splatF(0x1p-64f));
  put(w, op->d, select(w->s[sreg::vcc], as<U32>(r * scale), as<U32>(r)));
  INGOT_NEXT;
}
void divFmas64(Wave *w, const Op *op) {
  F64 a = as<F64>(getWide(w, op->s[0])), b = as<F64>(getWide(w, op->s[1])), c = as<F64>(getWide(w, op->s[2])), r;
  uint32_t vcc = w->s[sreg::vcc];
  for (int i = 0; i < 32; ++i) {
    double v = std::fma(double(a[i]), double(b[i]), double(c[i]));
    if (vcc >> i & 1)
      v = std::ldexp(v, exponentOf(double(c[i])) > 1023 ? 128 : -128);
    r[i] = v;
  }
  putWide(w, op->d, as<U64>(r));
  INGOT_NEXT;
}

INGOT_INLINE F32 divFixup32(F32 a, F32 b, F32 c) {
  F32 r;
  for (int i = 0; i < 32; ++i)
    r[i] = divFixup(float(a[i]), float(b[i]), float(c[i]));
  return r;
}
INGOT_INLINE F64 divFixup64(F64 a, F64 b, F64 c) {
  F64 r;
  for (int i = 0; i < 32; ++i)
    r[i] = divFixup(double(a[i]), double(b[i]), double(c[i]));
  return r;
}

template <bool maximum> INGOT_INLINE F64 pickNumber64(F64 a, F64 b) {
  return each64(laneNumber, [&](uint32_t i) {
    double x = a[i], y = b[i];
    if (std::isnan(x) || std::isnan(y))
      return std::isnan(y) ? x : y;
    if (x == y)
      return (std::signbit(x) == maximum) ? y : x;
    return (x < y) == maximum ? y : x;
  });
}

INGOT_INLINE F32 median(F32 a, F32 b, F32 c) {
  F32 r = maxNumber(minNumber(a, b), minNumber(maxNumber(a, b), c));
  return select((a != a) | (b != b) | (c != c), minNumber(minNumber(a, b), c), r);
}
INGOT_INLINE F32 multiplyLegacy(F32 a, F32 b) { return select((a == 0.0f) | (b == 0.0f), F32{}, a * b); }

// fp8 of gfx12: e4m3 has no infinity (0x7f is NaN), e5m2 is like f16's upper byte.
float fromE4m3(uint32_t b) {
  int e = b >> 3 & 15, m = b & 7;
  float v = e == 15 && m == 7 ? std::numeric_limits<float>::quiet_NaN()
            : e == 0          ? std::ldexp(float(m), -9)
                              : std::ldexp(float(8 + m), e - 10);
  return b & 128 ? -v : v;
}
float fromE5m2(uint32_t b) {
  int e = b >> 2 & 31, m = b & 3;
  float v = e == 31  ? (m ? std::numeric_limits<float>::quiet_NaN() : infinity)
            : e == 0 ? std::ldexp(float(m), -16)
                     : std::ldexp(float(4 + m), e - 17);
  return b & 128 ? -v : v;
}
// Round to nearest even (or by `random`, a 32-bit word, when stochastic) into a float of `mantissa` bits; beyond the
// largest value it saturates.
uint32_t narrowFloat(float x, int mantissa, int bias, uint32_t largest, uint32_t nan, uint32_t infinityCode,
                     const uint32_t *random) {
  uint32_t sign = std::signbit(x) ? 128 : 0;
  if (std::isnan(x))
    return sign | nan;
  if (std::isinf(x))
    return sign | infinityCode;
  float a = std::fabs(x);
  if (a == 0)
    return sign;
  int e;
  std::frexp(a, &e);
  e = std::max(e - 1, 1 - bias);
  double scaled = std::ldexp(double(a), mantissa - e);
  double q = random ? std::floor(scaled + double(*random) * 0x1p-32) : std::nearbyint(scaled);
  uint32_t code = uint32_t(q);
  // q has its leading one at bit `mantissa` unless denormal; adding the exponent field carries over by itself.
  uint32_t result = code + (uint32_t(e + bias - 1) << mantissa);
  return sign | std::min(result, largest);
}
uint32_t toE4m3(float x, const uint32_t *random = nullptr) { return narrowFloat(x, 3, 7, 0x7e, 0x7f, 0x7f, random); }
uint32_t toE5m2(float x, const uint32_t *random = nullptr) { return narrowFloat(x, 2, 15, 0x7b, 0x7f, 0x7c, random); }

template <class F> INGOT_INLINE F32 eachByte(U32 a, F f) {
  F32 r;
  for (int i = 0; i < 32; ++i)
    r[i] = f(uint32_t(a[i]));
  return r;
}

// v_cvt_f32_fp8 and _bf8: which byte is the op_sel of the source.
template <float (*convert)(uint32_t)> void fromByteFloat(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]);
  // The byte index: op_sel bit 0 is in the source's modifiers, bit 1 in its op_sel_hi.
  int byte = (op->mods[0] >> 2 & 1) | (op->mods[0] >> 2 & 2);
  a = (a >> uint32_t(8 * byte)) & 255u;
  put(w, op->d, as<U32>(eachByte(a, convert)));
  INGOT_NEXT;
}
template <float (*convert)(uint32_t)> void fromByteFloatPair(Wave *w, const Op *op) {
  U32 a = get(w, op->s[0]);
  if (op->mods[0] & 4)
    a >>= 16;
  put(w, op->d, as<U32>(eachByte(a & 255u, convert)));
  put(w, op->d + 128, as<U32>(eachByte((a >> 8) & 255u, convert)));
  INGOT_NEXT;
}
template <uint32_t (*convert)(float, const uint32_t *)> void toByteFloatPair(Wave *w, const Op *op) {
  F32 a = as<F32>(get(w, op->s[0])), b = as<F32>(get(w, op->s[1]));
  U32 r, old = *reinterpret_cast<const U32 *>(at(w, op->d));
  for (int i = 0; i < 32; ++i)
    r[i] = convert(a[i], nullptr) | convert(b[i], nullptr) << 8;
  bool high = op->mods[0] & 8;
  put(w, op->d, high ? (old & 0xffffu) | r << 16 : (old & 0xffff0000u) | r);
  INGOT_NEXT;
}
template <uint32_t (*convert)(float, const uint32_t *)> void toByteFloatStochastic(Wave *w, const Op *op) {
  F32 a = as<F32>(get(w, op->s[0]));
  U32 random = get(w, op->s[1]), r, old = *reinterpret_cast<const U32 *>(at(w, op->d));
  for (int i = 0; i < 32; ++i) {
    uint32_t bits = random[i];
    r[i] = convert(a[i], &bits);
  }
  int byte = (op->mods[0] >> 3 & 1) * 2 + (op->mods[1] >> 2 & 1);
  put(w, op->d, (old & ~(255u << (8 * byte))) | r << uint32_t(8 * byte));
  INGOT_NEXT;
}

Entry special(const char *names, Handler run, Form form, Type result, std::array<Type, 4> sources, uint8_t count) {
  return {names, run, form, Class::vector, result, sources, count, 0, 0};
}

} // namespace

std::span<const Entry> floatEntries() {
  constexpr Type F = Type::f32, D = Type::f64, B = Type::b32, N = Type::none;
  static const Entry rows[] = {
      V2("v_add_f32", f32, f32, f32, a + b),
      V2("v_sub_f32", f32, f32, f32, a - b),
      V2("v_subrev_f32", f32, f32, f32, b - a),
      V2("v_mul_f32", f32, f32, f32, a * b),
      V2("v_mul_legacy_f32|v_mul_dx9_zero_f32", f32, f32, f32, multiplyLegacy(a, b)),
      V2("v_max_f32|v_max_num_f32", f32, f32, f32, maxNumber(a, b)),
      V2("v_min_f32|v_min_num_f32", f32, f32, f32, minNumber(a, b)),
      V2("v_maximum_f32", f32, f32, f32, maximum(a, b)),
      V2("v_minimum_f32", f32, f32, f32, minimum(a, b)),
      V3("v_fma_f32|v_fmac_f32|v_fmaak_f32|v_fmamk_f32", f32, f32, f32, f32, fma(a, b, c)),
      V3("v_fma_legacy_f32|v_fma_dx9_zero_f32|v_fmac_dx9_zero_f32|v_fmac_legacy_f32", f32, f32, f32, f32,
         select((a == 0.0f) | (b == 0.0f), c, fma(a, b, c))),
      V3("v_max3_f32|v_max3_num_f32", f32, f32, f32, f32, maxNumber(maxNumber(a, b), c)),
      V3("v_min3_f32|v_min3_num_f32", f32, f32, f32, f32, minNumber(minNumber(a, b), c)),
      V3("v_med3_f32|v_med3_num_f32", f32, f32, f32, f32, median(a, b, c)),
      V3("v_maxmin_f32|v_maxmin_num_f32", f32, f32, f32, f32, minNumber(maxNumber(a, b), c)),
      V3("v_minmax_f32|v_minmax_num_f32", f32, f32, f32, f32, maxNumber(minNumber(a, b), c)),
      V3("v_maximum3_f32", f32, f32, f32, f32, maximum(maximum(a, b), c)),
      V3("v_minimum3_f32", f32, f32, f32, f32, minimum(minimum(a, b), c)),
      V3("v_maximumminimum_f32", f32, f32, f32, f32, minimum(maximum(a, b), c)),
      V3("v_minimummaximum_f32", f32, f32, f32, f32, maximum(minimum(a, b), c)),
      V1("v_exp_f32", f32, f32, exp2(a)),
      V1("v_log_f32", f32, f32, log2(a)),
      V1("v_rcp_f32|v_rcp_iflag_f32", f32, f32, reciprocal(a)),
      V1("v_rsq_f32", f32, f32, inverseRoot(a)),
      V1("v_sqrt_f32", f32, f32, root(flush(a))),
      V1("v_sin_f32", f32, f32, sine(a)),
      V1("v_cos_f32", f32, f32, cosine(a)),
      V1("v_fract_f32", f32, f32, fraction(a)),
      V1("v_floor_f32", f32, f32, __builtin_elementwise_floor(a)),
      V1("v_ceil_f32", f32, f32, __builtin_elementwise_ceil(a)),
      V1("v_trunc_f32", f32, f32, __builtin_elementwise_trunc(a)),
      V1("v_rndne_f32", f32, f32, __builtin_elementwise_roundeven(a)),
      V1("v_frexp_exp_i32_f32", u32, f32, each(as<U32>(a), frexpExponent)),
      V1("v_frexp_mant_f32", u32, f32, each(as<U32>(a), frexpMantissa)),
      V2("v_ldexp_f32", f32, f32, u32, ldexp(a, b)),
      V3("v_div_fixup_f32", f32, f32, f32, f32, divFixup32(a, b, c)),
      special("v_div_scale_f32", divScale32, Form::carry, F, {F, F, F, N}, 3),
      special("v_div_fmas_f32", divFmas32, Form::valu, F, {F, F, F, N}, 3),
      special("v_div_scale_f64", divScale64, Form::carry, D, {D, D, D, N}, 3),
      special("v_div_fmas_f64", divFmas64, Form::valu, D, {D, D, D, N}, 3),

      // Conversions.
      V1("v_cvt_f32_i32", f32, i32, __builtin_convertvector(a, F32)),
      V1("v_cvt_f32_u32", f32, u32, __builtin_convertvector(a, F32)),
      V1("v_cvt_i32_f32", i32, f32, toInt(a)),
      V1("v_cvt_u32_f32", u32, f32, toUnsigned(a)),
      V1("v_cvt_rpi_i32_f32|v_cvt_nearest_i32_f32", i32, f32, toInt(halfUp(a))),
      V1("v_cvt_flr_i32_f32|v_cvt_floor_i32_f32", i32, f32, toInt(__builtin_elementwise_floor(a))),
      V1("v_cvt_f32_ubyte0", f32, u32, __builtin_convertvector((I32)(a & 255u), F32)),
      V1("v_cvt_f32_ubyte1", f32, u32, __builtin_convertvector((I32)(a >> 8 & 255u), F32)),
      V1("v_cvt_f32_ubyte2", f32, u32, __builtin_convertvector((I32)(a >> 16 & 255u), F32)),
      V1("v_cvt_f32_ubyte3", f32, u32, __builtin_convertvector((I32)(a >> 24), F32)),
      V1("v_cvt_f32_f16", f32, f16, a),
      V1("v_cvt_f16_f32", f16, f32, a),
      V1("v_cvt_f32_bf16", f32, bf16, a),
      V1("v_cvt_f16_u16", f16, u16, __builtin_convertvector((I32)a, F32)),
      V1("v_cvt_f16_i16", f16, i16, __builtin_convertvector(a, F32)),
      V1("v_cvt_u16_f16", u16, f16, saturate(toInt(a), 0, 65535)),
      V1("v_cvt_i16_f16", u16, f16, saturate(toInt(a), -32768, 32767)),
      V1("v_cvt_norm_i16_f16", u16, f16, saturate(roundedInt(clampTo(a, -1, 1) * 32767.0f), -32767, 32767)),
      V1("v_cvt_norm_u16_f16", u16, f16, saturate(roundedInt(clampTo(a, 0, 1) * 65535.0f), 0, 65535)),
      V1("v_cvt_off_f32_i4", f32, u32, __builtin_convertvector((I32)(a << 28) >> 28, F32) * 0.0625f),
      V1("v_cvt_i32_i16", i32, i16, a),
      V1("v_cvt_u32_u16", u32, u16, a),
      V2("v_cvt_pk_rtz_f16_f32|v_cvt_pkrtz_f16_f32", u32, f32, f32, toHalf<3>(a) | toHalf<3>(b) << 16),
      V2("v_cvt_pk_i16_f32", u32, f32, f32, pack(saturate(toInt(a), -32768, 32767), saturate(toInt(b), -32768, 32767))),
      V2("v_cvt_pk_u16_f32", u32, f32, f32, pack(saturate(toInt(a), 0, 65535), saturate(toInt(b), 0, 65535))),
      V2("v_cvt_pk_i16_i32", u32, i32, i32, pack(saturate(a, -32768, 32767), saturate(b, -32768, 32767))),
      V2("v_cvt_pk_u16_u32", u32, u32, u32,
         pack(__builtin_elementwise_min(a, splat(65535)), __builtin_elementwise_min(b, splat(65535)))),
      V2("v_cvt_pk_norm_i16_f32|v_cvt_pknorm_i16_f32", u32, f32, f32,
         pack((U32)roundedInt(clampTo(a, -1, 1) * 32767.0f), (U32)roundedInt(clampTo(b, -1, 1) * 32767.0f))),
      V2("v_cvt_pk_norm_u16_f32|v_cvt_pknorm_u16_f32", u32, f32, f32,
         pack((U32)roundedInt(clampTo(a, 0, 1) * 65535.0f), (U32)roundedInt(clampTo(b, 0, 1) * 65535.0f))),
      V2("v_cvt_pk_norm_i16_f16", u32, f16, f16,
         pack((U32)roundedInt(clampTo(a, -1, 1) * 32767.0f), (U32)roundedInt(clampTo(b, -1, 1) * 32767.0f))),
      V2("v_cvt_pk_norm_u16_f16", u32, f16, f16,
         pack((U32)roundedInt(clampTo(a, 0, 1) * 65535.0f), (U32)roundedInt(clampTo(b, 0, 1) * 65535.0f))),
      V3("v_cvt_pk_u8_f32", u32, f32, u32, u32,
         ((c & ~(splat(255) << ((b & 3u) * 8u))) | saturate(roundedInt(a), 0, 255) << ((b & 3u) * 8u))),
      special("v_cvt_f32_fp8", fromByteFloat<fromE4m3>, Form::dotInteger, F, {B, N, N, N}, 1),
      special("v_cvt_f32_bf8", fromByteFloat<fromE5m2>, Form::dotInteger, F, {B, N, N, N}, 1),
      special("v_cvt_pk_f32_fp8", fromByteFloatPair<fromE4m3>, Form::dotInteger, Type::b64, {B, N, N, N}, 1),
      special("v_cvt_pk_f32_bf8", fromByteFloatPair<fromE5m2>, Form::dotInteger, Type::b64, {B, N, N, N}, 1),
      special("v_cvt_pk_fp8_f32", toByteFloatPair<toE4m3>, Form::dotInteger, B, {F, F, N, N}, 2),
      special("v_cvt_pk_bf8_f32", toByteFloatPair<toE5m2>, Form::dotInteger, B, {F, F, N, N}, 2),
      special("v_cvt_sr_fp8_f32", toByteFloatStochastic<toE4m3>, Form::dotInteger, B, {F, B, N, N}, 2),
      special("v_cvt_sr_bf8_f32", toByteFloatStochastic<toE5m2>, Form::dotInteger, B, {F, B, N, N}, 2),

      // f16.
      V2("v_add_f16", f16, f16, f16, a + b),
      V2("v_sub_f16", f16, f16, f16, a - b),
      V2("v_subrev_f16", f16, f16, f16, b - a),
      V2("v_mul_f16", f16, f16, f16, a * b),
      V2("v_max_f16|v_max_num_f16", f16, f16, f16, maxNumber(a, b)),
      V2("v_min_f16|v_min_num_f16", f16, f16, f16, minNumber(a, b)),
      V2("v_maximum_f16", f16, f16, f16, maximum(a, b)),
      V2("v_minimum_f16", f16, f16, f16, minimum(a, b)),
      V3("v_fma_f16|v_fmac_f16|v_fmaak_f16|v_fmamk_f16", f16, f16, f16, f16, fmaHalf(a, b, c)),
      V3("v_max3_f16|v_max3_num_f16", f16, f16, f16, f16, maxNumber(maxNumber(a, b), c)),
      V3("v_min3_f16|v_min3_num_f16", f16, f16, f16, f16, minNumber(minNumber(a, b), c)),
      V3("v_med3_f16|v_med3_num_f16", f16, f16, f16, f16, median(a, b, c)),
      V3("v_maxmin_f16|v_maxmin_num_f16", f16, f16, f16, f16, minNumber(maxNumber(a, b), c)),
      V3("v_minmax_f16|v_minmax_num_f16", f16, f16, f16, f16, maxNumber(minNumber(a, b), c)),
      V3("v_maximum3_f16", f16, f16, f16, f16, maximum(maximum(a, b), c)),
      V3("v_minimum3_f16", f16, f16, f16, f16, minimum(minimum(a, b), c)),
      V1("v_exp_f16", f16, f16, exp2Full(a)),
      V1("v_log_f16", f16, f16, log2Full(a)),
      V1("v_rcp_f16", f16, f16, 1.0f / a),
      V1("v_rsq_f16", f16, f16, 1.0f / root(a)),
      V1("v_sqrt_f16", f16, f16, root(a)),
      V1("v_sin_f16", f16, f16, sine(a)),
      V1("v_cos_f16", f16, f16, cosine(a)),
      V1("v_fract_f16", f16, f16,
         select(a - __builtin_elementwise_floor(a) > 0.99951171875f, splatF(0.99951171875f),
                a - __builtin_elementwise_floor(a))),
      V1("v_floor_f16", f16, f16, __builtin_elementwise_floor(a)),
      V1("v_ceil_f16", f16, f16, __builtin_elementwise_ceil(a)),
      V1("v_trunc_f16", f16, f16, __builtin_elementwise_trunc(a)),
      V1("v_rndne_f16", f16, f16, __builtin_elementwise_roundeven(a)),
      V1("v_frexp_exp_i16_f16", u16, f16, each(as<U32>(a), frexpExponent)),
      V1("v_frexp_mant_f16", f16, f16, as<F32>(each(as<U32>(a), frexpMantissa))),
      V2("v_ldexp_f16", f16, f16, i16, ldexp(a, (U32)b)),
      V3("v_div_fixup_f16", f16, f16, f16, f16, divFixup32(a, b, c)),

      // f64.
      V2("v_add_f64", f64, f64, f64, a + b),
      V2("v_mul_f64", f64, f64, f64, a * b),
      V2("v_max_f64|v_max_num_f64", f64, f64, f64, pickNumber64<true>(a, b)),
      V2("v_min_f64|v_min_num_f64", f64, f64, f64, pickNumber64<false>(a, b)),
      V3("v_fma_f64", f64, f64, f64, f64, __builtin_elementwise_fma(a, b, c)),
      V3("v_div_fixup_f64", f64, f64, f64, f64, divFixup64(a, b, c)),
      V1("v_rcp_f64", f64, f64, 1.0 / a),
      V1("v_rsq_f64", f64, f64, 1.0 / __builtin_elementwise_sqrt(a)),
      V1("v_sqrt_f64", f64, f64, __builtin_elementwise_sqrt(a)),
      V1("v_floor_f64", f64, f64, __builtin_elementwise_floor(a)),
      V1("v_ceil_f64", f64, f64, __builtin_elementwise_ceil(a)),
      V1("v_trunc_f64", f64, f64, __builtin_elementwise_trunc(a)),
      V1("v_rndne_f64", f64, f64, __builtin_elementwise_roundeven(a)),
      V1("v_fract_f64", f64, f64,
         each64(a,
                [](double x) {
                  double r = x - std::floor(x);
                  return r >= 1.0 ? 0x1.fffffffffffffp-1 : r;
                })),
      V1("v_cvt_f64_f32", f64, f32, __builtin_convertvector(a, F64)),
      V1("v_cvt_f32_f64", f32, f64, __builtin_convertvector(a, F32)),
      V1("v_cvt_f64_i32", f64, i32, __builtin_convertvector(a, F64)),
      V1("v_cvt_f64_u32", f64, u32, __builtin_convertvector(a, F64)),
      V1("v_cvt_i32_f64", u32, f64,
         each(laneNumber,
              [&](uint32_t i) {
                double x = a[i];
                return x != x ? 0u : uint32_t(int32_t(std::min(2147483647.0, std::max(-2147483648.0, x))));
              })),
      V1("v_cvt_u32_f64", u32, f64,
         each(laneNumber, [&](uint32_t i) { return uint32_t(std::min(4294967295.0, std::max(0.0, double(a[i])))); })),
      V2("v_ldexp_f64", f64, f64, i32,
         each64(laneNumber, [&](uint32_t i) { return std::ldexp(double(a[i]), std::clamp(int(b[i]), -5000, 5000)); })),
      V1("v_frexp_exp_i32_f64", u32, f64,
         each(laneNumber,
              [&](uint32_t i) {
                double x = a[i];
                int e = 0;
                if (std::isfinite(x) && x != 0)
                  std::frexp(x, &e);
                return uint32_t(e);
              })),
      V1("v_frexp_mant_f64", f64, f64,
         each64(a,
                [](double x) {
                  int e;
                  return std::isfinite(x) ? std::frexp(x, &e) : x;
                })),
  };
  return rows;
}

} // namespace ingot::emu::INGOT_EXEC_ISA
