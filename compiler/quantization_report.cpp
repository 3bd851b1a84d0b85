#include "compiler/quantization_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "compiler/artifact_content.h"
#include "compiler/pack/pack.h"
#include "compiler/stored_schemes.h"

namespace ingot {

namespace {

constexpr uint64_t kRows = 64; // read at once

class MemorySink : public WeightSink {
public:
  absl::Status append(std::span<const std::byte> more) override {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return absl::OkStatus();
  }
  uint64_t offset() const override { return bytes.size(); }

  std::vector<std::byte> bytes;
};

// Packs the weight as the artifact has it and reads it back, so what is measured is what the device sees.
absl::Status measure(const PackedWeight &weight, const Checkpoint &checkpoint, WeightReport &report) {
  MemorySink packed;
  if (auto status = packWeight(weight, checkpoint, packed); !status.ok())
    return status;
  double difference = 0, before = 0, after = 0, product = 0;
  uint64_t done = 0; // rows of the sources before
  for (const std::string &source : weight.sources) {
    const TensorInfo &tensor = *checkpoint.find(source);
    const uint64_t columns = tensor.columns();
    // A small f32 matrix is packed as one row of all its elements.
    const bool flat = weight.layout == PackedWeight::Layout::RowMajorF32;
    const uint64_t atOnce = flat ? tensor.rows() : kRows;
    std::vector<float> rows(atOnce * columns), seen(atOnce * columns);
    for (uint64_t first = 0; first < tensor.rows(); first += atOnce) {
      const uint64_t count = std::min(atOnce, tensor.rows() - first);
      const auto wanted = std::span(rows).first(count * columns), got = std::span(seen).first(count * columns);
      if (auto status = checkpoint.readRows(tensor, first, count, wanted); !status.ok())
        return status;
      if (auto status = dequantizeRows(weight, packed.bytes, done + first, flat ? 1 : count, got); !status.ok())
        return status;
      for (size_t k = 0; k < wanted.size(); ++k) {
        const double x = wanted[k], y = got[k];
        difference += (x - y) * (x - y);
        before += x * x;
        after += y * y;
        product += x * y;
      }
    }
    done += tensor.rows();
    checkpoint.release(tensor);
  }
  report.relativeError = before > 0 ? std::sqrt(difference / before) : 0;
  report.cosine = before > 0 && after > 0 ? product / std::sqrt(before * after) : 1;
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<std::vector<WeightReport>> explainQuantization(mlir::ModuleOp module, const Checkpoint &checkpoint,
                                                              const Recipe &recipe) {
  std::vector<WeightReport> reports;
  std::vector<PackedWeight> weights;
  for (auto op : module.getOps<exec::WeightOp>()) {
    if (op.getValue())
      continue;
    weights.push_back(packedWeight(op));
    WeightReport report{.name = op.getSymName().str(),
                        .stored = {},
                        .scheme = op.getScheme().spelled(),
                        .rule = "every vector and short convolution",
                        .bytes = static_cast<uint64_t>(op.getBytes())};
    const TensorInfo *tensor = checkpoint.find(weights.back().sources.front());
    if (tensor)
      report.stored = tensor->storage;
    if (tensor && keepsCodes(weights.back(), *tensor))
      report.rule = "the checkpoint's own";
    else if (int index = recipe.ruleFor(report.name, op.getTensorType().getShape().back());
             op.getLayout() != exec::Layout::RowF32 && index >= 0)
      report.rule = absl::StrCat(recipe.rules[index].pattern, " (line ", recipe.rules[index].line, ")");
    reports.push_back(std::move(report));
  }
  for (size_t i = 0; i < weights.size(); ++i)
    if (auto status = measure(weights[i], checkpoint, reports[i]); !status.ok())
      return status;
  return reports;
}

std::string quantizationTable(const std::vector<WeightReport> &weights) {
  size_t width = 6;
  for (const WeightReport &weight : weights)
    width = std::max(width, weight.name.size());
  const int column = static_cast<int>(width);
  std::string text = absl::StrFormat("%-*s  %-8s %-9s %12s %10s %12s  %s\n", column, "weight", "stored", "scheme",
                                     "bytes", "error", "1 - cosine", "rule");
  uint64_t bytes = 0;
  for (const WeightReport &weight : weights) {
    bytes += weight.bytes;
    absl::StrAppendFormat(&text, "%-*s  %-8s %-9s %12d %10.2e %12.2e  %s\n", column, weight.name, weight.stored,
                          weight.scheme, weight.bytes, weight.relativeError, std::max(0.0, 1 - weight.cosine),
                          weight.rule);
  }
  absl::StrAppendFormat(&text, "%-*s  %-8s %-9s %12d\n", column, absl::StrCat(weights.size(), " weights"), "", "",
                        bytes);
  return text;
}

nlohmann::ordered_json quantizationJson(const std::vector<WeightReport> &weights) {
  auto list = nlohmann::ordered_json::array();
  for (const WeightReport &weight : weights)
    list.push_back({{"weight", weight.name},
                    {"stored", weight.stored},
                    {"scheme", weight.scheme},
                    {"rule", weight.rule},
                    {"bytes", weight.bytes},
                    {"relative_error", weight.relativeError},
                    {"cosine", weight.cosine}});
  return list;
}

} // namespace ingot
