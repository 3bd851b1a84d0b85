// Scratch buffers -> one arena. Programs are short flat lists, so lives are intervals of launch indices and first-fit
// by decreasing size is close to the best there is.
#include "passes/Passes.h"
#include "passes/Remarks.h"

#include <map>

using namespace mlir;

namespace ingot {

#define GEN_PASS_DEF_PLANMEMORY
#include "passes/Passes.h.inc"

namespace {

// Launches that name a buffer, first and last, within the one program that uses it. Programs of the same name for
// different targets list the same launches over the same buffers, or at least lives that do not disagree: the union
// counts.
struct Life {
  int64_t bytes = 0, first = INT64_MAX, last = -1, offset = 0;
  std::string name, program;
};

struct PlanMemoryPass : impl::PlanMemoryBase<PlanMemoryPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    std::map<std::string, Life> lives;
    for (auto buffer : module.getOps<exec::BufferOp>())
      if (buffer.getRole() == exec::Role::Scratch)
        lives[buffer.getSymName().str()].bytes = buffer.getBytes();
    if (lives.empty())
      return;
    WalkResult walked = module.walk([&](exec::ProgramOp program) {
      int64_t index = 0;
      for (auto launch : program.getBody().getOps<exec::LaunchOp>()) {
        for (auto name : launch.getBuffers().getAsRange<FlatSymbolRefAttr>()) {
          auto found = lives.find(name.getValue().str());
          if (found == lives.end())
            continue;
          Life &life = found->second;
          if (!life.program.empty() && life.program != program.getSymName()) {
            launch.emitOpError() << "hands scratch buffer " << name << " from program @" << life.program
                                 << " to another";
            return WalkResult::interrupt();
          }
          life.program = program.getSymName().str();
          life.first = std::min(life.first, index);
          life.last = std::max(life.last, index);
        }
        ++index;
      }
      return WalkResult::advance();
    });
    if (walked.wasInterrupted())
      return signalPassFailure();

    std::vector<Life *> order;
    int64_t before = 0;
    for (auto &[name, life] : lives) {
      life.name = name;
      order.push_back(&life);
      before += life.bytes;
    }
    std::sort(order.begin(), order.end(),
              [](Life *a, Life *b) { return a->bytes != b->bytes ? a->bytes > b->bytes : a->name < b->name; });
    int64_t arena = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      // Those already placed whose life meets this one's, by offset.
      std::vector<Life *> others;
      for (size_t j = 0; j < i; ++j)
        if (order[j]->program == order[i]->program && order[j]->first <= order[i]->last &&
            order[i]->first <= order[j]->last)
          others.push_back(order[j]);
      std::sort(others.begin(), others.end(), [](Life *a, Life *b) { return a->offset < b->offset; });
      int64_t offset = 0;
      for (Life *other : others) {
        if (offset + order[i]->bytes <= other->offset)
          break;
        offset = std::max(offset, other->offset + other->bytes);
      }
      order[i]->offset = offset;
      arena = std::max(arena, offset + order[i]->bytes);
    }

    OpBuilder b(module.getContext());
    bool first = true;
    for (auto buffer : llvm::make_early_inc_range(module.getOps<exec::BufferOp>())) {
      if (buffer.getRole() != exec::Role::Scratch)
        continue;
      if (std::exchange(first, false)) {
        b.setInsertionPoint(buffer);
        exec::BufferOp::create(b, module.getLoc(), "scratch", exec::Role::Scratch, arena, 0, IntegerAttr(),
                               StringAttr());
      }
      buffer.erase();
    }
    auto scratch = FlatSymbolRefAttr::get(b.getContext(), "scratch");
    module.walk([&](exec::LaunchOp launch) {
      SmallVector<Attribute> buffers(launch.getBuffers().begin(), launch.getBuffers().end());
      SmallVector<int64_t> offsets(launch.getOffsets());
      for (auto [i, name] : llvm::enumerate(launch.getBuffers().getAsRange<FlatSymbolRefAttr>()))
        if (auto life = lives.find(name.getValue().str()); life != lives.end()) {
          buffers[i] = scratch;
          offsets[i] += life->second.offset;
        }
      launch.setBuffersAttr(b.getArrayAttr(buffers));
      launch.setOffsets(offsets);
    });
    remarkFigure("plan-memory", module, "bytes of all scratch buffers", before);
    remarkFigure("plan-memory", module, "bytes of the arena", arena);
  }
};

} // namespace

} // namespace ingot
