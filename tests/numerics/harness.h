// What the kernel tests stand on: emit one kernel, compile it, run it on the emulated chip that INGOT_EMULATOR_TARGET
// names, and hold its output against a reference in double. Buffers are allocated to the byte, so that the emulator
// faults a kernel that reads or writes past one. A kernel that spills to scratch fails its test.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "codegen/compile.h"
#include "codegen/kernels/kernels.h"
#include "runtime/artifact/step.h"

namespace ingot::numerics {

// bf16 as its bits.
using Bf16 = uint16_t;
inline float toFloat(Bf16 bits) {
  uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, 4);
  return value;
}
// To nearest, ties to even; finite values only.
inline Bf16 toBf16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<Bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The pattern of bytes nobody wrote: NaN as bf16 and as f32.
constexpr uint8_t kUntouched = 0xff;

// A device buffer.
class Buffer {
public:
  explicit Buffer(size_t bytes); // filled with kUntouched
  template <typename T> explicit Buffer(const std::vector<T> &values) : Buffer(values.size() * sizeof(T)) {
    write(values.data(), values.size() * sizeof(T));
  }
  ~Buffer();
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;

  template <typename T> std::vector<T> read() const {
    std::vector<T> values(size / sizeof(T));
    readBytes(values.data());
    return values;
  }
  void write(const void *bytes, size_t count, size_t offset = 0);
  void *device() const { return pointer; }
  size_t bytes() const { return size; }

private:
  void readBytes(void *to) const;
  void *pointer = nullptr;
  size_t size;
};

// A Step in device memory, and a page table behind it.
struct StepBuffer : Buffer {
  explicit StepBuffer(const Step &step, const std::vector<int32_t> &pages = {})
      : Buffer(sizeof(Step) + pages.size() * sizeof(int32_t)) {
    write(&step, sizeof(Step));
    write(pages.data(), pages.size() * sizeof(int32_t), sizeof(Step));
  }
};

// The chip under test.
const TargetInfo &target();

using Emit = std::function<LaunchShape(mlir::gpu::GPUModuleOp, const TargetInfo &, llvm::StringRef)>;

// The context that kernels and modules of the tests live in.
mlir::MLIRContext &context();

// Prints why and ends the test program: for what is no verdict on a kernel.
[[noreturn]] void fail(const std::string &why);

// A code object on the device, and what the compiler reports of its kernels.
class Code {
public:
  explicit Code(const CodeObject &code);
  ~Code();
  Code(const Code &) = delete;
  Code &operator=(const Code &) = delete;

  // Runs `kernel` on a grid of x by y by z workgroups, and waits. `arguments` are device pointers.
  void run(const std::string &kernel, unsigned x, unsigned y, unsigned z, unsigned workgroupSize,
           std::vector<void *> arguments) const;

  const std::vector<KernelFacts> kernels;

private:
  void *module = nullptr;
};

// The code of a module of one kernel for the chip under test. Compiled once a process: another module of the same text
// gets the same code. Fails the running test if the kernel spills.
const Code &codeOf(mlir::gpu::GPUModuleOp module);

// A compiled kernel, loaded.
class Kernel {
public:
  explicit Kernel(const Emit &emit);

  // Runs with a grid for `tokens`, and waits.
  void run(unsigned tokens, const std::vector<const Buffer *> &arguments) const;

private:
  LaunchShape shape;
  const Code *code = nullptr;
};

// Normal values as bf16, the same for a seed on every machine.
std::vector<Bf16> normalBf16(size_t count, uint32_t seed, float deviation = 1);
std::vector<float> normalFloat(size_t count, uint32_t seed, float deviation = 1);
std::vector<int8_t> uniformInt8(size_t count, uint32_t seed);

// Rows of `columns` values at the stride of an activation: the padding zero, and `extra` rows of NaN after the last,
// which a kernel may read and must not use.
template <typename T> std::vector<T> padRows(const std::vector<T> &rows, uint64_t columns, uint64_t extra = 0) {
  uint64_t count = rows.size() / columns, stride = paddedRow(columns);
  std::vector<T> padded(count * stride);
  for (uint64_t r = 0; r < count; ++r)
    std::copy_n(rows.begin() + static_cast<ptrdiff_t>(r * columns), columns,
                padded.begin() + static_cast<ptrdiff_t>(r * stride));
  T untouched;
  std::memset(&untouched, kUntouched, sizeof(T));
  padded.resize((count + extra) * stride, untouched);
  return padded;
}

// Rows up to the next multiple of 64, less those there are.
inline uint64_t tileRest(uint64_t tokens) { return (tokens + 63) / 64 * 64 - tokens; }

// Where |got - wanted| exceeds absolute + relative * |wanted|, or got is no number: counts, and describes the first.
class Difference {
public:
  void expect(double got, double wanted, double absolute, double relative, const std::string &where);
  // Reports to GoogleTest.
  void report(const std::string &what) const;

private:
  size_t compared = 0, wrong = 0;
  std::string first;
};

} // namespace ingot::numerics
