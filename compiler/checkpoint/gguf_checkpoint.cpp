// A GGUF file of architecture `llama` seen as a Hugging Face checkpoint: names translated, config.json's keys made from
// the metadata, and the query and key rows, which the converter permutes from rotate-half order to adjacent pairs, put
// back. HF row h*(D/2)+i of a head is GGUF row 2i+h.
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <unordered_map>

#include <xxhash.h>

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kGlobalNames = {{
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kLayerNames = {{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

// A GGUF name in Hugging Face's words; a name outside the table stays as it is, so that the compiler refuses it by the
// name that the user can find in the file.
std::string huggingFaceName(std::string_view name) {
  std::string_view suffix;
  for (std::string_view candidate : {".weight", ".bias"})
    if (name.ends_with(candidate))
      suffix = candidate;
  const std::string_view stem = name.substr(0, name.size() - suffix.size());
  if (suffix.empty())
    return std::string(name);
  for (const auto &[from, to] : kGlobalNames)
    if (stem == from)
      return cat(to, suffix);
  if (stem.starts_with("blk.")) {
    const std::string_view rest = stem.substr(4);
    const size_t dot = rest.find('.');
    if (dot == 0 || dot == std::string_view::npos || dot > 4 ||
        rest.substr(0, dot).find_first_not_of("0123456789") != std::string_view::npos)
      return std::string(name);
    for (const auto &[from, to] : kLayerNames)
      if (rest.substr(dot + 1) == from)
        return cat("model.layers.", rest.substr(0, dot), ".", to, suffix);
  }
  return std::string(name);
}

class GgufCheckpoint final : public Checkpoint {
public:
  explicit GgufCheckpoint(GgufFile file) : file(std::move(file)) {}

  absl::Status load() {
    if (absl::Status status = makeConfig(); !status.ok())
      return status;
    if (absl::Status status = makeTensors(); !status.ok())
      return status;
    absl::StatusOr<TokenizerData> read = readGgufTokenizer(file);
    if (!read.ok())
      return read.status();
    tokenizerData = std::move(*read);
    if (tokenizerData.bos() >= 0)
      facts["bos_token_id"] = tokenizerData.bos();
    if (tokenizerData.end_of_sequence_size() == 1)
      facts["eos_token_id"] = tokenizerData.end_of_sequence(0);
    else if (tokenizerData.end_of_sequence_size() > 1)
      facts["eos_token_id"] =
          std::vector<uint32_t>(tokenizerData.end_of_sequence().begin(), tokenizerData.end_of_sequence().end());
    headerDigest = XXH3_64bits(file.header().data(), file.header().size());
    return absl::OkStatus();
  }

  const std::vector<TensorInfo> &tensors() const override { return infos; }
  const nlohmann::json &config() const override { return facts; }
  const TokenizerData &tokenizer() const override { return tokenizerData; }
  uint64_t digest() const override { return headerDigest; }
  std::string sourceName() const override { return std::filesystem::path(file.path()).filename().string(); }

  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    const auto found = places.find(tensor.name);
    if (found == places.end())
      return absl::NotFoundError(cat(file.path(), ": no tensor '", tensor.name, "'"));
    const GgufTensor &record = file.tensors()[found->second.record];
    const uint64_t heads = found->second.permutedHeads;
    const TensorInfo &info = infos[found->second.record];
    const uint64_t rows = info.rows(), columns = info.columns();
    if (first > rows || count > rows - first || out.size() != count * columns)
      return absl::OutOfRangeError(cat(file.path(), ": rows ", first, " + ", count, " of '", tensor.name, "' into ",
                                       out.size(), " floats: the tensor has ", rows, " rows of ", columns));
    const uint8_t *data = file.tensorBytes(record).data();
    const uint64_t blocks = columns / record.storage->blockElements, rowBytes = blocks * record.storage->blockBytes;
    if (heads == 0 || rows == 1) {
      record.storage->decode(data + first * rowBytes, count * blocks, out.data());
      if (heads != 0 && count == 1)
        unpermuteElements(out, heads);
      return absl::OkStatus();
    }
    const uint64_t headRows = rows / heads;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t row = first + i, source = row - row % headRows + pairedIndex(row % headRows, headRows);
      record.storage->decode(data + source * rowBytes, blocks, out.data() + i * columns);
    }
    return absl::OkStatus();
  }

  void expect(const TensorInfo &tensor) const override {
    if (const auto found = places.find(tensor.name); found != places.end())
      file.expect(file.tensors()[found->second.record]);
  }

  void release(const TensorInfo &tensor) const override {
    if (const auto found = places.find(tensor.name); found != places.end())
      file.release(file.tensors()[found->second.record]);
  }

private:
  struct Place {
    size_t record;
    uint64_t permutedHeads; // 0: rows are in order
  };

  // Where the converter put rotate-half index `index` of a head of `size` rows.
  static uint64_t pairedIndex(uint64_t index, uint64_t size) { return 2 * (index % (size / 2)) + index / (size / 2); }

  static void unpermuteElements(std::span<float> values, uint64_t heads) {
    const uint64_t size = values.size() / heads;
    std::vector<float> head(size);
    for (uint64_t h = 0; h < heads; ++h) {
      const std::span<float> part = values.subspan(h * size, size);
      std::copy(part.begin(), part.end(), head.begin());
      for (uint64_t i = 0; i < size; ++i)
        part[i] = head[pairedIndex(i, size)];
    }
  }

  // A metadata number that the architecture cannot do without, from 1 to 2^31.
  absl::StatusOr<int64_t> required(std::string_view key) const {
    absl::StatusOr<std::optional<int64_t>> value = uniform(key);
    if (!value.ok())
      return value.status();
    if (!value->has_value())
      return absl::InvalidArgumentError(cat(file.path(), ": metadata '", key, "' is missing"));
    return **value;
  }

  // An integer, or an array of equal integers: some converters write one number a layer.
  absl::StatusOr<std::optional<int64_t>> uniform(std::string_view key) const {
    absl::StatusOr<std::optional<std::vector<int64_t>>> values = file.integers(key);
    if (!values.ok())
      return values.status();
    if (!values->has_value())
      return std::nullopt;
    const std::vector<int64_t> &numbers = **values;
    if (numbers.empty() || std::any_of(numbers.begin(), numbers.end(), [&](int64_t n) { return n != numbers[0]; }))
      return absl::UnimplementedError(
          cat(file.path(), ": metadata '", key, "' differs from layer to layer, which is not supported"));
    if (numbers[0] < 0 || numbers[0] > INT32_MAX)
      return absl::InvalidArgumentError(
          cat(file.path(), ": metadata '", key, "' is ", numbers[0], ", expected 0 to 2^31-1"));
    return numbers[0];
  }

  absl::Status makeConfig() {
    absl::StatusOr<std::optional<std::string>> architecture = file.text("general.architecture");
    if (!architecture.ok())
      return architecture.status();
    if (!architecture->has_value())
      return absl::InvalidArgumentError(cat(file.path(), ": metadata 'general.architecture' is missing"));
    if (**architecture != "llama")
      return absl::InvalidArgumentError(cat(file.path(), ": unknown architecture '", printable(**architecture),
                                            "'; GGUF files of architecture 'llama' are read"));
    if (absl::StatusOr<std::optional<int64_t>> parts = file.integer("split.count"); !parts.ok())
      return parts.status();
    else if (parts->value_or(1) > 1)
      return absl::UnimplementedError(
          cat(file.path(), ": one of ", **parts, " parts; join them with gguf-split --merge first"));

    struct Key {
      const char *to;
      const char *from;
    };
    for (const Key &key : {Key{"hidden_size", "llama.embedding_length"}, Key{"num_hidden_layers", "llama.block_count"},
                           Key{"num_attention_heads", "llama.attention.head_count"},
                           Key{"intermediate_size", "llama.feed_forward_length"},
                           Key{"max_position_embeddings", "llama.context_length"}}) {
      absl::StatusOr<int64_t> value = required(key.from);
      if (!value.ok())
        return value.status();
      if (*value == 0)
        return absl::InvalidArgumentError(cat(file.path(), ": metadata '", key.from, "' is 0"));
      facts[key.to] = *value;
    }
    const int64_t hidden = facts["hidden_size"], heads = facts["num_attention_heads"];

    int64_t kvHeads = heads, headSize = 0, rotary = 0, valueSize = 0, window = 0, experts = 0;
    struct Optional {
      const char *key;
      int64_t *out;
    };
    for (const Optional &optional :
         {Optional{"llama.attention.head_count_kv", &kvHeads}, Optional{"llama.attention.key_length", &headSize},
          Optional{"llama.attention.value_length", &valueSize}, Optional{"llama.rope.dimension_count", &rotary},
          Optional{"llama.attention.sliding_window", &window}, Optional{"llama.expert_count", &experts}}) {
      absl::StatusOr<std::optional<int64_t>> value = uniform(optional.key);
      if (!value.ok())
        return value.status();
      if (value->has_value())
        *optional.out = **value;
    }
    if (experts > 0)
      return absl::UnimplementedError(cat(file.path(), ": a mixture of ", experts, " experts, which is not supported"));
    if (headSize == 0 && hidden % heads == 0)
      headSize = hidden / heads;
    if (headSize <= 0 || headSize % 2 != 0 || kvHeads <= 0 || heads % kvHeads != 0)
      return absl::InvalidArgumentError(cat(file.path(), ": ", heads, " heads and ", kvHeads, " kv heads of ", headSize,
                                            " over a hidden size of ", hidden, " cannot be"));
    if ((rotary != 0 && rotary != headSize) || (valueSize != 0 && valueSize != headSize))
      return absl::UnimplementedError(cat(file.path(), ": head size ", headSize, " with ", rotary,
                                          " rotary dimensions and value size ", valueSize,
                                          "; only one size for all is supported"));
    facts["num_key_value_heads"] = kvHeads;
    facts["head_dim"] = headSize;
    facts["model_type"] = window > 0 ? "mistral" : "llama";
    facts["architectures"] = {window > 0 ? "MistralForCausalLM" : "LlamaForCausalLM"};
    facts["hidden_act"] = "silu";
    facts["sliding_window"] = window > 0 ? nlohmann::json(window) : nlohmann::json(nullptr);

    absl::StatusOr<std::optional<double>> eps = file.real("llama.attention.layer_norm_rms_epsilon");
    if (!eps.ok())
      return eps.status();
    if (!eps->has_value() || !(**eps >= 0) || **eps > 1)
      return absl::InvalidArgumentError(
          cat(file.path(), ": metadata 'llama.attention.layer_norm_rms_epsilon' is missing or outside 0 to 1"));
    facts["rms_norm_eps"] = **eps;
    absl::StatusOr<std::optional<double>> theta = file.real("llama.rope.freq_base");
    if (!theta.ok())
      return theta.status();
    const double base = theta->value_or(10000.0);
    if (!(base > 1) || base > 1e30)
      return absl::InvalidArgumentError(
          cat(file.path(), ": metadata 'llama.rope.freq_base' is ", base, ", expected more than 1"));
    facts["rope_theta"] = base;
    return makeRopeScaling();
  }

  absl::Status makeRopeScaling() {
    absl::StatusOr<std::optional<std::string>> type = file.text("llama.rope.scaling.type");
    if (!type.ok())
      return type.status();
    nlohmann::json scaling = {{"rope_type", type->value_or("none")}};
    struct Key {
      const char *to;
      const char *from;
    };
    for (const Key &key :
         {Key{"factor", "llama.rope.scaling.factor"}, Key{"beta_fast", "llama.rope.scaling.yarn_beta_fast"},
          Key{"beta_slow", "llama.rope.scaling.yarn_beta_slow"},
          Key{"attention_factor", "llama.rope.scaling.attn_factor"},
          Key{"mscale_all_dim", "llama.rope.scaling.yarn_log_multiplier"}}) {
      absl::StatusOr<std::optional<double>> value = file.real(key.from);
      if (!value.ok())
        return value.status();
      if (value->has_value())
        scaling[key.to] = **value;
    }
    absl::StatusOr<std::optional<int64_t>> original = uniform("llama.rope.scaling.original_context_length");
    if (!original.ok())
      return original.status();
    if (original->has_value())
      scaling["original_max_position_embeddings"] = **original;
    // An old key for the same thing as linear scaling.
    absl::StatusOr<std::optional<double>> linear = file.real("llama.rope.scale_linear");
    if (!linear.ok())
      return linear.status();
    if (linear->has_value() && **linear != 1.0 && scaling["rope_type"] == "none") {
      scaling["rope_type"] = "linear";
      scaling["factor"] = **linear;
    }
    if (scaling["rope_type"] != "none")
      facts["rope_scaling"] = std::move(scaling);
    return absl::OkStatus();
  }

  absl::Status makeTensors() {
    const uint64_t headSize = facts["head_dim"];
    for (size_t i = 0; i < file.tensors().size(); ++i) {
      const GgufTensor &record = file.tensors()[i];
      TensorInfo info{huggingFaceName(record.name), record.shape, std::string(record.storage->name)};
      // ggml has no scalars or trailing ones of its own, but writes a bias as [n] and a matrix as [rows, columns].
      uint64_t heads = 0;
      for (const auto &[part, count] :
           {std::pair<std::string_view, const char *>{".self_attn.q_proj.", "num_attention_heads"},
            {".self_attn.k_proj.", "num_key_value_heads"}})
        if (info.name.find(part) != std::string::npos)
          heads = facts[count].get<uint64_t>();
      if (heads != 0 && (info.shape.size() > 2 || info.shape.front() != heads * headSize))
        return absl::InvalidArgumentError(cat(file.path(), ": tensor '", record.name, "' has ", info.shape.front(),
                                              " rows, expected ", heads, " heads of ", headSize));
      if (!places.emplace(info.name, Place{i, heads}).second)
        return absl::InvalidArgumentError(cat(file.path(), ": tensor '", printable(record.name), "' stands for '",
                                              info.name, "', which another tensor is already"));
      infos.push_back(std::move(info));
    }
    const TensorInfo *embedding = find("model.embed_tokens.weight");
    if (!embedding)
      return absl::InvalidArgumentError(cat(file.path(), ": tensor 'token_embd.weight' is missing"));
    facts["vocab_size"] = embedding->shape.front();
    facts["tie_word_embeddings"] = find("lm_head.weight") == nullptr;
    facts["attention_bias"] = find("model.layers.0.self_attn.q_proj.bias") != nullptr;
    facts["mlp_bias"] = find("model.layers.0.mlp.gate_proj.bias") != nullptr;
    return absl::OkStatus();
  }

  GgufFile file;
  std::vector<TensorInfo> infos; // parallel to the file's records
  std::unordered_map<std::string, Place> places;
  nlohmann::json facts = nlohmann::json::object();
  TokenizerData tokenizerData;
  uint64_t headerDigest = 0;
};

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> openGgufCheckpoint(const std::string &path) {
  absl::StatusOr<GgufFile> file = GgufFile::open(path);
  if (!file.ok())
    return file.status();
  auto checkpoint = std::make_unique<GgufCheckpoint>(std::move(*file));
  if (absl::Status status = checkpoint->load(); !status.ok())
    return status;
  return checkpoint;
}

} // namespace ingot
