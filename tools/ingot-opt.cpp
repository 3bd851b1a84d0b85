// mlir-opt with Ingot's dialects and passes: everything upstream has, and all of its switches.
#include "dialects/Exec.h"
#include "dialects/Llm.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "passes/Passes.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  mlir::registerAllPasses();
  registry.insert<ingot::llm::LlmDialect, ingot::exec::ExecDialect>();
  ingot::registerIngotPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Ingot's optimiser driver\n", registry));
}
