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

std::pair<Val, Val> rotatePair(KernelBuilder &k, Val x, Val y, Val frequency, Val position) {
  Val turns = turnsOf(k, frequency * position);
  Val sine = k.sinTurns(turns), cosine = k.cosTurns(turns);
  // The subtrahend enters the fma exactly; the sum rounds to fp32 once.
  Val minusSine = k.zero(sine.type()) - sine;
  return {k.fma(x, cosine, y * minusSine), k.fma(y, cosine, x * sine)};
}

} // namespace ingot
