// Logits by the reference interpreter, in the files that `ingot logits` reads and writes: the oracle for a device run
// of any checkpoint, with or without a recipe, and a way to see what a recipe costs before a kernel exists for it.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "compiler/checkpoint/checkpoint.h"
#include "compiler/reference/interpreter.h"
#include "mlir/Pass/PassManager.h"
#include "models/declaration.h"
#include "nlohmann/json.hpp"
#include "passes/Passes.h"

namespace ingot {
namespace {

struct Request {
  std::string model, tokens, output, recipe;
  bool steps = false;
  int threads = 2;
};

absl::StatusOr<std::vector<int32_t>> readTokens(const std::string &path) {
  std::ifstream file(path);
  auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!file.is_open() || !json.is_array() || json.empty())
    return absl::InvalidArgumentError(path + ": expected a JSON array of token ids");
  std::vector<int32_t> tokens;
  for (const auto &token : json) {
    // The interpreter checks the vocabulary; here an id need only fit.
    if (!token.is_number_unsigned() || token.get<uint64_t>() > INT32_MAX)
      return absl::InvalidArgumentError(path + ": expected token ids of at least 0, got " + token.dump());
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

absl::Status applyRecipe(mlir::ModuleOp module, const std::string &recipe) {
  std::string complaint;
  mlir::ScopedDiagnosticHandler handler(module.getContext(), [&](mlir::Diagnostic &diagnostic) {
    complaint = complaint.empty() ? diagnostic.str() : complaint;
    return mlir::success();
  });
  mlir::PassManager passes(module.getContext());
  passes.addPass(createAnnotate({.recipe = recipe}));
  passes.addPass(createInsertQuantize());
  return mlir::succeeded(passes.run(module)) ? absl::OkStatus() : absl::InvalidArgumentError(complaint);
}

absl::Status writeLogits(const std::string &path, const HostTensor &logits) {
  nlohmann::json header;
  const uint64_t bytes = logits.floats.size() * sizeof(float);
  header["logits"] = {{"dtype", "F32"}, {"shape", {logits.rows, logits.columns}}, {"data_offsets", {0, bytes}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char *>(&length), sizeof(length));
  file.write(text.data(), static_cast<std::streamsize>(length));
  file.write(reinterpret_cast<const char *>(logits.floats.data()), static_cast<std::streamsize>(bytes));
  file.close();
  return file.good() ? absl::OkStatus() : absl::UnavailableError(path + ": cannot be written; is there room?");
}

absl::Status run(const Request &request) {
  auto tokens = readTokens(request.tokens);
  if (!tokens.ok())
    return tokens.status();
  auto checkpoint = openModel(request.model);
  if (!checkpoint.ok())
    return checkpoint.status();
  mlir::MLIRContext context;
  auto module = declareModel(context, **checkpoint);
  if (!module.ok())
    return module.status();
  Interpreter::Options options = {.numerics = Interpreter::Numerics::Fp32, .threads = request.threads};
  if (!request.recipe.empty()) {
    options.numerics = Interpreter::Numerics::Device;
    if (auto status = applyRecipe(**module, request.recipe); !status.ok())
      return status;
  }
  Interpreter interpreter(**module, **checkpoint, options);
  HostTensor all;
  if (request.steps) {
    for (int32_t token : *tokens) {
      auto one = interpreter.decode(token);
      if (!one.ok())
        return one.status();
      all.rows += 1;
      all.columns = one->columns;
      all.floats.insert(all.floats.end(), one->floats.begin(), one->floats.end());
    }
  } else {
    auto logits = interpreter.logits(*tokens);
    if (!logits.ok())
      return logits.status();
    all = std::move(*logits);
  }
  return writeLogits(request.output, all);
}

} // namespace
} // namespace ingot

int main(int argc, char **argv) {
  ingot::Request request;
  CLI::App app("Logits of a checkpoint by the reference interpreter", "ingot-reference");
  app.add_option("MODEL", request.model, "A GGUF file or a Hugging Face folder")->required();
  app.add_option("--tokens", request.tokens, "A JSON array of token ids")->required();
  app.add_option("-o,--output", request.output, "Safetensors to write: `logits`, f32 [tokens, vocabulary]")->required();
  app.add_option("--recipe", request.recipe,
                 "With the numbers of a device under this recipe; fp32 throughout if absent");
  app.add_flag("--steps", request.steps, "One decode step a token instead of one prefill");
  app.add_option("--threads", request.threads, "Threads of the host")->check(CLI::Range(1, 256));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (auto status = ingot::run(request); !status.ok()) {
    std::fprintf(stderr, "ingot-reference: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
