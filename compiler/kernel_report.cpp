#include "compiler/kernel_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "codegen/launch_shape.h"
#include "dialects/Exec.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"

using namespace mlir;

namespace ingot {

namespace {

using Json = nlohmann::ordered_json;
using Choice = KernelReport::Choice;

std::optional<Choice> choiceOf(DictionaryAttr shape, llvm::StringRef name) {
  auto choice = shape ? shape.getAs<DictionaryAttr>(name) : nullptr;
  if (!choice)
    return std::nullopt;
  auto number = [&](llvm::StringRef field) {
    auto value = choice.getAs<IntegerAttr>(field);
    return value ? value.getInt() : 0;
  };
  auto seconds = choice.getAs<FloatAttr>("modelled_seconds");
  return Choice{.tiles = number("tiles"),
                .tokenTiles = number("token_tiles"),
                .waves = number("waves"),
                .unroll = number("unroll"),
                .bytesInFlight = number("bytes_in_flight"),
                .seconds = seconds ? seconds.getValueAsDouble() : 0};
}

KernelReport describe(exec::LaunchOp launch, Operation *kernel, const TargetInfo &target, const CodeObject &code,
                      uint64_t chunk) {
  KernelReport report;
  report.target = target.name;
  report.kernel = launch.getKernel().getLeafReference().str();
  llvm::copy(launch.getGrid(), report.grid.begin());
  if (auto tokens = launch.getTokensPerWorkgroup()) {
    report.grid[1] = (chunk + *tokens - 1) / *tokens;
    report.wholeChunk = true;
  }
  report.workgroupSize = static_cast<unsigned>(launch.getBlock());
  for (const KernelFacts &facts : code.kernels)
    if (facts.name == report.kernel) {
      report.vgprs = facts.vgprs;
      report.ldsBytes = facts.ldsBytes;
      report.wavesPerSimd = occupancy(target, facts.vgprs, facts.ldsBytes, facts.workgroupSize / target.waveSize);
    }
  const uint64_t workgroups = report.grid[0] * report.grid[1] * report.grid[2];
  report.workgroupsPerComputeUnit = static_cast<double>(workgroups) / target.computeUnits;
  auto shape = kernel ? kernel->getAttrOfType<DictionaryAttr>(exec::kLaunchShape) : nullptr;
  if (auto bound = shape ? shape.getAs<StringAttr>("bound") : nullptr; bound && workgroups < workgroupsWanted(target))
    report.bound = bound.str();
  if (auto considered = shape ? shape.getAs<IntegerAttr>("considered") : nullptr)
    report.considered = considered.getInt();
  report.chosen = choiceOf(shape, "chosen");
  report.runnerUp = choiceOf(shape, "runner_up");
  return report;
}

std::string plural(int64_t count, const char *what) { return absl::StrCat(count, " ", what, count == 1 ? "" : "s"); }

std::string text(const Choice &choice) {
  const std::string tile =
      choice.tokenTiles
          ? absl::StrFormat("%d rows and %d tokens a wave, %s side by side", choice.tiles * 16, choice.tokenTiles * 16,
                            plural(choice.waves, "wave"))
          : absl::StrFormat("%s a wave, K over %s", plural(choice.tiles * 16, "row"), plural(choice.waves, "wave"));
  return absl::StrFormat("%s, %s at once: %.0f KiB in flight, %.2f us", tile, plural(choice.unroll, "step"),
                         static_cast<double>(choice.bytesInFlight) / 1024, choice.seconds * 1e6);
}

Json json(const std::optional<Choice> &choice) {
  if (!choice)
    return nullptr;
  return {{"rows_per_wave", choice->tiles * 16},
          {"tokens_per_wave", choice->tokenTiles ? Json(choice->tokenTiles * 16) : Json()},
          {choice->tokenTiles ? "waves" : "waves_along_k", choice->waves},
          {"unroll", choice->unroll},
          {"bytes_in_flight", choice->bytesInFlight},
          {"modelled_seconds", choice->seconds}};
}

} // namespace

std::vector<KernelReport> explainKernels(ModuleOp module, const std::map<std::string, CodeObject> &code) {
  std::vector<KernelReport> reports;
  const auto chunk = static_cast<uint64_t>(llm::Facts::of(module).prefillChunk);
  for (auto op : module.getOps<exec::TargetOp>()) {
    auto target = findTarget(op.getSymName().str());
    auto object = code.find(op.getSymName().str());
    if (!target.ok() || object == code.end())
      continue;
    std::map<std::string, size_t> known; // by kernel
    for (auto program : op.getBody().getOps<exec::ProgramOp>())
      for (auto launch : program.getBody().getOps<exec::LaunchOp>()) {
        auto [entry, isNew] = known.try_emplace(launch.getKernel().getLeafReference().str(), reports.size());
        if (isNew) {
          reports.push_back(
              describe(launch, SymbolTable::lookupSymbolIn(op, launch.getKernel()), **target, object->second, chunk));
          reports.back().program = program.getSymName().str();
        }
        KernelReport &report = reports[entry->second];
        report.launches += report.program == program.getSymName();
      }
  }
  return reports;
}

std::string kernelTable(const std::vector<KernelReport> &kernels) {
  std::string table, target, program;
  for (const KernelReport &k : kernels) {
    if (target != k.target) {
      const TargetInfo &info = **findTarget(k.target);
      absl::StrAppendFormat(&table, "%s: %d compute units, %.0f GB/s. Times and bytes in flight are modelled.\n",
                            k.target, info.computeUnits, info.bandwidth / 1e9);
      program.clear();
    }
    if (target != k.target || program != k.program)
      absl::StrAppendFormat(&table, "  %s\n", k.program);
    target = k.target;
    program = k.program;
    absl::StrAppendFormat(&table, "    %s, %s\n", k.kernel,
                          k.launches == 1 ? "1 launch" : absl::StrCat(k.launches, " launches"));
    absl::StrAppendFormat(&table,
                          "      %d x %d x %d workgroups of %d lanes%s, %.2f a compute unit; %d VGPRs, %d bytes "
                          "of LDS, %d waves a SIMD\n",
                          k.grid[0], k.grid[1], k.grid[2], k.workgroupSize, k.wholeChunk ? " for a whole chunk" : "",
                          k.workgroupsPerComputeUnit, k.vgprs, k.ldsBytes, k.wavesPerSimd);
    if (!k.bound.empty())
      absl::StrAppendFormat(&table, "      narrow: %s\n", k.bound);
    if (k.chosen)
      absl::StrAppendFormat(&table, "      %s, best of %d\n", text(*k.chosen), k.considered);
    if (k.runnerUp)
      absl::StrAppendFormat(&table, "      next%s: %s\n",
                            k.runnerUp->seconds == k.chosen->seconds ? ", as fast with more registers" : "",
                            text(*k.runnerUp));
  }
  return table;
}

Json kernelJson(const std::vector<KernelReport> &kernels) {
  Json list = Json::array();
  for (const KernelReport &k : kernels)
    list.push_back({{"target", k.target},
                    {"program", k.program},
                    {"kernel", k.kernel},
                    {"launches", k.launches},
                    {"grid", k.grid},
                    {"grid_of_whole_chunk", k.wholeChunk},
                    {"workgroup_size", k.workgroupSize},
                    {"vgprs", k.vgprs},
                    {"lds_bytes", k.ldsBytes},
                    {"occupancy_waves_per_simd", k.wavesPerSimd},
                    {"workgroups_per_compute_unit", k.workgroupsPerComputeUnit},
                    {"narrow_because", k.bound},
                    {"candidates", k.considered},
                    {"chosen", json(k.chosen)},
                    {"runner_up", json(k.runnerUp)}});
  return list;
}

} // namespace ingot
