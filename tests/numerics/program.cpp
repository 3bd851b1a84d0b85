#include "tests/numerics/program.h"

#include <cmath>

#include "compiler/artifact_content.h"
#include "compiler/reference/interpreter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "passes/Passes.h"

namespace ingot::numerics {

namespace {

constexpr int64_t kPositions = 128; // of a sequence
// Pages are dealt out in turn, so that none of a sequence follow one another: lease l has pages l, kLeases + l, ...
constexpr int32_t kLeases = 12;

bool grows(exec::BufferOp op) { return op.getRole() == exec::Role::State && op.getPerPosition() > 0; }
size_t bytesOf(exec::BufferOp op) {
  return static_cast<size_t>(op.getBytes() + op.getPerPosition() * (grows(op) ? kLeases : 1) * kPositions);
}

// The weights section in memory.
class Bytes : public WeightSink {
public:
  absl::Status append(std::span<const std::byte> bytes) override {
    all.insert(all.end(), bytes.begin(), bytes.end());
    return absl::OkStatus();
  }
  [[nodiscard]] uint64_t offset() const override { return all.size(); }
  std::vector<std::byte> all;
};

void runPasses(mlir::ModuleOp module, const std::string &pipeline, bool select) {
  static const bool registered = [] {
    registerIngotPasses();
    return true;
  }();
  (void)registered;
  mlir::PassManager passes(module.getContext());
  if (mlir::failed(mlir::parsePassPipeline(pipeline, passes)))
    fail("no such passes: " + pipeline);
  if (select) {
    SelectOptions options;
    options.targets.assign({target().name});
    passes.addPass(createSelect(options));
    passes.addPass(createPlanMemory());
  }
  if (mlir::failed(passes.run(module)))
    fail("the passes failed: " + pipeline);
}

// A module of this kernel and its blocks of LDS alone: programs of a test share many kernels.
mlir::OwningOpRef<mlir::gpu::GPUModuleOp> alone(mlir::gpu::GPUFuncOp kernel) {
  auto all = kernel->getParentOfType<mlir::gpu::GPUModuleOp>();
  mlir::OpBuilder b(&context());
  mlir::OwningOpRef<mlir::gpu::GPUModuleOp> module = mlir::gpu::GPUModuleOp::create(b, all.getLoc(), all.getName());
  b.setInsertionPointToStart(module->getBody());
  for (auto block : all.getOps<mlir::LLVM::GlobalOp>())
    if (!mlir::SymbolTable::symbolKnownUseEmpty(block, kernel))
      b.clone(*block);
  b.clone(*kernel);
  return module;
}

} // namespace

Program::Program(const std::string &text, const std::string &passes)
    : checkpoint(nlohmann::json::object()), model(mlir::parseSourceString<mlir::ModuleOp>(text, &context())) {
  if (!model)
    fail("the module does not parse");
  for (auto weight : model->getOps<llm::WeightOp>())
    if (weight.getSource()) {
      llvm::ArrayRef<int64_t> shape = weight.getTensorType().getShape();
      checkpoint.fill(weight.getSource()->str(), {shape.begin(), shape.end()});
    }
  vocabulary = static_cast<uint64_t>(llm::Facts::of(*model).vocabulary);
  runPasses(*model, passes, /*select=*/false);
  lowered = model->clone();
  runPasses(*lowered, "", /*select=*/true);

  for (auto op : lowered->getOps<exec::BufferOp>())
    buffers[op.getSymName().str()] = std::make_unique<Buffer>(bytesOf(op));
  Bytes weights;
  if (absl::Status packed = packWeights(*lowered, checkpoint, weights, [](uint64_t) {}); !packed.ok())
    fail(std::string(packed.message()));
  buffers.at("weights")->write(weights.all.data(), weights.all.size());
  auto targetOp = *lowered->getOps<exec::TargetOp>().begin();
  auto kernels = *targetOp.getBody().getOps<mlir::gpu::GPUModuleOp>().begin();
  for (auto kernel : kernels.getOps<mlir::gpu::GPUFuncOp>())
    code[kernel.getName().str()] = &codeOf(*alone(kernel));
  for (int32_t lease = kLeases - 1; lease >= 0; --lease)
    idle.push_back(lease);
  own = lend();
  buffers.at("step")->write(own.pages.data(), own.pages.size() * sizeof(int32_t), sizeof(Step));
}

Program::Sequence Program::lend() {
  if (idle.empty())
    fail("too many sequences at once");
  const int32_t lease = idle.back();
  idle.pop_back();
  Sequence sequence;
  // As many as the page table has room for: those of the module's context.
  const auto pages = static_cast<int32_t>((buffers.at("step")->bytes() - sizeof(Step)) / sizeof(int32_t));
  for (int32_t page = 0; page < pages; ++page)
    sequence.pages.push_back(page * kLeases + lease);
  sequence.lease = std::shared_ptr<void>(nullptr, [this, lease](void *) { idle.push_back(lease); });
  return sequence;
}

exec::ProgramOp Program::find(const std::string &program) {
  auto targetOp = *lowered->getOps<exec::TargetOp>().begin();
  auto found = targetOp.getBody().getOps<exec::ProgramOp>();
  auto it = llvm::find_if(found, [&](exec::ProgramOp op) { return op.getSymName() == program; });
  if (it == found.end())
    fail("no program " + program);
  return *it;
}

size_t Program::launches(const std::string &program) {
  return static_cast<size_t>(llvm::range_size(find(program).getBody().getOps<exec::LaunchOp>()));
}

size_t Program::launchesOfTiles(const std::string &program, int64_t tiles) {
  size_t count = 0;
  for (auto launch : find(program).getBody().getOps<exec::LaunchOp>()) {
    mlir::Operation *kernel = mlir::SymbolTable::lookupNearestSymbolFrom(launch, launch.getKernel());
    auto shape = kernel->getAttrOfType<mlir::DictionaryAttr>(exec::kLaunchShape);
    if (auto chosen = shape.getAs<mlir::DictionaryAttr>("chosen")) {
      auto size = [&](const char *name) { return chosen.getAs<mlir::IntegerAttr>(name).getInt(); };
      count += size("tiles") * size("token_tiles") >= tiles;
    }
  }
  return count;
}

// A sequence begins with empty caches; everything else is whatever it is.
void Program::clear() {
  for (auto op : lowered->getOps<exec::BufferOp>())
    if (op.getRole() == exec::Role::State) {
      std::vector<uint8_t> zeros(bytesOf(op));
      buffers.at(op.getSymName().str())->write(zeros.data(), zeros.size());
    }
}

void Program::run(const std::string &program, const Step &step) {
  buffers.at("step")->write(&step, sizeof(step));
  launch(program, step.tokens, own);
}

void Program::launch(const std::string &program, int32_t tokens, const Sequence &own) {
  for (auto launch : find(program).getBody().getOps<exec::LaunchOp>()) {
    std::vector<void *> arguments;
    for (auto [name, offset] :
         llvm::zip(launch.getBuffers().getAsRange<mlir::FlatSymbolRefAttr>(), launch.getOffsets())) {
      auto mine = own.buffers.find(name.getValue().str());
      const Buffer &buffer = mine != own.buffers.end() ? *mine->second : *buffers.at(name.getValue().str());
      arguments.push_back(static_cast<char *>(buffer.device()) + offset);
    }
    llvm::ArrayRef<int64_t> grid = launch.getGrid();
    auto perWorkgroup = launch.getTokensPerWorkgroup();
    int64_t y = perWorkgroup ? (tokens + static_cast<int64_t>(*perWorkgroup) - 1) / static_cast<int64_t>(*perWorkgroup)
                             : grid[1];
    const std::string kernel = launch.getKernel().getLeafReference().str();
    code.at(kernel)->run(kernel, static_cast<unsigned>(grid[0]), static_cast<unsigned>(y),
                         static_cast<unsigned>(grid[2]), static_cast<unsigned>(launch.getBlock()), arguments);
  }
}

Program::Sequence Program::begin(const Step &step, int32_t token) {
  Sequence sequence = lend();
  for (auto op : lowered->getOps<exec::BufferOp>())
    if (op.getBatchTable())
      sequence.buffers[op.getSymName().str()] = std::make_unique<Buffer>(std::vector<uint8_t>(bytesOf(op)));
    else if (grows(op))
      writePages(
          op, sequence.pages,
          std::vector<uint8_t>(sequence.pages.size() * kPagePositions * static_cast<size_t>(op.getPerPosition())));
  Buffer &first = *sequence.buffers.at("step");
  first.write(&step, sizeof(step));
  first.write(sequence.pages.data(), sequence.pages.size() * sizeof(int32_t), sizeof(step));
  sequence.buffers.at("tokens")->write(&token, sizeof(token));
  return sequence;
}

Program::Sequence Program::copyOf(const Sequence &sequence) {
  Sequence copy = lend();
  for (const auto &[name, buffer] : sequence.buffers)
    copy.buffers[name] = std::make_unique<Buffer>(buffer->read<uint8_t>());
  copy.buffers.at("step")->write(copy.pages.data(), copy.pages.size() * sizeof(int32_t), sizeof(Step));
  const auto contents = this->contents(sequence);
  for (auto op : lowered->getOps<exec::BufferOp>())
    if (grows(op))
      writePages(op, copy.pages, contents.at(op.getSymName().str()));
  return copy;
}

void Program::writePages(exec::BufferOp op, const std::vector<int32_t> &pages, const std::vector<uint8_t> &bytes) {
  const size_t each = bytes.size() / pages.size();
  for (size_t i = 0; i < pages.size(); ++i)
    buffers.at(op.getSymName().str())->write(&bytes[i * each], each, static_cast<size_t>(pages[i]) * each);
}

std::map<std::string, std::vector<uint8_t>> Program::contents(const Sequence &sequence) {
  std::map<std::string, std::vector<uint8_t>> all;
  for (const auto &[name, buffer] : sequence.buffers)
    all[name] = buffer->read<uint8_t>();
  all.at("step").resize(sizeof(Step));
  for (auto op : lowered->getOps<exec::BufferOp>()) {
    if (!grows(op))
      continue;
    const std::vector<uint8_t> pool = buffers.at(op.getSymName().str())->read<uint8_t>();
    const auto each = static_cast<ptrdiff_t>(op.getPerPosition() * kPagePositions);
    std::vector<uint8_t> &mine = all[op.getSymName().str()];
    for (int32_t page : sequence.pages)
      mine.insert(mine.end(), pool.begin() + page * each, pool.begin() + (page + 1) * each);
  }
  return all;
}

void Program::run(const std::string &program, const Sequence &sequence) { launch(program, 1, sequence); }

void Program::together(const std::string &program, size_t width, const std::vector<Sequence> &sequences,
                       const std::string &wrong) {
  std::vector<uint64_t> words(buffers.at("batch")->read<uint64_t>().size());
  words[0] = sequences.size();
  for (auto op : lowered->getOps<exec::BufferOp>())
    for (size_t row = 0; op.getBatchTable() && row < width; ++row) {
      const bool first = row >= sequences.size() || (row == 1 && wrong == op.getSymName());
      words[static_cast<size_t>(*op.getBatchTable()) / 8 + row] =
          reinterpret_cast<uint64_t>(sequences[first ? 0 : row].buffers.at(op.getSymName().str())->device());
    }
  buffers.at("batch")->write(words.data(), words.size() * 8);
  launch(program, static_cast<int32_t>(width), own);
}

std::vector<float> Program::logits(const std::vector<int32_t> &tokens, size_t once) {
  clear();
  std::vector<float> all;
  for (size_t first = 0; first < tokens.size();) {
    const size_t count = once ? std::min(once, tokens.size() - first) : tokens.size();
    buffers.at("tokens")->write(&tokens[first], count * 4);
    run("logits", {.tokens = static_cast<int32_t>(count), .position = static_cast<int32_t>(first)});
    std::vector<float> rows = buffers.at("all_logits")->read<float>();
    all.insert(all.end(), rows.begin(), rows.begin() + static_cast<ptrdiff_t>(count * vocabulary));
    first += count;
  }
  return all;
}

std::vector<float> Program::steps(const std::vector<int32_t> &tokens) {
  clear();
  std::vector<float> all;
  for (size_t i = 0; i < tokens.size(); ++i) {
    buffers.at("tokens")->write(&tokens[i], 4);
    run("decode", {.tokens = 1, .position = static_cast<int32_t>(i)});
    std::vector<float> row = buffers.at("logits")->read<float>();
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

std::vector<int32_t> Program::chosen(const std::vector<int32_t> &tokens) {
  clear();
  std::vector<int32_t> all;
  for (size_t i = 0; i < tokens.size(); ++i) {
    buffers.at("tokens")->write(&tokens[i], 4);
    run("decode_greedy", {.tokens = 1, .position = static_cast<int32_t>(i)});
    all.push_back(buffers.at("tokens")->read<int32_t>().front());
  }
  return all;
}

std::vector<float> Program::reference(const std::vector<int32_t> &tokens, bool steps) {
  Interpreter interpreter(*model, checkpoint, {.numerics = Interpreter::Numerics::Device, .threads = 2});
  auto take = [](const absl::StatusOr<HostTensor> &rows) {
    if (!rows.ok())
      fail("the interpreter: " + std::string(rows.status().message()));
    return rows->floats;
  };
  if (!steps)
    return take(interpreter.logits(tokens));
  std::vector<float> all;
  for (int32_t token : tokens) {
    std::vector<float> row = take(interpreter.decode(token));
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

double relativeError(const std::vector<float> &got, const std::vector<float> &wanted) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    size += std::pow(wanted[i], 2);
  }
  return std::sqrt(difference / size);
}

} // namespace ingot::numerics
