// The table of families, and what every declaration is checked for.
#include "models/declaration.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "models/config.h"
#include "models/mistral/mistral.h"

namespace ingot {

namespace {

using Family = absl::Status (*)(mlir::ModuleOp, const Checkpoint &, const DeclareOptions &);

struct FamilyRow {
  const char *modelType;
  Family declare;
};

constexpr FamilyRow families[] = {{"llama", declareMistral}, {"mistral", declareMistral}};

} // namespace

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
