// The sentencepiece library behind standard types only: its header declares an `absl::string_view` of its own, which
// cannot meet abseil's in one translation unit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ingot {

class SentencePieceLibrary {
public:
  virtual ~SentencePieceLibrary() = default;
  // Null if the library refuses the model; `error` then says why.
  static std::shared_ptr<const SentencePieceLibrary> load(const std::string &serializedModel, std::string &error);
  virtual void encode(std::string_view text, std::vector<int32_t> &ids) const = 0;
};

} // namespace ingot
