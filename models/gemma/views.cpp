#include "models/gemma/views.h"

#include <cmath>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/gemma/shape.h"
#include "models/text_names.h"

namespace ingot {

namespace {

using Function = TensorView::Function;

class Views {
public:
  Views(const Checkpoint &checkpoint, const GemmaShape &shape) : shape_(shape) {
    for (const TensorInfo &tensor : checkpoint.tensors())
      published_.emplace(textName(tensor.name), &tensor);
  }

  std::vector<TensorView> all() && {
    for (size_t i = 0; i < shape_.layers.size(); ++i) {
      const std::string prefix = absl::StrCat("model.layers.", i, ".");
      if (shape_.experts)
        experts(prefix + "experts.");
      scaled(prefix + "router.scale", prefix + "router.norm.weight",
             1 / std::sqrt(static_cast<double>(shape_.decoder.hidden)));
    }
    scaled("model.per_layer_projection_norm.weight", "model.per_layer_projection_norm.weight", std::sqrt(0.5));
    for (const auto &[name, tensor] : published_)
      if (!shape_.fourth && absl::EndsWith(name, "norm.weight") && absl::StartsWith(name, "model.") &&
          !tensor->converted && tensor->shape.size() == 1)
        views_.push_back({name, tensor->shape, {{tensor->name, 0, tensor->rows()}}, Function::OnePlus});
      else if (name != tensor->name)
        views_.push_back({name, tensor->shape, {{tensor->name, 0, tensor->rows()}}, Function::Same});
    return std::move(views_);
  }

private:
  void scaled(const std::string &from, const std::string &to, double factor) {
    if (const TensorInfo *tensor = take(from))
      views_.push_back(
          {to, tensor->shape, {{tensor->name, 0, tensor->rows()}}, Function::Same, static_cast<float>(factor)});
  }

  // Of an expert's rows the gate's come first.
  void experts(const std::string &prefix) {
    const auto number = static_cast<uint64_t>(shape_.experts), width = static_cast<uint64_t>(shape_.expertWidth);
    if (const TensorInfo *fused = take(prefix + "gate_up_proj"))
      for (uint64_t half : {0, 1}) {
        TensorView view{absl::StrCat(prefix, half ? "up_proj" : "gate_proj", ".weight"),
                        {number, width, fused->columns()},
                        {},
                        Function::Same};
        for (uint64_t e = 0; e < number; ++e)
          view.pieces.push_back({fused->name, (2 * e + half) * width, width});
        views_.push_back(std::move(view));
      }
    if (const TensorInfo *down = take(prefix + "down_proj"))
      views_.push_back({prefix + "down_proj.weight", down->shape, {{down->name, 0, down->rows()}}, Function::Same});
  }

  // The tensor, of which no view but the caller's is made.
  const TensorInfo *take(const std::string &name) {
    const auto found = published_.find(name);
    if (found == published_.end())
      return nullptr;
    const TensorInfo *tensor = found->second;
    published_.erase(found);
    return tensor;
  }

  const GemmaShape &shape_;
  std::map<std::string, const TensorInfo *> published_; // without prefixes
  std::vector<TensorView> views_;
};

} // namespace

absl::StatusOr<std::vector<TensorView>> viewGemma(const Checkpoint &checkpoint, const nlohmann::json &configuration) {
  ConfigReader type(configuration, absl::StrCat("configuration of ", checkpoint.sourceName()));
  const GemmaFamily *family = findGemmaFamily(type.textOr("model_type", ""));
  const nlohmann::json whole = completeGemma(configuration, *family);
  ConfigReader config(whole, type.where());
  const GemmaShape shape = readGemmaShape(config, checkpoint, *family);
  if (!config.status().ok())
    return config.status();
  return Views(checkpoint, shape).all();
}

} // namespace ingot
