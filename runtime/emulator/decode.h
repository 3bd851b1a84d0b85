// A kernel decoded for the executor: operations in program order, the constants they share, and what is needed to
// report about each (pc, text) and to count by basic block.
#pragma once

#include "runtime/emulator/exec.h"

namespace ingot::emu {

struct Instruction {
  uint32_t pc, bytes; // from the kernel's first instruction
  std::string text;
};

struct Block {
  std::array<uint32_t, size_t(Class::count)> counts{};
  uint32_t instructions = 0;
};

// In poison mode: what an instruction reads and writes. Registers 0-255 are vectors, 256 and up the scalar file.
// Compiled code does compute with undefined lanes whose results it drops, so arithmetic hands "undefined" on to its
// result and only a `final` use (an address, data to store, a matrix) is a fault.
struct Use {
  struct Registers {
    uint32_t first, count;
  };
  std::vector<Registers> reads, writes;
  bool final = false;
};

struct ProgramCode {
  uint64_t id = 0; // never used twice
  KernelInfo kernel;
  std::vector<Op> ops;
  std::vector<uint32_t> instructionOf; // by operation
  std::vector<Instruction> instructions;
  std::vector<Block> blocks;
  std::vector<int32_t> opAtDword; // by pc / 4; -1 inside an instruction
  std::vector<uint32_t> constants;
  uint32_t vectorRegisters = 0; // including temporaries
  uint32_t vectorBase = 0;      // byte offset of v0 from the wave
  uint32_t waveBytes = 0;
  uint32_t sites = 0;
  std::vector<Use> uses; // by checkUse's imm

  uint16_t properties = 0;
  uint32_t userScalars = 0;
  std::array<bool, 3> groupIdScalars{};
  uint32_t localIdComponents = 0;
  uint32_t mode = 0;

  const Instruction &instruction(const Op *op) const { return instructions[instructionOf[size_t(op - ops.data())]]; }
};

class Program {
public:
  ProgramCode code;
};

// Decodes `kernel` for `chip`, or says in `fault` why not. `poison`: with a check before each instruction that what it
// reads was written.
std::shared_ptr<Program> decodeKernel(const ChipInfo &chip, const Executor &executor, const KernelInfo &kernel,
                                      bool poison, Fault &fault);

} // namespace ingot::emu
