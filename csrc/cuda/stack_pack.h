// stack_pack.h: between the public layouts, where one slice or row lies behind the other, and the lanes of the `rs_stack_cuda` family.
#pragma once
#include "split.h"
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
  // Places come in lines: rows of voxels, or the columns of a view in the order of `view`, times its weight.
  int32_t lines, line;
  const stack_view *view; // or null
};

// Where packed places go: [chunk][line][margin + place + margin][lane], [chunk][place][margin + line + margin][lane], or both. Margins
// become zero.
struct stack_packed {
  float *along, *across; // or null
  int32_t margin;
};

// Reads the places from ... from + STACK_PACK_SPAN - 1 of a line for all lanes of a chunk: tile[place][lane]. All threads of the block call it.
template <int WIDTH>
__device__ static inline void stack_gather(const stack_source &source, int64_t chunk, int32_t line, int32_t from,
                                           float (&tile)[STACK_PACK_SPAN][WIDTH + 1]) {
  __shared__ int64_t begin[WIDTH], item[WIDTH], first[WIDTH];
  __shared__ int32_t terms[WIDTH];
  __shared__ float weight[WIDTH]; // of the first term
  const int t = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t offset = from;
  float scale = 1;
  if (source.view) {
    offset += (int64_t)source.view[line].view * source.line;
    scale = source.view[line].weight;
  } else {
    offset += (int64_t)line * source.line;
  }
  for (int l = threadIdx.x; l < WIDTH; l += STACK_PACK_THREADS) {
    terms[l] = 0;
    if (chunk * WIDTH + l < source.lanes.count) {
      const stack_place place = stack_place_of(source.lanes, chunk * WIDTH + l);
      begin[l] = source.begin[place.unit];
      terms[l] = (int32_t)(source.begin[place.unit + 1] - begin[l]);
      item[l] = place.item * source.lanes.item_size + offset;
      if (terms[l]) first[l] = item[l] + source.index[begin[l]] * source.lanes.unit_step, weight[l] = source.weight[begin[l]];
    }
  }
  __syncthreads();
  const bool inside = from + t < source.line;
  constexpr int WARPS = STACK_PACK_THREADS / 32, TOGETHER = WIDTH / WARPS < 8 ? WIDTH / WARPS : 8; // reads on their way
  for (int l = warp; l < WIDTH; l += WARPS * TOGETHER) {
    float sum[TOGETHER];
#pragma unroll
    for (int n = 0; n < TOGETHER; n++) {
      const int at = l + n * WARPS;
      sum[n] = inside && terms[at] ? weight[at] * source.input[first[at] + t] : 0;
    }
#pragma unroll
    for (int n = 0; n < TOGETHER; n++) {
      const int at = l + n * WARPS;
      for (int k = 1; k < terms[at] && inside; k++) {
        const int64_t e = begin[at] + k;
        sum[n] += source.weight[e] * source.input[item[at] + source.index[e] * source.lanes.unit_step + t];
      }
      tile[t][at] = scale * sum[n];
    }
  }
  __syncthreads();
}

template <int VEC> __global__ void __launch_bounds__(STACK_PACK_THREADS) stack_pack(stack_source source, stack_packed packed) {
  constexpr int WIDTH = 32 * VEC;
  __shared__ float tile[STACK_PACK_SPAN][WIDTH + 1];
  const int t = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  const int32_t pieces = (source.line + STACK_PACK_SPAN - 1) / STACK_PACK_SPAN;
  const int32_t line = blockIdx.x / pieces, from = blockIdx.x % pieces * STACK_PACK_SPAN;
  stack_gather<WIDTH>(source, chunk, line, from, tile);
  const int32_t margin = packed.margin, count = source.line - from < STACK_PACK_SPAN ? source.line - from : STACK_PACK_SPAN;
  auto write = [&](float *target, int64_t step) {
    for (int p = warp; p < count; p += STACK_PACK_THREADS / 32)
      for (int k = t; k < WIDTH; k += 32) target[p * step + k] = tile[p][k];
  };
  auto clear = [&](float *target, int64_t step, int32_t places) {
    for (int p = warp; p < places; p += STACK_PACK_THREADS / 32)
      for (int k = t; k < WIDTH; k += 32) target[p * step + k] = 0;
  };
  if (packed.along) {
    float *start = packed.along + (chunk * source.lines + line) * (source.line + 2 * margin) * WIDTH;
    write(start + (margin + from) * WIDTH, WIDTH);
    if (from == 0) clear(start, WIDTH, margin);
    if (from + count == source.line) clear(start + (margin + source.line) * WIDTH, WIDTH, margin);
  }
  if (packed.across) {
    const int64_t step = (source.lines + 2 * (int64_t)margin) * WIDTH;
    float *start = packed.across + (chunk * source.line + from) * step;
    write(start + (margin + line) * WIDTH, step);
    for (int k = 0; k < margin && line == 0; k++) clear(start + k * WIDTH, step, count);
    for (int k = 0; k < margin && line == source.lines - 1; k++) clear(start + (margin + source.lines + k) * WIDTH, step, count);
  }
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
  float *shares;     // [tile][blockIdx.z][STACK_TILE_FLOATS], where several blocks add up a tile
  unsigned *arrived; // [tile], see rs_last_block
};

template <int VEC> constexpr int STACK_TILE_FLOATS = STACK_SIDE *STACK_SIDE *STACK_TILE_STRIDE<VEC>;

// Of gridDim.z blocks that have a share of a tile each, in shared memory, the last to come adds them up there and goes on: true.
template <int VEC> __device__ static inline bool stack_join(const stack_target &target, float *tile) {
  if (gridDim.z == 1) return true;
  constexpr int COUNT = STACK_TILE_FLOATS<VEC> / 4, TOGETHER = 4; // places of a thread whose parts are on their way at the same time
  const int64_t number = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
  float4 *shares = reinterpret_cast<float4 *>(target.shares) + number * gridDim.z * COUNT, *sum = reinterpret_cast<float4 *>(tile);
  for (int n = threadIdx.x; n < COUNT; n += blockDim.x) __stcg(shares + blockIdx.z * COUNT + n, sum[n]);
  if (!rs_last_block(target.arrived + number, gridDim.z)) return false;
  for (int first = threadIdx.x; first < COUNT; first += TOGETHER * blockDim.x) {
    float4 all[TOGETHER];
    auto add = [&](unsigned k) { // the part of block k
#pragma unroll
      for (int n = 0; n < TOGETHER; n++) {
        const int at = first + n * blockDim.x;
        const float4 one = __ldcg(shares + k * COUNT + (at < COUNT ? at : first));
        all[n] = k ? make_float4(all[n].x + one.x, all[n].y + one.y, all[n].z + one.z, all[n].w + one.w) : one;
      }
    };
    add(0);
#pragma unroll 2
    for (unsigned k = 1; k < gridDim.z; k++) add(k);
#pragma unroll
    for (int n = 0; n < TOGETHER; n++)
      if (first + n * (int)blockDim.x < COUNT) sum[first + n * blockDim.x] = all[n];
  }
  __syncthreads();
  return true;
}

// A line of a tile as stack_finish writes it.
struct stack_written {
  size_t offset;
  float scale;
  int32_t width;
};

// Finishes a tile in shared memory, tile[row][STACK_SIDE][lane], of which the first width(row) places of `rows` rows exist, at most
// STACK_SIDE. offset(row) is where a row starts in its unit, scale(row) multiplies its values; each is asked for once. All threads of the
// block call it, when the tile is written.
template <int VEC, typename Width, typename Offset, typename Scale>
__device__ static inline void stack_finish(const stack_target &target, const float *tile, int rows, int64_t chunk, Width width,
                                           Offset offset, Scale scale) {
  constexpr int WIDTH = 32 * VEC, TOGETHER = 8;
  __shared__ stack_written lines[STACK_SIDE];
  if (threadIdx.x < (unsigned)rows) lines[threadIdx.x] = {offset(threadIdx.x), scale(threadIdx.x), width(threadIdx.x)};
  if (threadIdx.x >= (unsigned)rows && threadIdx.x < STACK_SIDE) lines[threadIdx.x] = {0, 0, 0};
  __syncthreads();
  const int column = threadIdx.x % STACK_SIDE;
  for (int l = threadIdx.x / STACK_SIDE; l < WIDTH; l += blockDim.x / STACK_SIDE) {
    const int64_t lane = chunk * WIDTH + l;
    double squares = 0;
    if (lane < target.lanes.count) {
      const stack_place place = stack_place_of(target.lanes, lane);
      const size_t item = (size_t)(place.item * target.lanes.item_size), unit = (size_t)(place.unit * target.lanes.unit_step) + column;
      for (int first = 0; first < rows; first += TOGETHER)
        squares += rs_finish_all<TOGETHER>(
            target.output, item, [&](int k) { return column < lines[first + k].width; },
            [&](int k) { return unit + lines[first + k].offset; },
            [&](int k) { return lines[first + k].scale * tile[((first + k) * STACK_SIDE + column) * STACK_TILE_STRIDE<VEC> + l]; });
    }
    if (!target.sums) continue;
    for (int half = STACK_SIDE / 2; half > 0; half /= 2) squares += __shfl_down_sync(0xffffffffu, squares, half, STACK_SIDE);
    if (column == 0 && lane < target.lanes.count)
      target.sums[(target.lanes.first + lane - target.sums_first) * gridDim.x + blockIdx.x] = squares;
  }
}
