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
#pragma unroll
  for (int k = 0; k < 3; k++) {
    const int channels = (int)pieces.channels[k];
    if (channel < channels) return __ldg(pieces.at[k] + pixel * channels + channel);
    channel -= channels;
  }
  return 0;
}

// Brings `rows` rows of COLUMNS pixels, from pixel (top, left) of an image on, into a tile: WORDS words a pixel from channel `first`
// on, `stride` words from pixel to pixel. Zeros outside the image. `halves`: channels are bf16 already. By `threads` threads.
template <int PRECISION, int WORDS, int COLUMNS>
__device__ inline void stage(uint32_t *tile, int stride, const rs_channel_pieces &pieces, int halves, int quads, int channels, int first,
                             int64_t image, int rows, int top, int left, int height, int width, int threads) {
  constexpr int PER = rs_per_word<PRECISION>;
  if (PER == 2 && halves) {
    constexpr int EIGHTHS = WORDS / 4; // of a pixel: 8 channels each
    const uint4 *from = (const uint4 *)pieces.at[0];
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * COLUMNS * EIGHTHS; i += threads) {
      const int part = i % EIGHTHS, pixel = i / EIGHTHS, y = top + pixel / COLUMNS, x = left + pixel % COLUMNS;
      uint4 words = make_uint4(0, 0, 0, 0);
      if (y >= 0 && y < height && x >= 0 && x < width && first + 8 * part < channels)
        words = __ldg(from + ((image * height + y) * width + x) * (channels / 8) + first / 8 + part);
      *(uint4 *)(tile + pixel * stride + part * 4) = words;
    }
    return;
  }
  if (quads) {
    constexpr int QUADS = WORDS * PER / 4;
    const float4 *from = (const float4 *)pieces.at[0];
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * COLUMNS * QUADS; i += threads) {
      const int quad = i % QUADS, pixel = i / QUADS, y = top + pixel / COLUMNS, x = left + pixel % COLUMNS;
      float4 value = make_float4(0, 0, 0, 0);
      if (y >= 0 && y < height && x >= 0 && x < width && first + 4 * quad < channels)
        value = __ldg(from + ((image * height + y) * width + x) * (channels / 4) + first / 4 + quad);
      uint32_t *to = tile + pixel * stride + quad * (4 / PER);
      if (PER == 1)
        *(uint4 *)to = make_uint4(rs_tf32(value.x), rs_tf32(value.y), rs_tf32(value.z), rs_tf32(value.w));
      else
        *(uint2 *)to = make_uint2(rs_bf16(value.x, value.y), rs_bf16(value.z, value.w));
    }
    return;
  }
#pragma unroll 4
  for (int i = threadIdx.x; i < rows * COLUMNS * WORDS; i += threads) {
    const int word = i % WORDS, pixel = i / WORDS, y = top + pixel / COLUMNS, x = left + pixel % COLUMNS;
    const int channel = first + word * PER;
    const bool inside = y >= 0 && y < height && x >= 0 && x < width;
    const int64_t at = (image * height + y) * width + x;
    const float low = inside ? channel_at(pieces, at, channel) : 0;
    if (PER == 1)
      tile[pixel * stride + word] = rs_tf32(low);
    else
      tile[pixel * stride + word] = rs_bf16(low, inside ? channel_at(pieces, at, channel + 1) : 0);
  }
}
