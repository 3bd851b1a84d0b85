// The toy model's kernels as the emulated device runs them. Work-group and lane come from the instructions' own
// builtins, so that the kernels need no hidden arguments.
#include "toy_kernels.h"

#define TOY_KERNEL __attribute__((reqd_work_group_size(32, 1, 1))) __kernel void
#define LANE ((int)__builtin_amdgcn_workitem_id_x())
#define WORKGROUP_Y ((int)__builtin_amdgcn_workgroup_id_y())

TOY_KERNEL toy_embed(__global const uchar *weights, __global const int *step, __global const int *tokens,
                     __global uint *arena) {
  toyEmbed(weights, step, tokens, arena, WORKGROUP_Y, LANE);
}
TOY_KERNEL toy_scan(__global const int *step, __global const uint *arena, __global uint *state) {
  toyScan(step, arena, state, LANE);
}
TOY_KERNEL toy_logits(__global const int *step, __global const uint *state, __global float *logits) {
  toyLogits(step, state, logits, step[kStepTokens] - 1, LANE);
}
TOY_KERNEL toy_all_logits(__global const int *step, __global const uint *state, __global float *logits) {
  toyLogits(step, state, logits + WORKGROUP_Y * kToyVocabulary, WORKGROUP_Y, LANE);
}
TOY_KERNEL toy_greedy(__global int *step, __global int *tokens, __global const float *logits, __global int *output) {
  toyGreedy(step, tokens, logits, output, LANE);
}
TOY_KERNEL toy_sample(__global int *step, __global int *tokens, __global const float *logits, __global int *output,
                      __global const uint *mask) {
  toySample(step, tokens, logits, output, mask, LANE);
}
TOY_KERNEL toy_embed_rows(__global const uchar *weights, __global const void *tokens, __global uint *arena) {
  toyEmbedRows(weights, tokens, arena, LANE);
}
TOY_KERNEL toy_scan_rows(__global const void *batch, __global const uint *arena, __global uint *states) {
  toyScanRows(batch, arena, states, WORKGROUP_Y, LANE);
}
TOY_KERNEL toy_logits_rows(__global const void *batch, __global const uint *states, __global float *logits) {
  toyLogitsRows(batch, states, logits, WORKGROUP_Y, LANE);
}
TOY_KERNEL toy_greedy_rows(__global const void *batch, __global const void *tokens, __global const float *logits,
                           __global const void *outputs) {
  toyGreedyRows(batch, tokens, logits, outputs, WORKGROUP_Y, LANE);
}
TOY_KERNEL toy_sample_rows(__global const void *batch, __global const void *tokens, __global const float *logits,
                           __global const void *outputs, __global const void *masks) {
  toySampleRows(batch, tokens, logits, outputs, masks, WORKGROUP_Y, LANE);
}
