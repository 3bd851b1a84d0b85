// Names of the tensors that a model of text and images shares with the model of text alone.
#pragma once

#include <string>

namespace ingot {

/// `name` as the model of text alone has it: without `language_model.` before or after `model.`. Sources: transformers'
/// conversion tables of mistral3, gemma3 and qwen3_5; the first form is that of its releases before 4.52.
std::string textName(const std::string &name);

} // namespace ingot
