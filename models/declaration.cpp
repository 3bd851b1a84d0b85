// The table of families, and what every declaration is checked for.
#include "models/declaration.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "compiler/checkpoint/synthetic.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "models/config.h"
#include "models/gemma/gemma.h"
#include "models/gemma/views.h"
#include "models/mistral/mistral.h"
#include "models/qwen/qwen.h"
#include "models/qwen/views.h"

namespace ingot {

namespace {

struct FamilyRow {
  const char *modelType;
  absl::Status (*declare)(mlir::ModuleOp, const Checkpoint &, const DeclareOptions &);
  /// Null where the declaration's names are the published ones.
  absl::StatusOr<std::vector<TensorView>> (*view)(const Checkpoint &, const nlohmann::json &configuration);
};

constexpr FamilyRow families[] = {
    {.modelType = "llama", .declare = declareMistral, .view = nullptr},
    {.modelType = "mistral", .declare = declareMistral, .view = viewMistral},
    // What a configuration of text and images means when its `text_config` names no type.
    {.modelType = "mistral3", .declare = declareMistral, .view = viewMistral},
    {.modelType = "ministral3", .declare = declareMistral, .view = viewMistral},
    {.modelType = "qwen3", .declare = declareQwen, .view = viewQwen},
    {.modelType = "qwen3_moe", .declare = declareQwen, .view = viewQwen},
    {.modelType = "qwen3_next", .declare = declareQwen, .view = viewQwen},
    {.modelType = "qwen3_5_text", .declare = declareQwen, .view = viewQwen},
    {.modelType = "qwen3_5_moe_text", .declare = declareQwen, .view = viewQwen},
    {.modelType = "gemma3_text", .declare = declareGemma, .view = viewGemma},
    {.modelType = "gemma4_text", .declare = declareGemma, .view = viewGemma},
};

// A model of text and images keeps what belongs to text in an object of its own.
nlohmann::json textConfiguration(const nlohmann::json &config) {
  if (!config.is_object() || !config.contains("text_config") || !config["text_config"].is_object())
    return config;
  nlohmann::json text = config;
  text.erase("text_config");
  text.update(config["text_config"]);
  return text;
}

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> presented(std::unique_ptr<Checkpoint> checkpoint) {
  nlohmann::json configuration = textConfiguration(checkpoint->config());
  std::string type = ConfigReader(configuration, "").textOr("model_type", "");
  for (const FamilyRow &family : families) {
    if (type != family.modelType || !family.view)
      continue;
    auto views = family.view(*checkpoint, configuration);
    if (!views.ok())
      return views.status();
    if (views->empty() && configuration == checkpoint->config())
      return checkpoint;
    return viewed(std::move(checkpoint), std::move(*views), std::move(configuration));
  }
  return checkpoint;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> openModel(const std::string &path) {
  auto checkpoint = Checkpoint::open(path);
  return checkpoint.ok() ? presented(std::move(*checkpoint)) : std::move(checkpoint);
}

absl::StatusOr<std::unique_ptr<Checkpoint>> openModelShape(const std::string &path, uint64_t seed) {
  auto config = readConfiguration(path);
  if (!config.ok())
    return absl::Status(config.status().code(),
                        absl::StrCat(std::string(config.status().message()),
                                     "; weights are made up for a config.json, or for a folder that has one"));
  std::filesystem::path named = std::filesystem::path(path).lexically_normal();
  if (named.filename() == "config.json" || !named.has_filename())
    named = named.parent_path();
  return makeUp(textConfiguration(*config), named.filename().string(), seed);
}

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> declareModel(mlir::MLIRContext &context, const Checkpoint &checkpoint,
                                                               const DeclareOptions &options) {
  context.loadDialect<llm::LlmDialect, mlir::func::FuncDialect>();
  ConfigReader config(checkpoint.config(), absl::StrCat("configuration of ", checkpoint.sourceName()));
  std::string type = config.textOr("model_type", "");
  if (!config.status().ok())
    return config.status();
  std::vector<std::string> known;
  for (const FamilyRow &family : families) {
    known.emplace_back(family.modelType);
    if (type != family.modelType)
      continue;
    mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(mlir::UnknownLoc::get(&context));
    if (auto status = family.declare(*module, checkpoint, options); !status.ok())
      return status;
    std::string complaints;
    mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
      absl::StrAppend(&complaints, diagnostic.str(), "\n");
      return mlir::success();
    });
    if (mlir::failed(mlir::verify(*module)))
      return absl::InternalError(absl::StrCat("the declaration of ", type, " made an invalid module:\n", complaints));
    return module;
  }
  return absl::UnimplementedError(absl::StrCat(checkpoint.sourceName(), ": unknown architecture \"", type,
                                               "\" (`model_type`); this compiler knows ", absl::StrJoin(known, ", ")));
}

} // namespace ingot
