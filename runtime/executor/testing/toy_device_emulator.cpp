// The emulated chip named by INGOT_TEST_TARGET, with the toy kernels compiled for it when the tests were built.
#include <cstdlib>

#include "runtime/executor/testing/toy_device.h"

namespace ingot::testing {

absl::StatusOr<ToyDevice> openToyDevice() {
  const char *target = std::getenv("INGOT_TEST_TARGET");
  ToyDevice toy;
  toy.target = target ? target : "gfx1151";
  auto code = readToyCode(INGOT_TOY_CODE);
  if (!code.ok())
    return code.status();
  toy.code = *std::move(code);
  // One process has one emulated device, which cannot be chosen twice.
  static absl::StatusOr<std::shared_ptr<const Hip>> hip = Hip::openEmulator(toy.target);
  if (!hip.ok())
    return hip.status();
  auto device = Device::open(*hip);
  if (!device.ok())
    return device.status();
  toy.device = *std::move(device);
  return toy;
}

} // namespace ingot::testing
