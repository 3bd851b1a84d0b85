// The KV cache of layers with a window as a ring: it keeps what the window can still see, however long the context is.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include "dialects/Llm.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/DebugCounter.h"

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_RINGCACHES
#include "passes/Passes.h.inc"

using llvm::DebugCounter;
// NOLINTNEXTLINE(bugprone-throwing-static-initialization): the macro's form
DEBUG_COUNTER(ringCounter, "ring-caches", "Which caches become rings");

namespace {

constexpr llvm::StringLiteral kName = "ring-caches";
constexpr int64_t kBlock = 16; // positions that lie together

// The widest window of those that read a cache, its keys and its values alike; 0: one of them sees everything.
struct Readers {
  llm::StateOp keys, values;
  int64_t window = 1;
  int64_t rows = 1; // the most of one chunk
};

struct RingCachesPass : impl::RingCachesBase<RingCachesPass> {
  void runOnOperation() override {
    const llm::Facts facts = llm::Facts::of(getOperation());
    llvm::MapVector<Operation *, Readers> caches; // by their keys
    getOperation().walk([&](llm::AttentionOp op) {
      auto keys = llm::lookupState(op, op.getKStateAttr());
      Readers &readers = caches[keys];
      readers.keys = keys;
      readers.values = llm::lookupState(op, op.getVStateAttr());
      const auto window = static_cast<int64_t>(op.getWindow().value_or(0));
      readers.window = window && readers.window ? std::max(window, readers.window) : 0;
      const int64_t rows = cast<RankedTensorType>(op.getQ().getType()).getDimSize(0);
      readers.rows = std::max(readers.rows, ShapedType::isDynamic(rows) ? facts.prefillChunk : rows);
    });
    int64_t rings = 0;
    for (auto &[key, readers] : caches) {
      if (readers.keys.getRing())
        continue;
      if (readers.window == 0) {
        remarkDeclined(kName, readers.keys, "a reader has no window");
        continue;
      }
      // What the first row of a chunk sees must outlive the write of its last.
      const int64_t positions = (readers.window + readers.rows - 1 + kBlock - 1) / kBlock * kBlock;
      if (positions >= facts.contextLength) {
        remarkDeclined(kName, readers.keys, "the window and a chunk are no less than the context");
        continue;
      }
      if (!DebugCounter::shouldExecute(ringCounter))
        continue;
      for (llm::StateOp state : {readers.keys, readers.values}) {
        SmallVector<int64_t> shape(state.getTensorType().getShape());
        shape.front() = positions;
        state.setType(state.getTensorType().clone(shape));
      }
      ++rings;
      remarkRewritten(kName, readers.keys, "keeps what the window sees");
    }
    remarkFigure(kName, getOperation(), "caches that are rings", rings);
  }
};

} // namespace

} // namespace ingot
