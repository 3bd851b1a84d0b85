// Instructions that move values between lanes and between vector and scalar registers.
#include "runtime/emulator/simd.h"

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

INGOT_INLINE uint32_t laneOf(Wave *w, int32_t source, uint32_t lane) {
  return source & 1 ? w->word(source - 1) : w->word(source + int32_t(4 * lane));
}
void readFirstLane(Wave *w, const Op *op) {
  uint32_t exec = w->exec();
  w->word(op->d) = laneOf(w, op->s[0], exec ? uint32_t(__builtin_ctz(exec)) : 0);
  INGOT_NEXT;
}
void readLane(Wave *w, const Op *op) {
  w->word(op->d) = laneOf(w, op->s[0], w->word(op->s[1] & ~1) & 31);
  INGOT_NEXT;
}
void writeLane(Wave *w, const Op *op) {
  w->word(op->d + int32_t(4 * (w->word(op->s[1] & ~1) & 31))) = w->word(op->s[0] & ~1);
  INGOT_NEXT;
}

// Each lane picks a lane of its own (or the other) row; an inactive source gives 0 with bound_ctrl, else nothing is
// written. mods[0] bit 2: fetch inactive lanes too; mods[1] bit 2: bound_ctrl.
template <bool otherRow, bool perLane> void permuteRow(Wave *w, const Op *op) {
  U32 v = get(w, op->s[0]), r, old = get(w, op->d);
  U32 selector = perLane ? get(w, op->s[1]) : U32{};
  uint32_t low = perLane ? 0 : w->word(op->s[1] & ~1), high = perLane ? 0 : w->word(op->s[2] & ~1);
  uint32_t exec = w->exec();
  bool inactive = op->mods[0] & 4, bound = op->mods[1] & 4;
  for (uint32_t i = 0; i < 32; ++i) {
    uint32_t pick = perLane ? selector[i] & 15 : (i & 8 ? high : low) >> (4 * (i & 7)) & 15;
    uint32_t from = ((i & 16) ^ (otherRow ? 16 : 0)) | pick;
    bool valid = inactive || (exec >> from & 1);
    r[i] = valid ? uint32_t(v[from]) : bound ? 0u : uint32_t(old[i]);
  }
  put(w, op->d, r);
  INGOT_NEXT;
}
// Swaps the halves of a wave of 64; a wave of 32 has one.
void permute64(Wave *w, const Op *op) {
  put(w, op->d, get(w, op->s[0]));
  INGOT_NEXT;
}

Entry lane(const char *names, Handler run, Form form, Type result, uint8_t count) {
  return {names, run, form, Class::crossLane, result, {Type::b32, Type::b32, Type::b32, Type::none}, count, 0, 0};
}

} // namespace

std::span<const Entry> laneEntries() {
  static const Entry rows[] = {
      lane("v_readfirstlane_b32", readFirstLane, Form::lane, Type::mask, 1),
      lane("v_readlane_b32", readLane, Form::lane, Type::mask, 2),
      lane("v_writelane_b32", writeLane, Form::lane, Type::b32, 2),
      lane("v_permlane16_b32", permuteRow<false, false>, Form::permlane16, Type::b32, 3),
      lane("v_permlanex16_b32", permuteRow<true, false>, Form::permlane16, Type::b32, 3),
      lane("v_permlane16_var_b32", permuteRow<false, true>, Form::permlane16, Type::b32, 2),
      lane("v_permlanex16_var_b32", permuteRow<true, true>, Form::permlane16, Type::b32, 2),
      lane("v_permlane64_b32", permute64, Form::valu, Type::b32, 1),
  };
  return rows;
}

} // namespace ingot::emu::INGOT_EXEC_ISA
