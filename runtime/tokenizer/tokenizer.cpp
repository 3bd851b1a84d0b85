// The two kinds share everything but what happens to plain text between added tokens.
#include "runtime/tokenizer/tokenizer.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "unicode/bytestream.h"
#include "unicode/normalizer2.h"

#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/pre_split.h"
#include "runtime/tokenizer/sentence_piece.h"
#include "runtime/tokenizer/special_tokens.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

std::string normaliseNfc(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2 *nfc = icu::Normalizer2::getNFCInstance(error);
  std::string out;
  if (U_SUCCESS(error)) {
    icu::StringByteSink<std::string> sink(&out);
    nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, error);
  }
  return U_SUCCESS(error) ? out : std::string(text);
}

class ByteLevelTokenizer final : public Tokenizer {
public:
  ByteLevelTokenizer(Bpe merging, PreSplit splitting, bool normalise)
      : bpe(std::move(merging)), preSplit(std::move(splitting)), nfc(normalise) {}

private:
  void encodePlain(std::string_view text, std::vector<int32_t> &ids) const override {
    std::string normalised;
    if (nfc)
      text = normalised = normaliseNfc(text);
    for (std::string_view word : preSplit.split(text))
      bpe.encode(word, ids);
  }
  // As the reference decodes: the byte spelling is undone in added tokens too, if all of it can be.
  std::string bytesOf(int32_t, const Piece &piece) const override {
    return byte_level::bytesOf(piece.text()).value_or(piece.text());
  }

  Bpe bpe;
  PreSplit preSplit;
  bool nfc;
};

class SentencePieceTokenizer final : public Tokenizer {
public:
  SentencePieceTokenizer(SentencePiece loaded, size_t modelSize) : model(std::move(loaded)), ownPieces(modelSize) {}

private:
  void encodePlain(std::string_view text, std::vector<int32_t> &ids) const override { model.encode(text, ids); }
  DecodeRules decodeRules() const override {
    return {true, model.hasDummyPrefix() || model.removesExtraSpaces(), model.removesExtraSpaces()};
  }
  std::string bytesOf(int32_t, const Piece &piece) const override {
    const std::string &text = piece.text();
    if (piece.type() == Piece::BYTE) {
      uint32_t byte = 0;
      if (text.size() == 6 && absl::StartsWith(text, "<0x") && absl::SimpleHexAtoi(text.substr(3, 2), &byte))
        return std::string(1, static_cast<char>(byte));
      return text;
    }
    if (piece.type() == Piece::UNKNOWN)
      return model.unknownSurface();
    return absl::StrReplaceAll(text, {{"\xE2\x96\x81", " "}});
  }
  bool findsItself(int32_t id, const Piece &piece) const override {
    return piece.type() == Piece::USER_DEFINED && static_cast<size_t>(id) < ownPieces;
  }

  SentencePiece model;
  size_t ownPieces;
};

} // namespace

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::create(const TokenizerData &data) {
  std::unique_ptr<Tokenizer> made;
  std::vector<Piece> known;
  if (data.kind() == TokenizerData::BYTE_LEVEL_BPE) {
    absl::StatusOr<Bpe> bpe = Bpe::create(data);
    if (!bpe.ok())
      return bpe.status();
    std::vector<std::string> patterns(data.pre_split().begin(), data.pre_split().end());
    absl::StatusOr<PreSplit> preSplit = PreSplit::create(patterns, data.digits_alone());
    if (!preSplit.ok())
      return preSplit.status();
    made = std::make_unique<ByteLevelTokenizer>(*std::move(bpe), *std::move(preSplit), data.nfc());
  } else if (data.kind() == TokenizerData::SENTENCEPIECE) {
    absl::StatusOr<SentencePiece> model = SentencePiece::create(data);
    if (!model.ok())
      return model.status();
    known = model->pieces();
    size_t modelSize = known.size();
    made = std::make_unique<SentencePieceTokenizer>(*std::move(model), modelSize);
  } else {
    return absl::InvalidArgumentError(
        "this model has no tokenizer: it was compiled from a checkpoint without one. Give "
        "token ids instead of text, or compile from a checkpoint with a tokenizer");
  }
  if (absl::Status status = made->fill(data, known); !status.ok())
    return status;
  return made;
}

// The vocabulary is `data.pieces`; where those end, the SentencePiece model's own (`known`) go on.
absl::Status Tokenizer::fill(const TokenizerData &data, std::span<const Piece> known) {
  special = std::make_unique<SpecialTokens>();
  size_t count = std::max(known.size(), static_cast<size_t>(data.pieces_size()));
  pieces.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    int32_t id = static_cast<int32_t>(i);
    const Piece &piece = id < data.pieces_size() ? data.pieces(id) : known[i];
    pieces.push_back({piece.text(), bytesOf(id, piece), piece.type()});
    idOfText.try_emplace(piece.text(), id);
    bool isControl = piece.type() == Piece::CONTROL;
    if ((isControl || piece.type() == Piece::USER_DEFINED) && !findsItself(id, piece) && !piece.text().empty())
      if (absl::Status status = special->add(piece.text(), id, isControl); !status.ok())
        return status;
  }
  auto checkId = [&](int64_t id, std::string_view name) -> absl::Status {
    if (id < static_cast<int64_t>(count))
      return absl::OkStatus();
    return absl::InvalidArgumentError(cat("tokenizer: ", name, " is id ", id, ", but the vocabulary has ", count,
                                          " pieces; compile the model again"));
  };
  if (absl::Status status = checkId(data.bos(), "bos"); !status.ok())
    return status;
  if (absl::Status status = checkId(data.eos(), "eos"); !status.ok())
    return status;
  bosId = std::max(data.bos(), -1);
  eosId = std::max(data.eos(), -1);
  wantsBos = data.add_bos();
  for (uint32_t id : data.end_of_sequence()) {
    if (absl::Status status = checkId(id, "an end of sequence"); !status.ok())
      return status;
    endIds.insert(static_cast<int32_t>(id));
  }
  if (eosId >= 0)
    endIds.insert(eosId);
  return absl::OkStatus();
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  if (options.addBos && bosId >= 0)
    ids.push_back(bosId);
  std::string whole = utf8::replaceBroken(text);
  special->split(
      whole, options.parseSpecial, [&](std::string_view plain) { encodePlain(plain, ids); },
      [&](int32_t id) { ids.push_back(id); });
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skipSpecial) const {
  TokenStream stream(*this, skipSpecial);
  std::string out;
  for (int32_t id : ids)
    out += stream.push(id);
  return out += stream.finish();
}

std::string_view Tokenizer::pieceBytes(int32_t id) const {
  return id >= 0 && id < size() ? std::string_view(pieces[id].bytes) : std::string_view();
}

std::string_view Tokenizer::pieceText(int32_t id) const {
  return id >= 0 && id < size() ? std::string_view(pieces[id].text) : std::string_view();
}

std::optional<int32_t> Tokenizer::find(std::string_view text) const {
  auto found = idOfText.find(absl::string_view(text.data(), text.size()));
  return found == idOfText.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

bool Tokenizer::isControl(int32_t id) const { return id >= 0 && id < size() && pieces[id].type == Piece::CONTROL; }

TokenStream::TokenStream(const Tokenizer &tokenizer, bool skip, bool continues)
    : owner(tokenizer), rules(tokenizer.decodeRules()), skipSpecial(skip), continuesText(continues),
      atStart(!continues) {}

std::string TokenStream::push(int32_t id) {
  if (skipSpecial && owner.isControl(id))
    return {};
  std::string_view bytes = owner.pieceBytes(id);
  if (atStart && !bytes.empty()) {
    bool isText = owner.pieces[id].type != Piece::BYTE && owner.pieces[id].type != Piece::UNKNOWN;
    if (rules.dropLeadingSpace && isText && bytes.front() == ' ')
      bytes.remove_prefix(1);
    atStart = rules.dropLeadingSpaces && bytes.empty();
  }
  held += bytes;
  return drain(false);
}

std::string TokenStream::finish() {
  atStart = !continuesText;
  return drain(true);
}

std::string TokenStream::drain(bool atEnd) {
  std::string out;
  std::string_view rest = held;
  while (!rest.empty()) {
    utf8::Sequence sequence = utf8::first(rest);
    if (sequence.truncated && !atEnd)
      break;
    size_t used = rules.replaceEachByte && !sequence.valid ? 1 : sequence.bytes;
    out.append(sequence.valid ? rest.substr(0, used) : utf8::kReplacement);
    rest.remove_prefix(used);
  }
  held = std::string(rest);
  return out;
}

} // namespace ingot
