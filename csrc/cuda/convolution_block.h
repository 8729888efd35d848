// convolution_block.h: a residual block of three 3 x 3 convolutions as one kernel. A block of threads goes down a strip of an image, 4
// rows a turn, and what stands between the convolutions only ever is in its shared memory, as words (convolution_products.h). In a turn
// all three convolutions are at work, each on rows that the one before has finished in earlier turns; so a turn has one barrier. Half of
// the warps have the first and the last convolution, with their filters in registers, the others the middle one, which is as much work.
//
// Of the strip in turn n, from its first row of the result on (what is there of them):
//   x                    row 4 n + 5 ... 4 n + 8 comes     12 rows in memory
//   first activation     row 4 n - 2 ... 4 n + 1           10 rows, of which the middle convolution reads the 6 before these
//   second activation    row 4 n - 7 ... 4 n - 4           10 rows, of which the last convolution reads the 6 before these
//   result               row 4 n - 12 ... 4 n - 9
#pragma once
#include "../convolution.h"
#include "convolution_products.h"

constexpr int BLOCK_DOWN = 4;                  // rows a turn
constexpr int BLOCK_ACROSS = 64;               // pixels of a row that are computed: four products of 16 side by side
constexpr int BLOCK_STRIP = BLOCK_ACROSS - 4;  // of which so many belong to the result
constexpr int BLOCK_PITCH = BLOCK_ACROSS + 2;  // pixels of a row in shared memory
constexpr int BLOCK_X_ROWS = 3 * BLOCK_DOWN;   // of x in shared memory
constexpr int BLOCK_RING = 2 * BLOCK_DOWN + 2; // of an activation
constexpr int BLOCK_NARROW = RS_BLOCK_MOST_X, BLOCK_WIDE = RS_BLOCK_MOST_CHANNELS; // channels of x and of an activation, with zeros
constexpr int BLOCK_HALF = 128; // threads for the first and last convolution, and as many for the middle one
constexpr int BLOCK_THREADS = 2 * BLOCK_HALF;

struct residual {
  rs_tensor_residual b;
  int channels, width, height; // of x in all; of an image
  int strips, segments;        // of an image, across and down
  int rows;                    // of a segment
  int jobs;                    // segments of all images
};

// What a block of threads works on at a time.
struct residual_segment {
  int first;        // pixels before its image: of all images there are fewer than 2^31
  int top, left;    // pixel of the image
  int rows, groups; // of the result; of an activation by 4
};

__device__ static inline residual_segment segment_at(const residual &p, int job) {
  const int column = job / p.segments, top = job % p.segments * p.rows, rows = p.height - top < p.rows ? p.height - top : p.rows;
  return {column / p.strips * p.height * p.width, top, column % p.strips * BLOCK_STRIP, rows, (rows + BLOCK_DOWN - 1) / BLOCK_DOWN + 1};
}

template <int PRECISION> struct residual_memory {
  static constexpr int WORDS = BLOCK_WIDE / rs_per_word<PRECISION>, STEPS = WORDS / 8;
  static constexpr int FILTER = 9 * STEPS * 4 * 64, RING = BLOCK_RING * BLOCK_PITCH * WORDS, X = BLOCK_X_ROWS * BLOCK_PITCH * BLOCK_NARROW;
  static constexpr int BYTES = (FILTER + 2 * RING + X + 3 * BLOCK_WIDE) * 4;
  uint32_t *rings[2]; // of activations, [row][pixel][word], see words_place
  uint32_t *filter;   // of the middle convolution: [tap][step][columns / 16][lane][4], as convolution_product.h has it
  float *x;           // [row][pixel][channel], see words_place and x_place
  float *biases;      // [convolution][channel]
  __device__ explicit residual_memory(uint32_t *at)
      : rings{at, at + RING}, filter(at + 2 * RING), x((float *)filter + FILTER), biases(x + X) {}
};

// Where a pixel of a row has a quarter of 4 words: not where it is counted, but so that 8 pixels side by side meet no bank twice. Quarters
// 2 n and 2 n + 1 are step n of the products, in the order of their depth; where n is even, 8 n more or less leads to the others.
template <int WORDS> __device__ static inline unsigned words_place(unsigned pixel, unsigned quarter) {
  return pixel * WORDS + 4 * (quarter ^ pixel / (32 / WORDS) % (WORDS / 4));
}

// The same for a channel of x: as words 2 t and 2 t + 1 are t and t + 4 in depth (stage_filter), or in bf16, where two of them make a word.
template <int PRECISION> __device__ static inline unsigned x_place(unsigned pixel, unsigned channel) {
  return PRECISION == RS_CONVOLVE_TF32 ? words_place<BLOCK_NARROW>(pixel, channel % 2) + channel / 2
                                       : words_place<BLOCK_NARROW>(pixel, channel / 4) + channel % 4;
}

// All threads of a block meet, wherever their warps are in the source. With their number named: without it, one place is expected
// (compute-sanitizer's synccheck stops the kernel).
__device__ static inline void residual_barrier() {
#ifdef __CUDA_ARCH__
  asm volatile("bar.sync 1, %0;" ::"n"(BLOCK_THREADS) : "memory");
#else
  __syncthreads();
#endif
}

// A number goes from device memory to shared memory by itself, or 0 does; residual_arrived waits for all that this thread has sent.
__device__ static inline void residual_send(float *to, const float *from, bool inside) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 4 : 0)
               : "memory");
#else
  *to = inside ? __ldg(from) : 0;
#endif
}
__device__ static inline void residual_arrived() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Brings the words of a filter [tap][channel][column] as `right` of the products wants them (stage_filter of convolution_product.h, where
// columns by 16 are together): [tap][step][lane][2], or [tap][step][columns / 16][lane][4]. By all threads.
template <int PRECISION, int STEPS, int EIGHTHS>
__device__ inline void bring_filter(uint32_t *to, const float *filter, int channels, int columns) {
  constexpr int PER = rs_per_word<PRECISION>, GROUPS = EIGHTHS > 1 ? 2 : 1, PAIRS = EIGHTHS / GROUPS, WORDS = 9 * STEPS * EIGHTHS * 64;
#pragma unroll 12
  for (int i = threadIdx.x; i < WORDS; i += BLOCK_THREADS) {
    const int half = i % 2, group = i / 2 % GROUPS, lane = i / 2 / GROUPS % 32, rest = i / 64 / GROUPS;
    const int channel = (rest / PAIRS % STEPS * 8 + lane % 4 * 2 + half) * PER, column = (rest % PAIRS * GROUPS + group) * 8 + lane / 4;
    const float *from = filter + (int64_t)(rest / PAIRS / STEPS * channels + channel) * columns + column;
    const float low = channel < channels && column < columns ? __ldg(from) : 0;
    const float high = PER == 2 && channel + 1 < channels && column < columns ? __ldg(from + columns) : 0;
    to[i] = PER == 1 ? rs_tf32(low) : rs_bf16(low, high);
  }
}

// Sends group n of x's rows: 4 rows from row 4 n - 3 of the segment on. By the first half of the threads.
template <int PRECISION>
__device__ inline void send_x(const residual &p, const residual_memory<PRECISION> &m, const residual_segment &s, int n) {
  float *to = m.x + n % 3 * (BLOCK_DOWN * BLOCK_PITCH * BLOCK_NARROW);
  for (int i = threadIdx.x; i < BLOCK_DOWN * BLOCK_PITCH; i += BLOCK_HALF) {
    const int row = i / BLOCK_PITCH, pixel = i % BLOCK_PITCH;
    const int y = s.top + 4 * n - 3 + row, x = s.left - 3 + pixel;
    const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
    const int64_t at = inside ? s.first + y * p.width + x : 0;
    int first = 0;
#pragma unroll
    for (int k = 0; k < 3; k++) {
      const int channels = (int)p.b.x.channels[k];
      for (int channel = 0; channel < channels; channel++)
        residual_send(to + row * (BLOCK_PITCH * BLOCK_NARROW) + x_place<PRECISION>(pixel, first + channel),
                      p.b.x.at[k] + at * channels + channel, inside);
      first += channels;
    }
  }
}

// Words of `left` from a row of x in shared memory, whose 16 pixels begin at `first`.
template <int PRECISION> __device__ inline void x_words(uint32_t (&left)[4], const float *row, int lane, int first) {
  if (PRECISION == RS_CONVOLVE_TF32) {
    rs_rows(left, (const uint32_t *)row + words_place<BLOCK_NARROW>(first + lane % 16, lane / 16));
#pragma unroll
    for (int k = 0; k < 4; k++) left[k] = rs_tf32(__uint_as_float(left[k]));
  } else
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const float *at = row + words_place<BLOCK_NARROW>(first + lane / 4 + 8 * k, lane % 2);
      const float4 value = lane % 4 < 2 ? *(const float4 *)at : make_float4(0, 0, 0, 0);
      left[k] = rs_bf16(value.x, value.y), left[k + 2] = rs_bf16(value.z, value.w);
    }
}

// Row `own` of activation `layer`, counted from the first that its ring has had: bias, ReLU and zeros outside of the image for this
// lane's part of 16 pixels' sums, half of it: to the ring, and to the array where the activation is kept.
template <int PRECISION>
__device__ inline void put_activation(const residual &p, const residual_memory<PRECISION> &m, const residual_segment &s, int layer, int own,
                                      int lane, int first, const float (&sums)[4][4], int half) {
  constexpr int WORDS = residual_memory<PRECISION>::WORDS;
  uint32_t *row = m.rings[layer] + own % BLOCK_RING * (BLOCK_PITCH * WORDS);
  const int t = lane % 4, pixel = first + lane / 4 + 8 * half, channels = (int)p.b.channels[layer];
  const int y = s.top + own - 2 - layer, x = s.left + pixel - 2 + layer;
  const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
  float *kept = inside && y >= s.top && y < s.top + s.rows && x >= s.left && x < s.left + BLOCK_STRIP ? p.b.kept[layer] : nullptr;
  const int64_t at = (int64_t)(s.first + y * p.width + x) * channels + 2 * t;
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const float2 bias = *(const float2 *)(m.biases + layer * BLOCK_WIDE + n * 8 + 2 * t);
    float2 value = make_float2(sums[n][2 * half] + bias.x, sums[n][2 * half + 1] + bias.y);
    const bool there = inside && n * 8 < channels, keep = kept && n * 8 < channels;
    if (!there || value.x < 0) value.x = 0; // NaN stays
    if (!there || value.y < 0) value.y = 0;
    // Words 2 t and 2 t + 1 of a step are t and t + 4 in depth (stage_filter).
    if (PRECISION == RS_CONVOLVE_TF32) {
      row[words_place<WORDS>(pixel, 2 * n) + t] = rs_tf32(value.x);
      row[words_place<WORDS>(pixel, 2 * n + 1) + t] = rs_tf32(value.y);
    } else {
      const uint32_t word = rs_bf16(value.x, value.y);
      row[words_place<WORDS>(pixel, n / 2 * 2 + t % 2) + n % 2 * 2 + t / 2] = word;
      if (keep && p.b.halves) ((uint32_t *)kept)[(at + n * 8) / 2] = word;
    }
    if (keep && !p.b.halves) *(float2 *)(kept + at + n * 8) = value;
  }
}

// The first and the last convolution. A warp has 16 pixels of 4 rows: a row that it reads serves three rows of products. Sums are in the
// order of rows, columns and channels of the filter.
template <int PRECISION> struct outer_layers {
  using memory = residual_memory<PRECISION>;
  static constexpr int WORDS = memory::WORDS, STEPS = memory::STEPS;
  uint32_t first[9][4][2], last[9][STEPS][2]; // filters

  __device__ inline outer_layers(const uint32_t *first_words, const uint32_t *last_words) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < 18; k++) {
      const uint4 words = *(const uint4 *)(first_words + (k * 32 + lane) * 4);
      uint32_t(*to)[2] = first[k / 2] + k % 2 * 2;
      to[0][0] = words.x, to[0][1] = words.y, to[1][0] = words.z, to[1][1] = words.w;
    }
#pragma unroll
    for (int k = 0; k < 9 * STEPS; k++) {
      const uint2 words = *(const uint2 *)(last_words + (k * 32 + lane) * 2);
      last[k / STEPS][k % STEPS][0] = words.x, last[k / STEPS][k % STEPS][1] = words.y;
    }
  }

  // Rows 4 n - 2 ... 4 n + 1 of the first activation.
  __device__ inline void put_first(const residual &p, const memory &m, const residual_segment &s, int n) const {
    const int lane = threadIdx.x % 32, first_pixel = threadIdx.x / 32 * 16;
#pragma unroll 1 // two rows at a time: filters leave no registers for the sums of more
    for (int first_row = 0; first_row < BLOCK_DOWN; first_row += 2) {
      float sums[2][4][4] = {};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int from = (n * BLOCK_DOWN + first_row + i) % BLOCK_X_ROWS;
#pragma unroll
        for (int x = 0; x < 3; x++) {
          uint32_t left[4];
          x_words<PRECISION>(left, m.x + from * (BLOCK_PITCH * BLOCK_NARROW), lane, first_pixel + x);
#pragma unroll
          for (int y = 0; y < 3; y++)
            if (i >= y && i - y < 2)
#pragma unroll
              for (int k = 0; k < 4; k++) rs_multiply<PRECISION>(sums[i - y][k], left, first[y * 3 + x][k]);
        }
        if (i < 2) continue;
        const int own = n * BLOCK_DOWN + first_row + i - 2;
#pragma unroll
        for (int half = 0; half < 2; half++) put_activation<PRECISION>(p, m, s, 0, own, lane, first_pixel, sums[i - 2], half);
      }
    }
  }

  // Rows 4 n - 4 ... 4 n - 1 of the result.
  __device__ inline void put_result(const residual &p, const memory &m, const residual_segment &s, int n) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, pixel = threadIdx.x / 32 * 16 + g;
    const int columns = (int)p.b.x.channels[0], top = 4 * n - 4;
    const int right = p.width < s.left + BLOCK_STRIP ? p.width : s.left + BLOCK_STRIP;
    const int64_t start = (int64_t)(s.first + (s.top + top) * p.width + s.left + pixel) * columns + 2 * t;
    // Number k of a row of sums: whether it belongs to the result, and where.
    const auto there = [&](int row, int k) { return top + row < s.rows && s.left + pixel + k / 2 * 8 < right && 2 * t + k % 2 < columns; };
    const auto place = [&](int row, int k) { return start + (row * p.width + k / 2 * 8) * columns + k % 2; };
    float sums[BLOCK_DOWN][4] = {}, added[BLOCK_DOWN][4];
    int from = (n * BLOCK_DOWN - 2) % BLOCK_RING, places[3];
#pragma unroll
    for (int x = 0; x < 3; x++) places[x] = words_place<WORDS>(pixel - g + lane % 16 + x, lane / 16);
#pragma unroll
    for (int i = 0; i < BLOCK_DOWN + 2; i++) {
      if (i > 0 && i <= BLOCK_DOWN)
#pragma unroll
        for (int k = 0; k < 4; k++) added[i - 1][k] = there(i - 1, k) ? __ldg(p.b.x.at[0] + place(i - 1, k)) : 0;
      const uint32_t *row = m.rings[1] + from * (BLOCK_PITCH * WORDS);
#pragma unroll
      for (int x = 0; x < 3; x++)
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
          uint32_t left[4];
          rs_rows(left, row + (places[x] ^ step * 8));
#pragma unroll
          for (int y = 0; y < 3; y++)
            if (i >= y && i - y < BLOCK_DOWN) rs_multiply<PRECISION>(sums[i - y], left, last[y * 3 + x][step]);
        }
      if (++from == BLOCK_RING) from = 0;
      if (i < 2) continue;
      const float2 bias = *(const float2 *)(m.biases + 2 * BLOCK_WIDE + 2 * t);
#pragma unroll
      for (int k = 0; k < 4; k++)
        if (there(i - 2, k)) p.b.out[place(i - 2, k)] = sums[i - 2][k] + ((k % 2 ? bias.y : bias.x) + added[i - 2][k]);
    }
  }
};

// The middle convolution: rows 4 n - 3 ... 4 n of the second activation, one a warp of the second half.
template <int PRECISION>
__device__ inline void put_second(const residual &p, const residual_memory<PRECISION> &m, const residual_segment &s, int n) {
  constexpr int WORDS = residual_memory<PRECISION>::WORDS, STEPS = residual_memory<PRECISION>::STEPS;
  const int lane = threadIdx.x % 32, own = n * BLOCK_DOWN + (threadIdx.x - BLOCK_HALF) / 32;
  if (own < 2 || own - 3 > s.rows) return; // nobody reads it
  float sums[4][4][4] = {};
  int places[3];
#pragma unroll
  for (int x = 0; x < 3; x++) places[x] = words_place<WORDS>(lane % 16 + x, lane / 16);
  const uint32_t *right_at = m.filter + lane * 4;
#pragma unroll 1
  for (int y = 0; y < 3; y++) {
    const uint32_t *row = m.rings[0] + (own - 2 + y) % BLOCK_RING * (BLOCK_PITCH * WORDS);
#pragma unroll
    for (int x = 0; x < 3; x++)
#pragma unroll
      for (int step = 0; step < STEPS; step++, right_at += 4 * 64) {
        uint32_t left[4][4], right[4][2];
#pragma unroll
        for (int k = 0; k < 4; k += 2) {
          const uint4 words = *(const uint4 *)(right_at + k * 64);
          right[k][0] = words.x, right[k][1] = words.y, right[k + 1][0] = words.z, right[k + 1][1] = words.w;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) rs_rows(left[k], row + (places[x] ^ step * 8) + k * 16 * WORDS);
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
          for (int e = 0; e < 4; e++) rs_multiply<PRECISION>(sums[k][e], left[k], right[e]);
      }
  }
#pragma unroll
  for (int k = 0; k < 8; k++) put_activation<PRECISION>(p, m, s, 1, own, lane, k / 2 * 16, sums[k / 2], k % 2);
}
