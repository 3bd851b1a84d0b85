// llm -> exec: a kernel for every op. Each op's part is one visitor below; what they share is the naming of buffers and
// the cache of kernels, keyed by name, which holds all that a kernel bakes in.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "codegen/kernels/delta.h"
#include "codegen/kernels/elementwise.h"
#include "codegen/kernels/heads.h"
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/linear.h"
#include "codegen/kernels/prologue.h"
#include "codegen/target.h"
#include "dialects/Sequences.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "runtime/artifact/batch.h"
#include "runtime/artifact/step.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_SELECT
#include "passes/Passes.h.inc"

namespace {

constexpr int64_t kWeightAlignment = 256;
constexpr int64_t kTokenTile = 64; // rows that a prefill kernel may write at once

int64_t alignTo(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A place in device memory: a buffer and an offset.
struct Place {
  std::string buffer;
  int64_t offset = 0;
};

// How a weight is used decides how it lies in memory.
struct WeightPlace {
  exec::Layout layout;
  llm::SchemeAttr scheme;
  int64_t bytes = 0, offset = 0;
  int64_t rowBytes = 0;    // of one row, for a table
  int64_t expertBytes = 0; // of one expert
  int64_t order = 0;       // of its columns, from `offset` on; 0: the model's
};

// Whether its columns are stored in an order of their own.
bool permuted(llm::WeightOp weight) { return weight.getPermuted() && weight.getScheme() == weight.getStored(); }

bool isBf16(Value tensor) { return cast<RankedTensorType>(tensor.getType()).getElementType().isBF16(); }
Element elementOf(Value tensor) {
  return cast<RankedTensorType>(tensor.getType()).getElementType().isF32() ? Element::F32 : Element::Bf16;
}
// A constant in the name of a kernel.
std::string bitsOf(double value) { return "_" + llvm::utohexstr(llvm::bit_cast<uint32_t>(static_cast<float>(value))); }
std::string suffix(Element element) { return element == Element::F32 ? "_f32" : ""; }

// An op in the name of a kernel.
std::string shortName(Operation *op) {
  if (auto gated = dyn_cast<llm::GatedMulOp>(op))
    return (llm::stringifyGate(gated.getFunction()) + "_mul").str();
  return op->getName().stripDialect().str();
}

// Whether a function of one sequence returns it: then it lies where the runtime looks for logits, in rows without
// padding.
bool returned(Value value) {
  return llvm::any_of(value.getUsers(),
                      [](Operation *user) { return isa<func::ReturnOp>(user) && llm::sequencesOf(user) == 0; });
}

int64_t dim(Value tensor, unsigned i) { return cast<RankedTensorType>(tensor.getType()).getDimSize(i); }
int64_t widthOf(Value tensor) { return cast<RankedTensorType>(tensor.getType()).getShape().back(); }
// Rows of a token where it has one for each of its experts; else 0.
uint64_t slotsOf(Value tensor) {
  return cast<RankedTensorType>(tensor.getType()).getRank() == 3 ? static_cast<uint64_t>(dim(tensor, 1)) : 0;
}
// Positions of the cache that `op` knows by this name, where it is a ring; else 0.
uint64_t ringOf(Operation *op, FlatSymbolRefAttr cache) {
  return static_cast<uint64_t>(llm::lookupState(op, cache).getRing());
}
std::string ringSuffix(uint64_t ring) { return ring ? "_ring" + std::to_string(ring) : ""; }
std::string elementSuffix(CacheElement element) {
  return element == CacheElement::Bf16 ? "" : element == CacheElement::Int8 ? "_int8" : "_fp8";
}
std::string tokensSuffix(uint64_t tokens) { return tokens > 1 ? "_tokens" + std::to_string(tokens) : ""; }
std::string peekSuffix(uint64_t tokens) { return tokens ? "_peek" + std::to_string(tokens) : ""; }
std::string sequencesSuffix(bool sequences) { return sequences ? "_sequences" : ""; }
std::string slotsSuffix(uint64_t slots) { return slots ? "_slots" + std::to_string(slots) : ""; }

// Whether kernels take the op's tokens one by one, or a few side by side: how many there are is known.
bool fewTokens(Value rows) { return !ShapedType::isDynamic(dim(rows, 0)); }

// Whether a route also leaves the order of rows by experts (`emitGroup`): linears of many tokens read it.
bool groupsRows(llm::RouteOp op) {
  return !fewTokens(op.getLogits()) && llvm::any_of(op.getIndices().getUsers(), llvm::IsaPred<llm::LinearOp>);
}

class Selection {
public:
  Selection(ModuleOp module, MutableArrayRef<const TargetInfo *> targets)
      : module(module), targets(targets), facts(llm::Facts::of(module)) {}

  LogicalResult run() {
    if (failed(placeWeights()))
      return failure();
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    if (failed(addFixedBuffers(b)))
      return failure();
    for (const TargetInfo *target : targets) {
      this->target = target;
      b.setInsertionPointToEnd(module.getBody());
      auto targetOp = exec::TargetOp::create(b, module.getLoc(), target->name);
      b.setInsertionPointToEnd(&targetOp.getBody().front());
      kernels = gpu::GPUModuleOp::create(b, module.getLoc(), "kernels");
      cache.clear();
      for (auto function : module.getOps<func::FuncOp>())
        if (failed(selectFunction(function, targetOp)))
          return failure();
      kernelCount += cache.size();
    }
    replaceSymbols();
    return success();
  }

  int64_t launchCount = 0, kernelCount = 0;

private:
  // Weights.

  // How many experts a linear has.
  static uint64_t expertsOf(llm::LinearOp op) {
    return static_cast<uint64_t>(llm::lookupWeight(op, op.getPartWeight(0)).getTensorType().getDimSize(0));
  }

  LinearConfig linearConfig(llm::LinearOp op) {
    LinearConfig config{.columns = static_cast<uint64_t>(widthOf(op.getX())),
                        .scheme = *llm::lookupWeight(op, op.getPartWeight(0)).getScheme(),
                        .parts = {},
                        .results = {},
                        .epilogue = op.hasEpilogue() ? &op.getEpilogue() : nullptr,
                        .quantize = op.getQuantized(),
                        .norm = op.getNormAttr(),
                        .epsilon = op.getEps() ? op.getEps()->convertToFloat() : 0,
                        .x = elementOf(op.getX()),
                        .chunkRows = static_cast<uint64_t>(rows)};
    if (!op.getExperts() && fewTokens(op.getX()))
      config.tokens = static_cast<uint64_t>(dim(op.getX(), 0));
    if (op.getExperts())
      config.experts = {.count = expertsOf(op),
                        .slots = static_cast<uint64_t>(op.getSlots()),
                        .shared = op.getShared().has_value(),
                        .ownRows = slotsOf(op.getX()) != 0,
                        .chunkRows = static_cast<uint64_t>(rows)};
    for (auto [part, product] : llvm::enumerate(op.getProducts()))
      config.parts.push_back(
          {.rows = static_cast<uint64_t>(widthOf(product)), .bias = static_cast<bool>(op.getPartBias(part))});
    for (Value result : op.getResults())
      config.results.push_back({.columns = static_cast<uint64_t>(widthOf(result)),
                                .output = isBf16(result)     ? LinearOutput::Bf16
                                          : returned(result) ? LinearOutput::Logits
                                                             : LinearOutput::F32});
    // Whose the rows are is all one to a kernel that does not read the step.
    config.sequences = sequences;
    config.sequences &= linearArguments(config, fewTokens(op.getX())).front().kind == LinearArgument::Kind::Step;
    return config;
  }

  // All that the kernel bakes in: the scheme, the shapes, the epilogue's ops and what they are applied to. What kernels
  // take as arguments (weights, captures, caches) is not in it.
  std::string linearName(const LinearConfig &c, bool decode) {
    std::string name = llvm::formatv("linear{0}_{1}_", decode ? "" : "_prefill", c.scheme.spelled()).str();
    if (c.norm)
      name += "norm" + suffix(c.x) + bitsOf(c.epsilon) + "_";
    if (c.quantize)
      name += "quantized_";
    for (auto [i, part] : llvm::enumerate(c.parts))
      name += (i ? "_" : "") + std::to_string(part.rows) + (part.bias ? "b" : "");
    name += "x" + std::to_string(c.columns) + tokensSuffix(c.tokens);
    if (c.experts)
      name += llvm::formatv("_{0}of{1}experts{2}{3}", c.experts.slots, c.experts.count, c.experts.ownRows ? "_own" : "",
                            c.experts.shared ? "_shared" : "")
                  .str();
    if (c.epilogue)
      for (Operation &op : c.epilogue->front().without_terminator())
        name += "_" + shortName(&op);
    for (const LinearResult &result : c.results)
      name += result.output == LinearOutput::Logits ? "_logits" : result.output == LinearOutput::F32 ? "_f32" : "";
    name += sequencesSuffix(c.sequences);
    return c.epilogue ? distinguish(name, *c.epilogue) : name;
  }

  // No kernel with a region holds how many rows there are, but where its name says so.
  static Type rowType(Value rows) {
    auto type = cast<RankedTensorType>(rows.getType());
    return RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
  }

  // Two regions of the same ops may differ in what these are applied to and in their attributes: `name`, or else a name
  // of its own for each difference.
  std::string distinguish(const std::string &name, Region &region) {
    std::string detail;
    llvm::raw_string_ostream stream(detail);
    llvm::DenseMap<Value, unsigned> numbers;
    llvm::DenseMap<Attribute, unsigned> symbols; // which are arguments of the kernel, one each
    for (BlockArgument argument : region.getArguments()) {
      numbers.try_emplace(argument, numbers.size());
      stream << rowType(argument) << ' ';
    }
    for (Operation &op : region.front()) {
      stream << op.getName() << '(';
      for (Value operand : op.getOperands())
        stream << numbers.try_emplace(operand, numbers.size()).first->second << ':' << rowType(operand) << ' ';
      stream << ')';
      for (NamedAttribute attribute : op.getAttrs()) {
        stream << attribute.getName() << '=';
        if (auto symbol = dyn_cast<FlatSymbolRefAttr>(attribute.getValue())) {
          stream << '@' << symbols.try_emplace(symbol, symbols.size()).first->second << ' ';
          if (auto state = llm::lookupState(&op, symbol))
            stream << state.getTensorType() << ' ';
        } else
          stream << attribute.getValue() << ' ';
      }
      for (Value result : op.getResults()) {
        numbers.try_emplace(result, numbers.size());
        stream << rowType(result) << ' ';
      }
    }
    auto &known = regions[name];
    unsigned index = llvm::find(known, detail) - known.begin();
    if (index == known.size())
      known.push_back(detail);
    return index ? name + "_v" + std::to_string(index + 1) : name;
  }

  LogicalResult placeWeights() {
    int64_t offset = 0;
    SymbolTableCollection tables;
    SymbolUserMap users(tables, module);
    for (auto weight : module.getOps<llm::WeightOp>()) {
      WeightPlace place{.layout = exec::Layout::RowF32, .scheme = nullptr, .offset = offset};
      RankedTensorType type = weight.getTensorType();
      llm::SchemeAttr scheme = weight.getScheme().value_or(nullptr);
      if (!scheme && weight.getValue())
        scheme = llm::SchemeAttr::get(module.getContext(), llm::Storage::F32);
      if (!scheme)
        return weight.emitOpError("has no scheme: run annotate first");
      for (Operation *user : users.getUsers(weight)) {
        if (isa<llm::EmbedOp>(user))
          place.layout = exec::Layout::RowBF16;
        auto linear = dyn_cast<llm::LinearOp>(user);
        auto name = FlatSymbolRefAttr::get(weight.getSymNameAttr());
        if (linear && (llvm::is_contained(linear.getWeights(), name) ||
                       (linear.getShared() && llvm::is_contained(*linear.getShared(), name))))
          place.layout = exec::Layout::Tile16;
      }
      int64_t columns = paddedRow(type.getShape().back());
      switch (place.layout) {
      case exec::Layout::RowF32:
        place.bytes = paddedRow(type.getNumElements()) * 4;
        break;
      case exec::Layout::RowBF16:
        if (scheme.getStorage() != llm::Storage::BF16)
          return weight.emitOpError() << "is a table of scheme " << scheme.spelled()
                                      << ", which no kernel reads: a recipe can give it bf16";
        place.rowBytes = columns * 2;
        place.bytes = type.getDimSize(0) * place.rowBytes;
        break;
      case exec::Layout::Tile16:
        if (scheme.getStorage() == llm::Storage::F32)
          return weight.emitOpError() << "has scheme f32, which no kernel multiplies by: expected bf16 or codes";
        place.bytes = static_cast<int64_t>(linearBytes(scheme, static_cast<uint64_t>(type.getShape().end()[-2]),
                                                       static_cast<uint64_t>(type.getShape().back())));
        if (type.getRank() == 3) {
          place.expertBytes = alignTo(place.bytes, kWeightAlignment); // expertStride
          place.bytes = place.expertBytes * type.getDimSize(0);
        }
        if (permuted(weight)) {
          place.order = alignTo(place.bytes, 256);
          place.bytes = place.order + columns * 4;
        }
        break;
      }
      place.scheme = scheme;
      weights[weight.getSymName().str()] = place;
      offset = alignTo(offset + place.bytes, kWeightAlignment);
    }
    weightBytes = offset;
    return success();
  }

  // exec.weight in the place of llm.weight; functions and states are in programs and buffers by now.
  void replaceSymbols() {
    for (Operation &op : llvm::make_early_inc_range(*module.getBody())) {
      if (auto weight = dyn_cast<llm::WeightOp>(op)) {
        const WeightPlace &place = weights.at(weight.getSymName().str());
        OpBuilder b(weight);
        ArrayAttr sources;
        if (weight.getSource())
          sources = b.getStrArrayAttr({*weight.getSource()});
        exec::WeightOp::create(b, weight.getLoc(), weight.getSymName(), place.offset, place.bytes, place.layout,
                               place.scheme, sources, weight.getValueAttr(), weight.getTensorType(), place.order != 0,
                               StringAttr());
      }
      if (isa<func::FuncOp, llm::WeightOp, llm::StateOp>(op))
        op.erase();
    }
  }

  // Buffers.

  exec::BufferOp addBuffer(OpBuilder &b, llvm::StringRef name, exec::Role role, int64_t bytes,
                           int64_t perPosition = 0) {
    return exec::BufferOp::create(b, module.getLoc(), name, role, bytes, perPosition, IntegerAttr(), StringAttr());
  }

  // Of a buffer that each sequence has for itself: steps of several find its copies in a table. That of @step comes
  // first.
  void addOwned(OpBuilder &b, const std::string &name, exec::Role role, int64_t bytes, int64_t perPosition = 0) {
    exec::BufferOp buffer = addBuffer(b, name, role, bytes, perPosition);
    if (!hasSequences)
      return;
    buffer.setBatchTable(batchBytes);
    tables[name] = batchBytes;
    batchBytes += sizeof(Batch::steps);
  }

  LogicalResult addFixedBuffers(OpBuilder &b) {
    rows = alignTo(facts.prefillChunk, kTokenTile);
    int64_t most = 0; // sequences of a step
    for (auto function : module.getOps<func::FuncOp>())
      most = std::max(most, llm::sequencesOf(function));
    hasSequences = most > 0;
    addBuffer(b, "weights", exec::Role::Weights, std::max<int64_t>(weightBytes, kWeightAlignment));
    addOwned(b, "step", exec::Role::Step,
             sizeof(Step) + alignTo(facts.contextLength, kPagePositions) / kPagePositions * sizeof(int32_t));
    // A step that drafts has one token that was chosen, and the drafts.
    addOwned(b, "tokens", exec::Role::Tokens, std::max(facts.prefillChunk, facts.draftLength + 1) * 4);
    addBuffer(b, "logits", exec::Role::Logits, facts.vocabulary * 4);
    addBuffer(b, "all_logits", exec::Role::AllLogits, facts.prefillChunk * facts.vocabulary * 4);
    addOwned(b, "output", exec::Role::Output, 0, 4);
    for (auto state : module.getOps<llm::StateOp>()) {
      RankedTensorType type = state.getTensorType();
      const bool grows = type.isDynamicDim(0);
      int64_t bytes = 0;
      if (state.isCache()) {
        if (failed(checkElement(state)))
          return failure();
        bytes = static_cast<int64_t>(cacheBytes(state)) * (grows ? 1 : type.getDimSize(0));
      } else {
        bytes = type.getNumElements() * type.getElementTypeBitWidth() / 8;
      }
      const std::string name = (state.getSymName() + ".cache").str();
      if (grows) // pages of any sequence, which its step names
        addBuffer(b, name, exec::Role::State, 0, bytes);
      else
        addOwned(b, name, exec::Role::State, bytes);
    }
    addOwned(b, "mask", exec::Role::Mask, static_cast<int64_t>(maskWords(facts.vocabulary)) * 4);
    if (hasSequences) {
      addBuffer(b, "batch", exec::Role::Batch, batchBytes);
      addBuffer(b, "batch_logits", exec::Role::BatchLogits,
                most * static_cast<int64_t>(paddedRow(static_cast<uint64_t>(facts.vocabulary))) * 4);
    }
    return success();
  }

  // Every target writes what the cache holds.
  LogicalResult checkElement(llm::StateOp cache) {
    if (cacheElementOf(cache) != CacheElement::Fp8)
      return success();
    for (const TargetInfo *target : targets)
      if (!target->fp8Matrix)
        return cache.emitOpError() << "holds fp8, and " << target->name
                                   << " has no instructions that convert to it: compile for targets that have them "
                                      "(--targets), or choose --kv-cache=int8, which every target has";
    return success();
  }

  // All targets have the same buffers, with room for whichever needs the most.
  Place newScratch(int64_t bytes) {
    std::string name = (function.getSymName() + "." + llvm::Twine(scratchCount++)).str();
    bytes = alignTo(bytes, kWeightAlignment);
    exec::BufferOp &buffer = scratch[name];
    if (!buffer) {
      OpBuilder b(module.getContext());
      b.setInsertionPointToEnd(module.getBody());
      buffer = addBuffer(b, name, exec::Role::Scratch, bytes);
    } else if (static_cast<int64_t>(buffer.getBytes()) < bytes) {
      buffer.setBytes(bytes);
    }
    return {name, 0};
  }

  // The place of an op's result; a result that the function returns lies where the runtime looks for it.
  Place define(Value value) {
    if (auto known = places.find(value); known != places.end())
      return known->second;
    auto type = cast<RankedTensorType>(value.getType());
    int64_t count = type.isDynamicDim(0) ? rows : type.getDimSize(0);
    int64_t row = type.getRank() == 1 ? 1 : paddedRow(type.getShape().back());
    if (type.getRank() == 3)
      count *= type.getDimSize(1);
    return places[value] = newScratch(count * row * type.getElementTypeBitWidth() / 8);
  }
  Place weight(FlatSymbolRefAttr name) { return {"weights", weights.at(name.getValue().str()).offset}; }
  // What a sequence has for itself; of several sequences the table of them. The step's is behind how many there are.
  Place own(const std::string &buffer) {
    if (!sequences)
      return {buffer, 0};
    return {"batch", buffer == "step" ? 0 : tables.at(buffer)};
  }
  Place state(FlatSymbolRefAttr name) {
    const std::string buffer = (name.getValue() + ".cache").str();
    return hasSequences && !tables.contains(buffer) ? Place{buffer, 0} : own(buffer);
  }

  // Kernels and launches.

  DictionaryAttr describe(const LaunchChoice &choice) {
    Builder b(module.getContext());
    return b.getDictionaryAttr({b.getNamedAttr("tiles", b.getI64IntegerAttr(choice.tiles)),
                                b.getNamedAttr("token_tiles", b.getI64IntegerAttr(choice.tokenTiles)),
                                b.getNamedAttr("waves", b.getI64IntegerAttr(choice.waves)),
                                b.getNamedAttr("unroll", b.getI64IntegerAttr(choice.unroll)),
                                b.getNamedAttr("bytes_in_flight", b.getI64IntegerAttr(choice.bytesInFlight)),
                                b.getNamedAttr("modelled_seconds", b.getF64FloatAttr(choice.seconds))});
  }
  // Why the kernel is laid over the chip as it is: exec::kLaunchShape.
  DictionaryAttr describe(const LaunchShape &shape) {
    Builder b(module.getContext());
    SmallVector<NamedAttribute> facts{b.getNamedAttr("bound", b.getStringAttr(shape.bound))};
    if (shape.decision) {
      facts.push_back(b.getNamedAttr("chosen", describe(shape.decision->chosen)));
      facts.push_back(b.getNamedAttr("considered", b.getI64IntegerAttr(shape.decision->considered)));
      if (shape.decision->runnerUp)
        facts.push_back(b.getNamedAttr("runner_up", describe(*shape.decision->runnerUp)));
    }
    return b.getDictionaryAttr(facts);
  }

  using Emit = llvm::function_ref<LaunchShape(llvm::StringRef name)>;
  // `tokens` is how many rows the kernel works on, or dynamic where it is those of the chunk.
  void launch(Operation *op, const std::string &kernel, int64_t tokens, ArrayRef<Place> arguments, Emit emit) {
    auto [entry, isNew] = cache.try_emplace(kernel);
    if (isNew) {
      entry->second = emit(kernel);
      kernels.lookupSymbol(kernel)->setAttr(exec::kLaunchShape, describe(entry->second));
    }
    LaunchShape shape = entry->second;
    if (!ShapedType::isDynamic(tokens) && shape.tokensPerWorkgroup) { // however many the chunk has
      shape.y = static_cast<unsigned>(llvm::divideCeil(tokens, shape.tokensPerWorkgroup));
      shape.tokensPerWorkgroup = 0;
    }
    SmallVector<Attribute> buffers;
    SmallVector<int64_t> offsets;
    for (const Place &place : arguments) {
      buffers.push_back(FlatSymbolRefAttr::get(module.getContext(), place.buffer));
      offsets.push_back(place.offset);
    }
    OpBuilder b = OpBuilder::atBlockEnd(&program.getBody().front());
    auto symbol = SymbolRefAttr::get(b.getContext(), "kernels", {FlatSymbolRefAttr::get(b.getContext(), kernel)});
    exec::LaunchOp::create(b, op->getLoc(), symbol, b.getDenseI64ArrayAttr({shape.x, shape.y, shape.z}),
                           shape.tokensPerWorkgroup ? b.getI64IntegerAttr(shape.tokensPerWorkgroup) : IntegerAttr(),
                           b.getI64IntegerAttr(shape.workgroupSize), b.getArrayAttr(buffers),
                           b.getDenseI64ArrayAttr(offsets), b.getStringAttr(llm::labelOf(op)));
    ++launchCount;
  }

  LogicalResult selectFunction(func::FuncOp f, exec::TargetOp targetOp) {
    function = f;
    sequences = llm::sequencesOf(f) > 0;
    scratchCount = 0;
    places.clear();
    groups.clear();
    OpBuilder b = OpBuilder::atBlockEnd(&targetOp.getBody().front());
    program = exec::ProgramOp::create(b, f.getLoc(), f.getSymName(), 0);
    for (BlockArgument argument : f.getArguments()) {
      auto type = cast<RankedTensorType>(argument.getType());
      places[argument] = type.getElementType().isF32() ? Place{sequences ? "batch_logits" : "logits"} : own("tokens");
    }
    auto *terminator = f.getBody().front().getTerminator();
    for (Value result : terminator->getOperands())
      places[result] = Place{sequences ? "batch_logits" : dim(result, 0) == 1 ? "logits" : "all_logits"};
    int64_t bytes = 0; // an op that runs again reads its weights again
    for (Operation &op : f.getBody().front().without_terminator()) {
      if (failed(selectOp(&op)))
        return failure();
      llvm::SmallPtrSet<Attribute, 8> counted; // a launch reads what several of its parts name once
      op.walk([&](Operation *inner) {
        auto linear = dyn_cast<llm::LinearOp>(inner);
        // Each of a few tokens may go to experts of its own; of a chunk, one token counts.
        int64_t chosen = linear && linear.getExperts() ? widthOf(linear.getExperts()) : 0;
        if (chosen && fewTokens(linear.getExperts()))
          chosen = std::min(chosen * dim(linear.getExperts(), 0), static_cast<int64_t>(expertsOf(linear)));
        for (NamedAttribute attribute : inner->getAttrs())
          attribute.getValue().walk([&](FlatSymbolRefAttr symbol) {
            auto place = weights.find(symbol.getValue().str());
            if (place == weights.end() || !counted.insert(symbol).second)
              return;
            const WeightPlace &of = place->second;
            bytes += of.rowBytes ? of.rowBytes : of.expertBytes ? of.expertBytes * chosen : of.bytes;
          });
      });
    }
    program.setWeightBytes(bytes);
    return success();
  }

  LogicalResult selectOp(Operation *op) {
    if (sequences &&
        (isa<llm::LastTokenOp, llm::AcceptOp, llm::DraftOp, llm::AdvanceBestOp>(op) || op->hasAttr("peek")))
      return op->emitOpError("has no kernel for several sequences");
    return llvm::TypeSwitch<Operation *, LogicalResult>(op)
        .Case<llm::EmbedOp, llm::RmsNormOp, llm::RmsNormQuantizeOp, llm::QuantizeOp, llm::LinearOp, llm::RopeOp,
              llm::AppendOp, llm::HeadsOp, llm::AttentionOp, llm::GatedMulOp, llm::AddOp, llm::SoftcapOp,
              llm::ColumnsOp, llm::LastTokenOp, llm::ArgmaxOp, llm::SampleOp, llm::AdvanceOp, llm::AdvanceBestOp,
              llm::GatherColumnsOp, llm::RouteOp, llm::CombineOp, llm::ShortConvOp, llm::DeltaRuleOp, llm::ConcatOp,
              llm::DelayOp, llm::AcceptOp, llm::DraftOp>([&](auto typed) { return select(typed); })
        .Default([](Operation *other) { return other->emitOpError("has no kernel"); });
  }

  LogicalResult select(llm::EmbedOp op) {
    int64_t hidden = widthOf(op.getResult()),
            vocabulary = llm::lookupWeight(op, op.getTableAttr()).getTensorType().getDimSize(0);
    double scale = op.getScale().convertToFloat();
    Element out = elementOf(op.getResult());
    std::string name = llvm::formatv("embed_{0}x{1}{2}", vocabulary, hidden, suffix(out)).str();
    if (scale != 1)
      name += bitsOf(scale);
    name += sequencesSuffix(sequences);
    launch(op, name, dim(op.getResult(), 0),
           {own("step"), define(op.getTokens()), weight(op.getTableAttr()), define(op.getResult())},
           [&](llvm::StringRef n) {
             return emitEmbed(kernels, *target, n,
                              {.vocabulary = static_cast<uint64_t>(vocabulary),
                               .hidden = static_cast<uint64_t>(hidden),
                               .out = out,
                               .scale = scale,
                               .sequences = sequences});
           });
    return success();
  }

  void selectNorm(Operation *op, NormConfig config, ArrayRef<Place> arguments) {
    std::string name = config.norm ? "rms_norm" : "quantize";
    if (config.norm && config.quantize)
      name += "_quantize";
    name += "_" + std::to_string(config.columns) + suffix(config.x);
    if (!config.quantize && config.out == Element::F32)
      name += "_to_f32";
    if (config.rows)
      name += "_rows";
    name += slotsSuffix(config.slots);
    if (config.norm) // eps is baked in, so it is part of the name: by its bits
      name += bitsOf(config.epsilon);
    launch(op, name, dim(op->getOperand(0), 0), arguments,
           [&](llvm::StringRef n) { return emitNorm(kernels, *target, n, config); });
  }

  LogicalResult select(llm::RmsNormOp op) {
    if (op.getHeads())
      return selectHeadNorm(op);
    selectNorm(op,
               {.columns = static_cast<uint64_t>(widthOf(op.getX())),
                .x = elementOf(op.getX()),
                .norm = true,
                .quantize = false,
                .epsilon = op.getEps().convertToFloat(),
                .out = elementOf(op.getResult())},
               {define(op.getX()), weight(op.getWeightAttr()), define(op.getResult())});
    return success();
  }
  LogicalResult selectHeadNorm(llm::RmsNormOp op) {
    if (std::string why = whyNotHead(op); !why.empty())
      return op.emitOpError() << "has no kernel: " << why;
    HeadNormConfig config{.heads = static_cast<uint64_t>(*op.getHeads()),
                          .headDim = static_cast<uint64_t>(llm::headDimOf(op)),
                          .x = elementOf(op.getX()),
                          .out = elementOf(op.getResult()),
                          .epsilon = op.getEps().convertToFloat()};
    launch(op,
           llvm::formatv("head_norm_{0}x{1}{2}_to{3}_{4}", config.heads, config.headDim, suffix(config.x),
                         config.out == Element::F32 ? "_f32" : "_bf16",
                         llvm::utohexstr(llvm::bit_cast<uint32_t>(static_cast<float>(config.epsilon))))
               .str(),
           dim(op.getX(), 0), {define(op.getX()), weight(op.getWeightAttr()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitHeadNorm(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::RmsNormQuantizeOp op) {
    SmallVector<Place> arguments{define(op.getX()), weight(op.getWeightAttr()), define(op.getValues()),
                                 define(op.getScales())};
    if (op.getRows())
      arguments.push_back(define(op.getRows()));
    selectNorm(op,
               {.columns = static_cast<uint64_t>(widthOf(op.getX())),
                .x = elementOf(op.getX()),
                .norm = true,
                .quantize = true,
                .epsilon = op.getEps().convertToFloat(),
                .rows = static_cast<bool>(op.getRows())},
               arguments);
    return success();
  }
  LogicalResult select(llm::QuantizeOp op) {
    selectNorm(op,
               {.columns = static_cast<uint64_t>(widthOf(op.getX())),
                .x = elementOf(op.getX()),
                .norm = false,
                .quantize = true,
                .slots = slotsOf(op.getX())},
               {define(op.getX()), define(op.getValues()), define(op.getScales())});
    return success();
  }

  LogicalResult select(llm::LinearOp op) {
    using Kind = LinearArgument::Kind;
    LinearConfig config = linearConfig(op);
    if (std::string why = whyNoLinear(config); !why.empty())
      return op.emitOpError() << "has an epilogue that no kernel has: " << why;
    if (integerDots(config.scheme) != (op.getScales() || op.getQuantized()))
      return op.emitOpError("mixes an activation and a weight of different schemes: run insert-quantize first");
    if ((weights.at(op.getPartWeight(0).getValue().str()).order != 0) != op.getGathered())
      return op.emitOpError("has columns in another order than its weight: run insert-gather first");
    bool decode = fewTokens(op.getX());
    if (!decode && combinesExperts(config))
      return op.emitOpError(
          "combines the experts of many tokens, which no kernel does: an llm.combine of its own does");
    if (dim(op.getX(), 0) != 1 && ((movesState(config) && !sequences) || config.experts.shared))
      return op.emitOpError() << (movesState(config) ? "convolves" : "has a shared expert for")
                              << " many tokens, which no kernel does: an op of its own does";
    if ((op.getQuantized() || op.getNorm()) && (dim(op.getX(), 0) != 1 || prologueBytes(config) > kPrologueBytes))
      return op.emitOpError() << (op.getNorm() ? "normalises " : "quantises ") << op.getX().getType()
                              << ", and kernels do that only to one row of at most " << kPrologueBytes
                              << " bytes: an op of its own takes any";
    SmallVector<Place> arguments;
    for (const LinearArgument &argument : linearArguments(config, decode)) {
      switch (argument.kind) {
      case Kind::X:
        arguments.push_back(define(op.getX()));
        break;
      case Kind::XScales:
        arguments.push_back(define(op.getScales()));
        break;
      case Kind::Experts:
        arguments.push_back(define(op.getExperts()));
        break;
      case Kind::Groups: {
        auto group = groups.find(op.getExperts());
        if (group == groups.end())
          return op.emitOpError("has no kernel for many tokens: expected the experts to be chosen by an llm.route");
        arguments.push_back(group->second);
        break;
      }
      case Kind::Weight:
        arguments.push_back(weight(op.getPartWeight(argument.index)));
        break;
      case Kind::Shared:
        arguments.push_back(weight(cast<FlatSymbolRefAttr>((*op.getShared())[argument.index])));
        break;
      case Kind::Bias:
        arguments.push_back(weight(op.getPartBias(argument.index)));
        break;
      case Kind::Result:
        arguments.push_back(define(op.getResult(argument.index)));
        break;
      default:
        arguments.push_back(regionPlace(argument));
        break;
      }
    }
    launch(op, linearName(config, decode), dim(op.getX(), 0), arguments, [&](llvm::StringRef n) {
      return decode ? emitLinearDecode(kernels, *target, n, config) : emitLinearPrefill(kernels, *target, n, config);
    });
    return success();
  }

  // Of many tokens, also their rows in the order of experts: whoever multiplies them needs it.
  LogicalResult select(llm::RouteOp op) {
    RouteConfig config{.experts = static_cast<uint64_t>(widthOf(op.getLogits())),
                       .top = static_cast<uint64_t>(op.getTop()),
                       .normalize = op.getNormalize(),
                       .shared = static_cast<bool>(op.getShared()),
                       .scaled = op.getFactors().has_value()};
    const int64_t tokens = dim(op.getLogits(), 0);
    SmallVector<Place> arguments{define(op.getLogits())};
    if (op.getShared())
      arguments.push_back(define(op.getShared()));
    if (config.scaled)
      arguments.push_back(weight(op.getFactorsAttr()));
    arguments.append({define(op.getWeights()), define(op.getIndices())});
    launch(op,
           llvm::formatv("route_{0}of{1}{2}{3}{4}", config.top, config.experts, config.normalize ? "_normalize" : "",
                         config.scaled ? "_scaled" : "", config.shared ? "_shared" : "")
               .str(),
           tokens, arguments, [&](llvm::StringRef n) { return emitRoute(kernels, *target, n, config); });
    if (!groupsRows(op))
      return success();
    LinearExperts experts{
        .count = config.experts, .slots = config.top, .ownRows = false, .chunkRows = static_cast<uint64_t>(rows)};
    Place place = newScratch(static_cast<int64_t>(groupBytes(experts.count, experts.slots, experts.chunkRows)));
    groups[op.getIndices()] = place;
    launch(op, llvm::formatv("group_{0}of{1}", experts.slots, experts.count).str(), tokens,
           {own("step"), define(op.getIndices()), place},
           [&](llvm::StringRef n) { return emitGroup(kernels, *target, n, experts); });
    return success();
  }

  LogicalResult select(llm::CombineOp op) {
    CombineConfig config{.slots = slotsOf(op.getX()),
                         .columns = static_cast<uint64_t>(widthOf(op.getX())),
                         .x = elementOf(op.getX()),
                         .out = elementOf(op.getResult())};
    launch(op,
           llvm::formatv("combine_{0}x{1}{2}_to{3}", config.slots, config.columns, suffix(config.x),
                         config.out == Element::F32 ? "_f32" : "_bf16")
               .str(),
           dim(op.getX(), 0), {define(op.getX()), define(op.getWeights()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitCombine(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::GatherColumnsOp op) {
    auto columns = static_cast<uint64_t>(widthOf(op.getX()));
    Place order = weight(op.getWeightAttr());
    order.offset += weights.at(op.getWeight().str()).order;
    launch(op, "gather_columns_" + std::to_string(columns), dim(op.getX(), 0),
           {define(op.getX()), order, define(op.getResult())},
           [&](llvm::StringRef n) { return emitGatherColumns(kernels, *target, n, columns); });
    return success();
  }

  // The place of what a region reads and writes, whichever op has it.
  Place regionPlace(const LinearArgument &argument) {
    switch (argument.kind) {
    case LinearArgument::Kind::Capture:
      return define(argument.value);
    case LinearArgument::Kind::Vector:
      return weight(argument.symbol);
    case LinearArgument::Kind::Cache:
    case LinearArgument::Kind::State:
      return state(argument.symbol);
    default:
      return own("step");
    }
  }

  LogicalResult select(llm::HeadsOp op) {
    HeadsConfig config{.headDim = static_cast<uint64_t>(llm::headDimOf(&op.getBody().front().front())),
                       .body = &op.getBody(),
                       .results = {},
                       .sequences = sequences};
    std::string name = "heads_" + std::to_string(config.headDim);
    for (Operation &inner : op.getBody().front().without_terminator()) {
      if (std::string why = whyNotHead(&inner); !why.empty())
        return op.emitOpError() << "has a body that no kernel has: " << why;
      name += "_" + shortName(&inner);
    }
    name += sequencesSuffix(sequences);
    for (Value result : op.getResults())
      config.results.push_back({.columns = static_cast<uint64_t>(widthOf(result)),
                                .output = elementOf(result) == Element::Bf16 ? LinearOutput::Bf16 : LinearOutput::F32});
    SmallVector<Place> arguments;
    for (const LinearArgument &argument : headsArguments(config)) {
      if (argument.kind == LinearArgument::Kind::X)
        arguments.push_back(define(op.getInputs()[argument.index]));
      else if (argument.kind == LinearArgument::Kind::Result)
        arguments.push_back(define(op.getResult(argument.index)));
      else
        arguments.push_back(regionPlace(argument));
    }
    launch(op, distinguish(name, op.getBody()), dim(op.getInputs().front(), 0), arguments,
           [&](llvm::StringRef n) { return emitHeads(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::RopeOp op) {
    RopeConfig config{.heads = static_cast<uint64_t>(op.getHeads()),
                      .headDim = static_cast<uint64_t>(op.getHeadDim()),
                      .rotary = static_cast<uint64_t>(op.getRotated()),
                      .x = elementOf(op.getX()),
                      .scale = RotationScale::of(op),
                      .sequences = sequences};
    std::string scale;
    if (config.scale.magnitude != 1)
      scale += "_magnitude" + llvm::utohexstr(llvm::bit_cast<uint32_t>(config.scale.magnitude));
    if (config.scale.temperature != 0)
      scale += llvm::formatv("_temperature{0}_{1}", llvm::utohexstr(llvm::bit_cast<uint32_t>(config.scale.temperature)),
                             config.scale.every);
    scale += sequencesSuffix(sequences);
    launch(op,
           llvm::formatv("rope_{0}x{1}_{2}{3}{4}", config.heads, config.headDim, config.rotary, suffix(config.x), scale)
               .str(),
           dim(op.getX(), 0), {own("step"), define(op.getX()), weight(op.getInvFreqAttr()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitRope(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::AppendOp op) {
    AppendConfig config{.kvHeads = static_cast<uint64_t>(op.getKvHeads()),
                        .headDim = static_cast<uint64_t>(op.getHeadDim()),
                        .ring = ringOf(op, op.getKStateAttr()),
                        .element = cacheElementOf(llm::lookupState(op, op.getKStateAttr())),
                        .sequences = sequences};
    if (std::string why = whyNotHead(op); config.element != CacheElement::Bf16 && !why.empty())
      return op.emitOpError() << "has no kernel for a cache of codes: " << why;
    launch(op,
           llvm::formatv("append_{0}x{1}{2}{3}{4}", config.kvHeads, config.headDim, ringSuffix(config.ring),
                         elementSuffix(config.element), sequencesSuffix(sequences))
               .str(),
           dim(op.getK(), 0),
           {own("step"), define(op.getK()), define(op.getV()), state(op.getKStateAttr()), state(op.getVStateAttr())},
           [&](llvm::StringRef n) { return emitAppend(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::AttentionOp op) {
    AttentionConfig config{.heads = static_cast<uint64_t>(op.getHeads()),
                           .kvHeads = static_cast<uint64_t>(op.getKvHeads()),
                           .headDim = static_cast<uint64_t>(op.getHeadDim()),
                           .scale = op.getScale().convertToFloat(),
                           .window = static_cast<uint64_t>(op.getWindow().value_or(0)),
                           .ring = ringOf(op, op.getKStateAttr()),
                           .first = static_cast<uint64_t>(op.getFirst().value_or(0)),
                           .element = cacheElementOf(llm::lookupState(op, op.getKStateAttr())),
                           .sequences = sequences};
    if (config.headDim > uint64_t{kWidestHead})
      return op.emitOpError() << "has no kernel for heads of " << config.headDim << ": expected at most "
                              << kWidestHead;
    if (fewTokens(op.getQ()))
      config.tokens = static_cast<uint64_t>(dim(op.getQ(), 0));
    std::string shape =
        llvm::formatv("{0}_{1}x{2}_{3}{4}", config.heads, config.kvHeads, config.headDim,
                      llvm::utohexstr(llvm::bit_cast<uint32_t>(static_cast<float>(config.scale))),
                      (config.window ? "_window" + std::to_string(config.window) : "") + ringSuffix(config.ring) +
                          (config.first ? "_first" + std::to_string(config.first) : "") +
                          elementSuffix(config.element) + sequencesSuffix(sequences));
    Place q = define(op.getQ()), k = state(op.getKStateAttr()), v = state(op.getVStateAttr()),
          out = define(op.getResult());
    if (!fewTokens(op.getQ())) {
      SmallVector<Place> arguments{own("step"), q, k, v, out};
      // What a window leaves is too little to split.
      if (config.window == 0 && facts.contextLength >= 16 * kSplitBlocks) {
        config.split = attentionSplit(*target, config);
        shape += "_split" + std::to_string(config.split);
        arguments.push_back(
            newScratch(static_cast<int64_t>(kSplitTokens * config.heads * config.split * (config.headDim + 2) * 4)));
      }
      launch(op, "attention_prefill_" + shape, ShapedType::kDynamic, arguments,
             [&](llvm::StringRef n) { return emitAttentionPrefill(kernels, *target, n, config); });
      if (config.split > 0)
        launch(op, "attention_combine_" + shape, ShapedType::kDynamic, {own("step"), arguments.back(), out},
               [&](llvm::StringRef n) { return emitAttentionCombine(kernels, *target, n, config); });
      return success();
    }
    Place partials =
        newScratch(config.tokens * config.heads * attentionUnits(*target, config) * (config.headDim + 2) * 4);
    const auto tokens = static_cast<int64_t>(config.tokens);
    launch(op, "attention_" + shape + (config.tokens > 1 ? "_tokens" : ""), tokens, {own("step"), q, k, v, partials},
           [&](llvm::StringRef n) { return emitAttentionDecode(kernels, *target, n, config); });
    launch(op, "attention_combine_" + shape, tokens, {own("step"), partials, out},
           [&](llvm::StringRef n) { return emitAttentionCombine(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::ShortConvOp op) {
    ShortConvConfig config{
        .channels = static_cast<uint64_t>(dim(op.getX(), 1)),
        .taps = static_cast<uint64_t>(llm::lookupWeight(op, op.getWeightAttr()).getTensorType().getDimSize(1)),
        .peek = op.getPeek() ? static_cast<uint64_t>(dim(op.getX(), 0)) : 0,
        .sequences = sequences};
    launch(
        op,
        llvm::formatv("short_conv_{0}x{1}{2}{3}", config.channels, config.taps, peekSuffix(config.peek),
                      sequencesSuffix(sequences))
            .str(),
        dim(op.getX(), 0),
        {own("step"), define(op.getX()), weight(op.getWeightAttr()), state(op.getStateAttr()), define(op.getResult())},
        [&](llvm::StringRef n) { return emitShortConv(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::DeltaRuleOp op) {
    DeltaConfig config = deltaConfig(op);
    std::string shape =
        llvm::formatv("_{0}x{1}_{2}x{3}", config.keyHeads, config.keyDim, config.valueHeads, config.valueDim).str();
    Place qkv = define(op.getQkv()), memory = state(op.getStateAttr()), out = define(op.getResult());
    SmallVector<Place> arguments{
        own("step"), qkv, define(op.getB()), define(op.getA()), weight(op.getDecayAttr()), weight(op.getDtBiasAttr())};
    if (takesTokenByToken(op)) {
      arguments.push_back(memory);
      std::string name = "delta_rule" + shape + peekSuffix(config.peek) + sequencesSuffix(sequences);
      if (op.hasEpilogue()) {
        if (std::string why = whyNoWholeHead(config); !why.empty())
          return op.emitOpError() << "has an epilogue that no kernel has: " << why;
        for (const LinearArgument &argument : regionArguments(op.getEpilogue()))
          arguments.push_back(regionPlace(argument));
        for (Operation &inner : op.getEpilogue().front().without_terminator())
          name += "_" + shortName(&inner);
        name = distinguish(name, op.getEpilogue());
      }
      arguments.push_back(out);
      launch(op, name, dim(op.getQkv(), 0), arguments,
             [&](llvm::StringRef n) { return emitDeltaRecurrent(kernels, *target, n, config); });
      return success();
    }
    if (op.hasEpilogue())
      return op.emitOpError("has an epilogue for many tokens, which no kernel does: ops of their own do");
    Place prepared = newScratch(rows / kTokenTile * static_cast<int64_t>(deltaPreparedBytes(config)));
    arguments.push_back(prepared);
    launch(op, "delta_prepare" + shape, ShapedType::kDynamic, arguments,
           [&](llvm::StringRef n) { return emitDeltaPrepare(kernels, *target, n, config); });
    launch(op, "delta_chunks" + shape, ShapedType::kDynamic, {own("step"), qkv, prepared, memory, out},
           [&](llvm::StringRef n) { return emitDeltaChunks(kernels, *target, n, config); });
    return success();
  }

  LogicalResult selectElementwise(Operation *op, const ElementwiseConfig &config) {
    std::string name = shortName(op) + "_" + std::to_string(config.columns);
    for (Element element : {config.a, config.b, config.out})
      name += element == Element::F32 ? "_f32" : "_bf16";
    if (config.broadcast)
      name += "_broadcast";
    if (config.scaled)
      name += "_scaled";
    if (config.slots > 1)
      name += slotsSuffix(config.slots);
    SmallVector<Place> arguments{define(op->getOperand(0)), define(op->getOperand(1))};
    if (config.scaled)
      arguments.push_back(weight(cast<llm::AddOp>(op).getFactorAttr()));
    arguments.push_back(define(op->getResult(0)));
    launch(op, name, dim(op->getResult(0), 0), arguments,
           [&](llvm::StringRef n) { return emitElementwise(kernels, *target, n, config); });
    return success();
  }
  LogicalResult select(llm::GatedMulOp op) {
    return selectElementwise(op, {.op = elementwiseOf(op.getFunction()),
                                  .columns = static_cast<uint64_t>(widthOf(op.getResult())),
                                  .a = elementOf(op.getGate()),
                                  .b = elementOf(op.getUp()),
                                  .out = elementOf(op.getResult()),
                                  .broadcast = op.isBroadcast(),
                                  .slots = std::max<uint64_t>(slotsOf(op.getResult()), 1)});
  }
  LogicalResult select(llm::AddOp op) {
    Element element = elementOf(op.getResult());
    return selectElementwise(op, {.op = Elementwise::Add,
                                  .columns = static_cast<uint64_t>(widthOf(op.getResult())),
                                  .a = element,
                                  .b = element,
                                  .out = element,
                                  .scaled = op.getFactor().has_value()});
  }
  LogicalResult select(llm::ColumnsOp op) {
    ColumnsConfig config{.width = static_cast<uint64_t>(widthOf(op.getX())),
                         .from = static_cast<uint64_t>(op.getFrom()),
                         .columns = static_cast<uint64_t>(widthOf(op.getResult())),
                         .x = elementOf(op.getX()),
                         .out = elementOf(op.getResult())};
    launch(op,
           llvm::formatv("columns_{0}from{1}of{2}{3}{4}", config.columns, config.from, config.width, suffix(config.x),
                         config.out == Element::F32 ? "_to_f32" : "_to_bf16")
               .str(),
           dim(op.getX(), 0), {define(op.getX()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitColumns(kernels, *target, n, config); });
    return success();
  }
  LogicalResult select(llm::SoftcapOp op) {
    SoftcapConfig config{.columns = static_cast<uint64_t>(widthOf(op.getResult())),
                         .cap = op.getCap().convertToFloat(),
                         .logits = returned(op.getResult())};
    launch(op,
           llvm::formatv("softcap_{0}_{1}{2}", config.columns,
                         llvm::utohexstr(llvm::bit_cast<uint32_t>(static_cast<float>(config.cap))),
                         config.logits ? "_logits" : "")
               .str(),
           dim(op.getResult(), 0), {define(op.getX()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitSoftcap(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::LastTokenOp op) {
    int64_t columns = widthOf(op.getX());
    Element element = elementOf(op.getX());
    launch(op, "last_token_" + std::to_string(columns) + suffix(element), 1,
           {own("step"), define(op.getX()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitLastToken(kernels, *target, n, element, columns); });
    return success();
  }

  template <typename Op> static LogicalResult refuseManyRows(Op op) {
    return op.emitOpError() << "chooses for " << op.getLogits().getType() << ", and kernels do that for few rows";
  }
  LogicalResult select(llm::ArgmaxOp op) {
    int64_t vocabulary = widthOf(op.getLogits()), rows = dim(op.getLogits(), 0);
    if (!fewTokens(op.getLogits()))
      return refuseManyRows(op);
    Place partials = newScratch(rows * kArgmaxWorkgroups * 8);
    launch(op, "argmax_" + std::to_string(vocabulary), rows, {define(op.getLogits()), partials},
           [&](llvm::StringRef n) { return emitArgmaxPartial(kernels, *target, n, vocabulary); });
    launch(op, "argmax_final", rows, {partials, define(op.getToken())},
           [&](llvm::StringRef n) { return emitArgmaxFinal(kernels, *target, n); });
    return success();
  }
  LogicalResult select(llm::SampleOp op) {
    int64_t vocabulary = widthOf(op.getLogits()), rows = dim(op.getLogits(), 0);
    if (!fewTokens(op.getLogits()))
      return refuseManyRows(op);
    if (!op.getLogits().hasOneUse())
      return op.emitOpError("chooses from logits that something else reads, and its kernel writes over what a mask "
                            "leaves out");
    launch(op, "sample_" + std::to_string(vocabulary) + sequencesSuffix(sequences), rows,
           {own("step"), own("mask"), define(op.getLogits()), define(op.getToken())},
           [&](llvm::StringRef n) { return emitSample(kernels, *target, n, vocabulary, sequences); });
    return success();
  }
  LogicalResult select(llm::AdvanceOp op) {
    launch(op, "advance" + sequencesSuffix(sequences), dim(op.getToken(), 0),
           {own("step"), define(op.getToken()), own("tokens"), own("output")},
           [&](llvm::StringRef n) { return emitAdvance(kernels, *target, n, sequences); });
    return success();
  }

  LogicalResult select(llm::ConcatOp op) {
    ConcatConfig config{.a = static_cast<uint64_t>(widthOf(op.getA())), .b = static_cast<uint64_t>(widthOf(op.getB()))};
    launch(op, llvm::formatv("concat_{0}_{1}", config.a, config.b).str(), dim(op.getResult(), 0),
           {define(op.getA()), define(op.getB()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitConcat(kernels, *target, n, config); });
    return success();
  }
  LogicalResult select(llm::DelayOp op) {
    auto columns = static_cast<uint64_t>(widthOf(op.getX()));
    launch(op, "delay_" + std::to_string(columns) + sequencesSuffix(sequences), dim(op.getX(), 0),
           {own("step"), define(op.getX()), state(op.getStateAttr()), define(op.getResult())},
           [&](llvm::StringRef n) { return emitDelay(kernels, *target, n, columns, sequences); });
    return success();
  }
  LogicalResult select(llm::AcceptOp op) {
    AcceptConfig config{.tokens = static_cast<uint64_t>(dim(op.getTokens(), 0)), .ends = op.getEnds()};
    std::string name = "accept_" + std::to_string(config.tokens);
    for (int64_t end : config.ends)
      name += "_" + std::to_string(end);
    launch(op, name, 1,
           {own("step"), define(op.getBest()), define(op.getTokens()), own("output"), define(op.getNext())},
           [&](llvm::StringRef n) { return emitAccept(kernels, *target, n, config); });
    return success();
  }
  LogicalResult select(llm::DraftOp op) {
    DraftConfig config{.index = op.getIndex(), .move = op.getMove()};
    launch(op, llvm::formatv("draft_{0}of{1}", config.index, op.getCount()).str(), 1,
           {own("step"), define(op.getToken()), own("tokens")},
           [&](llvm::StringRef n) { return emitDraft(kernels, *target, n, config); });
    return success();
  }

  LogicalResult select(llm::AdvanceBestOp op) {
    int64_t candidates = dim(op.getValues(), 1);
    launch(op, "advance_best_" + std::to_string(candidates), 1,
           {own("step"), define(op.getValues()), define(op.getColumns()), own("tokens"), own("output")},
           [&](llvm::StringRef n) { return emitAdvanceBest(kernels, *target, n, candidates); });
    return success();
  }

  ModuleOp module;
  MutableArrayRef<const TargetInfo *> targets;
  llm::Facts facts;
  std::map<std::string, WeightPlace> weights;
  int64_t weightBytes = 0, rows = 0;

  const TargetInfo *target = nullptr;
  gpu::GPUModuleOp kernels;
  std::map<std::string, LaunchShape> cache;
  std::map<std::string, std::vector<std::string>> regions; // by the name of a kernel: what tells namesakes apart

  bool hasSequences = false; // whether there are functions of several sequences
  int64_t batchBytes = offsetof(Batch, steps);
  std::map<std::string, int64_t> tables; // in @batch, by buffer

  func::FuncOp function;
  bool sequences = false; // whether the function is one
  exec::ProgramOp program;
  unsigned scratchCount = 0;
  std::map<std::string, exec::BufferOp> scratch; // by name
  llvm::DenseMap<Value, Place> places;
  llvm::DenseMap<Value, Place> groups; // by the indices of an llm.route
};

struct SelectPass : impl::SelectBase<SelectPass> {
  using SelectBase::SelectBase;
  void runOnOperation() override {
    SmallVector<const TargetInfo *> chosen;
    for (const std::string &name : targets) {
      auto target = findTarget(name);
      if (!target.ok()) {
        getOperation().emitError() << std::string(target.status().message());
        return signalPassFailure();
      }
      chosen.push_back(*target);
    }
    if (chosen.empty()) {
      getOperation().emitError("select needs at least one target");
      return signalPassFailure();
    }
    Selection selection(getOperation(), chosen);
    if (failed(selection.run()))
      return signalPassFailure();
    remarkFigure("select", getOperation(), "launches in all programs", selection.launchCount);
    remarkFigure("select", getOperation(), "kernels", selection.kernelCount);
  }
};

} // namespace

unsigned launchesOf(Operation *op) {
  if (auto attention = dyn_cast<llm::AttentionOp>(op))
    return fewTokens(attention.getQ()) ? 2 : 1; // of few tokens: partial softmaxes, then their combination
  if (auto route = dyn_cast<llm::RouteOp>(op))
    return groupsRows(route) ? 2 : 1;
  if (auto rule = dyn_cast<llm::DeltaRuleOp>(op))
    return takesTokenByToken(rule) ? 1 : 2; // what each chunk needs, then one chunk after the other
  return isa<llm::ArgmaxOp>(op) ? 2 : 1;
}

} // namespace ingot
