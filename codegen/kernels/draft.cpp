// What drafting adds to the kernels of any layer: rows beside each other, rows a token late, and the words of the step
// that say which drafted tokens stay.
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/sequences.h"

#include <cstddef>

#include "runtime/artifact/step.h"

namespace ingot {

namespace {

constexpr unsigned kThreads = 64;
constexpr int64_t kPiece = 16; // bytes: eight bf16 a lane
constexpr const char *kBound = "a row has no more pieces of eight elements, one a lane";

unsigned workgroupsOf(int64_t pieces) { return static_cast<unsigned>((pieces + kThreads - 1) / kThreads); }

int64_t piecesOf(uint64_t columns) { return static_cast<int64_t>(paddedRow(columns) / 8); }

} // namespace

LaunchShape emitConcat(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       const ConcatConfig &c) {
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, kThreads);
  const auto first = static_cast<int64_t>(c.a / 8), both = first + static_cast<int64_t>(c.b / 8);
  const int64_t pieces = piecesOf(c.a + c.b);
  Val token = k.zext(k.workgroupY(), k.i64()), piece = k.workgroupX() * kThreads + k.thread();
  Val a = k.advance(k.argument(0), token * (piecesOf(c.a) * kPiece)),
      b = k.advance(k.argument(1), token * (piecesOf(c.b) * kPiece)),
      out = k.advance(k.argument(2), token * (pieces * kPiece));
  mlir::Type type = k.vec(4, k.i32());
  auto copy = [&](Val from, Val place) { k.store(k.load(type, from, place * kPiece), out, piece * kPiece); };
  k.ifThen(piece < first, [&] { copy(a, piece); });
  k.ifThen((piece >= first) & (piece < both), [&] { copy(b, piece - first); });
  k.ifThen((piece >= both) & (piece < pieces), [&] { k.store(k.zero(type), out, piece * kPiece); });
  k.finish();
  return {.kernel = name.str(),
          .x = workgroupsOf(pieces),
          .tokensPerWorkgroup = 1,
          .workgroupSize = kThreads,
          .bound = kBound};
}

// The workgroups of the first row alone touch the state, each lane its own columns: what it reads there is stored
// before it writes the new state. Of several sequences every row is the first of its own.
LaunchShape emitDelay(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name, uint64_t columns,
                      bool several) {
  KernelBuilder k(module, target, name,
                  {Access::Read, Access::Read, Sequences::access(several, Access::ReadWrite), Access::Write}, kThreads);
  const Sequences sequences(k, several);
  const int64_t pieces = piecesOf(columns), held = static_cast<int64_t>(columns / 8), stride = pieces * kPiece;
  Val token = k.workgroupY(), piece = k.workgroupX() * kThreads + k.thread();
  Val x = k.argument(1), state = sequences.own(k.argument(2), token), out = k.argument(3);
  mlir::Type wide = k.vec(8, k.f32()), narrow = k.vec(8, k.bf16());
  Val wideToken = k.zext(token, k.i64());
  // `last` is the last row of the sequence that begins with row `first`.
  auto begin = [&](Val isFirst, Val first, Val last) {
    Val to = k.advance(out, first * stride);
    k.ifThen(isFirst & (piece < held), [&] {
      k.store(k.round(k.load(wide, state, piece * 32, 16), k.bf16()), to, piece * kPiece);
      k.store(k.extend(k.load(narrow, k.advance(x, last * stride), piece * kPiece)), state, piece * 32, 16);
    });
    k.ifThen(isFirst & (piece >= held) & (piece < pieces), [&] { k.store(k.zero(narrow), to, piece * kPiece); });
  };
  if (several) {
    begin(sequences.real(token), wideToken, wideToken);
  } else {
    begin(token == 0, k.constant64(0), k.zext(k.stepTokens(k.argument(0)) - 1, k.i64()));
    k.ifThen((token > 0) & (piece < pieces), [&] {
      Val before = k.advance(x, (wideToken - 1) * stride);
      k.store(k.load(narrow, before, piece * kPiece), k.advance(out, wideToken * stride), piece * kPiece);
    });
  }
  k.finish();
  return {.kernel = name.str(),
          .x = workgroupsOf(pieces),
          .tokensPerWorkgroup = 1,
          .workgroupSize = kThreads,
          .bound = kBound};
}

LaunchShape emitAccept(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       const AcceptConfig &c) {
  KernelBuilder k(module, target, name, {Access::ReadWrite, Access::Read, Access::Read, Access::Write, Access::Write},
                  target.waveSize);
  k.ifThen(k.lane() == 0, [&] {
    Val step = k.argument(0), output = k.argument(3);
    auto word = [&](unsigned argument, uint64_t i) {
      return k.load(k.i32(), k.argument(argument), k.constant(static_cast<int64_t>(i) * 4));
    };
    Val generated = k.load(k.i32(), step, k.constant(offsetof(Step, generated)));
    Val capacity = k.load(k.i32(), step, k.constant(offsetof(Step, capacity)));
    Val best = word(1, 0), next = best, accepted = k.constant(0), stays = accepted == 0;
    for (uint64_t i = 0; i + 1 < c.tokens; ++i) {
      stays = stays & (word(2, i + 1) == best) & (generated + static_cast<int64_t>(i + 1) < capacity);
      for (int64_t end : c.ends)
        stays = stays & (best != end);
      k.ifThen(stays, [&] { k.store(best, output, (generated + static_cast<int64_t>(i)) * 4); });
      accepted = accepted + k.zext(stays, k.i32());
      best = word(1, i + 1);
      next = k.select(stays, best, next);
    }
    k.store(generated + accepted, step, k.constant(offsetof(Step, generated)));
    k.store(accepted + 1, step, k.constant(offsetof(Step, tokens)));
    k.store(next, k.argument(4), k.constant(0));
  });
  k.finish();
  return {.kernel = name.str(), .workgroupSize = target.waveSize, .bound = "a few words of the step"};
}

LaunchShape emitDraft(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const DraftConfig &c) {
  KernelBuilder k(module, target, name, {Access::ReadWrite, Access::Read, Access::Write}, target.waveSize);
  k.ifThen(k.lane() == 0, [&] {
    Val step = k.argument(0);
    k.store(k.load(k.i32(), k.argument(1), k.constant(0)), k.argument(2),
            k.constant(static_cast<int64_t>(c.index) * 4));
    k.store(k.stepPosition(step) + c.move, step, k.constant(offsetof(Step, position)));
  });
  k.finish();
  return {.kernel = name.str(), .workgroupSize = target.waveSize, .bound = "a few words of the step"};
}

} // namespace ingot
