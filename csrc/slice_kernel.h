// slice_kernel.h: the inner loops of the `rs_slice` family, the same sum in both directions.
//
// Instructions of AVX-512 for 16 updates, with C channels: forward 4 + 6 / C (two permutes and two multiply-adds; position, cell, next
// cell, part, two weights), back 4 + 8 / C (its weights are clipped at zero).
#pragma once
#include "slice_tables.h"

#if RS_LANES > 4
#include <immintrin.h>
#endif

#define SLICE_INLINE static inline __attribute__((always_inline))

SLICE_INLINE rs_vi slice_integers(const int32_t *from) {
  rs_vi v;
  memcpy(&v, from, sizeof v);
  return v;
}
SLICE_INLINE rs_vi slice_splat(int32_t x) { return x - (rs_vi){0}; }
SLICE_INLINE rs_vi slice_count(void) {
  rs_vi v;
  for (int k = 0; k < RS_LANES; k++) v[k] = k;
  return v;
}
// 1 + the part of a position behind its cell
SLICE_INLINE rs_vf slice_part(rs_vi position) { return (rs_vf)((position & SLICE_PART) | 0x3f800000); }
// max(0, x), one instruction where the compiler would make two of it.
SLICE_INLINE rs_vf slice_positive(rs_vf x) {
#if RS_LANES == 16
  return (rs_vf)_mm512_max_ps((__m512)x, _mm512_setzero_ps());
#elif RS_LANES == 8
  return (rs_vf)_mm256_max_ps((__m256)x, _mm256_setzero_ps());
#else
  return (rs_vf)((rs_vi)x & (x > 0));
#endif
}
SLICE_INLINE rs_vi slice_clamp(rs_vi x, rs_vi low, rs_vi high) {
  rs_vi inside = x > low;
  x = (x & inside) | (low & ~inside);
  inside = x < high;
  return (x & inside) | (high & ~inside);
}

// Keeps a loaded vector in a register: compilers would rather load it again as an operand, and loads that straddle cache lines are slow.
#if defined(__x86_64__) && defined(__GNUC__)
#define SLICE_KEEP(v) __asm__("" : "+v"(v))
#else
#define SLICE_KEEP(v) (void)0
#endif

// ---- forward: RS_LANES neighbouring rays along the planes of the main axis

typedef struct {
  const slice_block *block;
  const slice_bundle *bundle;
  int64_t row;                    // floats between planes
  const float *image;             // voxel (0, 0) of the first image; SLICE_MARGIN zeros before and behind each row
  int64_t offset[SLICE_CHANNELS]; // of the channels' images
  int32_t from, columns;          // the columns of this task, a multiple of RS_LANES
  float *sums;                    // [bundle][SLICE_CHANNELS][columns]
} slice_forward;

// RS_LANES neighbouring rays on a run of planes.
typedef struct {
  const float *image;                        // plane 0 of the run, column 0 of the first channel's image
  int32_t place[SLICE_RUN], part[SLICE_RUN]; // of the first ray: floats from `image` to a cell below it, and the rest
  int32_t planes;
  const int32_t *columns; // of the bundle
  float *sums;
  int64_t step; // floats between the sums of two channels
} slice_rays;

// Adds what the rays see.
SLICE_INLINE void slice_gather(const int channels, const slice_forward *work, const slice_rays *rays) {
  rs_vi columns = slice_integers(rays->columns);
  rs_vf even[SLICE_CHANNELS], odd[SLICE_CHANNELS];
#pragma GCC unroll 4
  for (int c = 0; c < channels; c++) even[c] = odd[c] = (rs_vf){0};
  for (int n = 0; n < rays->planes; n++) {
    rs_vi at = columns + slice_splat(rays->part[n]), cell = at >> SLICE_BITS, next = cell + 1;
    rs_vf both = slice_part(at), left = 2 - both, right = both - 1;
    const float *data = rays->image + rays->place[n];
#pragma GCC unroll 4
    for (int c = 0; c < channels; c++) {
      rs_vf a = rs_load(data + work->offset[c]), b = rs_load(data + work->offset[c] + RS_LANES);
      SLICE_KEEP(a);
      SLICE_KEEP(b);
      even[c] += left * rs_pick(a, b, cell);
      odd[c] += right * rs_pick(a, b, next);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < channels; c++) {
    float *sum = rays->sums + c * rays->step;
    rs_store(sum, rs_load(sum) + (even[c] + odd[c]));
  }
}

// ---- back: RS_LANES neighbouring voxels on SLICE_ROWS planes, over the bundles of a block

typedef struct {
  const slice_block *block;
  const slice_bundle *bundle;
  int64_t row;                    // floats between sinogram rows
  const float *projections;       // column 0 of the block's first view; SLICE_MARGIN zeros before and behind each row
  int64_t offset[SLICE_CHANNELS]; // of the channels' sinograms
  int32_t columns;
  int32_t plane, cross, height, width;       // a tile, in whole SLICE_ROWS and RS_LANES
  float *image;                              // the first image
  int64_t image_row, target[SLICE_CHANNELS]; // and of the channels' images
} slice_back;

SLICE_INLINE void slice_back_tile(const int channels, const slice_back *work) {
  const slice_block *block = work->block;
  const int64_t step = block->views * work->row;
  int64_t corner[SLICE_RUN]; // the last of the first rows, which lies at the lowest column
  for (int32_t k = 0; k < block->bundles; k++) {
    const slice_bundle *bundle = &work->bundle[k];
    double c = bundle->origin + bundle->along_cross * work->cross + bundle->along_plane * (work->plane + SLICE_ROWS - 1);
    // Farther away than this the whole tile is off the detector.
    c = c > -4096 ? c : -4096;
    c = c < work->columns + 4096 ? c : work->columns + 4096;
    corner[k] = (int64_t)(c * (double)(INT64_C(1) << SLICE_FINE_BITS)) + (1 << (SLICE_FINE_BITS - SLICE_BITS - 1));
  }
  const int64_t low = -2 * RS_LANES - 1, high = work->columns;
  for (int32_t y = 0; y * SLICE_ROWS < work->height; y++)
    for (int32_t x = 0; x * RS_LANES < work->width; x++) {
      rs_vf sum[SLICE_ROWS][SLICE_CHANNELS];
#pragma GCC unroll 4
      for (int n = 0; n < SLICE_ROWS; n++)
#pragma GCC unroll 4
        for (int c = 0; c < channels; c++) sum[n][c] = (rs_vf){0};
      const float *data = work->projections;
      for (int32_t k = 0; k < block->bundles; k++, data += step) {
        const slice_bundle *bundle = &work->bundle[k];
        int64_t position = corner[k] + x * bundle->cross_step + y * bundle->plane_step, column = position >> SLICE_FINE_BITS;
        column = column > low ? column : low; // beyond these all is zero
        column = column < high ? column : high;
        rs_vi start = slice_integers(bundle->voxels) + (int32_t)((position >> (SLICE_FINE_BITS - SLICE_BITS)) & SLICE_PART);
        rs_vf a[SLICE_CHANNELS], b[SLICE_CHANNELS];
#pragma GCC unroll 4
        for (int c = 0; c < channels; c++) {
          a[c] = rs_load(data + column + work->offset[c]);
          b[c] = rs_load(data + column + work->offset[c] + RS_LANES);
        }
#pragma GCC unroll 4
        for (int n = 0; n < SLICE_ROWS; n++) {
          rs_vi at = start + slice_splat(bundle->rows[n]), cell = at >> SLICE_BITS, next = cell + 1;
          rs_vf both = slice_part(at);
          rs_vf left = slice_positive(bundle->above - bundle->pitch * both);
          rs_vf right = slice_positive(bundle->pitch * both + bundle->below);
#pragma GCC unroll 4
          for (int c = 0; c < channels; c++) {
            sum[n][c] += left * rs_pick(a[c], b[c], cell);
            sum[n][c] += right * rs_pick(a[c], b[c], next);
          }
        }
      }
#pragma GCC unroll 4
      for (int n = 0; n < SLICE_ROWS; n++)
#pragma GCC unroll 4
        for (int c = 0; c < channels; c++) {
          float *to = work->image + work->target[c] + (work->plane + y * SLICE_ROWS + n) * work->image_row + work->cross + x * RS_LANES;
          rs_store(to, rs_load(to) + sum[n][c]);
        }
    }
}

// Real functions, so that nothing else competes for the registers of the inner loops.
#define SLICE_FUNCTIONS(channels)                                                                                    \
  static __attribute__((noinline)) void slice_gather_##channels(const slice_forward *work, const slice_rays *rays) { \
    slice_gather(channels, work, rays);                                                                              \
  }                                                                                                                  \
  static __attribute__((noinline)) void slice_back_##channels(const slice_back *work) { slice_back_tile(channels, work); }
SLICE_FUNCTIONS(1)
SLICE_FUNCTIONS(2)
SLICE_FUNCTIONS(3)
SLICE_FUNCTIONS(4)

static void (*const slice_gather_of[])(const slice_forward *, const slice_rays *) = {slice_gather_1, slice_gather_2, slice_gather_3,
                                                                                     slice_gather_4};
static void (*const slice_back_of[])(const slice_back *) = {slice_back_1, slice_back_2, slice_back_3, slice_back_4};

// Forward: adds what the columns see on the SLICE_RUN planes from `first` on.
static void slice_forward_run(int channels, const slice_forward *work, int32_t first) {
  const slice_block *block = work->block;
  slice_rays rays = {.image = work->image + first * work->row, .step = work->columns};
  rays.planes = (int32_t)slice_smaller(SLICE_RUN, block->planes - first);
  rs_vi low = slice_splat(-2 * RS_LANES - 1), high = slice_splat(block->cross), count = slice_count() * (int32_t)work->row;
  for (int32_t k = 0; k < block->bundles; k++) {
    const slice_bundle *bundle = &work->bundle[k];
    rays.columns = bundle->columns;
    double reach = bundle->column * (RS_LANES - 1) + bundle->plane * (rays.planes - 1);
    for (int32_t i = 0; i < work->columns; i += RS_LANES) {
      double position = bundle->start + bundle->column * (work->from + i) + bundle->plane * first;
      if (!(position < block->cross && position + reach > -1)) continue;
      // Cells count from -2^10, so that the cast is a floor.
      int32_t reference = (int32_t)(position + 1024) - 1024;
      rs_vi start = slice_splat((int32_t)((position - reference) * SLICE_ONE + 0.5));
      for (int n = 0; n < SLICE_RUN; n += RS_LANES) {
        rs_vi at = start + slice_integers(bundle->planes + n), cell = (at >> SLICE_BITS) + reference;
        // Loads from a multiple of `align` floats straddle fewer cache lines.
        rs_vi beyond = cell & (bundle->align - 1);
        cell = slice_clamp(cell - beyond, low, high) + (count + n * (int32_t)work->row); // beyond these all is zero
        at = (at & SLICE_PART) + (beyond << SLICE_BITS);
        memcpy(rays.place + n, &cell, sizeof cell);
        memcpy(rays.part + n, &at, sizeof at);
      }
      rays.sums = work->sums + (int64_t)k * SLICE_CHANNELS * work->columns + i;
      slice_gather_of[channels - 1](work, &rays);
    }
  }
}
