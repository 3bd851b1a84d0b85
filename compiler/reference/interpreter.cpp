// One method an op. Threads split the rows of weights or of tokens; each result element is computed by one thread in
// one order, so results do not depend on their number.
#include "compiler/reference/interpreter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <span>
#include <thread>

#include "absl/strings/str_cat.h"
#include "compiler/reference/numerics.h"
#include "compiler/reference/sampler.h"
#include "dialects/Sequences.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/TypeSwitch.h"

namespace ingot {

using namespace reference;

namespace {

/// A weight as ops read it.
struct LoadedWeight {
  int64_t rows = 0; // a vector is one row; of experts, the rows of all one after another
  int64_t columns = 0;
  std::vector<float> values;
  // int8_per_token in device numerics only:
  std::vector<int8_t> int8s;
  std::vector<float> scales;

  const float *row(int64_t index) const { return values.data() + index * columns; }
};

/// A state: what its type says, or of a growing one rows of `kv_heads * head_dim` elements, one a position written.
using Cache = std::vector<float>;

} // namespace

class Interpreter::Implementation {
public:
  Implementation(mlir::ModuleOp module, const Checkpoint &checkpoint, Options options)
      : module_(module), symbols_(module), checkpoint_(checkpoint), options_(options) {
    step.temperature = 1;
    step.top_p = 1;
    step.capacity = INT32_MAX;
  }

  absl::StatusOr<HostTensor> run(const std::string &name, const HostTensor &argument);
  void reset() {
    caches_.clear();
    output.clear();
    next.clear();
    step.tokens = step.position = step.generated = 0;
  }

  Step step = {};
  std::vector<int32_t> output, next;
  Observer observer;

private:
  using Values = llvm::DenseMap<mlir::Value, HostTensor>;
  using Results = std::vector<HostTensor>;

  absl::StatusOr<Results> evaluate(mlir::Operation *op, const Values &values);
  absl::StatusOr<HostTensor> embed(llm::EmbedOp op, const HostTensor &tokens);
  absl::StatusOr<HostTensor> norm(llvm::StringRef weight, const llvm::APFloat &eps, int64_t heads, const HostTensor &x,
                                  mlir::Type type);
  Results quantize(const HostTensor &x);
  absl::StatusOr<std::vector<uint32_t>> columnOrder(llvm::StringRef weight);
  absl::StatusOr<HostTensor> gather(llm::GatherColumnsOp op, const HostTensor &x);
  absl::StatusOr<Results> runRegion(mlir::Region &region, Results arguments, const Values &outside);
  absl::StatusOr<Results> linear(llm::LinearOp op, const Values &values);
  absl::StatusOr<HostTensor> product(llm::LinearOp op, unsigned part, const HostTensor &x, const HostTensor *scales,
                                     const HostTensor *experts);
  absl::StatusOr<Results> route(llm::RouteOp op, const HostTensor &logits, const HostTensor *shared);
  HostTensor combine(llm::CombineOp op, const HostTensor &x, const HostTensor &weights);
  absl::StatusOr<HostTensor> rope(llm::RopeOp op, const HostTensor &x);
  absl::Status append(llm::AppendOp op, const HostTensor &k, const HostTensor &v);
  absl::StatusOr<HostTensor> attention(llm::AttentionOp op, const HostTensor &q);
  absl::StatusOr<HostTensor> shortConv(llm::ShortConvOp op, const HostTensor &x);
  absl::StatusOr<Results> deltaRule(llm::DeltaRuleOp op, const Values &outside);
  /// A state of fixed size; zeros at first.
  Cache &fixedState(llvm::StringRef name) {
    Cache &state = caches_[name.str()];
    if (state.empty())
      state.resize(static_cast<size_t>(symbols_.lookup<llm::StateOp>(name).getTensorType().getNumElements()), 0.0F);
    return state;
  }
  static Results tileArgmax(std::span<const float> logits);
  void record(int32_t token);
  void advance(int32_t token);
  static HostTensor concat(const HostTensor &a, const HostTensor &b);
  HostTensor delay(llm::DelayOp op, const HostTensor &x);
  int32_t accept(llm::AcceptOp op, const std::vector<int32_t> &best, const std::vector<int32_t> &tokens);
  void draft(llm::DraftOp op, int32_t token);

  absl::StatusOr<const LoadedWeight *> weight(llvm::StringRef name);
  absl::StatusOr<LoadedWeight> load(llm::WeightOp op);

  bool device() const { return options_.numerics == Numerics::Device; }
  /// `y` as a tensor of this type holds it.
  float stored(float y, mlir::Type type) const {
    return device() && mlir::getElementTypeOrSelf(type).isBF16() ? roundBf16(y) : y;
  }
  static HostTensor floats(int64_t rows, int64_t columns) {
    HostTensor tensor;
    tensor.rows = rows;
    tensor.columns = columns;
    tensor.floats.resize(static_cast<size_t>(rows * columns));
    return tensor;
  }

  /// Calls `body(i)` for i in [0, count) on the threads.
  template <typename Body> void parallel(int64_t count, Body body) {
    int64_t threads = std::clamp<int64_t>(options_.threads, 1, std::max<int64_t>(count, 1));
    auto work = [&](int64_t thread) {
      for (int64_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i)
        body(i);
    };
    std::vector<std::thread> others;
    for (int64_t thread = 1; thread < threads; ++thread)
      others.emplace_back(work, thread);
    work(0);
    for (std::thread &other : others)
      other.join();
  }

  mlir::ModuleOp module_;
  mlir::SymbolTable symbols_;
  const Checkpoint &checkpoint_;
  Options options_;
  std::map<std::string, LoadedWeight> weights_;
  std::map<std::string, Cache> caches_;
};

//===--------------------------------------------------------------------------------------------------------------===//
// Weights
//===--------------------------------------------------------------------------------------------------------------===//

absl::StatusOr<LoadedWeight> Interpreter::Implementation::load(llm::WeightOp op) {
  mlir::RankedTensorType type = op.getTensorType();
  LoadedWeight weight;
  weight.rows = 1;
  for (int64_t size : type.getShape().drop_back())
    weight.rows *= size;
  weight.columns = type.getDimSize(type.getRank() - 1);
  if (auto value = op.getValue()) {
    auto range = value->getValues<float>();
    weight.values.assign(range.begin(), range.end());
  } else {
    const std::string source = op.getSource()->str();
    const TensorInfo *tensor = checkpoint_.find(source);
    std::vector<uint64_t> shape(type.getShape().begin(), type.getShape().end());
    if (!tensor || tensor->shape != shape)
      return absl::NotFoundError(absl::StrCat(checkpoint_.sourceName(), ": no tensor \"", source,
                                              "\" of the shape that weight @", op.getSymName().str(),
                                              " declares; was this module made from another checkpoint?"));
    weight.values.resize(static_cast<size_t>(weight.rows * weight.columns));
    if (auto status = checkpoint_.readRows(*tensor, 0, static_cast<uint64_t>(weight.rows), weight.values); !status.ok())
      return status;
  }
  auto scheme = op.getScheme();
  if (!device() || !scheme)
    return weight;
  if (scheme->quantizesActivations()) {
    weight.int8s.resize(weight.values.size());
    weight.scales.resize(static_cast<size_t>(weight.rows));
  }
  // The device has the checkpoint's own codes, and nothing is rounded.
  if (op.getStored() == scheme) {
    if (!scheme->quantizesActivations())
      return weight;
    QuantizedRows stored;
    if (auto status = checkpoint_.readQuantized(*checkpoint_.find(op.getSource()->str()), 0,
                                                static_cast<uint64_t>(weight.rows), stored);
        !status.ok())
      return status;
    weight.int8s = std::move(stored.codes);
    weight.scales = std::move(stored.scales);
    return weight;
  }
  parallel(weight.rows, [&](int64_t r) {
    std::span<float> row(weight.values.data() + r * weight.columns, static_cast<size_t>(weight.columns));
    switch (scheme->getStorage()) {
    case llm::Storage::F32:
      return;
    case llm::Storage::BF16:
      for (float &x : row)
        x = roundBf16(x);
      return;
    case llm::Storage::Int4:
      return scheme->getZeros() ? quantizeDequantizeAround(row, scheme->getGroup())
                                : quantizeDequantizeGroups(row, scheme->getGroup(), 7.5F, -8, 7);
    case llm::Storage::Fp8:
      return quantizeDequantizeFp8(row, scheme->getGroup());
    case llm::Storage::Int8:
      if (scheme->getGroup() != 0)
        return quantizeDequantizeGroups(row, scheme->getGroup(), 127, -127, 127);
      std::vector<int8_t> quantized(row.size());
      float scale = quantizeRow(row, quantized);
      for (size_t k = 0; k < row.size(); ++k)
        row[k] = scale * static_cast<float>(quantized[k]);
      if (scheme->quantizesActivations()) {
        std::copy(quantized.begin(), quantized.end(), weight.int8s.begin() + r * weight.columns);
        weight.scales[r] = scale;
      }
      return;
    }
  });
  return weight;
}

absl::StatusOr<const LoadedWeight *> Interpreter::Implementation::weight(llvm::StringRef name) {
  auto found = weights_.find(name.str());
  if (found == weights_.end()) {
    auto op = symbols_.lookup<llm::WeightOp>(name);
    if (!op)
      return absl::NotFoundError(absl::StrCat("the module has no weight @", name.str()));
    auto loaded = load(op);
    if (!loaded.ok())
      return loaded.status();
    found = weights_.emplace(name.str(), std::move(*loaded)).first;
  }
  return &found->second;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Ops
//===--------------------------------------------------------------------------------------------------------------===//

namespace {

// f(g) of llm.gated_mul.
float gated(llm::Gate function, float g) {
  switch (function) {
  case llm::Gate::Silu:
    return g / (1.0F + std::exp(-g));
  case llm::Gate::GeluTanh:
    return g / (1.0F + std::exp(-2.0F * std::sqrt(2.0F / std::numbers::pi_v<float>) * (g + 0.044715F * g * g * g)));
  case llm::Gate::Sigmoid:
    return 1.0F / (1.0F + std::exp(-g));
  }
  return g;
}

} // namespace

absl::StatusOr<HostTensor> Interpreter::Implementation::embed(llm::EmbedOp op, const HostTensor &tokens) {
  auto table = weight(op.getTable());
  if (!table.ok())
    return table.status();
  const float scale = op.getScale().convertToFloat();
  HostTensor result = floats(tokens.rows, (*table)->columns);
  const mlir::Type type = op.getResult().getType();
  for (int64_t t = 0; t < tokens.rows; ++t) {
    int32_t id = tokens.ids[t];
    if (id < 0 || id >= (*table)->rows)
      return absl::OutOfRangeError(
          absl::StrCat("token ", id, " at index ", t, " is outside the vocabulary of ", (*table)->rows));
    for (int64_t c = 0; c < result.columns; ++c)
      result.floats[t * result.columns + c] = stored(scale * (*table)->row(id)[c], type);
  }
  return result;
}

absl::StatusOr<HostTensor> Interpreter::Implementation::norm(llvm::StringRef name, const llvm::APFloat &eps,
                                                             int64_t heads, const HostTensor &x, mlir::Type type) {
  auto gain = weight(name);
  if (!gain.ok())
    return gain.status();
  const float epsilon = eps.convertToFloat();
  const int64_t width = x.columns / heads;
  HostTensor result = floats(x.rows, x.columns);
  for (int64_t h = 0; h < x.rows * heads; ++h) {
    const float *head = x.floats.data() + h * width;
    float r = 1.0F / std::sqrt(dot(head, head, width) / static_cast<float>(width) + epsilon);
    for (int64_t c = 0; c < width; ++c)
      result.floats[h * width + c] = stored(head[c] * r * (*gain)->values[c], type);
  }
  return result;
}

Interpreter::Implementation::Results Interpreter::Implementation::quantize(const HostTensor &x) {
  HostTensor scales = floats(x.rows, 1);
  if (!device()) {
    std::fill(scales.floats.begin(), scales.floats.end(), 1.0F);
    return {x, scales};
  }
  HostTensor values;
  values.rows = x.rows;
  values.columns = x.columns;
  values.int8s.resize(x.floats.size());
  for (int64_t t = 0; t < x.rows; ++t)
    scales.floats[t] = quantizeRow(x.row(t), std::span(values.int8s).subspan(t * x.columns, x.columns));
  return {std::move(values), std::move(scales)};
}

absl::StatusOr<std::vector<uint32_t>> Interpreter::Implementation::columnOrder(llvm::StringRef name) {
  auto op = symbols_.lookup<llm::WeightOp>(name);
  const TensorInfo *tensor = op && op.getSource() ? checkpoint_.find(op.getSource()->str()) : nullptr;
  if (!tensor || !tensor->quantization || !tensor->quantization->permutedColumns)
    return absl::NotFoundError(
        absl::StrCat(checkpoint_.sourceName(), ": weight @", name.str(),
                     " has no order of its columns; was this module made from another checkpoint?"));
  QuantizedRows row;
  if (auto status = checkpoint_.readQuantized(*tensor, 0, 1, row); !status.ok())
    return status;
  return row.columnOrder;
}

absl::StatusOr<HostTensor> Interpreter::Implementation::gather(llm::GatherColumnsOp op, const HostTensor &x) {
  auto order = columnOrder(op.getWeight());
  if (!order.ok())
    return order.status();
  HostTensor result = floats(x.rows, x.columns);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t k = 0; k < x.columns; ++k)
      result.floats[t * x.columns + k] = x.row(t)[(*order)[k]];
  return result;
}

// What the region yields. It may read `outside`.
absl::StatusOr<Interpreter::Implementation::Results>
Interpreter::Implementation::runRegion(mlir::Region &region, Results arguments, const Values &outside) {
  Values values;
  region.walk([&](mlir::Operation *inner) {
    for (mlir::Value operand : inner->getOperands())
      if (auto captured = outside.find(operand); captured != outside.end())
        values[operand] = captured->second;
  });
  for (auto [argument, y] : llvm::zip(region.getArguments(), arguments))
    values[argument] = std::move(y);
  for (mlir::Operation &inner : region.front()) {
    if (auto yield = mlir::dyn_cast<llm::YieldOp>(inner)) {
      Results results;
      for (mlir::Value value : yield.getValues())
        results.push_back(values.find(value)->second);
      return results;
    }
    auto results = evaluate(&inner, values);
    if (!results.ok())
      return results.status();
    for (auto [value, tensor] : llvm::zip(inner.getResults(), *results))
      values[value] = std::move(tensor);
  }
  return absl::InternalError("a region has no llm.yield");
}

absl::StatusOr<Interpreter::Implementation::Results> Interpreter::Implementation::linear(llm::LinearOp op,
                                                                                         const Values &outside) {
  const HostTensor *scales = op.getScales() ? &outside.find(op.getScales())->second : nullptr;
  const HostTensor *experts = op.getExperts() ? &outside.find(op.getExperts())->second : nullptr;
  HostTensor x = outside.find(op.getX())->second;
  if (op.getGathered()) { // back into the model's order, which the weight is read in
    auto order = columnOrder(op.getPartWeight(0).getValue());
    if (!order.ok())
      return order.status();
    const std::vector<float> gathered = x.floats;
    for (int64_t t = 0; t < x.rows; ++t)
      for (int64_t k = 0; k < x.columns; ++k)
        x.floats[t * x.columns + (*order)[k]] = gathered[t * x.columns + k];
  }
  if (op.getNorm()) {
    auto normalised = norm(*op.getNorm(), *op.getEps(), 1, x, mlir::BFloat16Type::get(op.getContext()));
    if (!normalised.ok())
      return normalised.status();
    x = std::move(*normalised);
  }
  Results quantized;
  if (op.getQuantized()) {
    quantized = quantize(x);
    x = std::move(quantized[0]);
    scales = &quantized[1];
  }
  Results products;
  for (unsigned part = 0; part < op.getPartCount(); ++part) {
    auto y = product(op, part, x, scales, experts);
    if (!y.ok())
      return y.status();
    products.push_back(std::move(*y));
  }
  if (!op.hasEpilogue())
    return products;
  return runRegion(op.getEpilogue(), std::move(products), outside);
}

absl::StatusOr<HostTensor> Interpreter::Implementation::product(llm::LinearOp op, unsigned part, const HostTensor &x,
                                                                const HostTensor *scales, const HostTensor *experts) {
  auto loaded = weight(op.getPartWeight(part).getValue());
  if (!loaded.ok())
    return loaded.status();
  const LoadedWeight &w = **loaded;
  const LoadedWeight *shared = nullptr;
  if (op.getShared()) {
    auto other = weight(mlir::cast<mlir::FlatSymbolRefAttr>((*op.getShared())[part]).getValue());
    if (!other.ok())
      return other.status();
    shared = *other;
  }
  const float *bias = nullptr;
  if (auto name = op.getPartBias(part)) {
    auto vector = weight(name.getValue());
    if (!vector.ok())
      return vector.status();
    bias = (*vector)->values.data();
  }
  const auto type = mlir::cast<mlir::RankedTensorType>(op.getProducts()[part].getType());
  const bool int8 = !x.int8s.empty();
  const int64_t columns = type.getShape().back();
  const int64_t count = w.rows / columns; // of experts
  const int64_t slots = op.getSlots();
  const int64_t rows = experts ? experts->rows * slots : x.rows;
  HostTensor result = floats(rows, columns);
  // A row of weights stays in the cache while every token passes it.
  parallel(columns, [&](int64_t n) {
    std::vector<float> products;
    if (!experts && !int8) {
      products.resize(static_cast<size_t>(rows));
      dots(w.row(n), x.floats.data(), rows, w.columns, products.data());
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t t = r / (rows / x.rows); // the operand's row, which all experts of a token may share
      const LoadedWeight *met = &w;
      int64_t at = n;
      if (experts && r % slots < experts->columns)
        at += std::clamp<int64_t>(experts->ids[r / slots * experts->columns + r % slots], 0, count - 1) * columns;
      else if (experts)
        met = shared;
      float y = 0;
      if (int8)
        y = static_cast<float>(dot(x.int8s.data() + t * x.columns, met->int8s.data() + at * w.columns, w.columns)) *
            met->scales[at] * scales->floats[t];
      else
        y = experts ? dot(x.row(t).data(), met->row(at), w.columns) : products[static_cast<size_t>(r)];
      if (bias)
        y += bias[n];
      result.floats[r * columns + n] = stored(y, type);
    }
  });
  return result;
}

absl::StatusOr<Interpreter::Implementation::Results>
Interpreter::Implementation::route(llm::RouteOp op, const HostTensor &logits, const HostTensor *shared) {
  std::span<const float> factors;
  if (op.getFactors()) {
    auto read = weight(*op.getFactors());
    if (!read.ok())
      return read.status();
    factors = (*read)->values;
  }
  const auto top = static_cast<int64_t>(op.getTop());
  const int64_t shares = top + (shared ? 1 : 0);
  HostTensor weights = floats(logits.rows, shares);
  HostTensor indices;
  indices.rows = logits.rows;
  indices.columns = top;
  for (int64_t t = 0; t < logits.rows; ++t) {
    std::vector<float> row(logits.row(t).begin(), logits.row(t).end());
    for (float &logit : row)
      if (std::isnan(logit))
        logit = -INFINITY;
    std::vector<int32_t> order(row.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, [&](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    const float largest = row[order.front()];
    auto share = [&](int32_t expert) { return row[expert] == largest ? 1.0F : std::exp(row[expert] - largest); };
    float all = 0;
    for (int32_t expert : order)
      all += share(expert);
    float chosen = 0;
    for (int64_t j = 0; j < top; ++j)
      chosen += weights.floats[t * shares + j] = share(order[j]) / all;
    for (int64_t j = 0; j < top && op.getNormalize(); ++j)
      weights.floats[t * shares + j] /= chosen;
    for (int64_t j = 0; j < top && !factors.empty(); ++j)
      weights.floats[t * shares + j] *= factors[order[j]];
    if (shared)
      weights.floats[t * shares + top] = gated(llm::Gate::Sigmoid, shared->floats[t]);
    indices.ids.insert(indices.ids.end(), order.begin(), order.begin() + top);
  }
  Results results;
  results.push_back(std::move(weights));
  results.push_back(std::move(indices));
  return results;
}

HostTensor Interpreter::Implementation::combine(llm::CombineOp op, const HostTensor &x, const HostTensor &weights) {
  HostTensor result = floats(weights.rows, x.columns);
  for (int64_t t = 0; t < result.rows; ++t)
    for (int64_t n = 0; n < x.columns; ++n) {
      float sum = 0;
      for (int64_t j = 0; j < weights.columns; ++j)
        sum += weights.row(t)[j] * x.row(t * weights.columns + j)[n];
      result.floats[t * x.columns + n] = stored(sum, op.getResult().getType());
    }
  return result;
}

absl::StatusOr<HostTensor> Interpreter::Implementation::rope(llm::RopeOp op, const HostTensor &x) {
  auto frequencies = weight(op.getInvFreq());
  if (!frequencies.ok())
    return frequencies.status();
  const int64_t heads = op.getHeads();
  const int64_t dim = op.getHeadDim();
  const int64_t half = op.getRotated() / 2;
  const float magnitude = op.getMagnitude() ? op.getMagnitude()->convertToFloat() : 1;
  HostTensor result = x;
  for (int64_t t = 0; t < x.rows; ++t) {
    const auto position = static_cast<float>(step.position + t);
    for (int64_t i = 0; i < half; ++i) {
      const float angle = position * (*frequencies)->values[i];
      const float cosine = std::cos(angle) * magnitude;
      const float sine = std::sin(angle) * magnitude;
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t first = t * x.columns + h * dim + i;
        const int64_t second = first + half;
        result.floats[first] = x.floats[first] * cosine - x.floats[second] * sine;
        result.floats[second] = x.floats[second] * cosine + x.floats[first] * sine;
      }
    }
    if (auto temperature = op.getTemperature()) {
      const int64_t whole = (step.position + t) / static_cast<int64_t>(*op.getEvery());
      const auto steps = static_cast<float>(whole);
      for (float &y : std::span(result.floats).subspan(t * x.columns, x.columns))
        y *= 1 + temperature->convertToFloat() * std::log(1 + steps);
    }
  }
  for (float &y : result.floats)
    y = stored(y, op.getResult().getType());
  return result;
}

Interpreter::Implementation::Results Interpreter::Implementation::tileArgmax(std::span<const float> logits) {
  constexpr size_t kTile = llm::TileArgmaxOp::kTile;
  Results best(2);
  for (size_t begin = 0; begin < logits.size(); begin += kTile) {
    auto column = begin + argmax(logits.subspan(begin, std::min(kTile, logits.size() - begin)));
    best[0].floats.push_back(logits[column]);
    best[1].ids.push_back(static_cast<int32_t>(column));
  }
  for (HostTensor &tensor : best) {
    tensor.rows = 1;
    tensor.columns = static_cast<int64_t>(best[1].ids.size());
  }
  return best;
}

/// A head as a cache of codes gives it back: `code * scale` in the place of each element.
static void throughCodes(std::span<float> head, mlir::Type element) {
  const bool integer = element.isInteger(8);
  const float most = integer ? 127.0F : 448.0F;
  float largest = 0;
  for (float x : head)
    largest = std::max(largest, std::abs(x));
  const float factor = largest > 0 ? most / largest : 0.0F;
  const float scale = largest / most;
  for (float &x : head)
    x = scale * (integer ? std::clamp(std::nearbyint(x * factor), -most, most) : roundE4m3(x * factor));
}

absl::Status Interpreter::Implementation::append(llm::AppendOp op, const HostTensor &k, const HostTensor &v) {
  const std::pair<llvm::StringRef, const HostTensor *> writes[] = {{op.getKState(), &k}, {op.getVState(), &v}};
  for (auto [name, tensor] : writes) {
    Cache &cache = caches_[name.str()];
    const auto begin = static_cast<size_t>(step.position * tensor->columns);
    if (cache.size() < begin + tensor->floats.size())
      cache.resize(begin + tensor->floats.size(), 0.0F);
    std::copy(tensor->floats.begin(), tensor->floats.end(), cache.begin() + static_cast<int64_t>(begin));
    const auto dim = static_cast<size_t>(op.getHeadDim());
    if (auto state = symbols_.lookup<llm::StateOp>(name); state.holdsCodes())
      for (size_t head = begin; head < begin + tensor->floats.size(); head += dim)
        throughCodes(std::span(cache).subspan(head, dim), state.getTensorType().getElementType());
  }
  return absl::OkStatus();
}

absl::StatusOr<HostTensor> Interpreter::Implementation::attention(llm::AttentionOp op, const HostTensor &q) {
  const Cache &keys = caches_[op.getKState().str()];
  const Cache &valuesOfCache = caches_[op.getVState().str()];
  const int64_t heads = op.getHeads();
  const int64_t dim = op.getHeadDim();
  const int64_t kvHeads = op.getKvHeads();
  const int64_t width = kvHeads * dim;
  const int64_t window = op.getWindow().value_or(INT64_MAX);
  const auto first = static_cast<int64_t>(op.getFirst().value_or(0));
  const float scale = op.getScale().convertToFloat();
  const auto needed = static_cast<size_t>((step.position + q.rows) * width);
  if (keys.size() < needed || valuesOfCache.size() < needed)
    return absl::FailedPreconditionError(absl::StrCat(llm::labelOf(op), ": the cache holds ", keys.size() / width,
                                                      " positions and ", step.position + q.rows,
                                                      " are read; llm.append must come before llm.attention"));
  HostTensor result = floats(q.rows, q.columns);
  parallel(q.rows * heads, [&](int64_t index) {
    const int64_t t = index / heads;
    const int64_t h = index % heads;
    const int64_t position = step.position + t;
    const int64_t begin = std::max(position >= window ? position - window + 1 : 0, std::min(first, position));
    const int64_t offset = h / (heads / kvHeads) * dim;
    const float *query = q.row(t).data() + h * dim;
    std::vector<float> scores;
    for (int64_t n = begin; n <= position; ++n)
      scores.push_back(scale * dot(query, keys.data() + n * width + offset, dim));
    const float largest = *std::max_element(scores.begin(), scores.end());
    float sum = 0;
    for (float &score : scores) {
      score = std::exp(score - largest);
      sum += score;
    }
    std::vector<float> mixed(static_cast<size_t>(dim), 0.0F);
    for (int64_t n = begin; n <= position; ++n)
      for (int64_t d = 0; d < dim; ++d)
        mixed[d] += scores[n - begin] / sum * valuesOfCache[n * width + offset + d];
    for (int64_t d = 0; d < dim; ++d)
      result.floats[t * q.columns + h * dim + d] = stored(mixed[d], op.getResult().getType());
  });
  return result;
}

absl::StatusOr<HostTensor> Interpreter::Implementation::shortConv(llm::ShortConvOp op, const HostTensor &x) {
  auto loaded = weight(op.getWeight());
  if (!loaded.ok())
    return loaded.status();
  const LoadedWeight &w = **loaded;
  const int64_t before = w.columns - 1; // rows that the state holds
  Cache &state = fixedState(op.getState());
  // The state's rows, then those of x.
  std::vector<float> rows = state;
  rows.insert(rows.end(), x.floats.begin(), x.floats.end());
  HostTensor result = floats(x.rows, x.columns);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t c = 0; c < x.columns; ++c) {
      float sum = 0;
      for (int64_t j = 0; j <= before; ++j)
        sum += w.row(c)[j] * rows[(t + j) * x.columns + c];
      result.floats[t * x.columns + c] = gated(llm::Gate::Silu, sum);
    }
  if (!op.getPeek()) {
    const auto kept = rows.begin() + std::min<int64_t>(x.rows, step.tokens) * x.columns;
    std::copy(kept, kept + before * x.columns, state.begin());
  }
  return result;
}

absl::StatusOr<Interpreter::Implementation::Results> Interpreter::Implementation::deltaRule(llm::DeltaRuleOp op,
                                                                                            const Values &outside) {
  const HostTensor &qkv = outside.find(op.getQkv())->second, &b = outside.find(op.getB())->second,
                   &a = outside.find(op.getA())->second;
  auto decay = weight(op.getDecay()), bias = weight(op.getDtBias());
  for (const auto &loaded : {decay, bias})
    if (!loaded.ok())
      return loaded.status();
  const auto keyHeads = static_cast<int64_t>(op.getKeyHeads()), valueHeads = static_cast<int64_t>(op.getValueHeads());
  const auto keyDim = static_cast<int64_t>(op.getKeyDim()), valueDim = static_cast<int64_t>(op.getValueDim());
  Cache peeked;
  if (op.getPeek())
    peeked = fixedState(op.getState());
  Cache &states = op.getPeek() ? peeked : fixedState(op.getState());
  const int64_t rows = op.getPeek() ? qkv.rows : std::min<int64_t>(qkv.rows, step.tokens);
  HostTensor result = floats(qkv.rows, valueHeads * valueDim);
  parallel(valueHeads, [&](int64_t head) {
    const int64_t keyHead = head / (valueHeads / keyHeads);
    float *state = states.data() + head * keyDim * valueDim;
    const auto normalised = [&](const float *x, float scale) {
      const float factor = 1.0F / std::sqrt(dot(x, x, keyDim) + 1e-6F) * scale;
      std::vector<float> y(x, x + keyDim);
      for (float &value : y)
        value *= factor;
      return y;
    };
    for (int64_t t = 0; t < rows; ++t) {
      const float *row = qkv.row(t).data();
      const auto q = normalised(row + keyHead * keyDim, 1.0F / std::sqrt(static_cast<float>(keyDim)));
      const auto k = normalised(row + (keyHeads + keyHead) * keyDim, 1.0F);
      const float *v = row + 2 * keyHeads * keyDim + head * valueDim;
      const float beta = gated(llm::Gate::Sigmoid, b.row(t)[head]);
      const float x = a.row(t)[head] + (*bias)->values[head];
      const float softplus = x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
      const float kept = std::exp((*decay)->values[head] * softplus);
      for (int64_t i = 0; i < keyDim * valueDim; ++i)
        state[i] *= kept;
      for (int64_t c = 0; c < valueDim; ++c) {
        float remembered = 0;
        for (int64_t d = 0; d < keyDim; ++d)
          remembered += k[d] * state[d * valueDim + c];
        const float correction = beta * (v[c] - remembered);
        float y = 0;
        for (int64_t d = 0; d < keyDim; ++d) {
          state[d * valueDim + c] += k[d] * correction;
          y += q[d] * state[d * valueDim + c];
        }
        result.floats[t * result.columns + head * valueDim + c] = y;
      }
    }
  });
  Results results;
  results.push_back(std::move(result));
  if (!op.hasEpilogue())
    return results;
  return runRegion(op.getEpilogue(), std::move(results), outside);
}

void Interpreter::Implementation::advance(int32_t token) {
  record(token);
  next = {token};
  step.position += step.tokens;
  step.tokens = 1;
}

void Interpreter::Implementation::record(int32_t token) {
  if (step.generated < step.capacity)
    output.push_back(token);
  step.generated += 1;
}

HostTensor Interpreter::Implementation::concat(const HostTensor &a, const HostTensor &b) {
  HostTensor result = floats(a.rows, a.columns + b.columns);
  for (int64_t t = 0; t < a.rows; ++t) {
    float *row = result.floats.data() + t * result.columns;
    std::copy(a.row(t).begin(), a.row(t).end(), row);
    std::copy(b.row(t).begin(), b.row(t).end(), row + a.columns);
  }
  return result;
}

HostTensor Interpreter::Implementation::delay(llm::DelayOp op, const HostTensor &x) {
  Cache &state = fixedState(op.getState());
  HostTensor result = floats(x.rows, x.columns);
  std::copy(state.begin(), state.end(), result.floats.begin());
  std::copy(x.floats.begin(), x.floats.end() - x.columns, result.floats.begin() + x.columns);
  auto last = x.row(std::clamp<int64_t>(step.tokens, 1, x.rows) - 1);
  std::copy(last.begin(), last.end(), state.begin());
  return result;
}

int32_t Interpreter::Implementation::accept(llm::AcceptOp op, const std::vector<int32_t> &best,
                                            const std::vector<int32_t> &tokens) {
  size_t accepted = 0;
  for (; accepted + 1 < tokens.size() && tokens[accepted + 1] == best[accepted] &&
         !llvm::is_contained(op.getEnds(), best[accepted]) && step.generated + 1 < step.capacity;
       ++accepted)
    record(best[accepted]);
  step.tokens = static_cast<int32_t>(accepted) + 1;
  return best[accepted];
}

void Interpreter::Implementation::draft(llm::DraftOp op, int32_t token) {
  next.resize(op.getIndex() + 1);
  next[op.getIndex()] = token;
  step.position += static_cast<int32_t>(op.getMove());
}

absl::StatusOr<Interpreter::Implementation::Results> Interpreter::Implementation::evaluate(mlir::Operation *op,
                                                                                           const Values &values) {
  const auto in = [&](mlir::Value value) -> const HostTensor & { return values.find(value)->second; };
  const auto one = [](absl::StatusOr<HostTensor> tensor) -> absl::StatusOr<Results> {
    if (!tensor.ok())
      return tensor.status();
    Results results;
    results.push_back(std::move(*tensor));
    return results;
  };
  const auto elementwise = [&](mlir::Value a, mlir::Value b, auto function) -> absl::StatusOr<Results> {
    HostTensor result = in(a);
    const mlir::Type type = op->getResult(0).getType();
    for (size_t i = 0; i < result.floats.size(); ++i)
      result.floats[i] = stored(function(result.floats[i], in(b).floats[i]), type);
    return one(std::move(result));
  };
  const auto token = [&](int32_t id) {
    HostTensor tensor;
    tensor.rows = tensor.columns = 1;
    tensor.ids = {id};
    return one(std::move(tensor));
  };
  // A token for each row.
  const auto chosen = [&](const HostTensor &logits, auto choose) {
    HostTensor result;
    result.rows = logits.rows;
    result.columns = 1;
    for (int64_t row = 0; row < logits.rows; ++row)
      result.ids.push_back(choose(row, logits.row(row)));
    return one(std::move(result));
  };
  using Outcome = absl::StatusOr<Results>;
  return llvm::TypeSwitch<mlir::Operation *, Outcome>(op)
      .Case([&](llm::EmbedOp o) { return one(embed(o, in(o.getTokens()))); })
      .Case([&](llm::RmsNormOp o) {
        return one(norm(o.getWeight(), o.getEps(), static_cast<int64_t>(o.getHeads().value_or(1)), in(o.getX()),
                        o.getResult().getType()));
      })
      .Case([&](llm::QuantizeOp o) -> Outcome {
        Results results = quantize(in(o.getX()));
        if (auto type = mlir::cast<mlir::RankedTensorType>(o.getScales().getType()); type.getRank() == 2) {
          results[1].columns = type.getDimSize(1);
          results[1].rows /= type.getDimSize(1);
        }
        return results;
      })
      .Case([&](llm::RmsNormQuantizeOp o) -> Outcome {
        // Rounded in between, as the two ops would.
        auto normalised = norm(o.getWeight(), o.getEps(), 1, in(o.getX()), mlir::BFloat16Type::get(o.getContext()));
        if (!normalised.ok())
          return normalised.status();
        Results results = quantize(*normalised);
        if (o.getRows())
          results.push_back(std::move(*normalised));
        return results;
      })
      .Case([&](llm::LinearOp o) { return linear(o, values); })
      .Case([&](llm::RouteOp o) -> Outcome {
        return route(o, in(o.getLogits()), o.getShared() ? &in(o.getShared()) : nullptr);
      })
      .Case([&](llm::CombineOp o) { return one(combine(o, in(o.getX()), in(o.getWeights()))); })
      .Case([&](llm::GatherColumnsOp o) { return one(gather(o, in(o.getX()))); })
      .Case([&](llm::HeadsOp o) -> Outcome {
        Results inputs;
        for (mlir::Value input : o.getInputs())
          inputs.push_back(in(input));
        return runRegion(o.getBody(), std::move(inputs), values);
      })
      .Case([&](llm::RopeOp o) { return one(rope(o, in(o.getX()))); })
      .Case([&](llm::AppendOp o) -> Outcome {
        if (auto status = append(o, in(o.getK()), in(o.getV())); !status.ok())
          return status;
        return Results();
      })
      .Case([&](llm::AttentionOp o) { return one(attention(o, in(o.getQ()))); })
      .Case([&](llm::ShortConvOp o) { return one(shortConv(o, in(o.getX()))); })
      .Case([&](llm::DeltaRuleOp o) { return deltaRule(o, values); })
      .Case([&](llm::GatedMulOp o) {
        const HostTensor &gate = in(o.getGate());
        HostTensor result = in(o.getUp());
        for (int64_t t = 0; t < result.rows; ++t)
          for (int64_t c = 0; c < result.columns; ++c) {
            float &y = result.floats[t * result.columns + c];
            y = stored(gated(o.getFunction(), gate.row(t)[o.isBroadcast() ? 0 : c]) * y, o.getResult().getType());
          }
        return one(std::move(result));
      })
      .Case([&](llm::SoftcapOp o) {
        const float cap = o.getCap().convertToFloat();
        HostTensor result = in(o.getX());
        for (float &y : result.floats)
          y = cap * std::tanh(y / cap);
        return one(std::move(result));
      })
      .Case([&](llm::AddOp o) -> Outcome {
        float factor = 1;
        if (o.getFactor()) {
          auto read = weight(*o.getFactor());
          if (!read.ok())
            return read.status();
          factor = (*read)->values[0];
        }
        return elementwise(o.getLhs(), o.getRhs(), [&](float a, float b) { return (a + b) * factor; });
      })
      .Case([&](llm::ColumnsOp o) {
        const HostTensor &x = in(o.getX());
        HostTensor result = floats(x.rows, mlir::cast<mlir::RankedTensorType>(o.getResult().getType()).getDimSize(1));
        for (int64_t t = 0; t < x.rows; ++t)
          for (int64_t n = 0; n < result.columns; ++n)
            result.floats[t * result.columns + n] = stored(x.row(t)[o.getFrom() + n], o.getResult().getType());
        return one(std::move(result));
      })
      .Case([&](llm::LastTokenOp o) {
        const HostTensor &x = in(o.getX());
        HostTensor result = floats(1, x.columns);
        auto row = x.row(std::clamp<int64_t>(step.tokens, 1, x.rows) - 1);
        std::copy(row.begin(), row.end(), result.floats.begin());
        return one(std::move(result));
      })
      .Case([&](llm::ArgmaxOp o) {
        return chosen(in(o.getLogits()), [](int64_t, std::span<const float> logits) { return argmax(logits); });
      })
      .Case([&](llm::ConcatOp o) { return one(concat(in(o.getA()), in(o.getB()))); })
      .Case([&](llm::DelayOp o) { return one(delay(o, in(o.getX()))); })
      .Case([&](llm::AcceptOp o) { return token(accept(o, in(o.getBest()).ids, in(o.getTokens()).ids)); })
      .Case([&](llm::DraftOp o) -> Outcome {
        draft(o, in(o.getToken()).ids.front());
        return Results();
      })
      .Case([&](llm::TileArgmaxOp o) -> Outcome { return tileArgmax(in(o.getLogits()).row(0)); })
      .Case([&](llm::SampleOp o) {
        return chosen(in(o.getLogits()), [&](int64_t row, std::span<const float> logits) {
          Step ofRow = step;
          ofRow.position += static_cast<int32_t>(row);
          return sample(logits, ofRow);
        });
      })
      .Case([&](llm::AdvanceOp o) -> Outcome {
        advance(in(o.getToken()).ids.front());
        return Results();
      })
      .Case([&](llm::AdvanceBestOp o) -> Outcome {
        const HostTensor &values = in(o.getValues());
        const std::vector<int32_t> &columns = in(o.getColumns()).ids;
        size_t best = 0;
        for (size_t i = 1; i < columns.size(); ++i)
          if (values.floats[i] > values.floats[best] ||
              (values.floats[i] == values.floats[best] && columns[i] < columns[best]))
            best = i;
        advance(columns[best]);
        return Results();
      })
      .Default([](mlir::Operation *other) -> Outcome {
        return absl::UnimplementedError(absl::StrCat("the interpreter has no op ",
                                                     other->getName().getStringRef().str(),
                                                     "; it executes `llm` modules before they are lowered"));
      });
}

absl::StatusOr<HostTensor> Interpreter::Implementation::run(const std::string &name, const HostTensor &argument) {
  auto function = symbols_.lookup<mlir::func::FuncOp>(name);
  if (!function || function.isExternal() || function.getNumArguments() != 1)
    return absl::NotFoundError(absl::StrCat("the module has no function @", name, " of one argument"));
  if (llm::sequencesOf(function) > 0)
    return absl::UnimplementedError(absl::StrCat("@", name, " takes tokens of ", llm::sequencesOf(function),
                                                 " sequences, and the interpreter has one: run the function of one "
                                                 "sequence on each"));
  auto type = mlir::cast<mlir::RankedTensorType>(function.getArgumentTypes().front());
  const bool tokens = type.getElementType().isInteger(32);
  const size_t elements = tokens ? argument.ids.size() : argument.floats.size();
  const int64_t columns = type.getRank() == 2 ? type.getDimSize(1) : 1;
  if (argument.rows < 1 || elements != static_cast<size_t>(argument.rows * argument.columns) ||
      argument.columns != columns || (!type.isDynamicDim(0) && argument.rows != type.getDimSize(0)))
    return absl::InvalidArgumentError(
        absl::StrCat("@", name, " takes ", type.isDynamicDim(0) ? "n" : absl::StrCat(type.getDimSize(0)), " x ",
                     columns, (tokens ? " token ids" : " floats"), ", got ", argument.rows, " x ", argument.columns));
  if (type.isDynamicDim(0))
    step.tokens = static_cast<int32_t>(argument.rows);
  else if (tokens)
    step.tokens = 1; // of several, only the first is known to stay
  Values values;
  values[function.getArgument(0)] = argument;
  for (mlir::Operation &op : function.getBody().front()) {
    if (auto end = mlir::dyn_cast<mlir::func::ReturnOp>(op))
      return end.getNumOperands() == 0 ? HostTensor() : values.find(end.getOperand(0))->second;
    auto results = evaluate(&op, values);
    if (!results.ok())
      return absl::Status(results.status().code(),
                          absl::StrCat("@", name, ", ", llm::labelOf(&op), ": ", results.status().message()));
    if (observer)
      observer(&op, *results);
    for (auto [value, tensor] : llvm::zip(op.getResults(), *results))
      values[value] = std::move(tensor);
    // What no later op reads is dropped: a prompt's activations are larger than the caches.
    op.walk([&](mlir::Operation *reader) {
      for (mlir::Value operand : reader->getOperands())
        if (llvm::all_of(operand.getUsers(), [&](mlir::Operation *user) {
              return !op.isBeforeInBlock(op.getBlock()->findAncestorOpInBlock(*user));
            }))
          values.erase(operand);
    });
  }
  return absl::InternalError(absl::StrCat("@", name, " has no return"));
}

//===--------------------------------------------------------------------------------------------------------------===//
// The interface
//===--------------------------------------------------------------------------------------------------------------===//

namespace {

HostTensor asTensor(std::span<const int32_t> tokens) {
  HostTensor tensor;
  tensor.rows = static_cast<int64_t>(tokens.size());
  tensor.columns = 1;
  tensor.ids.assign(tokens.begin(), tokens.end());
  return tensor;
}

} // namespace

Interpreter::Interpreter(mlir::ModuleOp module, const Checkpoint &checkpoint, Options options)
    : implementation_(std::make_unique<Implementation>(module, checkpoint, options)) {}
Interpreter::~Interpreter() = default;

Step &Interpreter::step() { return implementation_->step; }
const std::vector<int32_t> &Interpreter::output() const { return implementation_->output; }
const std::vector<int32_t> &Interpreter::next() const { return implementation_->next; }
void Interpreter::reset() { implementation_->reset(); }
void Interpreter::observe(Observer observer) { implementation_->observer = std::move(observer); }

absl::StatusOr<HostTensor> Interpreter::run(const std::string &name, const HostTensor &argument) {
  return implementation_->run(name, argument);
}

absl::StatusOr<HostTensor> Interpreter::prefill(std::span<const int32_t> tokens) {
  auto result = run("prefill", asTensor(tokens));
  if (result.ok())
    step().position += static_cast<int32_t>(tokens.size());
  return result;
}

absl::StatusOr<HostTensor> Interpreter::logits(std::span<const int32_t> tokens) {
  auto result = run("logits", asTensor(tokens));
  if (result.ok())
    step().position += static_cast<int32_t>(tokens.size());
  return result;
}

absl::StatusOr<HostTensor> Interpreter::decode(int32_t token) {
  auto result = run("decode", asTensor(std::span(&token, 1)));
  if (result.ok())
    step().position += 1;
  return result;
}

} // namespace ingot
