// What the decoder hands to the executor: a wave's state, the pre-decoded operation, and the table of handlers by
// mnemonic. Everything an operation touches lies at a byte offset from its wave: vector registers, the scalar file in
// the ISA's own numbering (so VCC, EXEC, M0, NULL and apertures need no special case) and, behind it, the kernel's
// constants.
#pragma once

#include "runtime/emulator/machine.h"

#include <string>

namespace ingot::emu {

struct Wave;
struct Op;
using Handler = void (*)(Wave *, const Op *);

// Indices into the scalar file.
namespace sreg {
constexpr uint32_t vcc = 106, ttmp = 108, null = 124, m0 = 125, exec = 126, sharedBase = 235, privateBase = 237,
                   scc = 253, count = 256;
}
// High words of flat addresses that mean LDS or scratch: no host pointer has them.
constexpr uint32_t sharedAperture = 0xffff0001u, privateAperture = 0xffff0002u;

// How bytes of an operand are understood; the decoder converts constants and applies modifiers by it.
enum class Type : uint8_t { none, b32, f32, b16, f16, bf16, b64, f64, mask, packed, packedF16, packedBf16, raw };
inline bool is16(Type t) { return t == Type::b16 || t == Type::f16 || t == Type::bf16; }
inline bool is64(Type t) { return t == Type::b64 || t == Type::f64; }

// Which counter an instruction adds to.
enum class Class : uint8_t { scalar, vector, dot, wmma, crossLane, lds, global, scratch, branch, wait, barrier, count };

// How the decoder reads the operands of an instruction.
enum class Form : uint8_t {
  valu,       // D, sources with modifiers, trailing clamp / omod / DPP words
  compare,    // D a lane mask, or VCC, or EXEC
  carry,      // D, lane-mask result, sources, carry-in
  mix,        // v_fma_mix*: sources are f32 or either half
  dotInteger, // neg_lo says signed
  permlane16,
  lane, // v_readlane, v_writelane, v_readfirstlane
  wmma,
  salu,
  saluNoResult, // s_cmp, s_bitcmp, ...
  sopk,         // D is also a source
  branch,
  control, // immediate only
  hwreg,
  smem,
  vmemLoad,
  vmemStore,
  vmemAtomic,
  dsLoad,
  dsStore,
  dsAtomic,
  dsPermute,
  dsSwizzle,
  none, // costs nothing: dropped at decode
};

// One mnemonic. `detail` tells apart operations that share a handler.
struct Entry {
  const char *names; // alternatives separated by '|'
  Handler run;
  Form form;
  Class cls;
  Type result;
  std::array<Type, 4> sources;
  uint8_t sourceCount;
  uint8_t words; // of a memory access or a scalar result
  uint32_t detail;
};

// 64 bytes: one cache line an operation.
struct alignas(64) Op {
  Handler run;
  const Op *target; // of a branch
  int32_t d, d2;    // byte offsets from the wave
  int32_t s[4];     // byte offsets; bit 0 set: a scalar to broadcast
  uint32_t imm, imm2;
  uint32_t site;   // index of this access's range cache
  uint32_t detail; // Entry::detail
  uint8_t mods[3];
  uint8_t space; // Space of a memory access
};
static_assert(sizeof(Op) == 64);

enum class Space : uint8_t { globalScalarBase, global, flat, scratch, lds };

// What an access site used last: its range of memory, and the offsets of its lanes with what they cost.
struct Site {
  uint64_t begin = 1, end = 0;
  uint32_t buffer = Memory::arguments;
  bool readOnly = false;
  bool writes = false;
  bool patternKnown = false;
  // LDS: EXEC and the extra cycles by bank conflicts. Else: the largest offset and the distinct bytes that lanes touch.
  uint32_t patternExec = 0, patternCost = 0;
  uint32_t pattern[32] = {};
};

enum class Stop : uint32_t { running, ended, barrier, faulted };

// Addresses of the emulated program are the host's own.
inline uint8_t *hostPointer(uint64_t address) {
  return reinterpret_cast<uint8_t *>(address); // NOLINT(performance-no-int-to-ptr)
}

// What the waves of the workgroup that a thread executes share.
struct Context {
  const Memory *memory;
  const struct ProgramCode *code;
  const Launch *launch;
  struct Job *job;
  Site *sites;
  uint64_t *siteBytes; // a tally for each site, of the buffer it used last
  uint64_t *blockCounts;
  uint8_t *lds;
  uint32_t ldsBytes;
  uint8_t *scratch; // of all waves of the workgroup
  uint32_t scratchBytes;
  int64_t budget;
  uint64_t conflictCycles;
  Counters *counters;
  std::array<uint32_t, 3> group;
  const std::vector<Memory::Range> *readOnly; // this launch's read-only arguments
  bool faulted;
  Fault fault;
  // The addresses of the access being executed.
  alignas(128) uint8_t *lane[32];
  // Undefined-value tracking, only in poison mode: a bit a lane for each register, a bit for each scalar, a byte for
  // each byte of LDS.
  std::vector<uint8_t> ldsDefined;
};

struct alignas(128) Wave {
  Context *context;
  const Op *next; // where to go on
  Stop stop;
  uint32_t index; // in the workgroup
  uint8_t *scratch;
  uint32_t savedExec;
  uint32_t barrierSignalled;
  uint32_t mode;      // the MODE register
  uint32_t mxcsr;     // host form of mode, for 32-bit float operations
  uint32_t mxcsrWide; // ... for 64-bit
  uint32_t *defined;  // poison mode: the written lanes of each vector register, then whether each scalar is
  alignas(128) uint32_t s[sreg::count];
  // The kernel's constants follow, then its vector registers (128-byte aligned).

  uint32_t &word(int32_t offset) { return *reinterpret_cast<uint32_t *>(reinterpret_cast<char *>(this) + offset); }
  uint64_t wide(int32_t offset) { return word(offset) | uint64_t(word(offset + 4)) << 32; }
  void setWide(int32_t offset, uint64_t v) { word(offset) = uint32_t(v), word(offset + 4) = uint32_t(v >> 32); }
  uint32_t exec() const { return s[sreg::exec]; }
};

// Host control word for MODE's round and denormal fields: two bits each at `round` and `denorm`.
uint32_t hostControl(uint32_t mode, bool wide);

// Records a fault and stops the wave; the caller returns at once. `lane` < 0: not about one lane.
void fault(Wave *w, const Op *op, int code, int lane, const std::string &what);
void faultAddress(Wave *w, const Op *op, int lane, uint64_t address, uint32_t bytes, bool write);
// Finds a range for [low, high) and remembers it at the site; false when no single range has it all. Bytes that the
// site then counts belong to this range's buffer.
bool findRange(Wave *w, Site &site, uint64_t low, uint64_t high, bool write);

// Where the micro-operations that modifiers, DPP and clamps expand to are found.
struct Micro {
  Handler modF32, modF16, modF64, modPacked, modMix, dpp, dpp8, restoreExec, clampF32, clampF16, clampF64, copy,
      copyHalf, narrow;
};

// The executor for one host instruction set.
struct Executor {
  const char *name;
  std::vector<std::span<const Entry>> tables;
  Micro micro;
  void (*run)(Wave *); // until the wave stops
};
const Executor *chooseExecutor(); // null when the host has not even AVX2

std::span<const Entry> scalarEntries();
// Pseudo-operations of the decoder.
void countBlock(Wave *w, const Op *op);
void leaveCode(Wave *w, const Op *op);
void checkUse(Wave *w, const Op *op);

#define INGOT_EXEC_TABLES(isa)                                                                                         \
  namespace isa {                                                                                                      \
  std::span<const Entry> floatEntries();                                                                               \
  std::span<const Entry> integerEntries();                                                                             \
  std::span<const Entry> packedEntries();                                                                              \
  std::span<const Entry> compareEntries();                                                                             \
  std::span<const Entry> laneEntries();                                                                                \
  std::span<const Entry> memoryEntries();                                                                              \
  std::span<const Entry> wmmaEntries();                                                                                \
  Micro microOperations();                                                                                             \
  void runWave(Wave *w);                                                                                               \
  }
INGOT_EXEC_TABLES(avx2)
INGOT_EXEC_TABLES(avx512)
#undef INGOT_EXEC_TABLES

} // namespace ingot::emu
