// The device that the session tests run on; which one is decided by the source file that is linked in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/device/device.h"
#include "runtime/executor/testing/toy_model.h"

namespace ingot::testing {

struct ToyDevice {
  std::shared_ptr<const Device> device;
  std::string target;
  std::vector<ToyCode> code;
};

absl::StatusOr<ToyDevice> openToyDevice();

} // namespace ingot::testing
