// What the passes said they did: their remarks (passes/Remarks.h) counted by pass and reason.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mlir/IR/MLIRContext.h"
#include "nlohmann/json.hpp"

namespace ingot {

struct PassReport {
  // By pass, in the order of their first remark: what was done, or why not, and how often.
  struct Counts {
    unsigned order = 0;
    std::map<std::string, uint64_t> rewritten, declined;
    std::map<std::string, std::string> figures;
  };
  std::map<std::string, Counts> passes;

  // One line a pass and reason, with a heading.
  std::string text() const;
  // A list, in the order of `text`.
  nlohmann::ordered_json json() const;

private:
  std::vector<std::string> inOrder() const;
};

// Collects the remarks of everything that runs in `context` into `report`, which outlives the context.
void collectRemarks(mlir::MLIRContext &context, PassReport &report);

} // namespace ingot
