// Models are compiled for text alone: what stands for an image, a video or a sound in a prompt is refused, and not read
// as if it were text.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace ingot {

class Tokenizer;

/// InvalidArgument where a message's content is a list with a part of another type than "text": names the message (from
/// 0) and the type. `messages` as for `ChatTemplate::render`; what is no list of messages is left to that.
absl::Status checkTextOnly(const nlohmann::ordered_json &messages);

/// InvalidArgument where one of `ids` is a control token that stands for an image, a video or a sound in the
/// vocabularies of the declared families: names the token and its index.
absl::Status checkTextOnly(const Tokenizer &tokenizer, std::span<const int32_t> ids);

} // namespace ingot
