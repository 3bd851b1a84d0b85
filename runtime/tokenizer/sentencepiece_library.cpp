// See the header: this file must not include abseil.
#include "runtime/tokenizer/sentencepiece_library.h"

#include <sentencepiece_processor.h>

namespace ingot {
namespace {

class Library final : public SentencePieceLibrary {
public:
  void encode(std::string_view text, std::vector<int32_t> &ids) const override {
    std::vector<int> found;
    // It fails only without a loaded model, and load() gives none such out.
    if (processor.Encode(text, &found).ok())
      ids.insert(ids.end(), found.begin(), found.end());
  }
  sentencepiece::SentencePieceProcessor processor;
};

} // namespace

std::shared_ptr<const SentencePieceLibrary> SentencePieceLibrary::load(const std::string &serializedModel,
                                                                       std::string &error) {
  auto library = std::make_shared<Library>();
  sentencepiece::util::Status status = library->processor.LoadFromSerializedProto(serializedModel);
  if (status.ok())
    return library;
  error = status.ToString();
  return nullptr;
}

} // namespace ingot
