// Decode attention, both stages, against the text of llm.attention.
#include "tests/numerics/attention_reference.h"

using namespace ingot;
using namespace ingot::numerics;

namespace {

void check(AttentionConfig c, const std::vector<uint64_t> &positions) {
  c.scale = 1 / std::sqrt(static_cast<double>(c.headDim));
  SCOPED_TRACE(describe(c));
  Kernel decode([&](auto module, auto &target, auto name) { return emitAttentionDecode(module, target, name, c); });
  Kernel combine([&](auto module, auto &target, auto name) { return emitAttentionCombine(module, target, name, c); });
  const uint64_t width = c.heads * c.headDim, stride = paddedRow(width);
  const auto tokens = static_cast<unsigned>(c.tokens);
  std::vector<Bf16> q = normalBf16(tokens * width, 5);
  Buffer queries(padRows(q, width));
  for (uint64_t position : positions) {
    Caches caches(c, position + tokens, 6);
    StepBuffer step({.tokens = static_cast<int32_t>(tokens), .position = static_cast<int32_t>(position)},
                    caches.pages());
    Buffer k(caches.layout(true)), v(caches.layout(false));
    Buffer partials(tokens * c.heads * attentionUnits(target(), c) * (c.headDim + 2) * 4), out(tokens * stride * 2);
    decode.run(tokens, {&step, &queries, &k, &v, &partials});
    combine.run(tokens, {&step, &partials, &out});
    expectAttention(c, caches, q, position, out.read<Bf16>());
  }
}

TEST(AttentionDecode, RatioOne) { check({.heads = 3, .kvHeads = 3, .headDim = 16}, {0, 15, 16, 17, 63, 64}); }
TEST(AttentionDecode, RatioThree) { check({.heads = 9, .kvHeads = 3, .headDim = 64}, {0, 1, 14, 15, 16, 300, 2000}); }
TEST(AttentionDecode, RatioFour) { check({.heads = 4, .kvHeads = 1, .headDim = 128}, {0, 31, 32, 65}); }
// From here to WideHead waves share a block in LDS: five, eight, six, of two heads each, and more than a workgroup can
// have, whose last heads leave a place over.
TEST(AttentionDecode, RatioFive) { check({.heads = 10, .kvHeads = 2, .headDim = 32}, {7, 100}); }
TEST(AttentionDecode, RatioEight) {
  check({.heads = 16, .kvHeads = 2, .headDim = 48}, {0, 16, 130});
  check({.heads = 8, .kvHeads = 1, .headDim = 128}, {0, 40});
}
TEST(AttentionDecode, WideHead) {
  check({.heads = 6, .kvHeads = 1, .headDim = 256}, {0, 15, 16, 1100});
  check({.heads = 20, .kvHeads = 2, .headDim = 256}, {40});
  check({.heads = 17, .kvHeads = 1, .headDim = 256}, {40});
  check({.heads = 2, .kvHeads = 1, .headDim = 256, .window = 33, .ring = 48}, {47, 80});
}
TEST(AttentionDecode, FewTokens) {
  check({.heads = 4, .kvHeads = 2, .headDim = 32, .tokens = 3}, {0, 14, 100});
  check({.heads = 3, .kvHeads = 1, .headDim = 256, .tokens = 4}, {0, 14, 100});
}
TEST(AttentionDecode, WidestHeads) {
  check({.heads = 4, .kvHeads = 2, .headDim = 512}, {0, 16, 200});
  check({.heads = 2, .kvHeads = 1, .headDim = 272}, {40});
}
TEST(AttentionDecode, Window) {
  check({.heads = 6, .kvHeads = 2, .headDim = 32, .window = 20}, {0, 18, 19, 20, 35, 36, 500});
  check({.heads = 1, .kvHeads = 1, .headDim = 16, .window = 1}, {0, 15, 16});
}
// Before the ring wraps, at its end, and after it has wrapped several times; a number of blocks that is no power of
// two.
TEST(AttentionDecode, Ring) {
  check({.heads = 6, .kvHeads = 2, .headDim = 32, .window = 33, .ring = 48}, {0, 33, 47, 48, 49, 63, 80, 95, 96, 500});
  check({.heads = 2, .kvHeads = 1, .headDim = 16, .window = 16, .ring = 16}, {15, 16, 17, 31, 32, 100});
}

// Caches of codes: heads held whole and in parts, a head that is no multiple of a wave, a ragged group, windows and
// rings.
TEST(AttentionDecode, Codes) {
  for (CacheElement element : elementsOfCaches()) {
    if (element == CacheElement::Bf16)
      continue;
    check({.heads = 9, .kvHeads = 3, .headDim = 64, .element = element}, {0, 1, 15, 16, 300, 2000});
    check({.heads = 4, .kvHeads = 1, .headDim = 128, .element = element}, {0, 31, 65});
    check({.heads = 10, .kvHeads = 2, .headDim = 48, .element = element}, {7, 100});
    check({.heads = 3, .kvHeads = 1, .headDim = 256, .element = element}, {0, 200});
    check({.heads = 40, .kvHeads = 1, .headDim = 256, .element = element}, {0, 40});
    check({.heads = 4, .kvHeads = 2, .headDim = 512, .element = element}, {0, 16, 200});
    check({.heads = 1, .kvHeads = 1, .headDim = 16, .window = 1, .element = element}, {0, 15, 16});
    check({.heads = 6, .kvHeads = 2, .headDim = 32, .window = 33, .ring = 48, .element = element},
          {0, 47, 48, 80, 500});
  }
}

} // namespace
