// The border inside the emulator: above it the HIP API, the loader and memory management; below it the machine that
// decodes and executes waves. Both sides include this header and nothing else of each other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ingot::emu {

// One row a chip. What differs between chips is here, so that no other file compares a name.
struct ChipInfo {
  std::string_view name;        // "gfx1151"
  std::string_view productName; // what hipDeviceGetName answers
  int generation;               // 11 or 12: which encodings, barrier and WMMA layouts
  bool integrated;              // shares the host's memory
  int computeUnits;
  uint32_t ldsBytes;            // a workgroup may use
  uint64_t memoryBytes;         // reported, not enforced by the host
  uint8_t elfMachine;           // low byte of e_flags in a code object for exactly this chip
  uint8_t elfGenericMachine;    // the same for its family's generic code object
  std::string_view genericName; // "gfx11-generic": bundle entry that this chip runs too
  uint32_t l2Bytes;
  uint32_t clockKHz, memoryClockKHz, memoryBusBits;
};
const ChipInfo *findChip(std::string_view name);
std::span<const ChipInfo> allChips();

// Why a launch, or loading a code object, failed. `code` is a hipError_t; `report` is several lines for a person,
// naming kernel, instruction (text and pc), workgroup, wave, lane and address as far as they apply.
struct Fault {
  int code;
  std::string report;
};

// Every range of host memory that kernels may touch. Addresses are host addresses. Lookups must be cheap: the machine
// asks once per cache line it has not seen, not once per access.
class Memory {
public:
  struct Range {
    uint64_t begin, end;
    bool readOnly;
    uint32_t buffer = arguments; // under which its bytes are counted
  };
  // The buffer of launch arguments, also of those that lie in no range.
  static constexpr uint32_t arguments = 0;
  static constexpr std::string_view argumentsName = "arguments", codeName = "code";

  // Ranges of one name are one buffer to the counters; a range without a name is a buffer of its own.
  void add(uint64_t begin, uint64_t bytes, bool readOnly, std::string_view name = {});
  void remove(uint64_t begin);
  // Names the range that begins there, for accesses from now on; false if there is none.
  bool rename(uint64_t begin, std::string_view name);
  // Also of a buffer that is gone. Thread-safe.
  std::string bufferName(uint32_t buffer) const;
  // The range that contains `address`, if any. Thread-safe.
  std::optional<Range> find(uint64_t address) const;
  // The range closest to an address that is in none, for reports. Thread-safe.
  std::optional<Range> nearest(uint64_t address) const;
  // Grows by one with every add, remove and rename: a cached Range is valid while this stands still.
  uint64_t version() const;

private:
  uint32_t bufferOf(std::string_view name);
  mutable std::shared_mutex mutex;
  std::map<uint64_t, Range> ranges;
  std::map<uint32_t, std::string> names{{arguments, std::string(argumentsName)}};
  std::map<std::string, uint32_t, std::less<>> named{{std::string(argumentsName), arguments}};
  uint32_t nextBuffer = arguments + 1;
  uint64_t edits = 0;
};

struct KernelArgument {
  uint32_t offset, size;
  std::string kind; // "by_value", "global_buffer", "hidden_block_count_x", ...
  bool readOnly;    // metadata's .actual_access == read_only
};

struct KernelInfo {
  std::string name;
  uint64_t entry;     // host address of the first instruction in the loaded image
  uint64_t codeBytes; // of the function symbol
  std::array<uint8_t, 64> descriptor;
  uint32_t kernargBytes, ldsBytes, scratchBytes, maxWorkgroupSize, vgprs, sgprs;
  std::vector<KernelArgument> arguments;
  std::string imageTarget;
};

struct BufferBytes {
  uint32_t buffer; // of Memory
  uint64_t read = 0, written = 0;
};

// Instructions executed and bytes moved, summed over launches. Wave-instructions: one count a wave, whatever EXEC is.
// Bytes: of each wave-instruction the distinct bytes that its active lanes touch, before any cache, so that a byte
// which all 32 lanes read counts once. An atomic counts as written.
struct Counters {
  uint64_t launches = 0, waves = 0;
  uint64_t scalar = 0, vector = 0, dot = 0, wmma = 0, crossLane = 0, lds = 0, global = 0, scratch = 0, branch = 0,
           wait = 0, barrier = 0;
  uint64_t bytesRead = 0, bytesWritten = 0; // global memory, scalar loads included
  std::vector<BufferBytes> buffers;         // the same by buffer, in ascending order
  uint64_t ldsConflictCycles = 0;           // extra cycles by the 32-bank model, modelled
  uint64_t instructions() const {
    return scalar + vector + dot + wmma + crossLane + lds + global + scratch + branch + wait + barrier;
  }
  void addBytes(const BufferBytes &bytes); // to the buffer and to the sums
  Counters &operator+=(const Counters &other);
};

struct Options {
  unsigned threads = 0;            // 0: all cores
  uint64_t budget = 4'000'000'000; // wave-instructions a workgroup before it is "a kernel that never ends"
  bool poison = false; // an address, stored or matrix value that nothing wrote is a fault; LDS starts as 0xfb bytes
  bool deterministic = false; // one thread, workgroups in order
};

// A kernel decoded for one chip. Decoding fails with the list of all instructions that the machine does not know.
class Program;
struct Launch {
  const Program *program;
  std::array<uint32_t, 3> grid;  // workgroups
  std::array<uint32_t, 3> block; // lanes
  uint32_t dynamicLds;
  std::span<const uint8_t> kernarg; // complete, hidden arguments filled in; registered in Memory by the caller
};

class Machine {
public:
  Machine(const ChipInfo &chip, const Memory &memory, const Options &options);
  ~Machine();
  // The image must stay mapped while the Program lives.
  std::shared_ptr<const Program> decode(const KernelInfo &kernel, Fault &fault);
  // Runs to the end or to the first fault. Adds to `counters`.
  std::optional<Fault> run(const Launch &launch, Counters &counters);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace ingot::emu
