// v_cmp and v_cmpx of every type, and the class tests. A condition is four bits: less, equal, greater, unordered.
#include "runtime/emulator/simd.h"

#include <deque>

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

constexpr uint32_t less = 1, equal = 2, greater = 4, unordered = 8;

template <class T> void compare(Wave *w, const Op *op) {
  auto a = T::get(w, op->s[0]), b = T::get(w, op->s[1]);
  uint32_t condition = op->detail, r = 0;
  if (condition & less)
    r |= maskOf(a < b);
  if (condition & equal)
    r |= maskOf(a == b);
  if (condition & greater)
    r |= maskOf(a > b);
  if constexpr (T::type == Type::f16 || T::type == Type::f32 || T::type == Type::f64)
    if (condition & unordered)
      r |= maskOf(anyNan(a, b));
  w->word(op->d) = r & w->exec();
  INGOT_NEXT;
}

// Bit of v_cmp_class for a value: sNaN, qNaN, -inf, -normal, -denormal, -0, +0, +denormal, +normal, +inf.
template <int exponentBits, int mantissaBits> uint32_t classOf(uint64_t u) {
  uint64_t mantissa = u & ((1ull << mantissaBits) - 1), exponent = u >> mantissaBits & ((1u << exponentBits) - 1);
  bool negative = u >> (mantissaBits + exponentBits) & 1;
  if (exponent == (1u << exponentBits) - 1) {
    if (mantissa)
      return mantissa >> (mantissaBits - 1) ? 2 : 1;
    return negative ? 4 : 512;
  }
  if (exponent)
    return negative ? 8 : 256;
  if (mantissa)
    return negative ? 16 : 128;
  return negative ? 32 : 64;
}
template <class T, int exponentBits, int mantissaBits> void testClass(Wave *w, const Op *op) {
  auto a = T::get(w, op->s[0]);
  U32 b = get(w, op->s[1]);
  uint32_t r = 0;
  for (int i = 0; i < 32; ++i)
    r |= uint32_t((classOf<exponentBits, mantissaBits>(a[i]) & uint32_t(b[i])) != 0) << i;
  w->word(op->d) = r & w->exec();
  INGOT_NEXT;
}

} // namespace

std::span<const Entry> compareEntries() {
  static std::deque<std::string> names;
  static std::vector<Entry> rows;
  static const bool built = [] {
    auto add = [](const std::string &suffix, Handler run, Type a, Type b, uint32_t condition) {
      for (bool toExec : {false, true}) {
        names.push_back((toExec ? "v_cmpx_" : "v_cmp_") + suffix);
        rows.push_back({names.back().c_str(),
                        run,
                        Form::compare,
                        Class::vector,
                        Type::mask,
                        {a, b, Type::none, Type::none},
                        2,
                        uint8_t(toExec),
                        condition});
      }
    };
    const std::pair<const char *, uint32_t> floats[] = {
        {"f", 0},   {"lt", 1},   {"eq", 2},   {"le", 3},   {"gt", 4},   {"lg", 5},   {"ge", 6}, {"o", 7},   {"u", 8},
        {"nge", 9}, {"nlg", 10}, {"ngt", 11}, {"nle", 12}, {"neq", 13}, {"nlt", 14}, {"t", 15}, {"tru", 15}};
    const std::pair<const char *, uint32_t> integers[] = {{"f", 0},  {"lt", 1}, {"eq", 2}, {"le", 3},
                                                          {"gt", 4}, {"ne", 5}, {"ge", 6}, {"t", 7}};
    for (auto [name, bits] : floats) {
      std::string n = name;
      add(n + "_f16", compare<f16>, Type::f16, Type::f16, bits);
      add(n + "_f32", compare<f32>, Type::f32, Type::f32, bits);
      add(n + "_f64", compare<f64>, Type::f64, Type::f64, bits);
    }
    for (auto [name, bits] : integers) {
      std::string n = name;
      add(n + "_u16", compare<u16>, Type::b16, Type::b16, bits);
      add(n + "_i16", compare<i16>, Type::b16, Type::b16, bits);
      add(n + "_u32", compare<u32>, Type::b32, Type::b32, bits);
      add(n + "_i32", compare<i32>, Type::b32, Type::b32, bits);
      add(n + "_u64", compare<u64>, Type::b64, Type::b64, bits);
      add(n + "_i64", compare<i64>, Type::b64, Type::b64, bits);
    }
    add("class_f16", testClass<h16, 5, 10>, Type::f16, Type::b16, 0);
    add("class_f32", testClass<u32, 8, 23>, Type::f32, Type::b32, 0);
    add("class_f64", testClass<u64, 11, 52>, Type::f64, Type::b32, 0);
    return true;
  }();
  (void)built;
  return rows;
}

} // namespace ingot::emu::INGOT_EXEC_ISA
