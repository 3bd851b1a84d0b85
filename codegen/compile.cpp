#include "codegen/compile.h"

#include <cstdlib>
#include <mutex>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lld/Common/Driver.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/LLVMIR/ROCDLDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Analysis/CGSCCPassManager.h"
#include "llvm/Analysis/LoopAnalysisManager.h"
#include "llvm/BinaryFormat/MsgPackDocument.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/Utils/Cloning.h"

LLD_HAS_DRIVER(elf)

using namespace mlir;

extern "C" {
void LLVMInitializeAMDGPUTargetInfo();
void LLVMInitializeAMDGPUTarget();
void LLVMInitializeAMDGPUTargetMC();
void LLVMInitializeAMDGPUAsmPrinter();
}

namespace ingot {

void registerCodegenDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, gpu::GPUDialect, LLVM::LLVMDialect, ROCDL::ROCDLDialect, scf::SCFDialect,
                  vector::VectorDialect>();
  registerBuiltinDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerROCDLDialectTranslation(registry);
}

// Code object V5: every runtime since ROCm 5.7 loads it, and nothing here needs V6.
static constexpr unsigned kCodeObjectVersion = 500;

static absl::StatusOr<std::unique_ptr<llvm::TargetMachine>> makeTargetMachine(const TargetInfo &target) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeAMDGPUTargetInfo();
    LLVMInitializeAMDGPUTarget();
    LLVMInitializeAMDGPUTargetMC();
    LLVMInitializeAMDGPUAsmPrinter();
  });
  llvm::Triple triple("amdgcn-amd-amdhsa");
  std::string error;
  const llvm::Target *backend = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend)
    return absl::InternalError(absl::StrCat("this LLVM has no AMDGPU backend: ", error));
  llvm::TargetOptions options;
  std::unique_ptr<llvm::TargetMachine> machine(backend->createTargetMachine(triple, std::string(target.name), "",
                                                                            options, llvm::Reloc::PIC_, std::nullopt,
                                                                            llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return absl::InternalError(absl::StrCat("LLVM cannot make a target machine for ", target.name));
  return machine;
}

// gpu.module of gpu, vector, arith and scf ops -> gpu.module of LLVM and ROCDL ops.
static absl::Status lowerToLLVMDialect(ModuleOp holder, const TargetInfo &target) {
  PassManager passes(holder.getContext());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  passes.addPass(createSCFToControlFlowPass());
  ConvertGpuOpsToROCDLOpsOptions options;
  options.chipset = std::string(target.name);
  options.indexBitwidth = 32;
  options.runtime = gpu::amd::HIP;
  passes.addNestedPass<gpu::GPUModuleOp>(createConvertGpuOpsToROCDLOps(options));
  passes.addNestedPass<gpu::GPUModuleOp>(createConvertVectorToLLVMPass());
  passes.addNestedPass<gpu::GPUModuleOp>(createArithToLLVMConversionPass()); // constants that the vector lowering made
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  std::string diagnostics;
  ScopedDiagnosticHandler handler(holder.getContext(), [&](Diagnostic &d) {
    llvm::raw_string_ostream(diagnostics) << d << '\n';
    return success();
  });
  if (failed(passes.run(holder)))
    return absl::InternalError(absl::StrCat("lowering the kernels for ", target.name, " failed: ", diagnostics));
  return absl::OkStatus();
}

static void optimise(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3).run(module, modules);
}

static std::string emit(llvm::Module &module, llvm::TargetMachine &machine, llvm::CodeGenFileType kind) {
  llvm::SmallString<0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  machine.addPassesToEmitFile(passes, stream, nullptr, kind);
  passes.run(module);
  return std::string(bytes);
}

// LLD reads and writes files, so the object takes a detour through a folder of its own.
static absl::StatusOr<std::string> link(const std::string &object) {
  llvm::SmallString<128> folder;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("ingot", folder))
    return absl::InternalError(absl::StrCat("cannot make a temporary folder: ", error.message()));
  absl::Cleanup remove = [&] { [[maybe_unused]] std::error_code harmless = llvm::sys::fs::remove_directories(folder); };
  std::string input = (folder + "/kernels.o").str(), output = (folder + "/kernels.hsaco").str();
  {
    std::error_code error;
    llvm::raw_fd_ostream file(input, error);
    if (!error)
      file << object;
    file.close();
    if (file.has_error())
      return absl::ResourceExhaustedError(absl::StrCat("cannot write ", input, ": ", file.error().message()));
  }
  const char *arguments[] = {"ld.lld", "-shared", "--no-undefined", input.c_str(), "-o", output.c_str()};
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  static std::mutex oneAtATime; // LLD keeps global state
  {
    std::scoped_lock lock(oneAtATime);
    lld::Result result = lld::lldMain(arguments, llvm::nulls(), stream, {{lld::Gnu, &lld::elf::link}});
    if (result.retCode != 0)
      return absl::InternalError(absl::StrCat("linking the kernels failed: ", messages));
  }
  auto buffer = llvm::MemoryBuffer::getFile(output, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return absl::InternalError(absl::StrCat("cannot read ", output, ": ", buffer.getError().message()));
  return (*buffer)->getBuffer().str();
}

// Registers, LDS and scratch from the code object's metadata note, code bytes from its symbols.
static absl::StatusOr<std::vector<KernelFacts>> readFacts(llvm::StringRef elf) {
  auto file = llvm::object::ObjectFile::createELFObjectFile(llvm::MemoryBufferRef(elf, "kernels"));
  if (!file)
    return absl::InternalError(llvm::toString(file.takeError()));
  auto *object = llvm::cast<llvm::object::ELF64LEObjectFile>(file->get());
  std::vector<KernelFacts> facts;
  auto headers = object->getELFFile().program_headers();
  if (!headers)
    return absl::InternalError(llvm::toString(headers.takeError()));
  for (const auto &header : *headers) {
    if (header.p_type != llvm::ELF::PT_NOTE)
      continue;
    llvm::Error error = llvm::Error::success();
    for (const auto &note : object->getELFFile().notes(header, error)) {
      if (note.getName() != "AMDGPU" || note.getType() != llvm::ELF::NT_AMDGPU_METADATA)
        continue;
      llvm::msgpack::Document document;
      if (!document.readFromBlob(note.getDescAsStringRef(4), false))
        return absl::InternalError("the code object's metadata cannot be read");
      for (auto &entry : document.getRoot().getMap()["amdhsa.kernels"].getArray()) {
        auto &kernel = entry.getMap();
        auto number = [&](llvm::StringRef key) { return static_cast<unsigned>(kernel[key].getUInt()); };
        facts.push_back({.name = kernel[".name"].getString().str(),
                         .vgprs = number(".vgpr_count"),
                         .sgprs = number(".sgpr_count"),
                         .ldsBytes = number(".group_segment_fixed_size"),
                         .scratchBytes = number(".private_segment_fixed_size"),
                         .workgroupSize = number(".max_flat_workgroup_size")});
      }
    }
    if (error)
      return absl::InternalError(llvm::toString(std::move(error)));
  }
  for (const llvm::object::ELFSymbolRef symbol : object->getDynamicSymbolIterators()) {
    auto name = symbol.getName();
    if (!name) {
      llvm::consumeError(name.takeError());
      continue;
    }
    if (symbol.getELFType() != llvm::ELF::STT_FUNC)
      continue;
    for (KernelFacts &kernel : facts)
      if (kernel.name == *name)
        kernel.codeBytes = symbol.getSize();
  }
  return facts;
}

static absl::Status dump(const CompileOptions &options, const TargetInfo &target, llvm::StringRef name,
                         llvm::StringRef content) {
  if (options.dumpDirectory.empty())
    return absl::OkStatus();
  std::string path = absl::StrCat(options.dumpDirectory, "/", target.name, "/", std::string(name));
  std::error_code error;
  llvm::raw_fd_ostream file(path, error);
  if (!error)
    file << content;
  file.close();
  if (error || file.has_error()) {
    file.clear_error();
    return absl::InternalError(absl::StrCat("cannot write ", path, ": ", (error ? error : file.error()).message()));
  }
  return absl::OkStatus();
}

template <typename T> static std::string print(T &&thing) {
  std::string text;
  llvm::raw_string_ostream(text) << thing;
  return text;
}

// LLVM IR, assembly and code object of each kernel, as if it were alone.
static absl::Status dumpKernels(const llvm::Module &ir, llvm::TargetMachine &machine, const TargetInfo &target,
                                const CompileOptions &options) {
  if (options.dumpDirectory.empty())
    return absl::OkStatus();
  for (const llvm::Function &kernel : ir) {
    if (kernel.isDeclaration())
      continue;
    // A kernel keeps the LDS blocks that are its own: those of others have no user left.
    llvm::ValueToValueMapTy map;
    std::unique_ptr<llvm::Module> alone = llvm::CloneModule(
        ir, map, [&](const llvm::GlobalValue *value) { return value == &kernel || !llvm::isa<llvm::Function>(value); });
    for (llvm::GlobalVariable &block : llvm::make_early_inc_range(alone->globals()))
      if (block.use_empty())
        block.eraseFromParent();
    for (llvm::Function &other : llvm::make_early_inc_range(*alone))
      if (other.isDeclaration() && other.use_empty())
        other.eraseFromParent();
    std::string name = kernel.getName().str();
    if (absl::Status s = dump(options, target, name + ".ll", print(*alone)); !s.ok())
      return s;
    // Emitting changes the module, so the assembly comes from a copy.
    std::string assembly = emit(*llvm::CloneModule(*alone), machine, llvm::CodeGenFileType::AssemblyFile);
    if (absl::Status s = dump(options, target, name + ".s", assembly); !s.ok())
      return s;
    auto elf = link(emit(*alone, machine, llvm::CodeGenFileType::ObjectFile));
    if (!elf.ok())
      return elf.status();
    if (absl::Status s = dump(options, target, name + ".hsaco", *elf); !s.ok())
      return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<CodeObject> compileKernels(gpu::GPUModuleOp module, const TargetInfo &target,
                                          const CompileOptions &options) {
  auto machine = makeTargetMachine(target);
  if (!machine.ok())
    return machine.status();
  if (!options.dumpDirectory.empty())
    if (std::error_code error = llvm::sys::fs::create_directories(options.dumpDirectory + "/" + target.name))
      return absl::InternalError(
          absl::StrCat("cannot make ", options.dumpDirectory, "/", target.name, ": ", error.message()));
  OwningOpRef<ModuleOp> holder = ModuleOp::create(module.getLoc());
  auto kernels = cast<gpu::GPUModuleOp>(module->clone());
  holder->push_back(kernels);
  if (absl::Status s = dump(options, target, "kernels.mlir", print(*kernels.getOperation())); !s.ok())
    return s;
  if (absl::Status s = lowerToLLVMDialect(*holder, target); !s.ok())
    return s;

  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> ir = translateModuleToLLVMIR(kernels, context, target.name);
  if (!ir)
    return absl::InternalError(absl::StrCat("the kernels for ", target.name, " have no LLVM form"));
  ir->setTargetTriple((*machine)->getTargetTriple());
  ir->setDataLayout((*machine)->createDataLayout());
  if (!ir->getModuleFlag("amdhsa_code_object_version"))
    ir->addModuleFlag(llvm::Module::Error, "amdhsa_code_object_version", kCodeObjectVersion);
  for (llvm::Function &function : *ir)
    if (!function.isDeclaration())
      function.addFnAttr("uniform-work-group-size", "true");
  optimise(*ir, **machine);
  if (absl::Status s = dumpKernels(*ir, **machine, target, options); !s.ok())
    return s;
  auto elf = link(emit(*ir, **machine, llvm::CodeGenFileType::ObjectFile));
  if (!elf.ok())
    return elf.status();
  if (absl::Status s = dump(options, target, "kernels.hsaco", *elf); !s.ok())
    return s;
  auto facts = readFacts(*elf);
  if (!facts.ok())
    return facts.status();
  return CodeObject{std::move(*elf), std::move(*facts)};
}

std::string bundleCodeObjects(const std::vector<std::pair<const TargetInfo *, std::string>> &codeObjects) {
  static constexpr uint64_t kAlignment = 4096;
  std::string header = "__CLANG_OFFLOAD_BUNDLE__", body;
  auto number = [](uint64_t value) {
    std::string bytes(8, '\0');
    for (unsigned i = 0; i < 8; ++i)
      bytes[i] = static_cast<char>(value >> (8 * i));
    return bytes;
  };
  auto align = [](uint64_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; };
  static constexpr std::string_view kHost = "host-x86_64-unknown-linux-gnu-";
  uint64_t headerBytes = header.size() + 8 + 24 + kHost.size();
  for (const auto &[target, elf] : codeObjects)
    headerBytes += 24 + std::string_view(target->bundleId).size();
  uint64_t offset = align(headerBytes);
  header += number(codeObjects.size() + 1) + number(offset) + number(0) + number(kHost.size()) + std::string(kHost);
  for (const auto &[target, elf] : codeObjects) {
    header +=
        number(offset) + number(elf.size()) + number(std::string_view(target->bundleId).size()) + target->bundleId;
    body.resize(offset - align(headerBytes));
    body += elf;
    offset = align(offset + elf.size());
  }
  header.resize(align(headerBytes));
  return header + body;
}

} // namespace ingot
