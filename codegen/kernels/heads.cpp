// Kernels that give half a wave a head: a norm of heads alone, and everything that happens to the heads of queries,
// keys and values between their projections and attention, in one launch. Few elements and no reuse: what counts is
// that the heads are read once and the cache is written once.
#include "codegen/kernels/heads.h"

#include "codegen/kernels/cache.h"
#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/pieces.h"
#include "codegen/kernels/sequences.h"

namespace ingot {

using Kind = LinearArgument::Kind;

static constexpr unsigned kWaves = 2;

std::vector<Val> normHead(KernelBuilder &k, const std::vector<Val> &x, const std::vector<Val> &gain, double epsilon) {
  Val sum = k.constantF(0);
  for (Val v : x)
    sum = sum + v * v;
  sum = k.reduceHalf(sum, KernelBuilder::Combine::SumF);
  Val mean = sum * k.constantF(1.0 / static_cast<double>(x.size() * kHeadLanes));
  Val factor = k.constantF(1) / k.sqrt(mean + k.constantF(epsilon));
  std::vector<Val> result;
  result.reserve(x.size());
  for (auto [v, g] : llvm::zip(x, gain))
    result.push_back(v * factor * g);
  return result;
}

std::string whyNotHead(mlir::Operation *op) {
  int64_t dim = llm::headDimOf(op);
  if (dim % static_cast<int64_t>(kHeadLanes) != 0 || dim > kWidestHead)
    return "a head is not made of 16 elements at a time, or of more than 512";
  if (auto rope = llvm::dyn_cast<llm::RopeOp>(op); rope && rope.getRotated() % (2 * kHeadLanes) != 0)
    return "the halves that a rotation pairs are not made of 16 elements at a time";
  return "";
}

// Where this lane's elements of head `head` lie in a row.
static std::vector<Site> sitesOf(KernelBuilder &k, Val head, uint64_t headDim) {
  std::vector<Site> sites;
  sites.reserve(headDim / kHeadLanes);
  for (uint64_t i = 0; i < headDim / kHeadLanes; ++i)
    sites.push_back(
        {k.constant(0), head * static_cast<int64_t>(headDim) + k.lane() % 16 + static_cast<int64_t>(i * kHeadLanes)});
  return sites;
}

// The head that this half-wave counts as its own.
static Val headOfHalf(KernelBuilder &k) { return (k.workgroupX() * kWaves + k.wave()) * 2 + k.laneHalf(); }

static LaunchShape shapeOf(const TargetInfo &target, llvm::StringRef name, uint64_t heads) {
  return {.kernel = name.str(),
          .x = static_cast<unsigned>((heads + 2 * kWaves - 1) / (2 * kWaves)),
          .tokensPerWorkgroup = 1,
          .workgroupSize = kWaves * target.waveSize};
}

// Zeros from `columns` to the end of the row.
static void storePadding(KernelBuilder &k, Element element, Val row, uint64_t columns) {
  uint64_t rest = paddedRow(columns) - columns;
  mlir::Type type = element == Element::F32 ? k.f32() : k.bf16();
  if (rest > 0)
    k.ifThen((k.workgroupX() == 0) & (k.thread() < static_cast<int64_t>(rest)),
             [&] { k.store(k.zero(type), row, (k.thread() + static_cast<int64_t>(columns)) * bytesOf(element)); });
}

LaunchShape emitHeadNorm(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                         const HeadNormConfig &c) {
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Write}, kWaves * target.waveSize);
  Val head = headOfHalf(k), token = k.zext(k.workgroupY(), k.i64());
  auto stride = static_cast<int64_t>(paddedRow(c.heads * c.headDim));
  Val in = k.advance(k.argument(0), token * (stride * bytesOf(c.x))),
      out = k.advance(k.argument(2), token * (stride * bytesOf(c.out)));
  k.ifThen(head < static_cast<int64_t>(c.heads), [&] {
    std::vector<Site> sites = sitesOf(k, head, c.headDim);
    std::vector<Val> x, gain;
    for (auto [i, site] : llvm::enumerate(sites)) {
      Val y = k.load(c.x == Element::F32 ? k.f32() : k.bf16(), in, site.n * bytesOf(c.x));
      x.push_back(c.x == Element::F32 ? y : k.extend(y));
      gain.push_back(k.load(k.f32(), k.argument(1), (k.lane() % 16 + static_cast<int64_t>(i * kHeadLanes)) * 4));
    }
    for (auto [site, y] : llvm::zip(sites, normHead(k, x, gain, c.epsilon)))
      k.store(c.out == Element::F32 ? y : k.round(y, k.bf16()), out, site.n * bytesOf(c.out));
  });
  storePadding(k, c.out, out, c.heads * c.headDim);
  k.finish();
  return shapeOf(target, name, c.heads);
}

// First the heads of the keys, then those of the values.
LaunchShape emitAppendCodes(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            const AppendConfig &c) {
  const Access cache = cacheAccess(c.sequences, Access::Write, c.ring);
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Read, cache, cache},
                  kWaves * target.waveSize);
  const Sequences sequences(k, c.sequences);
  const CacheLayout layout{.kvHeads = c.kvHeads, .headDim = c.headDim, .ring = c.ring, .element = c.element};
  const auto heads = static_cast<int64_t>(c.kvHeads);
  Val token = k.workgroupY(), head = headOfHalf(k), position = sequences.position(token);
  Val row = k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(c.kvHeads * c.headDim) * 2);
  Val block = cacheBlock(k, sequences.step(token), position / 16, c.ring);
  sequences.unlessPadding(token, [&] {
    for (bool keys : {true, false}) {
      Val mine = keys ? head : head - heads;
      k.ifThen((mine >= 0) & (mine < heads), [&] {
        Val in = k.advance(k.argument(keys ? 1 : 2), row);
        std::vector<Val> x;
        for (const Site &site : sitesOf(k, mine, c.headDim))
          x.push_back(k.extend(k.load(k.bf16(), in, site.n * 2)));
        storeCodes(k, layout, keys, cacheOf(sequences, k.argument(keys ? 3 : 4), token, c.ring), block, position, mine,
                   x);
      });
    }
  });
  k.finish();
  LaunchShape shape = shapeOf(target, name, 2 * c.kvHeads);
  shape.bound = "half a wave a head";
  return shape;
}

std::vector<LinearArgument> headsArguments(const HeadsConfig &c) {
  std::vector<LinearArgument> list{{.kind = Kind::Step}};
  for (unsigned i = 0; i < c.body->getNumArguments(); ++i)
    list.push_back({.kind = Kind::X, .index = i});
  llvm::append_range(list, regionArguments(*c.body));
  for (unsigned i = 0; i < c.results.size(); ++i)
    list.push_back({.kind = Kind::Result, .index = i});
  return list;
}

LaunchShape emitHeads(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                      const HeadsConfig &c) {
  std::vector<LinearArgument> arguments = headsArguments(c);
  std::vector<Access> access;
  access.reserve(arguments.size());
  for (const LinearArgument &argument : arguments)
    access.push_back(argument.access(c.sequences));
  KernelBuilder k(module, target, name, access, kWaves * target.waveSize);
  Val token = k.workgroupY(), head = headOfHalf(k);
  Epilogue body(k, c.body, c.results, arguments, /*width=*/1, token, c.sequences ? 1 : 0);
  uint64_t heads = 0;
  for (mlir::BlockArgument operand : c.body->getArguments()) {
    auto type = llvm::cast<mlir::RankedTensorType>(operand.getType());
    Element element = type.getElementType().isF32() ? Element::F32 : Element::Bf16;
    auto columns = static_cast<uint64_t>(type.getDimSize(1));
    Val mine = head - static_cast<int64_t>(heads); // among the heads of this operand
    heads += columns / c.headDim;
    k.ifThen((mine >= 0) & (head < static_cast<int64_t>(heads)), [&] {
      Val row = k.advance(body.argument(Kind::X, operand.getArgNumber()),
                          k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(columns) * bytesOf(element)));
      std::vector<Site> sites = sitesOf(k, mine, c.headDim);
      std::vector<std::vector<Val>> values(c.body->getNumArguments());
      for (const Site &site : sites) {
        Val y = k.load(element == Element::F32 ? k.f32() : k.bf16(), row, site.n * bytesOf(element));
        values[operand.getArgNumber()].push_back(element == Element::F32 ? y : k.extend(y));
      }
      body.finish(sites, values);
    });
  }
  for (auto [i, result] : llvm::enumerate(c.results)) {
    Element element = result.output == LinearOutput::Bf16 ? Element::Bf16 : Element::F32;
    storePadding(k, element,
                 k.advance(body.argument(Kind::Result, static_cast<unsigned>(i)),
                           k.zext(token, k.i64()) * static_cast<int64_t>(paddedRow(result.columns) * bytesOf(element))),
                 result.columns);
  }
  k.finish();
  return shapeOf(target, name, heads);
}

} // namespace ingot
