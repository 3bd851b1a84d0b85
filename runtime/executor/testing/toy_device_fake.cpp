#include "runtime/executor/testing/toy_device.h"

namespace ingot::testing {

absl::StatusOr<ToyDevice> openToyDevice() {
  auto hip = Hip::open(INGOT_FAKE_HIP, Hip::Kind::kSystem);
  if (!hip.ok())
    return hip.status();
  auto device = Device::open(*hip);
  if (!device.ok())
    return device.status();
  return ToyDevice{*device, "gfx1151", {{"gfx1151", "toy code for gfx1151"}, {"gfx1201", "toy code for gfx1201"}}};
}

} // namespace ingot::testing
