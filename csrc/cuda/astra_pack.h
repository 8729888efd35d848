// astra_pack.h: copies with a border of zeros, as wide as RS_TEXTURE_BORDER says: one before, two behind.
#pragma once
#include "astra_tables.h"

// A grid dimension may be no larger than this; kernels stride over the rest.
constexpr int32_t ASTRA_GRID = 32768;

// (z, y, x) from an array with these steps in floats, x next to one another.
__global__ void astra_pack(float *to, const float *from, int32_t depth, int32_t height, int32_t width, int64_t z_step, int64_t y_step) {
  const int64_t pitch = width + RS_TEXTURE_BORDER, rows = height + RS_TEXTURE_BORDER, y = (int64_t)blockIdx.x * 8 + threadIdx.y;
  if (y >= rows) return;
  for (int64_t z = blockIdx.y; z < depth; z += gridDim.y)
    for (int64_t x = threadIdx.x; x < pitch; x += 32) {
      const bool inside = y >= 1 && y <= height && x >= 1 && x <= width;
      to[(z * rows + y) * pitch + x] = inside ? from[z * z_step + (y - 1) * y_step + x - 1] : 0;
    }
}

// The same with each slice turned: (z, x, y), y next to one another, rows of `pitch` floats, with `before` zeros at the beginning.
__global__ void astra_pack_turned(float *to, const float *from, int32_t depth, int32_t height, int32_t width, int64_t z_step,
                                  int64_t y_step, int64_t pitch, int32_t before) {
  __shared__ float tile[32][33];
  const int64_t rows = width + RS_TEXTURE_BORDER, across = (pitch + 31) / 32;
  const int64_t y0 = blockIdx.x % across * 32, x0 = blockIdx.x / across * 32;
  for (int64_t z = blockIdx.y; z < depth; z += gridDim.y) {
    for (int k = threadIdx.y; k < 32; k += 8) {
      const int64_t y = y0 + k, x = x0 + threadIdx.x;
      const bool inside = y >= before && y < before + height && x >= 1 && x <= width;
      tile[k][threadIdx.x] = inside ? from[z * z_step + (y - before) * y_step + x - 1] : 0;
    }
    __syncthreads();
    for (int k = threadIdx.y; k < 32; k += 8) {
      const int64_t y = y0 + threadIdx.x, x = x0 + k;
      if (y < pitch && x < rows) to[(z * rows + x) * pitch + y] = tile[threadIdx.x][k];
    }
    __syncthreads();
  }
}

// The three empty slices of a packed volume: the first and the two last ones.
__global__ void astra_clear(float *to, int64_t slice, int32_t depth) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < slice) to[i] = to[(depth + 1) * slice + i] = to[(depth + 2) * slice + i] = 0;
}
