// The emulated chip named by INGOT_TEST_TARGET, with the toy kernels compiled for it when the tests were built.
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "runtime/executor/testing/toy_device.h"

namespace ingot::testing {

absl::StatusOr<ToyDevice> openToyDevice() {
  const char *target = std::getenv("INGOT_TEST_TARGET");
  ToyDevice toy;
  toy.target = target ? target : "gfx1151";
  for (const char *name : {"gfx1151", "gfx1201"}) {
    std::ifstream in(absl::StrCat(INGOT_TOY_CODE, "/toy.", name, ".hsaco"), std::ios::binary);
    toy.code.push_back({name, {std::istreambuf_iterator<char>(in), {}}});
    if (toy.code.back().codeObject.empty())
      return absl::NotFoundError(absl::StrCat("no toy kernels for ", name, " in ", INGOT_TOY_CODE));
  }
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
