// From bytes to a code object in memory: picks the entry of a bundle for the chip, checks and maps the ELF file,
// applies its relocations and reads the kernels' descriptors and metadata. The bytes are untrusted: anything wrong is a
// Fault.
#pragma once

#include "runtime/emulator/machine.h"

namespace ingot::emu {

struct GlobalVariable {
  uint64_t address, bytes;
};

class CodeObject {
public:
  // Loads an ELF code object or an uncompressed offload bundle that holds one for `chip`. On failure returns null and
  // fills `fault`: 200 for bytes that are not a valid image, 209 for an image of other chips. The loaded segments are
  // registered in `memory` with their protection until the CodeObject dies.
  static std::unique_ptr<CodeObject> load(std::span<const uint8_t> image, const ChipInfo &chip, Memory &memory,
                                          Fault &fault);
  ~CodeObject();
  CodeObject(const CodeObject &) = delete;
  CodeObject &operator=(const CodeObject &) = delete;

  const std::vector<KernelInfo> &kernels() const { return kernelList; }
  const std::map<std::string, GlobalVariable, std::less<>> &globals() const { return globalMap; }

private:
  explicit CodeObject(Memory &memory) : memory(memory) {}
  friend class Loader;

  Memory &memory;
  uint8_t *base = nullptr;
  uint64_t mappedBytes = 0;
  std::vector<uint64_t> registered;
  std::vector<KernelInfo> kernelList;
  std::map<std::string, GlobalVariable, std::less<>> globalMap;
};

// How many bytes an image without a stated size has (hipModuleLoadData passes a bare pointer), by the bundle's or the
// ELF file's own tables; never more than `readable`, the mapped bytes from its start. 0 if it is neither.
uint64_t imageBytes(std::span<const uint8_t> readable);

} // namespace ingot::emu
