#include "runtime/device/select.h"

#include <algorithm>

#include "absl/strings/str_join.h"

namespace ingot {
namespace {

absl::StatusOr<SelectedDevice> selectCard(const DeviceRequest &request) {
  auto hip = Hip::openSystem();
  if (!hip.ok())
    return hip.status();
  std::string found;
  int count = std::max(1, (*hip)->deviceCount());
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    auto device = Device::open(*hip, ordinal);
    if (!device.ok()) {
      if (count == 1)
        return device.status();
      absl::StrAppend(&found, found.empty() ? "" : ", ", std::string(device.status().message()));
      continue;
    }
    const DeviceInfo &info = (*device)->info();
    if (std::ranges::find(request.available, info.chip) != request.available.end())
      return SelectedDevice{*device, info.chip, ""};
    for (const std::string &target : request.available) {
      auto accepted = (*device)->accepts(request.codeObject(target));
      if (!accepted.ok())
        return accepted.status();
      if (*accepted)
        return SelectedDevice{*device, target, ""};
    }
    absl::StrAppend(&found, found.empty() ? "" : ", ", info.name, " (", info.chip, ")");
  }
  return absl::FailedPreconditionError(
      absl::StrCat("this file has code for ", absl::StrJoin(request.available, ", "), ", but the machine has ", found,
                   "; compile the model with --targets naming that chip, or use --device emulator"));
}

absl::StatusOr<SelectedDevice> selectEmulator(const DeviceRequest &request) {
  std::string target = request.target.empty() ? request.available.front() : request.target;
  if (std::ranges::find(request.available, target) == request.available.end())
    return absl::FailedPreconditionError(
        absl::StrCat("this file has code for ", absl::StrJoin(request.available, ", "), ", not for ", target,
                     "; give one of these with --target, or compile the model with --targets naming ", target));
  auto hip = Hip::openEmulator(target, request.emulatorOptions);
  if (!hip.ok())
    return hip.status();
  auto device = Device::open(*hip);
  if (!device.ok())
    return device.status();
  return SelectedDevice{*std::move(device), target, ""};
}

} // namespace

absl::StatusOr<SelectedDevice> selectDevice(const DeviceRequest &request) {
  if (request.available.empty())
    return absl::InvalidArgumentError("expected code for at least one chip, got none");
  if (request.choice == DeviceChoice::kHip) {
    auto card = selectCard(request);
    if (absl::IsUnavailable(card.status()) || absl::IsNotFound(card.status()))
      return absl::UnavailableError(
          absl::StrCat(std::string(card.status().message()), "; use --device emulator to run without one"));
    return card;
  }
  if (request.choice == DeviceChoice::kEmulator || !request.target.empty())
    return selectEmulator(request);
  auto card = selectCard(request);
  if (card.ok())
    return card;
  auto emulator = selectEmulator(request);
  if (!emulator.ok())
    return absl::UnavailableError(absl::StrCat("no device: ", std::string(card.status().message()),
                                               "\nand no emulator: ", std::string(emulator.status().message())));
  emulator->note = absl::StrCat("running on the emulated ", emulator->target,
                                ", not on a GPU: ", std::string(card.status().message()));
  return emulator;
}

} // namespace ingot
