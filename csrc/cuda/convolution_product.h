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
  constexpr int PER = rs_per_word<PRECISION>, GROUPS = EIGHTS > 1 ? 2 : 1, PAIRS = EIGHTS / GROUPS;
  const int taps = p.taps_y * p.taps_x;
  // The filter is [tap][in channel][out channel].
  const int by_tap = p.channels * p.columns, by_channel = p.backwards ? 1 : p.columns, by_column = p.backwards ? p.channels : 1;
  in_batches<float2>(
      taps * STEPS * EIGHTS * 64, PRODUCT_THREADS,
      [=](int i, bool there) {
        const int half = i % 2, group = i / 2 % GROUPS, lane = i / 2 / GROUPS % 32, rest = i / 64 / GROUPS;
        const int column = first_column + (rest % PAIRS * GROUPS + group) * 8 + lane / 4;
        const int step = rest / PAIRS % STEPS, tap = rest / PAIRS / STEPS;
        const int channel = first_channel + (step * 8 + lane % 4 * 2 + half) * PER;
        const float *from =
            p.b + (int64_t)(p.backwards ? taps - 1 - tap : tap) * by_tap + (int64_t)channel * by_channel + (int64_t)column * by_column;
        const bool inside = there && column < p.columns;
        return make_float2(inside && channel < p.channels ? __ldg(from) : 0,
                           PER == 2 && inside && channel + 1 < p.channels ? __ldg(from + by_channel) : 0);
      },
      [=](int i, float2 value) { filter[i] = PER == 1 ? rs_tf32(value.x) : rs_bf16(value.x, value.y); });
}

// What is done to two neighbouring channels of a result: something is added, and they are dropped where the mask is not above 0. The
// result may take the mask's place: a thread reads the mask where it is going to write, before it does, and no other thread does either.
struct around {
  float2 add, mask;
};

// pairs: the result is one array of an even number of channels without anything to add.
__device__ inline around around_of(const tiled &p, bool pairs, int64_t pixel, int column) {
  around a = {make_float2(0, 0), make_float2(1, 1)};
  if (column >= p.columns) return a;
  const bool two = column + 1 < p.columns;
  const int64_t at = pixel * p.columns + column;
  if (p.bias) a.add = make_float2(__ldg(p.bias + column), two ? __ldg(p.bias + column + 1) : 0);
  if (p.add) {
    const int channels = (int)p.out.channels[0];
    if (column < channels) a.add.x += __ldg(p.add + pixel * channels + column);
    if (column + 1 < channels) a.add.y += __ldg(p.add + pixel * channels + column + 1);
  }
  if (!p.mask) return a;
  if (p.halves & RS_HALVES_MASK) {
    const uint32_t word = __ldg((const uint32_t *)p.mask + at / 2);
    a.mask = make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000));
  } else if (pairs)
    a.mask = __ldg((const float2 *)(p.mask + at));
  else
    a.mask = make_float2(__ldg(p.mask + at), two ? __ldg(p.mask + at + 1) : 0);
  return a;
}

__device__ inline float finished(const tiled &p, float value, float add, float mask) {
  value += add;
  if (p.relu && value < 0) value = 0; // NaN stays
  return mask > 0 ? value : 0;
}

__device__ inline void put_channel(const tiled &p, int64_t pixel, int channel, float value) {
#pragma unroll
  for (int k = 0; k < 3; k++) {
    const int channels = (int)p.out.channels[k];
    if (channel >= 0 && channel < channels) p.out.at[k][pixel * channels + channel] = value;
    channel -= channels;
  }
}

__device__ inline void finish(const tiled &p, bool pairs, int64_t pixel, int column, float2 value, const around &a) {
  if (column >= p.columns) return;
  value = make_float2(finished(p, value.x, a.add.x, a.mask.x), finished(p, value.y, a.add.y, a.mask.y));
  const int64_t at = pixel * p.columns + column;
  if (p.halves & RS_HALVES_OUT)
    *((uint32_t *)p.out.at[0] + at / 2) = rs_bf16(value.x, value.y);
  else if (pairs)
    *(float2 *)(p.out.at[0] + at) = value;
  else {
    put_channel(p, pixel, column, value.x);
    put_channel(p, pixel, column + 1, value.y);
  }
}

// STEPS times 8 words of depth at a time, EIGHTS times 8 columns; NINE: the filter is 3 x 3.
template <int PRECISION, int STEPS, int EIGHTS, bool NINE>
__global__ void __launch_bounds__(PRODUCT_THREADS, EIGHTS == 1 ? 4 : 3) convolve_tiles(tiled p) {
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
      for (int y = 0; y < (NINE ? 3 : p.taps_y); y++)
#pragma unroll(NINE ? 3 : 1)
        for (int x = 0; x < (NINE ? 3 : p.taps_x); x++) {
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
    constexpr int TOGETHER = EIGHTS == 1 ? 8 : 2; // pixels of a thread, whose surroundings are asked for at once
#pragma unroll
    for (int first = 0; first < 8; first += TOGETHER) {
      around arounds[TOGETHER][EIGHTS];
      int64_t pixels[TOGETHER];
#pragma unroll
      for (int k = 0; k < TOGETHER; k++) {
        const int m = (first + k) / 2, y = place.top + 2 * warp + m / 2, x = place.left + m % 2 * 16 + (first + k) % 2 * 8 + g;
        pixels[k] = y < p.height && x < p.width ? (place.image * p.height + y) * p.width + x : -1;
#pragma unroll
        for (int n = 0; n < EIGHTS; n++)
          if (pixels[k] >= 0) arounds[k][n] = around_of(p, pairs, pixels[k], first_column + n * 8 + t * 2);
      }
#pragma unroll
      for (int k = 0; k < TOGETHER; k++)
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
          const float *sum = sums[(first + k) / 2][n] + (first + k) % 2 * 2;
          if (pixels[k] >= 0) finish(p, pairs, pixels[k], first_column + n * 8 + t * 2, make_float2(sum[0], sum[1]), arounds[k][n]);
        }
    }
  }
}

template <int STEPS, int EIGHTS> size_t tiles_bytes(const tiled &p) {
  return sizeof(uint32_t) * (p.taps_y * p.taps_x * STEPS * EIGHTS * 64 + (TILE_ROWS + p.taps_y - 1) * PITCH * paired_stride<STEPS * 8>);
}

// As many blocks as are at work at once share the tiles out, so that each reads the filter once.
template <int PRECISION, int STEPS, int EIGHTS, bool NINE> int32_t run_tiles(rs_operation *o, const tiled &p) {
  const size_t shared = tiles_bytes<STEPS, EIGHTS>(p);
  const int64_t room = rs_cuda_shared(p.device), fit = (room < 200 << 10 ? room : 200 << 10) / (int64_t)shared,
                most = rs_cuda_multiprocessors(p.device) * (fit < 6 ? fit : 6);
  const dim3 grid((unsigned)(p.tiles < most ? p.tiles : most), (unsigned)((p.columns + EIGHTS * 8 - 1) / (EIGHTS * 8)));
  return RS_LAUNCH((convolve_tiles<PRECISION, STEPS, EIGHTS, NINE>), grid, PRODUCT_THREADS, shared, rs_cuda_stream(o), p);
}

template <int PRECISION, int STEPS> int32_t run_columns(rs_operation *o, const tiled &p) {
  if (p.taps_y != 3 || p.taps_x != 3) return run_tiles<PRECISION, STEPS, 4, false>(o, p);
  return p.columns <= 8 ? run_tiles<PRECISION, STEPS, 1, true>(o, p) : run_tiles<PRECISION, STEPS, 4, true>(o, p);
}

template <int PRECISION> int32_t run_product(rs_operation *o, const tiled &p) {
  const int words = (p.channels + rs_per_word<PRECISION> - 1) / rs_per_word<PRECISION>;
  if (words <= 8) return run_columns<PRECISION, 1>(o, p);
  const bool fits = (int64_t)tiles_bytes<4, 4>(p) <= rs_cuda_shared(p.device);
  return words <= 16 || !fits ? run_columns<PRECISION, 2>(o, p) : run_columns<PRECISION, 4>(o, p);
}
