// The library trusts its model file: it walks the double-array trie of normalisation rules without bounds and takes
// pieces as well-formed text. `checkModel` establishes what it relies on before it sees the bytes.
#include "runtime/tokenizer/sentence_piece.h"

#include <cmath>
#include <cstring>

#include "absl/status/status.h"

#include "runtime/tokenizer/sentencepiece_library.h"
#include "runtime/tokenizer/sentencepiece_model.pb.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

constexpr std::string_view kAgain = "; the file is damaged, get the tokenizer again";

absl::Status invalid(std::string_view what) {
  return absl::InvalidArgumentError(cat("SentencePiece model: ", what, kAgain));
}

// A map is: u32 bytes of the trie, the trie as u32 units, then the replacement strings, each ended by a zero byte. A
// unit holds a label in its low 8 bits, "a value follows" in bit 8, a jump in bits 10..30 (shifted by 8 more if bit 9
// is set), and bit 31 marks a value. From unit i, byte b leads to unit `i ^ jump ^ b`.
absl::Status checkNormalisation(std::string_view map) {
  if (map.empty())
    return absl::OkStatus();
  uint32_t trieBytes = 0;
  if (map.size() < sizeof(trieBytes))
    return invalid("the normalisation rules are cut short");
  std::memcpy(&trieBytes, map.data(), sizeof(trieBytes));
  map.remove_prefix(sizeof(trieBytes));
  if (trieBytes > map.size() || trieBytes % sizeof(uint32_t) != 0 || trieBytes < 256 * sizeof(uint32_t))
    return invalid(cat("the normalisation trie claims ", trieBytes, " bytes of ", map.size()));
  std::vector<uint32_t> units(trieBytes / sizeof(uint32_t));
  std::memcpy(units.data(), map.data(), trieBytes);
  std::string_view replacements = map.substr(trieBytes);
  if (!replacements.empty() && replacements.back() != '\0')
    return invalid("the last normalisation rule has no end");
  constexpr uint32_t kIsValue = 1U << 31;
  for (size_t i = 0; i < units.size(); ++i) {
    uint32_t unit = units[i];
    if (unit & kIsValue)
      continue;
    size_t jump = static_cast<size_t>(unit >> 10) << ((unit & (1U << 9)) >> 6);
    size_t target = i ^ jump;
    if ((target | 0xFF) >= units.size())
      return invalid(cat("unit ", i, " of the normalisation trie leads to ", target, " of ", units.size()));
    if ((unit & (1U << 8)) && (units[target] & ~kIsValue) >= replacements.size())
      return invalid(cat("unit ", i, " of the normalisation trie names a rule outside the rules"));
  }
  return absl::OkStatus();
}

absl::Status checkModel(const spm::Model &model) {
  if (model.pieces_size() == 0)
    return invalid("it has no pieces");
  size_t bytePieces = 0;
  size_t unknownPieces = 0;
  for (int i = 0; i < model.pieces_size(); ++i) {
    const spm::Model::Piece &piece = model.pieces(i);
    if (piece.piece().empty() || piece.piece().size() > 65536)
      return invalid(cat("piece ", i, " has ", piece.piece().size(), " bytes, expected 1 to 65536"));
    if (piece.piece().find('\0') != std::string::npos || utf8::replaceBroken(piece.piece()) != piece.piece())
      return invalid(cat("piece ", i, " is not UTF-8 text"));
    if (!std::isfinite(piece.score()))
      return invalid(cat("piece ", i, " has a score that is not a number"));
    bytePieces += piece.type() == spm::Model::Piece::BYTE;
    unknownPieces += piece.type() == spm::Model::Piece::UNKNOWN;
  }
  if (unknownPieces != 1)
    return invalid(cat("it has ", unknownPieces, " unknown pieces, expected one"));
  if (bytePieces != 0 && bytePieces != 256)
    return invalid(cat("it has ", bytePieces, " byte pieces, expected none or 256"));
  return checkNormalisation(model.normalizer_spec().precompiled_charsmap());
}

spm::Model::Piece::Type modelType(Piece::Type type) {
  switch (type) {
  case Piece::UNKNOWN:
    return spm::Model::Piece::UNKNOWN;
  case Piece::CONTROL:
    return spm::Model::Piece::CONTROL;
  case Piece::USER_DEFINED:
    return spm::Model::Piece::USER_DEFINED;
  case Piece::BYTE:
    return spm::Model::Piece::BYTE;
  case Piece::UNUSED:
    return spm::Model::Piece::UNUSED;
  default:
    return spm::Model::Piece::NORMAL;
  }
}

Piece::Type pieceType(spm::Model::Piece::Type type) {
  switch (type) {
  case spm::Model::Piece::UNKNOWN:
    return Piece::UNKNOWN;
  case spm::Model::Piece::CONTROL:
    return Piece::CONTROL;
  case spm::Model::Piece::USER_DEFINED:
    return Piece::USER_DEFINED;
  case spm::Model::Piece::BYTE:
    return Piece::BYTE;
  case spm::Model::Piece::UNUSED:
    return Piece::UNUSED;
  default:
    return Piece::NORMAL;
  }
}

spm::Model modelOf(const TokenizerData &data) {
  spm::Model model;
  bool hasBytes = false;
  for (int id = 0; id < data.pieces_size(); ++id) {
    const Piece &piece = data.pieces(id);
    spm::Model::Piece *made = model.add_pieces();
    made->set_piece(piece.text());
    made->set_score(piece.score());
    made->set_type(id == data.unknown() ? spm::Model::Piece::UNKNOWN : modelType(piece.type()));
    hasBytes |= piece.type() == Piece::BYTE;
  }
  spm::TrainerSpec *trainer = model.mutable_trainer_spec();
  trainer->set_model_type(spm::TrainerSpec::BPE);
  trainer->set_byte_fallback(hasBytes);
  auto name = [&](int32_t id, auto setId, auto setPiece) {
    (trainer->*setId)(id);
    if (id >= 0 && id < data.pieces_size())
      *(trainer->*setPiece)() = data.pieces(id).text();
  };
  name(data.unknown(), &spm::TrainerSpec::set_unk_id, &spm::TrainerSpec::mutable_unk_piece);
  name(data.bos(), &spm::TrainerSpec::set_bos_id, &spm::TrainerSpec::mutable_bos_piece);
  name(data.eos(), &spm::TrainerSpec::set_eos_id, &spm::TrainerSpec::mutable_eos_piece);
  spm::NormalizerSpec *normalizer = model.mutable_normalizer_spec();
  normalizer->set_name("identity");
  normalizer->set_add_dummy_prefix(data.add_space_prefix());
  normalizer->set_remove_extra_whitespaces(false);
  normalizer->set_escape_whitespaces(true);
  return model;
}

} // namespace

absl::StatusOr<SentencePiece> SentencePiece::create(const TokenizerData &data) {
  spm::Model model;
  SentencePiece made;
  if (data.sentencepiece_model().empty()) {
    model = modelOf(data);
    made.serialized = model.SerializeAsString();
  } else {
    if (!model.ParseFromString(data.sentencepiece_model()))
      return invalid("the bytes are not a model");
    made.serialized = data.sentencepiece_model();
  }
  if (absl::Status status = checkModel(model); !status.ok())
    return status;
  std::string error;
  made.library = SentencePieceLibrary::load(made.serialized, error);
  if (!made.library)
    return invalid(utf8::replaceBroken(error));
  made.surface = model.trainer_spec().unk_surface();
  made.dummyPrefix = model.normalizer_spec().add_dummy_prefix();
  made.removeExtra = model.normalizer_spec().remove_extra_whitespaces();
  return made;
}

void SentencePiece::encode(std::string_view text, std::vector<int32_t> &ids) const { library->encode(text, ids); }

std::vector<Piece> SentencePiece::pieces() const {
  spm::Model model;
  std::vector<Piece> made;
  if (!model.ParseFromString(serialized))
    return made;
  made.reserve(static_cast<size_t>(model.pieces_size()));
  for (const spm::Model::Piece &piece : model.pieces()) {
    Piece &out = made.emplace_back();
    out.set_text(piece.piece());
    out.set_score(piece.score());
    out.set_type(pieceType(piece.type()));
  }
  return made;
}

} // namespace ingot
