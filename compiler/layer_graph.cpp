#include "compiler/layer_graph.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "codegen/kernels/kernels.h"
#include "dialects/Exec.h"
#include "dialects/Llm.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "passes/Passes.h"

using namespace mlir;

namespace ingot {

std::string bytesInWords(uint64_t bytes) {
  constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB"};
  double value = static_cast<double>(bytes);
  unsigned unit = 0;
  while (value >= 1024 && unit < 3) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string LayerBox::key() const {
  std::string key = absl::StrCat(kind, "|", title, "|", name);
  for (const std::string &detail : details)
    absl::StrAppend(&key, "|", detail);
  absl::StrAppend(&key, "|", result);
  for (const LayerBox &part : parts.boxes)
    absl::StrAppend(&key, "(", part.key(), ")");
  return key;
}

namespace {

std::string prefixOf(int64_t layer) { return absl::StrCat("layers.", layer, "."); }

// The label past "layers.3.", or nothing where it is not of that layer.
std::optional<std::string> nameInLayer(llvm::StringRef label, const std::string &prefix) {
  size_t at = label.find(prefix);
  if (at == llvm::StringRef::npos || (at > 0 && label[at - 1] != '.'))
    return std::nullopt;
  return label.substr(at + prefix.size()).str();
}

std::string inWords(llvm::StringRef kind) {
  std::string words = kind.str();
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

std::string elementName(Type type) {
  std::string name;
  llvm::raw_string_ostream(name) << cast<RankedTensorType>(type).getElementType();
  return name;
}

int64_t widthOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape().back(); }

// Of one token, as stored.
uint64_t bytesOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  uint64_t count = type.getRank() == 1 ? 1 : paddedRow(static_cast<uint64_t>(type.getShape().back()));
  if (type.getRank() == 3)
    count *= static_cast<uint64_t>(type.getDimSize(1));
  return count * type.getElementTypeBitWidth() / 8;
}

std::string lastWord(llvm::StringRef symbol) {
  symbol.consume_back(".weight");
  return symbol.rsplit('.').second.empty() ? symbol.str() : symbol.rsplit('.').second.str();
}

// What an op's results are: "4096 bf16".
std::string resultsOf(Operation *op) {
  std::string text;
  for (Value result : op->getResults())
    absl::StrAppend(&text, text.empty() ? "" : " + ", widthOf(result), " ", elementName(result.getType()));
  return text;
}

// The ops of a function's layer.
class OpReader {
public:
  OpReader(LayerState &state, int64_t layer) : graph(state.graph), state(state), prefix(prefixOf(layer)) {}

  void read(func::FuncOp function) {
    for (Operation &op : function.getBody().front().without_terminator()) {
      state.launchesOfProgram += launchesOf(&op);
      if (auto name = nameInLayer(llm::labelOf(&op), prefix))
        add(&op, *name);
    }
    addOutputs();
  }

private:
  void add(Operation *op, const std::string &name) {
    // What it reads, itself or in its region, from outside of it; each value once, in order.
    llvm::SetVector<Value> operands;
    op->walk<WalkOrder::PreOrder>([&](Operation *inner) {
      for (Value operand : inner->getOperands())
        if (operand.getDefiningOp() ? !op->isAncestor(operand.getDefiningOp())
                                    : operand.getParentRegion() == op->getParentRegion())
          operands.insert(operand);
    });
    for (Value operand : operands)
      if (!source.contains(operand))
        addInput(operand);

    unsigned index = graph.boxes.size();
    graph.boxes.push_back(boxOf(op, name));
    for (Value operand : operands)
      graph.arrows.push_back({.from = source[operand], .to = index});
    op->walk([&](Operation *inner) {
      if (auto append = dyn_cast<llm::AppendOp>(inner))
        for (FlatSymbolRefAttr written : {append.getKStateAttr(), append.getVStateAttr()})
          writer[written.getAttr()] = index;
      if (auto attention = dyn_cast<llm::AttentionOp>(inner))
        if (auto from = writer.find(attention.getKStateAttr().getAttr()); from != writer.end())
          graph.arrows.push_back({.from = from->second, .to = index, .cache = true});
    });
    for (Value result : op->getResults())
      source[result] = index;
  }

  void addInput(Value value) {
    source[value] = graph.boxes.size();
    Operation *op = value.getDefiningOp();
    graph.boxes.push_back({.kind = "outside",
                           .title = op ? absl::StrCat("from ", llm::labelOf(op)) : "from the caller",
                           .name = {},
                           .details = {},
                           .result = absl::StrCat(widthOf(value), " ", elementName(value.getType())),
                           .weights = {},
                           .parts = {}});
  }

  // What later layers read.
  void addOutputs() {
    unsigned own = graph.boxes.size();
    for (auto &[value, index] : source) {
      if (index >= own || graph.boxes[index].kind == "outside")
        continue;
      Operation *first = nullptr;
      for (Operation *user : value.getUsers()) {
        while (user->getParentOp() && !isa<func::FuncOp>(user->getParentOp()))
          user = user->getParentOp();
        if (!nameInLayer(llm::labelOf(user), prefix) && (!first || user->isBeforeInBlock(first)))
          first = user;
      }
      if (first) {
        graph.arrows.push_back({.from = index, .to = static_cast<unsigned>(graph.boxes.size())});
        graph.boxes.push_back(
            {.kind = "outside",
             .title = isa<func::ReturnOp>(first) ? "to the caller" : absl::StrCat("to ", llm::labelOf(first)),
             .name = {},
             .details = {},
             .weights = {},
             .parts = {}});
      }
    }
  }

  static LayerBox boxOf(Operation *op, const std::string &name) {
    LayerBox box;
    box.kind = op->getName().stripDialect().str();
    box.title = inWords(box.kind);
    box.name = name;
    box.launches = launchesOf(op);
    box.result = resultsOf(op);
    for (Value result : op->getResults())
      box.activationBytes += bytesOf(result);
    op->walk([&](Operation *inner) {
      for (NamedAttribute attribute : inner->getAttrs())
        attribute.getValue().walk([&](FlatSymbolRefAttr symbol) {
          if (llm::lookupWeight(op, symbol))
            box.weights.push_back(symbol.getValue().str());
        });
      if (auto append = dyn_cast<llm::AppendOp>(inner))
        for (FlatSymbolRefAttr written : {append.getKStateAttr(), append.getVStateAttr()})
          box.cacheBytes += cacheBytes(llm::lookupState(op, written));
    });
    if (auto linear = dyn_cast<llm::LinearOp>(op))
      describe(linear, box);
    for (Region &region : op->getRegions())
      addParts(region, box);
    return box;
  }

  static void describe(llm::LinearOp op, LayerBox &box) {
    auto scheme = llm::lookupWeight(op, op.getPartWeight(0)).getScheme();
    std::string of = scheme ? " " + scheme->spelled() : "";
    auto shape = [&](unsigned part) {
      return absl::StrCat(widthOf(op.getX()), " \u2192 ", widthOf(op.getProducts()[part]), of);
    };
    if (op.getPartCount() == 1 && !op.hasEpilogue()) {
      box.details = {shape(0)};
      return;
    }
    for (unsigned part = 0; part < op.getPartCount(); ++part)
      box.parts.boxes.push_back({.kind = "product",
                                 .title = lastWord(op.getPartWeight(part).getValue()),
                                 .name = {},
                                 .details = {shape(part)},
                                 .weights = {},
                                 .parts = {}});
  }

  // The ops of a region. Where boxes are there already they are what the block's arguments stand for.
  static void addParts(Region &region, LayerBox &box) {
    if (region.empty())
      return;
    llvm::DenseMap<Value, unsigned> made;
    for (unsigned part = 0; part < box.parts.boxes.size(); ++part)
      made[region.getArgument(part)] = part;
    for (Operation &inner : region.front().without_terminator()) {
      unsigned index = box.parts.boxes.size();
      std::string kind = inner.getName().stripDialect().str();
      box.parts.boxes.push_back(
          {.kind = kind, .title = inWords(kind), .name = {}, .details = {}, .weights = {}, .parts = {}});
      for (Value operand : inner.getOperands())
        if (auto from = made.find(operand); from != made.end())
          box.parts.arrows.push_back({.from = from->second, .to = index});
      for (Value result : inner.getResults())
        made[result] = index;
    }
  }

  LayerGraph &graph;
  LayerState &state;
  std::string prefix;
  llvm::MapVector<Value, unsigned> source; // the box that makes it
  std::map<StringAttr, unsigned, bool (*)(StringAttr, StringAttr)> writer{
      [](StringAttr a, StringAttr b) { return a.getValue() < b.getValue(); }}; // of a state
};

// The launches of a program's layer.
class LaunchReader {
public:
  LaunchReader(LayerState &state, int64_t layer) : graph(state.graph), state(state), prefix(prefixOf(layer)) {}

  void read(exec::ProgramOp program) {
    target = cast<exec::TargetOp>(program->getParentOp());
    auto module = target->getParentOfType<ModuleOp>();
    for (auto weight : module.getOps<exec::WeightOp>())
      weights[weight.getOffset()] = weight.getSymName();
    for (auto buffer : module.getOps<exec::BufferOp>())
      buffers[buffer.getSymName()] = buffer;
    // All launches, for what comes from other layers and what goes there.
    std::vector<exec::LaunchOp> launches;
    for (auto launch : program.getBody().getOps<exec::LaunchOp>())
      launches.push_back(launch);
    state.launchesOfProgram = launches.size();
    for (exec::LaunchOp launch : launches)
      if (auto name = nameInLayer(launch.getLabel().value_or(""), prefix))
        add(launch, *name);
      else
        pass(launch);
  }

private:
  using Place = std::pair<std::string, int64_t>;

  Place placeOf(exec::LaunchOp launch, unsigned argument) {
    return {cast<FlatSymbolRefAttr>(launch.getBuffers()[argument]).getValue().str(), launch.getOffsets()[argument]};
  }
  exec::BufferOp bufferOf(const Place &place) { return buffers.lookup(place.first); }
  exec::Role roleOf(const Place &place) { return bufferOf(place).getRole(); }

  bool writes(exec::LaunchOp launch, unsigned argument) {
    auto kernel = dyn_cast_or_null<gpu::GPUFuncOp>(SymbolTable::lookupSymbolIn(target, launch.getKernel()));
    return kernel && !kernel.getArgAttr(argument, LLVM::LLVMDialect::getReadonlyAttrName());
  }

  // A launch of another layer: whose results may come in here, or that reads what was made here.
  void pass(exec::LaunchOp launch) {
    for (unsigned i = 0; i < launch.getBuffers().size(); ++i) {
      Place place = placeOf(launch, i);
      if (roleOf(place) != exec::Role::Scratch)
        continue;
      if (writes(launch, i)) {
        made.erase(place);
        outside[place] = launch.getLabel().value_or("").str();
      } else if (auto from = made.find(place); from != made.end()) {
        graph.arrows.push_back({.from = from->second, .to = static_cast<unsigned>(graph.boxes.size())});
        addOutside("to " + launch.getLabel().value_or("").str());
        made.erase(from);
      }
    }
  }

  void addOutside(const std::string &title) {
    graph.boxes.push_back({.kind = "outside", .title = title, .name = {}, .details = {}, .weights = {}, .parts = {}});
  }

  void add(exec::LaunchOp launch, const std::string &name) {
    std::vector<unsigned> from, cached;
    for (unsigned i = 0; i < launch.getBuffers().size(); ++i) {
      Place place = placeOf(launch, i);
      exec::Role role = roleOf(place);
      if (writes(launch, i) || (role != exec::Role::Scratch && role != exec::Role::State))
        continue;
      if (role == exec::Role::Scratch && !made.contains(place)) {
        made[place] = graph.boxes.size();
        addOutside("from " + outside[place]);
      }
      if (auto maker = made.find(place); maker != made.end())
        (role == exec::Role::State ? cached : from).push_back(maker->second);
    }
    LayerBox box;
    llvm::StringRef kernel = launch.getKernel().getLeafReference().getValue();
    box.kind = kindOf(kernel);
    box.title = kernel.str();
    box.name = name;
    box.launches = 1;
    ArrayRef<int64_t> grid = launch.getGrid();
    box.details.push_back(
        absl::StrCat(grid[0], "\u00d7", grid[1], "\u00d7", grid[2], " workgroups of ", launch.getBlock()));
    unsigned index = graph.boxes.size();
    for (unsigned i = 0; i < launch.getBuffers().size(); ++i) {
      Place place = placeOf(launch, i);
      exec::Role role = roleOf(place);
      if (role == exec::Role::Weights && weights.contains(place.second))
        box.weights.push_back(weights[place.second].str());
      if (role == exec::Role::Scratch)
        state.scratch.push_back({.box = index,
                                 .buffer = place.first,
                                 .offset = place.second,
                                 .bytes = static_cast<uint64_t>(bufferOf(place).getBytes())});
      if (!writes(launch, i) || (role != exec::Role::Scratch && role != exec::Role::State))
        continue;
      made[place] = index;
      if (role == exec::Role::Scratch)
        box.activationBytes += static_cast<uint64_t>(bufferOf(place).getBytes());
      else
        box.cacheBytes += stateBytes(bufferOf(place));
    }
    for (bool cache : {false, true}) {
      std::vector<unsigned> &list = cache ? cached : from;
      std::sort(list.begin(), list.end());
      list.erase(std::unique(list.begin(), list.end()), list.end());
      for (unsigned maker : list)
        graph.arrows.push_back({.from = maker, .to = index, .cache = cache});
    }
    graph.boxes.push_back(std::move(box));
  }

  // Bytes of a state that one token changes: a position of a cache, or all of a state of one size.
  static uint64_t stateBytes(exec::BufferOp state) {
    return static_cast<uint64_t>(state.getPerPosition() ? state.getPerPosition() : state.getBytes());
  }

  // Kernels are named after the op they are for.
  static std::string kindOf(llvm::StringRef kernel) {
    for (const char *kind : {"rms_norm", "quantize", "linear", "rope", "append", "attention", "gated_mul", "add",
                             "gather_columns", "heads", "softcap", "short_conv"})
      if (kernel.starts_with(kind))
        return kind;
    if (kernel.starts_with("delta_"))
      return "delta_rule"; // token by token, or in chunks by two kernels
    return kernel.str();
  }

  LayerGraph &graph;
  LayerState &state;
  std::string prefix;
  exec::TargetOp target;
  std::map<int64_t, llvm::StringRef> weights; // by offset
  llvm::StringMap<exec::BufferOp> buffers;
  std::map<Place, unsigned> made;       // by which box of the layer
  std::map<Place, std::string> outside; // by which launch of another
};

} // namespace

LayerState layerOf(ModuleOp module, llvm::StringRef function, int64_t layer) {
  LayerState state;
  if (auto targets = module.getOps<exec::TargetOp>(); !targets.empty()) {
    state.lowered = true;
    if (auto program = SymbolTable::lookupNearestSymbolFrom<exec::ProgramOp>(
            *targets.begin(), StringAttr::get(module.getContext(), function)))
      LaunchReader(state, layer).read(program);
  } else if (auto op = module.lookupSymbol<func::FuncOp>(function)) {
    OpReader(state, layer).read(op);
  }
  return state;
}

} // namespace ingot
