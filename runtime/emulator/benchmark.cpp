// How fast the emulator is on this machine: wave-instructions, multiply-adds and bytes a second of an int8-dot GEMV and
// a WMMA GEMM, printed as JSON. Usage: ingot-emulator-bench [KERNELS.co], for the chip that INGOT_EMULATOR_TARGET
// names.
#include "runtime/emulator/emulator.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <hip/hip_runtime_api.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

constexpr double secondsPerKernel = 1.0;

void require(hipError_t error, const char *what) {
  if (error == hipSuccess)
    return;
  std::fprintf(stderr, "ingot-emulator-bench: %s: %s\n%s\n", what, hipGetErrorString(error), ingotEmulatorLastReport());
  std::exit(1);
}

void *allocate(size_t bytes) {
  void *pointer;
  require(hipMalloc(&pointer, bytes), "allocation");
  require(hipMemset(pointer, 1, bytes), "fill");
  return pointer;
}

// Runs `launch` for about secondsPerKernel and turns the counters of `kernel` into rates.
nlohmann::json measure(const std::string &kernel, double multiplyAdds, const std::function<hipError_t()> &launch) {
  require(launch(), "warm-up");
  ingotEmulatorResetCounters();
  auto begin = std::chrono::steady_clock::now();
  double seconds = 0;
  uint64_t launches = 0;
  do {
    require(launch(), kernel.c_str());
    ++launches;
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } while (seconds < secondsPerKernel);
  auto counters = nlohmann::json::parse(ingotEmulatorCountersJson())["kernels"][kernel];
  return {{"kernel", kernel},
          {"launches", launches},
          {"seconds", seconds},
          {"wave_instructions_per_second", counters["instructions"].get<double>() / seconds},
          {"bytes_read_per_second", counters["bytes_read"].get<double>() / seconds},
          {"multiply_adds_per_second", multiplyAdds * double(launches) / seconds}};
}

} // namespace

int main(int argc, char **argv) {
  const char *chip = std::getenv("INGOT_EMULATOR_TARGET");
  std::string target = chip ? chip : "gfx1151";
  std::string path = argc > 1 ? argv[1] : INGOT_KERNEL_DIR "/kernels_" + target + ".co";
  hipModule_t module;
  require(hipModuleLoad(&module, path.c_str()), path.c_str());
  hipFunction_t gemv, gemm, add;
  require(hipModuleGetFunction(&gemv, module, "gemv_int8"), "gemv_int8");
  require(hipModuleGetFunction(&gemm, module, "gemm_f16"), "gemm_f16");
  require(hipModuleGetFunction(&add, module, "vector_add_fixed"), "vector_add_fixed");

  unsigned rows = 2048, k = 4096, size = 512;
  void *weights = allocate(size_t(rows) * k), *x = allocate(k), *scales = allocate(rows * 4), *y = allocate(rows * 4);
  void *a = allocate(size_t(size) * size * 2), *b = allocate(size_t(size) * size * 2),
       *c = allocate(size_t(size) * size * 4);
  nlohmann::json results = nlohmann::json::array();
  void *gemvParams[] = {static_cast<void *>(&weights), static_cast<void *>(&x), static_cast<void *>(&scales),
                        static_cast<void *>(&y), static_cast<void *>(&k)};
  results.push_back(measure("gemv_int8", double(rows) * k, [&] {
    return hipModuleLaunchKernel(gemv, rows, 1, 1, 128, 1, 1, 0, nullptr, gemvParams, nullptr);
  }));
  void *gemmParams[] = {static_cast<void *>(&a), static_cast<void *>(&b), static_cast<void *>(&c),
                        static_cast<void *>(&size), static_cast<void *>(&size)};
  results.push_back(measure("gemm_f16", double(size) * size * size, [&] {
    return hipModuleLaunchKernel(gemm, size / 16, size / 16, 1, 32, 1, 1, 0, nullptr, gemmParams, nullptr);
  }));
  // One workgroup only: what a launch costs.
  void *addParams[] = {static_cast<void *>(&a), static_cast<void *>(&b), static_cast<void *>(&c)};
  results.push_back(measure("vector_add_fixed", 0, [&] {
    return hipModuleLaunchKernel(add, 1, 1, 1, 64, 1, 1, 0, nullptr, addParams, nullptr);
  }));
  std::printf("%s\n", nlohmann::json{{"target", target}, {"results", results}}.dump(2).c_str());
  return 0;
}
