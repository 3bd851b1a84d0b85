// The kernels of a toy language model, small enough to work out on paper. Written once for two compilers: OpenCL C
// makes code objects of it for the emulator, C++ makes the functions of the fake HIP library. Step is read as int
// words, in the order of runtime/artifact/step.h.
#ifndef INGOT_RUNTIME_EXECUTOR_TESTING_TOY_KERNELS_H
#define INGOT_RUNTIME_EXECUTOR_TESTING_TOY_KERNELS_H

#ifdef __OPENCL_VERSION__
#define TOY_GLOBAL __global
#else
#define TOY_GLOBAL
#endif

enum { kToyVocabulary = 32, kToyTokensPerWorkgroup = 2 };
enum { kStepTokens = 0, kStepPosition = 1, kStepGenerated = 2, kStepCapacity = 3, kStepSeed = 4 };

// One workgroup for two tokens: looks each up in the weights.
static inline void toyEmbed(TOY_GLOBAL const unsigned char *weights, TOY_GLOBAL const int *step,
                            TOY_GLOBAL const int *tokens, TOY_GLOBAL unsigned *arena, int workgroup, int lane) {
  int token = workgroup * kToyTokensPerWorkgroup + lane;
  if (lane < kToyTokensPerWorkgroup && token < step[kStepTokens])
    arena[token] = weights[tokens[token]];
}

// One lane: each position's state follows from the one before.
static inline void toyScan(TOY_GLOBAL const int *step, TOY_GLOBAL const unsigned *arena, TOY_GLOBAL unsigned *state,
                           int lane) {
  int position = step[kStepPosition];
  if (lane != 0)
    return;
  unsigned value = position > 0 ? state[position - 1] : 0;
  for (int token = 0; token < step[kStepTokens]; ++token) {
    value = value * 5u + arena[token] + 1u;
    state[position + token] = value;
  }
}

// One lane a logit; `token` counts from the chunk's beginning.
static inline void toyLogits(TOY_GLOBAL const int *step, TOY_GLOBAL const unsigned *state, TOY_GLOBAL float *logits,
                             int token, int lane) {
  unsigned value = state[step[kStepPosition] + token];
  logits[lane] = (float)((value * (unsigned)(lane + 1) * 2654435761u >> 16) & 0xffffu);
}

// One lane: the greatest logit's index plus `shift`, and the step advanced.
static inline void toyChoose(TOY_GLOBAL int *step, TOY_GLOBAL int *tokens, TOY_GLOBAL const float *logits,
                             TOY_GLOBAL int *output, int shift, int lane) {
  if (lane != 0)
    return;
  int best = 0;
  for (int index = 1; index < kToyVocabulary; ++index)
    if (logits[index] > logits[best])
      best = index;
  best = (best + shift) & (kToyVocabulary - 1);
  if (step[kStepGenerated] < step[kStepCapacity])
    output[step[kStepGenerated]] = best;
  tokens[0] = best;
  step[kStepPosition] += step[kStepTokens];
  step[kStepTokens] = 1;
  step[kStepGenerated] += 1;
}

// What the toy's `sample` adds to the greedy choice: a pure function of seed and position, as the real one's is.
static inline int toyShift(TOY_GLOBAL const int *step) { return (step[kStepSeed] ^ step[kStepPosition]) & 7; }

#endif
