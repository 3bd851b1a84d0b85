// ingot-compare: runs an artifact on a device and the reference interpreter on the checkpoint it was made from, side by
// side, and names the first op whose result differs.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "codegen/compile.h"
#include "compiler/pipeline.h"
#include "compiler/reference/interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "nlohmann/json.hpp"
#include "runtime/device/select.h"
#include "runtime/executor/session.h"
#include "llvm/Support/raw_ostream.h"

namespace ingot {
namespace {

// A result of the interpreter, waiting for the device to reach it.
struct Expected {
  std::string label, op;
  std::vector<HostTensor> results;
  std::vector<mlir::Type> elements;
  std::vector<size_t> strides; // elements from row to row in device memory
};

// Elements from row to row as the device lays `value` out: rows of activations are padded to 64, vectors and logits are
// dense.
size_t rowStride(mlir::Value value) {
  auto type = mlir::cast<mlir::RankedTensorType>(value.getType());
  bool logits = llvm::any_of(value.getUsers(), llvm::IsaPred<mlir::func::ReturnOp>);
  if (type.getRank() == 1)
    return 1;
  return logits ? type.getShape().back() : (type.getShape().back() + 63) / 64 * 64;
}

// Relative L2 distance. NaN, and anything that is not finite on one side only, comes out as NaN.
double distance(const HostTensor &expected, mlir::Type element, size_t stride, const std::vector<std::byte> &got) {
  size_t width = element.getIntOrFloatBitWidth() / 8;
  double difference = 0, size = 0;
  for (int64_t r = 0; r < expected.rows; ++r)
    for (int64_t c = 0; c < expected.columns; ++c) {
      const std::byte *at = got.data() + (r * stride + c) * width;
      size_t i = r * expected.columns + c;
      double want = 0, have = 0;
      if (element.isBF16()) {
        uint16_t half;
        std::memcpy(&half, at, 2);
        have = std::bit_cast<float>(static_cast<uint32_t>(half) << 16), want = expected.floats[i];
      } else if (element.isF32()) {
        float value;
        std::memcpy(&value, at, 4);
        have = value, want = expected.floats[i];
      } else if (element.isInteger(8)) {
        have = static_cast<int8_t>(*at), want = expected.int8s[i];
      } else {
        int32_t value;
        std::memcpy(&value, at, 4);
        have = value, want = expected.ids[i];
      }
      difference += (have - want) * (have - want);
      size += want * want;
    }
  return size > 0 ? std::sqrt(difference / size) : std::sqrt(difference);
}

// Kernels that only prepare an op's result, which another launch of the same op makes, or make more of it afterwards.
bool isOtherStage(const std::string &kernel) {
  auto starts = [&](std::string_view prefix) { return kernel.compare(0, prefix.size(), prefix) == 0; };
  return (starts("attention_") && !starts("attention_combine_") && !starts("attention_prefill_")) ||
         (starts("argmax_") && kernel != "argmax_final") || starts("delta_prepare_") || starts("group_");
}

class Comparison {
public:
  Comparison(double tolerance, bool verbose) : tolerance(tolerance), verbose(verbose) {}

  void expect(mlir::Operation *op, std::span<const HostTensor> results) {
    Expected e{llm::labelOf(op), op->getName().getStringRef().str(), {results.begin(), results.end()}, {}, {}};
    for (mlir::Value value : op->getResults()) {
      e.elements.push_back(mlir::getElementTypeOrSelf(value.getType()));
      e.strides.push_back(rowStride(value));
    }
    queue.push_back(std::move(e));
  }

  absl::Status check(const Launch &launch, const std::string &kernel, const ReadArgument &read) {
    if (isOtherStage(kernel))
      return absl::OkStatus();
    if (next == queue.size())
      return absl::InternalError(
          absl::StrCat("the artifact launches ", kernel, " (", launch.label(),
                       ") where the interpreter has no op left: it was made from another graph"));
    const Expected &e = queue[next++];
    if (e.label != launch.label())
      return absl::InternalError(absl::StrCat("the artifact launches ", kernel, " (", launch.label(),
                                              ") where the interpreter runs ", e.op, " (", e.label,
                                              "): it was made from another graph"));
    for (size_t i = 0; i < e.results.size(); ++i) {
      const HostTensor &tensor = e.results[i];
      size_t bytes = tensor.rows * e.strides[i] * e.elements[i].getIntOrFloatBitWidth() / 8;
      std::vector<std::byte> got(bytes);
      unsigned argument = launch.arguments_size() - e.results.size() + i;
      if (absl::Status s = read(argument, got); !s.ok())
        return s;
      double d = distance(tensor, e.elements[i], e.strides[i], got);
      worst = std::max(worst, d);
      if (verbose)
        std::printf("%-10.3g %-24s %s\n", d, e.op.c_str(), e.label.c_str());
      if (!(d <= tolerance) && first.empty())
        first = absl::StrCat(e.op, " (", e.label, "), kernel ", kernel, ", result ", i, " of ", tensor.rows, " x ",
                             tensor.columns, ": relative distance ", d, ", expected at most ", tolerance);
    }
    ++compared;
    return absl::OkStatus();
  }

  void restart() {
    queue.clear();
    next = 0;
  }
  bool finished() const { return next == queue.size(); }

  double tolerance, worst = 0;
  bool verbose;
  size_t compared = 0, next = 0;
  std::string first;
  std::vector<Expected> queue;
};

struct Arguments {
  std::string artifact, model, recipe, calibration, tokens, device = "auto", target;
  uint64_t calibrationTokens = CompileRequest().calibrationTokens;
  std::optional<uint64_t> syntheticWeights;
  double tolerance = 0.05;
  bool verbose = false;
  int length = 20, steps = 4;
};

absl::StatusOr<std::vector<int32_t>> tokensFor(const Arguments &arguments, uint32_t vocabulary) {
  std::vector<int32_t> ids;
  if (arguments.tokens.empty()) {
    // No text is needed to compare kernels: any ids do.
    for (int i = 0; i < arguments.length; ++i)
      ids.push_back(static_cast<int32_t>((2654435761u * (i + 1)) % vocabulary));
    return ids;
  }
  std::ifstream file(arguments.tokens);
  nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array())
    return absl::InvalidArgumentError(absl::StrCat(arguments.tokens, ": expected a JSON array of token ids"));
  for (const auto &id : json) {
    if (!id.is_number_integer() || id < 0 || id >= vocabulary)
      return absl::InvalidArgumentError(
          absl::StrCat(arguments.tokens, ": expected ids from 0 to ", vocabulary - 1, ", got ", id.dump()));
    ids.push_back(id);
  }
  return ids;
}

absl::Status compare(const Arguments &arguments) {
  auto opened = Artifact::open(arguments.artifact);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = std::move(*opened);
  const Manifest &manifest = artifact->manifest();
  CompileRequest request;
  request.model = arguments.model;
  request.recipe = arguments.recipe.empty() ? manifest.provenance().recipe() : arguments.recipe;
  request.calibration = arguments.calibration;
  request.calibrationTokens = arguments.calibrationTokens;
  request.syntheticWeights = arguments.syntheticWeights;
  CompileReport report;
  auto checkpoint = openCheckpoint(request, report);
  if (!checkpoint.ok())
    return checkpoint.status();
  if ((*checkpoint)->digest() != manifest.provenance().source_digest())
    return absl::InvalidArgumentError(absl::StrCat(arguments.artifact, " was made from ",
                                                   manifest.provenance().source(), ", and ", arguments.model,
                                                   " is another file"));
  if (report.calibration != manifest.provenance().calibration())
    return absl::InvalidArgumentError(
        absl::StrCat(arguments.artifact, " was calibrated with ",
                     manifest.provenance().calibration().empty() ? "nothing" : manifest.provenance().calibration(),
                     ", --calibrate is ", report.calibration.empty() ? "nothing" : report.calibration));

  mlir::DialectRegistry registry;
  registerCodegenDialects(registry);
  mlir::MLIRContext context(registry);
  request.disabledPasses.assign(manifest.provenance().disabled_passes().begin(),
                                manifest.provenance().disabled_passes().end());
  request.prefillChunk = manifest.facts().prefill_chunk();
  request.contextLength = manifest.facts().context_length();
  auto module = runPhases(context, **checkpoint, request, "fuse");
  if (!module.ok())
    return module.status();

  DeviceRequest wanted;
  wanted.choice = arguments.device == "hip"        ? DeviceChoice::kHip
                  : arguments.device == "emulator" ? DeviceChoice::kEmulator
                                                   : DeviceChoice::kAuto;
  wanted.target = arguments.target;
  for (const TargetCode &code : manifest.targets())
    wanted.available.push_back(code.target());
  wanted.codeObject = [&](const std::string &target) {
    return artifact->codeObject(target).value_or(std::span<const std::byte>());
  };
  auto device = selectDevice(wanted);
  if (!device.ok())
    return device.status();
  const TargetCode *code = *artifact->code(device->target);

  Comparison comparison(arguments.tolerance, arguments.verbose);
  Interpreter interpreter(**module, **checkpoint, {.numerics = Interpreter::Numerics::Device});
  interpreter.observe(
      [&](mlir::Operation *op, std::span<const HostTensor> results) { comparison.expect(op, results); });
  SessionOptions options;
  options.graph = false;
  options.context = std::min<uint32_t>(manifest.facts().context_length(), 4096);
  options.observer = [&](const Launch &launch, const ReadArgument &read) {
    return comparison.check(launch, code->kernels(static_cast<int>(launch.kernel())).name(), read);
  };
  auto session = Session::load(artifact, device->device, device->target, options);
  if (!session.ok())
    return session.status();
  auto tokens = tokensFor(arguments, manifest.facts().vocabulary());
  if (!tokens.ok())
    return tokens.status();

  // A chunk at a time, so that the interpreter's results of one chunk are all that is kept.
  std::span<const int32_t> rest(*tokens);
  while (!rest.empty()) {
    std::span<const int32_t> chunk = rest.first(std::min<size_t>(rest.size(), manifest.facts().prefill_chunk()));
    comparison.restart();
    if (auto reference = interpreter.prefill(chunk); !reference.ok())
      return reference.status();
    if (absl::Status s = (*session)->prefill(chunk); !s.ok())
      return s;
    rest = rest.subspan(chunk.size());
  }
  for (int i = 0; i < arguments.steps; ++i) {
    int32_t token = (*tokens)[i % tokens->size()];
    comparison.restart();
    if (auto reference = interpreter.decode(token); !reference.ok())
      return reference.status();
    if (absl::Status s = (*session)->decode(token); !s.ok())
      return s;
  }
  if (!comparison.finished())
    return absl::InternalError(
        "the artifact has fewer launches than the interpreter has ops: it was made from another graph");
  std::printf("%s on %s: %zu results compared, largest relative distance %.3g\n", arguments.artifact.c_str(),
              device->target.c_str(), comparison.compared, comparison.worst);
  if (!comparison.first.empty())
    return absl::DataLossError(absl::StrCat("first op that differs: ", comparison.first));
  return absl::OkStatus();
}

} // namespace
} // namespace ingot

// Exit codes: 0 nothing differs; 2 wrong usage; 1 something differs, or an error.
int main(int argc, char **argv) {
  ingot::Arguments arguments;
  CLI::App app("Runs an artifact and the reference interpreter side by side and names the first op that differs.\n\n"
               "  ingot-compare smollm2.ingot SmolLM2-135M-Instruct.Q4_1.gguf --target gfx1201 -v",
               "ingot-compare");
  app.add_option("FILE", arguments.artifact, "The artifact")->required();
  app.add_option("MODEL", arguments.model, "The checkpoint it was made from")->required();
  app.add_option("--synthetic-weights", arguments.syntheticWeights, "The seed of its weights, if they were made up");
  app.add_option("--calibrate", arguments.calibration, "The text it was calibrated with, if it was");
  app.add_option("--calibrate-tokens", arguments.calibrationTokens, "Tokens of it")->capture_default_str();
  app.add_option("--recipe", arguments.recipe,
                 "The recipe it was made with, if that is a file (default: as the artifact says)");
  app.add_option("--tokens", arguments.tokens, "A JSON array of token ids to prefill (default: some ids)");
  app.add_option("--length", arguments.length, "How many ids, without --tokens")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps, "Decode steps after the prefill")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--tolerance", arguments.tolerance, "Largest relative L2 distance of one result")
      ->capture_default_str();
  app.add_option("--device", arguments.device, "auto, hip or emulator")
      ->check(CLI::IsMember({"auto", "hip", "emulator"}));
  app.add_option("--target", arguments.target, "The chip to emulate");
  app.add_flag("-v,--verbose", arguments.verbose, "Print the distance of every result");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  absl::Status status = ingot::compare(arguments);
  if (status.ok())
    return 0;
  std::fprintf(stderr, "ingot-compare: error: %s\n", std::string(status.message()).c_str());
  return 1;
}
