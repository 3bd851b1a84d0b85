// ingotc: a checkpoint in, an artifact out.

#include <chrono>
#include <cstdio>
#include <unistd.h>

#include "CLI/CLI.hpp"
#include "absl/strings/str_join.h"
#include "codegen/target.h"
#include "compiler/pipeline.h"
#include "models/builtin_recipes.h"
#include "models/recipe.h"

// Exit codes: 0 the artifact is there; 2 wrong usage; 1 the rest.
int main(int argc, char **argv) {
  ingot::CompileRequest request;
  std::string targets;
  bool quiet = false, explainPasses = false, explainKernels = false, asJson = false;
  for (const ingot::TargetInfo &target : ingot::allTargets())
    targets += (targets.empty() ? "" : ",") + std::string(target.name);
  const std::string all = targets;
  std::string recipes;
  for (const ingot::BuiltinRecipe &recipe : ingot::builtinRecipes())
    recipes += (recipes.empty() ? "" : ", ") + std::string(recipe.name);

  CLI::App app("Compiles a language model into one file that `ingot` runs.\n\n"
               "  ingotc SmolLM2-135M-Instruct.Q4_1.gguf -o smollm2.ingot --recipe=w8a8",
               "ingotc");
  app.add_option("MODEL", request.model, "A GGUF file, or a Hugging Face folder with config.json and safetensors")
      ->required();
  app.add_option("-o,--output", request.output, "The file to write (with --stop-after: IR, '-' for standard output)")
      ->required();
  app.add_option("--targets", targets, "Chips to make code for, separated by commas: " + all)->capture_default_str();
  app.add_option("--recipe", request.recipe, "How weights are stored: " + recipes + ", or a recipe file")
      ->capture_default_str();
  app.add_option(
         "--kv-cache", request.kvCache,
         "What the KV cache holds: bf16, or codes with a scale for each head of a token: int8, half the bytes, or "
         "fp8, where every target converts to it (default: what the recipe says, or bf16)")
      ->check(CLI::IsMember(ingot::kvCacheNames()));
  auto *calibration =
      app.add_option("--calibrate", request.calibration,
                     "A text file to choose the scales of int4 weights by (AWQ); needs all weights in memory as fp32");
  app.add_option("--calibrate-tokens", request.calibrationTokens, "Tokens of the text to use")
      ->check(CLI::Range(16, 65536))
      ->needs(calibration)
      ->capture_default_str();
  app.add_option(
         "--synthetic-weights", request.syntheticWeights,
         "Make up the weights from this seed: MODEL is a config.json, and the artifact has the real one's bytes "
         "and launches")
      ->excludes(calibration);
  app.add_option("--chat-template", request.chatTemplate,
                 "A Jinja file with the chat template, where the checkpoint has none or a broken one");
  app.add_option("--context", request.contextLength, "The longest context, in tokens (default: the model's own)")
      ->check(CLI::PositiveNumber);
  app.add_option("--prefill-chunk", request.prefillChunk, "The most prompt tokens of one pass")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--draft", request.draftLength,
                 "Tokens that a step drafts, where the model has a head for it (MTP); 0 leaves the head out")
      ->check(CLI::Range(0, 7))
      ->capture_default_str();
  app.add_option("--streams", request.streams,
                 "The most sequences that one step of `ingot serve` takes, which read each weight once: 1, 2, 4 or 8")
      ->check(CLI::IsMember({1, 2, 4, 8}))
      ->capture_default_str();
  app.add_option("--disable-pass", request.disabledPasses,
                 "Leave this fusion out (may be given several times): the same numbers in more launches")
      ->check(CLI::IsMember(ingot::fusionNames()));
  app.add_flag("--explain-quant", request.explainQuantization,
               "Print each weight's scheme, the rule that chose it, its bytes and its distance from the checkpoint");
  app.add_flag("--explain-passes", explainPasses, "Print what each pass rewrote, and what it declined and why");
  app.add_flag("--explain-kernels", explainKernels,
               "Print how each kernel is laid over its chip, what the cost function chose, and the runner-up");
  app.add_flag("--json", asJson, "Print what the --explain options ask for as one JSON object on standard output");
  auto *page =
      app.add_option("--report", request.report,
                     "Write an HTML page that shows a layer before and after each pass, with launches and bytes");
  app.add_option("--report-layer", request.reportLayer, "Which layer --report shows (default: the middle one)")
      ->check(CLI::NonNegativeNumber)
      ->needs(page);
  auto *stop = app.add_option("--stop-after", request.stopAfter, "Write the IR after this phase instead of an artifact")
                   ->check(CLI::IsMember(ingot::phaseNames()));
  stop->excludes(page); // a page needs all phases
  app.add_option("--dump-dir", request.dumpDirectory,
                 "Write here the IR after each phase, and LLVM IR, assembly and code object of each target's kernels");
  app.add_flag("-q,--quiet", quiet, "Print errors only");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  for (size_t begin = 0; begin <= targets.size();) {
    size_t end = std::min(targets.find(',', begin), targets.size());
    request.targets.push_back(targets.substr(begin, end - begin));
    begin = end + 1;
  }

  bool terminal = isatty(STDERR_FILENO);
  auto start = std::chrono::steady_clock::now();
  int shownPercent = -1;
  if (!quiet)
    request.progress = [&](const std::string &phase, uint64_t done, uint64_t total) {
      if (total == 0) {
        std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", phase.c_str());
        return;
      }
      int percent = static_cast<int>(100 * done / total);
      if (percent == shownPercent || (!terminal && percent % 25 != 0))
        return;
      shownPercent = percent;
      std::fprintf(stderr, terminal ? "\r\033[K%s %d%%" : "%s %d%%\n", phase.c_str(), percent);
    };
  ingot::CompileReport report;
  absl::Status status = ingot::compileModel(request, report);
  if (!quiet && terminal)
    std::fprintf(stderr, "\r\033[K");
  if (!status.ok()) {
    std::fprintf(stderr, "ingotc: error: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  if (!report.calibration.empty() && !quiet)
    std::fputs(ingot::scaleSearchSummary(report.scales, report.unscaled).c_str(), stderr);
  if (asJson) {
    auto json = nlohmann::ordered_json::object();
    if (explainPasses)
      json["passes"] = report.passes.json();
    if (request.explainQuantization)
      json["weights"] = ingot::quantizationJson(report.weights);
    if (explainKernels)
      json["kernels"] = ingot::kernelJson(report.kernelShapes);
    std::puts(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
  } else {
    if (request.explainQuantization)
      std::fputs(ingot::quantizationTable(report.weights).c_str(), stdout);
    if (explainKernels)
      std::fputs(ingot::kernelTable(report.kernelShapes).c_str(), stdout);
    if (explainPasses)
      std::fputs(report.passes.text().c_str(), stderr);
  }
  if (report.requantized > 0)
    std::fprintf(
        stderr,
        "ingotc: warning: %llu weights are stored quantised, and the recipe stores them another way: their values "
        "are rounded a second time (--explain-quant shows by how much)\n",
        static_cast<unsigned long long>(report.requantized));
  if (quiet || !request.stopAfter.empty())
    return 0;
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  constexpr size_t listed = 8;
  for (size_t i = 0; i < std::min(listed, report.skippedTensors.size()); ++i)
    std::fprintf(stderr, "skipped tensor %s\n", report.skippedTensors[i].c_str());
  if (report.skippedTensors.size() > listed)
    std::fprintf(stderr, "and %zu more: `ingot inspect %s --json` lists them\n", report.skippedTensors.size() - listed,
                 request.output.c_str());
  std::fprintf(stderr,
               "%s: %llu kernels (%.1f s, %.2f MB) for %s, %.1f MB of weights (%.1f s, %.0f MB/s), %.1f s in all\n",
               request.output.c_str(), static_cast<unsigned long long>(report.kernels), report.codegenSeconds,
               report.codeBytes / 1e6, absl::StrJoin(request.targets, ", ").c_str(), report.weightBytes / 1e6,
               report.packSeconds, report.weightBytes / 1e6 / std::max(report.packSeconds, 1e-9), seconds);
  return 0;
}
