// Two kernels between the projections and attention: rope turns each head by its position, append writes keys and
// values to the cache in the layouts that attention loads whole (docs/design/layouts.md, "KV cache"). The fact they
// turn on: both are bound by memory, so lanes are laid over the row so that its loads are contiguous.
#include "codegen/kernels/cache.h"
#include "codegen/kernels/heads.h"
#include "codegen/kernels/kernels.h"
#include "codegen/kernels/pieces.h"
#include "codegen/kernels/rotation.h"
#include "codegen/kernels/sequences.h"

#include <algorithm>

namespace ingot {

namespace {

constexpr const char *kBound = "one workgroup a token: a row is a few loads a lane";

// A workgroup's lanes for `items` pieces of work: whole waves, 64 ... 256.
unsigned lanesFor(const TargetInfo &target, uint64_t items) {
  uint64_t waves = std::clamp<uint64_t>((items + target.waveSize - 1) / target.waveSize, 2, 8);
  return static_cast<unsigned>(waves * target.waveSize);
}

// Runs `body` for every item below `items`, the workgroup's lanes side by side.
void forItems(KernelBuilder &kb, uint64_t items, unsigned lanes, const std::function<void(Val)> &body) {
  kb.forLoop(kb.thread(), kb.constant(static_cast<int64_t>(items)), kb.constant(lanes), {},
             [&](Val item, const std::vector<Val> &) {
               body(item);
               return std::vector<Val>{};
             });
}

} // namespace

LaunchShape emitRope(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                     const RopeConfig &c) {
  const uint64_t half = c.rotary / 2, width = c.heads * c.headDim, padded = paddedRow(width);
  // Elements a lane moves at once: two where the pairs allow it.
  const unsigned step = half % 2 == 0 && c.headDim % 2 == 0 ? 2 : 1;
  const uint64_t pairs = half / step, copies = (c.headDim - c.rotary) / step, itemsPerHead = pairs + copies;
  const unsigned lanes = lanesFor(target, c.heads * itemsPerHead);

  KernelBuilder kb(module, target, name, {Access::Read, Access::Read, Access::Read, Access::Write}, lanes);
  Val position = Sequences(kb, c.sequences).position(kb.workgroupY());
  const unsigned bytes = bytesOf(c.x);
  Val row = kb.zext(kb.workgroupY(), kb.i64()) * static_cast<int64_t>(padded);
  Val in = kb.advance(kb.argument(1), row * static_cast<int64_t>(bytes)), frequencies = kb.argument(2),
      out = kb.advance(kb.argument(3), row * 2);
  Rotation rotation(kb, c.scale, position);
  mlir::Type narrow = kb.vec(step, kb.bf16()), wide = kb.vec(step, kb.f32());
  // `place` counts elements.
  auto load = [&](Val place) {
    return c.x == Element::F32 ? kb.load(wide, in, place * 4) : kb.extend(kb.load(narrow, in, place * 2));
  };
  auto store = [&](Val y, Val place) { kb.store(kb.round(y, kb.bf16()), out, place * 2); };

  forItems(kb, c.heads * itemsPerHead, lanes, [&](Val item) {
    Val head = item / static_cast<int64_t>(itemsPerHead), inHead = item % static_cast<int64_t>(itemsPerHead);
    Val headStart = head * static_cast<int64_t>(c.headDim);
    auto rotate = [&] {
      Val first = headStart + inHead * step, second = first + static_cast<int64_t>(half);
      Val x = load(first), y = load(second);
      auto [low, high] = rotation.rotate(x, y, kb.load(wide, frequencies, inHead * (step * 4)));
      store(low, first);
      store(high, second);
    };
    auto copy = [&] {
      Val place = headStart + (inHead - static_cast<int64_t>(pairs)) * step + static_cast<int64_t>(c.rotary);
      store(rotation.pass(load(place)), place);
    };
    if (copies == 0) {
      rotate();
    } else {
      Val rotated = inHead < static_cast<int64_t>(pairs);
      kb.ifThen(rotated, rotate);
      kb.ifThen(inHead >= static_cast<int64_t>(pairs), copy);
    }
  });
  if (padded > width)
    kb.ifThen(kb.thread() < static_cast<int64_t>(padded - width),
              [&] { kb.store(kb.zero(kb.bf16()), out, kb.thread() * 2 + static_cast<int64_t>(width * 2)); });
  kb.finish();
  return {.kernel = name.str(), .tokensPerWorkgroup = 1, .workgroupSize = lanes, .bound = kBound};
}

LaunchShape emitAppend(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                       const AppendConfig &c) {
  if (c.element != CacheElement::Bf16)
    return emitAppendCodes(module, target, name, c);
  const uint64_t width = c.kvHeads * c.headDim, padded = paddedRow(width);
  const unsigned lanes = lanesFor(target, width);

  const Access cache = cacheAccess(c.sequences, Access::Write, c.ring);
  KernelBuilder kb(module, target, name, {Access::Read, Access::Read, Access::Read, cache, cache}, lanes);
  const Sequences sequences(kb, c.sequences);
  Val token = kb.workgroupY(), position = sequences.position(token);
  Val row = kb.zext(token, kb.i64()) * static_cast<int64_t>(padded * 2);
  Val block = kb.zext(cacheBlock(kb, sequences.step(token), position / 16, c.ring), kb.i64()) *
              static_cast<int64_t>(width * 32);
  Val inBlock = position % 16;
  Val k = kb.advance(kb.argument(1), row), v = kb.advance(kb.argument(2), row);
  Val kCache = kb.advance(cacheOf(sequences, kb.argument(3), token, c.ring), block),
      vCache = kb.advance(cacheOf(sequences, kb.argument(4), token, c.ring), block);

  // Heads and dims count on through both layouts, so eight dims of K are one half-row of tile (row element / 16), and
  // element e of V is row e.
  mlir::Type sixteenBytes = kb.vec(4, kb.i32());
  sequences.unlessPadding(token, [&] {
    forItems(kb, width / 8, lanes,
             [&](Val piece) { kb.store(kb.load(sixteenBytes, k, piece * 16), kCache, piece * 256 + inBlock * 16); });
    forItems(kb, width, lanes, [&](Val e) { kb.store(kb.load(kb.i16(), v, e * 2), vCache, e * 32 + inBlock * 2); });
  });
  kb.finish();
  return {.kernel = name.str(), .tokensPerWorkgroup = 1, .workgroupSize = lanes, .bound = kBound};
}

} // namespace ingot
