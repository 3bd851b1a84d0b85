#include "codegen/kernel_builder.h"

#include <cmath>

#include "mlir/Dialect/LLVMIR/ROCDLDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringExtras.h"

#include "runtime/artifact/step.h"

using namespace mlir;

namespace ingot {

static constexpr unsigned kGlobal = 1, kLds = 3;

static bool isFloat(Type type) { return isa<FloatType>(getElementTypeOrSelf(type)); }

KernelBuilder::KernelBuilder(gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                             llvm::ArrayRef<Access> arguments, unsigned workgroupSize)
    : b(module.getContext()), location(NameLoc::get(b.getStringAttr(name))), module(module), info(target) {
  auto pointer = LLVM::LLVMPointerType::get(b.getContext(), kGlobal);
  llvm::SmallVector<Type> types(arguments.size(), pointer);
  b.setInsertionPointToEnd(module.getBody());
  func = gpu::GPUFuncOp::create(b, location, name, b.getFunctionType(types, {}));
  func->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), b.getUnitAttr());
  func.setKnownBlockSizeAttr(b.getDenseI32ArrayAttr({static_cast<int32_t>(workgroupSize), 1, 1}));
  for (auto [i, access] : llvm::enumerate(arguments)) {
    func.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), b.getUnitAttr());
    func.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(), b.getI64IntegerAttr(16));
    if (access == Access::Read)
      func.setArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName(), b.getUnitAttr());
    else if (access == Access::Write)
      func.setArgAttr(i, LLVM::LLVMDialect::getWriteOnlyAttrName(), b.getUnitAttr());
  }
  b.setInsertionPointToEnd(&func.getBody().front());
}

void KernelBuilder::finish() { gpu::ReturnOp::create(b, location); }

Type KernelBuilder::i1() { return b.getI1Type(); }
Type KernelBuilder::i8() { return b.getI8Type(); }
Type KernelBuilder::i16() { return b.getI16Type(); }
Type KernelBuilder::i32() { return b.getI32Type(); }
Type KernelBuilder::i64() { return b.getI64Type(); }
Type KernelBuilder::f16() { return b.getF16Type(); }
Type KernelBuilder::bf16() { return b.getBF16Type(); }
Type KernelBuilder::f32() { return b.getF32Type(); }
Type KernelBuilder::vec(unsigned n, Type element) { return VectorType::get({n}, element); }

Val KernelBuilder::constant(int64_t value) { return constantOf(i32(), static_cast<double>(value)); }
Val KernelBuilder::constant64(int64_t value) {
  return wrap(arith::ConstantOp::create(b, location, b.getI64IntegerAttr(value)));
}
Val KernelBuilder::constantF(double value) { return constantOf(f32(), value); }
Val KernelBuilder::constantOf(Type type, double value) {
  Type element = getElementTypeOrSelf(type);
  TypedAttr attr;
  if (auto integer = dyn_cast<IntegerType>(element))
    attr =
        b.getIntegerAttr(element, APInt(integer.getWidth(), static_cast<uint64_t>(static_cast<int64_t>(value)), false,
                                        /*implicitTrunc=*/true));
  else
    attr = b.getFloatAttr(element, value);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return wrap(arith::ConstantOp::create(b, location, attr));
}

Val KernelBuilder::argument(unsigned index) { return wrap(func.getArgument(index)); }
Val KernelBuilder::workgroupX() { return wrap(ROCDL::BlockIdXOp::create(b, location, i32())); }
Val KernelBuilder::workgroupY() { return wrap(ROCDL::BlockIdYOp::create(b, location, i32())); }
Val KernelBuilder::workgroupZ() { return wrap(ROCDL::BlockIdZOp::create(b, location, i32())); }
Val KernelBuilder::thread() { return wrap(ROCDL::ThreadIdXOp::create(b, location, i32())); }
Val KernelBuilder::lane() { return thread() % info.waveSize; }
Val KernelBuilder::wave() { return uniform(thread() / info.waveSize); }
Val KernelBuilder::uniform(Val value) {
  return wrap(ROCDL::ReadfirstlaneOp::create(b, location, value.type(), value.value()));
}

// Memory.

Val KernelBuilder::address(Val pointer, Val offset) {
  auto type = cast<LLVM::LLVMPointerType>(pointer.type());
  Value index = offset.value();
  if (type.getAddressSpace() == kGlobal && index.getType() == i32())
    index = arith::ExtUIOp::create(b, location, i64(), index);
  return wrap(LLVM::GEPOp::create(b, location, type, i8(), pointer.value(), llvm::ArrayRef<LLVM::GEPArg>{index},
                                  LLVM::GEPNoWrapFlags::inbounds));
}

Val KernelBuilder::advance(Val pointer, Val bytes) { return address(pointer, bytes); }

static unsigned bytesOf(Type type) {
  unsigned n = 1;
  if (auto vector = dyn_cast<VectorType>(type))
    n = vector.getNumElements();
  return std::max(1u, n * getElementTypeOrSelf(type).getIntOrFloatBitWidth() / 8);
}

Val KernelBuilder::load(Type type, Val pointer, Val offset, unsigned alignment) {
  if (alignment == 0)
    alignment = std::min(16u, bytesOf(type));
  return wrap(LLVM::LoadOp::create(b, location, type, address(pointer, offset).value(), alignment));
}

void KernelBuilder::store(Val value, Val pointer, Val offset, unsigned alignment) {
  if (alignment == 0)
    alignment = std::min(16u, bytesOf(value.type()));
  LLVM::StoreOp::create(b, location, value.value(), address(pointer, offset).value(), alignment);
}

Val KernelBuilder::lds(unsigned bytes, llvm::StringRef name) {
  std::string symbol = (func.getName() + "." + name + llvm::Twine(ldsBlocks++)).str();
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    LLVM::GlobalOp::create(b, location, LLVM::LLVMArrayType::get(i8(), bytes), /*isConstant=*/false,
                           LLVM::Linkage::Internal, symbol, Attribute(), /*alignment=*/16, kLds);
  }
  return wrap(LLVM::AddressOfOp::create(b, location, LLVM::LLVMPointerType::get(b.getContext(), kLds), symbol));
}

void KernelBuilder::barrier() { gpu::BarrierOp::create(b, location); }
void KernelBuilder::scheduleFence() { ROCDL::SchedBarrier::create(b, location, 0); }

// Control.

static llvm::SmallVector<Value> unwrap(const std::vector<Val> &values) {
  return llvm::to_vector(llvm::map_range(values, [](const Val &v) { return v.value(); }));
}

std::vector<Val> KernelBuilder::forLoop(Val lower, Val upper, Val step, const std::vector<Val> &carried,
                                        const std::function<std::vector<Val>(Val, std::vector<Val>)> &body,
                                        unsigned unroll) {
  auto wrapAll = [&](ValueRange values) {
    std::vector<Val> result;
    for (Value v : values)
      result.push_back(wrap(v));
    return result;
  };
  if (unroll > 1) {
    // Whole blocks of rounds, then what is left. LLVM's own unrolling keeps a test between two rounds where it knows
    // the loop to be short, and the scheduler moves no load across.
    std::vector<Val> state = carried;
    state.push_back(lower);
    state = forLoop(lower, upper - step * static_cast<int64_t>(unroll - 1), step * static_cast<int64_t>(unroll), state,
                    [&](Val first, std::vector<Val> now) {
                      now.pop_back();
                      for (unsigned i = 0; i < unroll; ++i)
                        now = body(first + step * static_cast<int64_t>(i), std::move(now));
                      now.push_back(first + step * static_cast<int64_t>(unroll));
                      return now;
                    });
    Val next = state.back();
    state.pop_back();
    return forLoop(next, upper, step, state, body);
  }
  auto loop = scf::ForOp::create(b, location, lower.value(), upper.value(), step.value(), unwrap(carried),
                                 [&](OpBuilder &inner, Location, Value i, ValueRange state) {
                                   OpBuilder::InsertPoint outer = b.saveInsertionPoint();
                                   b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
                                   std::vector<Val> next = body(wrap(i), wrapAll(state));
                                   scf::YieldOp::create(b, location, unwrap(next));
                                   b.restoreInsertionPoint(outer);
                                 });
  return wrapAll(loop.getResults());
}

void KernelBuilder::ifThen(Val condition, const std::function<void()> &body) {
  auto op = scf::IfOp::create(b, location, condition.value(), /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  body();
}

std::vector<Val> KernelBuilder::ifElse(Val condition, const std::function<std::vector<Val>()> &then,
                                       const std::function<std::vector<Val>()> &otherwise) {
  auto emit = [&](const std::function<std::vector<Val>()> &body) {
    return [&](OpBuilder &inner, Location) {
      OpBuilder::InsertPoint outer = b.saveInsertionPoint();
      b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
      scf::YieldOp::create(b, location, unwrap(body()));
      b.restoreInsertionPoint(outer);
    };
  };
  auto op = scf::IfOp::create(b, location, condition.value(), emit(then), emit(otherwise));
  std::vector<Val> result;
  for (Value v : op.getResults())
    result.push_back(wrap(v));
  return result;
}

Val KernelBuilder::select(Val condition, Val then, Val otherwise) {
  return wrap(arith::SelectOp::create(b, location, condition.value(), then.value(), otherwise.value()));
}

// Conversions.

Val KernelBuilder::zext(Val value, Type type) { return wrap(arith::ExtUIOp::create(b, location, type, value.value())); }
Val KernelBuilder::sext(Val value, Type type) { return wrap(arith::ExtSIOp::create(b, location, type, value.value())); }
Val KernelBuilder::trunc(Val value, Type type) {
  return wrap(arith::TruncIOp::create(b, location, type, value.value()));
}
Val KernelBuilder::bitcast(Val value, Type type) {
  return value.type() == type ? value : wrap(LLVM::BitcastOp::create(b, location, type, value.value()));
}

static Type withElement(Type like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like))
    return VectorType::get(vector.getShape(), element);
  return element;
}

Val KernelBuilder::toFloat(Val v) {
  return wrap(arith::SIToFPOp::create(b, location, withElement(v.type(), f32()), v.value()));
}
Val KernelBuilder::toFloatUnsigned(Val v) {
  return wrap(arith::UIToFPOp::create(b, location, withElement(v.type(), f32()), v.value()));
}
Val KernelBuilder::toInt(Val v) {
  return wrap(arith::FPToSIOp::create(b, location, withElement(v.type(), i32()), v.value()));
}
Val KernelBuilder::extend(Val v) {
  return wrap(arith::ExtFOp::create(b, location, withElement(v.type(), f32()), v.value()));
}
Val KernelBuilder::round(Val v, Type to) {
  return wrap(arith::TruncFOp::create(b, location, withElement(v.type(), to), v.value()));
}

Val KernelBuilder::packBf16(Val low, Val high) {
  // v_perm_b32: bytes 0 to 3 are those of the second operand, 4 to 7 those of the first.
  return call("llvm.amdgcn.perm", i32(),
              {bitcast(high, i32()).value(), bitcast(low, i32()).value(), constant(0x07060302).value()});
}

// Without instructions for FP8: E4M3's seven bits below the sign, moved up by seven, are the f16 of the same digits
// with another bias (15 for 7): 2^-8 of the value.
double KernelBuilder::fp8Unit() const { return info.fp8Matrix ? 1 : 256; }

Val KernelBuilder::fp8(Val word) {
  if (info.fp8Matrix) {
    auto half = [&](bool upper) {
      Value which = arith::ConstantOp::create(b, location, b.getBoolAttr(upper));
      return call("llvm.amdgcn.cvt.pk.f32.fp8", vec(2, f32()), {word.value(), which});
    };
    return concat(half(false), half(true));
  }
  // Bytes 1 and 3 of a word as two f16.
  auto pair = [&](Val bytes) {
    return extend(bitcast(((bytes & 0x7f007f00) >> 1) | (bytes & constant(0x80008000LL)), vec(2, f16())));
  };
  Val even = pair(word << 8), odd = pair(word);
  return build({element(even, 0), element(odd, 0), element(even, 1), element(odd, 1)});
}

Val KernelBuilder::toFp8(Val x) {
  Value low = arith::ConstantOp::create(b, location, b.getBoolAttr(false));
  return trunc(call("llvm.amdgcn.cvt.pk.fp8.f32", i32(), {x.value(), x.value(), constant(0).value(), low}), i8());
}

// Float functions. As intrinsic calls: the lowering to ROCDL turns the ops of the same name into library calls.

Val KernelBuilder::call(llvm::StringRef intrinsic, Type result, llvm::ArrayRef<Value> arguments) {
  return wrap(LLVM::CallIntrinsicOp::create(b, location, result, b.getStringAttr(intrinsic), ValueRange(arguments))
                  .getResults());
}

Val KernelBuilder::perElement(Val x, const std::function<Val(Val)> &body) {
  if (!isa<VectorType>(x.type()))
    return body(x);
  std::vector<Val> elements;
  for (unsigned i = 0, n = lanes(x); i < n; ++i)
    elements.push_back(body(element(x, i)));
  return build(elements);
}

Val KernelBuilder::fma(Val x, Val y, Val z) {
  auto [a, c] = Val::match(x, y);
  auto [d, e] = Val::match(wrap(a), z);
  auto [f, g] = Val::match(wrap(c), z);
  return wrap(LLVM::FMAOp::create(b, location, d, f, e));
}
Val KernelBuilder::minF(Val x, Val y) {
  auto [a, c] = Val::match(x, y);
  return wrap(arith::MinNumFOp::create(b, location, a, c));
}
Val KernelBuilder::maxF(Val x, Val y) {
  auto [a, c] = Val::match(x, y);
  return wrap(arith::MaxNumFOp::create(b, location, a, c));
}
Val KernelBuilder::minI(Val x, Val y) { return wrap(arith::MinSIOp::create(b, location, x.value(), y.value())); }
Val KernelBuilder::maxI(Val x, Val y) { return wrap(arith::MaxSIOp::create(b, location, x.value(), y.value())); }
Val KernelBuilder::exp2(Val x) {
  return perElement(x, [&](Val e) { return call("llvm.amdgcn.exp2", f32(), {e.value()}); });
}
Val KernelBuilder::log2(Val x) {
  return perElement(x, [&](Val e) { return call("llvm.amdgcn.log", f32(), {e.value()}); });
}
Val KernelBuilder::reciprocal(Val x) {
  return perElement(x, [&](Val e) { return call("llvm.amdgcn.rcp", f32(), {e.value()}); });
}
Val KernelBuilder::sqrt(Val x) { return call("llvm.sqrt", x.type(), {x.value()}); }
Val KernelBuilder::sinTurns(Val x) {
  return perElement(x, [&](Val e) { return call("llvm.amdgcn.sin", f32(), {e.value()}); });
}
Val KernelBuilder::cosTurns(Val x) {
  return perElement(x, [&](Val e) { return call("llvm.amdgcn.cos", f32(), {e.value()}); });
}
Val KernelBuilder::roundEven(Val x) { return call("llvm.roundeven", x.type(), {x.value()}); }
Val KernelBuilder::floor(Val x) { return call("llvm.floor", x.type(), {x.value()}); }
Val KernelBuilder::absF(Val x) { return call("llvm.fabs", x.type(), {x.value()}); }

// Vectors.

unsigned KernelBuilder::lanes(Val vector) { return cast<VectorType>(vector.type()).getNumElements(); }
Val KernelBuilder::element(Val vector, unsigned i) {
  return wrap(vector::ExtractOp::create(b, location, vector.value(), static_cast<int64_t>(i)));
}
Val KernelBuilder::element(Val vector, Val i) {
  return wrap(LLVM::ExtractElementOp::create(b, location, vector.value(), i.value()));
}
Val KernelBuilder::insert(Val vector, Val element, unsigned i) {
  return wrap(vector::InsertOp::create(b, location, element.value(), vector.value(), static_cast<int64_t>(i)));
}
Val KernelBuilder::build(std::vector<Val> elements) {
  return wrap(vector::FromElementsOp::create(b, location, vec(elements.size(), elements[0].type()), unwrap(elements)));
}
Val KernelBuilder::slice(Val vector, unsigned first, unsigned count) {
  llvm::SmallVector<int64_t> mask;
  for (unsigned i = 0; i < count; ++i)
    mask.push_back(first + i);
  return wrap(vector::ShuffleOp::create(b, location, vector.value(), vector.value(), mask));
}
Val KernelBuilder::concat(Val low, Val high) {
  llvm::SmallVector<int64_t> mask;
  for (unsigned i = 0, n = lanes(low) + lanes(high); i < n; ++i)
    mask.push_back(i);
  return wrap(vector::ShuffleOp::create(b, location, low.value(), high.value(), mask));
}
Val KernelBuilder::splat(Val scalar, unsigned n) {
  return wrap(vector::BroadcastOp::create(b, location, vec(n, scalar.type()), scalar.value()));
}
Val KernelBuilder::sumElements(Val vector) {
  Val sum = element(vector, 0);
  for (unsigned i = 1, n = lanes(vector); i < n; ++i)
    sum = sum + element(vector, i);
  return sum;
}
Val KernelBuilder::maxElements(Val vector) {
  Val best = element(vector, 0);
  for (unsigned i = 1, n = lanes(vector); i < n; ++i)
    best = maxF(best, element(vector, i));
  return best;
}

// Dots.

Val KernelBuilder::dot4(Val x, Val y, Val acc) {
  Value yes = arith::ConstantOp::create(b, location, b.getBoolAttr(true));
  Value no = arith::ConstantOp::create(b, location, b.getBoolAttr(false));
  return call("llvm.amdgcn.sudot4", i32(), {yes, x.value(), yes, y.value(), acc.value(), no});
}
Val KernelBuilder::dot2(Val x, Val y, Val acc) {
  Value no = arith::ConstantOp::create(b, location, b.getBoolAttr(false));
  Type pair = vec(2, bf16());
  return call("llvm.amdgcn.fdot2.f32.bf16", f32(),
              {bitcast(x, pair).value(), bitcast(y, pair).value(), acc.value(), no});
}

// Across lanes.

Val KernelBuilder::apply(Combine combine, Val x, Val y) {
  switch (combine) {
  case Combine::SumF:
  case Combine::SumI:
    return x + y;
  case Combine::MaxF:
    return maxF(x, y);
  case Combine::MaxI:
    return maxI(x, y);
  case Combine::MinI:
    return minI(x, y);
  }
  return {};
}

Val KernelBuilder::reduceHalf(Val value, Combine combine) {
  // DPP control 0x160 | m: the lane's index within its row of 16, xor m (ISA manual, "DPP16").
  for (int32_t mask : {1, 2, 4, 8}) {
    Value moved = ROCDL::DPPUpdateOp::create(b, location, value.type(), value.value(), value.value(), 0x160 | mask, 0xf,
                                             0xf, true);
    value = apply(combine, value, wrap(moved));
  }
  return value;
}

Val KernelBuilder::otherHalf(Val value) {
  return perElement(value, [&](Val e) {
    Value low = constantOf(i32(), 0x76543210).value();
    Value high = constantOf(i32(), 0xfedcba98).value();
    return wrap(ROCDL::PermlaneX16Op::create(b, location, e.type(), e.value(), e.value(), low, high, /*fi=*/true,
                                             /*boundControl=*/false));
  });
}

Val KernelBuilder::reduceWave(Val value, Combine combine) {
  value = reduceHalf(value, combine);
  return apply(combine, value, otherHalf(value));
}

Val KernelBuilder::readLane(Val value, unsigned lane) {
  return wrap(ROCDL::ReadlaneOp::create(b, location, value.type(), value.value(), constant(lane).value()));
}

Val KernelBuilder::reduceWorkgroup(Val value, Combine combine, unsigned waves, Val scratch) {
  value = reduceWave(value, combine);
  if (waves == 1)
    return value;
  barrier();
  ifThen(lane() == 0, [&] { store(value, scratch, wave() * 4); });
  barrier();
  Val result = load(value.type(), scratch, constant(0));
  for (unsigned w = 1; w < waves; ++w)
    result = apply(combine, result, load(value.type(), scratch, constant(4 * w)));
  return result;
}

// Matrix fragments.

Val KernelBuilder::matrixRow() {
  Val row = lane() % 16;
  // Replicated targets return row 2v + l/16 of A in lane l; loading row v + 8h as A-row 2v + h makes that 8 (l/16) + v.
  return info.matrix == MatrixLayout::Replicated ? row / 2 + (row % 2) * 8 : row;
}

Val KernelBuilder::loadFragment(Val pointer, Val offset, unsigned bytesOfK) {
  if (info.matrix == MatrixLayout::Replicated)
    return load(vec(bytesOfK / 4, i32()), pointer, offset, 16);
  return load(vec(bytesOfK / 8, i32()), pointer, offset + laneHalf() * (bytesOfK / 2), std::min(16u, bytesOfK / 2));
}

Val KernelBuilder::loadTileFragment(Val pointer, Val offset, Val row, unsigned bytesOfK) {
  const unsigned bytes = bytesOfK / 2; // of a row in each half of the tile
  Type piece = vec(bytes / 4, i32());
  Val mine = offset + row * bytes;
  if (info.matrix == MatrixLayout::Replicated)
    return concat(load(piece, pointer, mine), load(piece, pointer, mine + 16 * bytes));
  return load(piece, pointer, mine + laneHalf() * (16 * bytes));
}

Val KernelBuilder::matrixBf16(Val a, Val x, Val c) {
  Type type = vec(2 * lanes(a), i16());
  return wrap(ROCDL::wmma_f32_16x16x16_bf16::create(b, location, c.type(), bitcast(a, type).value(),
                                                    bitcast(x, type).value(), c.value()));
}

Val KernelBuilder::matrixInt8(Val a, Val x, Val c) {
  unsigned half = lanes(a) / 2;
  for (unsigned i = 0; i < 2; ++i)
    c = wrap(ROCDL::wmma_i32_16x16x16_iu8::create(b, location, c.type(), /*signA=*/true,
                                                  slice(a, i * half, half).value(),
                                                  /*signB=*/true, slice(x, i * half, half).value(), c.value(),
                                                  /*clamp=*/false));
  return c;
}

Val KernelBuilder::pin(Val value) {
  auto assembly =
      LLVM::InlineAsmOp::create(b, location, value.type(), ValueRange{value.value()}, "", "=v,0",
                                /*has_side_effects=*/true, /*is_align_stack=*/false,
                                LLVM::tailcallkind::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  return wrap(assembly.getRes());
}

Val KernelBuilder::fragmentOfResult(Val eightBf16) {
  Val own = bitcast(eightBf16, vec(4, i32()));
  if (info.matrix == MatrixLayout::Split)
    return own;
  Val other = otherHalf(own), upper = laneHalf() == 1;
  return concat(select(upper, other, own), select(upper, own, other));
}

Val KernelBuilder::stepTokens(Val step) { return load(i32(), step, constant(offsetof(Step, tokens))); }
Val KernelBuilder::stepPosition(Val step) { return load(i32(), step, constant(offsetof(Step, position))); }

// Operators.

std::pair<Value, Value> Val::match(Val a, Val b) {
  KernelBuilder &kb = *a.kb;
  auto va = dyn_cast<VectorType>(a.type()), vb = dyn_cast<VectorType>(b.type());
  if (va && !vb)
    b = kb.splat(b, va.getNumElements());
  else if (vb && !va)
    a = kb.splat(a, vb.getNumElements());
  return {a.value(), b.value()};
}

#define INGOT_ARITHMETIC(OP, FLOAT_OP, INT_OP)                                                                         \
  Val operator OP(Val a, Val b) {                                                                                      \
    auto [x, y] = Val::match(a, b);                                                                                    \
    KernelBuilder &kb = *a.kb;                                                                                         \
    if (isFloat(a.type()))                                                                                             \
      return Val(&kb, arith::FLOAT_OP::create(kb.builder(), kb.loc(), x, y));                                          \
    return Val(&kb, arith::INT_OP::create(kb.builder(), kb.loc(), x, y));                                              \
  }                                                                                                                    \
  Val operator OP(Val a, int64_t b) { return a OP a.kb->constantOf(getElementTypeOrSelf(a.type()), b); }
INGOT_ARITHMETIC(+, AddFOp, AddIOp)
INGOT_ARITHMETIC(-, SubFOp, SubIOp)
INGOT_ARITHMETIC(*, MulFOp, MulIOp)
INGOT_ARITHMETIC(/, DivFOp, DivUIOp)
INGOT_ARITHMETIC(%, RemFOp, RemUIOp)
#undef INGOT_ARITHMETIC

#define INGOT_BITWISE(OP, INT_OP)                                                                                      \
  Val operator OP(Val a, Val b) {                                                                                      \
    auto [x, y] = Val::match(a, b);                                                                                    \
    return Val(a.kb, arith::INT_OP::create(a.kb->builder(), a.kb->loc(), x, y));                                       \
  }
INGOT_BITWISE(&, AndIOp)
INGOT_BITWISE(|, OrIOp)
INGOT_BITWISE(^, XOrIOp)
INGOT_BITWISE(<<, ShLIOp)
INGOT_BITWISE(>>, ShRUIOp)
#undef INGOT_BITWISE
#define INGOT_BITWISE_CONSTANT(OP)                                                                                     \
  Val operator OP(Val a, int64_t b) { return a OP a.kb->constantOf(getElementTypeOrSelf(a.type()), b); }
INGOT_BITWISE_CONSTANT(&)
INGOT_BITWISE_CONSTANT(^)
INGOT_BITWISE_CONSTANT(<<)
INGOT_BITWISE_CONSTANT(>>)
#undef INGOT_BITWISE_CONSTANT

#define INGOT_COMPARE(OP, FLOAT_PREDICATE, INT_PREDICATE)                                                              \
  Val operator OP(Val a, Val b) {                                                                                      \
    auto [x, y] = Val::match(a, b);                                                                                    \
    KernelBuilder &kb = *a.kb;                                                                                         \
    if (isFloat(a.type()))                                                                                             \
      return Val(&kb, arith::CmpFOp::create(kb.builder(), kb.loc(), arith::CmpFPredicate::FLOAT_PREDICATE, x, y));     \
    return Val(&kb, arith::CmpIOp::create(kb.builder(), kb.loc(), arith::CmpIPredicate::INT_PREDICATE, x, y));         \
  }                                                                                                                    \
  Val operator OP(Val a, int64_t b) { return a OP a.kb->constantOf(getElementTypeOrSelf(a.type()), b); }
INGOT_COMPARE(<, OLT, slt)
INGOT_COMPARE(<=, OLE, sle)
INGOT_COMPARE(>, OGT, sgt)
INGOT_COMPARE(>=, OGE, sge)
INGOT_COMPARE(==, OEQ, eq)
INGOT_COMPARE(!=, UNE, ne)
#undef INGOT_COMPARE

} // namespace ingot
