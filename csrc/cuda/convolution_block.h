// convolution_block.h: a residual block of three 3 x 3 convolutions as one kernel. A block of threads goes down a strip of an image, 4
// rows a turn, and what stands between the convolutions only ever is in its shared memory, as words (convolution_products.h). In a turn
// all three convolutions are at work, four warps each, on rows that the one before has finished in earlier turns; so a turn has one
// barrier. The first and the last one have their filters in registers, the middle one, with two thirds of the products, in shared memory.
//
// Of the strip in turn n, from its first row of the result on (what is there of them):
//   x                    row 4 n + 5 ... 4 n + 8 comes     12 rows in memory
//   first activation     row 4 n - 2 ... 4 n + 1           10 rows, of which the middle convolution reads the 6 before these
//   second activation    row 4 n - 7 ... 4 n - 4           10 rows, of which the last convolution reads the 6 before these
//   result               row 4 n - 12 ... 4 n - 9
#pragma once
#include "convolution_strip.h"

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

// ReLU: NaN stays. (A sum is never -0: it began with 0.)
__device__ static inline float residual_relu(float x) {
#if RS_PRODUCTS
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(x) : "f"(x));
  return x;
#else
  return x < 0 ? 0 : x;
#endif
}

// The tf32 word of a number that is not below 0, but `most` (a NaN, or 0) where that is less: of a NaN, which rounding would make a 0. The
// lower 13 bits are not cut off: tensor cores do not look at them.
__device__ static inline uint32_t residual_word(float x, uint32_t most) {
#if RS_PRODUCTS
  const uint32_t word = __float_as_uint(x) + 0x1000;
  return word < most ? word : most;
#else
  return most ? rs_tf32(x) : 0;
#endif
}

// 16 bytes go to device memory at once. (The compiler makes four stores of some of them if it is left to it.)
__device__ static inline void residual_keep(float *to, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
#ifdef __CUDA_ARCH__
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
#else
  *(uint4 *)to = make_uint4(a, b, c, d);
#endif
}

// What a lane does to its sums of activation LAYER: bias and ReLU, zeros outside of the image, to the ring, and to the array where the
// activation is kept.
template <int PRECISION, int LAYER> struct activation {
  static constexpr int WORDS = residual_memory<PRECISION>::WORDS, PAIRS = PRECISION == RS_CONVOLVE_TF32 ? 2 : 1;
  float bias[2][4];   // of two times 4 channels side by side
  uint32_t most[2];   // bits of their words: none where the activation has no such channels
  unsigned places[2]; // of pixel lane / 4 in a ring: words 2 t of a step, and words 2 t + 1

  __device__ inline explicit activation(const residual &p) {
    const int lane = threadIdx.x % 32, t = lane % 4;
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const int channel = channel_of<PRECISION>(2 * k, 2 * t);
      most[k] = channel < (int)p.b.channels[LAYER] ? PRECISION == RS_CONVOLVE_TF32 ? 0x7fffffff : 0xffffffff : 0;
      places[k] = words_place<WORDS>(lane / 4, t / 2 * PAIRS * 2 + k) + t % 2 * 2;
#pragma unroll
      for (int i = 0; i < 4; i++) bias[k][i] = p.b.biases[LAYER] && most[k] ? __ldg(p.b.biases[LAYER] + channel + i) : 0;
    }
  }

  // Row `own`, counted from the first that the ring has had, from pixel `first` on.
  template <int TILES>
  __device__ inline void put(const residual &p, const residual_memory<PRECISION> &m, const residual_segment &s, int own, int first,
                             const float (&sums)[TILES][4][4]) const {
    const int lane = threadIdx.x % 32, channels = (int)p.b.channels[LAYER];
    const int y = s.top + own - 2 - LAYER, x = first + lane / 4 - 2 + LAYER; // of the image; of the strip
    const bool inside = y >= 0 && y < p.height, keep = p.b.kept[LAYER] && y >= s.top && y < s.top + s.rows;
    const unsigned kept[2] = {keep && most[0] ? s.across : 0u, keep && most[1] ? s.across : 0u}; // pixels of the row
    uint32_t *row = m.rings[LAYER] + own % BLOCK_RING * (BLOCK_PITCH * WORDS) + first * WORDS;
    const bool halves = PRECISION == RS_CONVOLVE_BF16 && p.b.halves;
    const int64_t at = (int64_t)(s.first + y * p.width + s.left + x) * channels + channel_of<PRECISION>(0, lane % 4 * 2);
    float *to = place_of_value(p.b.kept[LAYER], halves ? at / 2 : at);
    constexpr int TOGETHER = 2 * TILES < 4 ? 2 : 4; // by 8 pixels
#pragma unroll
    for (int group = 0; group < 2 * TILES; group += TOGETHER) {
      uint32_t words[TOGETHER][2][2];
      float values[TOGETHER][2][4];
#pragma unroll
      for (int i = 0; i < TOGETHER; i++) {
        const int k = group + i;
#pragma unroll
        for (int n = 0; n < 2; n++) {
#pragma unroll
          for (int j = 0; j < 4; j++) values[i][n][j] = residual_relu(sums[k / 2][2 * n + j / 2][k % 2 * 2 + j % 2] + bias[n][j]);
          if (PRECISION == RS_CONVOLVE_TF32)
#pragma unroll
            for (int odd = 0; odd < 2; odd++)
              *(uint2 *)(row + (places[odd] ^ 8 * n) + k * 8 * WORDS) =
                  make_uint2(residual_word(values[i][n][odd], most[n]), residual_word(values[i][n][odd + 2], most[n]));
          else
#pragma unroll
            for (int odd = 0; odd < 2; odd++) words[i][n][odd] = rs_bf16(values[i][n][2 * odd], values[i][n][2 * odd + 1]) & most[n];
        }
        if (PRECISION == RS_CONVOLVE_BF16)
#pragma unroll
          for (int odd = 0; odd < 2; odd++) *(uint2 *)(row + places[odd] + k * 8 * WORDS) = make_uint2(words[i][0][odd], words[i][1][odd]);
      }
      // The branch also keeps the compiler from making these numbers here, two in turn in the same registers, which stores are slow to read.
      if (!keep) continue;
#pragma unroll
      for (int i = 0; i < TOGETHER; i++) {
        const int pixel = x + (group + i) * 8;
        if (halves) {
          if ((unsigned)pixel < kept[0]) residual_keep(to, words[i][0][0], words[i][0][1], words[i][1][0], words[i][1][1]);
        } else
#pragma unroll
          for (int n = 0; n < 2; n++)
            if ((unsigned)pixel < kept[n])
              residual_keep(to + n * 4 * PAIRS, __float_as_uint(values[i][n][0]), __float_as_uint(values[i][n][1]),
                            __float_as_uint(values[i][n][2]), __float_as_uint(values[i][n][3]));
        to = place_of_value(to, halves ? 4 * channels : 8 * channels);
      }
    }
    if (inside && s.left + x >= 0 && s.left + x + 16 * TILES - 8 < p.width) return;
#pragma unroll 1
    for (int k = 0; k < 2 * TILES; k++)
      if (!inside || s.left + x + k * 8 < 0 || s.left + x + k * 8 >= p.width)
#pragma unroll
        for (int i = 0; i < 2 * PAIRS; i++) *(uint2 *)(row + (places[i % 2] ^ i / 2 * 8) + k * 8 * WORDS) = make_uint2(0, 0);
  }
};

// The first convolution: rows 4 n - 2 ... 4 n + 1 of its activation in turn n. A warp has 16 pixels of the rows: a row that it reads serves
// three rows of products. Sums are in the order of rows, columns and channels of the filter, here and below. It is the first to be done in
// a turn, so it is its threads that send x.
template <int PRECISION> struct first_layer {
  const residual &p;
  const residual_memory<PRECISION> &m;
  x_sender<PRECISION> x;
  activation<PRECISION, 0> out;
  uint32_t filter[9][4][2];

  __device__ inline first_layer(const residual &of, const residual_memory<PRECISION> &memory) : p(of), m(memory), x(of, memory), out(of) {
    filter_words(filter, m.rings[0]);
  }

  __device__ static inline void bring(const residual &p, const residual_memory<PRECISION> &m) {
    bring_filter<2>(m.rings[0], [&](int tap, int part, int i) { // where there is no activation yet
      return filter_word<PRECISION>(p.b.filters[0], p.channels, (int)p.b.channels[0], tap, i / 4 % 4 * 2 + i % 2,
                                    channel_of<PRECISION>(part * 2 + i / 2 % 2, i / 16));
    });
  }

  __device__ static inline void begin(const residual &p, const residual_memory<PRECISION> &m, const residual_segment &s) {
    const x_sender<PRECISION> x(p, m);
#pragma unroll 1
    for (int n = 0; n < 2; n++) x.send(s, n);
  }

  __device__ inline void go(const residual_segment &s, int n) const {
    if (n >= s.groups) return;
    if (n + 2 <= s.groups) x.send(s, n + 2);
    const int lane = threadIdx.x % 32, first = threadIdx.x % BLOCK_ROLE / 32 * 16;
#pragma unroll 1 // two rows at a time: filters leave no registers for the sums of more
    for (int first_row = 0; first_row < BLOCK_DOWN; first_row += 2) {
      float sums[2][1][4][4] = {};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int from = (n * BLOCK_DOWN + first_row + i) % BLOCK_X_ROWS;
#pragma unroll
        for (int x = 0; x < 3; x++) {
          uint32_t left[4];
          x_words<PRECISION>(left, m.x + from * (BLOCK_PITCH * BLOCK_NARROW), lane, first + x);
#pragma unroll
          for (int y = 0; y < 3; y++)
            if (i >= y && i - y < 2)
#pragma unroll
              for (int k = 0; k < 4; k++) rs_multiply<PRECISION>(sums[i - y][0][k], left, filter[y * 3 + x][k]);
        }
        if (i >= 2) out.put(p, m, s, n * BLOCK_DOWN + first_row + i - 2, first, sums[i - 2]);
      }
    }
    residual_arrived();
  }
};

// The middle convolution: rows 4 n - 7 ... 4 n - 4 of its activation in turn n, one a warp.
template <int PRECISION> struct middle_layer {
  static constexpr int WORDS = residual_memory<PRECISION>::WORDS, STEPS = residual_memory<PRECISION>::STEPS;
  const residual &p;
  const residual_memory<PRECISION> &m;
  activation<PRECISION, 1> out;
  unsigned places[3];

  // What 16 products take, which comes while those before them are made.
  struct step_words {
    uint32_t left[4][4], right[4][2];

    __device__ inline void get(const uint32_t *left_at, const uint32_t *right_at) {
#pragma unroll
      for (int k = 0; k < 4; k += 2) {
        const uint4 words = *(const uint4 *)(right_at + k * 64);
        right[k][0] = words.x, right[k][1] = words.y, right[k + 1][0] = words.z, right[k + 1][1] = words.w;
      }
#pragma unroll
      for (int k = 0; k < 4; k++) rs_rows(left[k], left_at + k * 16 * WORDS);
    }

    __device__ inline void multiply(float (&sums)[4][4][4]) const {
#pragma unroll
      for (int k = 0; k < 4; k++)
#pragma unroll
        for (int e = 0; e < 4; e++) rs_multiply<PRECISION>(sums[k][e], left[k], right[e]);
    }
  };

  __device__ inline middle_layer(const residual &of, const residual_memory<PRECISION> &memory) : p(of), m(memory), out(of) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int x = 0; x < 3; x++) places[x] = words_place<WORDS>(lane % 16 + x, lane / 16);
  }

  __device__ static inline void bring(const residual &p, const residual_memory<PRECISION> &m) {
    bring_filter<STEPS * 2>(m.filter, [&](int tap, int part, int i) {
      return filter_word<PRECISION>(p.b.filters[1], (int)p.b.channels[0], (int)p.b.channels[1], tap, part / 2 * 8 + i / 4 % 4 * 2 + i % 2,
                                    channel_of<PRECISION>(part % 2 * 2 + i / 2 % 2, i / 16));
    });
  }

  __device__ static inline void begin(const residual &, const residual_memory<PRECISION> &, const residual_segment &) {}

  __device__ inline void go(const residual_segment &s, int n) const {
    const int own = (n - 1) * BLOCK_DOWN + threadIdx.x % BLOCK_ROLE / 32;
    if (own < 2 || own - 3 > s.rows || n > s.groups) return; // nobody reads it
    constexpr int ROW = BLOCK_PITCH * WORDS;
    float sums[4][4][4] = {};
    step_words now, next;
    const uint32_t *right = m.filter + threadIdx.x % 32 * 4;
    int from = (own - 2) % BLOCK_RING;
    now.get(m.rings[0] + from * ROW + places[0], right);
#pragma unroll 1
    for (int y = 0; y < 3; y++) {
      const uint32_t *row = m.rings[0] + from * ROW;
      if (++from == BLOCK_RING) from = 0;
#pragma unroll
      for (int i = 1; i <= 3 * STEPS; i++) {
        right += 4 * 64;
        if (i < 3 * STEPS)
          next.get(row + (places[i / STEPS] ^ i % STEPS * 8), right);
        else if (y < 2)
          next.get(m.rings[0] + from * ROW + places[0], right);
        now.multiply(sums);
        now = next;
      }
    }
    out.put(p, m, s, own, 0, sums);
  }
};

// The last convolution: rows 4 n - 12 ... 4 n - 9 of the result in turn n, 16 pixels a warp.
template <int PRECISION> struct last_layer {
  static constexpr int WORDS = residual_memory<PRECISION>::WORDS, STEPS = residual_memory<PRECISION>::STEPS;
  const residual &p;
  const residual_memory<PRECISION> &m;
  uint32_t filter[9][STEPS][2];
  unsigned places[3];
  float bias[2];

  __device__ inline last_layer(const residual &of, const residual_memory<PRECISION> &memory) : p(of), m(memory) {
    const int lane = threadIdx.x % 32, columns = (int)p.b.x.channels[0];
    filter_words(filter, m.rings[1]);
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const int column = lane % 4 * 2 + k;
      bias[k] = p.b.biases[2] && column < columns ? __ldg(p.b.biases[2] + column) : 0;
    }
#pragma unroll
    for (int x = 0; x < 3; x++) places[x] = words_place<WORDS>(threadIdx.x % BLOCK_ROLE / 32 * 16 + lane % 16 + x, lane / 16);
  }

  __device__ static inline void bring(const residual &p, const residual_memory<PRECISION> &m) {
    bring_filter<STEPS / 2>(m.rings[1], [&](int tap, int part, int i) { // where there is no activation yet
      return filter_word<PRECISION>(p.b.filters[2], (int)p.b.channels[1], (int)p.b.x.channels[0], tap,
                                    (part * 2 + i / 2 % 2) * 8 + i / 4 % 4 * 2 + i % 2, i / 16);
    });
  }

  __device__ static inline void begin(const residual &, const residual_memory<PRECISION> &, const residual_segment &) {}

  __device__ inline void go(const residual_segment &s, int n) const {
    if (n > 2 && p.b.out) put(s, n - 2);
  }

  // Rows 4 n - 4 ... 4 n - 1 of the result.
  __device__ inline void put(const residual_segment &s, int n) const {
    const int lane = threadIdx.x % 32, t = lane % 4, pixel = threadIdx.x % BLOCK_ROLE / 32 * 16 + lane / 4;
    const int columns = (int)p.b.x.channels[0], top = 4 * n - 4;
    const int64_t start = (int64_t)(s.first + (s.top + top) * p.width + s.left + pixel) * columns + 2 * t,
                  below = (int64_t)p.width * columns;
    // Number k of a row of sums: whether it belongs to the result.
    bool wanted[4];
#pragma unroll
    for (int k = 0; k < 4; k++) wanted[k] = pixel + k / 2 * 8 < s.across && 2 * t + k % 2 < columns;
    const auto there = [&](int row, int k) { return wanted[k] & (top + row < s.rows); };
    float sums[BLOCK_DOWN][4] = {}, *out = p.b.out + start;
    uint32_t added[BLOCK_DOWN][4]; // on their way while the products are made
#pragma unroll
    for (int i = 0; i < BLOCK_DOWN; i++)
#pragma unroll
      for (int k = 0; k < 4; k++)
        get_words<1>(&added[i][k], there(i, k), place_of_value(p.b.x.at[0], start + i * below + k / 2 * 8 * columns + k % 2));
    int from = (n * BLOCK_DOWN - 2) % BLOCK_RING;
#pragma unroll
    for (int i = 0; i < BLOCK_DOWN + 2; i++) {
#pragma unroll
      for (int x = 0; x < 3; x++)
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
          uint32_t left[4];
          rs_rows(left, m.rings[1] + ((from * (BLOCK_PITCH * WORDS) + places[x]) ^ step * 8)); // a row is a multiple of 16 words
#pragma unroll
          for (int y = 0; y < 3; y++)
            if (i >= y && i - y < BLOCK_DOWN) rs_multiply<PRECISION>(sums[i - y], left, filter[y * 3 + x][step]);
        }
      if (++from == BLOCK_RING) from = 0;
      if (i < 2) continue;
#pragma unroll
      for (int k = 0; k < 4; k++)
        if (there(i - 2, k)) out[k / 2 * 8 * columns + k % 2] = sums[i - 2][k] + (bias[k % 2] + __uint_as_float(added[i - 2][k]));
      out += below;
    }
  }
};
