// matrix_unit.h: matrix products of the `rs_matrix_cuda` family on tensor cores.
//
// A unit is 8 neighbouring places, voxels of a plane or columns of a view, that are seen by a tile of 16 sums: rays or voxels. Weights of
// four units make a 16 x 32 matrix, the units' data for 8 lanes a 32 x 8 matrix, and one instruction of a warp adds their product to the
// tile's sums of these lanes. Of four places a sum meets at most two, neighbours, so the matrix of weights is sparse as tensor cores know
// it (mma.sp, compute capability 8.0): it holds two weights for every four places, and in two bits each which places they belong to.
// Data and weights are float16; where SPLIT, both come as high + low, a rounded number and what rounding left, and three products out of
// four are added: what is left out is 2^-22 of the result. (The weights of law astra are whole 256ths, which have no low part.) Tensor
// cores add with truncation: after n products the result is about 2e-8 n too small. So where SPLIT, float32 arithmetic adds up what they
// made of MATRIX_CHAIN groups of four units: 4e-6 at most.
#pragma once
#include "halves.h"
#include "launch.h"

constexpr int MATRIX_THREADS = 512;
constexpr int MATRIX_WARPS = MATRIX_THREADS / 32;

// A place of a chunk of 8 LANES lanes: float16 numbers, high parts, then low parts where SPLIT; and 16 bytes that keep the 8 places of a
// unit in different banks of shared memory.
template <int TILES, bool SPLIT> constexpr int MATRIX_RECORD = TILES *(SPLIT ? 32 : 16) + 16;

// Shared memory begins with so many records of zeros: one for each group of banks, so that a place that does not exist costs nothing.
constexpr int MATRIX_ZEROS = 8;

constexpr int MATRIX_GROUP = 4; // units of a product

// What a lane, g = lane / 4 and q = lane % 4, holds of the weights of four units: two neighbours of places 4 (q % 2) ... 4 (q % 2) + 3 for
// rows g and g + 8 of unit q / 2, then of unit 2 + q / 2.
struct matrix_weights {
  unsigned high[4], low[4];
  unsigned places; // which ones: of places in units 0 and 1 from an even lane, in 2 and 3 from an odd one
};

#ifdef RS_EMULATION
typedef const char *matrix_address;
static inline matrix_address matrix_address_of(const void *shared) { return (const char *)shared; }
static inline matrix_address matrix_hold(const void *shared) { return (const char *)shared; }

// What the lanes of a warp tell each other.
struct matrix_exchange {
  matrix_address rows[32];
  unsigned places[32];
  float a[16][16], b[32][8]; // a: two of every four places
};
static inline matrix_exchange &matrix_warp() {
  static matrix_exchange warps[MATRIX_WARPS];
  return warps[threadIdx.x / 32];
}

static inline uint4 matrix_read(matrix_address row) {
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

static inline void matrix_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned places, const uint4 &b) {
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
typedef unsigned matrix_address;
__device__ static inline matrix_address matrix_address_of(const void *shared) { return (unsigned)__cvta_generic_to_shared(shared); }

// In a register from now on: the compiler would find the address anew, from where the block lies in its cluster, wherever it is needed.
__device__ static inline matrix_address matrix_hold(const void *shared) {
  matrix_address address = matrix_address_of(shared);
  asm volatile("" : "+r"(address));
  return address;
}

// Reads four units of 8 lanes: lane l gives the address of place l % 8 of unit l / 8.
__device__ static inline uint4 matrix_read(matrix_address row) {
  uint4 bits;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "r"(row)
               : "memory");
  return bits;
}

__device__ static inline void matrix_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned places, const uint4 &b) {
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
__device__ static inline unsigned matrix_weigh(float t, float pitch, float least, float most, unsigned &high, unsigned &low) {
  const float whole = fminf(fmaxf(t - 0.5f, least), most) + 12582912.0f, from = pitch * (t - (whole - 12582912.0f));
  const float first = __saturatef(1 - fabsf(from)), second = __saturatef(1 - fabsf(from - pitch));
  high = half_pair(first, second);
  if (SPLIT_WEIGHTS) {
    const float2 rounded = half_floats(high);
    low = half_pair(first - rounded.x, second - rounded.y);
  }
  return __float_as_uint(whole);
}

// matrix_weights::places from what matrix_weigh said for high[0 ... 3]. All lanes of a warp call it.
__device__ static inline unsigned matrix_places(const unsigned (&first)[4]) {
  const int q = threadIdx.x % 4;
  const unsigned unit = 5u << 4 * q; // of place n the bits are n | n + 1 << 2
  const unsigned low = (first[1] << 16 | (first[0] & 3)) * unit, high = (first[3] << 16 | (first[2] & 3)) * unit;
  unsigned places = (q & 1 ? high : low) + __shfl_xor_sync(0xffffffffu, q & 1 ? low : high, 1);
  places += __shfl_xor_sync(0xffffffffu, places, 2);
  return places + 0x44444444u;
}

// Adds four units to the sums of a tile, sum[lanes / 8][row g: lanes 2 q, 2 q + 1; row g + 8: the same]. Products that do not wait for one
// another are always on their way.
template <int TILES, bool SPLIT, bool SPLIT_WEIGHTS>
__device__ static inline void matrix_add(float (&sum)[TILES][4], const matrix_weights &weights, matrix_address row) {
#pragma unroll
  for (int j = 0; j < TILES; j += 4) {
    uint4 data[4];
    auto read = [&](int first) {
#pragma unroll
      for (int k = 0; k < 4; k++) data[k] = matrix_read(row + 16 * (first + k));
    };
    auto multiply = [&](const unsigned(&matrix)[4]) {
#pragma unroll
      for (int k = 0; k < 4; k++) matrix_multiply(sum[j + k], matrix, weights.places, data[k]);
    };
    read(j);
    multiply(weights.high);
    if (SPLIT_WEIGHTS) multiply(weights.low);
    if (!SPLIT) continue;
    read(j + TILES);
    multiply(weights.high);
  }
}

// The sums that a thread keeps outside of tensor cores, in its local memory: registers are few, and shared memory is for the data.
constexpr int MATRIX_CHAIN = 32; // groups of four units between two times
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
