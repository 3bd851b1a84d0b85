// Prefill attention against the text of llm.attention, with rows of NaN after the chunk's last.
#include "tests/numerics/attention_reference.h"

using namespace ingot;
using namespace ingot::numerics;

namespace {

struct Chunk {
  unsigned tokens, position;
};

void check(AttentionConfig c, const std::vector<Chunk> &chunks) {
  c.scale = 1 / std::sqrt(static_cast<double>(c.headDim));
  SCOPED_TRACE(describe(c));
  Kernel kernel([&](auto module, auto &target, auto name) { return emitAttentionPrefill(module, target, name, c); });
  std::optional<Kernel> combine;
  if (c.split > 0)
    combine.emplace(
        [&](auto module, auto &target, auto name) { return emitAttentionCombine(module, target, name, c); });
  uint64_t width = c.heads * c.headDim, stride = paddedRow(width);
  for (auto [tokens, position] : chunks) {
    Caches caches(c, position + tokens, 8);
    std::vector<Bf16> q = normalBf16(tokens * width, 9);
    StepBuffer step({.tokens = static_cast<int32_t>(tokens), .position = static_cast<int32_t>(position)},
                    caches.pages());
    Buffer queries(padRows(q, width, tileRest(tokens))), k(caches.layout(true)), v(caches.layout(false));
    Buffer out((tokens + tileRest(tokens)) * stride * 2);
    Buffer partials(c.split > 0 ? 64 * c.heads * c.split * (c.headDim + 2) * 4 : 4);
    std::vector<const Buffer *> arguments{&step, &queries, &k, &v, &out};
    if (combine)
      arguments.push_back(&partials);
    kernel.run(tokens, arguments);
    if (combine)
      combine->run(tokens, {&step, &partials, &out});
    expectAttention(c, caches, q, position, out.read<Bf16>());
  }
}

TEST(AttentionPrefill, RatioOne) {
  check({.heads = 3, .kvHeads = 3, .headDim = 16}, {{1, 0}, {15, 0}, {16, 0}, {17, 3}});
}
TEST(AttentionPrefill, RatioThree) {
  check({.heads = 9, .kvHeads = 3, .headDim = 64}, {{1, 0}, {16, 16}, {64, 0}, {65, 0}, {30, 63}, {5, 2000}});
}
TEST(AttentionPrefill, RatioFour) { check({.heads = 4, .kvHeads = 1, .headDim = 128}, {{33, 31}, {80, 0}}); }
TEST(AttentionPrefill, RatioEight) { check({.heads = 8, .kvHeads = 1, .headDim = 48}, {{20, 100}}); }
// Query heads that leave lanes of a workgroup to nobody, and more than one can have.
TEST(AttentionPrefill, RaggedRatios) {
  check({.heads = 10, .kvHeads = 2, .headDim = 32}, {{30, 7}, {12, 0}, {13, 4}});
  check({.heads = 7, .kvHeads = 1, .headDim = 16, .window = 20}, {{30, 100}});
  check({.heads = 19, .kvHeads = 1, .headDim = 16}, {{30, 20}});
  check({.heads = 130, .kvHeads = 1, .headDim = 16}, {{3, 20}});
}
TEST(AttentionPrefill, WidestHeads) {
  check({.heads = 2, .kvHeads = 1, .headDim = 256}, {{17, 40}});
  check({.heads = 1, .kvHeads = 1, .headDim = 240}, {{18, 0}});
  check({.heads = 2, .kvHeads = 1, .headDim = 512}, {{17, 40}});
  check({.heads = 1, .kvHeads = 1, .headDim = 272}, {{18, 0}});
}
// Short chunks behind many positions, whose positions units share, and chunks of the same kernels that are not split:
// too long, or too few positions before them by one.
TEST(AttentionPrefill, SplitOverPositions) {
  check({.heads = 6, .kvHeads = 2, .headDim = 64, .split = 3}, {{1, 1008}, {16, 2000}, {17, 1500}, {64, 960}});
  check({.heads = 6, .kvHeads = 2, .headDim = 64, .split = 3}, {{1, 1007}, {64, 944}, {65, 1500}, {20, 0}});
  // As many units as blocks: some have none.
  check({.heads = 2, .kvHeads = 1, .headDim = 16, .split = 64}, {{64, 945}, {40, 970}});
  check({.heads = 2, .kvHeads = 1, .headDim = 256, .split = 5}, {{20, 1100}});
  check({.heads = 3, .kvHeads = 1, .headDim = 48, .split = 2}, {{5, 1100}});
  for (CacheElement element : elementsOfCaches())
    check({.heads = 2, .kvHeads = 2, .headDim = 32, .element = element, .split = 7}, {{33, 1200}});
}
TEST(AttentionPrefill, Window) {
  check({.heads = 2, .kvHeads = 1, .headDim = 32, .window = 20}, {{70, 0}, {64, 500}, {3, 19}});
  check({.heads = 1, .kvHeads = 1, .headDim = 16, .window = 1}, {{20, 0}, {16, 16}});
  check({.heads = 1, .kvHeads = 1, .headDim = 16, .window = 3}, {{40, 30}});
}
// The longest chunk whose last key leaves what its first row sees: window + rows - 1 is the ring.
TEST(AttentionPrefill, Ring) {
  AttentionConfig c{.heads = 2, .kvHeads = 1, .headDim = 32, .window = 20, .ring = 80};
  check(c, {{61, 0}, {61, 19}, {61, 61}, {61, 80}, {61, 500}, {16, 79}, {1, 160}});
  check({.heads = 1, .kvHeads = 1, .headDim = 16, .window = 1, .ring = 48}, {{48, 0}, {48, 33}, {48, 96}});
}

TEST(AttentionPrefill, Codes) {
  for (CacheElement element : elementsOfCaches()) {
    if (element == CacheElement::Bf16)
      continue;
    check({.heads = 9, .kvHeads = 3, .headDim = 64, .element = element}, {{1, 0}, {65, 0}, {30, 63}, {5, 2000}});
    check({.heads = 4, .kvHeads = 1, .headDim = 128, .element = element}, {{33, 31}});
    check({.heads = 8, .kvHeads = 1, .headDim = 48, .element = element}, {{20, 100}});
    check({.heads = 2, .kvHeads = 1, .headDim = 256, .element = element}, {{17, 40}});
    check({.heads = 2, .kvHeads = 1, .headDim = 512, .element = element}, {{17, 40}});
    check({.heads = 1, .kvHeads = 1, .headDim = 16, .window = 3, .element = element}, {{40, 30}});
    check({.heads = 2, .kvHeads = 1, .headDim = 32, .window = 20, .ring = 80, .element = element},
          {{61, 19}, {61, 500}, {1, 160}});
  }
}

} // namespace
