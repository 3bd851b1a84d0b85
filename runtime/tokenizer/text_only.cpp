#include "runtime/tokenizer/text_only.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

#include "runtime/tokenizer/tokenizer.h"

namespace ingot {

namespace {

// Control tokens that a processor replaces by, or puts around, what is no text: Qwen, Gemma, Mistral.
constexpr std::array<std::string_view, 17> kPlaceholders{
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",    "<|video_pad|>",      "<|audio_start|>",
    "<|audio_end|>",    "<|audio_pad|>",  "<start_of_image>", "<end_of_image>",     "<image_soft_token>",
    "<|image|>",        "<|video|>",      "<|audio|>",        "<audio_soft_token>", "[IMG]",
    "[IMG_BREAK]",      "[IMG_END]"};

} // namespace

absl::Status checkTextOnly(const Tokenizer &tokenizer, std::span<const int32_t> ids) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (tokenizer.isControl(ids[i]) &&
        std::ranges::find(kPlaceholders, tokenizer.pieceText(ids[i])) != kPlaceholders.end())
      return absl::InvalidArgumentError(
          absl::StrCat("token ", i, " of the prompt is ", std::string(tokenizer.pieceText(ids[i])),
                       ", which stands for what is no text: this model was compiled for text alone; "
                       "leave images, videos and sounds out"));
  return absl::OkStatus();
}

} // namespace ingot
