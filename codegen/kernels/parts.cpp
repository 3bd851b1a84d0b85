#include "codegen/kernels/parts.h"

namespace ingot {

using Kind = LinearArgument::Kind;

unsigned workgroupsOf(const LinearConfig &c, LinearLayout layout, unsigned tiles) {
  uint64_t groups = 0;
  for (const LinearPart &part : c.parts) {
    groups += paddedRow(part.rows) / 16 / tiles;
    if (layout == LinearLayout::Zipped)
      break;
  }
  return static_cast<unsigned>(groups);
}

// Half a head in row tiles where `part` is rotated; 0 where it is not.
static int64_t tilesOfHalfHead(const LinearConfig &c, unsigned part) {
  for (mlir::Operation &op : c.epilogue->front())
    if (auto rope = llvm::dyn_cast<llm::RopeOp>(op); rope && rope.getX() == c.epilogue->getArgument(part))
      return static_cast<int64_t>(rope.getHeadDim()) / 32;
  return 0;
}

PartPlaces placeParts(KernelBuilder &k, const LinearConfig &c, LinearLayout layout, const Epilogue &epilogue, Val group,
                      unsigned tiles, Val expert, Val shared) {
  PartPlaces places;
  std::vector<Val> weights;
  for (unsigned i = 0; i < c.parts.size(); ++i) {
    weights.push_back(epilogue.argument(Kind::Weight, i));
    if (expert)
      weights[i] = k.advance(weights[i], k.zext(expert, k.i64()) *
                                             static_cast<int64_t>(expertStride(c.scheme, c.parts[i].rows, c.columns)));
    if (shared)
      weights[i] = k.select(shared, epilogue.argument(Kind::Shared, i), weights[i]);
    places.ownScales.push_back(
        !c.scheme.scaled()
            ? Val()
            : k.advance(weights[i],
                        k.constant64(static_cast<int64_t>(linearScalesOffset(c.scheme, c.parts[i].rows, c.columns)))));
  }
  if (layout == LinearLayout::Single || layout == LinearLayout::Zipped) {
    places.weights = weights;
    places.scales = places.ownScales;
    places.first = group * static_cast<int64_t>(tiles);
    return places;
  }
  int64_t begin = 0;
  Val weight = weights[0], scales = places.ownScales[0], first, distance;
  for (unsigned i = 0; i < c.parts.size(); ++i) {
    auto count = static_cast<int64_t>(paddedRow(c.parts[i].rows) / 16 / tiles);
    Val inPart = group - begin, firstTile = inPart * static_cast<int64_t>(tiles), apart = k.constant(1);
    if (int64_t half = layout == LinearLayout::Paired ? tilesOfHalfHead(c, i) : 0) {
      firstTile = inPart / half * (2 * half) + inPart % half;
      apart = k.constant(half);
    }
    places.mine.push_back((group >= begin) & (group < begin + count));
    if (i == 0) {
      first = firstTile;
      distance = apart;
    } else {
      weight = k.select(places.mine[i], weights[i], weight);
      if (scales)
        scales = k.select(places.mine[i], places.ownScales[i], scales);
      first = k.select(places.mine[i], firstTile, first);
      distance = k.select(places.mine[i], apart, distance);
    }
    begin += count;
  }
  places.weights = {weight};
  places.scales = {scales};
  places.first = first;
  if (layout == LinearLayout::Paired)
    places.distance = distance;
  return places;
}

} // namespace ingot
