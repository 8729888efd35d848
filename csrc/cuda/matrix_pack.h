// matrix_pack.h: lanes as float16 numbers, for the `rs_matrix_cuda` family.
//
// Each lane is multiplied by a power of two of its own, which its largest finite value gives.
#pragma once
#include "matrix_unit.h"
#include "stack_pack.h"

constexpr int MATRIX_LOOK_THREADS = 512;
constexpr int MATRIX_LOOK = 24; // places of a thread that are on their way at a time

// The largest finite absolute value, times `factor`, that a thread finds in its places of a lane, VEC at a time.
template <int VEC> __device__ static inline float matrix_look(const stack_source &source, int64_t lane, float factor) {
  constexpr int READS = MATRIX_LOOK / VEC, STEP = MATRIX_LOOK_THREADS * VEC;
  const stack_place place = stack_place_of(source.lanes, lane);
  const int64_t places = (int64_t)source.lines * source.line, begin = source.begin[place.unit], end = source.begin[place.unit + 1];
  if (begin == end) return 0;
  const float *input = source.input + place.item * source.lanes.item_size;
  const float *first = input + source.index[begin] * source.lanes.unit_step, weight = source.weight[begin];
  float most = 0;
  for (int64_t from = (int64_t)threadIdx.x * VEC; from < places; from += READS * STEP) {
    const int left = places - from < READS * STEP ? (int)(places - from) : READS * STEP;
    stack_vector<VEC> sum[READS] = {};
#pragma unroll
    for (int n = 0; n < READS; n++)
      if (n * STEP < left) sum[n] = stack_load<VEC>(first + from + n * STEP);
#pragma unroll
    for (int n = 0; n < READS; n++)
      for (float &value : sum[n].lane) value *= weight;
#pragma unroll 1
    for (int64_t e = begin + 1; e < end; e++) {
      const float *plane = input + source.index[e] * source.lanes.unit_step + from, share = source.weight[e];
#pragma unroll
      for (int n = 0; n < READS; n++)
        if (n * STEP < left) stack_add(sum[n], share, stack_load<VEC>(plane + n * STEP));
    }
#pragma unroll
    for (int n = 0; n < READS; n++)
#pragma unroll
      for (int k = 0; k < VEC; k++) {
        const float size = fabsf(sum[n].lane[k]) * factor;
        most = size > most && size < INFINITY ? size : most;
      }
  }
  return most;
}

// The largest finite absolute value of every lane, times `factor`: largest[lane of the launch], bits of a float32. A block looks at a lane:
// the few lanes of a small problem are in the second-level cache, and of many lanes all are under way.
__global__ static void __launch_bounds__(MATRIX_LOOK_THREADS) matrix_largest(stack_source source, float factor, unsigned *largest) {
  __shared__ float warps[MATRIX_LOOK_THREADS / 32];
  rs_await();
  float most = stack_in_fours(source) ? matrix_look<4>(source, blockIdx.x, factor) : matrix_look<1>(source, blockIdx.x, factor);
  for (int half = 16; half > 0; half /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, half));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = most;
  __syncthreads();
  if (threadIdx.x) return;
  for (float other : warps) most = fmaxf(most, other);
  largest[blockIdx.x] = __float_as_uint(most);
}

// Where records go: [chunk][line][place], [chunk][place][line], or both.
struct matrix_packed {
  char *along, *across; // or null
};

constexpr int32_t MATRIX_PACK_SPAN = 2 * STACK_PACK_SPAN; // places that a block packs, one tile after the other

// Blocks begin with the last places, of all chunks: those that matrix_largest has read last.
template <int TILES, bool SPLIT>
__global__ void __launch_bounds__(STACK_PACK_THREADS, 6) matrix_pack(stack_source source, const unsigned *largest, matrix_packed packed) {
  constexpr int WIDTH = 8 * TILES, RECORD = MATRIX_RECORD<TILES, SPLIT>;
  __shared__ float tile[STACK_PACK_SPAN][WIDTH + 1], scale[WIDTH];
  __shared__ stack_columns<WIDTH> columns;
  const unsigned chunks = (unsigned)((source.lanes.count + WIDTH - 1) / WIDTH), number = gridDim.x - 1 - blockIdx.x;
  const int32_t pieces = (source.line + MATRIX_PACK_SPAN - 1) / MATRIX_PACK_SPAN, piece = (int32_t)(number / chunks);
  const int64_t chunk = number % chunks;
  const int32_t line = piece / pieces, first = piece % pieces * MATRIX_PACK_SPAN, last = min(first + MATRIX_PACK_SPAN, source.line);
  rs_await();
  if (threadIdx.x < WIDTH) {
    const int64_t lane = chunk * WIDTH + stack_lane_of<WIDTH, 8>(threadIdx.x);
    scale[threadIdx.x] = lane < source.lanes.count ? half_scale(largest[lane]) : 0;
  }
  stack_find<WIDTH, 8>(source, chunk, line, columns);
  for (int32_t from = first; from < last; from += STACK_PACK_SPAN) {
    const int32_t count = min(last - from, STACK_PACK_SPAN);
    stack_gather(source, columns, from, count, tile);
    stack_spread<WIDTH, 8>(count, [&](int p, int g) {
      unsigned high[4], low[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int c = 2 * k * TILES + g, next = c + TILES;
        const float even = tile[p][c] * scale[c], odd = tile[p][next] * scale[next];
        high[k] = half_pair(even, odd);
        const float2 rounded = half_floats(high[k]);
        low[k] = half_pair(even - rounded.x, odd - rounded.y);
      }
      auto write = [&](char *record) {
        uint4 *parts = reinterpret_cast<uint4 *>(record);
        parts[g] = {high[0], high[1], high[2], high[3]};
        if (SPLIT) parts[TILES + g] = {low[0], low[1], low[2], low[3]};
        if (g == 0) parts[RECORD / 16 - 1] = {}; // memory takes 32 bytes at a time: of half of them it would read the rest
      };
      if (packed.along) write(packed.along + ((chunk * source.lines + line) * source.line + from + p) * RECORD);
      if (packed.across) write(packed.across + ((chunk * source.line + from + p) * source.lines + line) * RECORD);
    });
    __syncthreads();
  }
}

// What the sums of each lane of a chunk are multiplied by. `lanes` are those of the launch from the chunk on.
template <int TILES> __device__ static inline void matrix_find_scales(const unsigned *largest, int64_t lanes, float (&scale)[8 * TILES]) {
  if (threadIdx.x < 8 * TILES) scale[threadIdx.x] = threadIdx.x < lanes ? half_unscale(largest[threadIdx.x]) : 0;
}

// The sums of a tile of a warp, as they lie in registers, go to shared memory for stack_finish; first, second: the places of rows g and
// g + 8 there.
template <int TILES>
__device__ static inline void matrix_put(float *tile, int first, int second, const float (&sum)[TILES][4],
                                         const float (&scale)[8 * TILES]) {
  constexpr int STRIDE = STACK_TILE_STRIDE<TILES / 4>;
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    const int lane = 8 * j + threadIdx.x % 4 * 2;
    const float2 by = *reinterpret_cast<const float2 *>(scale + lane);
    *reinterpret_cast<float2 *>(tile + first * STRIDE + lane) = make_float2(by.x * sum[j][0], by.y * sum[j][1]);
    *reinterpret_cast<float2 *>(tile + second * STRIDE + lane) = make_float2(by.x * sum[j][2], by.y * sum[j][3]);
  }
}
