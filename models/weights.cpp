// Buffers called rotary_emb.inv_freq are copies of what the configuration says (old exports kept them): the only
// tensors that are passed over without a declaration asking for it.
#include "models/weights.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ingot {

namespace {

std::string shown(const std::vector<uint64_t> &shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

} // namespace

mlir::FlatSymbolRefAttr WeightDeclarer::declare(const std::string &name, const std::vector<int64_t> &shape,
                                                const std::string &source) {
  std::vector<uint64_t> expected(shape.begin(), shape.end());
  const TensorInfo *tensor = checkpoint_.demand(source, expected);
  if (!tensor && status_.ok())
    status_ = absl::NotFoundError(absl::StrCat(checkpoint_.sourceName(), ": tensor \"", source,
                                               "\" is missing: the configuration asks for one of shape ",
                                               shown(expected), "; is the checkpoint complete?"));
  if (tensor && tensor->shape != expected && status_.ok())
    status_ = absl::InvalidArgumentError(absl::StrCat(checkpoint_.sourceName(), ": tensor \"", source, "\" has shape ",
                                                      shown(tensor->shape), ", expected ", shown(expected),
                                                      " by the configuration"));
  used_.insert(source);
  auto type = mlir::RankedTensorType::get(shape, builder_.getF32Type());
  auto loc = mlir::NameLoc::get(builder_.getStringAttr(name));
  llm::WeightOp::create(builder_, loc, builder_.getStringAttr(name), builder_.getStringAttr(source),
                        mlir::TypeAttr::get(type), /*value=*/{}, /*scheme=*/{}, /*stored=*/{}, /*permuted=*/{},
                        /*sym_visibility=*/{});
  return mlir::FlatSymbolRefAttr::get(builder_.getContext(), name);
}

mlir::FlatSymbolRefAttr WeightDeclarer::constant(const std::string &name, const std::vector<float> &values) {
  auto type = mlir::RankedTensorType::get({static_cast<int64_t>(values.size())}, builder_.getF32Type());
  auto loc = mlir::NameLoc::get(builder_.getStringAttr(name));
  llm::WeightOp::create(builder_, loc, builder_.getStringAttr(name), /*source=*/{}, mlir::TypeAttr::get(type),
                        mlir::DenseElementsAttr::get(type, llvm::ArrayRef<float>(values)),
                        /*scheme=*/{}, /*stored=*/{}, /*permuted=*/{}, /*sym_visibility=*/{});
  return mlir::FlatSymbolRefAttr::get(builder_.getContext(), name);
}

void WeightDeclarer::skip(const std::string &name) {
  if (checkpoint_.find(name) && used_.insert(name).second)
    skipped_.push_back(name);
}

void WeightDeclarer::skipAll(const std::string &prefix) {
  for (const TensorInfo &tensor : checkpoint_.tensors())
    if (absl::StartsWith(tensor.name, prefix))
      skip(tensor.name);
}

absl::Status WeightDeclarer::finish() const {
  if (!status_.ok())
    return status_;
  std::vector<std::string> unused;
  for (const TensorInfo &tensor : checkpoint_.tensors())
    if (!used_.contains(tensor.name))
      unused.push_back(tensor.name);
  if (unused.empty())
    return absl::OkStatus();
  constexpr size_t listed = 5;
  std::string more = unused.size() > listed ? absl::StrCat(" and ", unused.size() - listed, " more") : "";
  unused.resize(std::min(unused.size(), listed));
  return absl::InvalidArgumentError(
      absl::StrCat(checkpoint_.sourceName(), ": unknown tensor \"", absl::StrJoin(unused, "\", \""), "\"", more,
                   ": no op of this model reads it; is config.json the one that belongs to this checkpoint?"));
}

} // namespace ingot
