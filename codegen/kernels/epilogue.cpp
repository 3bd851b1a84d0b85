#include "codegen/kernels/epilogue.h"

#include "codegen/kernels/cache.h"
#include "codegen/kernels/elementwise.h"
#include "codegen/kernels/heads.h"
#include "codegen/kernels/pieces.h"
#include "codegen/kernels/rotation.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>

using namespace mlir;

namespace ingot {

namespace {

using Kind = LinearArgument::Kind;

Element elementOf(Type type) { return getElementTypeOrSelf(type).isF32() ? Element::F32 : Element::Bf16; }
uint64_t bytesOf(LinearOutput output) { return output == LinearOutput::Bf16 ? 2 : 4; }
// From row to row of a result, in bytes.
uint64_t strideOf(const LinearResult &result) {
  return (result.output == LinearOutput::Logits ? result.columns : paddedRow(result.columns)) * bytesOf(result.output);
}
uint64_t ringOf(llm::AppendOp op) { return static_cast<uint64_t>(llm::lookupState(op, op.getKStateAttr()).getRing()); }
uint64_t widthOf(Type type) { return static_cast<uint64_t>(cast<RankedTensorType>(type).getShape().back()); }

// The parts that `value` of the epilogue is made of, as bits. An append keeps keys and values apart.
uint64_t partsOf(const LinearConfig &c, Value value) {
  if (auto product = dyn_cast<BlockArgument>(value); product && product.getOwner()->getParent() == c.epilogue)
    return uint64_t{1} << product.getArgNumber();
  Operation *op = value.getDefiningOp();
  if (!op || op->getParentRegion() != c.epilogue)
    return 0;
  uint64_t parts = 0;
  for (Value operand : op->getOperands())
    parts |= partsOf(c, operand);
  return parts;
}

} // namespace

std::vector<LinearArgument> regionArguments(Region &region) {
  std::vector<LinearArgument> list;
  auto seen = [&](auto matches) { return llvm::any_of(list, matches); };
  auto addSymbol = [&](Kind kind, FlatSymbolRefAttr symbol, uint64_t ring = 0) {
    if (!seen([&](const LinearArgument &a) { return a.symbol == symbol; }))
      list.push_back({.kind = kind, .symbol = symbol, .ring = ring});
  };
  for (Operation &op : region.front()) {
    for (Value operand : op.getOperands())
      if (operand.getParentRegion() != &region && !seen([&](const LinearArgument &a) { return a.value == operand; }))
        list.push_back({.kind = Kind::Capture, .value = operand});
    if (auto rope = dyn_cast<llm::RopeOp>(op))
      addSymbol(Kind::Vector, rope.getInvFreqAttr());
    if (auto norm = dyn_cast<llm::RmsNormOp>(op))
      addSymbol(Kind::Vector, norm.getWeightAttr());
    if (auto conv = dyn_cast<llm::ShortConvOp>(op)) {
      addSymbol(Kind::Vector, conv.getWeightAttr());
      addSymbol(Kind::State, conv.getStateAttr());
    }
    if (auto append = dyn_cast<llm::AppendOp>(op)) {
      const uint64_t ring = ringOf(append);
      addSymbol(Kind::Cache, append.getKStateAttr(), ring);
      addSymbol(Kind::Cache, append.getVStateAttr(), ring);
    }
  }
  return list;
}

std::vector<LinearArgument> linearArguments(const LinearConfig &c, bool decode) {
  std::vector<LinearArgument> list, inner;
  if (c.epilogue)
    inner = regionArguments(*c.epilogue);
  // Rotations and appends depend on the position, and which rows are padding is said there too.
  if ((c.experts ? c.sequences : !decode) ||
      llvm::any_of(inner, [](const LinearArgument &a) { return static_cast<bool>(a.symbol); }))
    list.push_back({.kind = Kind::Step});
  list.push_back({.kind = Kind::X});
  if (c.norm)
    list.push_back({.kind = Kind::Vector, .symbol = c.norm});
  if (integerDots(c.scheme) && !c.quantize)
    list.push_back({.kind = Kind::XScales});
  if (c.experts)
    list.push_back({.kind = decode ? Kind::Experts : Kind::Groups});
  for (unsigned part = 0; part < c.parts.size(); ++part) {
    list.push_back({.kind = Kind::Weight, .index = part});
    if (c.experts.shared)
      list.push_back({.kind = Kind::Shared, .index = part});
    if (c.parts[part].bias)
      list.push_back({.kind = Kind::Bias, .index = part});
  }
  list.insert(list.end(), inner.begin(), inner.end());
  for (unsigned result = 0; result < c.results.size(); ++result)
    list.push_back({.kind = Kind::Result, .index = result});
  return list;
}

LinearLayout layoutOf(const LinearConfig &c) {
  bool paired = false;
  if (c.epilogue)
    for (Operation &op : c.epilogue->front()) {
      paired |= isa<llm::RopeOp>(op);
      if (isa<llm::AppendOp, llm::YieldOp>(op))
        continue;
      uint64_t parts = 0;
      for (Value operand : op.getOperands())
        parts |= partsOf(c, operand);
      if (llvm::popcount(parts) > 1)
        return LinearLayout::Zipped;
    }
  if (paired)
    return LinearLayout::Paired;
  return c.parts.size() == 1 ? LinearLayout::Single : LinearLayout::Side;
}

bool combinesExperts(const LinearConfig &c) {
  return c.epilogue && llvm::any_of(c.epilogue->front(), llvm::IsaPred<llm::CombineOp>);
}

bool movesState(const LinearConfig &c) {
  return c.epilogue && llvm::any_of(c.epilogue->front(), llvm::IsaPred<llm::ShortConvOp>);
}

std::string whyNotPaired(llm::RopeOp rope) {
  if (rope.getRotated() != static_cast<int64_t>(rope.getHeadDim()))
    return "part of each head is not rotated";
  if (rope.getHeadDim() % 32 != 0 || widthOf(rope.getX().getType()) % 64 != 0)
    return "the halves of a head are not whole tiles of 16 rows";
  return "";
}

std::string whyNoLinear(const LinearConfig &c) {
  LinearLayout layout = layoutOf(c);
  if (layout == LinearLayout::Zipped) {
    if (c.parts.size() != 2)
      return "it combines the products of other than two weights";
    if (c.parts[0].rows != c.parts[1].rows)
      return "it combines products of different widths";
  }
  if (!c.epilogue)
    return "";
  bool combines = combinesExperts(c);
  if (combines && c.parts.size() != 1)
    return "it combines the experts of more than one weight";
  for (Operation &op : c.epilogue->front()) {
    if (auto combine = dyn_cast<llm::CombineOp>(op);
        combines && (combine ? !isa<BlockArgument>(combine.getX()) || partsOf(c, combine.getWeights()) != 0
                             : llvm::is_contained(op.getOperands(), Value(c.epilogue->getArgument(0)))))
      return "it does something with the rows of experts before it combines them";
    if (auto append = dyn_cast<llm::AppendOp>(op)) {
      for (Value operand : append->getOperands())
        if (llvm::popcount(partsOf(c, operand)) != 1)
          return "it appends what is not made of one product";
      if (llm::lookupState(append, append.getKStateAttr()).holdsCodes())
        return "it appends to a cache of codes, whose scales are of whole heads";
    }
    if (auto conv = dyn_cast<llm::ShortConvOp>(op); conv && (layout == LinearLayout::Zipped || c.experts))
      return "it both convolves and combines products";
    if (isa<llm::TileArgmaxOp>(op) && layout != LinearLayout::Single)
      return "it compares the columns of other than one product";
    if (auto gated = dyn_cast<llm::GatedMulOp>(op); gated && gated.isBroadcast() && partsOf(c, gated.getGate()) != 0)
      return "one gate serves a whole row, which many workgroups compute";
    auto rope = dyn_cast<llm::RopeOp>(op);
    if (!rope)
      continue;
    if (layout == LinearLayout::Zipped)
      return "it both rotates and combines products";
    if (rope.getX().getParentBlock() != &c.epilogue->front() || !isa<BlockArgument>(rope.getX()))
      return "it rotates what is not a product itself";
    if (std::string why = whyNotPaired(rope); !why.empty())
      return why;
    for (Operation &other : c.epilogue->front())
      if (auto second = dyn_cast<llm::RopeOp>(other); second && second.getHeadDim() != rope.getHeadDim())
        return "it rotates heads of different sizes";
  }
  return "";
}

Epilogue::Epilogue(KernelBuilder &k, const LinearConfig &c, bool decode, unsigned width, Val firstToken)
    : Epilogue(k, c.epilogue, c.results, linearArguments(c, decode), width, firstToken,
               c.sequences && !c.experts ? static_cast<unsigned>(c.tokens) : 0) {}

Epilogue::Epilogue(KernelBuilder &k, Region *region, std::vector<LinearResult> ofResults,
                   std::vector<LinearArgument> ofKernel, unsigned width, Val firstToken, unsigned rowsOfSequences)
    : k(k), region(region), results(std::move(ofResults)), arguments(std::move(ofKernel)), width(width),
      firstToken(firstToken), sequences(k, rowsOfSequences > 0) {
  const bool pages = llvm::any_of(
      arguments, [](const LinearArgument &argument) { return argument.kind == Kind::Cache && argument.ring == 0; });
  // Before anything is stored, so that loads need not be repeated.
  for (unsigned row = 0; row < rowsOfSequences; ++row) {
    Val of = rowOf({.token = {}, .n = {}, .row = row});
    positions.push_back(sequences.position(of));
    if (pages)
      blocks.push_back(cacheBlock(k, sequences.step(of), positions.back() / 16, /*ring=*/0));
  }
  if (region && arguments.front().kind == Kind::Step && rowsOfSequences == 0) {
    start = k.stepPosition(k.argument(0));
    if (pages && !firstToken)
      blocks.push_back(cacheBlock(k, k.argument(0), start / 16, /*ring=*/0));
  }
  for (auto [i, argument] : llvm::enumerate(arguments)) {
    if (argument.kind == Kind::Capture)
      rows[i] = rowsOf(k.argument(i),
                       paddedRow(widthOf(argument.value.getType())) * bytesOf(elementOf(argument.value.getType())));
    if (argument.kind == Kind::Result)
      rows[i] = rowsOf(k.argument(i), strideOf(results[argument.index]));
  }
}

Val Epilogue::position(const Site &site) {
  if (!positions.empty())
    return positions[site.row];
  return firstToken ? start + firstToken + site.token : start;
}

Val Epilogue::blockOf(const Site &site, uint64_t ring) {
  if (ring == 0 && !blocks.empty())
    return blocks[positions.empty() ? 0 : site.row];
  return cacheBlock(k, k.argument(0), position(site) / 16, ring);
}

Val Epilogue::cacheOf(FlatSymbolRefAttr symbol, const Site &site, uint64_t ring) {
  return ring == 0 ? argument(symbol) : stateOf(symbol, site);
}

Val Epilogue::stateOf(FlatSymbolRefAttr symbol, const Site &site) {
  return positions.empty() ? argument(symbol) : sequences.own(argument(symbol), rowOf(site));
}

// What `body` writes to a sequence is nothing for a row of none.
void Epilogue::unlessPadding(const Site &site, const std::function<void()> &body) {
  if (positions.empty())
    body();
  else
    sequences.unlessPadding(rowOf(site), body);
}

Val Epilogue::rowsOf(Val pointer, uint64_t stride) {
  return firstToken ? k.advance(pointer, k.zext(firstToken, k.i64()) * static_cast<int64_t>(stride)) : pointer;
}

Val Epilogue::argument(Kind kind, unsigned index) const {
  for (auto [i, argument] : llvm::enumerate(arguments))
    if (argument.kind == kind && argument.index == index)
      return k.argument(i);
  return {};
}

Val Epilogue::argument(FlatSymbolRefAttr symbol) const {
  for (auto [i, argument] : llvm::enumerate(arguments))
    if (argument.symbol == symbol)
      return k.argument(i);
  return {};
}

Val Epilogue::vectorAt(FlatSymbolRefAttr symbol, Val i) {
  return k.load(width == 1 ? k.f32() : k.vec(width, k.f32()), argument(symbol), i * 4, width == 1 ? 0 : 16);
}

Val Epilogue::rounded(Val y, Type type) {
  return elementOf(type) == Element::Bf16 ? k.extend(k.round(y, k.bf16())) : y;
}

void Epilogue::finish(llvm::ArrayRef<Site> sites, const std::vector<std::vector<Val>> &products) {
  if (!region) {
    for (auto [part, values] : llvm::enumerate(products))
      for (auto [site, y] : llvm::zip(sites, values))
        storeResult(part, site, y);
    return;
  }
  Values values;
  for (auto [part, at] : llvm::enumerate(products)) {
    Value product = region->getArgument(part);
    if (at.empty())
      continue;
    std::vector<Val> &mine = values[product];
    for (Val y : at)
      mine.push_back(rounded(y, product.getType()));
  }
  for (Operation &op : region->front())
    finishOp(&op, sites, values);
}

// Null when it is made of a product that this workgroup does not compute.
const std::vector<Val> *Epilogue::operand(Value value, llvm::ArrayRef<Site> sites, Values &values) {
  if (auto known = values.find(value); known != values.end())
    return &known->second;
  if (value.getParentRegion() == region)
    return nullptr;
  unsigned index =
      llvm::find_if(arguments, [&](const LinearArgument &a) { return a.value == value; }) - arguments.begin();
  Element element = elementOf(value.getType());
  uint64_t stride = paddedRow(widthOf(value.getType())) * bytesOf(element);
  // One column serves all of a wider product (llm.gated_mul).
  bool broadcast = widthOf(value.getType()) == 1 && widthOf(region->getArgument(0).getType()) != 1;
  unsigned width = broadcast ? 1 : this->width;
  std::vector<Val> loaded;
  for (const Site &site : sites) {
    Val offset = (broadcast ? k.constant(0) : site.n) * bytesOf(element);
    if (firstToken)
      offset = offset + site.token * static_cast<int64_t>(stride);
    Type type = element == Element::F32 ? k.f32() : k.bf16();
    Val y = k.load(width == 1 ? type : k.vec(width, type), rows.at(index), offset, width == 1 ? 0 : 16);
    y = element == Element::F32 ? y : k.extend(y);
    loaded.push_back(broadcast && this->width > 1 ? k.splat(y, this->width) : y);
  }
  return &(values[value] = std::move(loaded));
}

void Epilogue::finishOp(Operation *op, llvm::ArrayRef<Site> sites, Values &values) {
  // `op`'s result from its operands, element by element.
  auto elementwise = [&](const std::function<Val(llvm::ArrayRef<Val>)> &apply) {
    std::vector<std::vector<Val>> operands; // copies: the map may move what it holds when the next operand is loaded
    for (Value value : op->getOperands()) {
      const std::vector<Val> *found = operand(value, sites, values);
      if (!found)
        return;
      operands.push_back(*found);
    }
    std::vector<Val> result;
    result.reserve(sites.size());
    for (size_t site = 0; site < sites.size(); ++site)
      result.push_back(
          rounded(apply(llvm::map_to_vector(operands, [&](const std::vector<Val> &at) { return at[site]; })),
                  op->getResult(0).getType()));
    values[op->getResult(0)] = result;
  };
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](llm::GatedMulOp gated) {
        elementwise(
            [&](llvm::ArrayRef<Val> x) { return applyElementwise(k, elementwiseOf(gated.getFunction()), x[0], x[1]); });
      })
      .Case([&](llm::AddOp) {
        elementwise([&](llvm::ArrayRef<Val> x) { return applyElementwise(k, Elementwise::Add, x[0], x[1]); });
      })
      .Case([&](llm::SoftcapOp cap) {
        elementwise([&](llvm::ArrayRef<Val> x) { return applySoftcap(k, x[0], cap.getCap().convertToFloat()); });
      })
      .Case([&](llm::CombineOp combine) {
        // Slot by slot, at each of them all sites.
        const std::vector<Val> &x = *operand(combine.getX(), sites, values);
        unsigned index =
            llvm::find_if(arguments, [&](const LinearArgument &a) { return a.value == combine.getWeights(); }) -
            arguments.begin();
        std::vector<Val> result(sites.size(), k.constantOf(x.front().type(), 0));
        for (size_t slot = 0; slot < x.size() / sites.size(); ++slot) {
          Val share = k.load(k.f32(), rows.at(index), k.constant(static_cast<int64_t>(slot) * 4));
          for (size_t site = 0; site < sites.size(); ++site)
            result[site] = result[site] + x[slot * sites.size() + site] * share;
        }
        for (Val &y : result)
          y = rounded(y, combine.getResult().getType());
        values[combine.getResult()] = result;
      })
      .Case([&](llm::TileArgmaxOp argmax) {
        const std::vector<Val> *x = operand(argmax.getLogits(), sites, values);
        if (!x)
          return;
        auto [value, column] = bestOfTile(sites.front(), x->front(), widthOf(argmax.getLogits().getType()));
        values[argmax.getValues()] = {value};
        values[argmax.getColumns()] = {column};
      })
      .Case([&](llm::RopeOp rope) {
        const std::vector<Val> *x = operand(rope.getX(), sites, values);
        if (!x)
          return;
        // Site i pairs with the one that lies half of what rotates further; sites beyond that pass through.
        Type type = rope.getResult().getType();
        auto headDim = static_cast<int64_t>(rope.getHeadDim());
        size_t half = sites.size() * static_cast<size_t>(rope.getRotated()) / static_cast<size_t>(headDim) / 2;
        std::vector<Val> result = *x;
        const RotationScale scale = RotationScale::of(rope);
        for (size_t i = 0; i < half; ++i) {
          Val frequency = vectorAt(rope.getInvFreqAttr(), sites[i].n % headDim);
          std::tie(result[i], result[i + half]) =
              Rotation(k, scale, position(sites[i])).rotate((*x)[i], (*x)[i + half], frequency);
        }
        for (size_t i = 2 * half; i < sites.size(); ++i)
          result[i] = Rotation(k, scale, position(sites[i])).pass((*x)[i]);
        for (Val &y : result)
          y = rounded(y, type);
        values[rope.getResult()] = result;
      })
      .Case([&](llm::RmsNormOp norm) {
        const std::vector<Val> *x = operand(norm.getX(), sites, values);
        if (!x)
          return;
        std::vector<Val> gain;
        gain.reserve(sites.size());
        for (const Site &site : sites)
          gain.push_back(vectorAt(norm.getWeightAttr(), site.n % llm::headDimOf(norm)));
        std::vector<Val> result = normHead(k, *x, gain, norm.getEps().convertToFloat());
        for (Val &y : result)
          y = rounded(y, norm.getResult().getType());
        values[norm.getResult()] = result;
      })
      .Case([&](llm::ShortConvOp conv) {
        const std::vector<Val> *x = operand(conv.getX(), sites, values);
        if (!x)
          return;
        auto channels = static_cast<int64_t>(widthOf(conv.getX().getType()));
        const auto taps = llm::lookupWeight(conv, conv.getWeightAttr()).getTensorType().getDimSize(1);
        std::vector<Val> result;
        result.reserve(sites.size());
        for (auto [site, y] : llvm::zip(sites, *x))
          result.push_back(convolve(conv, channels, taps, site, y));
        values[conv.getResult()] = result;
      })
      .Case([&](llm::AppendOp write) {
        uint64_t columns = widthOf(write.getK().getType());
        llm::StateOp cache = llm::lookupState(write, write.getKStateAttr());
        const uint64_t ring = ringOf(write);
        for (auto [value, state, key] :
             {std::tuple{write.getK(), write.getKStateAttr(), true}, {write.getV(), write.getVStateAttr(), false}}) {
          const std::vector<Val> *y = operand(value, sites, values);
          if (!y)
            continue;
          if (cache.holdsCodes()) { // a whole head in 16 lanes: no linear does this
            const CacheLayout layout{.kvHeads = static_cast<uint64_t>(write.getKvHeads()),
                                     .headDim = static_cast<uint64_t>(write.getHeadDim()),
                                     .ring = ring,
                                     .element = cacheElementOf(cache)};
            unlessPadding(sites.front(), [&] {
              storeCodes(k, layout, key, cacheOf(state, sites.front(), ring), blockOf(sites.front(), ring),
                         position(sites.front()), sites.front().n / static_cast<int64_t>(write.getHeadDim()), *y);
            });
            continue;
          }
          unlessPadding(sites.front(), [&] { // a token's, all of them
            for (auto [site, at] : llvm::zip(sites, *y))
              append(state, ring, key, columns, site, at);
          });
        }
      })
      .Case([&](llm::YieldOp yield) {
        for (auto [i, value] : llvm::enumerate(yield.getValues()))
          if (const std::vector<Val> *y = operand(value, sites, values))
            for (auto [site, at] : llvm::zip(sites, *y)) {
              constexpr int64_t kTile = llm::TileArgmaxOp::kTile;
              if (value.getDefiningOp<llm::TileArgmaxOp>()) // one element a tile
                k.ifThen(site.n % kTile == 0, [&] { storeResult(i, {site.token, site.n / kTile}, at); });
              else
                storeResult(i, site, at);
            }
      });
}

// One token of a sequence, so this lane alone has the channel: it reads the rows before, and moves them on.
Val Epilogue::convolve(llm::ShortConvOp conv, int64_t channels, int64_t taps, const Site &site, Val y) {
  Val inside = site.n < channels, mine = k.minI(site.n, k.constant(channels - 1)); // beyond: padding of the product
  Val weights = argument(conv.getWeightAttr()), state = stateOf(conv.getStateAttr(), site);
  std::vector<Val> gains, rows;
  for (int64_t j = 0; j < taps; ++j)
    gains.push_back(k.load(k.f32(), weights, (mine * taps + j) * 4));
  for (int64_t j = 0; j + 1 < taps; ++j)
    rows.push_back(k.load(k.f32(), state, (mine + j * channels) * 4));
  rows.push_back(y);
  unlessPadding(site, [&] {
    k.ifThen(inside, [&] {
      for (int64_t j = 0; j + 1 < taps; ++j)
        k.store(rows[static_cast<size_t>(j) + 1], state, (mine + j * channels) * 4);
    });
  });
  return k.select(inside, applyShortConv(k, gains, rows), k.constantF(0));
}

// In decode the lanes of a tile lie beside each other and have a row each.
std::pair<Val, Val> Epilogue::bestOfTile(const Site &site, Val y, uint64_t columns) {
  using Combine = KernelBuilder::Combine;
  Val candidate = (y == y) & (site.n < static_cast<int64_t>(columns)); // neither NaN nor padding
  y = k.select(candidate, y, k.constantF(-std::numeric_limits<double>::infinity()));
  Val none = k.constant(kNoIndex), largest = k.reduceHalf(y, Combine::MaxF);
  return {largest, k.reduceHalf(k.select(candidate & (y == largest), site.n, none), Combine::MinI)};
}

void Epilogue::storeResult(unsigned result, const Site &site, Val y) {
  unsigned index =
      llvm::find_if(arguments, [&](const LinearArgument &a) { return a.kind == Kind::Result && a.index == result; }) -
      arguments.begin();
  const LinearResult &r = results[result];
  bool exact = r.output == LinearOutput::Logits && r.columns % 64 != 0; // rows without the padding that is computed
  Val offset = site.n * static_cast<int64_t>(bytesOf(r.output));
  if (firstToken)
    offset = offset + site.token * static_cast<int64_t>(strideOf(r));
  Val out = rows.at(index);
  auto columns = static_cast<int64_t>(r.columns);
  if (!exact)
    k.store(r.output == LinearOutput::Bf16 ? k.round(y, k.bf16()) : y, out, offset);
  else if (width == 1)
    k.ifThen(site.n < columns, [&] { k.store(y, out, offset); });
  else
    for (unsigned i = 0; i < width; ++i)
      k.ifThen(site.n + i < columns, [&] { k.store(k.element(y, i), out, offset + i * 4); });
}

// docs/design/layouts.md, "KV cache": blocks of 16 positions; K is tile16 by position, V has the 16 positions of an
// element side by side.
void Epilogue::append(FlatSymbolRefAttr state, uint64_t ring, bool key, uint64_t columns, const Site &site, Val y) {
  Val at = position(site), inBlock = at % 16;
  Val cache = cacheOf(state, site, ring);
  // Lanes may be at different blocks, so the block is part of the lane's own offset, in 64 bits.
  Val block = k.zext(blockOf(site, ring), k.i64()) * static_cast<int64_t>(columns * 32);
  Val bits = k.round(y, k.bf16());
  auto write = [&] {
    if (key)
      k.store(bits, cache, block + k.zext(site.n / 8 * 256 + inBlock * 16 + site.n % 8 * 2, k.i64()));
    else if (width == 1)
      k.store(bits, cache, block + k.zext(site.n * 32 + inBlock * 2, k.i64()));
    else
      for (unsigned i = 0; i < width; ++i)
        k.store(k.element(bits, i), cache, block + k.zext((site.n + i) * 32 + inBlock * 2, k.i64()));
  };
  if (columns % 64 == 0)
    write();
  else // padding is no element of the cache; 8 divides a head
    k.ifThen(site.n < static_cast<int64_t>(columns), write);
}

} // namespace ingot
