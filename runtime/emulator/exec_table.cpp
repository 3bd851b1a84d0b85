// Chooses the executor that the host can run.
#include "runtime/emulator/exec.h"

#include <cstdlib>

namespace ingot::emu {

#define INGOT_EXECUTOR(isa)                                                                                            \
  Executor {                                                                                                           \
    #isa, {isa::floatEntries(), isa::integerEntries(), isa::packedEntries(), isa::compareEntries(),                    \
           isa::laneEntries(),  isa::memoryEntries(),  isa::wmmaEntries(),   scalarEntries()},                         \
        isa::microOperations(), isa::runWave                                                                           \
  }

const Executor *chooseExecutor() {
  static const Executor *const chosen = []() -> const Executor * {
    __builtin_cpu_init();
    const char *wanted = std::getenv("INGOT_EMULATOR_ISA");
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512vnni");
    bool narrow = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                  __builtin_cpu_supports("bmi2");
    if (wide && !(wanted && std::string_view(wanted) == "avx2"))
      return new Executor(INGOT_EXECUTOR(avx512));
    if (narrow)
      return new Executor(INGOT_EXECUTOR(avx2));
    return nullptr;
  }();
  return chosen;
}

} // namespace ingot::emu
