// Reads a serialised SentencePiece model by its wire format. The library's own interface does not tell which pieces are
// user-defined, and Debian does not ship the schema; four fields are all that is needed: pieces (1), the trainer's
// special ids (2) and the normaliser's dummy prefix (3).
#include <array>
#include <bit>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/readers.h"

namespace ingot {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr std::array kPieceTypes = {Piece::NORMAL,       Piece::NORMAL, Piece::UNKNOWN, Piece::CONTROL,
                                    Piece::USER_DEFINED, Piece::UNUSED, Piece::BYTE};

// Calls `field(tag)` for each field until the stream ends; `field` returns false on damage.
template <typename Field> bool readMessage(CodedInputStream &stream, const Field &field) {
  while (const uint32_t tag = stream.ReadTag())
    if (!field(tag))
      return false;
  return stream.ConsumedEntireMessage();
}

template <typename Field> bool readNested(CodedInputStream &stream, const Field &field) {
  uint32_t length = 0;
  if (!stream.ReadVarint32(&length) || length > INT32_MAX)
    return false;
  const CodedInputStream::Limit limit = stream.PushLimit(static_cast<int>(length));
  const bool good = readMessage(stream, field) && stream.BytesUntilLimit() == 0;
  stream.PopLimit(limit);
  return good;
}

constexpr uint32_t varintTag(uint32_t number) { return number << 3; }
constexpr uint32_t lengthTag(uint32_t number) { return number << 3 | 2; }
constexpr uint32_t fixed32Tag(uint32_t number) { return number << 3 | 5; }

bool readPiece(CodedInputStream &stream, Piece &piece) {
  return readNested(stream, [&](uint32_t tag) {
    switch (tag) {
    case lengthTag(1): {
      uint32_t size = 0;
      return stream.ReadVarint32(&size) && size <= INT32_MAX &&
             stream.ReadString(piece.mutable_text(), static_cast<int>(size));
    }
    case fixed32Tag(2): {
      uint32_t bits = 0;
      if (!stream.ReadLittleEndian32(&bits))
        return false;
      piece.set_score(std::bit_cast<float>(bits));
      return true;
    }
    case varintTag(3): {
      uint32_t type = 0;
      if (!stream.ReadVarint32(&type) || type >= kPieceTypes.size())
        return false;
      piece.set_type(kPieceTypes[type]);
      return true;
    }
    default:
      return WireFormatLite::SkipField(&stream, tag);
    }
  });
}

} // namespace

absl::Status readSentencePieceModel(const std::string &where, std::string bytes, TokenizerData &tokenizer) {
  CodedInputStream stream(reinterpret_cast<const uint8_t *>(bytes.data()), static_cast<int>(bytes.size()));
  int32_t unknown = 0, bos = 1, eos = 2; // the schema's defaults
  bool dummyPrefix = true;
  const auto readId = [&](int32_t &id) {
    uint64_t value = 0;
    const bool good = stream.ReadVarint64(&value);
    id = static_cast<int32_t>(value);
    return good;
  };
  const bool good = readMessage(stream, [&](uint32_t tag) {
    switch (tag) {
    case lengthTag(1):
      return tokenizer.pieces_size() < static_cast<int>(kMaxVocabulary) && readPiece(stream, *tokenizer.add_pieces());
    case lengthTag(2):
      return readNested(stream, [&](uint32_t field) {
        switch (field) {
        case varintTag(40):
          return readId(unknown);
        case varintTag(41):
          return readId(bos);
        case varintTag(42):
          return readId(eos);
        default:
          return WireFormatLite::SkipField(&stream, field);
        }
      });
    case lengthTag(3):
      return readNested(stream, [&](uint32_t field) {
        if (field != varintTag(3))
          return WireFormatLite::SkipField(&stream, field);
        uint32_t value = 0;
        const bool read = stream.ReadVarint32(&value);
        dummyPrefix = value != 0;
        return read;
      });
    default:
      return WireFormatLite::SkipField(&stream, tag);
    }
  });
  if (!good || tokenizer.pieces_size() == 0)
    return absl::InvalidArgumentError(
        cat(where, ": expected a SentencePiece model; the file is damaged or of another kind"));
  tokenizer.set_kind(TokenizerData::SENTENCEPIECE);
  tokenizer.set_unknown(unknown);
  tokenizer.set_bos(bos);
  tokenizer.set_eos(eos);
  tokenizer.set_add_space_prefix(dummyPrefix);
  tokenizer.set_sentencepiece_model(std::move(bytes));
  return absl::OkStatus();
}

} // namespace ingot
