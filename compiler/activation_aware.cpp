#include "compiler/activation_aware.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "compiler/pack/quantize.h"
#include "compiler/reference/interpreter.h"
#include "compiler/reference/numerics.h"
#include "compiler/stored_schemes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace ingot {

namespace {

constexpr int kExponents = 20;          // the paper's grid: 0, 0.05, ... 0.95
constexpr size_t kChunk = 64;           // tokens of one run of the interpreter
constexpr size_t kSampledRows = 128;    // of activations, that products are compared on
constexpr double kSmallestScale = 1e-4; // before normalisation, as in the paper's code
constexpr const char *kFunction = "prefill";

class RescaledCheckpoint : public Checkpoint {
public:
  RescaledCheckpoint(std::unique_ptr<Checkpoint> base, Rescalings rescalings)
      : base(std::move(base)), rescalings(std::move(rescalings)) {}

  const std::vector<TensorInfo> &tensors() const override { return base->tensors(); }
  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    if (absl::Status status = base->readRows(tensor, first, count, out); !status.ok())
      return status;
    if (auto found = rescalings.find(tensor.name); found != rescalings.end()) {
      const auto &[rows, columns] = found->second;
      const uint64_t width = tensor.columns();
      for (uint64_t r = 0; r < count; ++r)
        for (uint64_t k = 0; k < width; ++k)
          out[r * width + k] *= (rows.empty() ? 1 : rows[first + r]) * (columns.empty() ? 1 : columns[k]);
    }
    return absl::OkStatus();
  }
  absl::Status readQuantized(const TensorInfo &tensor, uint64_t first, uint64_t count,
                             QuantizedRows &out) const override {
    return base->readQuantized(tensor, first, count, out);
  }
  std::span<const uint8_t> bf16Rows(const TensorInfo &tensor, uint64_t first, uint64_t count) const override {
    return rescalings.contains(tensor.name) ? std::span<const uint8_t>() : base->bf16Rows(tensor, first, count);
  }
  void expect(const TensorInfo &tensor) const override { base->expect(tensor); }
  void release(const TensorInfo &tensor) const override { base->release(tensor); }
  const nlohmann::json &config() const override { return base->config(); }
  const TokenizerData &tokenizer() const override { return base->tokenizer(); }
  uint64_t digest() const override { return base->digest(); }
  std::string sourceName() const override { return base->sourceName(); }

private:
  std::unique_ptr<Checkpoint> base;
  Rescalings rescalings;
};

// Weights that read one value, and the weight that can divide it.
struct Group {
  std::string folded;
  bool foldsRows = false; // of `folded`: its product is a linear factor of the value; else it is a norm's weight
  std::set<std::string> weights;
  Operation *producer = nullptr; // in kFunction
  uint64_t places = 0;           // in all functions
  // Of the value: mean |x|, and rows.
  std::vector<double> size;
  std::vector<float> rows;
  uint64_t count = 0;
};

// Finds groups from the IR: uses, ops and schemes.
class Groups {
public:
  explicit Groups(ModuleOp module) : module(module), symbols(module) {
    module.walk([&](Operation *op) {
      for (NamedAttribute attribute : op->getAttrs())
        attribute.getValue().walk([&](FlatSymbolRefAttr symbol) { ++uses[symbol.getValue().str()]; });
    });
    for (auto weight : module.getOps<llm::WeightOp>())
      if (weight.getSource())
        ++sources[weight.getSource()->str()];
    module.walk([&](llm::RmsNormOp norm) {
      if (!norm.getHeads()) // whose weight is of a head, not of a row
        add(norm, norm.getWeight().str(), /*foldsRows=*/false);
    });
    module.walk([&](llm::GatedMulOp product) {
      if (auto up = product.getUp().getDefiningOp<llm::LinearOp>();
          up && up.getProducts().size() == 1 && product.getUp().hasOneUse() && !up.getPartBias(0))
        add(product, up.getPartWeight(0).getValue().str(), /*foldsRows=*/true);
    });
    for (auto &[name, group] : found)
      if (std::string why = whyNot(group); why.empty())
        good.push_back(&group);
      else if (hasInt4(group))
        for (const std::string &weight : group.weights)
          reasons[weight] = why;
  }

  std::vector<Group *> good;

  llm::WeightOp weight(const std::string &name) { return symbols.lookup<llm::WeightOp>(name); }
  static bool roundsToInt4(llm::WeightOp weight) {
    auto scheme = weight.getScheme();
    return scheme && scheme->getStorage() == llm::Storage::Int4 && weight.getStored() != scheme;
  }

  // int4 weights outside of all groups, and why.
  std::vector<std::string> declined() {
    std::set<std::string> taken;
    for (Group *group : good)
      taken.insert(group->weights.begin(), group->weights.end());
    std::vector<std::string> list;
    for (auto op : module.getOps<llm::WeightOp>()) {
      std::string name = op.getSymName().str();
      if (!roundsToInt4(op) || taken.contains(name))
        continue;
      auto reason = reasons.find(name);
      list.push_back(absl::StrCat(
          name, ": ", reason == reasons.end() ? "no weight before it can divide what it reads" : reason->second));
    }
    return list;
  }

private:
  void add(Operation *producer, const std::string &folded, bool foldsRows) {
    Group &group = found[folded];
    std::set<std::string> weights;
    bool linears = true;
    for (Operation *user : producer->getResult(0).getUsers()) {
      auto linear = dyn_cast<llm::LinearOp>(user);
      if (!linear || linear.getX() != producer->getResult(0) || linear.hasEpilogue()) {
        linears = false;
        continue;
      }
      for (unsigned part = 0; part < linear.getProducts().size(); ++part)
        weights.insert(linear.getPartWeight(part).getValue().str());
    }
    if (group.places++ == 0) {
      group.folded = folded;
      group.foldsRows = foldsRows;
      group.weights = weights;
    }
    same[&group] = (group.places == 1 || same[&group]) && linears && weights == group.weights;
    if (producer->getParentOfType<func::FuncOp>().getSymName() == kFunction)
      group.producer = producer;
  }

  bool hasInt4(const Group &group) {
    return llvm::any_of(group.weights, [&](const std::string &name) { return roundsToInt4(weight(name)); });
  }

  std::string whyNot(const Group &group) {
    if (!same[&group] || group.weights.empty())
      return "something other than linears reads the same value";
    if (!group.producer)
      return absl::StrCat("@", kFunction, " does not run it");
    if (!hasInt4(group))
      return "no weight is rounded to int4";
    std::vector<std::string> all(group.weights.begin(), group.weights.end());
    all.push_back(group.folded);
    for (const std::string &name : all) {
      llm::WeightOp op = weight(name);
      if (!op.getSource() || sources[op.getSource()->str()] != 1)
        return absl::StrCat("@", name, " shares its tensor with another weight");
      if (op.getTensorType().getRank() == 3)
        return absl::StrCat("@", name, " is of experts: too few of a text's rows reach each");
      if (op.getStored() && op.getStored() == op.getScheme())
        return absl::StrCat("@", name, " is stored quantised");
      if (uses[name] != group.places)
        return absl::StrCat("@", name, " is used in other places too");
    }
    return "";
  }

  ModuleOp module;
  SymbolTable symbols;
  std::map<std::string, uint64_t> uses, sources;
  std::map<std::string, Group> found; // by the weight to fold into
  std::map<const Group *, bool> same;
  std::map<std::string, std::string> reasons;
};

void forRows(uint64_t rows, const std::function<void(uint64_t)> &body) {
  std::atomic<uint64_t> next = 0;
  auto work = [&] {
    for (uint64_t r = next++; r < rows; r = next++)
      body(r);
  };
  std::vector<std::jthread> threads;
  for (unsigned i = 1; i < std::clamp(std::thread::hardware_concurrency(), 1U, 16U); ++i)
    threads.emplace_back(work);
  work();
}

// A matrix of the group in memory.
struct Matrix {
  WeightScheme scheme;
  uint64_t rows, columns;
  std::vector<float> values;
};

// Sum of squares of (Q(W s) / s - W) x over all rows of W and x; with no scales of W x itself.
absl::StatusOr<double> error(const Matrix &matrix, const std::vector<float> &x, std::span<const float> scales) {
  const uint64_t columns = matrix.columns, tokens = x.size() / columns;
  std::vector<double> sums(matrix.rows);
  std::atomic<bool> failed = false;
  forRows(matrix.rows, [&](uint64_t r) {
    const std::span<const float> row(matrix.values.data() + r * columns, columns);
    std::vector<float> scaled(row.begin(), row.end()), off(row.begin(), row.end());
    if (!scales.empty()) {
      for (uint64_t k = 0; k < columns; ++k)
        scaled[k] *= scales[k];
      if (!quantizeDequantizeRow(matrix.scheme, scaled, off).ok())
        failed = true;
      for (uint64_t k = 0; k < columns; ++k)
        off[k] = off[k] / scales[k] - row[k];
    }
    std::vector<float> products(tokens);
    reference::dots(off.data(), x.data(), static_cast<int64_t>(tokens), static_cast<int64_t>(columns), products.data());
    for (const double product : products)
      sums[r] += product * product;
  });
  if (failed)
    return absl::InvalidArgumentError("a weight cannot be stored as int4: it is infinite, not a number or too large");
  double sum = 0;
  for (double row : sums)
    sum += row;
  return sum;
}

// mean(|x|) ^ exponent, so that the largest and smallest are each other's inverse.
std::vector<float> scalesOf(const std::vector<double> &size, double exponent) {
  std::vector<double> scales(size.size());
  std::transform(size.begin(), size.end(), scales.begin(),
                 [&](double mean) { return std::max(std::pow(mean, exponent), kSmallestScale); });
  const auto [low, high] = std::minmax_element(scales.begin(), scales.end());
  const double middle = std::sqrt(*low * *high);
  std::vector<float> result(scales.size());
  std::transform(scales.begin(), scales.end(), result.begin(),
                 [&](double scale) { return static_cast<float>(scale / middle); });
  return result;
}

absl::Status runOn(ModuleOp module, const Checkpoint &checkpoint, std::span<const int32_t> tokens, Groups &groups,
                   const std::function<void(uint64_t)> &progress) {
  Interpreter interpreter(module, checkpoint,
                          {.numerics = Interpreter::Numerics::Fp32,
                           .threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 16U))});
  llvm::DenseMap<Operation *, Group *> producers;
  for (Group *group : groups.good)
    producers[group->producer] = group;
  const size_t every = std::max<size_t>(1, tokens.size() / kSampledRows);
  interpreter.observe([&](Operation *op, std::span<const HostTensor> results) {
    auto found = producers.find(op);
    if (found == producers.end())
      return;
    Group &group = *found->second;
    const HostTensor &x = results[0];
    group.size.resize(static_cast<size_t>(x.columns));
    for (int64_t r = 0; r < x.rows; ++r) {
      std::span<const float> row = x.row(r);
      for (int64_t k = 0; k < x.columns; ++k)
        group.size[k] += std::abs(row[k]);
      if (group.count++ % every == 0)
        group.rows.insert(group.rows.end(), row.begin(), row.end());
    }
  });
  for (size_t begin = 0; begin < tokens.size(); begin += kChunk) {
    auto logits = interpreter.prefill(tokens.subspan(begin, std::min(kChunk, tokens.size() - begin)));
    if (!logits.ok())
      return logits.status();
    progress(std::min(begin + kChunk, tokens.size()));
  }
  for (Group *group : groups.good)
    for (double &sum : group->size)
      sum /= static_cast<double>(group->count);
  return absl::OkStatus();
}

absl::StatusOr<ScaleChoice> choose(const Group &group, Groups &groups, const Checkpoint &checkpoint,
                                   std::vector<float> &best) {
  ScaleChoice choice{.weights = {group.weights.begin(), group.weights.end()}, .folded = group.folded};
  std::vector<Matrix> matrices;
  for (const std::string &name : group.weights) {
    llm::WeightOp op = groups.weight(name);
    if (!Groups::roundsToInt4(op))
      continue;
    const TensorInfo &tensor = *checkpoint.find(op.getSource()->str());
    Matrix matrix{
        .scheme = weightScheme(*op.getScheme()), .rows = tensor.rows(), .columns = tensor.columns(), .values = {}};
    matrix.values.resize(matrix.rows * matrix.columns);
    if (absl::Status status = checkpoint.readRows(tensor, 0, matrix.rows, matrix.values); !status.ok())
      return status;
    checkpoint.release(tensor);
    matrices.push_back(std::move(matrix));
  }
  auto total = [&](std::span<const float> scales) -> absl::StatusOr<double> {
    double sum = 0;
    for (const Matrix &matrix : matrices) {
      auto part = error(matrix, group.rows, scales);
      if (!part.ok())
        return part.status();
      sum += *part;
    }
    return sum;
  };
  auto whole = total({});
  if (!whole.ok())
    return whole.status();
  double least = 0;
  for (int i = 0; i < kExponents; ++i) {
    const double exponent = static_cast<double>(i) / kExponents;
    std::vector<float> scales = scalesOf(group.size, exponent);
    auto sum = total(scales);
    if (!sum.ok())
      return sum.status();
    if (i == 0)
      choice.before = std::sqrt(*sum / std::max(*whole, 1e-30));
    if (i != 0 && *sum >= least)
      continue;
    least = *sum;
    choice.exponent = exponent;
    choice.after = std::sqrt(*sum / std::max(*whole, 1e-30));
    best = std::move(scales);
  }
  return choice;
}

} // namespace

absl::StatusOr<ScaleSearch> searchScales(ModuleOp module, const Checkpoint &checkpoint, std::span<const int32_t> tokens,
                                         const std::function<void(uint64_t, uint64_t)> &progress) {
  if (llvm::none_of(module.getOps<llm::WeightOp>(), Groups::roundsToInt4))
    return absl::InvalidArgumentError("nothing to calibrate: the recipe rounds no weight to int4, and the scales that "
                                      "calibration text can choose are those of int4");
  Groups groups(module);
  ScaleSearch search{.rescalings = {}, .choices = {}, .declined = groups.declined()};
  // Half of the way for running the model, half for the search.
  const uint64_t end = 2 * std::max<uint64_t>(1, groups.good.size());
  if (absl::Status status = runOn(module, checkpoint, tokens, groups,
                                  [&](uint64_t done) { progress(done * end / 2 / tokens.size(), end); });
      !status.ok())
    return status;
  for (size_t i = 0; i < groups.good.size(); ++i) {
    const Group &group = *groups.good[i];
    std::vector<float> scales;
    auto choice = choose(group, groups, checkpoint, scales);
    if (!choice.ok())
      return choice.status();
    progress(end / 2 + i + 1, end);
    search.choices.push_back(std::move(*choice));
    if (search.choices.back().exponent == 0)
      continue;
    auto source = [&](const std::string &name) { return groups.weight(name).getSource()->str(); };
    for (const std::string &name : group.weights)
      search.rescalings[source(name)].columns = scales;
    Rescaling &folded = search.rescalings[source(group.folded)];
    std::vector<float> &inverse = group.foldsRows ? folded.rows : folded.columns;
    for (float scale : scales)
      inverse.push_back(1 / scale);
  }
  return search;
}

std::string scaleSearchSummary(const std::vector<ScaleChoice> &choices, const std::vector<std::string> &declined) {
  double before = 0, after = 0;
  size_t chosen = 0;
  for (const ScaleChoice &choice : choices) {
    before += choice.before / static_cast<double>(choices.size());
    after += choice.after / static_cast<double>(choices.size());
    chosen += choice.exponent != 0;
  }
  std::string text = absl::StrFormat("calibration: scales for %d of %d sets of weights; mean relative error of their "
                                     "products %.4f, %.4f without\n",
                                     chosen, choices.size(), after, before);
  if (!declined.empty())
    absl::StrAppend(&text, "calibration: ", declined.size(), " int4 weights keep their scales, the first @",
                    declined[0], "\n");
  return text;
}

std::unique_ptr<Checkpoint> rescaled(std::unique_ptr<Checkpoint> checkpoint, Rescalings rescalings) {
  return std::make_unique<RescaledCheckpoint>(std::move(checkpoint), std::move(rescalings));
}

} // namespace ingot
