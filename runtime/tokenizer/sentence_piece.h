// SentencePiece vocabularies through the SentencePiece library itself. A checkpoint with a `tokenizer.model` is given
// to the library as it is, after the checks the library does not make; one without (GGUF stores pieces and scores only)
// gets a model written from its pieces: BPE by score, byte fallback if it has byte pieces, no normalisation.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/artifact/tokenizer.pb.h"

namespace ingot {

class SentencePiece {
public:
  // Errors: bytes that are not a SentencePiece model, a model that the library refuses, a vocabulary without an unknown
  // piece or with some but not all 256 byte pieces.
  static absl::StatusOr<SentencePiece> create(const TokenizerData &data);

  // Appends the ids of `text`, with the model's own normalisation and dummy prefix; never a control piece.
  void encode(std::string_view text, std::vector<int32_t> &ids) const;

  // The model's own pieces, first id first, in the form of `TokenizerData.pieces`.
  std::vector<Piece> pieces() const;

  // What an unknown piece reads as.
  const std::string &unknownSurface() const { return surface; }
  // Whether decoding drops the space that encoding puts before the text.
  bool hasDummyPrefix() const { return dummyPrefix; }
  // Whether decoding drops every leading space, not only the first.
  bool removesExtraSpaces() const { return removeExtra; }

private:
  std::shared_ptr<const class SentencePieceLibrary> library;
  std::string serialized;
  std::string surface;
  bool dummyPrefix = true;
  bool removeExtra = false;
};

} // namespace ingot
