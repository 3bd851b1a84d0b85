// Verifiers and the pretty syntax of the `exec` dialect. Sizes come from files that people edit, so sums are checked
// for overflow before they are formed.
#include "dialects/Exec.h"

#include <limits>

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace ingot::exec {

namespace {

/// `(x, y, z)`
ParseResult parseGrid(OpAsmParser &parser, DenseI64ArrayAttr &grid) {
  SmallVector<int64_t, 3> sizes;
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren,
                                     [&] { return parser.parseInteger(sizes.emplace_back()); }))
    return failure();
  grid = parser.getBuilder().getDenseI64ArrayAttr(sizes);
  return success();
}

void printGrid(OpAsmPrinter &printer, Operation *, DenseI64ArrayAttr grid) {
  printer << "(";
  llvm::interleaveComma(grid.asArrayRef(), printer);
  printer << ")";
}

/// `(@buffer + offset, @buffer, ...)`
ParseResult parseArguments(OpAsmParser &parser, ArrayAttr &buffers, DenseI64ArrayAttr &offsets) {
  SmallVector<Attribute> names;
  SmallVector<int64_t> bytes;
  auto parseOne = [&]() -> ParseResult {
    StringAttr name;
    if (parser.parseSymbolName(name))
      return failure();
    names.push_back(FlatSymbolRefAttr::get(name));
    bytes.push_back(0);
    return succeeded(parser.parseOptionalPlus()) ? parser.parseInteger(bytes.back()) : success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne))
    return failure();
  buffers = parser.getBuilder().getArrayAttr(names);
  offsets = parser.getBuilder().getDenseI64ArrayAttr(bytes);
  return success();
}

void printArguments(OpAsmPrinter &printer, Operation *, ArrayAttr buffers, DenseI64ArrayAttr offsets) {
  printer << "(";
  llvm::interleaveComma(llvm::zip(buffers, offsets.asArrayRef()), printer, [&](auto pair) {
    auto [buffer, offset] = pair;
    printer.printAttribute(buffer);
    if (offset != 0)
      printer << " + " << offset;
  });
  printer << ")";
}

} // namespace

} // namespace ingot::exec

#include "dialects/ExecDialect.cpp.inc"
#include "dialects/ExecEnums.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/ExecOps.cpp.inc"

namespace ingot::exec {

void ExecDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/ExecOps.cpp.inc"
      >();
}

//===--------------------------------------------------------------------------------------------------------------===//
// Buffers and weights
//===--------------------------------------------------------------------------------------------------------------===//

LogicalResult BufferOp::verify() {
  int64_t bytes = getBytes();
  int64_t perPosition = getPerPosition();
  if (bytes < 0 || perPosition < 0 || (bytes == 0 && perPosition == 0))
    return emitOpError() << "expected a size greater than 0, got bytes " << bytes << " per_position " << perPosition;
  if (std::optional<int64_t> table = getBatchTable(); table && (*table <= 0 || *table % 64 != 0))
    return emitOpError() << "expected a batch_table at a positive multiple of 64, got " << *table;
  if (getRole() == Role::State || getRole() == Role::Scratch)
    return success();
  // Only the later of two reports, so that a pair gives one error.
  for (Operation *other = (*this)->getPrevNode(); other; other = other->getPrevNode()) {
    auto buffer = dyn_cast<BufferOp>(other);
    if (buffer && buffer.getRole() == getRole()) {
      auto diagnostic = emitOpError() << "expected one buffer of role " << stringifyRole(getRole());
      diagnostic.attachNote(buffer.getLoc()) << "the other one";
      return diagnostic;
    }
  }
  return success();
}

LogicalResult WeightOp::verify() {
  int64_t offset = getOffset();
  int64_t bytes = getBytes();
  if (offset < 0 || bytes <= 0)
    return emitOpError() << "expected an offset of at least 0 and bytes greater than 0, got " << offset << " and "
                         << bytes;
  if (offset % 256 != 0)
    return emitOpError() << "expected an offset that is a multiple of 256, got " << offset;
  if (getSources().has_value() == getValue().has_value())
    return emitOpError() << "expected either 'from' or 'value', got " << (getSources() ? "both" : "neither");
  if (bytes > std::numeric_limits<int64_t>::max() - offset)
    return emitOpError() << "expected offset + bytes to fit 64 bits, got " << offset << " + " << bytes;
  for (Operation *other = (*this)->getPrevNode(); other; other = other->getPrevNode()) {
    if (auto buffer = dyn_cast<BufferOp>(other); buffer && buffer.getRole() == Role::Weights) {
      if (offset + bytes > static_cast<int64_t>(buffer.getBytes()))
        return emitOpError() << "expected to lie inside @" << buffer.getSymName() << " of " << buffer.getBytes()
                             << " bytes, got offset " << offset << " bytes " << bytes;
    } else if (auto weight = dyn_cast<WeightOp>(other)) {
      int64_t begin = weight.getOffset();
      int64_t size = weight.getBytes();
      if (begin < offset + bytes && offset < begin + size) {
        auto diagnostic = emitOpError() << "overlaps @" << weight.getSymName();
        diagnostic.attachNote(weight.getLoc()) << "declared here";
        return diagnostic;
      }
    }
  }
  return success();
}

//===--------------------------------------------------------------------------------------------------------------===//
// Targets and programs
//===--------------------------------------------------------------------------------------------------------------===//

void TargetOp::build(OpBuilder &builder, OperationState &state, StringRef chip) {
  state.addAttribute(getSymNameAttrName(state.name), builder.getStringAttr(chip));
  state.addRegion()->emplaceBlock();
}

LogicalResult TargetOp::verifyRegions() {
  for (Operation &op : getBody().front())
    if (!isa<gpu::GPUModuleOp, gpu::BinaryOp, ProgramOp>(op))
      return op.emitError() << "expected gpu.module, gpu.binary or exec.program in exec.target, got " << op.getName();
  return success();
}

void ProgramOp::build(OpBuilder &builder, OperationState &state, StringRef name, int64_t weightBytes) {
  state.addAttribute(getSymNameAttrName(state.name), builder.getStringAttr(name));
  state.addAttribute(getWeightBytesAttrName(state.name), builder.getI64IntegerAttr(weightBytes));
  state.addRegion()->emplaceBlock();
}

LogicalResult ProgramOp::verifyRegions() {
  if (static_cast<int64_t>(getWeightBytes()) < 0)
    return emitOpError() << "expected weight_bytes of at least 0, got " << static_cast<int64_t>(getWeightBytes());
  for (Operation &op : getBody().front())
    if (!isa<LaunchOp>(op))
      return op.emitError() << "expected exec.launch in exec.program, got " << op.getName();
  return success();
}

LogicalResult LaunchOp::verify() {
  constexpr int64_t largest = std::numeric_limits<uint32_t>::max();
  auto isCount = [&](int64_t value) { return value > 0 && value <= largest; };
  if (getGrid().size() != 3 || !llvm::all_of(getGrid(), isCount))
    return emitOpError() << "expected a grid of three positive 32-bit sizes, got (" << getGrid() << ")";
  if (auto tokens = getTokensPerWorkgroup()) {
    if (!isCount(*tokens))
      return emitOpError() << "expected tokens_per_workgroup to be a positive 32-bit number, got "
                           << static_cast<int64_t>(*tokens);
    if (getGrid()[1] != 1)
      return emitOpError() << "expected y of the grid to be 1 with tokens_per_workgroup, got " << getGrid()[1];
  }
  if (int64_t lanes = getBlock(); lanes < 1 || lanes > 1024)
    return emitOpError() << "expected a block of 1 to 1024 lanes, got " << lanes;
  if (getBuffers().size() != getOffsets().size())
    return emitOpError() << "expected an offset an argument, got " << getOffsets().size() << " for "
                         << getBuffers().size();
  return success();
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &tables) {
  auto module = (*this)->getParentOfType<ModuleOp>();
  for (auto [index, offset] : llvm::enumerate(getOffsets())) {
    auto name = cast<FlatSymbolRefAttr>(getBuffers()[index]);
    auto buffer = module ? tables.lookupSymbolIn<BufferOp>(module, name) : BufferOp();
    if (!buffer)
      return emitOpError() << "expected argument " << index << " to name an exec.buffer, got " << name;
    auto size = static_cast<uint64_t>(buffer.getBytes()) + static_cast<uint64_t>(buffer.getPerPosition());
    if (offset < 0 || static_cast<uint64_t>(offset) >= size)
      return emitOpError() << "expected the offset of argument " << index << " to lie inside @" << buffer.getSymName()
                           << " of " << size << " bytes, got " << offset;
  }
  // A gpu.binary holds compiled code: its functions are no longer symbols that could be looked up.
  auto *target = (*this)->getParentOfType<TargetOp>().getOperation();
  auto *home = tables.lookupSymbolIn(target, getKernel().getRootReference());
  if (isa_and_nonnull<gpu::BinaryOp>(home))
    return success();
  auto kernel = dyn_cast_or_null<FunctionOpInterface>(tables.lookupSymbolIn(target, getKernel()));
  if (!kernel || !isa_and_nonnull<gpu::GPUModuleOp>(home))
    return emitOpError() << "expected " << getKernel() << " to be a function of a gpu.module of this target";
  if (kernel.getNumArguments() != getBuffers().size()) {
    auto diagnostic = emitOpError() << "expected " << kernel.getNumArguments() << " arguments, got "
                                    << getBuffers().size();
    diagnostic.attachNote(kernel.getLoc()) << "the kernel";
    return diagnostic;
  }
  return success();
}

} // namespace ingot::exec
