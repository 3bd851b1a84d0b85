// `ingot doctor`: what this machine can run and, with a file, whether that file is whole and fits. Each finding that
// stops something says what to do about it.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "tools/ingot/command.h"

namespace ingot::cli {
namespace {

void line(const char *mark, const std::string &text) { absl::PrintF("%-8s%s\n", mark, text); }
void good(const std::string &text) { line("ok", text); }
void note(const std::string &text) { line("note", text); }
void bad(const std::string &text) { line("problem", text); }

std::string describe(const Device &device) {
  const DeviceInfo &info = device.info();
  auto memory = device.memory();
  return absl::StrCat(info.name, " (", info.chip.empty() ? "chip unknown" : info.chip, "), ", info.computeUnits,
                      " compute units, ",
                      memory.ok() ? absl::StrCat(bytesText(static_cast<double>(memory->free)), " of ",
                                                 bytesText(static_cast<double>(memory->total)), " memory free")
                                  : std::string(memory.status().message()),
                      info.integrated ? ", shares the host's memory" : "");
}

// Devices of the system's HIP runtime that can be used.
std::vector<std::shared_ptr<const Device>> checkSystem() {
  std::vector<std::shared_ptr<const Device>> devices;
  auto hip = Hip::openSystem();
  if (!hip.ok()) {
    note(std::string(hip.status().message()));
    return devices;
  }
  good(absl::StrCat("HIP runtime: ", (*hip)->file(), ", version ", (*hip)->versionText()));
  std::string why;
  int count = (*hip)->deviceCount(&why);
  if (count == 0)
    note(absl::StrCat("no GPU: ", why));
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    auto device = Device::open(*hip, ordinal);
    if (!device.ok()) {
      bad(absl::StrCat("GPU ", ordinal, ": ", std::string(device.status().message())));
      continue;
    }
    good(absl::StrCat("GPU ", ordinal, ": ", describe(**device)));
    devices.push_back(*device);
  }
  return devices;
}

absl::Status checkFile(const std::string &path, const DeviceFlags &flags) {
  auto artifact = Artifact::open(path);
  if (!artifact.ok()) {
    bad(std::string(artifact.status().message()));
    return absl::FailedPreconditionError("the file cannot be used");
  }
  if (absl::Status status = (*artifact)->verifyWeights(); !status.ok()) {
    bad(std::string(status.message()));
    return absl::FailedPreconditionError("the file cannot be used");
  }
  std::vector<std::string> chips;
  for (const TargetCode &code : (*artifact)->manifest().targets())
    chips.push_back(code.target());
  good(absl::StrCat(path, ": whole, every checksum right; code for ", absl::StrJoin(chips, ", ")));
  auto selected = chooseDevice(**artifact, flags);
  if (!selected.ok()) {
    bad(std::string(selected.status().message()));
    return absl::FailedPreconditionError("no device for this file");
  }
  auto fit = computeFit((*artifact)->manifest(), *selected->device, {}, /*allLogits=*/false);
  if (!fit.ok())
    return fit.status();
  const std::string &where = selected->device->info().name;
  if (absl::Status status = checkFit(*fit); status.ok()) {
    good(absl::StrCat("fits ", where, " with its full context of ", fit->context,
                      " positions: ", bytesText(static_cast<double>(fit->needed())), " of ",
                      bytesText(static_cast<double>(fit->free)), " free"));
  } else if (fit->largestContext > 0) {
    note(absl::StrCat("on ", where, ": ", std::string(status.message())));
  } else {
    bad(absl::StrCat("on ", where, ": ", std::string(status.message())));
    return absl::FailedPreconditionError("the model does not fit");
  }
  return absl::OkStatus();
}

absl::Status examine(const std::string &file, const DeviceFlags &flags) {
  bool usable = !checkSystem().empty();
  if (auto emulator = Hip::findEmulator(); emulator.ok()) {
    good(absl::StrCat("emulator: ", *emulator));
    if (!usable)
      note("models run on the emulator: correct, but slow");
    usable = true;
  } else {
    note(std::string(emulator.status().message()));
  }
  if (!usable)
    return absl::UnavailableError("neither a GPU nor the emulator can be used; see above for what each lacks");
  return file.empty() ? absl::OkStatus() : checkFile(file, flags);
}

} // namespace

void addDoctor(CLI::App &app, Command &command) {
  auto file = std::make_shared<std::string>();
  auto device = std::make_shared<DeviceFlags>();
  CLI::App *sub = app.add_subcommand("doctor", "Say what this machine can run, and check a file for it");
  sub->add_option("FILE", *file, "a .ingot file to check: whole, right chip, enough memory");
  device->add(*sub);
  sub->final_callback([file, device, &command] {
    device->check();
    command.action = [file, device] { return examine(*file, *device); };
  });
}

} // namespace ingot::cli
