// convolution_tiles.h: convolutions on tensor cores work off tiles of pixels, which lie in shared memory as words (matrix.h).
#pragma once
#include "../convolution.h"
#include "convolution_products.h"
#include "threads.h"

constexpr int TILE_ROWS = 8, TILE_COLUMNS = 32; // pixels of the result that a block computes at a time
constexpr int PITCH = TILE_COLUMNS + 2;         // pixels in a row of a tile with the margin that a filter needs

// Images whose pixels go into tiles.
struct tile_source {
  rs_channel_pieces pieces;
  int halves, quads; // channels are bf16 already; may be read four at a time
  int channels, height, width;
};

struct tile_place {
  int64_t image;
  int top, left; // pixel of the result
};

// A convolution as products over tiles. An input gradient is a convolution of the output's gradient with the filter turned over.
struct tiled {
  tile_source source;
  rs_channel_pieces out;
  const float *b, *bias, *add, *mask;
  int relu, backwards;
  int32_t device;
  int halves;            // rs_fused_halves
  int quads;             // whether the filter's columns may be read four at a time
  int runs;              // whether the result and its mask may be read and written four channels at a time, and nothing is added
  int height, width;     // of the result
  int taps_y, taps_x;    // of the filter
  int above, before;     // zeros around the source
  int columns;           // channels of the result
  int across, down;      // tiles of an image
  int64_t images, tiles; // all of them
  tile_place step;       // from a block's tile to its next one
};

__host__ __device__ static inline tile_place tile_at(const tiled &p, unsigned tile) {
  const unsigned across = p.across, down = p.down;
  return {tile / across / down, (int)(tile / across % down) * TILE_ROWS, (int)(tile % across) * TILE_COLUMNS};
}

// A block's next tile, of no image of p once it has none.
__device__ static inline tile_place tile_after(const tiled &p, tile_place place) {
  place.left += p.step.left, place.top += p.step.top, place.image += p.step.image;
  if (place.left >= p.across * TILE_COLUMNS) place.left -= p.across * TILE_COLUMNS, place.top += TILE_ROWS;
  if (place.top >= p.down * TILE_ROWS) place.top -= p.down * TILE_ROWS, place.image++;
  return place;
}

// What goes into a tile: `rows` rows from pixel (top, left) of an image on, zeros outside of it, and channels from `first` on.
struct tile_window {
  int64_t image;
  int rows, top, left, first;
};

__device__ static inline void expect_line(uintptr_t at) {
#ifdef __CUDA_ARCH__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#else
  (void)at;
#endif
}

// Has a window of images, or of null, with `bytes` a pixel brought to the second-level cache, from where it comes several times as soon.
__device__ static inline void expect(const void *images, int64_t bytes, int height, int width, const tile_window &w, int columns,
                                     int threads) {
  constexpr int LINE = 128, TOGETHER = 16; // threads of a row
  const int left = w.left < 0 ? 0 : w.left, right = w.left + columns < width ? w.left + columns : width;
#pragma unroll 1
  for (int y = w.top + (int)threadIdx.x / TOGETHER; images && y < w.top + w.rows; y += threads / TOGETHER) {
    if ((unsigned)y >= (unsigned)height) continue;
    const uintptr_t row = (uintptr_t)images + (w.image * height + y) * width * bytes;
#pragma unroll 1
    for (uintptr_t at = (row + left * bytes) / LINE * LINE + threadIdx.x % TOGETHER * LINE; at < row + right * bytes; at += TOGETHER * LINE)
      expect_line(at);
  }
}
__device__ static inline void expect(const tile_source &s, const tile_window &w, int columns, int threads) {
#pragma unroll
  for (int k = 0; k < 3; k++) expect(s.pieces.at[k], s.pieces.channels[k] * (s.halves ? 2 : 4), s.height, s.width, w, columns, threads);
}

// N words, 1 or 4, of device memory, or zeros. They are asked for where this stands, not where they are used, and without a branch.
template <int N> __device__ static inline void get_words(uint32_t *words, bool inside, const void *from) {
#ifdef __CUDA_ARCH__
  if constexpr (N == 4)
    asm volatile("{\n"
                 ".reg .pred inside;\n"
                 "setp.ne.u32 inside, %5, 0;\n"
                 "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
                 "@inside ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];\n"
                 "}"
                 : "=&r"(words[0]), "=&r"(words[1]), "=&r"(words[2]), "=&r"(words[3])
                 : "l"(from), "r"((unsigned)inside));
  else
    asm volatile("{\n"
                 ".reg .pred inside;\n"
                 "setp.ne.u32 inside, %2, 0;\n"
                 "mov.b32 %0, 0;\n"
                 "@inside ld.global.nc.b32 %0, [%1];\n"
                 "}"
                 : "=&r"(words[0])
                 : "l"(from), "r"((unsigned)inside));
#else
  for (int k = 0; k < N; k++) words[k] = inside ? __ldg((const uint32_t *)from + k) : 0;
#endif
}

// Sixteen bytes, or zeros, go to shared memory by themselves, through no register; sent_arrived waits for what this thread has sent.
__device__ static inline void send_words(uint32_t *to, bool inside, const void *from) {
#if RS_PRODUCTS
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
#else
  get_words<4>(to, inside, from);
#endif
}
__device__ static inline void sent_arrived() {
#if RS_PRODUCTS
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// values + at, where `values` may be null as long as nothing is read: sanitizers, which only the emulation has, mind the pointer.
template <class Value> __device__ static inline Value *place_of_value(Value *values, int64_t at) {
#ifdef RS_EMULATION
  return (Value *)((uintptr_t)values + at * (int64_t)sizeof(Value));
#else
  return values + at;
#endif
}

// start + pixel * size, where a pixel has `size` values. One instruction: left alone, the compiler multiplies numbers of 64 bits in loops.
template <class Value> __device__ static inline Value *pixel_at(Value *start, int pixel, int size) {
#ifdef __CUDA_ARCH__
  int64_t offset;
  asm("mul.wide.s32 %0, %1, %2;" : "=l"(offset) : "r"(pixel), "r"(size * (int)sizeof(Value)));
  return (Value *)((uintptr_t)start + offset);
#else
  return place_of_value(start, (int64_t)pixel * size);
#endif
}

// Latency is what staging is made of, so values are asked for before other work and put where they belong after it: as many as fit into
// ROOM registers. Of N words each, value i of `count` is get(i, words) and then put(i, words); a thread has first, first + step ...
template <int N, int ROOM> constexpr int values_of = ROOM / N < 24 ? ROOM / N : 24;

template <int N, int ROOM, class Get> __device__ inline void ask_values(uint32_t (&room)[ROOM], int first, int step, int count, Get get) {
  asm volatile("" : "+r"(first)); // else the compiler keeps the places of all values in registers, from tile to tile
#pragma unroll
  for (int k = 0; k < values_of<N, ROOM>; k++)
    if (k * step < count) get(first + k * step, ((k + 1) * step <= count) | (first + k * step < count), room + k * N);
}

// Puts what was asked for, and brings the rest.
template <int N, int ROOM, class Get, class Put>
__device__ inline void put_values(uint32_t (&room)[ROOM], int first, int step, int count, Get get, Put put) {
  for (int done = 0;;) {
    asm volatile("" : "+r"(first));
#pragma unroll
    for (int k = 0; k < values_of<N, ROOM>; k++)
      if (done + k * step < count && (done + (k + 1) * step <= count || done + first + k * step < count))
        put(done + first + k * step, room + k * N);
    done += values_of<N, ROOM> * step;
    if (done >= count) return;
    ask_values<N>(room, first, step, count - done, [&](int i, bool there, uint32_t *words) { get(done + i, there, words); });
  }
}

// The word that float32 numbers make.
template <int PRECISION> __device__ static inline uint32_t word_of(uint32_t low, uint32_t high) {
  return PRECISION == RS_CONVOLVE_TF32 ? rs_tf32(__uint_as_float(low)) : rs_bf16(__uint_as_float(low), __uint_as_float(high));
}

// Brings rows of COLUMNS pixels into a tile: WORDS words a pixel, `stride` words from pixel to pixel. By `threads` threads. PAIRED: of 8
// words, the even ones come before the odd ones.
template <int PRECISION, int WORDS, int COLUMNS, int ROOM, bool PAIRED> struct staging {
  static constexpr int PER = rs_per_word<PRECISION>;
  uint32_t room[ROOM];

  __device__ void ask(const tile_source &s, const tile_window &w, int threads) {
    each_way(s, w, threads, nullptr, 0, [&](auto n, int first, int step, int count, auto get, auto) {
      ask_values<decltype(n)::value>(room, first, step, count, get);
    });
  }

  __device__ void put(uint32_t *tile, int stride, const tile_source &s, const tile_window &w, int threads) {
    each_way(s, w, threads, tile, stride, [&](auto n, int first, int step, int count, auto get, auto put) {
      put_values<decltype(n)::value>(room, first, step, count, get, put);
    });
  }

  // Without registers: words are sent to their places as they are, and rounded there by the threads that sent them.
  __device__ static bool sends(const tile_source &s) { return PER == 1 && !PAIRED && s.quads; }

  __device__ static void send(uint32_t *tile, int stride, const tile_source &s, const tile_window &w, int threads) {
    constexpr int PARTS = WORDS / 4;
    const int part = threadIdx.x % PARTS, quads = s.channels / 4;
    const bool exists = w.first + 4 * part < s.channels;
    const uint4 *from = (const uint4 *)s.pieces.at[0] + w.image * s.height * s.width * quads + w.first / 4 + part;
    for (int i = threadIdx.x / PARTS; i < w.rows * COLUMNS; i += threads / PARTS)
      at_pixel(s, w, i, exists,
               [&](int pixel, bool inside) { send_words(tile + i * stride + part * 4, inside, pixel_at(from, pixel, quads)); });
  }

  __device__ static void round_sent(uint32_t *tile, int stride, const tile_window &w, int threads) {
    constexpr int PARTS = WORDS / 4, TOGETHER = 4; // reads under way, else each waits for the store before it
    const int step = threads / PARTS, count = w.rows * COLUMNS;
    const auto rounded = [](uint32_t word) { return word_of<PRECISION>(word, word); };
#pragma unroll 1
    for (int first = threadIdx.x / PARTS; first < count; first += step * TOGETHER) {
      uint4 *at = (uint4 *)(tile + first * stride + threadIdx.x % PARTS * 4), words[TOGETHER];
#pragma unroll
      for (int k = 0; k < TOGETHER; k++) words[k] = first + k * step < count ? at[k * step * stride / 4] : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int k = 0; k < TOGETHER; k++)
        if (first + k * step < count)
          at[k * step * stride / 4] = make_uint4(rounded(words[k].x), rounded(words[k].y), rounded(words[k].z), rounded(words[k].w));
    }
  }

private:
  template <int N> struct number { static constexpr int value = N; };

  // Puts words of a pixel, from number `word` on.
  __device__ static void put_words(uint32_t *pixel, int word, const uint32_t (&words)[4]) {
    if (!PAIRED) {
      *(uint4 *)(pixel + word) = make_uint4(words[0], words[1], words[2], words[3]);
      return;
    }
    uint32_t *to = pixel + place_of(word);
    *(uint2 *)to = make_uint2(words[0], words[2]);
    *(uint2 *)(to + 4) = make_uint2(words[1], words[3]);
  }
  __device__ static void put_words(uint32_t *pixel, int word, const uint32_t (&words)[2]) {
    if (PAIRED)
      pixel[place_of(word)] = words[0], pixel[place_of(word) + 4] = words[1];
    else
      *(uint2 *)(pixel + word) = make_uint2(words[0], words[1]);
  }
  __device__ static int place_of(int word) { return PAIRED ? word / 8 * 8 + word % 2 * 4 + word % 8 / 2 : word; }

  // Calls get(pixel of the image, whether it exists) for pixel i of the tile.
  template <class Get> __device__ static void at_pixel(const tile_source &s, const tile_window &w, int i, bool there, Get get) {
    const int y = w.top + i / COLUMNS, x = w.left + i % COLUMNS;
    get((int)((unsigned)y * s.width + x), there & ((unsigned)y < (unsigned)s.height) & ((unsigned)x < (unsigned)s.width)); // no branches
  }

  // work(words of a value, first, step, count, get, put), in the one of three ways that the source can be read in. Values are of pixels:
  // a thread has always the same channels.
  template <class Work>
  __device__ static void each_way(const tile_source &s, const tile_window &w, int threads, uint32_t *tile, int stride, Work work) {
    const int64_t start = w.image * s.height * s.width; // pixels before this image
    const int pixels = w.rows * COLUMNS;
    if (PER == 2 && s.halves) {
      constexpr int PARTS = WORDS / 4; // of a pixel: 8 channels each
      const int part = threadIdx.x % PARTS, eighths = s.channels / 8;
      const bool exists = w.first + 8 * part < s.channels;
      const uint4 *from = (const uint4 *)s.pieces.at[0] + start * eighths + w.first / 8 + part;
      work(
          number<4>(), threadIdx.x / PARTS, threads / PARTS, pixels,
          [&](int i, bool there, uint32_t *words) {
            at_pixel(s, w, i, there && exists,
                     [&](int pixel, bool inside) { get_words<4>(words, inside, pixel_at(from, pixel, eighths)); });
          },
          [&](int i, const uint32_t *words) {
            put_words(tile + i * stride, part * 4, {words[0], words[1], words[2], words[3]});
          });
    } else if (s.quads) {
      constexpr int PARTS = WORDS * PER / 4;
      const int part = threadIdx.x % PARTS, quads = s.channels / 4;
      const bool exists = w.first + 4 * part < s.channels;
      const uint4 *from = (const uint4 *)s.pieces.at[0] + start * quads + w.first / 4 + part;
      work(
          number<4>(), threadIdx.x / PARTS, threads / PARTS, pixels,
          [&](int i, bool there, uint32_t *words) {
            at_pixel(s, w, i, there && exists, [&](int pixel, bool inside) { get_words<4>(words, inside, pixel_at(from, pixel, quads)); });
          },
          [&](int i, const uint32_t *words) {
            uint32_t made[4 / PER];
#pragma unroll
            for (int k = 0; k < 4 / PER; k++) made[k] = word_of<PRECISION>(words[k * PER], words[k * PER + PER - 1]);
            put_words(tile + i * stride, part * (4 / PER), made);
          });
    } else {
      const int part = threadIdx.x % WORDS;
      const float *from[PER]; // null beyond the last channel
      int by_pixel[PER];
#pragma unroll
      for (int k = 0; k < PER; k++) {
        int channel = w.first + part * PER + k;
        from[k] = nullptr, by_pixel[k] = 0;
#pragma unroll
        for (int piece = 0; piece < 3; piece++) {
          const int channels = (int)s.pieces.channels[piece];
          if (channel >= 0 && channel < channels) from[k] = s.pieces.at[piece] + start * channels + channel, by_pixel[k] = channels;
          channel -= channels;
        }
      }
      work(
          number<PER>(), threadIdx.x / WORDS, threads / WORDS, pixels,
          [&](int i, bool there, uint32_t *words) {
            at_pixel(s, w, i, there, [&](int pixel, bool inside) {
#pragma unroll
              for (int k = 0; k < PER; k++) get_words<1>(words + k, inside & (from[k] != nullptr), pixel_at(from[k], pixel, by_pixel[k]));
            });
          },
          [&](int i, const uint32_t *words) { tile[i * stride + place_of(part)] = word_of<PRECISION>(words[0], words[PER - 1]); });
    }
  }
};

// What has to be asked for and put at once, or is sent.
template <class Staging> __device__ inline void stage(uint32_t *tile, int stride, const tile_source &s, const tile_window &w, int threads) {
  if (Staging::sends(s)) return Staging::send(tile, stride, s, w, threads);
  Staging now;
  now.ask(s, w, threads);
  now.put(tile, stride, s, w, threads);
}

// Waits for what was sent.
template <class Staging>
__device__ inline void staged(uint32_t *tile, int stride, const tile_source &s, const tile_window &w, int threads) {
  if (!Staging::sends(s)) return;
  sent_arrived();
  Staging::round_sent(tile, stride, w, threads);
}
