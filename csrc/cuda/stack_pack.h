// stack_pack.h: between the public layouts, where one slice or row lies behind the other, and the lanes of the `rs_stack_cuda` family.
#pragma once
#include "stack_plan.h"

constexpr int STACK_PACK_THREADS = 256;
constexpr int STACK_PACK_SPAN = 32; // places that a block packs

// A lane reads a weighted sum of planes of its item: the terms begin[unit] ... begin[unit + 1] - 1 of a sparse matrix.
struct stack_source {
  const float *input;
  stack_lanes lanes; // unit_step: between planes
  const int64_t *begin;
  const int32_t *index;
  const float *weight;
  // Places come in lines: the whole plane, or the columns of a view in the order of `view`, times its length.
  int32_t lines;
  int64_t line;
  const stack_view *view; // or null
};

template <int VEC> __global__ void __launch_bounds__(STACK_PACK_THREADS) stack_pack(stack_source source, float *packed) {
  constexpr int WIDTH = 32 * VEC;
  __shared__ float tile[STACK_PACK_SPAN][WIDTH + 1];
  __shared__ int64_t begin[WIDTH], first[WIDTH];
  __shared__ int32_t terms[WIDTH];
  const int t = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y, pieces = (source.line + STACK_PACK_SPAN - 1) / STACK_PACK_SPAN;
  const int64_t line = blockIdx.x / pieces;
  const int64_t from = blockIdx.x % pieces * STACK_PACK_SPAN;
  int64_t offset = from;
  float scale = 1;
  if (source.view) {
    offset += (int64_t)source.view[line].view * source.line;
    scale = source.view[line].length;
  }
  for (int l = threadIdx.x; l < WIDTH; l += STACK_PACK_THREADS) {
    terms[l] = 0;
    if (chunk * WIDTH + l < source.lanes.count) {
      const stack_place place = stack_place_of(source.lanes, chunk * WIDTH + l);
      begin[l] = source.begin[place.unit];
      terms[l] = (int32_t)(source.begin[place.unit + 1] - begin[l]);
      first[l] = place.item * source.lanes.item_size + offset;
    }
  }
  __syncthreads();
  const bool inside = from + t < source.line;
#pragma unroll 4
  for (int l = warp; l < WIDTH; l += STACK_PACK_THREADS / 32) {
    float sum = 0;
    for (int k = 0; k < terms[l] && inside; k++) {
      const int64_t e = begin[l] + k;
      sum += source.weight[e] * source.input[first[l] + source.index[e] * source.lanes.unit_step + t];
    }
    tile[t][l] = scale * sum;
  }
  __syncthreads();
  float *target = packed + ((chunk * source.lines + line) * source.line + from) * WIDTH;
  for (int p = warp; p < STACK_PACK_SPAN && from + p < source.line; p += STACK_PACK_THREADS / 32)
    for (int k = t; k < WIDTH; k += 32) target[p * WIDTH + k] = tile[p][k];
}

// What a kernel writes: a tile of STACK_SIDE neighbours in each of `rows` lines, for a chunk of lanes.
constexpr int STACK_SIDE = 16;
constexpr int STACK_THREADS = 512;
template <int VEC> constexpr int STACK_TILE_STRIDE = 32 * VEC + 4; // floats between the places of a tile

struct stack_target {
  rs_output output;
  stack_lanes lanes;
  double *sums; // or null: a sum of squares for each lane and block, [lane - sums_first][block]
  int64_t sums_first;
};

// Finishes a tile in shared memory, tile[row][STACK_SIDE][lane], of which the first width(row) places of `rows` rows exist. offset(row) is where a row
// starts in its unit, scale(row) multiplies its values. All threads of the block call it, when the tile is written.
template <int VEC, typename Width, typename Offset, typename Scale>
__device__ static inline void stack_finish(const stack_target &target, const float *tile, int rows, int64_t chunk, Width width,
                                           Offset offset, Scale scale) {
  constexpr int WIDTH = 32 * VEC;
  const int column = threadIdx.x % STACK_SIDE;
  for (int l = threadIdx.x / STACK_SIDE; l < WIDTH; l += STACK_THREADS / STACK_SIDE) {
    const int64_t lane = chunk * WIDTH + l;
    double squares = 0;
    if (lane < target.lanes.count) {
      const stack_place place = stack_place_of(target.lanes, lane);
      const size_t item = (size_t)(place.item * target.lanes.item_size), unit = (size_t)(place.unit * target.lanes.unit_step) + column;
      for (int row = 0; row < rows; row++)
        if (column < width(row))
          squares += rs_finish(target.output, item, unit + offset(row),
                               scale(row) * tile[(row * STACK_SIDE + column) * STACK_TILE_STRIDE<VEC> + l]);
    }
    if (!target.sums) continue;
    for (int half = STACK_SIDE / 2; half > 0; half /= 2) squares += __shfl_down_sync(0xffffffffu, squares, half, STACK_SIDE);
    if (column == 0 && lane < target.lanes.count)
      target.sums[(target.lanes.first + lane - target.sums_first) * gridDim.x + blockIdx.x] = squares;
  }
}
