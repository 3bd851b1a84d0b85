// A wave's 32 lanes as host vectors: loading and storing operands of each type, lane masks, and the template that turns
// an expression over lanes into a handler. Compiled once for each host instruction set, in a namespace of its own.
#pragma once

#include "runtime/emulator/exec.h"

#include <cstring>
#include <immintrin.h>

#define INGOT_INLINE static inline __attribute__((always_inline))
#define INGOT_NEXT [[clang::musttail]] return op[1].run(w, op + 1)

namespace ingot::emu::INGOT_EXEC_ISA {

typedef uint32_t U32 __attribute__((vector_size(128)));
typedef int32_t I32 __attribute__((vector_size(128)));
typedef float F32 __attribute__((vector_size(128)));
typedef uint16_t U16 __attribute__((vector_size(64)));
typedef uint64_t U64 __attribute__((vector_size(256)));
typedef int64_t I64 __attribute__((vector_size(256)));
typedef double F64 __attribute__((vector_size(256)));
typedef bool B32 __attribute__((ext_vector_type(32)));

template <class To, class From> INGOT_INLINE To as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, v);
}
INGOT_INLINE U32 splat(uint32_t x) { return U32{} + x; }
INGOT_INLINE F32 splatF(float x) { return F32{} + x; }
constexpr U32 laneNumber = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                            16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
constexpr U32 laneBit = {1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
                         1u << 8,  1u << 9,  1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15,
                         1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21, 1u << 22, 1u << 23,
                         1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31};

INGOT_INLINE I32 lanesOf(uint32_t mask) { return (splat(mask) & laneBit) != U32{}; }
INGOT_INLINE uint32_t maskOf(I32 lanes) { return as<uint32_t>(__builtin_convertvector(lanes, B32)); }
INGOT_INLINE uint32_t maskOf(I64 lanes) { return as<uint32_t>(__builtin_convertvector(lanes, B32)); }
INGOT_INLINE U32 select(I32 lanes, U32 yes, U32 no) { return lanes ? yes : no; }
INGOT_INLINE F32 select(I32 lanes, F32 yes, F32 no) { return as<F32>(lanes ? as<U32>(yes) : as<U32>(no)); }
INGOT_INLINE I32 select(I32 lanes, I32 yes, I32 no) { return lanes ? yes : no; }
INGOT_INLINE U32 select(uint32_t mask, U32 yes, U32 no) {
#ifdef __AVX512F__
  struct Halves {
    __m512i v[2];
  };
  Halves y = as<Halves>(yes), n = as<Halves>(no);
  y.v[0] = _mm512_mask_blend_epi32(__mmask16(mask), n.v[0], y.v[0]);
  y.v[1] = _mm512_mask_blend_epi32(__mmask16(mask >> 16), n.v[1], y.v[1]);
  return as<U32>(y);
#else
  return lanesOf(mask) ? yes : no;
#endif
}

// Half-precision, by the host's rounding mode (imm 4) or a fixed one.
INGOT_INLINE F32 fromHalf(U32 bits) {
  U16 h = __builtin_convertvector(bits, U16);
#ifdef __AVX512F__
  struct In {
    __m256i v[2];
  } in = as<In>(h);
  struct Out {
    __m512 v[2];
  } out;
  for (int i = 0; i < 2; ++i)
    out.v[i] = _mm512_cvtph_ps(in.v[i]);
#else
  struct In {
    __m128i v[4];
  } in = as<In>(h);
  struct Out {
    __m256 v[4];
  } out;
  for (int i = 0; i < 4; ++i)
    out.v[i] = _mm256_cvtph_ps(in.v[i]);
#endif
  return as<F32>(out);
}
template <int rounding = 4> INGOT_INLINE U32 toHalf(F32 v) {
#ifdef __AVX512F__
  struct In {
    __m512 v[2];
  } in = as<In>(v);
  struct Out {
    __m256i v[2];
  } out;
  for (int i = 0; i < 2; ++i)
    out.v[i] = _mm512_cvtps_ph(in.v[i], rounding);
#else
  struct In {
    __m256 v[4];
  } in = as<In>(v);
  struct Out {
    __m128i v[4];
  } out;
  for (int i = 0; i < 4; ++i)
    out.v[i] = _mm256_cvtps_ph(in.v[i], rounding);
#endif
  return __builtin_convertvector(as<U16>(out), U32);
}
INGOT_INLINE F32 fromBf16(U32 bits) { return as<F32>(bits << 16); }
// Round to nearest even; a NaN stays one.
INGOT_INLINE U32 toBf16(F32 v) {
  U32 u = as<U32>(v);
  U32 r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return select(v != v, (u >> 16) | 0x40u, r);
}

INGOT_INLINE const char *at(const Wave *w, int32_t offset) { return reinterpret_cast<const char *>(w) + offset; }
INGOT_INLINE char *at(Wave *w, int32_t offset) { return reinterpret_cast<char *>(w) + offset; }
INGOT_INLINE U32 get(const Wave *w, int32_t offset) {
  if (offset & 1)
    return splat(*reinterpret_cast<const uint32_t *>(at(w, offset - 1)));
  return *reinterpret_cast<const U32 *>(at(w, offset));
}
// The second word of a 64-bit operand: the next scalar or the next vector register.
INGOT_INLINE int32_t nextWord(int32_t offset, int32_t by = 1) { return offset + ((offset & 1) ? 4 : 128) * by; }
INGOT_INLINE U64 getWide(const Wave *w, int32_t offset) {
  return __builtin_convertvector(get(w, offset), U64) | __builtin_convertvector(get(w, nextWord(offset)), U64) << 32;
}
INGOT_INLINE void put(Wave *w, int32_t offset, U32 v) {
  U32 *d = reinterpret_cast<U32 *>(at(w, offset));
  uint32_t mask = w->exec();
  if (mask == ~0u) [[likely]]
    *d = v;
  else
    *d = select(mask, v, *d);
}
INGOT_INLINE void putLow(Wave *w, int32_t offset, U32 v) {
  U32 old = *reinterpret_cast<const U32 *>(at(w, offset));
  put(w, offset, (old & 0xffff0000u) | (v & 0xffffu));
}
INGOT_INLINE void putWide(Wave *w, int32_t offset, U64 v) {
  put(w, offset, __builtin_convertvector(v, U32));
  put(w, offset + 128, __builtin_convertvector(v >> 32, U32));
}

// Operand types as the handler template sees them.
struct u32 {
  using V = U32;
  static constexpr Type type = Type::b32;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return INGOT_EXEC_ISA::get(w, o); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { INGOT_EXEC_ISA::put(w, o, v); }
};
struct i32 {
  using V = I32;
  static constexpr Type type = Type::b32;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return (I32)INGOT_EXEC_ISA::get(w, o); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { INGOT_EXEC_ISA::put(w, o, (U32)v); }
};
struct f32 {
  using V = F32;
  static constexpr Type type = Type::f32;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return as<F32>(INGOT_EXEC_ISA::get(w, o)); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { INGOT_EXEC_ISA::put(w, o, as<U32>(v)); }
};
struct u16 {
  using V = U32;
  static constexpr Type type = Type::b16;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return INGOT_EXEC_ISA::get(w, o) & 0xffffu; }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putLow(w, o, v); }
};
struct i16 {
  using V = I32;
  static constexpr Type type = Type::b16;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return (I32)(INGOT_EXEC_ISA::get(w, o) << 16) >> 16; }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putLow(w, o, (U32)v); }
};
// Computed in f32; storing rounds once, which for +, -, *, / and sqrt is the correctly rounded result.
struct f16 {
  using V = F32;
  static constexpr Type type = Type::f16;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return fromHalf(INGOT_EXEC_ISA::get(w, o)); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putLow(w, o, toHalf(v)); }
};
// f16 bits without conversion.
struct h16 {
  using V = U32;
  static constexpr Type type = Type::f16;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return INGOT_EXEC_ISA::get(w, o) & 0xffffu; }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putLow(w, o, v); }
};
struct bf16 {
  using V = F32;
  static constexpr Type type = Type::bf16;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return fromBf16(INGOT_EXEC_ISA::get(w, o)); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putLow(w, o, toBf16(v)); }
};
struct u64 {
  using V = U64;
  static constexpr Type type = Type::b64;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return getWide(w, o); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putWide(w, o, v); }
};
struct i64 {
  using V = I64;
  static constexpr Type type = Type::b64;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return (I64)getWide(w, o); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putWide(w, o, (U64)v); }
};
struct f64 {
  using V = F64;
  static constexpr Type type = Type::f64;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return as<F64>(getWide(w, o)); }
  INGOT_INLINE void put(Wave *w, int32_t o, V v) { putWide(w, o, as<U64>(v)); }
};
// A lane mask in a scalar register.
struct mask {
  using V = uint32_t;
  static constexpr Type type = Type::mask;
  INGOT_INLINE V get(const Wave *w, int32_t o) { return *reinterpret_cast<const uint32_t *>(at(w, o & ~1)); }
};
// Two halves in a register, modifiers already applied by the decoder's micro-operations.
struct pk16 : u32 {
  static constexpr Type type = Type::packed;
};
struct pkf16 : u32 {
  static constexpr Type type = Type::packedF16;
};
struct pkbf16 : u32 {
  static constexpr Type type = Type::packedBf16;
};
struct absent {
  using V = int;
  static constexpr Type type = Type::none;
  INGOT_INLINE V get(const Wave *, int32_t) { return 0; }
};

// A 64-bit float operation runs under its own rounding and denormal mode, which MODE may set apart from that of f32.
struct WideMode {
  Wave *w;
  INGOT_INLINE WideMode enter(Wave *w) {
    if (w->mxcsr != w->mxcsrWide) [[unlikely]]
      _mm_setcsr(w->mxcsrWide);
    return {w};
  }
  inline __attribute__((always_inline)) void leave() const {
    if (w->mxcsr != w->mxcsrWide) [[unlikely]]
      _mm_setcsr(w->mxcsr);
  }
};

template <class D, class A, class B, class C, class F> static void valu(Wave *w, const Op *op) {
  constexpr bool wide = D::type == Type::f64 || A::type == Type::f64;
  WideMode mode{w};
  if constexpr (wide)
    mode = WideMode::enter(w);
  typename A::V a = A::get(w, op->s[0]);
  typename B::V b = B::get(w, op->s[1]);
  typename C::V c = C::get(w, op->s[2]);
  D::put(w, op->d, F{}(a, b, c));
  if constexpr (wide)
    mode.leave();
  INGOT_NEXT;
}

template <class D, class A, class B, class C, class F>
Entry valuEntry(const char *names, Class cls, F, Form form = Form::valu) {
  constexpr uint8_t count = C::type != Type::none ? 3 : B::type != Type::none ? 2 : A::type != Type::none ? 1 : 0;
  return {names, valu<D, A, B, C, F>, form, cls, D::type, {A::type, B::type, C::type, Type::none}, count, 0, 0};
}

// Rows of an instruction table: names, result type, source types, the expression over a, b, c.
#define INGOT_LAMBDA(...)                                                                                              \
  []([[maybe_unused]] auto a, [[maybe_unused]] auto b, [[maybe_unused]] auto c)                                        \
      __attribute__((always_inline)) { return __VA_ARGS__; }
#define V1(names, D, A, ...) valuEntry<D, A, absent, absent>(names, Class::vector, INGOT_LAMBDA(__VA_ARGS__))
#define V2(names, D, A, B, ...) valuEntry<D, A, B, absent>(names, Class::vector, INGOT_LAMBDA(__VA_ARGS__))
#define V3(names, D, A, B, C, ...) valuEntry<D, A, B, C>(names, Class::vector, INGOT_LAMBDA(__VA_ARGS__))

// Lane by lane, for what is too rare to deserve vectors.
template <class F> INGOT_INLINE U32 each(U32 a, F f) {
  U32 r;
  for (int i = 0; i < 32; ++i)
    r[i] = f(uint32_t(a[i]));
  return r;
}
template <class F> INGOT_INLINE U32 each(U32 a, U32 b, F f) {
  U32 r;
  for (int i = 0; i < 32; ++i)
    r[i] = f(uint32_t(a[i]), uint32_t(b[i]));
  return r;
}
template <class F> INGOT_INLINE U32 each(U32 a, U32 b, U32 c, F f) {
  U32 r;
  for (int i = 0; i < 32; ++i)
    r[i] = f(uint32_t(a[i]), uint32_t(b[i]), uint32_t(c[i]));
  return r;
}

// A quiet NaN operand loses to a number; -0 is below +0.
INGOT_INLINE F32 maxNumber(F32 a, F32 b) {
  U32 r = select(a > b, as<U32>(a), as<U32>(b));
  r = select(a == b, as<U32>(a) & as<U32>(b), r);
  return as<F32>(select(b != b, as<U32>(a), r));
}
INGOT_INLINE F32 minNumber(F32 a, F32 b) {
  U32 r = select(a < b, as<U32>(a), as<U32>(b));
  r = select(a == b, as<U32>(a) | as<U32>(b), r);
  return as<F32>(select(b != b, as<U32>(a), r));
}
// Lanes where either is a NaN.
template <class V> INGOT_INLINE auto anyNan(V a, V b) {
  return (a != a) | (b != b); // NOLINT(misc-redundant-expression)
}
// A NaN operand wins.
INGOT_INLINE F32 maximum(F32 a, F32 b) { return select(anyNan(a, b), a + b, maxNumber(a, b)); }
INGOT_INLINE F32 minimum(F32 a, F32 b) { return select(anyNan(a, b), a + b, minNumber(a, b)); }
INGOT_INLINE F32 fma(F32 a, F32 b, F32 c) { return __builtin_elementwise_fma(a, b, c); }

// f16 fused multiply-add with one rounding: the product is exact in f32; the sum is rounded to odd in f32 when inexact,
// so that the second rounding to f16 cannot go wrong.
INGOT_INLINE F32 fmaHalf(F32 a, F32 b, F32 c) {
  F32 p = a * b, s = p + c;
  F32 bv = s - p, err = (p - (s - bv)) + (c - bv);
  U32 bits = as<U32>(s);
  I32 fix = (err != 0.0f) & ((bits & 1u) == 0u) & ((bits & 0x7f800000u) != 0x7f800000u);
  // The exact sum lies towards or away from zero of s; stepping to the odd neighbour on that side keeps the
  // information.
  I32 away = (err > 0.0f) == (s > 0.0f);
  return as<F32>(select(fix, select(away, bits + 1u, bits - 1u), bits));
}

} // namespace ingot::emu::INGOT_EXEC_ISA
