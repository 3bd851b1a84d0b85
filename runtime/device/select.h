// Which device runs this file: the card where one is there that the file has code for, else the emulator. The file's
// chips come in as data, so this room knows neither artifacts nor chip names.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/device/device.h"

namespace ingot {

enum class DeviceChoice { kAuto, kHip, kEmulator };

struct DeviceRequest {
  DeviceChoice choice = DeviceChoice::kAuto;
  std::string target; // the chip to emulate; empty: the first of `available`. Implies the emulator with kAuto
  std::vector<std::string> available; // chips that the file has code for, not empty
  // The code object for one of `available`, to try on a card whose name is not among them (a sibling chip that takes
  // generic code).
  std::function<std::span<const std::byte>(const std::string &target)> codeObject;
  Hip::EmulatorOptions emulatorOptions;
};

struct SelectedDevice {
  std::shared_ptr<const Device> device;
  std::string target; // the one of `available` to load
  std::string note;   // for people, when the emulator stands in for a card; else empty
};

// Errors: Unavailable without a card (kHip), FailedPrecondition with a card or chip that the file has no code for, each
// saying what was found and what the file has.
absl::StatusOr<SelectedDevice> selectDevice(const DeviceRequest &request);

} // namespace ingot
