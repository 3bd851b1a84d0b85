#include "models/qwen/views.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "models/text_names.h"

namespace ingot {

namespace {

using Function = TensorView::Function;
using Piece = TensorView::Piece;

class Views {
public:
  Views(const Checkpoint &checkpoint, const QwenShape &shape, const QwenFamily &family)
      : shape_(shape), family_(family) {
    for (const TensorInfo &tensor : checkpoint.tensors())
      published_.emplace(textName(tensor.name), &tensor);
  }

  std::vector<TensorView> all() && {
    norm("model.norm.weight");
    for (size_t i = 0; i < shape_.layers.size(); ++i)
      layer(absl::StrCat("model.layers.", i, "."), shape_.layers[i]);
    if (shape_.drafter) {
      for (const char *name : {"mtp.pre_fc_norm_embedding.weight", "mtp.pre_fc_norm_hidden.weight", "mtp.norm.weight"})
        norm(name);
      layer("mtp.layers.0.", *shape_.drafter);
    }
    // What is left only loses its prefix.
    for (const auto &[name, tensor] : published_)
      if (name != tensor->name)
        views_.push_back({name, tensor->shape, {{tensor->name, 0, tensor->rows()}}, Function::Same});
    return std::move(views_);
  }

private:
  void layer(const std::string &prefix, const QwenLayer &layer) {
    norm(prefix + "input_layernorm.weight");
    norm(prefix + "post_attention_layernorm.weight");
    if (layer.delta)
      delta(prefix + "linear_attn.");
    else
      attention(prefix + "self_attn.");
    if (layer.sparse)
      experts(prefix + "mlp.");
  }

  void attention(const std::string &prefix) {
    norm(prefix + "q_norm.weight");
    norm(prefix + "k_norm.weight");
    if (shape_.gated)
      interleaved(
          prefix + "q_proj.weight", shape_.decoder.heads,
          {{prefix + "q_proj.weight", shape_.decoder.headDim}, {prefix + "gate_proj.weight", shape_.decoder.headDim}});
  }

  void delta(const std::string &prefix) {
    const int64_t shared = shape_.valueHeads / shape_.keyHeads;
    const int64_t values = shared * shape_.valueDim;
    // The convolution's channels are those of q, k and v, each head after head.
    if (const TensorInfo *packed = take(prefix + "in_proj_qkvz.weight")) {
      const int64_t period = 2 * shape_.keyDim + 2 * values;
      TensorView qkv = rowsView(prefix + "in_proj_qkv.weight", *packed);
      blocks(qkv, *packed, 0, shape_.keyDim, period);
      blocks(qkv, *packed, shape_.keyDim, shape_.keyDim, period);
      blocks(qkv, *packed, 2 * shape_.keyDim, values, period);
      TensorView z = rowsView(prefix + "in_proj_z.weight", *packed);
      blocks(z, *packed, 2 * shape_.keyDim + values, values, period);
      add(std::move(qkv));
      add(std::move(z));
    }
    interleaved(prefix + "in_proj_ba.weight", shape_.keyHeads,
                {{prefix + "in_proj_b.weight", shared}, {prefix + "in_proj_a.weight", shared}});
    if (const TensorInfo *decay = take(prefix + "A_log"))
      views_.push_back({prefix + "decay",
                        decay->shape,
                        {{decay->name, 0, decay->rows()}},
                        decay->converted ? Function::Same : Function::NegativeExp});
    // [channels, 1, taps] where a convolution's weight is stored as one.
    if (const TensorInfo *conv = take(prefix + "conv1d.weight"))
      views_.push_back(
          {prefix + "conv1d.weight", {conv->rows(), conv->columns()}, {{conv->name, 0, conv->rows()}}, Function::Same});
  }

  void experts(const std::string &prefix) {
    const auto number = static_cast<uint64_t>(shape_.experts), width = static_cast<uint64_t>(shape_.expertWidth);
    const std::string all = prefix + "experts.";
    if (const TensorInfo *fused = take(all + "gate_up_proj"))
      for (uint64_t half : {0, 1}) {
        TensorView view{absl::StrCat(all, half ? "up_proj" : "gate_proj", ".weight"),
                        {number, width, fused->columns()},
                        {},
                        Function::Same};
        for (uint64_t e = 0; e < number; ++e)
          view.pieces.push_back({fused->name, (2 * e + half) * width, width});
        views_.push_back(std::move(view));
      }
    if (const TensorInfo *down = take(all + "down_proj"))
      views_.push_back({all + "down_proj.weight", down->shape, {{down->name, 0, down->rows()}}, Function::Same});
    for (const char *part : {"gate_proj", "up_proj", "down_proj"})
      apart(all, part);
    // A GGUF stores the one row as a vector.
    if (const TensorInfo *gate = take(prefix + "shared_expert_gate.weight"))
      views_.push_back(
          {prefix + "shared_expert_gate.weight", {1, gate->columns()}, {{gate->name, 0, 1}}, Function::Same});
  }

  // Experts that are tensors of their own become one. An expert that is missing is found missing when the view is made.
  void apart(const std::string &prefix, const char *part) {
    const TensorInfo *first = find(absl::StrCat(prefix, "0.", part, ".weight"));
    if (!first)
      return;
    TensorView view{absl::StrCat(prefix, part, ".weight"),
                    {static_cast<uint64_t>(shape_.experts), first->rows(), first->columns()},
                    {},
                    Function::Same};
    const uint64_t rows = first->rows();
    for (int64_t e = 0; e < shape_.experts; ++e) {
      const std::string name = absl::StrCat(prefix, e, ".", part, ".weight");
      const TensorInfo *expert = take(name);
      view.pieces.push_back({expert ? expert->name : name, 0, rows});
    }
    views_.push_back(std::move(view));
  }

  struct Part {
    std::string name;
    int64_t rows; // of each head
  };
  // A tensor in which each of `heads` has its rows of all parts together, as a tensor a part.
  void interleaved(const std::string &name, int64_t heads, const std::vector<Part> &parts) {
    const TensorInfo *packed = take(name);
    if (!packed)
      return;
    int64_t period = 0;
    for (const Part &part : parts)
      period += part.rows;
    int64_t offset = 0;
    for (const Part &part : parts) {
      TensorView view = rowsView(part.name, *packed);
      blocks(view, *packed, offset, part.rows, period, heads);
      offset += part.rows;
      add(std::move(view));
    }
  }

  static TensorView rowsView(const std::string &name, const TensorInfo &source) {
    return {name, {0, source.columns()}, {}, Function::Same};
  }
  // Appends rows [offset + h * period, ... + rows) for each head h.
  void blocks(TensorView &view, const TensorInfo &source, int64_t offset, int64_t rows, int64_t period,
              int64_t heads = 0) const {
    for (int64_t h = 0; h < (heads ? heads : shape_.keyHeads); ++h)
      view.pieces.push_back({source.name, static_cast<uint64_t>(offset + h * period), static_cast<uint64_t>(rows)});
  }
  void add(TensorView view) {
    for (const Piece &piece : view.pieces)
      view.shape.front() += piece.rows;
    views_.push_back(std::move(view));
  }

  void norm(const std::string &name) {
    const TensorInfo *tensor = find(name);
    if (!tensor || tensor->converted || !family_.hybrid)
      return;
    take(name);
    views_.push_back({name, tensor->shape, {{tensor->name, 0, tensor->rows()}}, Function::OnePlus});
  }

  const TensorInfo *find(const std::string &name) const {
    const auto found = published_.find(name);
    return found == published_.end() ? nullptr : found->second;
  }
  // The same, and no view but the caller's is made of it.
  const TensorInfo *take(const std::string &name) {
    const auto found = published_.find(name);
    if (found == published_.end())
      return nullptr;
    const TensorInfo *tensor = found->second;
    published_.erase(found);
    return tensor;
  }

  const QwenShape &shape_;
  const QwenFamily &family_;
  std::map<std::string, const TensorInfo *> published_; // without prefixes
  std::vector<TensorView> views_;
};

} // namespace

absl::StatusOr<std::vector<TensorView>> viewQwen(const Checkpoint &checkpoint, const nlohmann::json &configuration) {
  ConfigReader config(configuration, absl::StrCat("configuration of ", checkpoint.sourceName()));
  const QwenFamily *family = findQwenFamily(config.textOr("model_type", ""));
  const QwenShape shape = readQwenShape(config, checkpoint, *family);
  if (!config.status().ok())
    return config.status();
  return Views(checkpoint, shape, *family).all();
}

} // namespace ingot
