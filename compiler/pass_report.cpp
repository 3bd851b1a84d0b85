#include "compiler/pass_report.h"

#include "absl/strings/str_format.h"
#include "mlir/IR/Remarks.h"

using namespace mlir;

namespace ingot {

namespace {

class Collector : public remark::detail::MLIRRemarkStreamerBase {
public:
  explicit Collector(PassReport &report) : report(report) {}

  void streamOptimizationRemark(const remark::detail::Remark &remark) override {
    auto [entry, isNew] = report.passes.try_emplace(remark.getCombinedCategoryName().str());
    if (isNew)
      entry->second.order = report.passes.size();
    std::string name = remark.getRemarkName().str();
    switch (remark.getRemarkType()) {
    case llvm::remarks::Type::Passed:
      ++entry->second.rewritten[name];
      break;
    case llvm::remarks::Type::Missed:
      ++entry->second.declined[name];
      break;
    default:
      for (const remark::detail::Remark::Arg &value : remark.getArgs())
        entry->second.figures[name] = value.val;
    }
  }

private:
  PassReport &report;
};

} // namespace

std::vector<std::string> PassReport::inOrder() const {
  std::vector<std::pair<unsigned, std::string>> order;
  order.reserve(passes.size());
  for (const auto &[pass, counts] : passes)
    order.emplace_back(counts.order, pass);
  std::sort(order.begin(), order.end());
  std::vector<std::string> names;
  names.reserve(order.size());
  for (auto &[index, pass] : order)
    names.push_back(std::move(pass));
  return names;
}

std::string PassReport::text() const {
  std::string text;
  for (const std::string &pass : inOrder()) {
    absl::StrAppendFormat(&text, "%s\n", pass);
    const Counts &counts = passes.at(pass);
    for (const auto &[what, times] : counts.rewritten)
      absl::StrAppendFormat(&text, "  %6d rewritten: %s\n", times, what);
    for (const auto &[why, times] : counts.declined)
      absl::StrAppendFormat(&text, "  %6d declined: %s\n", times, why);
    for (const auto &[name, value] : counts.figures)
      absl::StrAppendFormat(&text, "  %s: %s\n", name, value);
  }
  return text;
}

nlohmann::ordered_json PassReport::json() const {
  auto list = nlohmann::ordered_json::array();
  for (const std::string &pass : inOrder()) {
    const Counts &counts = passes.at(pass);
    list.push_back(
        {{"pass", pass}, {"rewritten", counts.rewritten}, {"declined", counts.declined}, {"figures", counts.figures}});
  }
  return list;
}

void collectRemarks(MLIRContext &context, PassReport &report) {
  // Categories have no default: each kind is asked for. Fails only where the context has an engine already.
  (void)remark::enableOptimizationRemarks(context, std::make_unique<Collector>(report),
                                          std::make_unique<remark::RemarkEmittingPolicyAll>(),
                                          remark::RemarkCategories{{}, ".*", ".*", ".*", ".*"});
}

} // namespace ingot
