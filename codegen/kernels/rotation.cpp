#include "codegen/kernels/rotation.h"

#include <numbers>

namespace ingot {

// An angle in radians as turns in [-0.5, 0.5]. 2 pi is subtracted in three parts by fma, so that each product is exact
// and only the small differences round: the result is within 4e-7 radians of the fp32 angle for angles up to 2^24.
static Val turnsOf(KernelBuilder &kb, Val angle) {
  constexpr double kTurn = 2 * std::numbers::pi;
  constexpr auto kHigh = static_cast<float>(kTurn);
  constexpr auto kMiddle = static_cast<float>(kTurn - kHigh);
  constexpr auto kLow = static_cast<float>(kTurn - kHigh - kMiddle);
  Val inverse = kb.constantF(1 / kTurn);
  Val turns = kb.roundEven(angle * inverse);
  Val rest = angle;
  for (float part : {kHigh, kMiddle, kLow})
    rest = kb.fma(turns, kb.constantF(-part), rest);
  return rest * inverse;
}

RotationScale RotationScale::of(llm::RopeOp rope) {
  RotationScale scale;
  if (auto magnitude = rope.getMagnitude())
    scale.magnitude = magnitude->convertToFloat();
  if (auto temperature = rope.getTemperature()) {
    scale.temperature = temperature->convertToFloat();
    scale.every = *rope.getEvery();
  }
  return scale;
}

Rotation::Rotation(KernelBuilder &k, const RotationScale &scale, Val position)
    : k_(k), magnitude_(scale.magnitude), position_(k.toFloat(position)) {
  if (scale.temperature == 0)
    return;
  Val steps = k.toFloat(position / static_cast<int64_t>(scale.every) + 1);
  temperature_ = k.fma(k.log2(steps), k.constantF(scale.temperature * std::numbers::ln2), k.constantF(1));
}

std::pair<Val, Val> Rotation::rotate(Val x, Val y, Val frequency) {
  Val turns = turnsOf(k_, frequency * position_);
  Val sine = k_.sinTurns(turns), cosine = k_.cosTurns(turns);
  if (magnitude_ != 1) {
    sine = sine * k_.constantF(magnitude_);
    cosine = cosine * k_.constantF(magnitude_);
  }
  // The subtrahend enters the fma exactly; the sum rounds to fp32 once.
  Val minusSine = k_.zero(sine.type()) - sine;
  return {pass(k_.fma(x, cosine, y * minusSine)), pass(k_.fma(y, cosine, x * sine))};
}

Val Rotation::pass(Val x) { return temperature_ ? x * *temperature_ : x; }

} // namespace ingot
