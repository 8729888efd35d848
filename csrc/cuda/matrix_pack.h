// matrix_pack.h: lanes as float16 numbers, for the `rs_matrix_cuda` family.
//
// Each lane is multiplied by a power of two of its own, which its largest finite value gives.
#pragma once
#include "matrix_unit.h"
#include "stack_pack.h"

constexpr int MATRIX_SPAN = 4096; // places of a lane that a block looks at for the largest value

// The largest finite absolute value of every lane, times `factor`: largest[lane of the launch], bits of a float32, from 0.
__global__ static void __launch_bounds__(STACK_PACK_THREADS) matrix_largest(stack_source source, float factor, unsigned *largest) {
  __shared__ float warps[STACK_PACK_THREADS / 32];
  const int64_t places = (int64_t)source.lines * source.line, pieces = (places + MATRIX_SPAN - 1) / MATRIX_SPAN;
  const int64_t lane = blockIdx.x / pieces, from = blockIdx.x % pieces * MATRIX_SPAN;
  const stack_place place = stack_place_of(source.lanes, lane);
  const int64_t begin = source.begin[place.unit], end = source.begin[place.unit + 1];
  const float *input = source.input + place.item * source.lanes.item_size + from;
  const float weight = begin < end ? source.weight[begin] : 0;
  const float *first = begin < end ? input + source.index[begin] * source.lanes.unit_step : input;
  float most = 0;
  constexpr int READS = MATRIX_SPAN / STACK_PACK_THREADS; // on their way
  float sums[READS];
#pragma unroll
  for (int n = 0; n < READS; n++) {
    const int i = n * STACK_PACK_THREADS + threadIdx.x;
    sums[n] = from + i < places ? weight * first[i] : 0;
  }
#pragma unroll
  for (int n = 0; n < READS; n++) {
    const int i = n * STACK_PACK_THREADS + threadIdx.x;
    for (int64_t e = begin + 1; e < end && from + i < places; e++)
      sums[n] += source.weight[e] * input[source.index[e] * source.lanes.unit_step + i];
    const float size = fabsf(sums[n]) * factor;
    most = size > most && size < INFINITY ? size : most;
  }
  for (int half = 16; half > 0; half /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, half));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = most;
  __syncthreads();
  if (threadIdx.x) return;
  for (float other : warps) most = fmaxf(most, other);
  atomicMax(largest + lane, __float_as_uint(most));
}

// Where records go: [chunk][line][place], [chunk][place][line], or both.
struct matrix_packed {
  char *along, *across; // or null
};

template <int TILES, bool SPLIT>
__global__ void __launch_bounds__(STACK_PACK_THREADS) matrix_pack(stack_source source, const unsigned *largest, matrix_packed packed) {
  constexpr int WIDTH = 8 * TILES, RECORD = MATRIX_RECORD<TILES, SPLIT>;
  __shared__ float tile[STACK_PACK_SPAN][WIDTH + 1], scale[WIDTH];
  const int64_t chunk = blockIdx.y;
  const int32_t pieces = (source.line + STACK_PACK_SPAN - 1) / STACK_PACK_SPAN;
  const int32_t line = blockIdx.x / pieces, from = blockIdx.x % pieces * STACK_PACK_SPAN;
  for (int l = threadIdx.x; l < WIDTH; l += STACK_PACK_THREADS)
    scale[l] = chunk * WIDTH + l < source.lanes.count ? half_scale(largest[chunk * WIDTH + l]) : 0;
  stack_gather<WIDTH>(source, chunk, line, from, tile);
  const int32_t count = source.line - from < STACK_PACK_SPAN ? source.line - from : STACK_PACK_SPAN;
  for (int p = threadIdx.x / 32; p < count; p += STACK_PACK_THREADS / 32) {
    char *along = packed.along ? packed.along + ((chunk * source.lines + line) * source.line + from + p) * RECORD : nullptr;
    char *across = packed.across ? packed.across + ((chunk * source.line + from + p) * source.lines + line) * RECORD : nullptr;
    for (int l = threadIdx.x % 32 * 2; l < WIDTH; l += 64) {
      const float first = tile[p][l] * scale[l], second = tile[p][l + 1] * scale[l + 1];
      const unsigned high = half_pair(first, second);
      if (along) *reinterpret_cast<unsigned *>(along + 2 * l) = high;
      if (across) *reinterpret_cast<unsigned *>(across + 2 * l) = high;
      if (!SPLIT) continue;
      const float2 rounded = half_floats(high);
      const unsigned low = half_pair(first - rounded.x, second - rounded.y);
      if (along) *reinterpret_cast<unsigned *>(along + 2 * (WIDTH + l)) = low;
      if (across) *reinterpret_cast<unsigned *>(across + 2 * (WIDTH + l)) = low;
    }
  }
}

// The sums of a tile of a warp, as they lie in registers, go to shared memory for stack_finish; first, second: the places of rows g and
// g + 8 there.
template <int TILES>
__device__ static inline void matrix_put(float *tile, int first, int second, const float (&sum)[TILES][4], const unsigned *largest,
                                         int64_t lanes) {
  constexpr int STRIDE = STACK_TILE_STRIDE<TILES / 4>;
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    const int lane = 8 * j + threadIdx.x % 4 * 2;
    const float scale = lane < lanes ? half_unscale(largest[lane]) : 0, next = lane + 1 < lanes ? half_unscale(largest[lane + 1]) : 0;
    *reinterpret_cast<float2 *>(tile + first * STRIDE + lane) = make_float2(scale * sum[j][0], next * sum[j][1]);
    *reinterpret_cast<float2 *>(tile + second * STRIDE + lane) = make_float2(scale * sum[j][2], next * sum[j][3]);
  }
}
