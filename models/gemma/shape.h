// What the configurations of Gemma 3 and 4 say: sizes, and which heads and window each layer has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/decoder.h"
#include "models/rope.h"

namespace ingot {

/// What sets the generations apart that the configuration does not say.
struct GemmaFamily {
  const char *modelType;
  bool fourth; // norms multiply by w and not by 1 + w, values are normalised, layers end with a factor
};

/// The row of `modelType`; null for a type of another family.
const GemmaFamily *findGemmaFamily(const std::string &modelType);

struct GemmaLayer {
  HeadShape heads;
  int64_t window = 0;          // 0: the layer sees everything, and rotates by the global frequencies
  int64_t intermediate = 0;    // of the MLP
  bool keysAreValues = false;  // what k_proj makes is normalised in two ways
  std::optional<size_t> cache; // the earlier layer whose keys and values it reads; it has none of its own
};

struct GemmaShape {
  DecoderShape decoder;
  Rotary local, global;
  std::vector<GemmaLayer> layers;
  bool fourth = false, attentionBias = false;
  int64_t experts = 0, chosen = 0, expertWidth = 0; // beside each MLP; 0: none
  int64_t inputWidth = 0;                           // of what each layer gets of the token itself; 0: nothing
  int64_t inputVocabulary = 0;
};

/// `config` with what transformers assumes where it says nothing: releases leave much out.
nlohmann::json completeGemma(const nlohmann::json &config, const GemmaFamily &family);

/// Reads a configuration that is complete. Errors stick to `config`: a key of another kind, or one that asks for what
/// this family's graph does not have.
GemmaShape readGemmaShape(ConfigReader &config, const Checkpoint &checkpoint, const GemmaFamily &family);

} // namespace ingot
