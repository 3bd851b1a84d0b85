// The sampling algorithm that `llm.sample` documents (dialects/Llm.td), in the order it states.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/artifact/step.h"

namespace ingot::reference {

/// The index of the largest logit, the lowest of equal ones. `logits` is not empty.
int32_t argmax(std::span<const float> logits);

/// A token chosen by `step`'s temperature, top-k, top-p and seed. `logits` is not empty.
int32_t sample(std::span<const float> logits, const Step &step);

} // namespace ingot::reference
