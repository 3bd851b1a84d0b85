// Reads `quantization_config` of AutoAWQ, AutoGPTQ / GPTQModel, AutoRound, compressed-tensors, fine-grained FP8 and
// Quark.
#include "compiler/checkpoint/quantization_config.h"

#include <algorithm>
#include <charconv>

#include "compiler/checkpoint/gguf_file.h"
#include "compiler/checkpoint/message.h"

namespace ingot {
namespace {

using nlohmann::json;
using Activation = StoredQuantization::Activation;
using Rule = QuantizationConfig::Rule;

constexpr size_t kMaxRules = 256;
constexpr uint64_t kMaxGroup = 1 << 20;

// Reads members of one object; the first mistake is kept and the reads after it give defaults.
class Members {
public:
  Members(std::string where, const json &object) : where(std::move(where)), object(object) {}

  // `name` or null when the key is missing or null.
  const json *find(const char *name) const {
    if (!object.is_object())
      return nullptr;
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }

  std::string text(const char *name, const char *otherwise) {
    const json *value = find(name);
    if (!value)
      return otherwise;
    if (!value->is_string()) {
      refuse(name, "a string", *value);
      return otherwise;
    }
    return value->get<std::string>();
  }

  std::optional<bool> boolean(const char *name) {
    const json *value = find(name);
    if (!value)
      return std::nullopt;
    if (!value->is_boolean()) {
      refuse(name, "true or false", *value);
      return std::nullopt;
    }
    return value->get<bool>();
  }

  // 4 or 8.
  std::optional<unsigned> bits(std::initializer_list<const char *> names) {
    for (const char *name : names)
      if (const json *value = find(name)) {
        if (value->is_number_integer() && (*value == 4 || *value == 8))
          return value->get<unsigned>();
        refuse(name, "4 or 8", *value);
      }
    return std::nullopt;
  }

  // -1 and null stand for the whole row, which is 0 here.
  uint64_t group(std::initializer_list<const char *> names) {
    for (const char *name : names)
      if (const json *value = find(name)) {
        if (value->is_number_integer() && *value == -1)
          return 0;
        if (value->is_number_unsigned() && *value >= 1 && *value <= kMaxGroup)
          return value->get<uint64_t>();
        refuse(name, "-1 or the columns of a group", *value);
      }
    return 0;
  }

  // [rows, columns] of a block, or the same as "128x128".
  bool block(const char *name, Rule &rule) {
    const json *value = find(name);
    if (!value)
      return false;
    uint64_t rows = 0, columns = 0;
    if (value->is_array() && value->size() == 2 && (*value)[0].is_number_unsigned() &&
        (*value)[1].is_number_unsigned()) {
      rows = (*value)[0].get<uint64_t>();
      columns = (*value)[1].get<uint64_t>();
    } else if (value->is_string()) {
      const auto &text = value->get_ref<const std::string &>();
      const char *end = text.data() + text.size();
      const auto [middle, error] = std::from_chars(text.data(), end, rows);
      if (error != std::errc() || middle == end || *middle != 'x' ||
          std::from_chars(middle + 1, end, columns).ptr != end)
        columns = 0;
    }
    if (rows < 1 || rows > kMaxGroup || columns < 1 || columns > kMaxGroup) {
      refuse(name, "two extents", *value);
      return false;
    }
    rule.groupRows = rows;
    rule.groupColumns = columns;
    return true;
  }

  void refuse(std::string_view name, std::string_view expected, const json &found) {
    fail(absl::InvalidArgumentError(cat(where, ": '", name, "' should be ", expected, ", it is ", shown(found))));
  }
  void unknown(std::string_view name, std::string_view found, std::string_view known) {
    fail(absl::UnimplementedError(cat(where, ": ", name, " '", printable(found), "' is not read; known are ", known)));
  }
  void fail(absl::Status status) {
    if (error.ok())
      error = std::move(status);
  }

  std::string where;
  const json &object;
  absl::Status error;

private:
  static std::string shown(const json &value) {
    std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    if (text.size() > 60)
      text = text.substr(0, 57) + "...";
    return text;
  }
};

// AutoAWQ.
void readAwq(Members &in, QuantizationConfig &out) {
  out.packing = QuantizationConfig::Packing::Awq;
  Rule rule{"quantization_config"};
  rule.bits = in.bits({"bits", "w_bit"});
  if (rule.bits.value_or(4) != 4)
    in.fail(absl::UnimplementedError(cat(in.where, ": AWQ with ", *rule.bits, " bits is not read; 4 bits are")));
  rule.groupColumns = in.group({"group_size", "q_group_size"});
  const std::string version = in.text("version", "gemm");
  if (version != "gemm" && version != "GEMM")
    in.unknown("AWQ version", version, "gemm");
  out.rules.push_back(std::move(rule));
}

// AutoGPTQ and GPTQModel.
void readGptq(Members &in, QuantizationConfig &out) {
  out.packing = QuantizationConfig::Packing::Gptq;
  Rule rule{"quantization_config"};
  rule.bits = in.bits({"bits", "w_bit"});
  rule.groupColumns = in.group({"group_size"});
  const std::string format = in.text("checkpoint_format", "gptq");
  if (format != "gptq" && format != "gptq_v2")
    in.unknown("checkpoint_format", format, "gptq, gptq_v2");
  if (in.boolean("is_marlin_format").value_or(false))
    in.unknown("checkpoint_format", "marlin", "gptq, gptq_v2");
  out.zeroOffset = format == "gptq" ? 1 : 0;
  out.rules.push_back(std::move(rule));
}

void readAutoRound(Members &in, QuantizationConfig &out) {
  const std::string format = in.text("packing_format", "auto_round:auto_gptq");
  if (format == "auto_round:auto_awq" || format == "auto_round:awq") {
    out.packing = QuantizationConfig::Packing::Awq;
  } else {
    out.packing = QuantizationConfig::Packing::Gptq;
    if (format == "auto_round:auto_gptq" || format == "auto_round:gptq")
      out.zeroOffset = 1;
    else if (format != "auto_round" && format != "auto_round:gptqmodel" && format != "auto_round:auto_round")
      in.unknown("packing_format", format,
                 "auto_round:auto_gptq, auto_round, auto_round:gptqmodel, auto_round:auto_awq");
  }
  Rule rule{"quantization_config"};
  rule.bits = in.bits({"bits"});
  rule.groupColumns = in.group({"group_size"});
  const std::string type = in.text("data_type", "int");
  if (type != "int")
    in.unknown("data_type", type, "int");
  if (const json *bits = in.find("act_bits"); bits && (!bits->is_number_unsigned() || *bits < 16))
    in.refuse("act_bits", "16, for quantised activations of AutoRound are not read", *bits);
  out.rules.push_back(std::move(rule));
}

// The input of a compressed-tensors group.
Activation readCompressedInput(Members &in, uint64_t weightGroup) {
  const bool floating = in.text("type", "int") == "float";
  const bool dynamic = in.boolean("dynamic").value_or(false);
  if (in.bits({"num_bits"}).value_or(8) != 8)
    in.fail(absl::UnimplementedError(cat(in.where, ": activations of 4 bits are not read; 8 bits are")));
  if (!in.boolean("symmetric").value_or(true))
    in.fail(absl::UnimplementedError(cat(in.where, ": asymmetric activations are not read; symmetric ones are")));
  const std::string strategy = in.text("strategy", "tensor");
  if (floating && !dynamic && strategy == "tensor")
    return Activation::Fp8PerTensorStatic;
  if (floating && dynamic && strategy == "token")
    return Activation::Fp8PerToken;
  if (floating && dynamic && strategy == "group" && in.group({"group_size"}) == weightGroup)
    return Activation::Fp8PerTokenGroup;
  if (!floating && dynamic && strategy == "token")
    return Activation::Int8PerToken;
  in.unknown(floating ? "FP8 activation strategy" : "int8 activation strategy",
             cat(dynamic ? "dynamic " : "static ", strategy),
             "dynamic token, and for FP8 static tensor and dynamic group with the weight's group_size");
  return Activation::None;
}

void readCompressedTensors(Members &in, QuantizationConfig &out) {
  constexpr std::string_view kFormats = "pack-quantized, int-quantized, float-quantized, naive-quantized";
  const auto checkFormat = [&](Members &members) {
    const std::string format = members.text("format", "pack-quantized");
    if (format != "pack-quantized" && format != "int-quantized" && format != "float-quantized" &&
        format != "naive-quantized" && format != "mixed-precision" && format != "dense")
      members.unknown("format", format, kFormats);
  };
  checkFormat(in);
  const json *groups = in.find("config_groups");
  if (!groups || !groups->is_object() || groups->empty() || groups->size() > kMaxRules) {
    in.refuse("config_groups", "an object of at least one group", groups ? *groups : json());
    return;
  }
  for (const auto &[name, group] : groups->items()) {
    Members members(cat(in.where, ": config_groups.", printable(name)), group);
    checkFormat(members);
    Rule rule{cat("config_groups.", printable(name))};
    const json *weights = members.find("weights");
    if (!weights || !weights->is_object()) {
      members.refuse("weights", "an object", weights ? *weights : json());
    } else {
      Members weight(cat(members.where, ".weights"), *weights);
      rule.bits = weight.bits({"num_bits"});
      const std::string type = weight.text("type", "int");
      rule.integer = type == "int";
      if (type != "int" && (type != "float" || rule.bits.value_or(8) != 8))
        weight.unknown("type", cat(type, " of ", rule.bits.value_or(8), " bits"),
                       "int of 4 or 8 bits, float of 8 bits");
      const std::string strategy = weight.text("strategy", weight.find("group_size") ? "group" : "tensor");
      if (strategy == "group")
        rule.groupColumns = weight.group({"group_size"});
      else if (strategy == "tensor")
        rule.groupRows = 0;
      else if (strategy == "block") {
        if (!weight.block("block_structure", rule))
          weight.refuse("block_structure", "two extents", json());
      } else if (strategy != "channel")
        weight.unknown("strategy", strategy, "tensor, channel, group, block");
      members.fail(weight.error);
    }
    if (const json *input = members.find("input_activations")) {
      Members activation(cat(members.where, ".input_activations"), *input);
      rule.activation = readCompressedInput(activation, rule.groupColumns);
      members.fail(activation.error);
    }
    in.fail(members.error);
    out.rules.push_back(std::move(rule));
  }
}

// Fine-grained FP8 (block scales) and per-tensor FP8.
void readFp8(Members &in, QuantizationConfig &out) {
  Rule rule{"quantization_config"};
  rule.integer = false;
  const bool blocks = in.block("weight_block_size", rule);
  if (!blocks)
    rule.groupRows = 0;
  const std::string scheme = in.text("activation_scheme", "dynamic");
  if (scheme == "dynamic")
    rule.activation = blocks ? Activation::Fp8PerTokenGroup : Activation::Fp8PerToken;
  else if (scheme == "static" && !blocks)
    rule.activation = Activation::Fp8PerTensorStatic;
  else
    in.unknown(blocks ? "activation_scheme with weight_block_size" : "activation_scheme", scheme,
               blocks ? "dynamic" : "dynamic, static");
  const std::string format = in.text("fmt", "e4m3");
  if (format != "e4m3" && format != "float8_e4m3fn")
    in.unknown("fmt", format, "e4m3");
  out.rules.push_back(std::move(rule));
}

// Quark: the scheme for all layers; those of single layers have to be of the same kind, which their tensors show.
void readQuark(Members &in, QuantizationConfig &out) {
  Rule rule{"quantization_config"};
  const json *global = in.find("global_quant_config");
  if (!global || !global->is_object()) {
    in.refuse("global_quant_config", "an object", global ? *global : json());
    return;
  }
  Members members(cat(in.where, ": global_quant_config"), *global);
  const auto type = [&](Members &of) {
    const std::string dtype = of.text("dtype", "");
    if (dtype != "int8" && dtype != "fp8_e4m3")
      of.unknown("dtype", dtype, "int8, fp8_e4m3");
    return dtype;
  };
  const json *weight = members.find("weight");
  if (!weight || !weight->is_object()) {
    members.refuse("weight", "an object", weight ? *weight : json());
  } else {
    Members of(cat(members.where, ".weight"), *weight);
    rule.integer = type(of) == "int8";
    const std::string scheme = of.text("qscheme", "per_channel");
    if (scheme == "per_tensor")
      rule.groupRows = 0;
    else if (scheme != "per_channel")
      of.unknown("qscheme", scheme, "per_channel, per_tensor");
    members.fail(of.error);
  }
  if (const json *input = members.find("input_tensors")) {
    Members of(cat(members.where, ".input_tensors"), *input);
    const bool integer = type(of) == "int8", dynamic = of.boolean("is_dynamic").value_or(false);
    if (!dynamic && !integer)
      rule.activation = Activation::Fp8PerTensorStatic;
    else if (dynamic)
      rule.activation = integer ? Activation::Int8PerToken : Activation::Fp8PerToken;
    else
      of.unknown("int8 activation", "static", "dynamic");
    members.fail(of.error);
  }
  in.fail(members.error);
  out.rules.push_back(std::move(rule));
}

} // namespace

absl::StatusOr<std::optional<QuantizationConfig>> readQuantizationConfig(const std::string &where, const json &config) {
  const Members root(where, config);
  const char *key = root.find("compression_config") ? "compression_config" : "quantization_config";
  const json *object = root.find(key);
  if (const json *text = root.find("text_config"); !object && text)
    object = Members(where, *text).find(key);
  if (!object)
    return std::nullopt;
  Members in(cat(where, ": ", key), *object);
  if (!object->is_object()) {
    in.where = where;
    in.refuse(key, "an object", *object);
    return in.error;
  }
  QuantizationConfig result;
  result.method = in.text("quant_method", "");
  if (result.method == "awq")
    readAwq(in, result);
  else if (result.method == "gptq")
    readGptq(in, result);
  else if (result.method == "auto-round" || result.method == "intel/auto-round")
    readAutoRound(in, result);
  else if (result.method == "compressed-tensors")
    readCompressedTensors(in, result);
  else if (result.method == "fp8")
    readFp8(in, result);
  else if (result.method == "quark")
    readQuark(in, result);
  else
    in.unknown("quant_method", result.method, "awq, gptq, auto-round, compressed-tensors, fp8, quark");
  if (!in.error.ok())
    return in.error;
  return result;
}

} // namespace ingot
