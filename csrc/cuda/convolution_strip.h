// convolution_strip.h: what a block of threads that computes several convolutions at once (convolution_block.h) works on and with: strips of
// images, its shared memory and how it meets.
#pragma once
#include "../convolution.h"
#include "convolution_tiles.h"

constexpr int BLOCK_DOWN = 4;                  // rows a turn
constexpr int BLOCK_ACROSS = 64;               // pixels of a row that are computed: four products of 16 side by side
constexpr int BLOCK_STRIP = BLOCK_ACROSS - 4;  // of which so many belong to the result
constexpr int BLOCK_PITCH = BLOCK_ACROSS + 2;  // pixels of a row in shared memory
constexpr int BLOCK_X_ROWS = 3 * BLOCK_DOWN;   // of x in shared memory
constexpr int BLOCK_RING = 2 * BLOCK_DOWN + 2; // of an activation
constexpr int BLOCK_NARROW = RS_BLOCK_MOST_X, BLOCK_WIDE = RS_BLOCK_MOST_CHANNELS; // channels of x and of an activation, with zeros
constexpr int BLOCK_ROLE = 128;                                                    // threads of a convolution
constexpr int BLOCK_THREADS = 3 * BLOCK_ROLE;

struct residual {
  rs_tensor_residual b;
  const float *x[BLOCK_NARROW]; // where the first pixel has a channel, of those that are there
  unsigned steps[BLOCK_NARROW]; // from a pixel to the next one
  int channels, width, height;  // of x in all; of an image
  int strips, segments;         // of an image, across and down
  int rows;                     // of a segment
  int jobs;                     // segments of all images
};

// What a block of threads works on at a time.
struct residual_segment {
  int first;        // pixels before its image: of all images there are fewer than 2^31
  int top, left;    // pixel of the image
  int rows, across; // of the result
  int groups;       // rows of an activation by 4
};

__device__ static inline residual_segment segment_at(const residual &p, int job) {
  const int column = job / p.segments, top = job % p.segments * p.rows, rows = p.height - top < p.rows ? p.height - top : p.rows;
  const int left = column % p.strips * BLOCK_STRIP, across = p.width - left < BLOCK_STRIP ? p.width - left : BLOCK_STRIP;
  return {column / p.strips * p.height * p.width, top, left, rows, across, (rows + BLOCK_DOWN - 1) / BLOCK_DOWN + 1};
}

template <int PRECISION> struct residual_memory {
  static constexpr int WORDS = BLOCK_WIDE / rs_per_word<PRECISION>, STEPS = WORDS / 8;
  static constexpr int FILTER = 9 * STEPS * 4 * 64, RING = BLOCK_RING * BLOCK_PITCH * WORDS, X = BLOCK_X_ROWS * BLOCK_PITCH * BLOCK_NARROW;
  static constexpr int BYTES = (FILTER + 2 * RING + X) * 4;
  uint32_t *rings[2]; // of activations, [row][pixel][word], see words_place
  uint32_t *filter;   // of the middle convolution: [tap][step][columns / 16][lane][4]
  float *x;           // [row][pixel][channel], see words_place and x_place
  __device__ explicit residual_memory(uint32_t *at) : rings{at, at + RING}, filter(at + 2 * RING), x((float *)filter + FILTER) {}
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

// All threads of a block meet, wherever their warps are in the source: `bar.sync`, and with it __syncthreads, would be the aligned form,
// which promises one place for all of them (compute-sanitizer's synccheck minds another).
__device__ static inline void residual_barrier() {
#ifdef __CUDA_ARCH__
  asm volatile("barrier.sync 1, %0;" ::"n"(BLOCK_THREADS) : "memory");
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

// Channel of an activation that is a column of `eighth` of the products: a lane's sums of two of them are 4 channels side by side.
template <int PRECISION> __device__ static inline int channel_of(int eighth, int column) {
  const int pair = eighth / 2, odd = column / 2 % 2;
  return column / 4 * 16 + (PRECISION == RS_CONVOLVE_TF32 ? pair * 8 + odd * 4 : odd * 8 + pair * 4) + eighth % 2 * 2 + column % 2;
}

// A word of a filter [tap][channel][column]. Words 2 t and 2 t + 1 of a step are t and t + 4 in depth, as in stage_filter.
template <int PRECISION>
__device__ inline uint32_t filter_word(const float *filter, int channels, int columns, int tap, int word, int column) {
  constexpr int PER = rs_per_word<PRECISION>;
  const int channel = word * PER;
  const float *from = filter + (tap * channels + channel) * columns + column;
  const float low = channel < channels && column < columns ? __ldg(from) : 0;
  const float high = PER == 2 && channel + 1 < channels && column < columns ? __ldg(from + columns) : 0;
  return PER == 1 ? rs_tf32(low) : rs_bf16(low, high);
}

// Brings a filter of 3 x 3 taps to shared memory, PARTS times [lane][4] words a tap, of which `word(tap, part, thread)` makes one. In a
// loop: instructions that run but once come more slowly than what they load.
template <int PARTS, class Word> __device__ inline void bring_filter(uint32_t *to, Word word) {
  const int i = threadIdx.x % BLOCK_ROLE;
#pragma unroll 1
  for (int tap = 0; tap < 9; tap += 3) {
    uint32_t words[3 * PARTS]; // all on their way at once
#pragma unroll
    for (int k = 0; k < 3 * PARTS; k++) words[k] = word(tap + k / PARTS, k % PARTS, i);
#pragma unroll
    for (int k = 0; k < 3 * PARTS; k++) to[(tap * PARTS + k) * BLOCK_ROLE + i] = words[k];
  }
}

// A lane's words of such a filter, to keep.
template <int STEPS> __device__ inline void filter_words(uint32_t (&words)[9][STEPS][2], const uint32_t *from) {
#pragma unroll
  for (int k = 0; k < 9 * STEPS; k += 2) {
    const uint4 four = *(const uint4 *)(from + k * 64 + threadIdx.x % 32 * 4);
    words[k / STEPS][k % STEPS][0] = four.x, words[k / STEPS][k % STEPS][1] = four.y;
    words[k / STEPS][k % STEPS + 1][0] = four.z, words[k / STEPS][k % STEPS + 1][1] = four.w;
  }
}

// How a thread of 128 sends x: two channels of a pixel, and of those 32 and 64 behind it. So a warp's numbers meet no bank twice.
template <int PRECISION> struct x_sender {
  const residual &p;
  float *first;       // of shared memory
  unsigned places[2]; // of a pixel's channels
  const float *from[2];
  unsigned steps[2];
  bool there[2];

  __device__ inline x_sender(const residual &of, const residual_memory<PRECISION> &m) : p(of), first(m.x) {
    const int i = threadIdx.x % BLOCK_ROLE;
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const int channel = PRECISION == RS_CONVOLVE_TF32 ? i % 4 * 2 + k : i % 4 + k * 4;
      places[k] = x_place<PRECISION>(i / 4, channel);
      from[k] = p.x[channel], steps[k] = p.steps[channel], there[k] = channel < p.channels;
    }
  }

  // Group n of x's rows: 4 rows from row 4 n - 3 of the segment on.
  __device__ inline void send(const residual_segment &s, int n) const {
    constexpr int ROW = BLOCK_PITCH * BLOCK_NARROW;
    const int pixel = threadIdx.x % BLOCK_ROLE / 4;
    float *to = first + n % 3 * (BLOCK_DOWN * ROW);
#pragma unroll 1
    for (int right = 0; right < BLOCK_PITCH; right += 32) {
      if (pixel + right >= BLOCK_PITCH) break;
      const int x = s.left - 3 + pixel + right;
#pragma unroll
      for (int row = 0; row < BLOCK_DOWN; row++) {
        const int y = s.top + 4 * n - 3 + row;
        const bool inside = x >= 0 && x < p.width && y >= 0 && y < p.height;
        const unsigned at = inside ? s.first + y * p.width + x : 0;
#pragma unroll
        for (int k = 0; k < 2; k++)
          residual_send(to + row * ROW + right * BLOCK_NARROW + places[k], from[k] + (uint64_t)at * steps[k], inside & there[k]);
      }
    }
  }
};

// All turns of all segments of this block, for one of its convolutions.
template <class ROLE, class MEMORY> __device__ inline void go_down(const residual &p, const MEMORY &m) {
  int job = blockIdx.x;
  residual_segment s = segment_at(p, job);
  ROLE::begin(p, m, s);
  ROLE::bring(p, m); // its filter, while x is on its way
  residual_barrier();
  const ROLE role(p, m);
  for (;;) {
    residual_arrived();
    residual_barrier();
    for (int turn = 0; turn < s.groups + 2; turn++) {
      role.go(s, turn); // what it has sent has arrived
      residual_barrier();
    }
    job += gridDim.x;
    if (job >= p.jobs) return;
    s = segment_at(p, job);
    ROLE::begin(p, m, s);
  }
}
