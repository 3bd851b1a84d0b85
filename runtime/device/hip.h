// A HIP runtime opened by name: the system's libamdhip64 or the emulator, which exports the same functions. Everything
// above this line sees one kind of device.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace ingot {

struct HipTable;

class Hip {
public:
  enum class Kind { kSystem, kEmulator };
  using EmulatorOptions = std::vector<std::pair<std::string, std::string>>; // keys of runtime/emulator/emulator.h

  // libamdhip64 by its soname, newest first. NotFound if there is none, naming each that was tried.
  static absl::StatusOr<std::shared_ptr<const Hip>> openSystem();
  // libingot-emulator.so: beside the executable in ../lib or its own folder, else by the loader's path. `target` is the
  // chip to emulate; one process emulates one chip. InvalidArgument for a chip that it does not know.
  static absl::StatusOr<std::shared_ptr<const Hip>> openEmulator(const std::string &target,
                                                                 const EmulatorOptions &options = {});
  // A library by its file name, for tests with a library of their own.
  static absl::StatusOr<std::shared_ptr<const Hip>> open(const std::string &file, Kind kind);
  // The emulator's file, or NotFound listing where it was looked for. Loads it to be sure.
  static absl::StatusOr<std::string> findEmulator();

  ~Hip();
  Hip(const Hip &) = delete;
  Hip &operator=(const Hip &) = delete;

  Kind kind() const { return opened; }
  const std::string &file() const { return name; }
  const HipTable &table() const { return *functions; }
  // 50221153 is 5.2.21153; 0 when it does not say.
  int version() const;
  std::string versionText() const;
  // Number of devices, 0 with a reason in `why` when the runtime finds none.
  int deviceCount(std::string *why = nullptr) const;

  // OK for 0, else a status with HIP's name and text of the error, what was being done, and the emulator's report.
  template <typename... Doing> absl::Status check(int error, const Doing &...doing) const {
    return error == 0 ? absl::OkStatus() : failure(error, absl::StrCat(doing...));
  }
  // "" on a real device.
  std::string countersJson() const;
  void resetCounters() const;
  // Names a buffer, by its device address, in the emulator's counters; nothing on a real device.
  void labelBuffer(const void *pointer, const std::string &label) const;

private:
  Hip(Kind kind, std::string name, void *library);
  absl::Status failure(int error, const std::string &doing) const;
  absl::Status bind();

  Kind opened;
  std::string name;
  void *library;
  std::unique_ptr<HipTable> functions;
};

} // namespace ingot
