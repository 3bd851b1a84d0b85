#include "tests/numerics/harness.h"

#include <cmath>
#include <cstdlib>
#include <iterator>
#include <map>
#include <type_traits>

#include <dlfcn.h>

#include "dialects/Exec.h"
#include "dialects/Llm.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"

namespace ingot::numerics {

[[noreturn]] void fail(const std::string &why) {
  std::fprintf(stderr, "numerics: %s\n", why.c_str());
  std::exit(1);
}

namespace {

// The HIP functions that the tests call, with HIP's own signatures in plain C types.
struct Hip {
  int (*hipMalloc)(void **, size_t);
  int (*hipFree)(void *);
  int (*hipMemcpy)(void *, const void *, size_t, int);
  int (*hipModuleLoadData)(void **, const void *);
  int (*hipModuleUnload)(void *);
  int (*hipModuleGetFunction)(void **, void *, const char *);
  int (*hipModuleLaunchKernel)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,
                               void **, void **);
  int (*hipDeviceSynchronize)();
  const char *(*ingotEmulatorLastReport)();

  Hip() {
    const char *file = std::getenv("INGOT_EMULATOR_LIBRARY");
    void *library = dlopen(file ? file : "libingot-emulator.so", RTLD_NOW | RTLD_LOCAL);
    if (!library)
      fail(std::string("cannot open the emulator: ") + dlerror() + "; name its file in INGOT_EMULATOR_LIBRARY");
    auto find = [&](auto &function, const char *name) {
      using Function = std::remove_reference_t<decltype(function)>;
      function = reinterpret_cast<Function>(dlsym(library, name));
      if (!function)
        fail(std::string("the emulator has no function ") + name);
    };
    find(hipMalloc, "hipMalloc");
    find(hipFree, "hipFree");
    find(hipMemcpy, "hipMemcpy");
    find(hipModuleLoadData, "hipModuleLoadData");
    find(hipModuleUnload, "hipModuleUnload");
    find(hipModuleGetFunction, "hipModuleGetFunction");
    find(hipModuleLaunchKernel, "hipModuleLaunchKernel");
    find(hipDeviceSynchronize, "hipDeviceSynchronize");
    find(ingotEmulatorLastReport, "ingotEmulatorLastReport");
  }

  void check(int error, const char *doing) const {
    if (error != 0)
      fail(std::string(doing) + " failed with HIP error " + std::to_string(error) + "\n" + ingotEmulatorLastReport());
  }
};

const Hip &hip() {
  static const Hip instance;
  return instance;
}

constexpr int kHostToDevice = 1, kDeviceToHost = 2;

} // namespace

mlir::MLIRContext &context() {
  static mlir::MLIRContext *instance = [] {
    mlir::DialectRegistry registry;
    registerCodegenDialects(registry);
    registry.insert<llm::LlmDialect, exec::ExecDialect, mlir::func::FuncDialect>();
    auto *made = new mlir::MLIRContext(registry, mlir::MLIRContext::Threading::DISABLED);
    made->loadAllAvailableDialects();
    return made;
  }();
  return *instance;
}

const TargetInfo &target() {
  static const TargetInfo *chosen = [] {
    const char *name = std::getenv("INGOT_EMULATOR_TARGET");
    auto found = findTarget(name ? name : allTargets()[0].name);
    if (!found.ok())
      fail(std::string(found.status().message()));
    return *found;
  }();
  return *chosen;
}

Buffer::Buffer(size_t bytes) : size(bytes) {
  hip().check(hip().hipMalloc(&pointer, bytes), "hipMalloc");
  std::vector<uint8_t> fill(bytes, kUntouched);
  write(fill.data(), bytes);
}

Buffer::~Buffer() { hip().hipFree(pointer); }

void Buffer::write(const void *bytes, size_t count, size_t offset) {
  if (count > 0)
    hip().check(hip().hipMemcpy(static_cast<char *>(pointer) + offset, bytes, count, kHostToDevice),
                "hipMemcpy to the device");
}

void Buffer::readBytes(void *to) const {
  hip().check(hip().hipMemcpy(to, pointer, size, kDeviceToHost), "hipMemcpy from the device");
}

Code::Code(const CodeObject &code) : kernels(code.kernels) {
  hip().check(hip().hipModuleLoadData(&module, code.elf.data()), "hipModuleLoadData");
}

Code::~Code() { hip().hipModuleUnload(module); }

void Code::run(const std::string &kernel, unsigned x, unsigned y, unsigned z, unsigned workgroupSize,
               std::vector<void *> arguments) const {
  void *function = nullptr;
  hip().check(hip().hipModuleGetFunction(&function, module, kernel.c_str()), "hipModuleGetFunction");
  std::vector<void *> places;
  places.reserve(arguments.size());
  for (void *&pointer : arguments)
    places.push_back(static_cast<void *>(&pointer));
  hip().check(hip().hipModuleLaunchKernel(function, x, y, z, workgroupSize, 1, 1, 0, nullptr, places.data(), nullptr),
              "hipModuleLaunchKernel");
  hip().check(hip().hipDeviceSynchronize(), kernel.c_str());
}

static std::unique_ptr<Code> compile(mlir::gpu::GPUModuleOp module) {
  CompileOptions options;
  if (const char *folder = std::getenv("INGOT_NUMERICS_DUMP"))
    options.dumpDirectory = folder;
  auto object = compileKernels(module, target(), options);
  if (!object.ok())
    fail(std::string(object.status().message()));
  if (object->kernels.size() != 1)
    fail("the code object holds " + std::to_string(object->kernels.size()) + " kernels, not 1");
  const KernelFacts &facts = object->kernels[0];
  if (std::getenv("INGOT_NUMERICS_FACTS"))
    std::printf("%s: %u VGPRs, %u SGPRs, %u bytes of LDS, %u bytes of scratch, %u bytes of code\n", target().name,
                facts.vgprs, facts.sgprs, facts.ldsBytes, facts.scratchBytes, facts.codeBytes);
  return std::make_unique<Code>(*object);
}

const Code &codeOf(mlir::gpu::GPUModuleOp module) {
  // By text. Never destroyed, as the emulator may be gone by then.
  static auto &compiled = *new std::map<std::string, std::unique_ptr<Code>>;
  std::string text;
  llvm::raw_string_ostream(text) << *module;
  std::unique_ptr<Code> &code = compiled[text];
  if (!code)
    code = compile(module);
  const KernelFacts &facts = code->kernels[0];
  EXPECT_EQ(facts.scratchBytes, 0U) << facts.name << " spills, with " << facts.vgprs << " VGPRs";
  return *code;
}

Kernel::Kernel(const Emit &emit) {
  mlir::OpBuilder b(&context());
  mlir::OwningOpRef<mlir::ModuleOp> holder = mlir::ModuleOp::create(b.getUnknownLoc());
  b.setInsertionPointToEnd(holder->getBody());
  auto kernels = mlir::gpu::GPUModuleOp::create(b, b.getUnknownLoc(), "kernels");
  shape = emit(kernels, target(), "kernel");
  if (mlir::failed(mlir::verify(*holder)))
    fail("the emitted module does not verify");
  code = &codeOf(kernels);
  EXPECT_EQ(code->kernels[0].workgroupSize, shape.workgroupSize);
}

void Kernel::run(unsigned tokens, const std::vector<const Buffer *> &arguments) const {
  std::vector<void *> pointers;
  pointers.reserve(arguments.size());
  for (const Buffer *buffer : arguments)
    pointers.push_back(buffer->device());
  unsigned y =
      shape.tokensPerWorkgroup == 0 ? shape.y : (tokens + shape.tokensPerWorkgroup - 1) / shape.tokensPerWorkgroup;
  code->run(shape.kernel, shape.x, y, shape.z, shape.workgroupSize, pointers);
}

// std::normal_distribution differs between libraries; a sum of uniform numbers does not.
std::vector<float> normalFloat(size_t count, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float &value : values) {
    double sum = -6;
    for (int i = 0; i < 12; ++i)
      sum += random() * 0x1p-32;
    value = static_cast<float>(sum) * deviation;
  }
  return values;
}

std::vector<Bf16> normalBf16(size_t count, uint32_t seed, float deviation) {
  std::vector<Bf16> values;
  values.reserve(count);
  for (float value : normalFloat(count, seed, deviation))
    values.push_back(toBf16(value));
  return values;
}

std::vector<int8_t> uniformInt8(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int8_t> values(count);
  for (int8_t &value : values)
    value = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  return values;
}

void Difference::expect(double got, double wanted, double absolute, double relative, const std::string &where) {
  ++compared;
  if (std::abs(got - wanted) <= absolute + relative * std::abs(wanted))
    return;
  if (wrong++ == 0)
    first = where + ": got " + std::to_string(got) + ", wanted " + std::to_string(wanted);
}

void Difference::report(const std::string &what) const {
  EXPECT_GT(compared, 0U) << what << ": nothing was compared";
  EXPECT_EQ(wrong, 0U) << what << ": " << wrong << " of " << compared << " values differ; the first at " << first;
}

} // namespace ingot::numerics
