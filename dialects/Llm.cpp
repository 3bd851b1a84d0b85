// Verifiers, type inference and the scheme's spelling of the `llm` dialect. Every check states the rule of
// dialects/Llm.td that it enforces by saying what was expected and what is there.
#include "dialects/Llm.h"

#include "dialects/LlmChecks.h"
#include "dialects/Sequences.h"

#include <cmath>

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialects/LlmDialect.cpp.inc"
#include "dialects/LlmEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/LlmAttributes.cpp.inc"

using namespace mlir;

namespace ingot::llm {
static ParseResult parseParts(OpAsmParser &parser, ArrayAttr &weights, ArrayAttr &biases);
static void printParts(OpAsmPrinter &printer, LinearOp op, ArrayAttr weights, ArrayAttr biases);
static ParseResult parseEpilogue(OpAsmParser &parser, Region &epilogue);
static void printEpilogue(OpAsmPrinter &printer, Operation *op, Region &epilogue);
static ParseResult parseBody(OpAsmParser &parser, Region &body);
static void printBody(OpAsmPrinter &printer, HeadsOp op, Region &body);
} // namespace ingot::llm

#define GET_OP_CLASSES
#include "dialects/LlmOps.cpp.inc"

namespace ingot::llm {

void LlmDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/LlmAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/LlmOps.cpp.inc"
      >();
}

//===--------------------------------------------------------------------------------------------------------------===//
// Facts
//===--------------------------------------------------------------------------------------------------------------===//

namespace {

constexpr StringLiteral integerFacts[] = {"vocabulary", "context_length", "hidden_size", "layers", "prefill_chunk"};
constexpr StringLiteral stringFacts[] = {"name", "architecture"};

int64_t integerFact(DictionaryAttr facts, StringRef name) {
  auto value = facts.getAs<IntegerAttr>(name);
  return value ? value.getInt() : 0;
}

std::string stringFact(DictionaryAttr facts, StringRef name) {
  auto value = facts.getAs<StringAttr>(name);
  return value ? value.str() : std::string();
}

} // namespace

Facts Facts::of(ModuleOp module) {
  Facts facts;
  auto dictionary = module->getAttrOfType<DictionaryAttr>(LlmDialect::factsName);
  if (!dictionary)
    return facts;
  facts.name = stringFact(dictionary, "name");
  facts.architecture = stringFact(dictionary, "architecture");
  facts.vocabulary = integerFact(dictionary, "vocabulary");
  facts.contextLength = integerFact(dictionary, "context_length");
  facts.hiddenSize = integerFact(dictionary, "hidden_size");
  facts.layers = integerFact(dictionary, "layers");
  facts.prefillChunk = integerFact(dictionary, "prefill_chunk");
  facts.draftLength = integerFact(dictionary, "draft_length");
  if (auto ids = dictionary.getAs<DenseI64ArrayAttr>("end_of_sequence"))
    facts.endOfSequence.assign(ids.asArrayRef().begin(), ids.asArrayRef().end());
  if (auto names = dictionary.getAs<ArrayAttr>("skipped_tensors"))
    for (auto name : names.getAsRange<StringAttr>())
      facts.skippedTensors.push_back(name.str());
  return facts;
}

DictionaryAttr Facts::toAttribute(MLIRContext *context) const {
  Builder builder(context);
  SmallVector<StringRef> skipped(skippedTensors.begin(), skippedTensors.end());
  SmallVector<NamedAttribute> entries{
      builder.getNamedAttr("name", builder.getStringAttr(name)),
      builder.getNamedAttr("architecture", builder.getStringAttr(architecture)),
      builder.getNamedAttr("vocabulary", builder.getI64IntegerAttr(vocabulary)),
      builder.getNamedAttr("context_length", builder.getI64IntegerAttr(contextLength)),
      builder.getNamedAttr("hidden_size", builder.getI64IntegerAttr(hiddenSize)),
      builder.getNamedAttr("layers", builder.getI64IntegerAttr(layers)),
      builder.getNamedAttr("prefill_chunk", builder.getI64IntegerAttr(prefillChunk)),
      builder.getNamedAttr("end_of_sequence", builder.getDenseI64ArrayAttr(endOfSequence)),
      builder.getNamedAttr("skipped_tensors", builder.getStrArrayAttr(skipped)),
  };
  if (draftLength > 0)
    entries.push_back(builder.getNamedAttr("draft_length", builder.getI64IntegerAttr(draftLength)));
  return builder.getDictionaryAttr(entries);
}

LogicalResult LlmDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  if (attribute.getName() == kSequencesName)
    return verifySequences(op, attribute);
  if (attribute.getName() != factsName)
    return op->emitError() << "unknown attribute '" << attribute.getName().getValue() << "'; the dialect has only '"
                           << factsName << "' and '" << kSequencesName << "'";
  if (!isa<ModuleOp>(op))
    return op->emitError() << "'" << factsName << "' belongs to a builtin.module, got " << op->getName();
  auto facts = dyn_cast<DictionaryAttr>(attribute.getValue());
  if (!facts)
    return op->emitError() << "'" << factsName << "' expected a dictionary, got " << attribute.getValue();
  for (StringRef name : integerFacts) {
    auto value = facts.getAs<IntegerAttr>(name);
    if (!value || !value.getType().isInteger(64) || value.getInt() <= 0)
      return op->emitError() << "'" << factsName << "' expected '" << name << "' to be an i64 greater than 0, got "
                             << facts.get(name);
  }
  for (StringRef name : stringFacts)
    if (!facts.getAs<StringAttr>(name))
      return op->emitError() << "'" << factsName << "' expected '" << name << "' to be a string, got "
                             << facts.get(name);
  return success();
}

//===--------------------------------------------------------------------------------------------------------------===//
// Scheme
//===--------------------------------------------------------------------------------------------------------------===//

Attribute SchemeAttr::parse(AsmParser &parser, Type) {
  auto parseEnum = [&](auto symbolize, auto &out, StringRef what) -> ParseResult {
    StringRef keyword;
    SMLoc at = parser.getCurrentLocation();
    if (parser.parseKeyword(&keyword))
      return failure();
    auto value = symbolize(keyword);
    if (!value)
      return parser.emitError(at) << "unknown " << what << " '" << keyword << "'";
    out = *value;
    return success();
  };
  auto storage = Storage::BF16;
  auto activation = Activation::None;
  std::optional<ScaleType> scales;
  bool zeros = false, bands = false;
  int64_t group = 0;
  SMLoc begin = parser.getCurrentLocation();
  if (parser.parseLess() || parseEnum([](StringRef s) { return symbolizeStorage(s); }, storage, "storage"))
    return {};
  while (succeeded(parser.parseOptionalComma())) {
    StringRef key;
    SMLoc at = parser.getCurrentLocation();
    if (parser.parseKeyword(&key))
      return {};
    if (key == "zeros" || key == "bands") {
      (key == "zeros" ? zeros : bands) = true;
      continue;
    }
    if (key != "group" && key != "activation" && key != "scales") {
      parser.emitError(at) << "expected 'group', 'scales', 'zeros', 'bands' or 'activation', got '" << key << "'";
      return {};
    }
    if (parser.parseEqual())
      return {};
    auto type = ScaleType::F32;
    if (key == "group"    ? parser.parseInteger(group)
        : key == "scales" ? parseEnum([](StringRef s) { return symbolizeScaleType(s); }, type, "type of scales")
                          : parseEnum([](StringRef s) { return symbolizeActivation(s); }, activation, "activation"))
      return {};
    if (key == "scales")
      scales = type;
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<SchemeAttr>(begin, parser.getContext(), storage, group, activation,
                                       scales.value_or(usualScales(storage, group)), zeros, bands);
}

void SchemeAttr::print(AsmPrinter &printer) const {
  printer << "<" << stringifyStorage(getStorage());
  if (getGroup() != 0)
    printer << ", group = " << getGroup();
  if (getScales() != usualScales(getStorage(), getGroup()))
    printer << ", scales = " << stringifyScaleType(getScales());
  if (getZeros())
    printer << ", zeros";
  if (getBands())
    printer << ", bands";
  if (getActivation() != Activation::None)
    printer << ", activation = " << stringifyActivation(getActivation());
  printer << ">";
}

std::string SchemeAttr::whyNot(Storage storage, int64_t group, Activation activation, ScaleType scales, bool zeros,
                               bool bands) {
  const bool integers = storage == Storage::Int8 || storage == Storage::Int4;
  const bool scaled = integers || storage == Storage::Fp8;
  const std::string name = stringifyStorage(storage).str(), type = stringifyScaleType(scales).str();
  const std::string elements = std::to_string(group);
  if (group != 0 && (!scaled || group < 32 || group > 1024 || !llvm::isPowerOf2_64(static_cast<uint64_t>(group))))
    return "a group is a power of two from 32 to 1024 elements of int8, int4 or fp8, got group = " + elements + " of " +
           name;
  if (activation == Activation::Int8PerToken &&
      (storage != Storage::Int8 || group != 0 || zeros || scales != ScaleType::F32))
    return "int8_per_token activations need int8 storage with one f32 scale a channel, got " + name +
           " with group = " + elements + ", scales = " + type + (zeros ? " and zeros" : "");
  if (zeros && !integers)
    return "zero points belong to int8 and int4, got " + name;
  if (bands && storage != Storage::Fp8)
    return "bands belong to fp8, got " + name;
  if (!scaled && scales != ScaleType::F32)
    return name + " has no scales, got scales = " + type;
  return "";
}

LogicalResult SchemeAttr::verify(function_ref<InFlightDiagnostic()> emitError, Storage storage, int64_t group,
                                 Activation activation, ScaleType scales, bool zeros, bool bands) {
  std::string why = whyNot(storage, group, activation, scales, zeros, bands);
  return why.empty() ? success() : emitError() << why;
}

ScaleType SchemeAttr::usualScales(Storage storage, int64_t group) {
  return group != 0 && storage != Storage::Fp8 ? ScaleType::F16 : ScaleType::F32;
}

SchemeAttr SchemeAttr::get(MLIRContext *context, Storage storage, int64_t group, bool zeros) {
  return get(context, storage, group, Activation::None, usualScales(storage, group), zeros, /*bands=*/false);
}

unsigned SchemeAttr::bits() const {
  switch (getStorage()) {
  case Storage::F32:
    return 32;
  case Storage::BF16:
    return 16;
  case Storage::Int8:
  case Storage::Fp8:
    return 8;
  case Storage::Int4:
    return 4;
  }
  return 0;
}

std::string SchemeAttr::spelled() const {
  if (quantizesActivations())
    return "w8a8";
  std::string text = stringifyStorage(getStorage()).str();
  if (getGroup() != 0)
    text += "_g" + std::to_string(getGroup());
  if (getZeros())
    text += "_zp";
  if (getBands())
    text += "_bands";
  if (getScales() != usualScales(getStorage(), getGroup()))
    text += "_" + stringifyScaleType(getScales()).str();
  return text;
}

SchemeAttr SchemeAttr::fromSpelling(MLIRContext *context, StringRef text) {
  if (text == "w8a8")
    return get(context, Storage::Int8, 0, Activation::Int8PerToken, ScaleType::F32, false, false);
  StringRef stem = text;
  const bool zeros = stem.consume_back("_zp");
  const bool grouped = stem.contains("_g");
  StringRef group;
  if (grouped)
    std::tie(stem, group) = stem.split("_g");
  int64_t elements = 0;
  auto storage = symbolizeStorage(stem);
  // Zero points of int8 and groups of fp8's blocks come from checkpoints only.
  if (!storage || (grouped && (group.getAsInteger(10, elements) || elements == 0)) ||
      (zeros && *storage != Storage::Int4))
    return {};
  if (!whyNot(*storage, elements, Activation::None, usualScales(*storage, elements), zeros, /*bands=*/false).empty())
    return {};
  return get(context, *storage, elements, zeros);
}

//===--------------------------------------------------------------------------------------------------------------===//
// Symbols
//===--------------------------------------------------------------------------------------------------------------===//

LogicalResult WeightOp::verify() {
  auto type = getTensorType();
  if (!type.hasStaticShape() || !type.getElementType().isF32() || type.getRank() < 1 || type.getRank() > 3)
    return emitOpError() << "expected a static f32 tensor of rank 1 to 3, got " << type;
  if (getSource().has_value() == getValue().has_value())
    return emitOpError() << "expected either 'from' or 'value', got " << (getSource() ? "both" : "neither");
  if (auto value = getValue(); value && value->getShapedType() != type)
    return emitOpError() << "expected 'value' of type " << type << ", got " << value->getShapedType();
  if (auto scheme = getScheme(); scheme && scheme->scaled() && type.getRank() < 2)
    return emitOpError() << "expected a weight of rank 2 or 3 for scheme " << scheme->spelled() << ", got " << type;
  if (auto stored = getStored(); stored && (!stored->scaled() || type.getRank() < 2 || getValue()))
    return emitOpError()
           << "expected 'stored' to be a scheme of codes, of a weight of rank 2 or 3 that a tensor holds, got "
           << stored->spelled() << " of " << type;
  if (getPermuted() && (!getStored() || type.getRank() != 2))
    return emitOpError() << "expected 'permuted' of a weight of rank 2 that has 'stored', got " << type;
  return success();
}

/// Whether a KV cache may be made of it.
static bool holdsKeys(Type element) {
  return element.isBF16() || element.isInteger(8) || isa<Float8E4M3FNType>(element);
}

LogicalResult StateOp::verify() {
  auto type = getTensorType();
  auto multipleOf16 = [&](unsigned i) { return type.getDimSize(i) >= 16 && type.getDimSize(i) % 16 == 0; };
  switch (getKind()) {
  case StateKind::Key:
  case StateKind::Value:
    if (type.getRank() != 3 || !holdsKeys(type.getElementType()) || (!type.isDynamicDim(0) && !multipleOf16(0)) ||
        type.getDimSize(1) < 1 || !multipleOf16(2))
      return emitOpError() << "expected tensor<?xHxDxT> or a ring tensor<RxHxDxT>, T bf16, i8 or f8E4M3FN, H at least "
                           << "1, R and D positive multiples of 16, got " << type;
    return success();
  case StateKind::Conv:
    if (type.getRank() != 2 || !type.getElementType().isF32() || type.getDimSize(0) < 1 || type.getDimSize(0) > 7 ||
        type.getDimSize(1) < 8 || type.getDimSize(1) % 8 != 0)
      return emitOpError() << "expected tensor<TxCxf32>, T from 1 to 7 and C a positive multiple of 8, got " << type;
    return success();
  case StateKind::Recurrent:
    if (type.getRank() != 3 || !type.getElementType().isF32() || type.getDimSize(0) < 1 || !multipleOf16(1) ||
        !multipleOf16(2) || type.getDimSize(1) > 256 || type.getDimSize(2) > 256)
      return emitOpError() << "expected tensor<HxKxVxf32>, H at least 1, K and V multiples of 16 from 16 to 256, got "
                           << type;
    return success();
  }
  return success();
}

std::string labelOf(Operation *op) {
  std::string label;
  op->getLoc()->walk([&](Location location) {
    auto named = dyn_cast<NameLoc>(location);
    if (!named)
      return WalkResult::advance();
    label = named.getName().str();
    return WalkResult::interrupt();
  });
  return label.empty() ? op->getName().getStringRef().str() : label;
}

WeightOp lookupWeight(Operation *user, FlatSymbolRefAttr name) {
  return SymbolTable::lookupNearestSymbolFrom<WeightOp>(user, name);
}

StateOp lookupState(Operation *user, FlatSymbolRefAttr name) {
  return SymbolTable::lookupNearestSymbolFrom<StateOp>(user, name);
}

//===--------------------------------------------------------------------------------------------------------------===//
// Checks that several ops share
//===--------------------------------------------------------------------------------------------------------------===//

LogicalResult checkWeight(Operation *op, SymbolTableCollection &tables, FlatSymbolRefAttr name,
                          ArrayRef<int64_t> shape) {
  auto *symbol = tables.lookupNearestSymbolFrom(op, name);
  auto weight = dyn_cast_or_null<WeightOp>(symbol);
  if (!weight)
    return op->emitOpError() << "expected " << name << " to be an llm.weight, got "
                             << (symbol ? symbol->getName().getStringRef() : StringRef("no such symbol"));
  if (weight.getTensorType().getShape() != shape) {
    auto expected = RankedTensorType::get(shape, Float32Type::get(op->getContext()));
    auto diagnostic = op->emitOpError() << "expected " << name << " to have type " << expected << ", got "
                                        << weight.getTensorType();
    diagnostic.attachNote(weight.getLoc()) << "declared here";
    return diagnostic;
  }
  return success();
}

LogicalResult checkState(Operation *op, SymbolTableCollection &tables, FlatSymbolRefAttr name, StateKind kind,
                         ArrayRef<int64_t> shape) {
  auto *symbol = tables.lookupNearestSymbolFrom(op, name);
  auto state = dyn_cast_or_null<StateOp>(symbol);
  if (!state)
    return op->emitOpError() << "expected " << name << " to be an llm.state, got "
                             << (symbol ? symbol->getName().getStringRef() : StringRef("no such symbol"));
  if (state.getKind() != kind || state.getTensorType().getShape() != shape) {
    const bool cache = kind == StateKind::Key || kind == StateKind::Value;
    Builder b(op->getContext());
    Type element = cache ? Type(b.getBF16Type()) : Type(b.getF32Type());
    if (cache && state.isCache()) // any of those that a cache may have
      element = state.getTensorType().getElementType();
    auto expected = RankedTensorType::get(shape, element);
    auto diagnostic = op->emitOpError() << "expected " << name << " to be a " << stringifyStateKind(kind)
                                        << " state of type " << expected << ", got "
                                        << stringifyStateKind(state.getKind()) << " of type " << state.getTensorType();
    diagnostic.attachNote(state.getLoc()) << "declared here";
    return diagnostic;
  }
  return success();
}

namespace {

ArrayRef<int64_t> shapeOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }
int64_t rowsOf(Value value) { return shapeOf(value).front(); }
int64_t widthOf(Value value) { return shapeOf(value).back(); }

/// Whether the two are the halves of a cache of such heads.
LogicalResult checkCache(Operation *op, SymbolTableCollection &tables, FlatSymbolRefAttr keys, FlatSymbolRefAttr values,
                         uint64_t heads, uint64_t dim) {
  auto state = dyn_cast_or_null<StateOp>(tables.lookupNearestSymbolFrom(op, keys));
  // Keys and values have as many positions, whether they are rings or not.
  const int64_t positions = state && state.getRing() ? state.getRing() : ShapedType::kDynamic;
  const int64_t shape[] = {positions, static_cast<int64_t>(heads), static_cast<int64_t>(dim)};
  if (failed(checkState(op, tables, keys, StateKind::Key, shape)))
    return failure();
  if (failed(checkState(op, tables, values, StateKind::Value, shape)))
    return failure();
  auto other = cast<StateOp>(tables.lookupNearestSymbolFrom(op, values));
  if (state.getTensorType().getElementType() == other.getTensorType().getElementType())
    return success();
  return op->emitOpError() << "expected keys and values of one element type, got " << state.getTensorType() << " and "
                           << other.getTensorType();
}

/// Whether rows of `value` are `heads` heads of `dim`, all positive. Division keeps huge attributes from overflowing.
LogicalResult checkHeads(Operation *op, Value value, int64_t heads, int64_t dim) {
  int64_t width = widthOf(value);
  if (heads > 0 && dim > 0 && width >= 0 && width % dim == 0 && width / dim == heads)
    return success();
  return op->emitOpError() << "expected rows of " << heads << " heads of " << dim << " elements, got "
                           << value.getType();
}

LogicalResult checkSameShape(Operation *op, Value operand, Value result) {
  if (cast<RankedTensorType>(operand.getType()).getShape() == cast<RankedTensorType>(result.getType()).getShape())
    return success();
  return op->emitOpError() << "expected operand and result to have the same shape, got " << operand.getType() << " and "
                           << result.getType();
}

Type elementOf(Value value) { return cast<RankedTensorType>(value.getType()).getElementType(); }

LogicalResult checkEps(Operation *op, const APFloat &eps) {
  float value = eps.convertToFloat();
  if (std::isfinite(value) && value >= 0)
    return success();
  return op->emitOpError() << "expected a finite eps that is not negative, got " << value;
}

/// int8 values of the operand's shape, and a scale a row.
void inferQuantized(Value x, SmallVectorImpl<Type> &types) {
  auto type = cast<RankedTensorType>(x.getType());
  MLIRContext *context = x.getContext();
  types.push_back(type.clone(IntegerType::get(context, 8)));
  types.push_back(RankedTensorType::get(type.getShape().drop_back(), Float32Type::get(context)));
}

/// One token id a row.
void inferTokens(Value logits, SmallVectorImpl<Type> &types) {
  types.push_back(RankedTensorType::get({rowsOf(logits)}, IntegerType::get(logits.getContext(), 32)));
}

} // namespace

//===--------------------------------------------------------------------------------------------------------------===//
// Ops
//===--------------------------------------------------------------------------------------------------------------===//

LogicalResult EmbedOp::verify() {
  if (rowsOf(getTokens()) != rowsOf(getResult()))
    return emitOpError() << "expected tokens and result to have the same first dimension, got " << getTokens().getType()
                         << " and " << getResult().getType();
  return success();
}

LogicalResult EmbedOp::verifySymbolUses(SymbolTableCollection &tables) {
  // The table's height is free: only its width is known here.
  auto table = dyn_cast_or_null<WeightOp>(tables.lookupNearestSymbolFrom(*this, getTableAttr()));
  if (table && table.getTensorType().getRank() == 2)
    return checkWeight(*this, tables, getTableAttr(), {table.getTensorType().getDimSize(0), widthOf(getResult())});
  return checkWeight(*this, tables, getTableAttr(), {1, widthOf(getResult())});
}

LogicalResult RmsNormOp::verify() {
  if (failed(checkSameShape(*this, getX(), getResult())))
    return failure();
  if (auto heads = getHeads()) {
    auto count = static_cast<int64_t>(*heads);
    if (count < 1 || widthOf(getX()) % count != 0)
      return emitOpError() << "expected heads of at least 1 that divide the rows of " << getX().getType() << ", got "
                           << count;
  }
  return checkEps(*this, getEps());
}

LogicalResult RmsNormOp::verifySymbolUses(SymbolTableCollection &tables) {
  return checkWeight(*this, tables, getWeightAttr(), {widthOf(getX()) / static_cast<int64_t>(getHeads().value_or(1))});
}

LogicalResult QuantizeOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                           SmallVectorImpl<Type> &types) {
  inferQuantized(adaptor.getX(), types);
  return success();
}

LogicalResult RmsNormQuantizeOp::verify() {
  SmallVector<Type> expected;
  inferQuantized(getX(), expected);
  expected.push_back(cast<RankedTensorType>(getX().getType()).clone(BFloat16Type::get(getContext())));
  if (llvm::any_of(llvm::zip(getResultTypes(), expected),
                   [](auto types) { return std::get<0>(types) != std::get<1>(types); }))
    return emitOpError() << "expected results of types " << expected << " (the last may be absent), got "
                         << getResultTypes();
  return checkEps(*this, getEps());
}

LogicalResult RmsNormQuantizeOp::verifySymbolUses(SymbolTableCollection &tables) {
  return checkWeight(*this, tables, getWeightAttr(), {widthOf(getX())});
}

void LinearOp::build(OpBuilder &builder, OperationState &state, Type result, Value x, Value scales,
                     FlatSymbolRefAttr weight, FlatSymbolRefAttr bias, Value experts) {
  build(builder, state, TypeRange(result), x, scales, experts, builder.getArrayAttr({weight}),
        builder.getArrayAttr({bias ? Attribute(bias) : builder.getUnitAttr()}));
}

void LinearOp::build(OpBuilder & /*builder*/, OperationState &state, TypeRange results, Value x, Value scales,
                     Value experts, ArrayAttr weights, ArrayAttr biases, bool quantized) {
  state.addOperands(x);
  for (Value optional : {scales, experts})
    if (optional)
      state.addOperands(optional);
  auto &properties = state.getOrAddProperties<Properties>();
  properties.operandSegmentSizes = {1, scales ? 1 : 0, experts ? 1 : 0};
  properties.weights = weights;
  properties.biases = biases;
  if (quantized)
    properties.quantized = UnitAttr::get(state.getContext());
  state.addTypes(results);
  state.addRegion();
}

// `@weight bias @bias, @weight, ...`
static ParseResult parseParts(OpAsmParser &parser, ArrayAttr &weights, ArrayAttr &biases) {
  SmallVector<Attribute> names, vectors;
  auto parsePart = [&]() -> ParseResult {
    FlatSymbolRefAttr weight, bias;
    if (parser.parseAttribute(weight))
      return failure();
    if (succeeded(parser.parseOptionalKeyword("bias")) && parser.parseAttribute(bias))
      return failure();
    names.push_back(weight);
    vectors.push_back(bias ? Attribute(bias) : parser.getBuilder().getUnitAttr());
    return success();
  };
  if (parser.parseCommaSeparatedList(parsePart))
    return failure();
  weights = parser.getBuilder().getArrayAttr(names);
  biases = parser.getBuilder().getArrayAttr(vectors);
  return success();
}

static void printParts(OpAsmPrinter &printer, LinearOp /*op*/, ArrayAttr weights, ArrayAttr biases) {
  llvm::interleaveComma(llvm::zip_equal(weights, biases), printer, [&](auto part) {
    printer << std::get<0>(part);
    if (auto bias = dyn_cast<FlatSymbolRefAttr>(std::get<1>(part)))
      printer << " bias " << bias;
  });
}

// `(%a: type, ...) { ... }`
static ParseResult parseRegionWithArguments(OpAsmParser &parser, Region &region) {
  SmallVector<OpAsmParser::Argument> arguments;
  if (parser.parseArgumentList(arguments, OpAsmParser::Delimiter::Paren, /*allowType=*/true))
    return failure();
  return parser.parseRegion(region, arguments);
}

static void printRegionWithArguments(OpAsmPrinter &printer, Region &region) {
  printer << "(";
  llvm::interleaveComma(region.getArguments(), printer,
                        [&](BlockArgument argument) { printer.printRegionArgument(argument); });
  printer << ") ";
  printer.printRegion(region, /*printEntryBlockArgs=*/false);
}

// `epilogue(%a: type, ...) { ... }`, or nothing.
static ParseResult parseEpilogue(OpAsmParser &parser, Region &epilogue) {
  if (failed(parser.parseOptionalKeyword("epilogue")))
    return success();
  return parseRegionWithArguments(parser, epilogue);
}

static void printEpilogue(OpAsmPrinter &printer, Operation * /*op*/, Region &epilogue) {
  if (epilogue.empty())
    return;
  printer << "epilogue";
  printRegionWithArguments(printer, epilogue);
}

// `body(%a: type, ...) { ... }`
static ParseResult parseBody(OpAsmParser &parser, Region &body) {
  if (parser.parseKeyword("body"))
    return failure();
  return parseRegionWithArguments(parser, body);
}

static void printBody(OpAsmPrinter &printer, HeadsOp /*op*/, Region &body) {
  printer << "body";
  printRegionWithArguments(printer, body);
}

// R11: who has a row a token, and who one a slot.
static LogicalResult verifyExperts(LinearOp op) {
  auto rankOf = [](Value value) { return cast<RankedTensorType>(value.getType()).getRank(); };
  if (!op.getExperts()) {
    if (op.getShared())
      return op.emitOpError("expected 'experts' where an expert is 'shared'");
    for (Value value : op.getResults())
      if (rankOf(value) != 2)
        return op.emitOpError() << "expected results of rank 2 without 'experts', got " << value.getType();
    if (rankOf(op.getX()) != 2)
      return op.emitOpError() << "expected an operand of rank 2 without 'experts', got " << op.getX().getType();
    return success();
  }
  if (rowsOf(op.getExperts()) != rowsOf(op.getX()))
    return op.emitOpError() << "expected experts for each row of " << op.getX().getType() << ", got "
                            << op.getExperts().getType();
  const int64_t slots = op.getSlots();
  if (rankOf(op.getX()) == 3 && shapeOf(op.getX())[1] != slots)
    return op.emitOpError() << "expected a row a token, or one for each of " << slots << " experts, got "
                            << op.getX().getType();
  for (Value product : op.getProducts())
    if (shapeOf(product)[1] != slots)
      return op.emitOpError() << "expected a product for each of " << slots << " experts, got " << product.getType();
  if (op.getShared() && op.getShared()->size() != op.getWeights().size())
    return op.emitOpError() << "expected a 'shared' weight for each of " << op.getWeights().size() << ", got "
                            << op.getShared()->size();
  if (!llvm::all_of(op.getBiases(), llvm::IsaPred<UnitAttr>))
    return op.emitOpError("expected no bias with 'experts'");
  return success();
}

static LogicalResult verifyNorm(LinearOp op) {
  if (op.getNorm().has_value() != op.getEps().has_value())
    return op.emitOpError() << "expected 'norm' and 'eps' together";
  Type element = elementOf(op.getX());
  if (!op.getNorm()) {
    if (element.isF32())
      return op.emitOpError() << "expected a norm for rows of f32, got " << op.getX().getType();
    return success();
  }
  if (element.isInteger(8) || op.getExperts())
    return op.emitOpError() << "expected rows of bf16 or f32, and no experts, for a norm, got " << op.getX().getType();
  return checkEps(op, *op.getEps());
}

LogicalResult LinearOp::verify() {
  if (getWeights().empty() || getBiases().size() != getWeights().size())
    return emitOpError() << "expected at least one weight and a bias (or unit) for each, got " << getWeights().size()
                         << " and " << getBiases().size();
  for (Attribute bias : getBiases())
    if (!isa<FlatSymbolRefAttr, UnitAttr>(bias))
      return emitOpError() << "expected a bias to be a symbol or unit, got " << bias;
  if (getProducts().size() != getPartCount())
    return emitOpError() << "expected a " << (hasEpilogue() ? "block argument" : "result") << " for each of "
                         << getPartCount() << " weights, got " << getProducts().size();
  for (Value product : getProducts()) {
    auto type = dyn_cast<RankedTensorType>(product.getType());
    int64_t rank = getExperts() ? 3 : 2;
    if (!type || type.getRank() != rank || !(type.getElementType().isF32() || type.getElementType().isBF16()))
      return emitOpError() << "expected products to be " << rank << "D tensors of f32 or bf16, got "
                           << product.getType();
  }
  for (ValueRange values : {ValueRange(getProducts()), ValueRange(getResults())})
    for (Value value : values)
      if (rowsOf(getX()) != rowsOf(value))
        return emitOpError() << "expected operand and result to have the same first dimension, got " << getX().getType()
                             << " and " << value.getType();
  bool quantized = elementOf(getX()).isInteger(8);
  if (quantized != static_cast<bool>(getScales()))
    return emitOpError() << (quantized ? "expected 'scales' for int8 rows"
                                       : "expected no 'scales' for rows that are not int8");
  if (quantized && shapeOf(getScales()) != shapeOf(getX()).drop_back())
    return emitOpError() << "expected a scale a row of " << getX().getType() << ", got " << getScales().getType();
  if (quantized && getQuantized())
    return emitOpError() << "expected bf16 rows to be quantized, got " << getX().getType();
  if (failed(verifyExperts(*this)) || failed(verifyNorm(*this)))
    return failure();
  if (!hasEpilogue())
    return success();
  for (Operation &op : getEpilogue().front())
    if (!isa<GatedMulOp, AddOp, SoftcapOp, RopeOp, AppendOp, ShortConvOp, TileArgmaxOp, YieldOp>(op) &&
        !(getExperts() && isa<CombineOp>(op)))
      return emitOpError() << "expected ops in the epilogue to work row by row, got " << op.getName();
  auto yield = dyn_cast<YieldOp>(getEpilogue().front().back());
  if (!yield || yield.getOperandTypes() != getResultTypes())
    return emitOpError() << "expected the epilogue to yield the results' types";
  return success();
}

static bool isPermuted(Operation *op, SymbolTableCollection &tables, FlatSymbolRefAttr name) {
  auto weight = tables.lookupNearestSymbolFrom<WeightOp>(op, name);
  return weight && weight.getPermuted();
}

LogicalResult GatherColumnsOp::verifySymbolUses(SymbolTableCollection &tables) {
  auto weight = tables.lookupNearestSymbolFrom<WeightOp>(*this, getWeightAttr());
  if (!weight || !weight.getPermuted() || widthOf(getX()) != weight.getTensorType().getShape().back())
    return emitOpError() << "expected a permuted weight as wide as " << getX().getType() << ", got " << getWeightAttr();
  return success();
}

LogicalResult LinearOp::verifySymbolUses(SymbolTableCollection &tables) {
  SchemeAttr common;
  if (getNorm() && failed(checkWeight(*this, tables, getNormAttr(), {widthOf(getX())})))
    return failure();
  for (auto [part, product] : llvm::enumerate(getProducts())) {
    FlatSymbolRefAttr name = getPartWeight(part);
    SmallVector<int64_t> shape{widthOf(product), widthOf(getX())};
    if (getExperts()) { // their number is the weight's own
      auto weight = lookupWeight(*this, name);
      shape.insert(shape.begin(), weight ? weight.getTensorType().getShape().front() : 1);
    }
    if (failed(checkWeight(*this, tables, name, shape)))
      return failure();
    auto scheme = cast<WeightOp>(tables.lookupNearestSymbolFrom(*this, name)).getScheme();
    if (auto shared = getShared()) {
      auto other = cast<FlatSymbolRefAttr>((*shared)[part]);
      if (failed(checkWeight(*this, tables, other, {widthOf(product), widthOf(getX())})))
        return failure();
      if (lookupWeight(*this, other).getScheme() != scheme)
        return emitOpError() << "expected " << other << " to have the scheme of " << name;
    }
    if ((getScales() || getQuantized()) && (!scheme || !scheme->quantizesActivations()))
      return emitOpError() << "expected " << name
                           << " to have a scheme with activation = int8_per_token for int8 rows, "
                           << "got " << (scheme ? scheme->spelled() : "no scheme");
    if (scheme && common && *scheme != common)
      return emitOpError() << "expected weights of one scheme, got " << common.spelled() << " and " << scheme->spelled()
                           << " (" << name << ")";
    if (scheme)
      common = *scheme;
    if (getGathered() && (getPartCount() != 1 || getScales() || getNorm() || !isPermuted(*this, tables, name)))
      return emitOpError() << "expected bf16 rows and one permuted weight for 'gathered' columns, got " << getWeights();
    if (FlatSymbolRefAttr bias = getPartBias(part))
      if (failed(checkWeight(*this, tables, bias, {widthOf(product)})))
        return failure();
  }
  return success();
}

LogicalResult RopeOp::verify() {
  int64_t rotated = getRotated();
  if (rotated <= 0 || rotated % 2 != 0 || rotated > static_cast<int64_t>(getHeadDim()))
    return emitOpError() << "expected rotary_dim to be even, positive and at most head_dim " << getHeadDim() << ", got "
                         << rotated;
  if (auto magnitude = getMagnitude(); magnitude && (!magnitude->isFinite() || !(magnitude->convertToFloat() > 0)))
    return emitOpError() << "expected a finite, positive magnitude, got " << magnitude->convertToFloat();
  if (getTemperature().has_value() != getEvery().has_value())
    return emitOpError() << "expected 'temperature' and 'every' together, got only one of them";
  if (auto beta = getTemperature();
      beta && (!beta->isFinite() || beta->convertToFloat() < 0 || static_cast<int64_t>(*getEvery()) < 1))
    return emitOpError() << "expected a finite temperature of at least 0 every positive number of positions, got "
                         << beta->convertToFloat() << " every " << static_cast<int64_t>(*getEvery());
  if (failed(checkSameShape(*this, getX(), getResult())))
    return failure();
  return checkHeads(*this, getX(), getHeads(), getHeadDim());
}

LogicalResult RopeOp::verifySymbolUses(SymbolTableCollection &tables) {
  return checkWeight(*this, tables, getInvFreqAttr(), {getRotated() / 2});
}

LogicalResult AppendOp::verify() {
  if (getK().getType() != getV().getType())
    return emitOpError() << "expected keys and values of one type, got " << getK().getType() << " and "
                         << getV().getType();
  return checkHeads(*this, getK(), getKvHeads(), getHeadDim());
}

LogicalResult AppendOp::verifySymbolUses(SymbolTableCollection &tables) {
  return checkCache(*this, tables, getKStateAttr(), getVStateAttr(), getKvHeads(), getHeadDim());
}

LogicalResult AttentionOp::verify() {
  int64_t kvHeads = getKvHeads();
  if (kvHeads < 1 || static_cast<int64_t>(getHeads()) % kvHeads != 0)
    return emitOpError() << "expected kv_heads to divide heads " << getHeads() << ", got " << kvHeads;
  if (auto window = getWindow(); window && static_cast<int64_t>(*window) < 1)
    return emitOpError() << "expected a window of at least 1, got " << static_cast<int64_t>(*window);
  if (auto first = getFirst(); first && (static_cast<int64_t>(*first) < 1 || static_cast<int64_t>(*first) > 15))
    return emitOpError() << "expected a first position from 1 to 15, got " << static_cast<int64_t>(*first);
  return checkHeads(*this, getQ(), getHeads(), getHeadDim());
}

LogicalResult AttentionOp::verifySymbolUses(SymbolTableCollection &tables) {
  if (failed(checkCache(*this, tables, getKStateAttr(), getVStateAttr(), getKvHeads(), getHeadDim())))
    return failure();
  const int64_t ring = cast<StateOp>(tables.lookupNearestSymbolFrom(*this, getKStateAttr())).getRing();
  if (ring == 0)
    return success();
  int64_t rows = rowsOf(getQ());
  if (ShapedType::isDynamic(rows))
    rows = std::max<int64_t>(1, Facts::of((*this)->getParentOfType<ModuleOp>()).prefillChunk);
  const int64_t window = static_cast<int64_t>(getWindow().value_or(0));
  if (window == 0 || window > ring || rows - 1 > ring - window)
    return emitOpError() << "expected a window W with W + rows - 1 at most the " << ring << " positions of the ring "
                         << getKStateAttr() << ", got " << (window ? "W = " + std::to_string(window) : "none")
                         << " and up to " << rows << " rows";
  return success();
}

int64_t headDimOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, int64_t>(op)
      .Case<RopeOp, AppendOp>([](auto typed) { return static_cast<int64_t>(typed.getHeadDim()); })
      .Case([](RmsNormOp norm) {
        return norm.getHeads() ? widthOf(norm.getX()) / static_cast<int64_t>(*norm.getHeads()) : 0;
      })
      .Default([](Operation *) { return 0; });
}

LogicalResult HeadsOp::verify() {
  if (getBody().getArgumentTypes() != getInputs().getTypes())
    return emitOpError() << "expected a block argument for each operand, of its type";
  for (Value input : getInputs())
    if (rowsOf(input) != rowsOf(getInputs().front()))
      return emitOpError() << "expected operands to have the same first dimension, got "
                           << getInputs().front().getType() << " and " << input.getType();
  int64_t dim = 0;
  for (Operation &op : getBody().front()) {
    if (isa<YieldOp>(op))
      continue;
    int64_t mine = headDimOf(&op);
    if (mine == 0)
      return emitOpError() << "expected norms of heads, rotations and appends in the body, got " << op.getName();
    if (dim != 0 && mine != dim)
      return emitOpError() << "expected heads of one size, got " << dim << " and " << mine;
    dim = mine;
  }
  auto yield = dyn_cast<YieldOp>(getBody().front().back());
  if (dim == 0 || !yield || yield.getOperandTypes() != getResultTypes())
    return emitOpError() << "expected the body to do something and yield the results' types";
  return success();
}

LogicalResult GatedMulOp::verify() {
  if (failed(checkSameShape(*this, getUp(), getResult())))
    return failure();
  if (shapeOf(getGate()).drop_back() == shapeOf(getUp()).drop_back() &&
      (widthOf(getGate()) == widthOf(getUp()) || widthOf(getGate()) == 1))
    return success();
  return emitOpError() << "expected a gate of the shape of " << getUp().getType() << ", or of one column, got "
                       << getGate().getType();
}

LogicalResult AddOp::verifySymbolUses(SymbolTableCollection &tables) {
  return getFactor() ? checkWeight(*this, tables, getFactorAttr(), {1}) : success();
}

LogicalResult ColumnsOp::verify() {
  if (rowsOf(getX()) != rowsOf(getResult()))
    return emitOpError() << "expected operand and result to have the same first dimension, got " << getX().getType()
                         << " and " << getResult().getType();
  const auto from = static_cast<int64_t>(getFrom());
  if (from < 0 || from > widthOf(getX()) || widthOf(getResult()) > widthOf(getX()) - from)
    return emitOpError() << "expected columns of " << getX().getType() << ", got " << widthOf(getResult()) << " from "
                         << from << " on";
  return success();
}

LogicalResult SoftcapOp::verify() {
  float cap = getCap().convertToFloat();
  if (std::isfinite(cap) && cap > 0)
    return success();
  return emitOpError() << "expected a finite cap greater than 0, got " << cap;
}

LogicalResult LastTokenOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                            SmallVectorImpl<Type> &types) {
  auto type = cast<RankedTensorType>(adaptor.getX().getType());
  types.push_back(RankedTensorType::get({1, type.getDimSize(1)}, type.getElementType()));
  return success();
}

LogicalResult ArgmaxOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  inferTokens(adaptor.getLogits(), types);
  return success();
}

LogicalResult SampleOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  inferTokens(adaptor.getLogits(), types);
  return success();
}

LogicalResult TileArgmaxOp::verify() {
  if (rowsOf(getLogits()) != 1)
    return emitOpError() << "expected one row, got " << getLogits().getType();
  return success();
}

LogicalResult TileArgmaxOp::inferReturnTypes(MLIRContext *context, std::optional<Location>, Adaptor adaptor,
                                             SmallVectorImpl<Type> &types) {
  int64_t tiles = llvm::divideCeil(widthOf(adaptor.getLogits()), kTile);
  types.push_back(RankedTensorType::get({1, tiles}, Float32Type::get(context)));
  types.push_back(RankedTensorType::get({1, tiles}, IntegerType::get(context, 32)));
  return success();
}

LogicalResult AdvanceBestOp::verify() {
  if (rowsOf(getValues()) != 1)
    return emitOpError() << "expected one row, got " << getValues().getType();
  return checkSameShape(*this, getValues(), getColumns());
}

LogicalResult AdvanceOp::verify() {
  const int64_t sequences = sequencesOf(*this);
  if (sequences != 0 && rowsOf(getToken()) != sequences)
    return emitOpError() << "expected a token for each of " << sequences << " sequences, got " << getToken().getType();
  if (sequences == 0 && rowsOf(getToken()) != 1)
    return emitOpError() << "expected exactly one token, got " << getToken().getType();
  return success();
}

} // namespace ingot::llm
