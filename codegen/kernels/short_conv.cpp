// llm.short_conv: a lane has a channel and walks the tokens with the last rows in registers, so the state is read and
// written once and by one lane only. One kernel for a step and for a chunk; of several sequences each has a plane of
// the grid, and walks its one token.
#include "codegen/kernels/elementwise.h"
#include "codegen/kernels/sequences.h"

namespace ingot {

static constexpr unsigned kThreads = 64;
static constexpr unsigned kTokensInFlight = 8;

LaunchShape emitShortConv(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                          const ShortConvConfig &c) {
  KernelBuilder k(
      module, target, name,
      {Access::Read, Access::Read, Access::Read, Sequences::access(c.sequences, Access::ReadWrite), Access::Write},
      kThreads);
  const Sequences sequences(k, c.sequences);
  const auto channels = static_cast<int64_t>(c.channels), stride = static_cast<int64_t>(paddedRow(c.channels));
  const auto before = static_cast<unsigned>(c.taps - 1); // rows that the state holds
  Val row = k.workgroupY(), state = sequences.own(k.argument(3), row);
  Val channel = k.workgroupX() * kThreads + k.thread();
  // Lanes in the row's padding work on the last channel, and store zeros.
  Val inside = channel < channels, mine = k.minI(channel, k.constant(channels - 1));
  sequences.unlessPadding(row, [&] {
    std::vector<Val> taps, rows;
    for (unsigned j = 0; j <= before; ++j)
      taps.push_back(k.load(k.f32(), k.argument(2), (mine * static_cast<int64_t>(c.taps) + j) * 4));
    for (unsigned j = 0; j < before; ++j)
      rows.push_back(k.load(k.f32(), state, (mine + j * channels) * 4));
    Val first = k.constant(0), end;
    if (c.sequences) {
      first = row;
      end = row + 1;
    } else {
      end = c.peek ? k.constant(static_cast<int64_t>(c.peek)) : k.stepTokens(k.argument(0));
    }
    rows = k.forLoop(
        first, end, k.constant(1), rows,
        [&](Val t, std::vector<Val> window) {
          Val at = k.zext(t, k.i64()) * (stride * 4);
          window.push_back(k.load(k.f32(), k.advance(k.argument(1), at), mine * 4));
          Val y = applyShortConv(k, taps, window);
          k.store(k.select(inside, y, k.constantF(0)), k.advance(k.argument(4), at), channel * 4);
          window.erase(window.begin());
          return window;
        },
        c.sequences ? 1 : kTokensInFlight);
    if (!c.peek)
      k.ifThen(inside, [&] {
        for (unsigned j = 0; j < before; ++j)
          k.store(rows[j], state, (mine + j * channels) * 4);
      });
  });
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(stride / kThreads),
          .tokensPerWorkgroup = c.sequences ? 1U : 0U,
          .workgroupSize = kThreads,
          .bound = "a lane a channel: the state of a channel has one reader and writer"};
}

} // namespace ingot
