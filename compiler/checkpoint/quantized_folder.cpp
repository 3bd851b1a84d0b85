// Finds the parts of each quantised linear by name and checks them against each other. Bits and groups come from the
// shapes, so files with a different scheme in single layers need no reading of the tools' layer patterns.
#include "compiler/checkpoint/quantized_folder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "compiler/checkpoint/gguf_file.h"
#include "compiler/checkpoint/half.h"
#include "compiler/checkpoint/message.h"

namespace ingot {
namespace {

using Packing = QuantizationConfig::Packing;
using Rule = QuantizationConfig::Rule;
using Activation = StoredQuantization::Activation;
using ScaleType = StoredQuantization::ScaleType;
using Storage = StoredQuantization::Storage;

constexpr std::array<std::string_view, 4> kWordParts = {"qweight", "qzeros", "scales", "g_idx"};
constexpr std::array<std::string_view, 11> kPlainParts = {
    "qscale_weight",     "qscale_act",   "weight",       "weight_packed", "weight_scale",    "weight_scale_inv",
    "weight_zero_point", "weight_shape", "weight_g_idx", "input_scale",   "activation_scale"};

// What a part is called everywhere but in Mistral's own files.
std::string_view usualName(std::string_view suffix) {
  return suffix == "qscale_weight" ? "weight_scale" : suffix == "qscale_act" ? "input_scale" : suffix;
}

uint64_t ceilDivide(uint64_t value, uint64_t by) { return value / by + (value % by != 0); }

std::string shapeText(const std::vector<uint64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += cat(i ? ", " : "", shape[i]);
  return text + "]";
}

uint64_t elements(const SafetensorsTensor &tensor) { return tensor.bytes / tensor.storage->blockBytes; }

// The parts of one linear and what is found out about it.
class Assembly {
public:
  Assembly(std::string stem, const QuantizationConfig &config) : stem(std::move(stem)), config(config) {}

  void add(std::string_view suffix, const FileTensor &tensor) { parts.emplace(suffix, tensor); }

  absl::StatusOr<ShownTensor> finish() {
    linear.zeroOffset = config.zeroOffset;
    absl::Status status = config.packing == Packing::Awq    ? awq()
                          : config.packing == Packing::Gptq ? gptq()
                          : parts.contains("weight_packed") ? packed()
                                                            : plain();
    if (status.ok())
      status = readZeros();
    if (status.ok())
      for (const auto &[suffix, tensor] : parts)
        if (!used.contains(suffix))
          return refuse(suffix, cat("belongs to nothing that quant_method '", config.method, "' has"));
    if (!status.ok())
      return status;
    ShownTensor shown;
    shown.info.name = stem + ".weight";
    shown.info.shape = {linear.rows, linear.columns};
    shown.info.storage = linear.quantization.storage == Storage::Int4   ? "INT4"
                         : linear.quantization.storage == Storage::Int8 ? "INT8"
                                                                        : "F8_E4M3";
    shown.info.quantization = linear.quantization;
    for (const auto &[suffix, tensor] : parts)
      shown.parts.push_back(tensor);
    shown.linear = std::move(linear);
    return shown;
  }

private:
  std::string name(std::string_view suffix) const { return printable(cat(stem, ".", suffix)); }

  // An error about a part that is there.
  absl::Status refuse(std::string_view suffix, std::string_view what) const {
    const FileTensor &tensor = parts.find(suffix)->second;
    return absl::InvalidArgumentError(cat(tensor.file->path(), ": tensor '", printable(tensor.record->name),
                                          "' of shape ", shapeText(tensor.record->shape), " and type ",
                                          tensor.record->storage->name, " ", what));
  }

  // The part, or an error when it is missing or of another type or rank.
  absl::StatusOr<FileTensor> need(std::string_view suffix, std::string_view type, size_t rank) {
    const auto found = parts.find(suffix);
    if (found == parts.end()) {
      const auto &[other, tensor] = *parts.begin();
      return absl::InvalidArgumentError(cat(tensor.file->path(), ": tensor '", name(other), "' needs '", name(suffix),
                                            "' beside it (quant_method '", config.method,
                                            "'), which is missing; the checkpoint is incomplete"));
    }
    used.insert(found->first);
    if ((!type.empty() && found->second.record->storage->name != type) || found->second.record->shape.size() != rank)
      return refuse(suffix,
                    cat("should be ", type.empty() ? "" : cat("of type ", type, " and "), "of ", rank, " dimensions"));
    return found->second;
  }

  // Scales are floats; the type is noted.
  absl::Status takeScales(std::string_view suffix, const FileTensor &tensor) {
    const std::string_view type = tensor.record->storage->name;
    if (type != "F16" && type != "BF16" && type != "F32")
      return refuse(suffix, "should be of type F16, BF16 or F32");
    linear.quantization.scaleType = type == "F16" ? ScaleType::F16 : type == "BF16" ? ScaleType::BF16 : ScaleType::F32;
    linear.scales = tensor.data();
    return absl::OkStatus();
  }

  absl::Status expectShape(std::string_view suffix, const std::vector<uint64_t> &expected) const {
    if (parts.find(suffix)->second.record->shape == expected)
      return absl::OkStatus();
    return refuse(suffix, cat("should have the shape ", shapeText(expected)));
  }

  // The group size that `count` groups of `columns` mean: one that the configuration names, else a usual one.
  absl::Status resolveGroup(std::string_view suffix, uint64_t columns, uint64_t count) {
    const auto fits = [&](uint64_t group) { return count == (group == 0 ? 1 : ceilDivide(columns, group)); };
    for (const Rule &rule : config.rules)
      if (rule.groupRows == 1 && fits(rule.groupColumns)) {
        linear.quantization.groupColumns = rule.groupColumns;
        return absl::OkStatus();
      }
    std::vector<uint64_t> usual;
    for (uint64_t group : {0, 16, 32, 64, 128, 256, 512, 1024})
      if (fits(group))
        usual.push_back(group);
    if (usual.empty() || (usual.size() > 1 && usual.front() != 0))
      return refuse(suffix, cat("gives ", count, " groups to ", columns, " columns; expected the groups of ",
                                config.rules.front().groupColumns, " columns that config.json names"));
    linear.quantization.groupColumns = usual.front();
    return absl::OkStatus();
  }

  // What AutoAWQ and the GPTQ packers store of a linear: codes and zero points in words of 32 bits.
  struct WordTensors {
    FileTensor weight, zeros, scales;
  };

  absl::StatusOr<WordTensors> wordTensors() {
    absl::StatusOr<FileTensor> weight = need("qweight", "I32", 2);
    if (!weight.ok())
      return weight.status();
    absl::StatusOr<FileTensor> zeros = need("qzeros", "I32", 2);
    if (!zeros.ok())
      return zeros.status();
    absl::StatusOr<FileTensor> scales = need("scales", "", 2);
    if (!scales.ok())
      return scales.status();
    return WordTensors{*weight, *zeros, *scales};
  }

  absl::Status takeWords(const WordTensors &words) {
    linear.codes = words.weight.data();
    linear.zeros = words.zeros.data();
    return takeScales("scales", words.scales);
  }

  absl::Status awq() {
    absl::StatusOr<WordTensors> words = wordTensors();
    if (!words.ok())
      return words.status();
    const auto &[weight, zeros, scales] = *words;
    linear.packing = QuantizedLinear::Codes::AwqWords;
    linear.quantization.storage = Storage::Int4;
    linear.columns = weight.record->shape[0];
    linear.rows = weight.record->shape[1] * 8;
    const uint64_t groups = scales.record->shape[0];
    if (absl::Status status = expectShape("scales", {groups, linear.rows}); !status.ok())
      return status;
    if (absl::Status status = expectShape("qzeros", {groups, linear.rows / 8}); !status.ok())
      return status;
    if (absl::Status status = resolveGroup("scales", linear.columns, groups); !status.ok())
      return status;
    return takeWords(*words);
  }

  absl::Status gptq() {
    absl::StatusOr<WordTensors> words = wordTensors();
    if (!words.ok())
      return words.status();
    const auto &[weight, zeros, scales] = *words;
    linear.packing = QuantizedLinear::Codes::GptqWords;
    const uint64_t groups = scales.record->shape[0];
    linear.rows = scales.record->shape[1];
    const uint64_t zeroWords = zeros.record->shape[1];
    if (zeroWords * 8 == linear.rows)
      linear.quantization.storage = Storage::Int4;
    else if (zeroWords * 4 == linear.rows)
      linear.quantization.storage = Storage::Int8;
    else
      return refuse("qzeros", cat("does not fit ", linear.rows, " rows of 4 or 8 bits, the widths that are read"));
    linear.columns = weight.record->shape[0] * (32 / linear.bits());
    if (absl::Status status = expectShape("qweight", {weight.record->shape[0], linear.rows}); !status.ok())
      return status;
    if (absl::Status status = expectShape("qzeros", {groups, zeroWords}); !status.ok())
      return status;
    if (absl::Status status = resolveGroup("scales", linear.columns, groups); !status.ok())
      return status;
    if (absl::Status status = takeWords(*words); !status.ok())
      return status;
    return readOrder("g_idx");
  }

  // compressed-tensors "pack-quantized".
  absl::Status packed() {
    absl::StatusOr<FileTensor> weight = need("weight_packed", "I32", 2);
    if (!weight.ok())
      return weight.status();
    absl::StatusOr<FileTensor> shape = need("weight_shape", "I64", 1);
    if (!shape.ok())
      return shape.status();
    absl::StatusOr<FileTensor> scales = need("weight_scale", "", 2);
    if (!scales.ok())
      return scales.status();
    if (absl::Status status = expectShape("weight_shape", {2}); !status.ok())
      return status;
    linear.packing = QuantizedLinear::Codes::RowWords;
    linear.rows = weight->record->shape[0];
    const uint64_t words = weight->record->shape[1];
    std::array<uint64_t, 2> extents{};
    std::memcpy(extents.data(), shape->data(), sizeof extents);
    linear.columns = extents[1];
    if (extents[0] != linear.rows || linear.columns == 0 || linear.columns > words * 8)
      return refuse("weight_shape", cat("says ", extents[0], " x ", extents[1], ", which does not fit '",
                                        name("weight_packed"), "' of shape ", shapeText(weight->record->shape)));
    std::vector<const Rule *> fitting;
    const uint64_t groups = scales->record->shape[1];
    for (const Rule &rule : config.rules)
      if (rule.integer && ceilDivide(linear.columns * rule.bits.value_or(8), 32) == words)
        fitting.push_back(&rule);
    if (fitting.empty())
      return refuse("weight_packed", cat("does not fit ", linear.columns,
                                         " columns of the bits that config.json names "
                                         "(4 and 8 are read)"));
    linear.quantization.storage = fitting.front()->bits.value_or(8) == 4 ? Storage::Int4 : Storage::Int8;
    if (absl::Status status = expectShape("weight_scale", {linear.rows, groups}); !status.ok())
      return status;
    if (absl::Status status = resolveGroup("weight_scale", linear.columns, groups); !status.ok())
      return status;
    if (absl::Status status = takeActivation("weight_packed", fitting); !status.ok())
      return status;
    linear.codes = weight->data();
    if (parts.contains("weight_zero_point")) {
      absl::StatusOr<FileTensor> zeros = need("weight_zero_point", "I32", 2);
      if (!zeros.ok())
        return zeros.status();
      if (absl::Status status = expectShape("weight_zero_point", {ceilDivide(linear.rows * linear.bits(), 32), groups});
          !status.ok())
        return status;
      linear.zeros = zeros->data();
    }
    if (absl::Status status = takeScales("weight_scale", *scales); !status.ok())
      return status;
    return readOrder("weight_g_idx");
  }

  // int8 and FP8 as they are, with scales for the tensor, a row, groups of a row, or blocks.
  absl::Status plain() {
    absl::StatusOr<FileTensor> weight = need("weight", "", 2);
    if (!weight.ok())
      return weight.status();
    const std::string_view type = weight->record->storage->name;
    if (type != "I8" && type != "F8_E4M3")
      return refuse("weight", cat("has quantised companions (quant_method '", config.method,
                                  "'), so it should be of type I8 or F8_E4M3"));
    const std::string_view suffix = parts.contains("weight_scale_inv") ? "weight_scale_inv" : "weight_scale";
    if (!parts.contains(suffix))
      return need(suffix, "", 2).status();
    const FileTensor scales = parts.find(suffix)->second;
    used.insert(parts.find(suffix)->first);
    linear.packing = QuantizedLinear::Codes::RowBytes;
    linear.rows = weight->record->shape[0];
    linear.columns = weight->record->shape[1];
    linear.quantization.storage = type == "I8" ? Storage::Int8 : Storage::Fp8E4M3;
    linear.codes = weight->data();

    const std::vector<uint64_t> &shape = scales.record->shape;
    std::vector<const Rule *> fitting;
    for (const Rule &rule : config.rules) {
      const std::vector<uint64_t> expected = {rule.groupRows ? ceilDivide(linear.rows, rule.groupRows) : 1,
                                              rule.groupColumns ? ceilDivide(linear.columns, rule.groupColumns) : 1};
      const bool same = shape == expected || (expected[1] == 1 && shape == std::vector{expected[0]}) ||
                        (rule.groupRows == 0 && elements(*scales.record) == 1);
      if (same && rule.integer == (type == "I8"))
        fitting.push_back(&rule);
    }
    if (fitting.empty())
      return refuse(suffix, cat("does not fit '", name("weight"), "' of shape ", shapeText(weight->record->shape),
                                " and type ", type, " with any scheme that config.json names"));
    linear.quantization.groupRows = fitting.front()->groupRows;
    linear.quantization.groupColumns = fitting.front()->groupColumns;
    if (absl::Status status = takeActivation(suffix, fitting); !status.ok())
      return status;
    if (const auto zeros = parts.find("weight_zero_point"); zeros != parts.end()) {
      used.insert(zeros->first);
      const SafetensorsTensor &record = *zeros->second.record;
      const uint8_t *values = zeros->second.data();
      const bool any = std::any_of(values, values + record.bytes, [](uint8_t value) { return value != 0; });
      if (any && (type != "I8" || record.storage->name != "I8" || linear.quantization.groupRows != 1 ||
                  record.bytes != linear.rows * linear.groups()))
        return refuse("weight_zero_point", "has values other than 0 that are not one I8 for each scale");
      if (any)
        linear.zeros = values;
    }
    return takeScales(suffix, scales);
  }

  // What is done to the input, by the rules that fit this linear's shapes.
  absl::Status takeActivation(std::string_view suffix, std::span<const Rule *const> fitting) {
    const Rule &rule = *fitting.front();
    for (const Rule *other : fitting)
      if (other->activation != rule.activation)
        return absl::UnimplementedError(cat(parts.find(suffix)->second.file->path(), ": tensor '", name(suffix),
                                            "' fits both ", rule.name, " and ", other->name,
                                            " of config.json, which quantise its input differently"));
    linear.quantization.activation = rule.activation;
    if (rule.activation != Activation::Fp8PerTensorStatic)
      return absl::OkStatus();
    const std::string_view scaleSuffix = parts.contains("activation_scale") ? "activation_scale" : "input_scale";
    if (!parts.contains(scaleSuffix))
      return need(scaleSuffix, "", 0).status();
    const FileTensor scale = parts.find(scaleSuffix)->second;
    used.insert(parts.find(scaleSuffix)->first);
    float value = 0;
    if (scale.record->storage->decode && elements(*scale.record) == 1)
      scale.record->storage->decode(scale.data(), 1, &value);
    if (!(value > 0) || !std::isfinite(value))
      return refuse(scaleSuffix, "should be one positive number");
    linear.quantization.activationScale = value;
    return absl::OkStatus();
  }

  // The group of each column. Groups that are not runs of columns are reached through a permutation.
  absl::Status readOrder(std::string_view suffix) {
    if (!parts.contains(suffix))
      return absl::OkStatus();
    absl::StatusOr<FileTensor> tensor = need(suffix, "I32", 1);
    if (!tensor.ok())
      return tensor.status();
    if (absl::Status status = expectShape(suffix, {linear.columns}); !status.ok())
      return status;
    const uint64_t groups = linear.groups();
    const uint64_t width = linear.quantization.groupColumns ? linear.quantization.groupColumns : linear.columns;
    std::vector<int32_t> group(linear.columns);
    std::memcpy(group.data(), tensor->data(), linear.columns * sizeof(int32_t));
    // -1 everywhere is how a tool writes that it kept the order.
    if (std::all_of(group.begin(), group.end(), [](int32_t g) { return g == -1; }))
      return absl::OkStatus();
    std::vector<uint64_t> members(groups);
    bool runs = true;
    for (uint64_t k = 0; k < linear.columns; ++k) {
      if (group[k] < 0 || static_cast<uint64_t>(group[k]) >= groups)
        return refuse(suffix, cat("puts column ", k, " into group ", group[k], ", there are ", groups, " groups"));
      ++members[static_cast<size_t>(group[k])];
      runs &= static_cast<uint64_t>(group[k]) == k / width;
    }
    if (runs)
      return absl::OkStatus();
    std::vector<uint64_t> begin(groups);
    for (uint64_t g = 0; g < groups; ++g) {
      begin[g] = g * width;
      if (const uint64_t expected = std::min(width, linear.columns - g * width); members[g] != expected)
        return refuse(suffix, cat("puts ", members[g], " columns into group ", g, ", expected ", expected));
    }
    linear.columnOrder.resize(linear.columns);
    for (uint64_t k = 0; k < linear.columns; ++k)
      linear.columnOrder[begin[static_cast<size_t>(group[k])]++] = static_cast<uint32_t>(k);
    linear.quantization.permutedColumns = true;
    return absl::OkStatus();
  }

  // Drops zeros that are all the middle of the range, and refuses those that no code can mean.
  absl::Status readZeros() {
    if (!linear.zeros)
      return absl::OkStatus();
    const unsigned bits = linear.bits(), middle = 1u << (bits - 1), largest = (1u << bits) - 1;
    bool symmetric = linear.packing != QuantizedLinear::Codes::RowBytes, overflow = false;
    if (symmetric) {
      const std::string_view suffix =
          linear.packing == QuantizedLinear::Codes::RowWords ? "weight_zero_point" : "qzeros";
      const uint64_t words = elements(*parts.find(suffix)->second.record);
      const uint32_t ones = 0xffffffffu / largest, usual = ones * (middle - linear.zeroOffset);
      for (uint64_t i = 0; i < words; ++i) {
        uint32_t word = 0;
        std::memcpy(&word, linear.zeros + 4 * i, sizeof word);
        symmetric &= word == usual;
        for (unsigned shift = 0; word != usual && linear.zeroOffset && shift < 32; shift += bits)
          overflow |= ((word >> shift) & largest) == largest;
      }
      if (overflow)
        return refuse(suffix, cat("holds the zero ", largest, ", which in this format means ", largest + 1,
                                  " or 0; "
                                  "convert the checkpoint to the format gptq_v2"));
    }
    if (symmetric)
      linear.zeros = nullptr;
    linear.quantization.zeroPoints = !symmetric;
    return absl::OkStatus();
  }

  std::string stem;
  const QuantizationConfig &config;
  std::map<std::string_view, FileTensor, std::less<>> parts;
  std::unordered_set<std::string_view> used;
  QuantizedLinear linear;
};

// The suffix of `name` when it may be a part of a quantised linear, else empty.
std::string_view partSuffix(const SafetensorsTensor &tensor, Packing packing) {
  const std::span<const std::string_view> known =
      packing == Packing::Plain ? std::span<const std::string_view>(kPlainParts) : kWordParts;
  const size_t dot = tensor.name.rfind('.');
  if (dot == std::string::npos || dot == 0)
    return {};
  const auto found = std::find(known.begin(), known.end(), std::string_view(tensor.name).substr(dot + 1));
  return found == known.end() ? std::string_view() : *found;
}

} // namespace

absl::StatusOr<std::vector<ShownTensor>> foldQuantizedLinears(std::span<const FileTensor> tensors,
                                                              const std::optional<QuantizationConfig> &config) {
  // Every "X.weight" is looked at once more below: only with companions is it a part.
  std::unordered_map<std::string_view, Assembly> assemblies;
  const auto stemOf = [](const FileTensor &tensor, std::string_view suffix) {
    return std::string_view(tensor.record->name).substr(0, tensor.record->name.size() - suffix.size() - 1);
  };
  const auto suffixOf = [&](const FileTensor &tensor) {
    return config ? partSuffix(*tensor.record, config->packing) : std::string_view();
  };
  for (const FileTensor &tensor : tensors)
    if (const std::string_view suffix = suffixOf(tensor);
        !suffix.empty() && (suffix != "weight" || !tensor.record->storage->decode))
      assemblies.try_emplace(stemOf(tensor, suffix), std::string(stemOf(tensor, suffix)), *config);
  for (const FileTensor &tensor : tensors)
    if (const std::string_view suffix = suffixOf(tensor); !suffix.empty())
      if (const auto found = assemblies.find(stemOf(tensor, suffix)); found != assemblies.end())
        found->second.add(usualName(suffix), tensor);

  std::vector<ShownTensor> shown;
  std::unordered_set<std::string> names;
  std::unordered_set<std::string_view> finished;
  for (const FileTensor &tensor : tensors) {
    const std::string_view suffix = suffixOf(tensor);
    const auto found = suffix.empty() ? assemblies.end() : assemblies.find(stemOf(tensor, suffix));
    if (found != assemblies.end()) {
      if (!finished.insert(found->first).second)
        continue;
      absl::StatusOr<ShownTensor> linear = found->second.finish();
      if (!linear.ok())
        return linear.status();
      shown.push_back(std::move(*linear));
    } else {
      const SafetensorsTensor &record = *tensor.record;
      if (!record.storage->decode)
        return absl::InvalidArgumentError(
            cat(tensor.file->path(), ": tensor '", printable(record.name), "' has type ", record.storage->name,
                config ? cat(", but is no part of a linear that quant_method '", config->method, "' has")
                       : std::string(", and config.json has no quantization_config that says what it means")));
      shown.push_back({{record.name, record.shape, std::string(record.storage->name)}, {tensor}, std::nullopt});
    }
    if (!names.insert(shown.back().info.name).second)
      return absl::InvalidArgumentError(
          cat(tensor.file->path(), ": '", printable(shown.back().info.name), "' is there both as it is and quantised"));
  }
  return shown;
}

} // namespace ingot
