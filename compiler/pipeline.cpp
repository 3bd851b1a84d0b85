#include "compiler/pipeline.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "codegen/compile.h"
#include "codegen/target.h"
#include "compiler/artifact_content.h"
#include "compiler/chat_template_file.h"
#include "compiler/checkpoint/checkpoint.h"
#include "compiler/layer_report.h"
#include "compiler/stored_schemes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "models/declaration.h"
#include "models/recipe.h"
#include "passes/Passes.h"
#include "runtime/tokenizer/special_tokens.h"
#include "runtime/tokenizer/tokenizer.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace ingot {

const std::vector<std::string> &phaseNames() {
  static const std::vector<std::string> names{"declare", "annotate", "fuse", "select", "plan"};
  return names;
}

namespace {

struct Fusion {
  const char *name;
  std::unique_ptr<Pass> (*create)();
};

// In this order: what merges first makes room for what moves into an epilogue.
constexpr Fusion fusions[] = {
    {"fuse-delta-norm", createFuseDeltaNorm},       // its gate merges with the other projections then
    {"fuse-shared-expert", createFuseSharedExpert}, // while gate, up and down still stand alone
    {"merge-linears", createMergeLinears},
    {"fuse-short-conv", createFuseShortConv},
    {"fuse-gated-mul", createFuseGatedMul},
    {"fuse-rope-append", createFuseRopeAppend},
    {"fuse-heads", createFuseHeads}, // what no projection could take
    {"fuse-combine", createFuseCombine},
    {"fuse-residual-add", createFuseResidualAdd},
    {"fuse-softcap", createFuseSoftcap},
    {"fuse-argmax", createFuseArgmax},
    {"fuse-norm-quantize", createFuseNormQuantize},
    {"fuse-quantize", createFuseQuantize}, // what no norm could take
    {"fuse-norm", createFuseNorm},         // with its quantisation, where it has one
    {"ring-caches", createRingCaches},
};

} // namespace

const std::vector<std::string> &fusionNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Fusion &fusion : fusions)
      all.emplace_back(fusion.name);
    return all;
  }();
  return names;
}

// The passes of each phase, in the order they run. `declare` has none: the declaration emits its output directly.
static void addPhase(const std::string &phase, const CompileRequest &request, OpPassManager &passes) {
  if (phase == "annotate") {
    // First the weights, since what activations become is a fact of the weight they meet.
    passes.addPass(createAnnotate({.recipe = request.recipe, .kvCache = request.kvCache}));
    passes.addPass(createInsertGather());
    passes.addPass(createInsertQuantize());
  } else if (phase == "fuse") {
    for (const Fusion &fusion : fusions)
      if (!llvm::is_contained(request.disabledPasses, fusion.name))
        passes.addPass(fusion.create());
    passes.addPass(createCSEPass());
  } else if (phase == "select") {
    SelectOptions options;
    options.targets.assign(request.targets.begin(), request.targets.end());
    passes.addPass(createSelect(options));
  } else if (phase == "plan") {
    passes.addPass(createPlanMemory());
  }
}

template <typename T> static absl::Status writeText(const std::string &path, const T &content) {
  std::error_code error;
  llvm::raw_fd_ostream file(path, error);
  if (!error)
    file << content;
  file.close();
  if (error || file.has_error()) {
    file.clear_error();
    return absl::InternalError(absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

// The first line of an error that passes report; the rest are consequences or notes.
class ErrorCatcher {
public:
  explicit ErrorCatcher(MLIRContext *context)
      : handler(context, [this](Diagnostic &d) {
          if (d.getSeverity() == DiagnosticSeverity::Error && message.empty())
            message = d.str();
          else if (d.getSeverity() == DiagnosticSeverity::Warning)
            llvm::errs() << "warning: " << d << '\n';
          return success();
        }) {}
  std::string message;

private:
  ScopedDiagnosticHandler handler;
};

// Calls CompileRequest::afterPass.
class AfterPass : public PassInstrumentation {
public:
  explicit AfterPass(const CompileRequest &request) : request(request) {}
  void runAfterPass(Pass *pass, Operation *op) override {
    if (auto module = dyn_cast<ModuleOp>(op))
      request.afterPass(module, pass->getArgument().str(), pass->getDescription().str());
  }

private:
  const CompileRequest &request;
};

// LLVM works on one target at a time, so every target gets a thread, with an MLIR context of its own.
static absl::StatusOr<CodeObject> compileTarget(const std::string &text, const TargetInfo &target,
                                                const std::string &dump) {
  DialectRegistry registry;
  registerCodegenDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, ParserConfig(&context));
  if (!module)
    return absl::InternalError(absl::StrCat("the kernels for ", target.name, " do not read back"));
  return compileKernels(*module->getOps<gpu::GPUModuleOp>().begin(), target, {.dumpDirectory = dump});
}

static absl::StatusOr<std::map<std::string, CodeObject>> generateCode(ModuleOp module, const std::string &dump) {
  std::map<std::string, std::future<absl::StatusOr<CodeObject>>> running;
  for (auto op : module.getOps<exec::TargetOp>()) {
    auto target = findTarget(op.getSymName().str());
    if (!target.ok())
      return target.status();
    std::string text;
    llvm::raw_string_ostream stream(text);
    for (auto kernels : op.getBody().getOps<gpu::GPUModuleOp>())
      kernels->print(stream, OpPrintingFlags().printGenericOpForm());
    running[(*target)->name] = std::async(std::launch::async, [text = std::move(text), target = *target, &dump] {
      return compileTarget(text, *target, dump);
    });
  }
  std::map<std::string, CodeObject> code;
  absl::Status status;
  for (auto &[name, future] : running) {
    auto object = future.get();
    status.Update(object.status());
    if (object.ok())
      code[name] = std::move(*object);
  }
  if (!status.ok())
    return status;
  return code;
}

static double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

absl::StatusOr<OwningOpRef<ModuleOp>> runPhases(MLIRContext &context, const Checkpoint &checkpoint,
                                                const CompileRequest &request, const std::string &last) {
  ErrorCatcher errors(&context);
  OwningOpRef<ModuleOp> module;
  for (unsigned i = 0; const std::string &phase : phaseNames()) {
    if (request.progress)
      request.progress(phase, 0, 0);
    if (phase == "declare") {
      auto declared = declareModel(context, checkpoint,
                                   {.name = "",
                                    .contextLength = request.contextLength,
                                    .prefillChunk = request.prefillChunk,
                                    .draftLength = request.draftLength,
                                    .streams = request.streams});
      if (!declared.ok())
        return declared.status();
      module = std::move(*declared);
      if (request.afterPass)
        request.afterPass(*module, phase, "What the model computes, as its family declares it");
      noteStoredSchemes(*module, checkpoint);
    } else {
      PassManager passes(&context);
      if (request.afterPass)
        passes.addInstrumentation(std::make_unique<AfterPass>(request));
      addPhase(phase, request, passes);
      if (failed(passes.run(*module)))
        return absl::InvalidArgumentError(errors.message);
    }
    if (!request.dumpDirectory.empty())
      if (absl::Status s = writeText(absl::StrCat(request.dumpDirectory, "/", ++i, "-", phase, ".mlir"), *module);
          !s.ok())
        return s;
    if (phase == last)
      break;
  }
  return module;
}

// The first request.calibrationTokens of the text.
static absl::StatusOr<std::vector<int32_t>> calibrationTokens(const CompileRequest &request,
                                                              const Checkpoint &checkpoint, std::string &text) {
  constexpr size_t largest = 64 << 20;
  std::ifstream file(request.calibration, std::ios::binary);
  if (file) {
    text.resize(largest + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof()))
    return absl::NotFoundError(absl::StrCat("calibration text ", request.calibration, ": cannot be read"));
  if (text.size() > largest)
    return absl::InvalidArgumentError(absl::StrCat("calibration text ", request.calibration, ": larger than ", largest,
                                                   " bytes; a few thousand words are enough"));
  auto tokenizer = Tokenizer::create(checkpoint.tokenizer());
  if (!tokenizer.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("calibration text needs the model's tokenizer: ", std::string(tokenizer.status().message())));
  std::vector<int32_t> tokens = (*tokenizer)->encode(text, {.addBos = (*tokenizer)->addsBos()});
  if (tokens.size() < 16)
    return absl::InvalidArgumentError(
        absl::StrCat("calibration text ", request.calibration, ": ", tokens.size(), " tokens, expected at least 16"));
  tokens.resize(std::min<size_t>(tokens.size(), request.calibrationTokens));
  return tokens;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> openCheckpoint(const CompileRequest &request, CompileReport &report) {
  auto checkpoint =
      request.syntheticWeights ? openModelShape(request.model, *request.syntheticWeights) : openModel(request.model);
  if (!checkpoint.ok() || request.calibration.empty())
    return checkpoint;
  std::string text;
  auto tokens = calibrationTokens(request, **checkpoint, text);
  if (!tokens.ok())
    return tokens.status();
  DialectRegistry registry;
  registerCodegenDialects(registry);
  MLIRContext context(registry);
  CompileRequest quiet = request;
  quiet.progress = nullptr;
  quiet.dumpDirectory.clear();
  auto module = runPhases(context, **checkpoint, quiet, "annotate");
  if (!module.ok())
    return module.status();
  auto search = searchScales(**module, **checkpoint, *tokens, [&](uint64_t done, uint64_t total) {
    if (request.progress)
      request.progress("calibrating", done, total);
  });
  if (!search.ok())
    return search.status();
  report.calibration =
      absl::StrCat(llvm::sys::path::filename(request.calibration).str(), ", ", tokens->size(), " tokens, xxh3 ",
                   absl::Hex(XXH3_64bits(text.data(), text.size()), absl::kZeroPad16));
  report.scales = std::move(search->choices);
  report.unscaled = std::move(search->declined);
  return rescaled(std::move(*checkpoint), std::move(search->rescalings));
}

absl::Status compileModel(const CompileRequest &request, CompileReport &report) {
  auto tell = [&](const std::string &phase, uint64_t done = 0, uint64_t total = 0) {
    if (request.progress)
      request.progress(phase, done, total);
  };
  // Cheap mistakes first: nobody should wait for a large checkpoint to learn of a misspelt name.
  for (const std::string &name : request.targets)
    if (auto target = findTarget(name); !target.ok())
      return target.status();
  auto recipe = loadRecipe(request.recipe);
  if (!recipe.ok())
    return recipe.status();
  std::optional<ChatTemplateFile> chatTemplate;
  if (!request.chatTemplate.empty()) {
    auto file = readChatTemplate(request.chatTemplate);
    if (!file.ok())
      return file.status();
    chatTemplate = *std::move(file);
  }
  if (!request.dumpDirectory.empty())
    if (std::error_code error = llvm::sys::fs::create_directories(request.dumpDirectory))
      return absl::InvalidArgumentError(absl::StrCat("cannot make ", request.dumpDirectory, ": ", error.message()));

  tell("reading the checkpoint");
  auto checkpoint = openCheckpoint(request, report);
  if (!checkpoint.ok())
    return checkpoint.status();
  TokenizerData tokenizer = (*checkpoint)->tokenizer();
  if (chatTemplate)
    if (absl::Status s = setChatTemplate(tokenizer, *chatTemplate); !s.ok())
      return s;

  DialectRegistry registry;
  registerCodegenDialects(registry);
  MLIRContext context(registry);
  collectRemarks(context, report.passes);
  LayerReport layer(request.reportLayer);
  CompileRequest watched = request;
  if (!request.report.empty())
    watched.afterPass = [&](ModuleOp module, const std::string &pass, const std::string &summary) {
      layer.record(module, pass, summary);
    };
  auto lowered = runPhases(context, **checkpoint, watched, request.stopAfter.empty() ? "plan" : request.stopAfter);
  if (!lowered.ok())
    return lowered.status();
  if (!layer.error().empty())
    return absl::InvalidArgumentError(layer.error());
  OwningOpRef<ModuleOp> module = std::move(*lowered);
  if (!request.stopAfter.empty())
    return writeText(request.output, *module);
  report.skippedTensors = llm::Facts::of(*module).skippedTensors;
  if (!request.report.empty())
    if (absl::Status s = writeText(request.report, layer.page(*module, recipe->name)); !s.ok())
      return s;

  for (auto op : module->getOps<exec::WeightOp>()) {
    if (op.getValue())
      continue;
    PackedWeight weight = packedWeight(op);
    const TensorInfo *tensor = (*checkpoint)->find(weight.sources.front());
    report.requantized += tensor && tensor->quantization && !keepsCodes(weight, *tensor);
  }
  if (request.explainQuantization) {
    tell("comparing weights");
    auto weights = explainQuantization(*module, **checkpoint, *recipe);
    if (!weights.ok())
      return weights.status();
    report.weights = std::move(*weights);
  }

  tell("codegen");
  auto start = std::chrono::steady_clock::now();
  auto code = generateCode(*module, request.dumpDirectory);
  if (!code.ok())
    return code.status();
  report.codegenSeconds = since(start);
  std::vector<std::pair<const TargetInfo *, std::string>> objects;
  for (auto op : module->getOps<exec::TargetOp>()) {
    const CodeObject &object = code->at(op.getSymName().str());
    objects.emplace_back(*findTarget(op.getSymName().str()), object.elf);
    report.codeBytes += object.elf.size();
    report.kernels += object.kernels.size();
  }
  std::string bundle = bundleCodeObjects(objects);
  report.kernelShapes = explainKernels(*module, *code);

  auto manifest = makeManifest(*module, *code, tokenizer);
  if (!manifest.ok())
    return manifest.status();
  Provenance &provenance = *manifest->mutable_provenance();
  provenance.set_compiler(absl::StrCat("ingotc ", INGOT_VERSION, ", LLVM ", LLVM_VERSION_STRING));
  provenance.set_recipe(recipe->name);
  provenance.set_recipe_text(recipe->text);
  provenance.set_kv_cache(request.kvCache.empty() ? recipe->kvCache : request.kvCache);
  provenance.mutable_disabled_passes()->Add(request.disabledPasses.begin(), request.disabledPasses.end());
  provenance.set_calibration(report.calibration);
  if (chatTemplate)
    provenance.set_chat_template(chatTemplate->origin);
  provenance.set_source((*checkpoint)->sourceName());
  provenance.set_source_digest((*checkpoint)->digest());
  provenance.mutable_skipped_tensors()->Add(report.skippedTensors.begin(), report.skippedTensors.end());

  start = std::chrono::steady_clock::now();
  report.weightBytes = weightSectionBytes(*module);
  absl::Status written =
      writeArtifact(request.output, *manifest, tokenizer, std::as_bytes(std::span(bundle)), [&](WeightSink &sink) {
        return packWeights(*module, **checkpoint, sink,
                           [&](uint64_t done) { tell("packing", done, report.weightBytes); });
      });
  report.packSeconds = since(start);
  return written;
}

} // namespace ingot
