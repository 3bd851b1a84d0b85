// What the configurations of Qwen3 and its successors say: sizes, and which block each layer has.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/decoder.h"
#include "models/rope.h"

namespace ingot {

/// What sets the architectures apart that the configuration does not say.
struct QwenFamily {
  const char *modelType;
  bool hybrid;       // Gated DeltaNet layers, gated attention, norms that multiply by 1 + w
  bool experts;      // mixtures of experts
  bool sharedExpert; // beside them one that every token takes
};

/// The row of `modelType`; null for a type of another family.
const QwenFamily *findQwenFamily(const std::string &modelType);

struct QwenLayer {
  bool delta = false;  // Gated DeltaNet in the place of attention
  bool sparse = false; // experts in the place of one MLP
  int64_t window = 0;  // of attention; 0: none
  int64_t first = 0;   // position of the first key
};

struct QwenShape {
  DecoderShape decoder;
  Rotary rotary;
  std::vector<QwenLayer> layers;
  std::optional<QwenLayer> drafter; // the layer of the head that drafts, where the checkpoint has one
  bool gated = false;               // attention's result is multiplied by the sigmoid of a gate that q_proj makes too
  bool attentionBias = false;
  int64_t intermediate = 0; // of an MLP; 0 where no layer has one
  // Gated DeltaNet; 0 where no layer has it.
  int64_t keyHeads = 0, valueHeads = 0, keyDim = 0, valueDim = 0, taps = 0;
  // Experts; 0 where no layer has them.
  int64_t experts = 0, chosen = 0, expertWidth = 0, sharedWidth = 0;
  bool normalise = false; // whether the weights of the chosen experts sum to 1

  int64_t queryWidth() const { return decoder.heads * decoder.headDim; }
  int64_t keyWidth() const { return decoder.kvHeads * decoder.headDim; }
  /// Channels of the convolution: q and k heads, then v heads.
  int64_t deltaWidth() const { return 2 * keyHeads * keyDim + valueHeads * valueDim; }
};

/// Errors stick to `config`: a key that is missing, of another kind, or that asks for what this family's graph does not
/// have.
QwenShape readQwenShape(ConfigReader &config, const Checkpoint &checkpoint, const QwenFamily &family);

} // namespace ingot
