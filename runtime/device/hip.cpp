#include "runtime/device/hip.h"

#include <dlfcn.h>
#include <filesystem>
#include <system_error>
#include <unistd.h>

#include "absl/strings/str_join.h"

#include "runtime/device/hip_table.h"

namespace ingot {
namespace {

constexpr const char *kEmulatorFile = "libingot-emulator.so";

template <typename Function> bool find(void *library, const char *name, Function *&function) {
  function = reinterpret_cast<Function *>(::dlsym(library, name));
  return function != nullptr;
}

// The candidates for the emulator: files beside this program first, so that a build tree uses its own.
std::vector<std::string> emulatorFiles() {
  std::error_code error;
  std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  std::vector<std::string> files;
  if (!error)
    for (const char *folder : {"../lib", "."}) {
      std::filesystem::path file = (program.parent_path() / folder / kEmulatorFile).lexically_normal();
      files.push_back(file.string());
    }
  files.emplace_back(kEmulatorFile);
  return files;
}

absl::StatusCode codeOf(int error) {
  switch (error) {
  case hipErrorInvalidValue:
  case hipErrorInvalidConfiguration:
    return absl::StatusCode::kInvalidArgument;
  case hipErrorOutOfMemory:
    return absl::StatusCode::kResourceExhausted;
  case hipErrorNoDevice:
  case hipErrorInvalidDevice:
    return absl::StatusCode::kUnavailable;
  case hipErrorInvalidImage:
  case hipErrorNoBinaryForGpu:
    return absl::StatusCode::kFailedPrecondition;
  case hipErrorNotFound:
    return absl::StatusCode::kNotFound;
  default:
    return absl::StatusCode::kInternal;
  }
}

std::string whyNoDevice(const std::string &errorName) {
  if (::access("/dev/kfd", F_OK) != 0)
    return absl::StrCat(errorName, ": there is no /dev/kfd, so no AMD GPU or the amdgpu kernel driver is not loaded");
  if (::access("/dev/kfd", R_OK | W_OK) != 0)
    return absl::StrCat(errorName, ": /dev/kfd may not be opened; add yourself to the groups render and video");
  return absl::StrCat(errorName, ": /dev/kfd is there, but this runtime supports no GPU of this machine; "
                                 "a newer ROCm may");
}

} // namespace

Hip::Hip(Kind kind, std::string name, void *library)
    : opened(kind), name(std::move(name)), library(library), functions(std::make_unique<HipTable>()) {}

// A HIP runtime does not survive being unloaded: its threads and exit handlers stay behind.
Hip::~Hip() = default;

absl::Status Hip::bind() {
  std::vector<std::string> missing;
#define INGOT_HIP_BIND(function, parameters)                                                                           \
  if (!find(library, #function, functions->function))                                                                  \
    missing.emplace_back(#function);
  INGOT_HIP_FUNCTIONS(INGOT_HIP_BIND)
#undef INGOT_HIP_BIND
  if (!find(library, "hipGetErrorName", functions->hipGetErrorName))
    missing.emplace_back("hipGetErrorName");
  if (!find(library, "hipGetErrorString", functions->hipGetErrorString))
    missing.emplace_back("hipGetErrorString");
  if (!missing.empty())
    return absl::FailedPreconditionError(absl::StrCat(name, ": expected HIP 5.2 or newer, but it lacks ",
                                                      absl::StrJoin(missing, ", "), "; install a newer libamdhip64"));
  if (!find(library, "hipGetDevicePropertiesR0600", functions->deviceProperties))
    find(library, "hipGetDeviceProperties", functions->deviceProperties);
  find(library, "ingotEmulatorSetTarget", functions->emulatorSetTarget);
  find(library, "ingotEmulatorSetOption", functions->emulatorSetOption);
  find(library, "ingotEmulatorLastReport", functions->emulatorLastReport);
  find(library, "ingotEmulatorCountersJson", functions->emulatorCountersJson);
  find(library, "ingotEmulatorResetCounters", functions->emulatorResetCounters);
  find(library, "ingotEmulatorLabelBuffer", functions->emulatorLabelBuffer);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Hip>> Hip::open(const std::string &file, Kind kind) {
  void *library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = ::dlerror();
    return absl::NotFoundError(reason ? reason : file.c_str());
  }
  std::shared_ptr<Hip> hip(new Hip(kind, file, library));
  if (absl::Status status = hip->bind(); !status.ok())
    return status;
  return hip;
}

absl::StatusOr<std::shared_ptr<const Hip>> Hip::openSystem() {
  std::vector<std::string> tried;
  for (const char *file : {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"}) {
    auto hip = open(file, Kind::kSystem);
    if (hip.ok() || !absl::IsNotFound(hip.status()))
      return hip;
    tried.emplace_back(file);
  }
  return absl::NotFoundError(
      absl::StrCat("no HIP runtime on this machine (tried ", absl::StrJoin(tried, ", "), "); install ROCm"));
}

absl::StatusOr<std::string> Hip::findEmulator() {
  std::string reasons;
  for (const std::string &file : emulatorFiles()) {
    auto hip = open(file, Kind::kEmulator);
    if (hip.ok())
      return file;
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", std::string(hip.status().message()));
  }
  return absl::NotFoundError(absl::StrCat("the emulator (", kEmulatorFile, ") cannot be loaded: ", reasons,
                                          "; build the target ingot-emulator"));
}

absl::StatusOr<std::shared_ptr<const Hip>> Hip::openEmulator(const std::string &target,
                                                             const EmulatorOptions &options) {
  auto file = findEmulator();
  if (!file.ok())
    return file.status();
  auto opened = open(*file, Kind::kEmulator);
  if (!opened.ok())
    return opened;
  const Hip &hip = **opened;
  const HipTable &table = hip.table();
  if (!table.emulatorSetTarget || !table.emulatorSetOption)
    return absl::FailedPreconditionError(absl::StrCat(*file, ": expected the emulator's functions, found none; build "
                                                             "the target ingot-emulator again"));
  if (int error = table.emulatorSetTarget(target.c_str()); error != 0)
    return hip.check(error, "choosing the emulated chip ", target);
  for (const auto &[key, value] : options)
    if (int error = table.emulatorSetOption(key.c_str(), value.c_str()); error != 0)
      return hip.check(error, "setting the emulator's option ", key, " to ", value);
  return opened;
}

int Hip::version() const {
  int version = 0;
  return functions->hipRuntimeGetVersion(&version) == hipSuccess ? version : 0;
}

std::string Hip::versionText() const {
  int number = version();
  return absl::StrCat(number / 10'000'000, ".", number / 100'000 % 100, ".", number % 100'000);
}

int Hip::deviceCount(std::string *why) const {
  int count = 0;
  hipError_t error = functions->hipGetDeviceCount(&count);
  if (error == hipSuccess && count > 0)
    return count;
  if (why)
    *why = whyNoDevice(error == hipSuccess ? "no device" : functions->hipGetErrorName(error));
  return 0;
}

absl::Status Hip::failure(int error, const std::string &doing) const {
  auto code = static_cast<hipError_t>(error);
  std::string message = absl::StrCat(doing, ": ", functions->hipGetErrorName(code), " (", error, ", ",
                                     functions->hipGetErrorString(code), ")");
  if (functions->emulatorLastReport)
    if (const char *report = functions->emulatorLastReport(); report && *report)
      absl::StrAppend(&message, "\n", report);
  return {codeOf(error), message};
}

std::string Hip::countersJson() const {
  return functions->emulatorCountersJson ? functions->emulatorCountersJson() : "";
}

void Hip::labelBuffer(const void *pointer, const std::string &label) const {
  if (functions->emulatorLabelBuffer && !label.empty())
    functions->emulatorLabelBuffer(pointer, label.c_str());
}

void Hip::resetCounters() const {
  if (functions->emulatorResetCounters)
    functions->emulatorResetCounters();
}

} // namespace ingot
