// astra_fours.h: law astra with data in float16, for cone beams that look the same upside down: of four samples that share a place.
//
// Where the source's plane halves both the volume and the detector, a voxel and its mirror image in that plane see mirror images of a
// place, with the same weights (they are the same for a fraction and 1 - it, but where a position is a tie). And what a view sees of a
// volume, its opposite sees of the volume turned by 180 degrees. So two voxels, turned into one another, and their mirror images share
// everything in two opposite views: place, weights, address. Their data stand together in 8 bytes: two words of two float16 numbers, the
// second of which is the mirror image. (Back projection takes two of them in float32, see astra_fours_back.h.)
//
// Weights are whole 256ths. As float16 numbers they are the same integers, that is in units of 2^-24 (subnormal numbers cost nothing):
// a sum of four products with data below 2^15 stays below 1/2, and what it loses is 2^-25.
#pragma once
#include "astra_columns.h"
#include "halves.h"

constexpr int FOURS_WARPS = 8;                // of a block; a warp owns FOURS_PLACES lines of sums, its lanes are neighbours in them
constexpr int FOURS_PLACES = 8;               //
constexpr int FOURS_STEPS = 4;                // whose tables are made at a time: a lane makes a place of a step
constexpr double FOURS_SAME = 1e-3;           // places that differ by less are the same one
constexpr float FOURS_WEIGHT = 65536;         // what the unit of weights leaves to do
constexpr uint32_t FOURS_ONE = 0x01000100u;   // two weights of 1
constexpr uint32_t FOURS_HALF = 0x00800080u;  // and what rounds two products
constexpr uint32_t FOURS_BELOW = 0x007f007fu; // the same, halves down

// The weights of four neighbours for two samples that share them.
struct fours_weights {
  uint32_t self, first, second, both;
};

// `at`: a place whose fraction is its third byte. `a`: the fraction across, `pair`: twice; what rounds the products for neighbours that are
// further along, and for the others.
__device__ static inline fours_weights fours_weigh(uint32_t at, uint32_t a, uint32_t pair, uint32_t far_half, uint32_t near_half) {
#ifdef __CUDA_ARCH__
  const uint32_t b = __byte_perm(at, 0, 0x4242), far = __byte_perm(b * a + far_half, 0, 0x4341),
                 near = __byte_perm(b * a + near_half, 0, 0x4341);
#else
  const uint32_t b = (at >> 16 & 255) * 0x10001u, far = (b * a + far_half) >> 8 & 0xff00ffu, near = (b * a + near_half) >> 8 & 0xff00ffu;
#endif
  return {FOURS_ONE - b - (pair - near), pair - near, b - far, far};
}

// The samples before a place; what keeps the compiler from shifting twice leaves it one shift and an addition for an address.
__device__ static inline uint32_t fours_whole(uint32_t at) {
#ifdef __CUDA_ARCH__
  return __byte_perm(at, 0, 0x4443);
#else
  return at >> 24;
#endif
}

// The weighted sum of four neighbours, for one word.
__device__ static inline uint32_t fours_mix(const fours_weights &w, uint32_t self, uint32_t first, uint32_t second, uint32_t both) {
  return half_multiply_add(w.both, both,
                           half_multiply_add(w.second, second, half_multiply_add(w.first, first, half_multiply(w.self, self))));
}

// What a line of sums shares on a step: bytes to the samples (back 256 of them, and the fraction across); where lane 16 is, in 2^-24 of a
// sample, and the way to lane 48, which is that to the next lane in 2^-29; back a factor, as the bits of a float32, forward the fraction
// across, twice. These are 16 bytes, for which shared memory takes as long as for two loads of 4.
struct alignas(16) fours_entry {
  uint32_t line, at;
  int32_t step;
  uint32_t more;
};

// What a block sees of a step: the first column and row (or slice), in packed ones, and how many columns.
struct fours_window {
  int32_t column, row, wide;
};

// The largest finite absolute value, as bits of a float32, from 0.
constexpr int FOURS_READS = 16; // of a thread, on their way together
__global__ void fours_largest(const float *from, int64_t count, unsigned *largest) {
  __shared__ float warps[8];
  const int64_t first = (int64_t)blockIdx.x * (256 * FOURS_READS) + threadIdx.x;
  float values[FOURS_READS], most = 0;
#pragma unroll
  for (int k = 0; k < FOURS_READS; k++) values[k] = first + 256 * k < count ? fabsf(from[first + 256 * k]) : 0;
#pragma unroll
  for (int k = 0; k < FOURS_READS; k++) most = values[k] > most && values[k] < INFINITY ? values[k] : most;
  for (int half = 16; half > 0; half /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, half));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = most;
  __syncthreads();
  if (threadIdx.x) return;
  for (float other : warps) most = fmaxf(most, other);
  atomicMax(largest, __float_as_uint(most));
}

// ---- on the host

// Where a view sees voxel (0, y, x), in places from the first pixel's centre; the way to the next slice; and what its depth gives.
static inline astra_seen fours_see(const astra_view &view, int corner, const int32_t *shape) {
  return astra_see<2>(view, corner & 1 ? shape[RS_Y] - 1 : 0, corner & 2 ? shape[RS_X] - 1 : 0);
}

// Does the plane of the source halve both the volume and the detector, for every view?
static inline bool fours_are_mirrored(const rs_geometry *geometry, const astra_view *view) {
  const double sum = RS_TEXTURE_SCALE * (geometry->rows - 1) + 2 * RS_TEXTURE_OFFSET;
  for (int32_t n = 0; n < geometry->views; n++)
    for (int corner = 0; corner < 4; corner++) {
      const astra_seen seen = fours_see(view[n], corner, geometry->shape);
      if (!(fabs(2 * seen.row + seen.step * (geometry->shape[RS_Z] - 1) - sum) < FOURS_SAME)) return false;
    }
  return true;
}

// A view of the volume turned by 180 degrees.
static inline astra_view fours_turn(const astra_view &view, const int32_t *shape) {
  astra_view turned = view;
  for (double *affine : {turned.column, turned.row, turned.depth}) {
    affine[3] += (shape[RS_Y] - 1) * affine[1] + (shape[RS_X] - 1) * affine[2];
    affine[1] = -affine[1], affine[2] = -affine[2];
  }
  return turned;
}

static inline bool fours_are_same(const astra_view &one, const astra_view &other, const int32_t *shape) {
  for (int corner = 0; corner < 4; corner++) {
    const astra_seen a = fours_see(one, corner, shape), b = fours_see(other, corner, shape);
    const double end = (a.step - b.step) * (shape[RS_Z] - 1);
    if (!(fabs(a.column - b.column) < FOURS_SAME && fabs(a.row - b.row) < FOURS_SAME && fabs(a.row - b.row + end) < FOURS_SAME &&
          fabs(a.share - b.share) < 1e-6 * fabs(a.share)))
      return false;
  }
  return true;
}

// opposite[n]: the view that sees of the turned volume what view n sees of the volume, or -1; opposed[m]: whose opposite view m is, or -1.
static inline void fours_pair(const rs_geometry *geometry, const astra_view *view, int32_t *opposite, int32_t *opposed) {
  const int32_t views = geometry->views;
  for (int32_t n = 0; n < views; n++) opposite[n] = opposed[n] = -1;
  for (int32_t n = 0; n < views; n++)
    for (int32_t k = 0; k < views && opposite[n] < 0; k++) {
      const int32_t m = (int32_t)(((int64_t)n + views / 2 + k) % views);
      // Most of the others look another way.
      const double y = view[n].depth[1] + view[m].depth[1], x = view[n].depth[2] + view[m].depth[2];
      if (opposed[m] >= 0 || fabs(y) + fabs(x) > 1e-6 * (fabs(view[n].depth[1]) + fabs(view[n].depth[2]))) continue;
      if (fours_are_same(view[n], fours_turn(view[m], geometry->shape), geometry->shape)) opposite[n] = m, opposed[m] = n;
    }
}
