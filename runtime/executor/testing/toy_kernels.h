// The kernels of a toy language model, small enough to work out on paper. Written once for two compilers: OpenCL C
// makes code objects of it for the emulator, C++ makes the functions of the fake HIP library. Step is read as int
// words, in the order of runtime/artifact/step.h.
#ifndef INGOT_RUNTIME_EXECUTOR_TESTING_TOY_KERNELS_H
#define INGOT_RUNTIME_EXECUTOR_TESTING_TOY_KERNELS_H

#ifdef __OPENCL_C_VERSION__
#define TOY_GLOBAL __global
#else
#define TOY_GLOBAL
#endif

enum { kToyVocabulary = 32, kToyTokensPerWorkgroup = 2, kToyRows = 8, kToyPage = 4 };
enum { kStepTokens = 0, kStepPosition = 1, kStepGenerated = 2, kStepCapacity = 3, kStepSeed = 4 };
enum { kStepTemperature = 6, kStepMasked = 9, kStepPages = 16 };

// One workgroup for two tokens: looks each up in the weights.
static inline void toyEmbed(TOY_GLOBAL const unsigned char *weights, TOY_GLOBAL const int *step,
                            TOY_GLOBAL const int *tokens, TOY_GLOBAL unsigned *arena, int workgroup, int lane) {
  int token = workgroup * kToyTokensPerWorkgroup + lane;
  if (lane < kToyTokensPerWorkgroup && token < step[kStepTokens])
    arena[token] = weights[tokens[token]];
}

// Where a position's state lies: in a page that the table behind the Step names.
static inline int toyPlace(TOY_GLOBAL const int *step, int position) {
  return step[kStepPages + position / kToyPage] * kToyPage + position % kToyPage;
}

// One lane: each position's state follows from the one before.
static inline void toyScan(TOY_GLOBAL const int *step, TOY_GLOBAL const unsigned *arena, TOY_GLOBAL unsigned *state,
                           int lane) {
  int position = step[kStepPosition];
  if (lane != 0)
    return;
  unsigned value = position > 0 ? state[toyPlace(step, position - 1)] : 0;
  for (int token = 0; token < step[kStepTokens]; ++token) {
    value = value * 5u + arena[token] + 1u;
    state[toyPlace(step, position + token)] = value;
  }
}

// One lane a logit; `token` counts from the chunk's beginning.
static inline void toyLogits(TOY_GLOBAL const int *step, TOY_GLOBAL const unsigned *state, TOY_GLOBAL float *logits,
                             int token, int lane) {
  unsigned value = state[toyPlace(step, step[kStepPosition] + token)];
  logits[lane] = (float)((value * (unsigned)(lane + 1) * 2654435761u >> 16) & 0xffffu);
}

// One lane: the index of the greatest logit whose bit in `mask` is set, the next but `shift` of such indices after it,
// and the step advanced.
static inline void toyChoose(TOY_GLOBAL int *step, TOY_GLOBAL int *tokens, TOY_GLOBAL const float *logits,
                             TOY_GLOBAL int *output, unsigned mask, int shift, int lane) {
  if (lane != 0)
    return;
  int best = -1;
  for (int index = 0; index < kToyVocabulary; ++index)
    if ((mask >> index & 1u) && (best < 0 || logits[index] > logits[best]))
      best = index;
  for (; shift > 0; --shift)
    do
      best = (best + 1) & (kToyVocabulary - 1);
    while (!(mask >> best & 1u));
  if (step[kStepGenerated] < step[kStepCapacity])
    output[step[kStepGenerated]] = best;
  tokens[0] = best;
  step[kStepPosition] += step[kStepTokens];
  step[kStepTokens] = 1;
  step[kStepGenerated] += 1;
}

// The choice of `greedy`, which knows no mask, and that of `sample`: what the latter adds is a pure function of seed
// and position, as the real one's is, and nothing at temperature 0.
static inline void toyGreedy(TOY_GLOBAL int *step, TOY_GLOBAL int *tokens, TOY_GLOBAL const float *logits,
                             TOY_GLOBAL int *output, int lane) {
  toyChoose(step, tokens, logits, output, ~0u, 0, lane);
}
static inline void toySample(TOY_GLOBAL int *step, TOY_GLOBAL int *tokens, TOY_GLOBAL const float *logits,
                             TOY_GLOBAL int *output, TOY_GLOBAL const unsigned *mask, int lane) {
  int shift = step[kStepTemperature] != 0 ? (step[kStepSeed] ^ step[kStepPosition]) & 7 : 0;
  toyChoose(step, tokens, logits, output, step[kStepMasked] ? *mask : ~0u, shift, lane);
}

// Steps of several sequences: `batch` is struct Batch of runtime/artifact/batch.h, a table has the addresses of the
// sequences' copies of one buffer; states are pages of all of them. What is read is read for rows of padding too, as
// real kernels do.
static inline int toyRows(TOY_GLOBAL const void *batch) { return *(TOY_GLOBAL const int *)batch; }
static inline TOY_GLOBAL int *toyIntsOf(TOY_GLOBAL const void *table, int row) {
  return ((TOY_GLOBAL int *TOY_GLOBAL const *)table)[row];
}
static inline TOY_GLOBAL int *toyStepOf(TOY_GLOBAL const void *batch, int row) { return toyIntsOf(batch, 8 + row); }

// One workgroup, one lane a row.
static inline void toyEmbedRows(TOY_GLOBAL const unsigned char *weights, TOY_GLOBAL const void *tokens,
                                TOY_GLOBAL unsigned *arena, int lane) {
  if (lane < kToyRows)
    arena[lane] = weights[toyIntsOf(tokens, lane)[0]];
}

// One workgroup a row.
static inline void toyScanRows(TOY_GLOBAL const void *batch, TOY_GLOBAL const unsigned *arena,
                               TOY_GLOBAL unsigned *states, int row, int lane) {
  if (row < toyRows(batch))
    toyScan(toyStepOf(batch, row), arena + row, states, lane);
}

static inline void toyLogitsRows(TOY_GLOBAL const void *batch, TOY_GLOBAL const unsigned *states,
                                 TOY_GLOBAL float *logits, int row, int lane) {
  toyLogits(toyStepOf(batch, row), states, logits + row * kToyVocabulary, 0, lane);
}

static inline void toyGreedyRows(TOY_GLOBAL const void *batch, TOY_GLOBAL const void *tokens,
                                 TOY_GLOBAL const float *logits, TOY_GLOBAL const void *outputs, int row, int lane) {
  if (row < toyRows(batch))
    toyGreedy(toyStepOf(batch, row), toyIntsOf(tokens, row), logits + row * kToyVocabulary, toyIntsOf(outputs, row),
              lane);
}
static inline void toySampleRows(TOY_GLOBAL const void *batch, TOY_GLOBAL const void *tokens,
                                 TOY_GLOBAL const float *logits, TOY_GLOBAL const void *outputs,
                                 TOY_GLOBAL const void *masks, int row, int lane) {
  if (row < toyRows(batch))
    toySample(toyStepOf(batch, row), toyIntsOf(tokens, row), logits + row * kToyVocabulary, toyIntsOf(outputs, row),
              (TOY_GLOBAL const unsigned *)toyIntsOf(masks, row), lane);
}

#endif
