// Text to token ids and back, as the checkpoint's own tokenizer does it: byte-level BPE identical to Hugging Face's
// tokenizers, SentencePiece identical to the sentencepiece library. Which one, and with what vocabulary, is data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

struct EncodeOptions {
  // Put the beginning-of-sequence id first, if the model has one. `Tokenizer::addsBos` says whether a raw prompt wants
  // it; a rendered chat template brings its own.
  bool addBos = false;
  // Read control tokens ("<|im_start|>") that are spelled out in the text as those tokens. Off for text that a stranger
  // wrote; on for a rendered chat template. User-defined (not control) added tokens are always read.
  bool parseSpecial = false;
};

class Tokenizer {
public:
  // Errors (InvalidArgument, Unimplemented): no tokenizer (kind NONE), an id outside the vocabulary, a merge or pattern
  // that cannot be used; the message says which.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> create(const TokenizerData &data);
  virtual ~Tokenizer();

  // Never fails: broken UTF-8 is read as U+FFFD. Without `parseSpecial` no control id is produced (but for bos with
  // `addBos`). Thread-safe.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // The text of `ids`, well-formed UTF-8: broken bytes become U+FFFD. Ids outside the vocabulary give nothing.
  // `skipSpecial` leaves control tokens out; otherwise they are spelled out.
  std::string decode(std::span<const int32_t> ids, bool skipSpecial) const;

  // The bytes token `id` stands for, maybe a part of a character: empty for an id outside the vocabulary. Control
  // tokens give their spelling. A SentencePiece space is a space, also at the beginning of a text.
  std::string_view pieceBytes(int32_t id) const;
  // As the vocabulary stores it.
  std::string_view pieceText(int32_t id) const;
  // The id of the piece stored as `text`, control tokens included.
  std::optional<int32_t> find(std::string_view text) const;

  bool isControl(int32_t id) const;
  bool isEndOfSequence(int32_t id) const { return endIds.contains(id); }
  const absl::flat_hash_set<int32_t> &endOfSequence() const { return endIds; }
  int32_t size() const { return static_cast<int32_t>(pieces.size()); }
  int32_t bos() const { return bosId; } // -1: none
  int32_t eos() const { return eosId; } // -1: none
  // Whether the model expects bos before a raw prompt.
  bool addsBos() const { return wantsBos && bosId >= 0; }

protected:
  Tokenizer();

  // How SentencePiece text differs from its bytes when decoded; neutral for byte-level BPE.
  struct DecodeRules {
    bool replaceEachByte = false;   // a broken sequence gives one U+FFFD a byte
    bool dropLeadingSpace = false;  // the dummy prefix
    bool dropLeadingSpaces = false; // all of them
  };

  // `text` is well-formed, holds no added token and is not empty.
  virtual void encodePlain(std::string_view text, std::vector<int32_t> &ids) const = 0;

private:
  friend class TokenStream;
  struct Entry {
    std::string text;
    std::string bytes;
    Piece::Type type = Piece::NORMAL;
  };
  absl::Status fill(const TokenizerData &data, std::span<const Piece> known);
  virtual DecodeRules decodeRules() const { return {}; }
  virtual std::string bytesOf(int32_t id, const Piece &piece) const = 0;
  // Whether an added token of the vocabulary is found by encodePlain itself.
  virtual bool findsItself(int32_t, const Piece &) const { return false; }

  std::vector<Entry> pieces;
  absl::flat_hash_map<std::string, int32_t> idOfText;
  std::unique_ptr<class SpecialTokens> special;
  absl::flat_hash_set<int32_t> endIds;
  int32_t bosId = -1;
  int32_t eosId = -1;
  bool wantsBos = false;
};

// Decodes a reply token by token. The concatenation of all push() and the finish() is what decode() of all ids gives;
// each push() returns only whole characters, so that what it returns can be printed at once.
class TokenStream {
public:
  // `continuesText`: the reply goes on with text that was shown before (a raw prompt), so that SentencePiece's leading
  // space stays. The tokenizer must outlive the stream.
  explicit TokenStream(const Tokenizer &tokenizer, bool skipSpecial = true, bool continuesText = false);
  std::string push(int32_t id);
  // What was held back, as U+FFFD; the stream begins again.
  std::string finish();

private:
  std::string drain(bool atEnd);

  const Tokenizer &owner;
  Tokenizer::DecodeRules rules;
  bool skipSpecial;
  bool continuesText;
  bool atStart;
  std::string held;
};

} // namespace ingot
