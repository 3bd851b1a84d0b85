// Whole kernels for the emulator's tests, compiled by clang at build time for both chips. Together they use what compiled
// model code uses: hidden arguments, LDS and barriers, dots, cross-lane sums, divisions, scratch, atomics, matrices.

#define LANES 128

__attribute__((reqd_work_group_size(64, 1, 1))) kernel void vector_add_fixed(global const float *a, global const float *b,
                                                                              global float *c) {
  uint i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
  c[i] = a[i] + b[i];
}

__attribute__((reqd_work_group_size(32, 1, 1))) kernel void gather(global const uint *in, global const uint *at,
                                                                    global uint *out) {
  uint i = __builtin_amdgcn_workitem_id_x();
  out[i] = in[at[i]];
}

kernel void vector_add(global const float *a, global const float *b, global float *c, uint n) {
  // The group size comes from the hidden arguments.
  uint i = __builtin_amdgcn_workgroup_id_x() * __builtin_amdgcn_workgroup_size_x() + __builtin_amdgcn_workitem_id_x();
  if (i < n)
    c[i] = a[i] + b[i];
}

// Every lane of a 3-D launch writes its own coordinates at its linear place.
kernel void coordinates(global uint *out) {
  uint sx = __builtin_amdgcn_workgroup_size_x(), sy = __builtin_amdgcn_workgroup_size_y(),
       sz = __builtin_amdgcn_workgroup_size_z();
  constant uint *hidden = (constant uint *)__builtin_amdgcn_implicitarg_ptr();
  uint x = __builtin_amdgcn_workgroup_id_x() * sx + __builtin_amdgcn_workitem_id_x();
  uint y = __builtin_amdgcn_workgroup_id_y() * sy + __builtin_amdgcn_workitem_id_y();
  uint z = __builtin_amdgcn_workgroup_id_z() * sz + __builtin_amdgcn_workitem_id_z();
  uint nx = hidden[0] * sx, ny = hidden[1] * sy;
  out[(z * ny + y) * nx + x] = x | y << 10 | z << 20;
}

// One row a workgroup: int8 dots, a sum in LDS over four waves, a scale.
__attribute__((reqd_work_group_size(LANES, 1, 1))) kernel void gemv_int8(global const int4 *w, global const int4 *x,
                                                                          global const float *scales, global float *y,
                                                                          uint k) {
  local int partial[LANES];
  uint row = __builtin_amdgcn_workgroup_id_x(), lane = __builtin_amdgcn_workitem_id_x(), quads = k / 16;
  int sum = 0;
  for (uint i = lane; i < quads; i += LANES) {
    int4 a = w[row * quads + i], b = x[i];
    sum = __builtin_amdgcn_sudot4(true, a.x, true, b.x, sum, false);
    sum = __builtin_amdgcn_sudot4(true, a.y, true, b.y, sum, false);
    sum = __builtin_amdgcn_sudot4(true, a.z, true, b.z, sum, false);
    sum = __builtin_amdgcn_sudot4(true, a.w, true, b.w, sum, false);
  }
  partial[lane] = sum;
  for (uint half_ = LANES / 2; half_ > 0; half_ /= 2) {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
    if (lane < half_)
      partial[lane] += partial[lane + half_];
  }
  if (lane == 0)
    y[row] = (float)partial[0] * scales[row];
}

// Sum or maximum over one wave by DPP and permlane.
static float across(float v, bool largest) {
#define STEP(other)                                                                                                            \
  {                                                                                                                            \
    float o = other;                                                                                                           \
    v = largest ? __builtin_fmaxf(v, o) : v + o;                                                                               \
  }
#define DPP(control) __builtin_bit_cast(float, __builtin_amdgcn_update_dpp(0, __builtin_bit_cast(int, v), control, 15, 15, true))
  STEP(DPP(0x161))
  STEP(DPP(0x162))
  STEP(DPP(0x164))
  STEP(DPP(0x168))
  STEP(__builtin_bit_cast(float, __builtin_amdgcn_permlanex16(0, __builtin_bit_cast(int, v), 0x76543210, 0xfedcba98, false,
                                                              false)))
  return v;
}

// One row a wave; the row is any length.
__attribute__((reqd_work_group_size(32, 1, 1))) kernel void softmax(global const float *in, global float *out, uint n) {
  uint row = __builtin_amdgcn_workgroup_id_x(), lane = __builtin_amdgcn_workitem_id_x();
  float largest = -__builtin_inff(), sum = 0;
  for (uint i = lane; i < n; i += 32)
    largest = __builtin_fmaxf(largest, in[row * n + i]);
  largest = across(largest, true);
  for (uint i = lane; i < n; i += 32)
    sum += __builtin_amdgcn_exp2f((in[row * n + i] - largest) * 1.44269504f);
  sum = across(sum, false);
  for (uint i = lane; i < n; i += 32)
    out[row * n + i] = __builtin_amdgcn_exp2f((in[row * n + i] - largest) * 1.44269504f) / sum;
}

__attribute__((reqd_work_group_size(32, 1, 1))) kernel void rms_norm(global const float *in, global const float *weight,
                                                                      global float *out, uint n, float epsilon) {
  uint row = __builtin_amdgcn_workgroup_id_x(), lane = __builtin_amdgcn_workitem_id_x();
  float sum = 0;
  for (uint i = lane; i < n; i += 32)
    sum += in[row * n + i] * in[row * n + i];
  float scale = 1.0f / __builtin_sqrtf(across(sum, false) / (float)n + epsilon);
  for (uint i = lane; i < n; i += 32)
    out[row * n + i] = in[row * n + i] * scale * weight[i];
}

// A private array with an index only known at run time lives in scratch.
kernel void scratch_sort(global const int *in, global int *out, uint count) {
  int values[120]; // too large for registers
  uint at = __builtin_amdgcn_workitem_id_x() * count;
  for (uint i = 0; i < count; ++i) {
    int v = in[at + i];
    uint j = i;
    for (; j > 0 && values[j - 1] > v; --j)
      values[j] = values[j - 1];
    values[j] = v;
  }
  for (uint i = 0; i < count; ++i)
    out[at + i] = values[i];
}

// A histogram in LDS, added to a global one.
__attribute__((reqd_work_group_size(LANES, 1, 1))) kernel void histogram(global const uchar *in,
                                                                          volatile global atomic_uint *bins) {
  local atomic_uint mine[16];
  uint lane = __builtin_amdgcn_workitem_id_x();
  if (lane < 16)
    __opencl_atomic_store(&mine[lane], 0, memory_order_relaxed, memory_scope_work_group);
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  __opencl_atomic_fetch_add(&mine[in[__builtin_amdgcn_workgroup_id_x() * LANES + lane] & 15], 1, memory_order_relaxed,
                            memory_scope_work_group);
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  if (lane < 16)
    __opencl_atomic_fetch_add(&bins[lane], __opencl_atomic_load(&mine[lane], memory_order_relaxed, memory_scope_work_group),
                              memory_order_relaxed, memory_scope_device);
}

// A global variable, and a pointer to it that the loader must relocate.
// Visible, so that the host finds both by name.
__attribute__((visibility("protected"))) global int table[4] = {10, 20, 30, 40};
__attribute__((visibility("protected"))) global int *global middle = &table[2];
kernel void through_pointer(global int *out) { out[0] = *middle + table[0]; }

// C = A B^T, one 16 x 16 tile a wave: A and B are [rows][k] f16, C is f32. The two generations lay fragments out differently.
typedef half half8 __attribute__((ext_vector_type(8)));
typedef half half16 __attribute__((ext_vector_type(16)));
typedef float float8_ __attribute__((ext_vector_type(8)));
__attribute__((reqd_work_group_size(32, 1, 1))) kernel void gemm_f16(global const half *a, global const half *b,
                                                                      global float *c, uint n, uint k) {
  uint lane = __builtin_amdgcn_workitem_id_x(), row = __builtin_amdgcn_workgroup_id_y() * 16,
       column = __builtin_amdgcn_workgroup_id_x() * 16, r = lane % 16, upper = lane / 16;
  float8_ sum = 0;
#ifdef __GFX12__
  for (uint i = upper * 8; i < k; i += 16)
    sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(*(global const half8 *)(a + (row + r) * k + i),
                                                           *(global const half8 *)(b + (column + r) * k + i), sum);
  for (uint v = 0; v < 8; ++v)
    c[(row + v + 8 * upper) * n + column + r] = sum[v];
#else
  for (uint i = 0; i < k; i += 16)
    sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(*(global const half16 *)(a + (row + r) * k + i),
                                                     *(global const half16 *)(b + (column + r) * k + i), sum);
  for (uint v = 0; v < 8; ++v)
    c[(row + 2 * v + upper) * n + column + r] = sum[v];
#endif
}

kernel void write_at(global int *out, ulong index) { out[index] = 1; }

kernel void never_ends(volatile global int *flag) {
  while (*flag == 0)
    ;
}
