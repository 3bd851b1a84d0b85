// Vector memory: address generation with its checks, then data movement that does not care which memory it is. All
// lanes' addresses are checked as one interval against the range this access site used last; consecutive lanes take a
// plain vector copy. Accesses of a dword or more must be dword-aligned and of a half 2-aligned: the chips tolerate
// less, but generated code that does it is wrong about its layout.
#include "runtime/emulator/simd.h"

#include <algorithm>
#include <cmath>

namespace ingot::emu::INGOT_EXEC_ISA {

namespace {

enum class Lanes { none, consecutive, scattered, faulted };
struct Where {
  uint8_t *base; // of lane 0 when consecutive
  Lanes lanes;
};

// Extra cycles when lanes of one pass meet in a bank with different dwords: 32 banks of a dword; an access of n dwords
// takes n passes of 32/n lanes.
uint32_t bankConflicts(const uint32_t *offset, uint32_t exec, uint32_t words) {
  uint32_t extra = 0, perPass = 32 / std::max(1u, words == 3 ? 4 : words);
  for (uint32_t first = 0; first < 32; first += perPass) {
    uint32_t seen[32][32], count[32] = {}, worst = 0;
    for (uint32_t lane = first; lane < first + perPass; ++lane) {
      if (!(exec >> lane & 1))
        continue;
      for (uint32_t i = 0; i < words; ++i) {
        uint32_t dword = offset[lane] / 4 + i, bank = dword & 31;
        bool known = false;
        for (uint32_t k = 0; k < count[bank]; ++k)
          known |= seen[bank][k] == dword;
        if (!known && count[bank] < 32)
          seen[bank][count[bank]++] = dword;
        worst = std::max(worst, count[bank]);
      }
    }
    extra += worst > 0 ? worst - 1 : 0;
  }
  return extra;
}

INGOT_INLINE void setPointers(Context *c, uint64_t base, U32 offset) {
  U64 p = __builtin_convertvector(offset, U64) + base;
  std::memcpy(static_cast<void *>(c->lane), &p, sizeof p);
}

// How many different bytes the accesses of `bytes` at 32 offsets touch; sorts them.
template <class T> uint32_t touched(T (&offset)[32], uint32_t bytes) {
  if (!std::is_sorted(offset, offset + 32))
    std::sort(offset, offset + 32);
  uint32_t sum = bytes;
  for (int i = 1; i < 32; ++i)
    sum += uint32_t(std::min<T>(offset[i] - offset[i - 1], bytes));
  return sum;
}

__attribute__((noinline)) void learnPattern(Site &site, U32 pattern, uint32_t bytes) {
  std::memcpy(site.pattern, &pattern, sizeof pattern);
  uint32_t offset[32];
  std::memcpy(offset, &pattern, sizeof offset);
  site.patternCost = touched(offset, bytes);
  site.patternExec = offset[31];
  site.patternKnown = true;
}

// Whether the lanes lie as they did last time at this site, `delta` from the first lane on, which is the lowest; `word`
// is the first lane's low address word, which the offsets must not carry out of.
INGOT_INLINE bool repeats(const Site &site, U32 delta, uint32_t word) {
  U32 known;
  std::memcpy(&known, site.pattern, sizeof known);
  return site.patternKnown && maskOf(known == delta) == ~0u && uint64_t(word) + site.patternExec <= ~0u;
}

// Counts an access by offsets from the lowest lane's. Waves repeat their patterns, so the answer stays with the site.
INGOT_INLINE void countPattern(Context *c, const Op *op, U32 pattern, uint32_t bytes) {
  Site &site = c->sites[op->site];
  U32 known;
  std::memcpy(&known, site.pattern, sizeof known);
  if (!site.patternKnown || maskOf(known == pattern) != ~0u) [[unlikely]]
    learnPattern(site, pattern, bytes);
  c->siteBytes[op->site] += site.patternCost;
}

// Lane by lane, when the lanes are not all inside one range: each must be inside some range.
__attribute__((noinline, cold)) bool slowAddresses(Wave *w, const Op *op, const uint64_t *address, uint32_t bytes,
                                                   bool write) {
  Context *c = w->context;
  uint32_t exec = w->exec();
  uint64_t counted[32], *countedEnd = counted;
  for (int i = 0; i < 32; ++i) {
    if (!(exec >> i & 1))
      continue;
    uint64_t a = address[i];
    uint32_t high = uint32_t(a >> 32), low = uint32_t(a);
    if (op->space == uint8_t(Space::flat) && high == privateAperture) {
      if (uint64_t(low) + bytes > c->scratchBytes) {
        fault(w, op, 700, i,
              "flat access to offset " + std::to_string(low) + " of this lane's scratch, which has " +
                  std::to_string(c->scratchBytes) + " bytes");
        return false;
      }
      c->lane[i] = w->scratch + uint64_t(i) * c->scratchBytes + low;
      continue;
    }
    if (op->space == uint8_t(Space::flat) && high == sharedAperture) {
      if (uint64_t(low) + bytes > c->ldsBytes) {
        fault(w, op, 700, i,
              "flat access to LDS offset " + std::to_string(low) + ", the workgroup has " +
                  std::to_string(c->ldsBytes) + " bytes");
        return false;
      }
      c->lane[i] = c->lds + low;
      continue;
    }
    if (!findRange(w, c->sites[op->site], a, a + bytes, write)) {
      faultAddress(w, op, i, a, bytes, write);
      return false;
    }
    c->lane[i] = hostPointer(a);
    *countedEnd++ = a;
  }
  std::sort(counted, countedEnd);
  for (const uint64_t *a = counted; a != countedEnd; ++a) {
    findRange(w, c->sites[op->site], *a, *a + bytes, write);
    c->siteBytes[op->site] += a == counted ? bytes : std::min<uint64_t>(*a - a[-1], bytes);
  }
  uint8_t *first = c->lane[__builtin_ctz(exec)];
  for (int i = 0; i < 32; ++i)
    if (!(exec >> i & 1))
      c->lane[i] = first;
  return true;
}

__attribute__((noinline, cold)) Where misaligned(Wave *w, const Op *op, uint64_t anyAddress, uint32_t bytes) {
  char text[96];
  std::snprintf(text, sizeof text, "misaligned access of %u bytes, for example at 0x%llx", bytes,
                static_cast<unsigned long long>(anyAddress));
  fault(w, op, 700, -1, text);
  return {nullptr, Lanes::faulted};
}

// Where the lanes of this access are, checked. `imm`: the byte offset of the instruction.
template <uint32_t bytes, bool write, uint32_t alignment = (bytes >= 4 ? 4 : bytes)>
__attribute__((noinline)) Where resolve(Wave *w, const Op *op, uint32_t imm) {
  Context *c = w->context;
  uint32_t exec = w->exec();
  if (!exec)
    return {nullptr, Lanes::none};
  uint32_t first = uint32_t(__builtin_ctz(exec));
  constexpr uint32_t low = alignment - 1;
  Space space = Space(op->space);

  if (space == Space::lds || space == Space::scratch) {
    U32 offset = get(w, op->s[0]) + imm;
    uint32_t limit = c->ldsBytes;
    if (space == Space::scratch) {
      offset += w->word(op->s[1] & ~1);
      limit = c->scratchBytes;
    }
    uint32_t start = offset[first];
    if (exec != ~0u)
      offset = select(exec, offset, splat(start));
    if (limit < bytes || __builtin_reduce_max(offset) > limit - bytes) {
      for (int i = 0; i < 32; ++i)
        if ((exec >> i & 1) && uint64_t(offset[i]) + bytes > limit) {
          fault(w, op, 700, i,
                std::string(write ? "store" : "load") + " of " + std::to_string(bytes) + " bytes at " +
                    (space == Space::lds ? "LDS" : "scratch") + " offset " + std::to_string(uint32_t(offset[i])) +
                    ", beyond the " + std::to_string(limit) + " bytes that " +
                    (space == Space::lds ? "the workgroup has" : "a lane has"));
          break;
        }
      return {nullptr, Lanes::faulted};
    }
    if (low && (__builtin_reduce_or(offset) & low))
      return misaligned(w, op, start, bytes);
    if (space == Space::scratch) {
      setPointers(c, reinterpret_cast<uint64_t>(w->scratch), offset + laneNumber * c->scratchBytes);
      return {nullptr, Lanes::scattered};
    }
    if (exec == ~0u && maskOf(offset == start + laneNumber * bytes) == ~0u)
      return {c->lds + start, Lanes::consecutive};
    Site &site = c->sites[op->site];
    U32 pattern = offset - start, known;
    std::memcpy(&known, site.pattern, sizeof known);
    if (!site.patternKnown || site.patternExec != exec || maskOf(known == pattern) != ~0u) [[unlikely]] {
      std::memcpy(site.pattern, &pattern, sizeof pattern);
      site.patternCost = bankConflicts(site.pattern, exec, (bytes + 3) / 4);
      site.patternExec = exec;
      site.patternKnown = true;
    }
    c->conflictCycles += site.patternCost;
    setPointers(c, reinterpret_cast<uint64_t>(c->lds), offset);
    return {nullptr, Lanes::scattered};
  }

  Site &site = c->sites[op->site];
  auto inSite = [&](uint64_t from, uint64_t to) {
    if (from >= site.begin && to <= site.end && !(write && site.readOnly)) [[likely]]
      return true;
    return findRange(w, site, from, to, write);
  };
  if (space == Space::globalScalarBase) {
    uint64_t base = w->wide(op->s[1] & ~1) + uint64_t(int64_t(int32_t(imm)));
    U32 offset = get(w, op->s[0]);
    uint32_t start = offset[first];
    if (exec == ~0u && start <= ~0u - 32 * bytes && maskOf(offset == start + laneNumber * bytes) == ~0u) {
      uint64_t from = base + start;
      if (inSite(from, from + 32 * bytes)) [[likely]] {
        if (low && (from & low))
          return misaligned(w, op, from, bytes);
        c->siteBytes[op->site] += 32 * bytes;
        return {hostPointer(from), Lanes::consecutive};
      }
    }
    if (exec != ~0u)
      offset = select(exec, offset, splat(start));
    // A known pattern has been found aligned, so that one lane stands for all.
    if (repeats(site, offset - start, start) && !((base + start) & low) &&
        inSite(base + start, base + start + site.patternExec + bytes)) [[likely]] {
      c->siteBytes[op->site] += site.patternCost;
      setPointers(c, base, offset);
      return {nullptr, Lanes::scattered};
    }
    if (low && ((__builtin_reduce_or((uint32_t(base) + offset) & low))))
      return misaligned(w, op, base + start, bytes);
    uint32_t lowest = __builtin_reduce_min(offset);
    if (inSite(base + lowest, base + __builtin_reduce_max(offset) + bytes)) [[likely]] {
      countPattern(c, op, offset - lowest, bytes);
      setPointers(c, base, offset);
      return {nullptr, Lanes::scattered};
    }
    alignas(128) uint64_t address[32];
    for (int i = 0; i < 32; ++i)
      address[i] = base + offset[i];
    return {nullptr, slowAddresses(w, op, address, bytes, write) ? Lanes::scattered : Lanes::faulted};
  }

  // Most accesses differ in the low word only, which spares them all 64-bit lanes.
  U32 words = get(w, op->s[0]), upper = get(w, nextWord(op->s[0]));
  uint32_t word = words[first];
  uint64_t start = (uint64_t(upper[first]) << 32 | word) + uint64_t(int64_t(int32_t(imm)));
  U32 delta = words - word;
  if (exec != ~0u) {
    delta = select(exec, delta, U32{});
    upper = select(exec, upper, splat(upper[first]));
  }
  if (maskOf(upper == splat(upper[first])) == ~0u && !(start & low)) [[likely]] {
    if (exec == ~0u && word <= ~0u - 32 * bytes && maskOf(delta == laneNumber * bytes) == ~0u) {
      if (inSite(start, start + 32 * bytes)) [[likely]] {
        c->siteBytes[op->site] += 32 * bytes;
        return {hostPointer(start), Lanes::consecutive};
      }
    } else if (repeats(site, delta, word) && inSite(start, start + site.patternExec + bytes)) {
      c->siteBytes[op->site] += site.patternCost;
      setPointers(c, start, delta);
      return {nullptr, Lanes::scattered};
    }
  }
  U64 address = getWide(w, op->s[0]) + uint64_t(int64_t(int32_t(imm)));
  if (exec != ~0u) {
    U64 other = U64{} + start;
    address = __builtin_convertvector(lanesOf(exec), I64) ? address : other;
  }
  if (low && (__builtin_reduce_or(address) & low))
    return misaligned(w, op, start, bytes);
  uint64_t from = __builtin_reduce_min(address), to = __builtin_reduce_max(address);
  if (from < 0xffff000000000000ull && to < 0xffff000000000000ull && inSite(from, to + bytes)) [[likely]] {
    std::memcpy(static_cast<void *>(c->lane), &address, sizeof address);
    if (to - from <= ~0u) [[likely]] {
      countPattern(c, op, __builtin_convertvector(address - from, U32), bytes);
    } else {
      uint64_t list[32];
      std::memcpy(list, &address, sizeof list);
      c->siteBytes[op->site] += touched(list, bytes);
    }
    return {nullptr, Lanes::scattered};
  }
  alignas(128) uint64_t list[32];
  std::memcpy(list, &address, sizeof list);
  return {nullptr, slowAddresses(w, op, list, bytes, write) ? Lanes::scattered : Lanes::faulted};
}

// Loads. How a narrow value lands in its register: extended over all of it, or in one half.
enum class Part { whole, low, high };

template <class T> struct Narrow;
template <> struct Narrow<uint8_t> {
  typedef uint8_t V __attribute__((vector_size(32)));
};
template <> struct Narrow<int8_t> {
  typedef int8_t V __attribute__((vector_size(32)));
};
template <> struct Narrow<uint16_t> {
  typedef uint16_t V __attribute__((vector_size(64)));
};
template <> struct Narrow<int16_t> {
  typedef int16_t V __attribute__((vector_size(64)));
};
template <> struct Narrow<uint32_t> {
  using V = U32;
};

template <class T> INGOT_INLINE T loadOne(const uint8_t *p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T, Part part> void loadNarrow(Wave *w, const Op *op) {
  Where where = resolve<sizeof(T), false>(w, op, op->imm);
  if (where.lanes == Lanes::faulted) [[unlikely]]
    return;
  if (where.lanes != Lanes::none) {
    typename Narrow<T>::V raw;
    if (where.lanes == Lanes::consecutive) {
      std::memcpy(&raw, where.base, sizeof raw);
    } else {
      T values[32];
      for (int i = 0; i < 32; ++i)
        values[i] = loadOne<T>(w->context->lane[i]);
      std::memcpy(&raw, values, sizeof raw);
    }
    U32 v = (U32) __builtin_convertvector(raw, I32);
    U32 old = get(w, op->d);
    if constexpr (part == Part::low)
      v = (old & 0xffff0000u) | (v & 0xffffu);
    if constexpr (part == Part::high)
      v = (old & 0xffffu) | v << 16;
    put(w, op->d, v);
  }
  INGOT_NEXT;
}

// Four dwords of each of 32 lanes into four registers.
template <class P> INGOT_INLINE void gather4(U32 (&r)[4], P pointer) {
#ifdef __AVX512F__
  struct Halves {
    __m512i v[2];
  } out[4];
  for (int half = 0; half < 2; ++half) {
    __m512i t[4];
    for (int i = 0; i < 4; ++i) {
      int lane = 16 * half + i;
      auto x = [&](int l) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(pointer(l))); };
      __m512i v = _mm512_castsi128_si512(x(lane));
      v = _mm512_inserti32x4(v, x(lane + 4), 1);
      v = _mm512_inserti32x4(v, x(lane + 8), 2);
      t[i] = _mm512_inserti32x4(v, x(lane + 12), 3);
    }
    __m512i a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
    __m512i c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);
    out[0].v[half] = _mm512_unpacklo_epi64(a, c);
    out[1].v[half] = _mm512_unpackhi_epi64(a, c);
    out[2].v[half] = _mm512_unpacklo_epi64(b, d);
    out[3].v[half] = _mm512_unpackhi_epi64(b, d);
  }
#else
  struct Quarters {
    __m256i v[4];
  } out[4];
  for (int q = 0; q < 4; ++q) {
    __m256i t[4];
    for (int i = 0; i < 4; ++i) {
      int lane = 8 * q + i;
      auto x = [&](int l) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(pointer(l))); };
      t[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(x(lane)), x(lane + 4), 1);
    }
    __m256i a = _mm256_unpacklo_epi32(t[0], t[1]), b = _mm256_unpackhi_epi32(t[0], t[1]);
    __m256i c = _mm256_unpacklo_epi32(t[2], t[3]), d = _mm256_unpackhi_epi32(t[2], t[3]);
    out[0].v[q] = _mm256_unpacklo_epi64(a, c);
    out[1].v[q] = _mm256_unpackhi_epi64(a, c);
    out[2].v[q] = _mm256_unpacklo_epi64(b, d);
    out[3].v[q] = _mm256_unpackhi_epi64(b, d);
  }
#endif
  for (int i = 0; i < 4; ++i)
    r[i] = as<U32>(out[i]);
}

template <int words> INGOT_INLINE bool loadWords(Wave *w, const Op *op, uint32_t imm, int32_t d) {
  Where where = resolve<4 * words, false>(w, op, imm);
  if (where.lanes == Lanes::faulted) [[unlikely]]
    return false;
  if (where.lanes == Lanes::none)
    return true;
  U32 r[4];
  if constexpr (words == 4) {
    if (where.lanes == Lanes::consecutive)
      gather4(r, [&](int lane) { return where.base + 16 * lane; });
    else
      gather4(r, [&](int lane) { return w->context->lane[lane]; });
  } else if (words == 1 && where.lanes == Lanes::consecutive) {
    std::memcpy(&r[0], where.base, sizeof r[0]);
  } else if (words == 2 && where.lanes == Lanes::consecutive) {
    U64 pairs;
    std::memcpy(&pairs, where.base, sizeof pairs);
    r[0] = __builtin_convertvector(pairs, U32);
    r[1] = __builtin_convertvector(pairs >> 32, U32);
  } else {
    alignas(128) uint32_t t[words][32];
    for (int i = 0; i < 32; ++i) {
      const uint8_t *p = where.lanes == Lanes::consecutive ? where.base + 4 * words * i : w->context->lane[i];
      for (int k = 0; k < words; ++k)
        std::memcpy(&t[k][i], p + 4 * k, 4);
    }
    for (int k = 0; k < words; ++k)
      std::memcpy(&r[k], t[k], sizeof r[k]);
  }
  for (int k = 0; k < words; ++k)
    put(w, d + 128 * k, r[k]);
  return true;
}
template <int words> void load(Wave *w, const Op *op) {
  if (!loadWords<words>(w, op, op->imm, op->d)) [[unlikely]]
    return;
  INGOT_NEXT;
}
// Two accesses from one address; the first's result must not disturb the address of the second.
template <int words> void loadTwo(Wave *w, const Op *op) {
  alignas(128) char saved[128];
  bool clash = op->s[0] >= op->d && op->s[0] < op->d + 128 * words;
  if (clash)
    std::memcpy(saved, at(w, op->s[0]), 128);
  if (!loadWords<words>(w, op, op->imm, op->d)) [[unlikely]]
    return;
  if (clash) {
    alignas(128) char result[128];
    std::memcpy(result, at(w, op->s[0]), 128);
    std::memcpy(at(w, op->s[0]), saved, 128);
    // The address may also lie in the second pair's registers: that load reads it before it writes.
    if (!loadWords<words>(w, op, op->imm2, op->d + 128 * words)) [[unlikely]]
      return;
    std::memcpy(at(w, op->s[0]), result, 128);
  } else if (!loadWords<words>(w, op, op->imm2, op->d + 128 * words)) [[unlikely]] {
    return;
  }
  INGOT_NEXT;
}

// Stores; the data of `source` (and the next registers).
template <class T, bool high> void storeNarrow(Wave *w, const Op *op) {
  Where where = resolve<sizeof(T), true>(w, op, op->imm);
  if (where.lanes == Lanes::faulted) [[unlikely]]
    return;
  if (where.lanes != Lanes::none) {
    U32 v = get(w, op->s[2]);
    if constexpr (high)
      v >>= 16;
    typename Narrow<T>::V narrow = __builtin_convertvector(v, typename Narrow<T>::V);
    if (where.lanes == Lanes::consecutive) {
      std::memcpy(where.base, &narrow, sizeof narrow);
    } else {
      T values[32];
      std::memcpy(values, &narrow, sizeof values);
      for (uint32_t left = w->exec(); left; left &= left - 1) {
        int i = __builtin_ctz(left);
        std::memcpy(w->context->lane[i], &values[i], sizeof(T));
      }
    }
  }
  INGOT_NEXT;
}
template <int words> INGOT_INLINE bool storeWords(Wave *w, const Op *op, uint32_t imm, int32_t source) {
  Where where = resolve<4 * words, true>(w, op, imm);
  if (where.lanes == Lanes::faulted) [[unlikely]]
    return false;
  if (where.lanes == Lanes::none)
    return true;
  if (words == 1 && where.lanes == Lanes::consecutive) {
    U32 v = get(w, source);
    std::memcpy(where.base, &v, sizeof v);
    return true;
  }
  alignas(128) uint32_t t[words][32];
  for (int k = 0; k < words; ++k) {
    U32 v = get(w, nextWord(source, k));
    std::memcpy(t[k], &v, sizeof v);
  }
  for (uint32_t left = w->exec(); left; left &= left - 1) {
    int i = __builtin_ctz(left);
    uint8_t *p = where.lanes == Lanes::consecutive ? where.base + 4 * words * i : w->context->lane[i];
    uint32_t v[words];
    for (int k = 0; k < words; ++k)
      v[k] = t[k][i];
    std::memcpy(p, v, sizeof v);
  }
  return true;
}
template <int words> void store(Wave *w, const Op *op) {
  if (!storeWords<words>(w, op, op->imm, op->s[2])) [[unlikely]]
    return;
  INGOT_NEXT;
}
template <int words> void storeTwo(Wave *w, const Op *op) {
  if (!storeWords<words>(w, op, op->imm, op->s[2]) || !storeWords<words>(w, op, op->imm2, op->s[3])) [[unlikely]]
    return;
  INGOT_NEXT;
}

// Atomics, lane after lane, with the host's atomics: workgroups run on several threads.
enum class Atomic : uint32_t {
  add,
  sub,
  rsub,
  swap,
  compareSwap,
  andBits,
  orBits,
  xorBits,
  minSigned,
  maxSigned,
  minUnsigned,
  maxUnsigned,
  inc,
  dec,
  subClamp,
  condSub,
  maskOr,
  addFloat,
  minFloat,
  maxFloat,
  addHalves,
  addBfHalves
};
float halfToFloat(uint32_t h) { return _cvtsh_ss(uint16_t(h)); }
uint32_t addHalf(uint32_t a, uint32_t b) { return _cvtss_sh(halfToFloat(a) + halfToFloat(b), 4) & 0xffffu; }
uint32_t addBf(uint32_t a, uint32_t b) {
  float s = __builtin_bit_cast(float, a << 16) + __builtin_bit_cast(float, b << 16);
  uint32_t u = __builtin_bit_cast(uint32_t, s);
  return s != s ? (u >> 16 | 0x40u) : (u + 0x7fffu + (u >> 16 & 1)) >> 16;
}
template <class T> T combine(Atomic kind, T old, T data, T other) {
  using S = std::make_signed_t<T>;
  using F = std::conditional_t<sizeof(T) == 4, float, double>;
  auto real = [](T v) { return __builtin_bit_cast(F, v); };
  auto bits = [](F v) { return __builtin_bit_cast(T, v); };
  switch (kind) {
  case Atomic::add:
    return old + data;
  case Atomic::sub:
    return old - data;
  case Atomic::rsub:
    return data - old;
  case Atomic::swap:
    return data;
  case Atomic::compareSwap:
    return old == other ? data : old;
  case Atomic::andBits:
    return old & data;
  case Atomic::orBits:
    return old | data;
  case Atomic::xorBits:
    return old ^ data;
  case Atomic::minSigned:
    return S(data) < S(old) ? data : old;
  case Atomic::maxSigned:
    return S(data) > S(old) ? data : old;
  case Atomic::minUnsigned:
    return std::min(old, data);
  case Atomic::maxUnsigned:
    return std::max(old, data);
  case Atomic::inc:
    return old >= data ? 0 : old + 1;
  case Atomic::dec:
    return old == 0 || old > data ? data : old - 1;
  case Atomic::subClamp:
    return old < data ? 0 : old - data;
  case Atomic::condSub:
    return old >= data ? old - data : old;
  case Atomic::maskOr:
    return (old & ~data) | other;
  case Atomic::addFloat:
    return bits(real(old) + real(data));
  case Atomic::minFloat:
    return std::isnan(real(old)) || real(data) < real(old) ? data : old;
  case Atomic::maxFloat:
    return std::isnan(real(old)) || real(data) > real(old) ? data : old;
  case Atomic::addHalves:
    return addHalf(old & 0xffff, data & 0xffff) | addHalf(uint32_t(old) >> 16, uint32_t(data) >> 16) << 16;
  case Atomic::addBfHalves:
    return addBf(old & 0xffff, data & 0xffff) | addBf(uint32_t(old) >> 16 & 0xffff, uint32_t(data) >> 16) << 16;
  }
  return old;
}
// s[2]: data, s[3]: the second operand where there is one; d: where the old value goes, when imm2 is set.
template <class T> void atomic(Wave *w, const Op *op) {
  Where where = resolve<sizeof(T), true, sizeof(T)>(w, op, op->imm);
  if (where.lanes == Lanes::faulted) [[unlikely]]
    return;
  constexpr int words = sizeof(T) / 4;
  alignas(128) uint32_t data[2][32], other[2][32], old[2][32];
  for (int k = 0; k < words; ++k) {
    U32 v = get(w, nextWord(op->s[2], k)), o = get(w, nextWord(op->s[3], k)),
        d = op->imm2 ? get(w, op->d + 128 * k) : v;
    std::memcpy(data[k], &v, sizeof v);
    std::memcpy(other[k], &o, sizeof o);
    std::memcpy(old[k], &d, sizeof d);
  }
  auto join = [](uint32_t (&t)[2][32], int i) {
    return words == 2 ? T(uint64_t(t[1][i]) << 32 | t[0][i]) : T(t[0][i]);
  };
  if (where.lanes != Lanes::none)
    for (uint32_t left = w->exec(); left; left &= left - 1) {
      int i = __builtin_ctz(left);
      uint8_t *p = where.lanes == Lanes::consecutive ? where.base + sizeof(T) * i : w->context->lane[i];
      T *cell = reinterpret_cast<T *>(p);
      T before = __atomic_load_n(cell, __ATOMIC_RELAXED);
      T value = join(data, i), second = join(other, i);
      while (!__atomic_compare_exchange_n(cell, &before, combine<T>(Atomic(op->detail), before, value, second), false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
      }
      old[0][i] = uint32_t(before);
      if (words == 2)
        old[1][i] = uint32_t(uint64_t(before) >> 32);
    }
  if (op->imm2)
    for (int k = 0; k < words; ++k) {
      U32 v;
      std::memcpy(&v, old[k], sizeof v);
      put(w, op->d + 128 * k, v);
    }
  INGOT_NEXT;
}

// Cross-lane moves through the LDS crossbar. An inactive source gives 0.
void backwardPermute(Wave *w, const Op *op) {
  U32 address = get(w, op->s[0]), v = get(w, op->s[2]), r;
  uint32_t exec = w->exec();
  for (int i = 0; i < 32; ++i) {
    uint32_t from = (address[i] + op->imm) / 4 & 31;
    r[i] = exec >> from & 1 ? uint32_t(v[from]) : 0u;
  }
  put(w, op->d, r);
  INGOT_NEXT;
}
void forwardPermute(Wave *w, const Op *op) {
  U32 address = get(w, op->s[0]), v = get(w, op->s[2]), r{};
  uint32_t exec = w->exec();
  for (int i = 0; i < 32; ++i)
    if (exec >> i & 1)
      r[(address[i] + op->imm) / 4 & 31] = uint32_t(v[i]);
  put(w, op->d, r);
  INGOT_NEXT;
}
void swizzle(Wave *w, const Op *op) {
  U32 v = get(w, op->s[0]), r;
  uint32_t exec = w->exec(), rule = op->imm;
  for (uint32_t i = 0; i < 32; ++i) {
    uint32_t from = rule & 0x8000 ? (i & ~3u) | (rule >> (2 * (i & 3)) & 3)
                                  : ((i & rule & 31) | (rule >> 5 & 31)) ^ (rule >> 10 & 31);
    r[i] = exec >> from & 1 ? uint32_t(v[from]) : 0u;
  }
  put(w, op->d, r);
  INGOT_NEXT;
}

Entry access(const char *names, Handler run, Form form, uint8_t words) {
  return {names, run, form, Class::global, Type::b32, {}, 0, words, 0};
}
template <class T> Entry atomicEntry(const char *names, Atomic kind) {
  return {names, atomic<T>, Form::vmemAtomic, Class::global, sizeof(T) == 8 ? Type::b64 : Type::b32,
          {},    0,         sizeof(T) / 4,    uint32_t(kind)};
}

} // namespace

// Names without their space prefix (global_, flat_, scratch_, ds_), which the decoder takes off. What ds_ calls
// otherwise is listed beside.
std::span<const Entry> memoryEntries() {
  using w32 = uint32_t;
  using w64 = uint64_t;
  static const Entry rows[] = {
      access("load_u8", loadNarrow<uint8_t, Part::whole>, Form::vmemLoad, 1),
      access("load_i8", loadNarrow<int8_t, Part::whole>, Form::vmemLoad, 1),
      access("load_u16", loadNarrow<uint16_t, Part::whole>, Form::vmemLoad, 1),
      access("load_i16", loadNarrow<int16_t, Part::whole>, Form::vmemLoad, 1),
      access("load_d16_u8|load_u8_d16", loadNarrow<uint8_t, Part::low>, Form::vmemLoad, 1),
      access("load_d16_i8|load_i8_d16", loadNarrow<int8_t, Part::low>, Form::vmemLoad, 1),
      access("load_d16_b16|load_u16_d16", loadNarrow<uint16_t, Part::low>, Form::vmemLoad, 1),
      access("load_d16_hi_u8|load_u8_d16_hi", loadNarrow<uint8_t, Part::high>, Form::vmemLoad, 1),
      access("load_d16_hi_i8|load_i8_d16_hi", loadNarrow<int8_t, Part::high>, Form::vmemLoad, 1),
      access("load_d16_hi_b16|load_u16_d16_hi", loadNarrow<uint16_t, Part::high>, Form::vmemLoad, 1),
      access("load_b32", load<1>, Form::vmemLoad, 1),
      access("load_b64", load<2>, Form::vmemLoad, 2),
      access("load_b96", load<3>, Form::vmemLoad, 3),
      access("load_b128", load<4>, Form::vmemLoad, 4),
      access("load_2addr_b32", loadTwo<1>, Form::dsLoad, 2),
      access("load_2addr_b64", loadTwo<2>, Form::dsLoad, 4),
      access("store_b8", storeNarrow<uint8_t, false>, Form::vmemStore, 1),
      access("store_b16", storeNarrow<uint16_t, false>, Form::vmemStore, 1),
      access("store_d16_hi_b8|store_b8_d16_hi", storeNarrow<uint8_t, true>, Form::vmemStore, 1),
      access("store_d16_hi_b16|store_b16_d16_hi", storeNarrow<uint16_t, true>, Form::vmemStore, 1),
      access("store_b32", store<1>, Form::vmemStore, 1),
      access("store_b64", store<2>, Form::vmemStore, 2),
      access("store_b96", store<3>, Form::vmemStore, 3),
      access("store_b128", store<4>, Form::vmemStore, 4),
      access("store_2addr_b32", storeTwo<1>, Form::dsStore, 1),
      access("store_2addr_b64", storeTwo<2>, Form::dsStore, 2),

      atomicEntry<w32>("add_u32", Atomic::add),
      atomicEntry<w64>("add_u64", Atomic::add),
      atomicEntry<w32>("sub_u32", Atomic::sub),
      atomicEntry<w64>("sub_u64", Atomic::sub),
      atomicEntry<w32>("rsub_u32", Atomic::rsub),
      atomicEntry<w64>("rsub_u64", Atomic::rsub),
      atomicEntry<w32>("swap_b32|storexchg_b32", Atomic::swap),
      atomicEntry<w64>("swap_b64|storexchg_b64", Atomic::swap),
      atomicEntry<w32>("cmpswap_b32|cmpstore_b32", Atomic::compareSwap),
      atomicEntry<w64>("cmpswap_b64|cmpstore_b64", Atomic::compareSwap),
      atomicEntry<w32>("and_b32", Atomic::andBits),
      atomicEntry<w64>("and_b64", Atomic::andBits),
      atomicEntry<w32>("or_b32", Atomic::orBits),
      atomicEntry<w64>("or_b64", Atomic::orBits),
      atomicEntry<w32>("xor_b32", Atomic::xorBits),
      atomicEntry<w64>("xor_b64", Atomic::xorBits),
      atomicEntry<w32>("min_i32", Atomic::minSigned),
      atomicEntry<w64>("min_i64", Atomic::minSigned),
      atomicEntry<w32>("max_i32", Atomic::maxSigned),
      atomicEntry<w64>("max_i64", Atomic::maxSigned),
      atomicEntry<w32>("min_u32", Atomic::minUnsigned),
      atomicEntry<w64>("min_u64", Atomic::minUnsigned),
      atomicEntry<w32>("max_u32", Atomic::maxUnsigned),
      atomicEntry<w64>("max_u64", Atomic::maxUnsigned),
      atomicEntry<w32>("inc_u32", Atomic::inc),
      atomicEntry<w64>("inc_u64", Atomic::inc),
      atomicEntry<w32>("dec_u32", Atomic::dec),
      atomicEntry<w64>("dec_u64", Atomic::dec),
      atomicEntry<w32>("csub_u32|sub_clamp_u32", Atomic::subClamp),
      atomicEntry<w32>("cond_sub_u32", Atomic::condSub),
      atomicEntry<w32>("mskor_b32", Atomic::maskOr),
      atomicEntry<w32>("add_f32", Atomic::addFloat),
      atomicEntry<w64>("add_f64", Atomic::addFloat),
      atomicEntry<w32>("min_f32|min_num_f32", Atomic::minFloat),
      atomicEntry<w32>("max_f32|max_num_f32", Atomic::maxFloat),
      atomicEntry<w32>("pk_add_f16", Atomic::addHalves),
      atomicEntry<w32>("pk_add_bf16", Atomic::addBfHalves),

      {"bpermute_b32", backwardPermute, Form::dsPermute, Class::crossLane, Type::b32, {}, 0, 1, 0},
      {"permute_b32", forwardPermute, Form::dsPermute, Class::crossLane, Type::b32, {}, 0, 1, 0},
      {"swizzle_b32", swizzle, Form::dsSwizzle, Class::crossLane, Type::b32, {}, 0, 1, 0},
  };
  return rows;
}

} // namespace ingot::emu::INGOT_EXEC_ISA
