// convolution_product.h: a convolution, or the gradient of its input, on tensor cores. Rows of the products are pixels, columns are
// channels of the result, and depth runs over filter elements and channels of the source.
#pragma once
#include "convolution_tiles.h"

// Words from pixel to pixel of a tile in which pairs of words meet no bank twice.
template <int WORDS> constexpr int paired_stride = WORDS == 8 ? 8 : WORDS + 8;

// A warp has two rows of a tile: 4 products of 16 pixels side by side.
constexpr int PRODUCT_THREADS = TILE_ROWS / 2 * 32;

// The filter's words as `right` of the products wants them, two groups of 8 columns side by side: [tap][step][columns / 16][lane][4],
// or [tap][step][lane][2]. Which word of a step is called k is free, as long as both sides agree: words 2 t and 2 t + 1 are k = t and
// k = t + 4, so that a lane has neighbours in one load.
template <int PRECISION, int STEPS, int EIGHTS>
__device__ inline void stage_filter(uint32_t *filter, const tiled &p, int first_channel, int first_column) {
  constexpr int PER = rs_per_word<PRECISION>;
  const int taps = p.taps_y * p.taps_x;
  for (int i = threadIdx.x; i < taps * STEPS * EIGHTS * 64; i += PRODUCT_THREADS) {
    constexpr int GROUPS = EIGHTS > 1 ? 2 : 1, UNIT = GROUPS * 64;
    const int half = i % 2, group = i / 2 % GROUPS, lane = i / 2 / GROUPS % 32, rest = i / UNIT;
    const int column = first_column + (rest % (EIGHTS / GROUPS) * GROUPS + group) * 8 + lane / 4;
    const int step = rest / (EIGHTS / GROUPS) % STEPS, tap = rest / (EIGHTS / GROUPS) / STEPS;
    const int channel = first_channel + (step * 8 + lane % 4 * 2 + half) * PER;
    float values[2] = {0, 0};
#pragma unroll
    for (int k = 0; k < PER; k++)
      if (channel + k < p.channels && column < p.columns) // the filter is [tap][in channel][out channel]
        values[k] = __ldg(p.b + (p.backwards ? ((int64_t)(taps - 1 - tap) * p.columns + column) * p.channels + channel + k
                                             : ((int64_t)tap * p.channels + channel + k) * p.columns + column));
    filter[i] = PER == 1 ? rs_tf32(values[0]) : rs_bf16(values[0], values[1]);
  }
}

// A value of the result, to be finished and written.
__device__ inline void finish_value(const tiled &p, int64_t pixel, int column, float value) {
  if (column >= p.columns) return;
  if (p.bias) value += __ldg(p.bias + column);
  if (p.add && column < p.out.channels[0]) value += __ldg(p.add + pixel * p.out.channels[0] + column);
  if (p.relu) value = value < 0 ? 0 : value; // NaN stays
  if (p.mask && !(__ldg(p.mask + pixel * p.columns + column) > 0)) value = 0;
  int channel = column;
#pragma unroll
  for (int k = 0; k < 3; k++) {
    const int channels = (int)p.out.channels[k];
    if (channel >= 0 && channel < channels) p.out.at[k][pixel * channels + channel] = value;
    channel -= channels;
  }
}

// Two neighbouring channels, of an even number of them in one array without anything to add.
__device__ inline void finish_pair(const tiled &p, int64_t pixel, int column, float2 value) {
  if (column >= p.columns) return;
  const int64_t at = pixel * p.columns + column;
  if (p.bias) value = make_float2(value.x + __ldg(p.bias + column), value.y + __ldg(p.bias + column + 1));
  if (p.relu) value = make_float2(value.x < 0 ? 0 : value.x, value.y < 0 ? 0 : value.y);
  if (p.mask) {
    float2 mask;
    if (p.halves & RS_HALVES_MASK) {
      const uint32_t word = __ldg((const uint32_t *)p.mask + at / 2);
      mask = make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000));
    } else
      mask = __ldg((const float2 *)(p.mask + at));
    value = make_float2(mask.x > 0 ? value.x : 0, mask.y > 0 ? value.y : 0);
  }
  if (p.halves & RS_HALVES_OUT)
    *((uint32_t *)p.out.at[0] + at / 2) = rs_bf16(value.x, value.y);
  else
    *(float2 *)(p.out.at[0] + at) = value;
}

// STEPS times 8 words of depth at a time, EIGHTS times 8 columns.
template <int PRECISION, int STEPS, int EIGHTS> __global__ void __launch_bounds__(PRODUCT_THREADS) convolve_tiles(tiled p) {
  constexpr int WORDS = STEPS * 8, STRIDE = paired_stride<WORDS>, CHANNELS = WORDS * rs_per_word<PRECISION>;
  RS_SHARED(uint32_t, filter);
  uint32_t *tile = filter + p.taps_y * p.taps_x * STEPS * EIGHTS * 64;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int first_column = blockIdx.y * EIGHTS * 8;
  const bool pairs = p.columns % 2 == 0 && p.out.channels[0] == p.columns && !p.add;
  bool have_filter = false;
  for (int64_t at = blockIdx.x; at < p.tiles; at += gridDim.x) {
    const tile_place place = tile_at(p, at);
    float sums[4][EIGHTS][4] = {};
    for (int first = 0; first < p.channels; first += CHANNELS) {
      __syncthreads(); // the last tile was read
      if (!have_filter || p.channels > CHANNELS) stage_filter<PRECISION, STEPS, EIGHTS>(filter, p, first, first_column);
      have_filter = true;
      stage<PRECISION, WORDS, PITCH>(tile, STRIDE, p.a, p.halves & RS_HALVES_A, p.quads, p.channels, first, place.image,
                                     TILE_ROWS + p.taps_y - 1, place.top - p.above, place.left - p.before, p.source_height, p.source_width,
                                     PRODUCT_THREADS);
      __syncthreads();
      const uint32_t *right_at = filter + lane * (EIGHTS > 1 ? 4 : 2);
      for (int y = 0; y < p.taps_y; y++)
        for (int x = 0; x < p.taps_x; x++) {
          const uint32_t *left_at = tile + ((2 * warp + y) * PITCH + x + g) * STRIDE + 2 * t;
#pragma unroll
          for (int step = 0; step < STEPS; step++) {
            uint32_t left[4][4], right[EIGHTS][2];
            if (EIGHTS == 1) {
              const uint2 words = *(const uint2 *)(right_at + step * 64);
              right[0][0] = words.x, right[0][1] = words.y;
            }
#pragma unroll
            for (int n = 0; n + 1 < EIGHTS; n += 2) {
              const uint4 words = *(const uint4 *)(right_at + (step * EIGHTS + n) * 64);
              right[n][0] = words.x, right[n][1] = words.y, right[n + 1][0] = words.z, right[n + 1][1] = words.w;
            }
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
              for (int k = 0; k < 2; k++) {
                const uint2 words = *(const uint2 *)(left_at + (m / 2 * PITCH + m % 2 * 16 + k * 8) * STRIDE + step * 8);
                left[m][k] = words.x, left[m][k + 2] = words.y;
              }
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
              for (int n = 0; n < EIGHTS; n++) rs_multiply<PRECISION>(sums[m][n], left[m], right[n]);
          }
          right_at += STEPS * EIGHTS * 64;
        }
    }
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int y = place.top + 2 * warp + m / 2, x = place.left + m % 2 * 16 + half * 8 + g;
        if (y >= p.height || x >= p.width) continue;
        const int64_t pixel = (place.image * p.height + y) * p.width + x;
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
          const int column = first_column + n * 8 + t * 2;
          const float2 value = make_float2(sums[m][n][half * 2], sums[m][n][half * 2 + 1]);
          if (pairs)
            finish_pair(p, pixel, column, value);
          else {
            finish_value(p, pixel, column, value.x);
            finish_value(p, pixel, column + 1, value.y);
          }
        }
      }
  }
}

// As many blocks as are at work at once share the tiles out, so that each reads the filter once.
template <int PRECISION, int STEPS, int EIGHTS> int32_t run_tiles(rs_operation *o, const tiled &p) {
  const size_t shared =
      sizeof(uint32_t) * (p.taps_y * p.taps_x * STEPS * EIGHTS * 64 + (TILE_ROWS + p.taps_y - 1) * PITCH * paired_stride<STEPS * 8>);
  const int64_t fit = (200 << 10) / shared, most = rs_cuda_multiprocessors(p.device) * (fit < 6 ? fit : 6);
  const dim3 grid((unsigned)(p.tiles < most ? p.tiles : most), (unsigned)((p.columns + EIGHTS * 8 - 1) / (EIGHTS * 8)));
  return RS_LAUNCH((convolve_tiles<PRECISION, STEPS, EIGHTS>), grid, PRODUCT_THREADS, shared, rs_cuda_stream(o), p);
}

template <int PRECISION, int STEPS> int32_t run_columns(rs_operation *o, const tiled &p) {
  if (p.columns <= 8) return run_tiles<PRECISION, STEPS, 1>(o, p);
  return p.columns <= 16 ? run_tiles<PRECISION, STEPS, 2>(o, p) : run_tiles<PRECISION, STEPS, 4>(o, p);
}

template <int PRECISION> int32_t run_product(rs_operation *o, const tiled &p) {
  const int words = (p.channels + rs_per_word<PRECISION> - 1) / rs_per_word<PRECISION>;
  if (words <= 8) return run_columns<PRECISION, 1>(o, p);
  return words <= 16 ? run_columns<PRECISION, 2>(o, p) : run_columns<PRECISION, 4>(o, p);
}
