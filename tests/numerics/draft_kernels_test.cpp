// The kernels of drafting against the texts of their ops: rows side by side and a token late, which drafts stay, and
// what becomes of the step.
#include "tests/numerics/harness.h"

#include <array>

using namespace ingot;
using namespace ingot::numerics;

namespace {

TEST(Concat, RowsOfAnyWidthInEights) {
  for (auto [a, b] : {std::pair{40UL, 40UL}, {64UL, 64UL}, {8UL, 120UL}, {1000UL, 24UL}}) {
    SCOPED_TRACE(std::to_string(a) + " and " + std::to_string(b));
    const unsigned tokens = 3;
    const ConcatConfig c{.a = a, .b = b};
    Kernel kernel([&](auto module, auto &target, auto name) { return emitConcat(module, target, name, c); });
    const std::vector<Bf16> left = normalBf16(tokens * a, 1), right = normalBf16(tokens * b, 2);
    const uint64_t stride = paddedRow(a + b);
    std::vector<Bf16> wanted(tokens * stride, 0);
    for (unsigned t = 0; t < tokens; ++t) {
      std::copy_n(&left[t * a], a, &wanted[t * stride]);
      std::copy_n(&right[t * b], b, &wanted[t * stride + a]);
    }
    Buffer x(padRows(left, a)), y(padRows(right, b)), out(tokens * stride * 2);
    kernel.run(tokens, {&x, &y, &out});
    EXPECT_EQ(out.read<Bf16>(), wanted);
  }
}

TEST(Delay, RowsComeOneLater) {
  for (uint64_t columns : {8UL, 40UL, 1024UL}) {
    SCOPED_TRACE(columns);
    Kernel kernel([&](auto module, auto &target, auto name) { return emitDelay(module, target, name, columns); });
    const uint64_t stride = paddedRow(columns);
    std::vector<Bf16> before = normalBf16(columns, 1);
    std::vector<float> held(columns);
    std::transform(before.begin(), before.end(), held.begin(), [](Bf16 x) { return toFloat(x); });
    Buffer state(held);
    // The step may count fewer rows than there are: those that were accepted.
    for (auto [rows, counted] : {std::pair{1U, 1U}, {5U, 5U}, {4U, 2U}, {4U, 1U}, {1U, 1U}}) {
      const std::vector<Bf16> x = normalBf16(rows * columns, 7 + rows + counted);
      std::vector<Bf16> wanted(rows * stride, 0);
      std::copy_n(before.begin(), columns, wanted.begin());
      for (unsigned t = 1; t < rows; ++t)
        std::copy_n(&x[(t - 1) * columns], columns, &wanted[t * stride]);
      StepBuffer step({.tokens = static_cast<int32_t>(counted)});
      Buffer in(padRows(x, columns)), out(rows * stride * 2);
      kernel.run(rows, {&step, &in, &state, &out});
      EXPECT_EQ(out.read<Bf16>(), wanted) << rows << " rows";
      before.assign(&x[(counted - 1) * columns], &x[(counted - 1) * columns] + columns);
      const std::vector<float> left = state.read<float>();
      for (uint64_t i = 0; i < columns; ++i)
        ASSERT_EQ(left[i], toFloat(before[i])) << "state " << i << " after " << counted << " of " << rows << " rows";
    }
  }
}

struct Accepted {
  std::vector<int32_t> output;
  Step step;
  int32_t next;
};

Accepted accept(const std::vector<int32_t> &best, const std::vector<int32_t> &tokens, const std::vector<int64_t> &ends,
                int32_t capacity) {
  const AcceptConfig c{.tokens = tokens.size(), .ends = ends};
  Kernel kernel([&](auto module, auto &target, auto name) { return emitAccept(module, target, name, c); });
  StepBuffer step({.tokens = 1, .position = 30, .generated = 2, .capacity = capacity});
  Buffer chosen(best), given(tokens), output(std::vector<int32_t>(10, -1)), next(std::vector<int32_t>{-1});
  kernel.run(1, {&step, &chosen, &given, &output, &next});
  return {output.read<int32_t>(), step.read<Step>().front(), next.read<int32_t>().front()};
}

TEST(Accept, KeepsTheLongestPrefix) {
  const std::vector<int32_t> best{11, 12, 13, 14};
  struct Case {
    std::vector<int32_t> drafts;
    std::vector<int64_t> ends;
    int32_t capacity, accepted;
    const char *what;
  };
  const Case cases[] = {
      {{11, 12, 13}, {}, 10, 3, "all right"},
      {{11, 12, 99}, {}, 10, 2, "the last wrong"},
      {{11, 99, 13}, {}, 10, 1, "right again behind a wrong one"},
      {{99, 12, 13}, {}, 10, 0, "the first wrong"},
      {{-7, 12, 13}, {}, 10, 0, "no token at all"},
      {{11, 12, 13}, {12, 50}, 10, 1, "an end among them"},
      {{11, 12, 13}, {50, 11}, 10, 0, "an end at once"},
      {{11, 12, 13}, {14}, 10, 3, "an end chosen last"},
      {{11, 12, 13}, {}, 5, 2, "room for three tokens"},
      {{11, 12, 13}, {}, 3, 0, "room for one"},
  };
  for (const Case &c : cases) {
    SCOPED_TRACE(c.what);
    std::vector<int32_t> tokens{5};
    tokens.insert(tokens.end(), c.drafts.begin(), c.drafts.end());
    const Accepted got = accept(best, tokens, c.ends, c.capacity);
    EXPECT_EQ(got.next, best[static_cast<size_t>(c.accepted)]);
    EXPECT_EQ(got.step.tokens, c.accepted + 1);
    EXPECT_EQ(got.step.generated, 2 + c.accepted);
    EXPECT_EQ(got.step.position, 30);
    std::vector<int32_t> wanted(10, -1);
    std::copy_n(best.begin(), c.accepted, wanted.begin() + 2);
    EXPECT_EQ(got.output, wanted);
  }
}

TEST(Draft, LeavesTokensAndMovesOn) {
  StepBuffer step({.tokens = 1, .position = 30});
  Buffer tokens(std::vector<int32_t>{5, -1, -1, -1});
  for (const auto &[index, move, position] : {std::array{1, 1, 31}, {2, 1, 32}, {3, -2, 30}}) {
    const DraftConfig c{.index = static_cast<uint64_t>(index), .move = move};
    Kernel kernel([&](auto module, auto &target, auto name) { return emitDraft(module, target, name, c); });
    Buffer token(std::vector<int32_t>{70 + index});
    kernel.run(1, {&step, &token, &tokens});
    EXPECT_EQ(step.read<Step>().front().position, position);
  }
  EXPECT_EQ(tokens.read<int32_t>(), (std::vector<int32_t>{5, 71, 72, 73}));
}

// Rows that may be taken back leave the state, and are the rows that a step makes which keeps them.
TEST(Peek, LeavesTheState) {
  const unsigned tokens = 4;
  const ShortConvConfig moves{.channels = 80, .taps = 4}, peeks{.channels = 80, .taps = 4, .peek = tokens};
  Kernel moving([&](auto module, auto &target, auto name) { return emitShortConv(module, target, name, moves); });
  Kernel peeking([&](auto module, auto &target, auto name) { return emitShortConv(module, target, name, peeks); });
  const std::vector<float> held = normalFloat(3 * 80, 1);
  // A step that drafts begins with one token.
  StepBuffer all({.tokens = tokens}), one({.tokens = 1});
  Buffer x(padRows(normalFloat(tokens * 80, 2), 80)), taps(normalFloat(80 * 4, 3)), state(held);
  Buffer first(tokens * paddedRow(80) * 4), second(tokens * paddedRow(80) * 4);
  peeking.run(tokens, {&one, &x, &taps, &state, &first});
  EXPECT_EQ(state.read<float>(), held);
  moving.run(tokens, {&all, &x, &taps, &state, &second});
  EXPECT_NE(state.read<float>(), held);
  EXPECT_EQ(first.read<uint32_t>(), second.read<uint32_t>());
}

} // namespace
