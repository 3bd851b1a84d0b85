// Rope and append against the text of llm.rope and llm.append.
#include "tests/numerics/attention_reference.h"

#include <cmath>

using namespace ingot;
using namespace ingot::numerics;

namespace {

void checkRope(const RopeConfig &c, unsigned tokens, int position) {
  std::string what = std::to_string(c.heads) + " heads of " + std::to_string(c.headDim) + ", rotary " +
                     std::to_string(c.rotary) + ", " + std::to_string(tokens) + " tokens at " +
                     std::to_string(position);
  uint64_t width = c.heads * c.headDim, half = c.rotary / 2, stride = paddedRow(width);
  // Values that bf16 holds, so that one reference serves both kinds of rows.
  std::vector<Bf16> x = normalBf16(tokens * width, 1);
  std::vector<float> wide;
  for (Bf16 bits : x)
    wide.push_back(toFloat(bits));
  std::vector<float> frequencies;
  frequencies.reserve(half);
  for (uint64_t i = 0; i < half; ++i)
    frequencies.push_back(std::pow(10000.0F, -static_cast<float>(i) / static_cast<float>(half)));

  Kernel kernel([&](auto module, auto &target, auto name) { return emitRope(module, target, name, c); });
  StepBuffer step({.tokens = static_cast<int32_t>(tokens), .position = position});
  Buffer narrowRows(padRows(x, width)), wideRows(padRows(wide, width));
  Buffer table(frequencies), out(tokens * stride * 2);
  kernel.run(tokens, {&step, c.x == Element::F32 ? &wideRows : &narrowRows, &table, &out});

  Difference difference;
  std::vector<Bf16> got = out.read<Bf16>();
  for (unsigned t = 0; t < tokens; ++t)
    for (uint64_t e = 0; e < stride; ++e) {
      double wanted = 0, magnitude = 0;
      if (e < width) {
        uint64_t head = e / c.headDim, d = e % c.headDim, i = d % half;
        auto at = [&](uint64_t dim) { return toFloat(x[t * width + head * c.headDim + dim]); };
        const double warm = 1 + c.scale.temperature * std::log1p((static_cast<uint64_t>(position) + t) / c.scale.every);
        if (d < c.rotary) {
          double angle = static_cast<float>(position + static_cast<int>(t)) * frequencies[i];
          double a = at(i), b = at(i + half);
          wanted = d < half ? a * std::cos(angle) - b * std::sin(angle) : b * std::cos(angle) + a * std::sin(angle);
          wanted *= warm * c.scale.magnitude;
          magnitude = (std::abs(a) + std::abs(b)) * warm * c.scale.magnitude;
        } else {
          wanted = at(d) * warm;
          // What is not scaled is copied, bit for bit.
          magnitude = c.scale.temperature != 0 ? std::abs(wanted) : 0;
        }
      }
      // One rounding to bf16 is 2^-8 relative; sine and cosine are within 2^-20 after the reduction by 2 pi.
      difference.expect(toFloat(got[t * stride + e]), wanted, magnitude * 0x1p-20, magnitude > 0 ? 0x1.1p-8 : 0,
                        "token " + std::to_string(t) + ", element " + std::to_string(e));
    }
  difference.report(what);
}

TEST(Rope, FullRotation) {
  checkRope({.heads = 9, .headDim = 64, .rotary = 64, .x = Element::Bf16}, 1, 0);
  checkRope({.heads = 3, .headDim = 48, .rotary = 48, .x = Element::F32}, 17, 5);
  checkRope({.heads = 2, .headDim = 256, .rotary = 256, .x = Element::F32}, 3, 131000);
}

TEST(Rope, PartOfAHead) {
  checkRope({.heads = 3, .headDim = 64, .rotary = 16, .x = Element::F32}, 3, 1000);
  checkRope({.heads = 1, .headDim = 16, .rotary = 10, .x = Element::Bf16}, 2, 7);
}

// At 8191 and 8192 the temperature takes its first step.
TEST(Rope, Scaled) {
  checkRope({.heads = 3, .headDim = 64, .rotary = 64, .x = Element::F32, .scale = {.magnitude = 1.2772589F}}, 3, 1000);
  for (auto [rotary, element] : {std::pair{128U, Element::F32}, {32U, Element::Bf16}})
    checkRope({.heads = 2,
               .headDim = 128,
               .rotary = rotary,
               .x = element,
               .scale = {.magnitude = 0.875F, .temperature = 0.1F, .every = 8192}},
              4, 8190);
  checkRope({.heads = 1, .headDim = 32, .rotary = 32, .x = Element::F32, .scale = {.temperature = 0.1F, .every = 3}}, 9,
            262140);
}

// The last two rows are of rings: past their end positions go to the first block again.
TEST(Append, WritesTheDeclaredPlacesAndNothingElse) {
  for (auto [kvHeads, headDim, tokens, position, ring] : {std::tuple{3U, 64U, 1U, 0, 0U},
                                                          {3U, 64U, 40U, 13, 0U},
                                                          {1U, 16U, 17U, 15, 0U},
                                                          {2U, 48U, 5U, 2000, 0U},
                                                          {5U, 256U, 2U, 31, 0U},
                                                          {2U, 16U, 40U, 30, 48U},
                                                          {1U, 32U, 1U, 1000, 80U}}) {
    SCOPED_TRACE(std::to_string(kvHeads) + " heads of " + std::to_string(headDim) + " at " + std::to_string(position));
    const uint64_t width = uint64_t{kvHeads} * headDim;
    const uint64_t positions = ring ? ring : static_cast<uint64_t>(position) + tokens;
    std::vector<Bf16> k = normalBf16(tokens * width, 2), v = normalBf16(tokens * width, 3);
    std::fill_n(k.begin(), headDim, Bf16{0}); // whose scale is 0
    StepBuffer step({.tokens = static_cast<int32_t>(tokens), .position = position},
                    ring ? std::vector<int32_t>() : pagesOf(positions));
    Buffer kRows(padRows(k, width)), vRows(padRows(v, width));
    for (CacheElement element : elementsOfCaches()) {
      Kernel kernel([&](auto module, auto &target, auto name) {
        return emitAppend(module, target, name,
                          {.kvHeads = kvHeads, .headDim = headDim, .ring = ring, .element = element});
      });
      const uint64_t bytes = bytesOfCache(element, kvHeads, headDim, positions);
      Buffer kCache(bytes), vCache(bytes);
      kernel.run(tokens, {&step, &kRows, &vRows, &kCache, &vCache});
      for (bool keys : {true, false}) {
        std::vector<uint8_t> wanted(bytes, 0xff);
        place(Held(element, keys ? k : v, headDim), element, keys, kvHeads, headDim, static_cast<uint64_t>(position),
              ring, wanted);
        EXPECT_TRUE((keys ? kCache : vCache).read<uint8_t>() == wanted)
            << (keys ? "keys" : "values") << " of element " << static_cast<int>(element);
      }
    }
  }
}

} // namespace
