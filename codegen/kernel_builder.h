// The vocabulary that kernel emitters are written in: lanes and waves, 16-byte loads, dots, wave reductions, matrix
// fragments. Each word becomes gpu, vector, arith, scf, LLVM or ROCDL ops; which instruction stands behind a dot or a
// fragment is decided here, from the target table, and nowhere else.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"

#include "codegen/target.h"

namespace ingot {

class KernelBuilder;

// An SSA value with the arithmetic a kernel needs. Integers are i32 unless a cast says otherwise; comparisons are
// signed. Vectors work lane by lane; a scalar beside a vector is broadcast.
class Val {
public:
  Val() = default;
  Val(KernelBuilder *builder, mlir::Value value) : kb(builder), v(value) {}
  mlir::Value value() const { return v; }
  mlir::Type type() const { return v.getType(); }
  explicit operator bool() const { return static_cast<bool>(v); }

  friend Val operator+(Val a, Val b);
  friend Val operator-(Val a, Val b);
  friend Val operator*(Val a, Val b);
  friend Val operator/(Val a, Val b); // floats: IEEE division; integers: unsigned, powers of two fold to shifts
  friend Val operator%(Val a, Val b); // unsigned
  friend Val operator&(Val a, Val b);
  friend Val operator|(Val a, Val b);
  friend Val operator^(Val a, Val b);
  friend Val operator<<(Val a, Val b);
  friend Val operator>>(Val a, Val b); // logical
  friend Val operator<(Val a, Val b);
  friend Val operator<=(Val a, Val b);
  friend Val operator>(Val a, Val b);
  friend Val operator>=(Val a, Val b);
  friend Val operator==(Val a, Val b);
  friend Val operator!=(Val a, Val b);
  // With a constant of the value's own element type.
  friend Val operator+(Val a, int64_t b);
  friend Val operator-(Val a, int64_t b);
  friend Val operator*(Val a, int64_t b);
  friend Val operator/(Val a, int64_t b);
  friend Val operator%(Val a, int64_t b);
  friend Val operator&(Val a, int64_t b);
  friend Val operator^(Val a, int64_t b);
  friend Val operator<<(Val a, int64_t b);
  friend Val operator>>(Val a, int64_t b);
  friend Val operator<(Val a, int64_t b);
  friend Val operator<=(Val a, int64_t b);
  friend Val operator>(Val a, int64_t b);
  friend Val operator>=(Val a, int64_t b);
  friend Val operator==(Val a, int64_t b);
  friend Val operator!=(Val a, int64_t b);

private:
  friend class KernelBuilder;
  // Both as vectors when one of them is.
  static std::pair<mlir::Value, mlir::Value> match(Val a, Val b);
  KernelBuilder *kb = nullptr;
  mlir::Value v;
};

enum class Access { Read, Write, ReadWrite };

class KernelBuilder {
public:
  // Begins `gpu.func @name` in `module`; every argument is a global pointer that aliases no other argument.
  // `workgroupSize` lanes, a multiple of the wave size.
  KernelBuilder(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                llvm::ArrayRef<Access> arguments, unsigned workgroupSize);
  // Ends the function. Every emitter calls it last.
  void finish();

  const TargetInfo &target() const { return info; }
  mlir::OpBuilder &builder() { return b; }
  mlir::Location loc() const { return location; }

  // Types.
  mlir::Type i1(), i8(), i16(), i32(), i64(), f16(), bf16(), f32();
  mlir::Type vec(unsigned n, mlir::Type element);

  // Constants.
  Val constant(int64_t value);
  Val constant64(int64_t value);
  Val constantF(double value);
  // `value` in every element of `type` (integer or float, scalar or vector).
  Val constantOf(mlir::Type type, double value);
  Val zero(mlir::Type type) { return constantOf(type, 0); }

  // Where this lane is. All i32; those of the workgroup and the wave are uniform (scalar registers).
  Val argument(unsigned index);
  Val workgroupX(), workgroupY(), workgroupZ();
  Val lane();   // in the wave, 0 ... 31
  Val wave();   // in the workgroup
  Val thread(); // in the workgroup
  // The same value in every lane, told to the compiler.
  Val uniform(Val value);

  // Global memory. `offset` is in bytes from `pointer`: an i32 is taken as unsigned (a lane's own offset), an i64 moves
  // the whole address. `advance` moves a pointer, uniformly where its operand is.
  Val advance(Val pointer, Val bytes);
  Val load(mlir::Type type, Val pointer, Val offset, unsigned alignment = 0);
  void store(Val value, Val pointer, Val offset, unsigned alignment = 0);

  // LDS: a block of `bytes` of this workgroup; offsets are i32 bytes.
  Val lds(unsigned bytes, llvm::StringRef name);
  void barrier();
  // The compiler moves no instruction across: bounds how many loads it has in flight, and so the registers they take.
  void scheduleFence();

  // Control.
  // for (i = lower; i < upper; i += step), carrying values; returns what the body returned last. `unroll` rounds are
  // one piece of code for the scheduler, which begins with all their loads; the order of the operations on what is
  // carried stays.
  std::vector<Val> forLoop(Val lower, Val upper, Val step, const std::vector<Val> &carried,
                           const std::function<std::vector<Val>(Val, std::vector<Val>)> &body, unsigned unroll = 1);
  void ifThen(Val condition, const std::function<void()> &body);
  std::vector<Val> ifElse(Val condition, const std::function<std::vector<Val>()> &then,
                          const std::function<std::vector<Val>()> &otherwise);
  Val select(Val condition, Val then, Val otherwise);

  // Conversions.
  Val zext(Val value, mlir::Type type);
  Val sext(Val value, mlir::Type type);
  Val trunc(Val value, mlir::Type type);
  Val bitcast(Val value, mlir::Type type);
  Val toFloat(Val integer); // signed i8/i32 (vectors too) -> f32
  Val toFloatUnsigned(Val integer);
  Val toInt(Val floating);            // f32 -> i32, towards zero
  Val extend(Val narrow);             // bf16 or f16 -> f32
  Val round(Val wide, mlir::Type to); // f32 -> bf16 or f16, to nearest even
  // Two f32 that bf16 holds exactly, as one i32.
  Val packBf16(Val low, Val high);
  // The four FP8 E4M3 of an i32 as f32, divided by `fp8Unit`: exact, subnormals too. NaN is not kept.
  Val fp8(Val word);
  double fp8Unit() const;
  // A finite f32 of at most 448 in magnitude as an FP8 E4M3, to nearest even, in an i8. Only where the target has
  // instructions for FP8.
  Val toFp8(Val x);

  // Float functions on f32 (vectors lane by lane where the name is plural-safe: fma, min, max, roundEven).
  Val fma(Val a, Val b, Val c);
  Val minF(Val a, Val b), maxF(Val a, Val b), minI(Val a, Val b), maxI(Val a, Val b);
  Val exp2(Val x);                      // v_exp_f32: about 1 ulp
  Val log2(Val x);                      // v_log_f32
  Val reciprocal(Val x);                // v_rcp_f32: 1 ulp
  Val sqrt(Val x);                      // correctly rounded
  Val sinTurns(Val x), cosTurns(Val x); // v_sin_f32, v_cos_f32: of x full turns, |x| <= 256
  Val roundEven(Val x);                 // v_rndne_f32
  Val floor(Val x);
  Val absF(Val x);

  // Vectors.
  Val element(Val vector, unsigned i);
  Val element(Val vector, Val i);
  Val insert(Val vector, Val element, unsigned i);
  Val build(std::vector<Val> elements);
  Val slice(Val vector, unsigned first, unsigned count);
  Val concat(Val low, Val high);
  Val splat(Val scalar, unsigned n);
  unsigned lanes(Val vector);
  Val sumElements(Val vector); // f32, in the order of the elements
  Val maxElements(Val vector);

  // Dots: acc + sum of products. int8: 4 signed bytes in each i32, exact. bf16: two in each operand, f32 accumulator.
  Val dot4(Val a, Val b, Val acc);
  Val dot2(Val a, Val b, Val acc);

  // Across the wave. `combine` is associative and commutative (up to rounding); all 32 lanes get the result.
  enum class Combine { SumF, MaxF, SumI, MaxI, MinI };
  Val reduceWave(Val value, Combine combine);
  // Over the 16 lanes of this lane's half.
  Val reduceHalf(Val value, Combine combine);
  // The value that lane ^ 16 holds. 32-bit or a vector of 32-bit elements.
  Val otherHalf(Val value);
  Val readLane(Val value, unsigned lane);
  // Over the workgroup, through LDS; every lane gets the result. `waves` is the number of waves in the workgroup;
  // `scratch` is an LDS block of at least 4 * waves bytes that nobody else uses between the barriers this inserts.
  Val reduceWorkgroup(Val value, Combine combine, unsigned waves, Val scratch);
  Val apply(Combine combine, Val a, Val b);

  // Matrix fragments of D[16 x 16] += A[16 x K] * B[K x 16]. A "row" is a row of A or a column of B: K consecutive
  // elements. Fragments are vectors of i32, whatever they hold. The order of K inside a fragment is the target's own;
  // it is the same for all fragments loaded with the same `bytesOfK`, which is all that a product needs.
  //
  // D, on every target: lane l holds in element v the value of A-row 8 * (l / 16) + v and B-column l % 16, provided
  // that A's rows were placed by `matrixRow`.
  Val matrixRow();                           // which A-row this lane loads, 0 ... 15
  Val matrixColumn() { return lane() % 16; } // which B-column
  Val laneHalf() { return lane() / 16; }
  // This lane's share of `bytesOfK` bytes (16, or a multiple of 32) that begin at pointer + offset, this lane's row.
  Val loadFragment(Val pointer, Val offset, unsigned bytesOfK = 32);
  // The same for row `row` of the tile16 tile (docs/design/layouts.md) at pointer + offset, both the same in all lanes.
  // `bytesOfK` is 32, or of codes that become bf16 16: a tile of half the bytes.
  Val loadTileFragment(Val pointer, Val offset, Val row, unsigned bytesOfK = 32);
  // D += A * B with 32 bytes of K in each fragment: 16 bf16 (one instruction) or 32 signed int8 (two). C and D are 8 x
  // f32 or 8 x i32.
  Val matrixBf16(Val a, Val b, Val c);
  Val matrixInt8(Val a, Val b, Val c);
  // The same value, computed here and not later. LLVM's machine sinking moves matrix instructions into a block where
  // only some lanes are active, and they need all lanes; so their results are pinned before the first branch that lanes
  // may disagree on.
  Val pin(Val value);
  // A B-fragment (bf16, K = the 16 rows of D) from 8 values of a D held as bf16.
  Val fragmentOfResult(Val eightBf16);

  // The Step's fields (runtime/artifact/step.h), uniform.
  Val stepTokens(Val step), stepPosition(Val step);

private:
  Val wrap(mlir::Value value) { return Val(this, value); }
  Val call(llvm::StringRef intrinsic, mlir::Type result, llvm::ArrayRef<mlir::Value> arguments);
  Val perElement(Val x, const std::function<Val(Val)> &body);
  Val address(Val pointer, Val offset);
  friend class Val;

  mlir::OpBuilder b;
  mlir::Location location;
  mlir::gpu::GPUModuleOp module;
  mlir::gpu::GPUFuncOp func;
  const TargetInfo &info;
  unsigned ldsBlocks = 0;
};

} // namespace ingot
