// matrix_sparse.h: products of the `rs_matrix_cuda` family that take four units at a time.
//
// Of four neighbouring places a sum meets at most two, neighbours, so a matrix of weights is sparse as tensor cores know it (mma.sp): for
// every four places it holds two weights, and in two bits each which places they belong to. The 16 x 32 weights of four units then take
// little longer than the 16 x 16 of two.
#pragma once
#include "matrix_unit.h"

constexpr int MATRIX_GROUP = 4; // units of a product

// What a lane, g = lane / 4 and q = lane % 4, holds of the weights of four units: two neighbours of places 4 (q % 2) ... 4 (q % 2) + 3 for
// rows g and g + 8 of unit q / 2, then of unit 2 + q / 2.
struct matrix_sparse_weights {
  unsigned high[4], low[4];
  unsigned places; // which ones: of places in units 0 and 1 from an even lane, in 2 and 3 from an odd one
};

#ifdef RS_EMULATION
static inline void matrix_sparse_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned places, const uint4 &b) {
  matrix_exchange &warp = matrix_warp();
  const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const unsigned data[4] = {b.x, b.y, b.z, b.w};
  warp.places[lane] = places;
  __syncwarp();
  for (int n = 0; n < 4; n++) {
    const int row = g + n % 2 * 8, four = q + n / 2 * 4;
    const float2 weights = half_floats(a[n]), pair = half_floats(data[n]);
    warp.a[row][2 * four] = weights.x;
    warp.a[row][2 * four + 1] = weights.y;
    warp.b[2 * q + n * 8][g] = pair.x;
    warp.b[2 * q + n * 8 + 1][g] = pair.y;
  }
  __syncwarp();
  for (int n = 0; n < 4; n++) {
    double all = sum[n];
    for (int k = 0; k < 16; k++) {
      const unsigned bits = warp.places[4 * g + k / 8] >> (16 * (n / 2) + 2 * (k % 8)) & 3;
      all += (double)warp.a[g + n / 2 * 8][k] * warp.b[k / 2 * 4 + bits][2 * q + n % 2];
    }
    sum[n] = (float)all;
    if (fabs(sum[n]) > fabs(all)) sum[n] = nextafterf(sum[n], 0); // truncated, as tensor cores do
  }
  __syncwarp();
}
#else
__device__ static inline void matrix_sparse_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned places, const uint4 &b) {
#if __CUDA_ARCH__ >= 800 // rs_cuda_families leaves this family out before
  asm("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, "
      "{%0, %1, %2, %3}, %12, 0x0;"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(b.z), "r"(b.w), "r"(places));
#endif
}
#endif

// Two of the weights of four places, which are 1 - |pitch t| where that is positive; t: how far a sum lies behind the first place, which
// must meet no other place than those two. They are the last before and the first behind the sum, or the nearest to that from place
// `least` to place `most` + 1. Returns 1.5 * 2^23 and the number of the first, as float32 bits.
template <bool SPLIT_WEIGHTS>
__device__ static inline unsigned matrix_sparse_weigh(float t, float pitch, float least, float most, unsigned &high, unsigned &low) {
  const float whole = fminf(fmaxf(t - 0.5f, least), most) + 12582912.0f, from = pitch * (t - (whole - 12582912.0f));
  const float first = __saturatef(1 - fabsf(from)), second = __saturatef(1 - fabsf(from - pitch));
  high = half_pair(first, second);
  if (SPLIT_WEIGHTS) {
    const float2 rounded = half_floats(high);
    low = half_pair(first - rounded.x, second - rounded.y);
  }
  return __float_as_uint(whole);
}

// matrix_sparse_weights::places from what matrix_sparse_weigh said for high[0 ... 3]. All lanes of a warp call it.
__device__ static inline unsigned matrix_sparse_places(const unsigned (&first)[4]) {
  const int q = threadIdx.x % 4;
  const unsigned unit = 5u << 4 * q; // of place n the bits are n | n + 1 << 2
  const unsigned low = (first[1] << 16 | (first[0] & 3)) * unit, high = (first[3] << 16 | (first[2] & 3)) * unit;
  unsigned places = (q & 1 ? high : low) + __shfl_xor_sync(0xffffffffu, q & 1 ? low : high, 1);
  places += __shfl_xor_sync(0xffffffffu, places, 2);
  return places + 0x44444444u;
}

// Adds four units to the sums of a tile, as matrix_add does two. `row` is that of place lane % 8 of unit lane / 8.
template <int TILES, bool SPLIT, bool SPLIT_WEIGHTS>
__device__ static inline void matrix_sparse_add(float (&sum)[TILES][4], const matrix_sparse_weights &weights, shared_address row) {
#pragma unroll
  for (int j = 0; j < TILES; j += 4) {
    uint4 data[4];
    auto read = [&](int first) {
#pragma unroll
      for (int k = 0; k < 4; k++) data[k] = matrix_read(row + 16 * (first + k));
    };
    auto multiply = [&](const unsigned(&matrix)[4]) {
#pragma unroll
      for (int k = 0; k < 4; k++) matrix_sparse_multiply(sum[j + k], matrix, weights.places, data[k]);
    };
    read(j);
    multiply(weights.high);
    if (SPLIT_WEIGHTS) multiply(weights.low);
    if (!SPLIT) continue;
    read(j + TILES);
    multiply(weights.high);
  }
}
