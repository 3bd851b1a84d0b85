// The scalar unit: integer and float arithmetic on the scalar file, branches, scalar loads, barriers and MODE. One
// value an instruction, so nothing here is a vector; compiled once.
#include "runtime/emulator/decode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <immintrin.h>

namespace ingot::emu {

#define INGOT_NEXT [[clang::musttail]] return op[1].run(w, op + 1)
#define INGOT_GO(to)                                                                                                   \
  do {                                                                                                                 \
    const Op *there = (to);                                                                                            \
    [[clang::musttail]] return there->run(w, there);                                                                   \
  } while (false)

namespace {

using U = uint32_t;
using I = int32_t;
using UL = uint64_t;
using IL = int64_t;

// f16 in the low half of a scalar.
struct Half {
  float v;
};

template <class T> T read(Wave *w, int32_t offset) {
  // A vector source with modifiers was put in a temporary: its lane 0 stands for the scalar.
  offset &= ~1;
  if constexpr (std::is_same_v<T, Half>)
    return {_cvtsh_ss(uint16_t(w->word(offset)))};
  else if constexpr (sizeof(T) == 8)
    return __builtin_bit_cast(T, w->wide(offset));
  else
    return __builtin_bit_cast(T, w->word(offset));
}
template <class T> void write(Wave *w, int32_t offset, T v) {
  if constexpr (std::is_same_v<T, Half>)
    w->word(offset) = uint32_t(uint16_t(_cvtss_sh(v.v, 4)));
  else if constexpr (sizeof(T) == 8)
    w->setWide(offset, __builtin_bit_cast(uint64_t, v));
  else
    w->word(offset) = __builtin_bit_cast(uint32_t, v);
}

float real(float x) { return x; }
float real(Half x) { return x.v; }

// What an operation does to SCC: nothing, "result is not zero", or what the expression assigns.
enum class Scc { kept, nonzero, assigned };

template <class D, class A, class B, class C, Scc rule, class F> void scalar(Wave *w, const Op *op) {
  A a = read<A>(w, op->s[0]);
  B b = read<B>(w, op->s[1]);
  C c = read<C>(w, op->s[2]);
  uint32_t scc = w->s[sreg::scc];
  D r = F{}(a, b, c, scc);
  write(w, op->d, r);
  if constexpr (rule == Scc::nonzero)
    w->s[sreg::scc] = r != 0;
  if constexpr (rule == Scc::assigned)
    w->s[sreg::scc] = scc;
  INGOT_NEXT;
}
template <class A, class F> void test(Wave *w, const Op *op) {
  A a = read<A>(w, op->s[0]), b = read<A>(w, op->s[1]);
  w->s[sreg::scc] = F{}(a, b);
  INGOT_NEXT;
}
template <class T> constexpr Type typeOf() {
  if constexpr (std::is_same_v<T, float>)
    return Type::f32;
  else if constexpr (std::is_same_v<T, Half>)
    return Type::f16;
  else
    return sizeof(T) == 8 ? Type::b64 : Type::b32;
}
template <class D, class A, class B, class C, Scc rule, class F>
Entry row(const char *names, uint8_t count, F, Form form = Form::salu, Class cls = Class::scalar) {
  return {names,
          scalar<D, A, B, C, rule, F>,
          form,
          cls,
          typeOf<D>(),
          {typeOf<A>(), typeOf<B>(), typeOf<C>(), Type::none},
          count,
          sizeof(D) == 8 ? uint8_t(2) : uint8_t(1),
          0};
}
template <class A, class F> Entry testRow(const char *names, F, Form form = Form::saluNoResult) {
  return {names, test<A, F>, form, Class::scalar, Type::none, {typeOf<A>(), typeOf<A>(), Type::none, Type::none},
          2,     0,          0};
}
#define L(...)                                                                                                         \
  []([[maybe_unused]] auto a, [[maybe_unused]] auto b, [[maybe_unused]] auto c, [[maybe_unused]] uint32_t &scc) {      \
    return __VA_ARGS__;                                                                                                \
  }
#define BODY(...)                                                                                                      \
  []([[maybe_unused]] auto a, [[maybe_unused]] auto b, [[maybe_unused]] auto c, [[maybe_unused]] uint32_t &scc) {      \
    __VA_ARGS__                                                                                                        \
  }
#define S1(names, D, A, rule, ...) row<D, A, U, U, Scc::rule>(names, 1, L(__VA_ARGS__))
#define S2(names, D, A, B, rule, ...) row<D, A, B, U, Scc::rule>(names, 2, L(__VA_ARGS__))
#define S2B(names, D, A, B, rule, ...) row<D, A, B, U, Scc::rule>(names, 2, BODY(__VA_ARGS__))
#define S3(names, D, A, B, C, rule, ...) row<D, A, B, C, Scc::rule>(names, 3, L(__VA_ARGS__))
#define TEST(names, A, ...) testRow<A>(names, [](auto a, auto b) { return uint32_t(__VA_ARGS__); })

UL low(uint32_t width) { return width >= 64 ? ~0ull : (1ull << width) - 1; }
U bitField(U a, U b) { return U(a >> (b & 31)) & U(low(std::min(b >> 16 & 127, 32u))); }
I signedField(U a, U b) {
  uint32_t offset = b & 31, width = b >> 16 & 127;
  if (width == 0)
    return 0;
  width = std::min(width, 32 - offset);
  return I(a << (32 - offset - width)) >> (32 - width);
}
UL wideField(UL a, U b) { return (a >> (b & 63)) & low(std::min(b >> 16 & 127, 64u)); }
IL wideSignedField(UL a, U b) {
  uint32_t offset = b & 63, width = b >> 16 & 127;
  if (width == 0)
    return 0;
  width = std::min(width, 64 - offset);
  return IL(a << (64 - offset - width)) >> (64 - width);
}
U reverse(U a) { return __builtin_bitreverse32(a); }
UL reverse(UL a) { return __builtin_bitreverse64(a); }
template <class T> U leadingSame(T a) {
  T y = std::make_signed_t<T>(a) < 0 ? T(~a) : a;
  return y ? U(std::countl_zero(y)) : ~0u;
}
UL wholeQuads(UL a) {
  a |= a >> 1 & 0x5555555555555555ull;
  a |= a >> 2 & 0x1111111111111111ull;
  a &= 0x1111111111111111ull;
  return a * 15;
}
I toInt(float x) { return x != x ? 0 : x >= 2147483648.0f ? 0x7fffffff : x <= -2147483648.0f ? I(0x80000000) : I(x); }
U toUnsigned(float x) { return x != x || x <= 0 ? 0 : x >= 4294967296.0f ? ~0u : U(x); }
float nearest(float x) { return std::nearbyint(x); }
float flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
float larger(float a, float b) {
  if (a != a || b != b)
    return b != b ? a : b;
  return a == b ? (std::signbit(a) ? b : a) : std::max(a, b);
}
float smaller(float a, float b) {
  if (a != a || b != b)
    return b != b ? a : b;
  return a == b ? (std::signbit(a) ? a : b) : std::min(a, b);
}
float maximum(float a, float b) { return a != a || b != b ? a + b : larger(a, b); }
float minimum(float a, float b) { return a != a || b != b ? a + b : smaller(a, b); }
U packRtz(float a, float b) { return U(uint16_t(_cvtss_sh(a, 3))) | U(uint16_t(_cvtss_sh(b, 3))) << 16; }

// EXEC = f(source, EXEC), the old EXEC to D, SCC = EXEC is not zero.
template <class F> void saveExec(Wave *w, const Op *op) {
  uint32_t a = w->word(op->s[0] & ~1), old = w->exec();
  uint32_t next = F{}(a, old);
  w->word(op->d) = op->detail ? next : old;
  w->s[sreg::exec] = next;
  w->s[sreg::scc] = next != 0;
  INGOT_NEXT;
}
template <class F> Entry saveExecRow(const char *names, F, uint32_t resultIsExec = 0) {
  return {names, saveExec<F>, Form::salu,  Class::scalar, Type::b32, {Type::b32, Type::none, Type::none, Type::none},
          1,     1,           resultIsExec};
}

// Branches.
void jump(Wave *w, const Op *op) { INGOT_GO(op->target); }
template <uint32_t index, bool whenZero> void jumpIf(Wave *w, const Op *op) {
  INGOT_GO((w->s[index] == 0) == whenZero ? op->target : op + 1);
}
Entry jumpRow(const char *names, Handler run) {
  return {names, run, Form::branch, Class::branch, Type::none, {}, 0, 0, 0};
}

const Op *operationAt(Wave *w, uint64_t address) {
  const ProgramCode &code = *w->context->code;
  uint64_t offset = address - code.kernel.entry;
  if (offset / 4 >= code.opAtDword.size() || offset % 4 || code.opAtDword[offset / 4] < 0)
    return nullptr;
  return &code.ops[size_t(code.opAtDword[offset / 4])];
}
const Op *jumpTarget(Wave *w, const Op *op, uint64_t address) {
  const Op *to = operationAt(w, address);
  if (!to) {
    char text[128];
    std::snprintf(text, sizeof text, "jump to 0x%llx, which is no instruction of this kernel (compile calls inline)",
                  static_cast<unsigned long long>(address));
    fault(w, op, 719, -1, text);
  }
  return to;
}
// imm: pc of the next instruction, from the entry.
void getPc(Wave *w, const Op *op) {
  w->setWide(op->d, w->context->code->kernel.entry + op->imm);
  INGOT_NEXT;
}
void setPc(Wave *w, const Op *op) {
  const Op *to = jumpTarget(w, op, w->wide(op->s[0] & ~1));
  if (!to)
    return;
  INGOT_GO(to);
}
void swapPc(Wave *w, const Op *op) {
  const Op *to = jumpTarget(w, op, w->wide(op->s[0] & ~1));
  if (!to)
    return;
  w->setWide(op->d, w->context->code->kernel.entry + op->imm);
  INGOT_GO(to);
}
void callPc(Wave *w, const Op *op) {
  w->setWide(op->d, w->context->code->kernel.entry + op->imm);
  INGOT_GO(op->target);
}

void endProgram(Wave *w, const Op *op) {
  w->next = op;
  w->stop = Stop::ended;
}
void barrier(Wave *w, const Op *op) {
  w->next = op + 1;
  w->stop = Stop::barrier;
}
void barrierSignal(Wave *w, const Op *op) {
  if (w->barrierSignalled) {
    fault(w, op, 719, -1, "the wave signals the barrier twice without waiting for it");
    return;
  }
  w->barrierSignalled = 1;
  INGOT_NEXT;
}
void barrierWait(Wave *w, const Op *op) {
  if (!w->barrierSignalled) {
    fault(w, op, 719, -1, "the wave waits at a barrier that it has not signalled: it can never open");
    return;
  }
  w->next = op + 1;
  w->stop = Stop::barrier;
}

// Loads of 32-bit words into consecutive scalars. s[0]: base, s[1]: scalar offset, imm: signed offset.
template <uint32_t words> void loadScalar(Wave *w, const Op *op) {
  Context *c = w->context;
  uint64_t base = w->wide(op->s[0] & ~1);
  uint64_t offset = uint64_t(int64_t(int32_t(op->imm))) + w->word(op->s[1] & ~1);
  if (op->detail) { // buffer descriptor: 48-bit base, records in the third word
    uint32_t records = w->word((op->s[0] & ~1) + 8);
    base &= 0xffffffffffffull;
    if (offset + 4 * words > records) {
      for (uint32_t i = 0; i < words; ++i)
        w->word(op->d + int32_t(4 * i)) = 0;
      INGOT_NEXT;
    }
  }
  uint64_t address = (base + offset) & ~3ull;
  Site &site = c->sites[op->site];
  if ((address < site.begin || address + 4 * words > site.end) &&
      !findRange(w, site, address, address + 4 * words, false)) [[unlikely]] {
    faultAddress(w, op, -1, address, 4 * words, false);
    return;
  }
  c->siteBytes[op->site] += 4 * words;
  std::memcpy(&w->word(op->d), hostPointer(address), 4 * words);
  INGOT_NEXT;
}
template <class T> void loadScalarNarrow(Wave *w, const Op *op) {
  Context *c = w->context;
  uint64_t address = w->wide(op->s[0] & ~1) + uint64_t(int64_t(int32_t(op->imm))) + w->word(op->s[1] & ~1);
  Site &site = c->sites[op->site];
  if ((address < site.begin || address + sizeof(T) > site.end) &&
      !findRange(w, site, address, address + sizeof(T), false)) [[unlikely]] {
    faultAddress(w, op, -1, address, sizeof(T), false);
    return;
  }
  c->siteBytes[op->site] += sizeof(T);
  T v;
  std::memcpy(&v, hostPointer(address), sizeof v);
  w->word(op->d) = uint32_t(int32_t(v));
  INGOT_NEXT;
}
Entry loadRow(const char *names, Handler run, uint8_t words, uint32_t buffer = 0) {
  return {names, run, Form::smem, Class::global, words == 2 ? Type::b64 : Type::b32, {}, 0, words, buffer};
}

// Hardware registers: imm is id 5:0, offset 10:6, size-1 15:11. Only MODE (1) has meaning here; others read 0.
void applyMode(Wave *w) {
  w->mxcsr = hostControl(w->mode, false);
  w->mxcsrWide = hostControl(w->mode, true);
  _mm_setcsr(w->mxcsr);
}
void setRegister(Wave *w, const Op *op) {
  uint32_t offset = op->imm >> 6 & 31, width = (op->imm >> 11 & 31) + 1, value = w->word(op->s[0] & ~1);
  if ((op->imm & 63) == 1) {
    uint32_t field = uint32_t(low(width)) << offset;
    w->mode = (w->mode & ~field) | (value << offset & field);
    applyMode(w);
  }
  INGOT_NEXT;
}
void getRegister(Wave *w, const Op *op) {
  uint32_t offset = op->imm >> 6 & 31, width = (op->imm >> 11 & 31) + 1;
  w->word(op->d) = (op->imm & 63) == 1 ? w->mode >> offset & uint32_t(low(width)) : 0;
  INGOT_NEXT;
}
void setRoundMode(Wave *w, const Op *op) {
  w->mode = (w->mode & ~15u) | (op->imm & 15);
  applyMode(w);
  INGOT_NEXT;
}
void setDenormMode(Wave *w, const Op *op) {
  w->mode = (w->mode & ~0xf0u) | (op->imm & 15) << 4;
  applyMode(w);
  INGOT_NEXT;
}
Entry plain(const char *names, Handler run, Form form, Class cls, uint8_t sources = 0, Type result = Type::none,
            Type source = Type::b32, uint32_t detail = 0) {
  return {names,   run,
          form,    cls,
          result,  {source, source, source, Type::none},
          sources, uint8_t(result == Type::b64 ? 2 : 1),
          detail};
}

} // namespace

std::span<const Entry> scalarEntries() {
  static const Entry rows[] = {
    S1("s_mov_b32", U, U, kept, a),
    S1("s_mov_b64", UL, UL, kept, a),
    S1("s_not_b32", U, U, nonzero, ~a),
    S1("s_not_b64", UL, UL, nonzero, ~a),
    S1("s_brev_b32", U, U, kept, reverse(a)),
    S1("s_brev_b64", UL, UL, kept, reverse(a)),
    S1("s_abs_i32", U, U, nonzero, I(a) < 0 ? 0u - a : a),
    S1("s_sext_i32_i8", I, I, kept, I(int8_t(a))),
    S1("s_sext_i32_i16", I, I, kept, I(int16_t(a))),
    S1("s_bcnt0_i32_b32", U, U, nonzero, U(32 - std::popcount(a))),
    S1("s_bcnt0_i32_b64", U, UL, nonzero, U(64 - std::popcount(a))),
    S1("s_bcnt1_i32_b32", U, U, nonzero, U(std::popcount(a))),
    S1("s_bcnt1_i32_b64", U, UL, nonzero, U(std::popcount(a))),
    S1("s_ff1_i32_b32|s_ctz_i32_b32", U, U, kept, a ? U(std::countr_zero(a)) : ~0u),
    S1("s_ff1_i32_b64|s_ctz_i32_b64", U, UL, kept, a ? U(std::countr_zero(a)) : ~0u),
    S1("s_flbit_i32_b32|s_clz_i32_u32", U, U, kept, a ? U(std::countl_zero(a)) : ~0u),
    S1("s_flbit_i32_b64|s_clz_i32_u64", U, UL, kept, a ? U(std::countl_zero(a)) : ~0u),
    S1("s_flbit_i32|s_cls_i32", U, U, kept, leadingSame(a)),
    S1("s_flbit_i32_i64|s_cls_i32_i64", U, UL, kept, leadingSame(a)),
    S1("s_wqm_b32", U, U, nonzero, U(wholeQuads(a))),
    S1("s_wqm_b64", UL, UL, nonzero, wholeQuads(a)),
    row<U, U, U, U, Scc::kept>("s_bitset0_b32", 3, L(c & ~(1u << (a & 31)))),
    row<U, U, U, U, Scc::kept>("s_bitset1_b32", 3, L(c | 1u << (a & 31))),
    row<U, U, U, U, Scc::kept>("s_cmov_b32", 3, L(scc ? a : c)),
    row<UL, UL, U, UL, Scc::kept>("s_cmov_b64", 3, L(scc ? a : c)),
    S2("s_cselect_b32", U, U, U, kept, scc ? a : b),
    S2("s_cselect_b64", UL, UL, UL, kept, scc ? a : b),
    S2B("s_add_u32|s_add_co_u32", U, U, U, assigned, U r = a + b; scc = r < a; return r;),
    S2B("s_sub_u32|s_sub_co_u32", U, U, U, assigned, scc = a < b; return a - b;),
    S2B("s_add_i32|s_add_co_i32", U, U, U, assigned, U r = a + b; scc = ((a ^ r) & (b ^ r)) >> 31; return r;),
    S2B("s_sub_i32|s_sub_co_i32", U, U, U, assigned, U r = a - b; scc = ((a ^ b) & (a ^ r)) >> 31; return r;),
    S2B("s_addc_u32|s_add_co_ci_u32", U, U, U, assigned, UL r = UL(a) + b + scc; scc = U(r >> 32); return U(r);),
    S2B("s_subb_u32|s_sub_co_ci_u32", U, U, U, assigned, UL t = UL(b) + scc; scc = t > a; return U(a - t);),
    S2B("s_absdiff_i32", U, U, U, assigned, U r = I(a) > I(b) ? a - b : b - a; scc = r != 0; return r;),
    S2B("s_min_i32", I, I, I, assigned, scc = a < b; return std::min(a, b);),
    S2B("s_max_i32", I, I, I, assigned, scc = a > b; return std::max(a, b);),
    S2B("s_min_u32", U, U, U, assigned, scc = a < b; return std::min(a, b);),
    S2B("s_max_u32", U, U, U, assigned, scc = a > b; return std::max(a, b);),
    S2("s_and_b32", U, U, U, nonzero, a & b),
    S2("s_and_b64", UL, UL, UL, nonzero, a & b),
    S2("s_or_b32", U, U, U, nonzero, a | b),
    S2("s_or_b64", UL, UL, UL, nonzero, a | b),
    S2("s_xor_b32", U, U, U, nonzero, a ^ b),
    S2("s_xor_b64", UL, UL, UL, nonzero, a ^ b),
    S2("s_nand_b32", U, U, U, nonzero, ~(a & b)),
    S2("s_nand_b64", UL, UL, UL, nonzero, ~(a & b)),
    S2("s_nor_b32", U, U, U, nonzero, ~(a | b)),
    S2("s_nor_b64", UL, UL, UL, nonzero, ~(a | b)),
    S2("s_xnor_b32", U, U, U, nonzero, ~(a ^ b)),
    S2("s_xnor_b64", UL, UL, UL, nonzero, ~(a ^ b)),
    S2("s_andn2_b32|s_and_not1_b32", U, U, U, nonzero, a & ~b),
    S2("s_andn2_b64|s_and_not1_b64", UL, UL, UL, nonzero, a & ~b),
    S2("s_orn2_b32|s_or_not1_b32", U, U, U, nonzero, a | ~b),
    S2("s_orn2_b64|s_or_not1_b64", UL, UL, UL, nonzero, a | ~b),
    S2("s_lshl_b32", U, U, U, nonzero, a << (b & 31)),
    S2("s_lshl_b64", UL, UL, U, nonzero, a << (b & 63)),
    S2("s_lshr_b32", U, U, U, nonzero, a >> (b & 31)),
    S2("s_lshr_b64", UL, UL, U, nonzero, a >> (b & 63)),
    S2("s_ashr_i32", I, I, U, nonzero, a >> (b & 31)),
    S2("s_ashr_i64", IL, IL, U, nonzero, a >> (b & 63)),
    S2("s_bfm_b32", U, U, U, kept, U(low(a & 31)) << (b & 31)),
    S2("s_bfm_b64", UL, U, U, kept, low(a & 63) << (b & 63)),
    S2("s_bfe_u32", U, U, U, nonzero, bitField(a, b)),
    S2("s_bfe_i32", I, U, U, nonzero, signedField(a, b)),
    S2("s_bfe_u64", UL, UL, U, nonzero, wideField(a, b)),
    S2("s_bfe_i64", IL, UL, U, nonzero, wideSignedField(a, b)),
    S2("s_mul_i32", U, U, U, kept, a * b),
    S2("s_mul_hi_u32", U, U, U, kept, U(UL(a) * b >> 32)),
    S2("s_mul_hi_i32", U, I, I, kept, U(UL(IL(a) * b) >> 32)),
    S2("s_mul_u64", UL, UL, UL, kept, a * b),
    S2("s_add_nc_u64|s_add_u64", UL, UL, UL, kept, a + b),
    S2("s_sub_nc_u64|s_sub_u64", UL, UL, UL, kept, a - b),
    S2B("s_lshl1_add_u32", U, U, U, assigned, UL r = (UL(a) << 1) + b; scc = r >> 32 != 0; return U(r);),
    S2B("s_lshl2_add_u32", U, U, U, assigned, UL r = (UL(a) << 2) + b; scc = r >> 32 != 0; return U(r);),
    S2B("s_lshl3_add_u32", U, U, U, assigned, UL r = (UL(a) << 3) + b; scc = r >> 32 != 0; return U(r);),
    S2B("s_lshl4_add_u32", U, U, U, assigned, UL r = (UL(a) << 4) + b; scc = r >> 32 != 0; return U(r);),
    S2("s_pack_ll_b32_b16", U, U, U, kept, (a & 0xffff) | b << 16),
    S2("s_pack_lh_b32_b16", U, U, U, kept, (a & 0xffff) | (b & 0xffff0000)),
    S2("s_pack_hh_b32_b16", U, U, U, kept, a >> 16 | (b & 0xffff0000)),
    S2("s_pack_hl_b32_b16", U, U, U, kept, a >> 16 | b << 16),

    saveExecRow("s_and_saveexec_b32", [](U a, U e) { return a & e; }),
    saveExecRow("s_or_saveexec_b32", [](U a, U e) { return a | e; }),
    saveExecRow("s_xor_saveexec_b32", [](U a, U e) { return a ^ e; }),
    saveExecRow("s_nand_saveexec_b32", [](U a, U e) { return ~(a & e); }),
    saveExecRow("s_nor_saveexec_b32", [](U a, U e) { return ~(a | e); }),
    saveExecRow("s_xnor_saveexec_b32", [](U a, U e) { return ~(a ^ e); }),
    saveExecRow("s_and_not1_saveexec_b32|s_andn2_saveexec_b32", [](U a, U e) { return a & ~e; }),
    saveExecRow("s_or_not1_saveexec_b32|s_orn2_saveexec_b32", [](U a, U e) { return a | ~e; }),
    saveExecRow("s_and_not0_saveexec_b32|s_andn1_saveexec_b32", [](U a, U e) { return ~a & e; }),
    saveExecRow("s_or_not0_saveexec_b32|s_orn1_saveexec_b32", [](U a, U e) { return ~a | e; }),
    saveExecRow(
        "s_and_not1_wrexec_b32|s_andn2_wrexec_b32", [](U a, U e) { return a & ~e; }, 1),
    saveExecRow(
        "s_and_not0_wrexec_b32|s_andn1_wrexec_b32", [](U a, U e) { return ~a & e; }, 1),

    TEST("s_cmp_eq_i32|s_cmp_eq_u32|s_cmpk_eq_i32", U, a == b),
    TEST("s_cmp_lg_i32|s_cmp_lg_u32|s_cmpk_lg_i32", U, a != b),
    TEST("s_cmp_gt_i32|s_cmpk_gt_i32", I, a > b),
    TEST("s_cmp_ge_i32|s_cmpk_ge_i32", I, a >= b),
    TEST("s_cmp_lt_i32|s_cmpk_lt_i32", I, a < b),
    TEST("s_cmp_le_i32|s_cmpk_le_i32", I, a <= b),
    TEST("s_cmp_gt_u32|s_cmpk_gt_u32", U, a > b),
    TEST("s_cmp_ge_u32|s_cmpk_ge_u32", U, a >= b),
    TEST("s_cmp_lt_u32|s_cmpk_lt_u32", U, a < b),
    TEST("s_cmp_le_u32|s_cmpk_le_u32", U, a <= b),
    TEST("s_cmpk_eq_u32", U, a == b),
    TEST("s_cmpk_lg_u32", U, a != b),
    TEST("s_cmp_eq_u64", UL, a == b),
    TEST("s_cmp_lg_u64", UL, a != b),
    TEST("s_bitcmp0_b32", U, !(a >> (b & 31) & 1)),
    TEST("s_bitcmp1_b32", U, a >> (b & 31) & 1),
    testRow<UL>("s_bitcmp0_b64", [](UL a, UL b) { return !(a >> (b & 63) & 1); }),
    testRow<UL>("s_bitcmp1_b64", [](UL a, UL b) { return a >> (b & 63) & 1; }),

    row<I, I, U, U, Scc::kept>("s_movk_i32", 1, L(a), Form::sopk),
    row<U, U, U, U, Scc::kept>("s_cmovk_i32", 3, L(scc ? a : c), Form::sopk),
    row<U, U, U, U, Scc::assigned>("s_addk_i32|s_addk_co_i32", 3,
                                   BODY(U r = a + c; scc = ((a ^ r) & (c ^ r)) >> 31; return r;), Form::sopk),
    row<U, U, U, U, Scc::kept>("s_mulk_i32", 3, L(a * c), Form::sopk),

    // Float on the scalar unit, new with these chips.
    S2("s_add_f32", float, float, float, kept, a + b),
    S2("s_sub_f32", float, float, float, kept, a - b),
    S2("s_mul_f32", float, float, float, kept, a *b),
    S2("s_min_f32|s_min_num_f32", float, float, float, kept, smaller(a, b)),
    S2("s_max_f32|s_max_num_f32", float, float, float, kept, larger(a, b)),
    S2("s_minimum_f32", float, float, float, kept, minimum(a, b)),
    S2("s_maximum_f32", float, float, float, kept, maximum(a, b)),
    S3("s_fmac_f32|s_fmaak_f32|s_fmamk_f32", float, float, float, float, kept, std::fma(a, b, c)),
    S1("s_ceil_f32", float, float, kept, std::ceil(a)),
    S1("s_floor_f32", float, float, kept, std::floor(a)),
    S1("s_trunc_f32", float, float, kept, std::trunc(a)),
    S1("s_rndne_f32", float, float, kept, nearest(a)),
    S1("s_cvt_f32_i32", float, I, kept, float(a)),
    S1("s_cvt_f32_u32", float, U, kept, float(a)),
    S1("s_cvt_i32_f32", I, float, kept, toInt(a)),
    S1("s_cvt_u32_f32", U, float, kept, toUnsigned(a)),
    S1("s_cvt_f16_f32", Half, float, kept, Half{a}),
    S1("s_cvt_f32_f16", float, Half, kept, a.v),
    S1("s_cvt_hi_f32_f16", float, U, kept, _cvtsh_ss(uint16_t(a >> 16))),
    S2("s_cvt_pk_rtz_f16_f32", U, float, float, kept, packRtz(a, b)),
    S2("s_add_f16", Half, Half, Half, kept, Half{a.v + b.v}),
    S2("s_sub_f16", Half, Half, Half, kept, Half{a.v - b.v}),
    S2("s_mul_f16", Half, Half, Half, kept, Half{a.v * b.v}),
    S2("s_min_f16|s_min_num_f16", Half, Half, Half, kept, Half{smaller(a.v, b.v)}),
    S2("s_max_f16|s_max_num_f16", Half, Half, Half, kept, Half{larger(a.v, b.v)}),
    S2("s_minimum_f16", Half, Half, Half, kept, Half{minimum(a.v, b.v)}),
    S2("s_maximum_f16", Half, Half, Half, kept, Half{maximum(a.v, b.v)}),
    S3("s_fmac_f16", Half, Half, Half, Half, kept, Half{float(double(a.v) * b.v + c.v)}),
    S1("s_ceil_f16", Half, Half, kept, Half{std::ceil(a.v)}),
    S1("s_floor_f16", Half, Half, kept, Half{std::floor(a.v)}),
    S1("s_trunc_f16", Half, Half, kept, Half{std::trunc(a.v)}),
    S1("s_rndne_f16", Half, Half, kept, Half{nearest(a.v)}),
#define FLOAT_TESTS(type, T)                                                                                           \
  TEST("s_cmp_lt_" type, T, real(a) < real(b)), TEST("s_cmp_eq_" type, T, real(a) == real(b)),                         \
      TEST("s_cmp_le_" type, T, real(a) <= real(b)), TEST("s_cmp_gt_" type, T, real(a) > real(b)),                     \
      TEST("s_cmp_lg_" type, T, std::islessgreater(real(a), real(b))), TEST("s_cmp_ge_" type, T, real(a) >= real(b)),  \
      TEST("s_cmp_o_" type, T, !std::isunordered(real(a), real(b))),                                                   \
      TEST("s_cmp_u_" type, T, std::isunordered(real(a), real(b))), TEST("s_cmp_nge_" type, T, !(real(a) >= real(b))), \
      TEST("s_cmp_nlg_" type, T, !std::islessgreater(real(a), real(b))),                                               \
      TEST("s_cmp_ngt_" type, T, !(real(a) > real(b))), TEST("s_cmp_nle_" type, T, !(real(a) <= real(b))),             \
      TEST("s_cmp_neq_" type, T, real(a) != real(b)), TEST("s_cmp_nlt_" type, T, !(real(a) < real(b)))
    FLOAT_TESTS("f32", float),
    FLOAT_TESTS("f16", Half),

  // Transcendentals that read and write scalars (gfx12); their result type says "scalar register" to the decoder.
#define TRANSCENDENTAL(name, D, A, ...)                                                                                \
  [] {                                                                                                                 \
    Entry e = row<D, A, U, U, Scc::kept>(name, 1, L(__VA_ARGS__), Form::valu, Class::vector);                          \
    e.result = Type::mask;                                                                                             \
    return e;                                                                                                          \
  }()
    TRANSCENDENTAL("v_s_exp_f32", float, float, flush(std::exp2(flush(a)))),
    TRANSCENDENTAL("v_s_log_f32", float, float, std::log2(flush(a))),
    TRANSCENDENTAL("v_s_rcp_f32", float, float, flush(1.0f / flush(a))),
    TRANSCENDENTAL("v_s_rsq_f32", float, float, flush(1.0f / std::sqrt(flush(a)))),
    TRANSCENDENTAL("v_s_sqrt_f32", float, float, std::sqrt(flush(a))),
    TRANSCENDENTAL("v_s_exp_f16", Half, Half, Half{std::exp2(a.v)}),
    TRANSCENDENTAL("v_s_log_f16", Half, Half, Half{std::log2(a.v)}),
    TRANSCENDENTAL("v_s_rcp_f16", Half, Half, Half{1.0f / a.v}),
    TRANSCENDENTAL("v_s_rsq_f16", Half, Half, Half{1.0f / std::sqrt(a.v)}),
    TRANSCENDENTAL("v_s_sqrt_f16", Half, Half, Half{std::sqrt(a.v)}),

    jumpRow("s_branch", jump),
    jumpRow("s_cbranch_scc0", jumpIf<sreg::scc, true>),
    jumpRow("s_cbranch_scc1", jumpIf<sreg::scc, false>),
    jumpRow("s_cbranch_vccz", jumpIf<sreg::vcc, true>),
    jumpRow("s_cbranch_vccnz", jumpIf<sreg::vcc, false>),
    jumpRow("s_cbranch_execz", jumpIf<sreg::exec, true>),
    jumpRow("s_cbranch_execnz", jumpIf<sreg::exec, false>),
    plain("s_getpc_b64", getPc, Form::salu, Class::branch, 0, Type::b64),
    plain("s_setpc_b64", setPc, Form::saluNoResult, Class::branch, 1, Type::none, Type::b64),
    plain("s_swappc_b64", swapPc, Form::salu, Class::branch, 1, Type::b64, Type::b64),
    plain("s_call_b64", callPc, Form::branch, Class::branch, 0, Type::b64),
    plain("s_endpgm|s_endpgm_saved", endProgram, Form::control, Class::branch),
    plain("s_barrier", barrier, Form::control, Class::barrier),
    plain("s_barrier_signal", barrierSignal, Form::control, Class::barrier),
    plain("s_barrier_wait", barrierWait, Form::control, Class::barrier),
    plain("s_setreg_b32|s_setreg_imm32_b32", setRegister, Form::hwreg, Class::scalar, 1),
    plain("s_getreg_b32", getRegister, Form::hwreg, Class::scalar, 0, Type::b32),
    plain("s_round_mode", setRoundMode, Form::control, Class::scalar),
    plain("s_denorm_mode", setDenormMode, Form::control, Class::scalar),

    loadRow("s_load_b32|s_load_dword", loadScalar<1>, 1),
    loadRow("s_load_b64|s_load_dwordx2", loadScalar<2>, 2),
    loadRow("s_load_b96|s_load_dwordx3", loadScalar<3>, 3),
    loadRow("s_load_b128|s_load_dwordx4", loadScalar<4>, 4),
    loadRow("s_load_b256|s_load_dwordx8", loadScalar<8>, 8),
    loadRow("s_load_b512|s_load_dwordx16", loadScalar<16>, 16),
    loadRow("s_load_u8", loadScalarNarrow<uint8_t>, 1),
    loadRow("s_load_i8", loadScalarNarrow<int8_t>, 1),
    loadRow("s_load_u16", loadScalarNarrow<uint16_t>, 1),
    loadRow("s_load_i16", loadScalarNarrow<int16_t>, 1),
    loadRow("s_buffer_load_b32", loadScalar<1>, 1, 1),
    loadRow("s_buffer_load_b64", loadScalar<2>, 2, 1),
    loadRow("s_buffer_load_b96", loadScalar<3>, 3, 1),
    loadRow("s_buffer_load_b128", loadScalar<4>, 4, 1),
    loadRow("s_buffer_load_b256", loadScalar<8>, 8, 1),
    loadRow("s_buffer_load_b512", loadScalar<16>, 16, 1),

  // In-order execution makes waits and hints empty.
#define NOTHING(names) plain(names, nullptr, Form::none, Class::wait)
    NOTHING("s_waitcnt|s_waitcnt_vscnt|s_waitcnt_vmcnt|s_waitcnt_expcnt|s_waitcnt_lgkmcnt|s_waitcnt_depctr"),
    NOTHING("s_wait_loadcnt|s_wait_storecnt|s_wait_samplecnt|s_wait_bvhcnt|s_wait_expcnt|s_wait_dscnt|s_wait_kmcnt"),
    NOTHING("s_wait_loadcnt_dscnt|s_wait_storecnt_dscnt|s_wait_alu|s_wait_event|s_wait_idle|s_delay_alu|s_clause"),
    NOTHING("s_nop|s_set_inst_prefetch_distance|s_inst_prefetch|s_prefetch_inst|s_prefetch_inst_pc_rel"),
    NOTHING("s_prefetch_data|s_prefetch_data_pc_rel|s_buffer_prefetch_data|s_sleep|s_sleep_var|s_setprio|s_sendmsg"),
    NOTHING("buffer_gl0_inv|buffer_gl1_inv|global_inv|global_wb|global_wbinv|s_icache_inv|s_dcache_inv|s_code_end"),
    NOTHING("v_nop|s_sethalt|s_ttracedata|s_ttracedata_imm|s_incperflevel|s_decperflevel|s_version|ds_nop|v_pipeflush"),
  };
  return rows;
}

void countBlock(Wave *w, const Op *op) {
  Context *c = w->context;
  c->blockCounts[op->imm] += 1;
  c->budget -= op->imm2;
  if (c->budget < 0) [[unlikely]] {
    fault(w, op, 719, -1, "kernel never ends: the workgroup has used up its budget of wave-instructions");
    return;
  }
  INGOT_NEXT;
}

void leaveCode(Wave *w, const Op *op) { fault(w, op, 719, -1, "execution ran past the end of the kernel"); }

// Before an instruction in poison mode; see Use. A word of a wide result depends on narrow sources and on the same word
// of wide ones. Scalars are only judged in final uses: compilers merge lane masks with bits that they never look at.
void checkUse(Wave *w, const Op *op) {
  const Use &use = w->context->code->uses[op->imm];
  uint32_t exec = w->exec(), missing[16] = {};
  for (auto [first, count] : use.reads)
    for (uint32_t i = first; i < first + count; ++i) {
      uint32_t lanes = (i < 256 ? exec : 1u) & ~w->defined[i];
      if (!lanes)
        continue;
      if (use.final) {
        fault(w, op, 719, i < 256 ? std::countr_zero(lanes) : -1,
              "uses " + (i < 256 ? "v" + std::to_string(i) : "s" + std::to_string(i - 256)) +
                  ", which nothing defined has been written to");
        return;
      }
      if (i >= 256)
        continue;
      for (uint32_t k = 0; k < 16; ++k)
        if (count == 1 || k == i - first)
          missing[k] |= lanes;
    }
  for (auto [first, count] : use.writes)
    for (uint32_t i = first; i < first + count; ++i)
      if (i < 256)
        w->defined[i] = (w->defined[i] | exec) & ~missing[std::min(i - first, 15u)];
      else
        w->defined[i] = 1;
  INGOT_NEXT;
}

uint32_t hostControl(uint32_t mode, bool wide) {
  // MODE: round f32 1:0, round f16/f64 3:2 (even, +inf, -inf, zero); denorm f32 5:4, f16/f64 7:6 (bit 0: keep inputs,
  // bit 1: keep outputs).
  static constexpr uint32_t rounding[] = {0, 2, 1, 3};
  uint32_t round = mode >> (wide ? 2 : 0) & 3, denorm = mode >> (wide ? 6 : 4) & 3;
  return 0x1f80u | rounding[round] << 13 | (denorm & 1 ? 0 : 0x40u) | (denorm & 2 ? 0 : 0x8000u);
}

} // namespace ingot::emu
