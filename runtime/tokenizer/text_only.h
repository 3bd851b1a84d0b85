// Models are compiled for text alone: what stands for an image, a video or a sound in a prompt is refused, and not read
// as if it were text.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace ingot {

class Tokenizer;

/// InvalidArgument where one of `ids` is a control token that stands for an image, a video or a sound in the
/// vocabularies of the declared families: names the token and its index.
absl::Status checkTextOnly(const Tokenizer &tokenizer, std::span<const int32_t> ids);

} // namespace ingot
