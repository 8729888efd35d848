// matrix_unit.h: matrix products of the `rs_matrix_cuda` family on tensor cores.
//
// A unit is 8 neighbouring places, voxels of a plane or columns of a view, that are seen by a tile of 16 sums: rays or voxels. Weights of
// two units make a 16 x 16 matrix, the units' data for 8 lanes a 16 x 8 matrix, and one instruction of a warp (mma.m16n8k16) adds their
// product to the tile's sums of these lanes; matrix_sparse.h has four units at a time. Data and weights are float16; where SPLIT, both come as high + low,
// a rounded number and what rounding left, and three products out of four are added: what is left out is 2^-22 of the result. (The weights
// of law astra are whole 256ths, which have no low part.) Tensor cores add with truncation: after n products the result is about 2e-8 n too
// small. So where SPLIT, float32 arithmetic adds up what they made of MATRIX_CHAIN pairs or fours of units: 4e-6 at most.
#pragma once
#include "halves.h"
#include "shared_address.h"

constexpr int MATRIX_THREADS = 512;
constexpr int MATRIX_WARPS = MATRIX_THREADS / 32;

// A place of a chunk of 8 LANES lanes: float16 numbers, high parts, then low parts where SPLIT; and 16 bytes that keep the 8 places of a
// unit in different banks of shared memory.
template <int TILES, bool SPLIT> constexpr int MATRIX_RECORD = TILES *(SPLIT ? 32 : 16) + 16;

// Shared memory begins with so many records of zeros: one for each group of banks, so that a place that does not exist costs nothing.
constexpr int MATRIX_ZEROS = 8;

struct matrix_weights {
  unsigned high[4], low[4]; // of two units: rows g, g + 8 of the first, then of the second; g = lane / 4
};

#ifdef RS_EMULATION
// What the lanes of a warp tell each other.
struct matrix_exchange {
  shared_address rows[32];
  unsigned places[32]; // matrix_sparse.h
  float a[16][16], b[32][8];
};
static inline matrix_exchange &matrix_warp() {
  static matrix_exchange warps[MATRIX_WARPS];
  return warps[threadIdx.x / 32];
}

static inline uint4 matrix_read(shared_address row) {
  matrix_exchange &warp = matrix_warp();
  const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  warp.rows[lane] = row;
  __syncwarp();
  unsigned bits[4];
  for (int m = 0; m < 4; m++) {
    uint16_t pair[2];
    for (int k = 0; k < 2; k++) memcpy(&pair[k], warp.rows[8 * m + 2 * q + k] + 2 * g, 2);
    memcpy(&bits[m], pair, 4);
  }
  __syncwarp();
  return {bits[0], bits[1], bits[2], bits[3]};
}

static inline void matrix_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  matrix_exchange &warp = matrix_warp();
  const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  for (int n = 0; n < 4; n++) {
    const float2 pair = half_floats(a[n]);
    warp.a[g + n % 2 * 8][2 * q + n / 2 * 8] = pair.x;
    warp.a[g + n % 2 * 8][2 * q + n / 2 * 8 + 1] = pair.y;
  }
  for (int n = 0; n < 2; n++) {
    const float2 pair = half_floats(n ? b1 : b0);
    warp.b[2 * q + n * 8][g] = pair.x;
    warp.b[2 * q + n * 8 + 1][g] = pair.y;
  }
  __syncwarp();
  for (int n = 0; n < 4; n++) {
    double all = sum[n];
    for (int k = 0; k < 16; k++) all += (double)warp.a[g + n / 2 * 8][k] * warp.b[k][2 * q + n % 2];
    sum[n] = (float)all;
    if (fabs(sum[n]) > fabs(all)) sum[n] = nextafterf(sum[n], 0); // truncated, as tensor cores do
  }
  __syncwarp();
}
#else
// Reads four times 8 places of 8 lanes: lane l gives the address of place l % 8 of the l / 8-th.
__device__ static inline uint4 matrix_read(shared_address row) {
  uint4 bits;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "r"(row)
               : "memory");
  return bits;
}

__device__ static inline void matrix_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800 // rs_cuda_families leaves this family out before
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
#endif

// The weights of places k and k + 1 of a unit, that are `t` and t - step away from a sum, in units of their reach.
template <bool SPLIT_WEIGHTS> __device__ static inline void matrix_weigh(float t, float step, unsigned &high, unsigned &low) {
  const float first = __saturatef(1 - fabsf(t)), second = __saturatef(1 - fabsf(t - step));
  high = half_pair(first, second);
  if (!SPLIT_WEIGHTS) return;
  const float2 rounded = half_floats(high);
  low = half_pair(first - rounded.x, second - rounded.y);
}

// Adds two units to the sums of a tile, sum[lanes / 8][row g: lanes 2 q, 2 q + 1; row g + 8: the same], q = lane % 4. Products that do not
// wait for one another are always on their way.
template <int TILES, bool SPLIT, bool SPLIT_WEIGHTS>
__device__ static inline void matrix_add(float (&sum)[TILES][4], const matrix_weights &weights, shared_address row) {
#pragma unroll
  for (int j = 0; j < TILES; j += 4) {
    auto multiply = [&](const unsigned(&matrix)[4], const uint4 &near, const uint4 &far) {
      matrix_multiply(sum[j], matrix, near.x, near.y);
      matrix_multiply(sum[j + 1], matrix, near.z, near.w);
      matrix_multiply(sum[j + 2], matrix, far.x, far.y);
      matrix_multiply(sum[j + 3], matrix, far.z, far.w);
    };
    const uint4 near = matrix_read(row + 16 * j), far = matrix_read(row + 16 * j + 32);
    multiply(weights.high, near, far);
    if (SPLIT_WEIGHTS) multiply(weights.low, near, far);
    if (SPLIT) multiply(weights.high, matrix_read(row + 16 * (j + TILES)), matrix_read(row + 16 * (j + TILES) + 32));
  }
}

// The sums that a thread keeps outside of tensor cores, in its local memory: registers are few, and shared memory is for the data.
constexpr int MATRIX_CHAIN = 48; // pairs or fours of units between two times
template <int TILES> struct matrix_kept { float4 sum[TILES]; };

template <int TILES> __device__ static inline void matrix_forget(matrix_kept<TILES> &kept) {
#ifndef RS_EMULATION
  asm volatile("" ::"l"(&kept) : "memory"); // not in registers
#endif
#pragma unroll
  for (float4 &sum : kept.sum) sum = {0, 0, 0, 0};
}

// Adds what tensor cores have added up, and has them begin at zero.
template <int TILES> __device__ static inline void matrix_keep(matrix_kept<TILES> &kept, float (&sum)[TILES][4]) {
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    float(&part)[4] = sum[j];
    const float4 all = kept.sum[j];
    kept.sum[j] = {all.x + part[0], all.y + part[1], all.z + part[2], all.w + part[3]};
    part[0] = part[1] = part[2] = part[3] = 0;
  }
}

// All sums, when the last is added.
template <int TILES> __device__ static inline void matrix_recall(const matrix_kept<TILES> &kept, float (&sum)[TILES][4]) {
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    const float4 all = kept.sum[j];
    sum[j][0] += all.x, sum[j][1] += all.y, sum[j][2] += all.z, sum[j][3] += all.w;
  }
}
