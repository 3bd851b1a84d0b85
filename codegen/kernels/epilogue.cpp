#include "codegen/kernels/epilogue.h"

#include "codegen/kernels/pieces.h"
#include "codegen/kernels/rotation.h"
#include "llvm/ADT/TypeSwitch.h"

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
uint64_t widthOf(Type type) { return static_cast<uint64_t>(cast<RankedTensorType>(type).getDimSize(1)); }

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

std::vector<LinearArgument> linearArguments(const LinearConfig &c, bool decode) {
  std::vector<LinearArgument> list, inner;
  bool step = !decode;
  if (c.epilogue) {
    auto seen = [&](auto matches) { return llvm::any_of(inner, matches); };
    auto addSymbol = [&](Kind kind, FlatSymbolRefAttr symbol) {
      step = true;
      if (!seen([&](const LinearArgument &a) { return a.symbol == symbol; }))
        inner.push_back({.kind = kind, .symbol = symbol});
    };
    for (Operation &op : c.epilogue->front()) {
      for (Value operand : op.getOperands())
        if (operand.getParentRegion() != c.epilogue &&
            !seen([&](const LinearArgument &a) { return a.value == operand; }))
          inner.push_back({.kind = Kind::Capture, .value = operand});
      if (auto rope = dyn_cast<llm::RopeOp>(op))
        addSymbol(Kind::Frequencies, rope.getInvFreqAttr());
      if (auto append = dyn_cast<llm::AppendOp>(op)) {
        addSymbol(Kind::Cache, append.getKStateAttr());
        addSymbol(Kind::Cache, append.getVStateAttr());
      }
    }
  }
  if (step)
    list.push_back({.kind = Kind::Step});
  list.push_back({.kind = Kind::X});
  if (integerDots(c.scheme))
    list.push_back({.kind = Kind::XScales});
  for (unsigned part = 0; part < c.parts.size(); ++part) {
    list.push_back({.kind = Kind::Weight, .index = part});
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
  for (Operation &op : c.epilogue->front()) {
    if (auto append = dyn_cast<llm::AppendOp>(op))
      for (Value operand : append->getOperands())
        if (llvm::popcount(partsOf(c, operand)) != 1)
          return "it appends what is not made of one product";
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
    : k(k), c(c), arguments(linearArguments(c, decode)), width(width), firstToken(firstToken) {
  if (c.epilogue && arguments.front().kind == Kind::Step)
    start = k.stepPosition(k.argument(0));
  for (auto [i, argument] : llvm::enumerate(arguments)) {
    if (argument.kind == Kind::Capture)
      rows[i] = rowsOf(k.argument(i),
                       paddedRow(widthOf(argument.value.getType())) * bytesOf(elementOf(argument.value.getType())));
    if (argument.kind == Kind::Result) {
      rows[i] = rowsOf(k.argument(i), strideOf(c.results[argument.index]));
    }
  }
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

Val Epilogue::rounded(Val y, Type type) {
  return elementOf(type) == Element::Bf16 ? k.extend(k.round(y, k.bf16())) : y;
}

void Epilogue::finish(llvm::ArrayRef<Site> sites, const std::vector<std::vector<Val>> &products) {
  if (!c.epilogue) {
    for (auto [part, values] : llvm::enumerate(products))
      for (auto [site, y] : llvm::zip(sites, values))
        storeResult(part, site, y);
    return;
  }
  Values values;
  for (auto [part, at] : llvm::enumerate(products)) {
    Value product = c.epilogue->getArgument(part);
    if (at.empty())
      continue;
    std::vector<Val> &mine = values[product];
    for (Val y : at)
      mine.push_back(rounded(y, product.getType()));
  }
  for (Operation &op : c.epilogue->front())
    finishOp(&op, sites, values);
}

// Null when it is made of a product that this workgroup does not compute.
const std::vector<Val> *Epilogue::operand(Value value, llvm::ArrayRef<Site> sites, Values &values) {
  if (auto known = values.find(value); known != values.end())
    return &known->second;
  if (value.getParentRegion() == c.epilogue)
    return nullptr;
  unsigned index =
      llvm::find_if(arguments, [&](const LinearArgument &a) { return a.value == value; }) - arguments.begin();
  Element element = elementOf(value.getType());
  uint64_t stride = paddedRow(widthOf(value.getType())) * bytesOf(element);
  std::vector<Val> loaded;
  for (const Site &site : sites) {
    Val offset = site.n * bytesOf(element);
    if (firstToken)
      offset = offset + site.token * static_cast<int64_t>(stride);
    Type type = element == Element::F32 ? k.f32() : k.bf16();
    Val y = k.load(width == 1 ? type : k.vec(width, type), rows.at(index), offset, width == 1 ? 0 : 16);
    loaded.push_back(element == Element::F32 ? y : k.extend(y));
  }
  return &(values[value] = std::move(loaded));
}

void Epilogue::finishOp(Operation *op, llvm::ArrayRef<Site> sites, Values &values) {
  auto elementwise = [&](Elementwise kind) {
    // Copies: the map may move what it holds when the second operand is loaded.
    const std::vector<Val> *found = operand(op->getOperand(0), sites, values);
    if (!found)
      return;
    std::vector<Val> a = *found, result;
    const std::vector<Val> *b = operand(op->getOperand(1), sites, values);
    if (!b)
      return;
    for (auto [x, y] : llvm::zip(a, *b))
      result.push_back(rounded(applyElementwise(k, kind, x, y), op->getResult(0).getType()));
    values[op->getResult(0)] = result;
  };
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](llm::SiluMulOp) { elementwise(Elementwise::SiluMul); })
      .Case([&](llm::AddOp) { elementwise(Elementwise::Add); })
      .Case([&](llm::RopeOp rope) {
        const std::vector<Val> *x = operand(rope.getX(), sites, values);
        if (!x)
          return;
        Val inHead = sites[0].n % static_cast<int64_t>(rope.getHeadDim());
        Val frequency = k.load(width == 1 ? k.f32() : k.vec(width, k.f32()), argument(rope.getInvFreqAttr()),
                               inHead * 4, width == 1 ? 0 : 16);
        auto [low, high] = rotatePair(k, (*x)[0], (*x)[1], frequency, k.toFloat(position(sites[0].token)));
        Type type = rope.getResult().getType();
        std::vector<Val> result = {rounded(low, type), rounded(high, type)};
        values[rope.getResult()] = result;
      })
      .Case([&](llm::AppendOp write) {
        uint64_t columns = widthOf(write.getK().getType());
        for (auto [value, state, key] :
             {std::tuple{write.getK(), write.getKStateAttr(), true}, {write.getV(), write.getVStateAttr(), false}})
          if (const std::vector<Val> *y = operand(value, sites, values))
            for (auto [site, at] : llvm::zip(sites, *y))
              append(state, key, columns, site, at);
      })
      .Case([&](llm::YieldOp yield) {
        for (auto [i, value] : llvm::enumerate(yield.getValues()))
          if (const std::vector<Val> *y = operand(value, sites, values))
            for (auto [site, at] : llvm::zip(sites, *y))
              storeResult(i, site, at);
      });
}

void Epilogue::storeResult(unsigned result, const Site &site, Val y) {
  unsigned index =
      llvm::find_if(arguments, [&](const LinearArgument &a) { return a.kind == Kind::Result && a.index == result; }) -
      arguments.begin();
  const LinearResult &r = c.results[result];
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
void Epilogue::append(FlatSymbolRefAttr state, bool key, uint64_t columns, const Site &site, Val y) {
  Val at = position(site.token), inBlock = at % 16;
  Val cache = argument(state);
  // Lanes may be at different blocks, so the block is part of the lane's own offset, in 64 bits.
  Val block = k.zext(at / 16, k.i64()) * static_cast<int64_t>(columns * 32);
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
