// ingot-compare: runs an artifact on a device and the reference interpreter on the checkpoint it was made from, side by
// side, and names the first op whose result differs.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <numeric>

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
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/raw_ostream.h"

namespace ingot {
namespace {

// What the device made of an op, waiting for the interpreter to reach it.
struct Found {
  mlir::Operation *op;
  std::string kernel;
  std::vector<std::vector<std::byte>> results;
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

// Rows of `value` in memory, where a chunk has `tokens`.
int64_t rowsOf(mlir::Value value, int64_t tokens) {
  auto type = mlir::cast<mlir::RankedTensorType>(value.getType());
  int64_t rows = type.isDynamicDim(0) ? tokens : type.getDimSize(0);
  return type.getRank() == 3 ? rows * type.getDimSize(1) : rows;
}

mlir::Type elementOf(mlir::Value value) { return mlir::getElementTypeOrSelf(value.getType()); }

// Element `column` of `row` of what the device made of `value`.
double elementAt(const std::vector<std::byte> &found, mlir::Value value, int64_t row, int64_t column) {
  const mlir::Type element = elementOf(value);
  const std::byte *at = found.data() + (row * rowStride(value) + column) * element.getIntOrFloatBitWidth() / 8;
  auto read = [&](auto number) {
    std::memcpy(&number, at, sizeof number);
    return number;
  };
  if (element.isBF16())
    return std::bit_cast<float>(static_cast<uint32_t>(read(uint16_t())) << 16);
  if (element.isF32())
    return read(float());
  return element.isInteger(8) ? read(int8_t()) : read(int32_t());
}

double elementAt(const HostTensor &tensor, int64_t row, int64_t column) {
  const size_t i = row * tensor.columns + column;
  return !tensor.floats.empty() ? tensor.floats[i] : !tensor.int8s.empty() ? tensor.int8s[i] : tensor.ids[i];
}

// Relative L2 distance. NaN, and anything that is not finite on one side only, comes out as NaN.
double distance(const HostTensor &expected, mlir::Value value, const std::vector<std::byte> &found) {
  double difference = 0, size = 0;
  for (int64_t r = 0; r < expected.rows; ++r)
    for (int64_t c = 0; c < expected.columns; ++c) {
      const double want = elementAt(expected, r, c), have = elementAt(found, value, r, c);
      difference += (have - want) * (have - want);
      size += want * want;
    }
  return size > 0 ? std::sqrt(difference / size) : std::sqrt(difference);
}

// Kernels that only prepare an op's result, which another launch of the same op makes, or make more of it afterwards.
bool isOtherStage(const std::string &kernel) {
  auto starts = [&](std::string_view prefix) { return kernel.compare(0, prefix.size(), prefix) == 0; };
  const bool whole =
      starts("attention_combine_") || (starts("attention_prefill_") && kernel.find("_split") == std::string::npos);
  return (starts("attention_") && !whole) || (starts("argmax_") && kernel != "argmax_final") ||
         starts("delta_prepare_") || starts("group_");
}

// The device runs a chunk first, then the interpreter, which can so follow it where a token goes to other experts: what
// the experts make of it is no rounding apart, and every result behind it would differ.
class Comparison {
public:
  Comparison(double tolerance, bool verbose) : tolerance(tolerance), verbose(verbose) {}

  // Before the device runs `function` on a chunk of so many tokens.
  void begin(mlir::func::FuncOp function, int64_t chunk) {
    tokens = chunk;
    found.clear();
    logits.clear();
    next = 0;
    pending.clear();
    for (mlir::Operation &op : function.getBody().front().without_terminator())
      pending.push_back(&op);
  }

  // After each launch of the device.
  absl::Status collect(const Launch &launch, const std::string &kernel, const ReadArgument &read) {
    if (isOtherStage(kernel))
      return absl::OkStatus();
    if (found.size() == pending.size())
      return absl::InternalError(
          absl::StrCat("the artifact launches ", kernel, " (", launch.label(),
                       ") where the interpreter has no op left: it was made from another graph"));
    mlir::Operation *op = pending[found.size()];
    if (llm::labelOf(op) != launch.label())
      return absl::InternalError(absl::StrCat("the artifact launches ", kernel, " (", launch.label(),
                                              ") where the interpreter runs ", nameOf(op), " (", llm::labelOf(op),
                                              "): it was made from another graph"));
    Found made{op, kernel, {}};
    for (mlir::Value value : op->getResults()) {
      const size_t width = elementOf(value).getIntOrFloatBitWidth() / 8;
      std::vector<std::byte> bytes(rowsOf(value, tokens) * rowStride(value) * width);
      const unsigned argument = launch.arguments_size() - op->getNumResults() + made.results.size();
      if (absl::Status s = read(argument, bytes); !s.ok())
        return s;
      made.results.push_back(std::move(bytes));
    }
    found.push_back(std::move(made));
    return absl::OkStatus();
  }

  // After each op of the interpreter.
  void compare(mlir::Operation *op, std::span<HostTensor> results) {
    if (next == found.size()) {
      wrongGraph = true;
      return;
    }
    const Found &made = found[next++];
    if (auto route = mlir::dyn_cast<llm::RouteOp>(op))
      followTies(route, made, results[0], results[1]);
    for (size_t i = 0; i < results.size(); ++i) {
      mlir::Value value = op->getResult(i);
      const double d = distance(results[i], value, made.results[i]);
      worst = std::max(worst, d);
      if (verbose)
        std::printf("%-10.3g %-24s %s\n", d, nameOf(op).c_str(), llm::labelOf(op).c_str());
      if (!(d <= tolerance) && first.empty())
        first = absl::StrCat(nameOf(op), " (", llm::labelOf(op), "), kernel ", made.kernel, ", result ", i, " of ",
                             results[i].rows, " x ", results[i].columns, ": relative distance ", d,
                             ", expected at most ", tolerance);
      if (llvm::any_of(value.getUsers(), llvm::IsaPred<llm::RouteOp>))
        logits[value] = {results[i], made.results[i]};
    }
    ++compared;
  }

  bool finished() const { return !wrongGraph && next == found.size(); }

  double tolerance, worst = 0;
  bool verbose;
  size_t compared = 0, ties = 0;
  std::string first;

private:
  static std::string nameOf(mlir::Operation *op) { return op->getName().getStringRef().str(); }

  // Rows that the device routes to other experts, or to the same in another order. Where these are what `llm.route`
  // says of its own logits, which are compared as any result is, the interpreter goes on with them and their shares.
  // Then the logits of the two choices are at most twice the row's largest difference apart, which a line states.
  void followTies(llm::RouteOp route, const Found &made, HostTensor &weights, HostTensor &indices) {
    const auto &[expected, bytes] = logits[route.getLogits()];
    const int64_t top = indices.columns;
    for (int64_t row = 0; row < expected.rows; ++row) {
      auto own = [&](int64_t expert) { return elementAt(bytes, route.getLogits(), row, expert); };
      std::vector<int32_t> order(expected.columns), chosen;
      std::iota(order.begin(), order.end(), 0);
      std::ranges::sort(order, [&](int32_t a, int32_t b) { return own(a) != own(b) ? own(a) > own(b) : a < b; });
      order.resize(top);
      for (int64_t j = 0; j < top; ++j)
        chosen.push_back(static_cast<int32_t>(elementAt(made.results[1], route.getIndices(), row, j)));
      const auto wanted = std::span(indices.ids).subspan(row * top, top);
      const auto [here, there] = std::ranges::mismatch(wanted, chosen);
      if (here == wanted.end() || chosen != order)
        continue; // if they are wrong, comparing the indices says so
      double most = 0, square = 0;
      for (int64_t expert = 0; expert < expected.columns; ++expert) {
        most = std::max(most, std::abs(own(expert) - expected.row(row)[expert]));
        square += std::pow(expected.row(row)[expert], 2);
      }
      std::printf(
          "%s: row %d goes to expert %d, not %d: a tie, with logits %.3g apart of a root mean square of %.3g, and "
          "differences of up to %.3g in the row\n",
          llm::labelOf(route).c_str(), static_cast<int>(row), *there, *here,
          expected.row(row)[*here] - expected.row(row)[*there],
          std::sqrt(square / static_cast<double>(expected.columns)), most);
      ++ties;
      std::ranges::copy(chosen, wanted.begin());
      for (int64_t j = 0; j < weights.columns; ++j)
        weights.floats[row * weights.columns + j] =
            static_cast<float>(elementAt(made.results[0], route.getWeights(), row, j));
    }
  }

  int64_t tokens = 0;
  size_t next = 0;
  bool wrongGraph = false;
  std::vector<mlir::Operation *> pending; // what the device has to come to
  std::vector<Found> found;
  llvm::DenseMap<mlir::Value, std::pair<HostTensor, std::vector<std::byte>>> logits; // of routers
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
  request.streams = 1;
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
  interpreter.observe([&](mlir::Operation *op, std::span<HostTensor> results) { comparison.compare(op, results); });
  SessionOptions options;
  options.graph = false;
  options.context = std::min<uint32_t>(manifest.facts().context_length(), 4096);
  options.observer = [&](const Launch &launch, const ReadArgument &read) {
    return comparison.collect(launch, code->kernels(static_cast<int>(launch.kernel())).name(), read);
  };
  auto session = Session::load(artifact, device->device, device->target, options);
  if (!session.ok())
    return session.status();
  auto tokens = tokensFor(arguments, manifest.facts().vocabulary());
  if (!tokens.ok())
    return tokens.status();

  // A chunk at a time, so that the device's results of one chunk are all that is kept.
  std::span<const int32_t> rest(*tokens);
  while (!rest.empty()) {
    std::span<const int32_t> chunk = rest.first(std::min<size_t>(rest.size(), manifest.facts().prefill_chunk()));
    comparison.begin((*module)->lookupSymbol<mlir::func::FuncOp>("prefill"), static_cast<int64_t>(chunk.size()));
    if (absl::Status s = (*session)->prefill(chunk); !s.ok())
      return s;
    if (auto reference = interpreter.prefill(chunk); !reference.ok())
      return reference.status();
    rest = rest.subspan(chunk.size());
  }
  for (int i = 0; i < arguments.steps; ++i) {
    int32_t token = (*tokens)[i % tokens->size()];
    comparison.begin((*module)->lookupSymbol<mlir::func::FuncOp>("decode"), 1);
    if (absl::Status s = (*session)->decode(token); !s.ok())
      return s;
    if (auto reference = interpreter.decode(token); !reference.ok())
      return reference.status();
  }
  if (!comparison.finished())
    return absl::InternalError(
        "the artifact has fewer launches than the interpreter has ops: it was made from another graph");
  std::printf("%s on %s: %zu results compared, largest relative distance %.3g, %zu ties of experts\n",
              arguments.artifact.c_str(), device->target.c_str(), comparison.compared, comparison.worst,
              comparison.ties);
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
