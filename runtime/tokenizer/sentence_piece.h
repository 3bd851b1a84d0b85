// SentencePiece: normalisation, then BPE by score or the best unigram path, with byte fallback. From a
// `tokenizer.model`, or from pieces and scores alone (what GGUF stores), which are BPE without normalisation. Written
// here because Debian's libsentencepiece exports the symbols of a protobuf of its own, which cannot share a process
// with the protobuf that the manifest needs; the ids equal that library's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

#include "runtime/artifact/tokenizer.pb.h"
#include "runtime/tokenizer/byte_trie.h"
#include "runtime/tokenizer/sentencepiece_normaliser.h"

namespace ingot {

class SentencePiece {
public:
  // Errors: bytes that are not a SentencePiece model, damaged normalisation rules, a model that is neither BPE nor
  // unigram.
  static absl::StatusOr<SentencePiece> create(const TokenizerData &data);

  // Appends the ids of well-formed `text`, with the model's own normalisation and dummy prefix; never a control piece.
  // A character that no piece spells gives its bytes' pieces, or one unknown id for each run of such.
  void encode(std::string_view text, std::vector<int32_t> &ids) const;

  // The model's own pieces, first id first.
  const std::vector<Piece> &pieces() const { return own; }
  // What an unknown piece reads as.
  const std::string &unknownSurface() const { return surface; }
  // Whether decoding drops the space that encoding puts before the text.
  bool hasDummyPrefix() const { return normaliser.addsPrefix(); }
  // Whether decoding drops every leading space, not only the first.
  bool removesExtraSpaces() const { return normaliser.removesExtraSpaces(); }

private:
  struct Part {
    std::string_view text;
    int32_t id; // -1: no piece spells it
  };
  std::vector<Part> mergePairs(std::string_view text) const;
  std::vector<Part> bestPath(std::string_view text) const;
  int32_t find(std::string_view text) const;

  std::vector<Piece> own;
  absl::flat_hash_map<std::string, int32_t> vocabulary; // what text can become: normal, user-defined and unused pieces
  ByteTrie trie;                                        // the same, for unigram
  SentencePieceNormaliser normaliser;
  std::array<int32_t, 256> byteIds{};
  int32_t unknown = -1;
  bool isBpe = true;
  bool byteFallback = false;
  float lowest = 0;
  float highest = 0;
  std::string surface;
};

} // namespace ingot
