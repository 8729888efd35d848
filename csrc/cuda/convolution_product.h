// convolution_product.h: a convolution, or the gradient of its input, on tensor cores. Rows of the products are pixels, columns are
// channels of the result, and depth runs over filter elements and channels of the source.
#pragma once
#include "convolution_tiles.h"

// Words from pixel to pixel of a tile: rs_left.
template <int WORDS> constexpr int pixel_stride = WORDS + 4;

// A warp has two rows of a tile: 4 products of 16 pixels side by side.
constexpr int PRODUCT_THREADS = TILE_ROWS / 2 * 32;

// The filter lies in shared memory as right_words wants it: [tap][pairs of words of channels][columns][2], where groups of columns come
// in turn so that no bank is met twice. Words of a pair's row:
template <int EIGHTS> constexpr int filter_stride = EIGHTS * 16 + 8;

// Where columns 4 quad + 2 half and the next one of a row are.
template <int EIGHTS> __device__ inline int columns_at(int quad, int half) {
  return EIGHTS == 1 ? quad * 8 + half * 4 : half * 32 + quad * 4;
}

// NINE: the filter is 3 x 3, and comes at once where there are registers for 32 x 32 channels.
template <int PRECISION, int STEPS, int EIGHTS, bool NINE>
__device__ inline void stage_filter(uint32_t *filter, const tiled &p, int first_channel, int first_column) {
  constexpr int PER = rs_per_word<PRECISION>, ROWS = STEPS * 4, QUADS = EIGHTS * 2;
  const int channels = p.source.channels, taps = NINE ? 9 : p.taps_y * p.taps_x;
  // Values are 4 columns of a row's channels. read(words, tap, there, channel, column) brings the numbers of a channel.
  const auto bring = [&](int first, int step, int count, auto row_at, auto quad_at, auto read) {
    const auto get = [&](int i, bool there, uint32_t *words) {
      const int tap = row_at(i) / ROWS, channel = first_channel + row_at(i) % ROWS * 2 * PER;
      const float *from = p.b + (int64_t)(p.backwards ? taps - 1 - tap : tap) * (channels * p.columns);
#pragma unroll
      for (int k = 0; k < 2 * PER; k++)
        read(words + 4 * k, from, there && channel + k < channels, channel + k, first_column + quad_at(i) * 4);
    };
    const auto put = [&](int i, const uint32_t *words) {
      uint32_t *row = filter + row_at(i) * filter_stride<EIGHTS>;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        uint32_t pairs[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
          const uint32_t *word = words + k % 2 * PER * 4 + half * 2 + k / 2;
          pairs[k] = word_of<PRECISION>(word[0], word[PER * 4 - 4]);
        }
        *(uint4 *)(row + columns_at<EIGHTS>(quad_at(i), half)) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
      }
    };
    uint32_t room[NINE && STEPS == 4 ? 72 : NINE ? 48 : 16] = {};
    ask_values<8 * PER>(room, first, step, count, get);
    put_values<8 * PER>(room, first, step, count, get, put);
  };
  // Neighbouring threads read what lies side by side. The filter is [tap][in channel][out channel].
  if (p.quads) {
    const int quad = threadIdx.x % QUADS;
    bring(
        threadIdx.x / QUADS, PRODUCT_THREADS / QUADS, taps * ROWS, [](int i) { return i; }, [=](int) { return quad; },
        [&](uint32_t *words, const float *tap, bool there, int channel, int column) {
          get_words<4>(words, there && column < p.columns, tap + (int64_t)channel * p.columns + column);
        });
  } else {
    const int row = threadIdx.x % ROWS, by_channel = p.backwards ? 1 : p.columns, by_column = p.backwards ? channels : 1;
    bring(
        threadIdx.x / ROWS, PRODUCT_THREADS / ROWS, taps * QUADS, [=](int i) { return i / QUADS * ROWS + row; },
        [](int i) { return i % QUADS; },
        [&](uint32_t *words, const float *tap, bool there, int channel, int column) {
#pragma unroll
          for (int k = 0; k < 4; k++)
            get_words<1>(words + k, there && column + k < p.columns,
                         tap + (int64_t)channel * by_channel + (int64_t)(column + k) * by_column);
        });
  }
}

// `right` of a step. Which word of a step is called k, and which column of EIGHTS groups of 8 belongs to which group, is free as long as
// both sides agree: words 2 t and 2 t + 1 are k = t and k = t + 4, so that a lane has neighbours in one load, and column c of
// group n is EIGHTS c + n, so that a lane has 2 EIGHTS neighbours of the result.
template <int EIGHTS> __device__ inline void right_words(uint32_t (&right)[EIGHTS][2], const uint32_t *step) {
  const int lane = threadIdx.x % 32;
  const uint32_t *row = step + lane % 4 * filter_stride<EIGHTS>;
  if constexpr (EIGHTS == 1) {
    const uint2 words = *(const uint2 *)(row + lane / 4 * 2);
    right[0][0] = words.x, right[0][1] = words.y;
  } else
#pragma unroll
    for (int n = 0; n < EIGHTS; n += 2) {
      const uint4 words = *(const uint4 *)(row + columns_at<EIGHTS>(lane / 4, n / 2));
      right[n][0] = words.x, right[n][1] = words.y, right[n + 1][0] = words.z, right[n + 1][1] = words.w;
    }
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

// What is done to RUN neighbouring channels of a result: something is added, and they are dropped where the mask is not above 0. The
// result may take the mask's place: a thread reads the mask where it is going to write, before it does, and no other thread does either.
// BY_RUNS: p.runs.
template <int PRECISION, int RUN, bool BY_RUNS> struct around {
  uint32_t add[BY_RUNS ? 1 : RUN], mask[RUN]; // as they lie in memory: who adds here waits here

  __device__ static bool adds(const tiled &p, int channel) { return !BY_RUNS && p.add && channel < (int)p.out.channels[0]; }

  __device__ void ask(const tiled &p, bool there, int64_t pixel, int column) {
    const bool masked = there & (p.mask != nullptr), halves = PRECISION == RS_CONVOLVE_BF16 && p.halves & RS_HALVES_MASK;
    const int64_t at = pixel * p.columns + column;
    const uint16_t *half = place_of_value((const uint16_t *)p.mask, at);
    const float *mask_at = place_of_value(p.mask, at);
    if constexpr (BY_RUNS) {
      constexpr int N = RUN == 8 ? 4 : 1;
      get_words<N>(mask, masked & (column < p.columns), halves ? (const void *)half : mask_at);
      get_words<N>(mask + N, masked & !halves & (column + N < p.columns), place_of_value(mask_at, N));
    } else
#pragma unroll
      for (int k = 0; k < RUN; k++) {
        const bool inside = masked & (column + k < p.columns);
        get_words<1>(add + k, there & adds(p, column + k), place_of_value(p.add, pixel * p.out.channels[0] + column + k));
        if (halves)
          mask[k] = inside ? __ldg(half + k) << 16 : 0;
        else
          get_words<1>(mask + k, inside, place_of_value(mask_at, k));
      }
  }

  __device__ void finish(const tiled &p, int64_t pixel, int column, const float (&sums)[RUN], const float (&bias)[RUN]) const {
    if (column >= p.columns) return;
    const bool packed = BY_RUNS && PRECISION == RS_CONVOLVE_BF16 && p.halves & RS_HALVES_MASK;
    float values[RUN];
#pragma unroll
    for (int k = 0; k < RUN; k++) {
      const uint32_t word = !packed ? mask[k] : k % 2 ? mask[k / 2] & 0xffff0000 : mask[k / 2] << 16;
      const float more = adds(p, column + k) ? bias[k] + __uint_as_float(add[BY_RUNS ? 0 : k]) : bias[k];
      values[k] = finished(p, sums[k], more, p.mask ? __uint_as_float(word) : 1);
    }
    const int64_t at = pixel * p.columns + column;
    const bool halves = PRECISION == RS_CONVOLVE_BF16 && p.halves & RS_HALVES_OUT;
    uint16_t *half = (uint16_t *)p.out.at[0] + at;
    float *to = p.out.at[0] + at;
    if constexpr (!BY_RUNS) {
#pragma unroll
      for (int k = 0; k < RUN; k++)
        if (!halves)
          put_channel(p, pixel, column + k, values[k]);
        else if (column + k < p.columns)
          half[k] = (uint16_t)rs_bf16(values[k], 0);
    } else if constexpr (RUN == 8) {
      if (halves)
        *(uint4 *)half = make_uint4(rs_bf16(values[0], values[1]), rs_bf16(values[2], values[3]), rs_bf16(values[4], values[5]),
                                    rs_bf16(values[6], values[7]));
      else {
        *(float4 *)to = make_float4(values[0], values[1], values[2], values[3]);
        if (column + 4 < p.columns) *(float4 *)(to + 4) = make_float4(values[4], values[5], values[6], values[7]);
      }
    } else if (halves)
      *(uint32_t *)half = rs_bf16(values[0], values[1]);
    else
      *(float2 *)to = make_float2(values[0], values[1]);
  }
};

// Finishes a thread's 8 pixels of a tile, and leaves zeros for the next. What surrounds TOGETHER of them is asked for at once.
template <int PRECISION, int EIGHTS, bool BY_RUNS>
__device__ inline void finish_tile(const tiled &p, const tile_place &place, int first_column, float (&sums)[4][EIGHTS][4]) {
  constexpr int RUN = 2 * EIGHTS, TOGETHER = EIGHTS == 1 || BY_RUNS ? 4 : 2;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = first_column + lane % 4 * RUN;
  const int64_t start = place.image * p.height * p.width; // pixels before this image
  float bias[RUN];
#pragma unroll
  for (int k = 0; k < RUN; k++) bias[k] = p.bias && column + k < p.columns ? __ldg(p.bias + column + k) : 0;
#pragma unroll(BY_RUNS ? 8 / TOGETHER : 1) // else these would be most of the kernel
  for (int first = 0; first < 8; first += TOGETHER) {
    around<PRECISION, RUN, BY_RUNS> arounds[TOGETHER];
    int pixels[TOGETHER]; // of the image, or below 0
#pragma unroll
    for (int i = 0; i < TOGETHER; i++) {
      const int k = first + i, y = place.top + 2 * warp + k / 4, x = place.left + k % 4 * 8 + lane / 4;
      pixels[i] = y < p.height && x < p.width ? y * p.width + x : -1;
      arounds[i].ask(p, pixels[i] >= 0, start + pixels[i], column);
    }
#pragma unroll
    for (int i = 0; i < TOGETHER; i++) {
      float run[RUN];
#pragma unroll
      for (int k = 0; k < RUN; k++) run[k] = sums[i / 2][k % EIGHTS][i % 2 * 2 + k / EIGHTS];
      if (pixels[i] >= 0) arounds[i].finish(p, start + pixels[i], column, run, bias);
    }
#pragma unroll
    for (int i = 0; i < 4 * EIGHTS * 4; i++) {
      constexpr int DONE = TOGETHER / 2;
      const int m = i / 4 / EIGHTS, n = i / 4 % EIGHTS, k = i % 4;
      sums[m][n][k] = m + DONE < 4 ? sums[(m + DONE) % 4][n][k] : 0;
    }
  }
}

// Blocks that are to have registers at the same time on a multiprocessor, and what each thread then has for values of its next tile.
template <int CHANNELS, int EIGHTS> constexpr int product_blocks = EIGHTS == 4 && CHANNELS > 8 ? 2 : 3;
template <int CHANNELS, int STEPS, int EIGHTS> constexpr int product_room = CHANNELS == 8 ? 24 : STEPS == 4 || STEPS *EIGHTS == 8 ? 88 : 44;

// STEPS times 8 words of depth at a time, EIGHTS times 8 columns; NINE: the filter is 3 x 3.
template <int PRECISION, int STEPS, int EIGHTS, bool NINE>
__global__ void __launch_bounds__(PRODUCT_THREADS, product_blocks<STEPS * 8 * rs_per_word<PRECISION>, EIGHTS>) convolve_tiles(tiled p) {
  constexpr int WORDS = STEPS * 8, STRIDE = pixel_stride<WORDS>, CHANNELS = WORDS * rs_per_word<PRECISION>;
  RS_SHARED(uint32_t, filter);
  uint32_t *tile = filter + (NINE ? 9 : p.taps_y * p.taps_x) * STEPS * 4 * filter_stride<EIGHTS>;
  const int warp = threadIdx.x / 32, first_column = blockIdx.y * EIGHTS * 8;
  const auto window_at = [&](const tile_place &place, int first) {
    return tile_window{place.image, TILE_ROWS + (NINE ? 3 : p.taps_y) - 1, place.top - p.above, place.left - p.before, first};
  };
  // The next tile, or the next channels of this one, are on their way from device memory while this one is worked off.
  staging<PRECISION, WORDS, PITCH, product_room<CHANNELS, STEPS, EIGHTS>, true> next;
  float sums[4][EIGHTS][4] = {};
  tile_place here = {}, place = tile_at(p, blockIdx.x);
  int first = 0;
  for (bool begun = false;; begun = true) {
    // What surrounds the result, if these are the last channels and all columns: there are no registers to ask for it now. Of 32 columns it
    // is asked for in fewer and wider reads, which wait less than this takes (measured).
    if (EIGHTS == 1 && begun && first == 0 && gridDim.y == 1) {
      const tile_window result = {here.image, TILE_ROWS, here.top, here.left, 0};
      expect(p.mask, p.columns * (p.halves & RS_HALVES_MASK ? 2 : 4), p.height, p.width, result, TILE_COLUMNS, PRODUCT_THREADS);
      expect(p.add, p.out.channels[0] * 4, p.height, p.width, result, TILE_COLUMNS, PRODUCT_THREADS);
    }
    if (place.image < p.images) next.ask(p.source, window_at(place, first), PRODUCT_THREADS);
    if (begun) {
      const uint32_t *right_at = filter;
      for (int y = 0; y < (NINE ? 3 : p.taps_y); y++)
#pragma unroll(NINE ? 3 : 1)
        for (int x = 0; x < (NINE ? 3 : p.taps_x); x++) {
          const uint32_t *left_at = tile + ((2 * warp + y) * PITCH + x) * STRIDE;
#pragma unroll
          for (int step = 0; step < STEPS; step++) {
            uint32_t left[4][4], right[EIGHTS][2];
            right_words<EIGHTS>(right, right_at + step * 4 * filter_stride<EIGHTS>);
#pragma unroll
            for (int m = 0; m < 4; m++) rs_left(left[m], left_at + (m / 2 * PITCH + m % 2 * 16) * STRIDE + step * 8, STRIDE);
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
              for (int n = 0; n < EIGHTS; n++) rs_multiply<PRECISION>(sums[m][n], left[m], right[n]);
          }
          right_at += STEPS * 4 * filter_stride<EIGHTS>;
        }
      if (first == 0) { // these were the last channels
        if (p.runs)
          finish_tile<PRECISION, EIGHTS, true>(p, here, first_column, sums);
        else
          finish_tile<PRECISION, EIGHTS, false>(p, here, first_column, sums);
      }
    }
    if (place.image >= p.images) return;
    __syncthreads(); // the last tile was read
    if (!begun || p.source.channels > CHANNELS) stage_filter<PRECISION, STEPS, EIGHTS, NINE>(filter, p, first, first_column);
    next.put(tile, STRIDE, p.source, window_at(place, first), PRODUCT_THREADS);
    __syncthreads();
    here = place, first += CHANNELS;
    if (first < p.source.channels) continue;
    first = 0, place = tile_after(p, place);
  }
}

template <int STEPS, int EIGHTS> size_t tiles_bytes(const tiled &p) {
  return sizeof(uint32_t) *
         (p.taps_y * p.taps_x * STEPS * 4 * filter_stride<EIGHTS> + (TILE_ROWS + p.taps_y - 1) * PITCH * pixel_stride<STEPS * 8>);
}

// As many blocks as are at work at once share the tiles out, so that each reads the filter once.
template <int PRECISION, int STEPS, int EIGHTS, bool NINE> int32_t run_tiles(rs_operation *o, tiled p) {
  constexpr int64_t MOST = product_blocks<STEPS * 8 * rs_per_word<PRECISION>, EIGHTS>;
  const size_t shared = tiles_bytes<STEPS, EIGHTS>(p);
  const int64_t room = rs_cuda_shared(p.device), fit = (room < 200 << 10 ? room : 200 << 10) / (int64_t)shared,
                most = rs_cuda_multiprocessors(p.device) * (fit < MOST ? fit : MOST);
  const dim3 grid((unsigned)(p.tiles < most ? p.tiles : most), (unsigned)((p.columns + EIGHTS * 8 - 1) / (EIGHTS * 8)));
  p.step = tile_at(p, grid.x);
  return RS_LAUNCH((convolve_tiles<PRECISION, STEPS, EIGHTS, NINE>), grid, PRODUCT_THREADS, shared, rs_cuda_stream(o), p);
}

template <int PRECISION, int STEPS> int32_t run_columns(rs_operation *o, const tiled &p) {
  if (p.taps_y != 3 || p.taps_x != 3) return run_tiles<PRECISION, STEPS, 4, false>(o, p);
  return p.columns <= 8 ? run_tiles<PRECISION, STEPS, 1, true>(o, p) : run_tiles<PRECISION, STEPS, 4, true>(o, p);
}

template <int PRECISION> int32_t run_product(rs_operation *o, const tiled &p) {
  const int words = (p.source.channels + rs_per_word<PRECISION> - 1) / rs_per_word<PRECISION>;
  if (words <= 8) return run_columns<PRECISION, 1>(o, p);
  const bool fits = (int64_t)tiles_bytes<4, 4>(p) <= rs_cuda_shared(p.device);
  return words <= 16 || !fits ? run_columns<PRECISION, 2>(o, p) : run_columns<PRECISION, 4>(o, p);
}
