// convolution_tiles.h: convolutions on tensor cores work off tiles of pixels, which lie in shared memory as words (matrix.h).
#pragma once
#include "../convolution.h"
#include "convolution_products.h"
#include "threads.h"

constexpr int TILE_ROWS = 8, TILE_COLUMNS = 32; // pixels of the result that a block computes at a time
constexpr int PITCH = TILE_COLUMNS + 2;         // pixels in a row of a tile with the margin that a filter needs

// A convolution as products over tiles. An input gradient is a convolution of the output's gradient with the filter turned over.
struct tiled {
  rs_channel_pieces a, out;
  const float *b, *bias, *add, *mask;
  int relu, backwards;
  int32_t device;
  int halves;                      // rs_fused_halves
  int quads;                       // whether a's channels may be read four at a time
  int height, width;               // of the result
  int source_height, source_width; // of a
  int taps_y, taps_x;              // of the filter
  int above, before;               // zeros around the source
  int channels, columns;           // of the source and of the result
  int across, down;                // tiles of an image
  int64_t tiles;                   // of all images
};

struct tile_place {
  int64_t image;
  int top, left; // pixel of the result
};

__device__ static inline tile_place tile_at(const tiled &p, int64_t tile) {
  const int64_t row = tile / p.across;
  return {row / p.down, (int)(row % p.down) * TILE_ROWS, (int)(tile % p.across) * TILE_COLUMNS};
}

// A channel of a pixel; 0 beyond the last.
__device__ static inline float channel_at(const rs_channel_pieces &pieces, int64_t pixel, int channel) {
  const float *from = nullptr;
#pragma unroll
  for (int k = 0; k < 3; k++) {
    const int channels = (int)pieces.channels[k];
    if (channel >= 0 && channel < channels) from = pieces.at[k] + pixel * channels + channel;
    channel -= channels;
  }
  return from ? __ldg(from) : 0;
}

// What a thread asks for from device memory before it uses the first of it: latency is what staging is made of.
constexpr int IN_FLIGHT = 8;

// Calls put(i, get(i)) for i = threadIdx.x, threadIdx.x + threads ... below count, with IN_FLIGHT values on their way at a time.
template <class Value, class Get, class Put> __device__ inline void in_batches(int count, int threads, Get get, Put put) {
  for (int first = threadIdx.x; first < count; first += IN_FLIGHT * threads) {
    Value values[IN_FLIGHT];
#pragma unroll
    for (int k = 0; k < IN_FLIGHT; k++) values[k] = get(first + k * threads, first + k * threads < count);
#pragma unroll
    for (int k = 0; k < IN_FLIGHT; k++)
      if (first + k * threads < count) put(first + k * threads, values[k]);
  }
}

// Brings `rows` rows of COLUMNS pixels, from pixel (top, left) of an image on, into a tile: WORDS words a pixel from channel `first`
// on, `stride` words from pixel to pixel. Zeros outside the image. `halves`: channels are bf16 already. By `threads` threads.
template <int PRECISION, int WORDS, int COLUMNS>
__device__ inline void stage(uint32_t *tile, int stride, const rs_channel_pieces &pieces, int halves, int quads, int channels, int first,
                             int64_t image, int rows, int top, int left, int height, int width, int threads) {
  constexpr int PER = rs_per_word<PRECISION>;
  const int64_t start = image * height * width; // pixels before this image
  // The pixel of the image that lies in the tile's, or below 0.
  const auto pixel_at = [=](int pixel) {
    const int y = top + pixel / COLUMNS, x = left + pixel % COLUMNS;
    return y >= 0 && y < height && x >= 0 && x < width ? y * width + x : -1;
  };
  if (PER == 2 && halves) {
    constexpr int EIGHTHS = WORDS / 4; // of a pixel: 8 channels each
    const uint4 *from = (const uint4 *)pieces.at[0] + start * (channels / 8) + first / 8;
    in_batches<uint4>(
        rows * COLUMNS * EIGHTHS, threads,
        [=](int i, bool there) {
          const int pixel = pixel_at(i / EIGHTHS), part = i % EIGHTHS;
          const bool inside = there && pixel >= 0 && first + 8 * part < channels;
          return inside ? __ldg(from + (int64_t)pixel * (channels / 8) + part) : make_uint4(0, 0, 0, 0);
        },
        [=](int i, uint4 words) { *(uint4 *)(tile + i / EIGHTHS * stride + i % EIGHTHS * 4) = words; });
  } else if (quads) {
    constexpr int QUADS = WORDS * PER / 4;
    const float4 *from = (const float4 *)pieces.at[0] + start * (channels / 4) + first / 4;
    in_batches<float4>(
        rows * COLUMNS * QUADS, threads,
        [=](int i, bool there) {
          const int pixel = pixel_at(i / QUADS), quad = i % QUADS;
          const bool inside = there && pixel >= 0 && first + 4 * quad < channels;
          return inside ? __ldg(from + (int64_t)pixel * (channels / 4) + quad) : make_float4(0, 0, 0, 0);
        },
        [=](int i, float4 value) {
          uint32_t *to = tile + i / QUADS * stride + i % QUADS * (4 / PER);
          if (PER == 1)
            *(uint4 *)to = make_uint4(rs_tf32(value.x), rs_tf32(value.y), rs_tf32(value.z), rs_tf32(value.w));
          else
            *(uint2 *)to = make_uint2(rs_bf16(value.x, value.y), rs_bf16(value.z, value.w));
        });
  } else {
    in_batches<float2>(
        rows * COLUMNS * WORDS, threads,
        [=](int i, bool there) {
          const int pixel = pixel_at(i / WORDS), channel = first + i % WORDS * PER;
          if (!there || pixel < 0) return make_float2(0, 0);
          return make_float2(channel_at(pieces, start + pixel, channel), PER == 2 ? channel_at(pieces, start + pixel, channel + 1) : 0);
        },
        [=](int i, float2 value) { tile[i / WORDS * stride + i % WORDS] = PER == 1 ? rs_tf32(value.x) : rs_bf16(value.x, value.y); });
  }
}
