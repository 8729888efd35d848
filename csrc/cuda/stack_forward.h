// stack_forward.h: forward projection where neighbouring columns lie at most two voxels apart.
//
// A block owns up to 16 times STACK_SIDE columns, of a group of views with similar slopes, for a chunk of lanes, in registers until the
// last plane; a warp owns STACK_SIDE columns of a view. Stages of a few planes bring the voxels that the block's rays see into shared
// memory while the stage before is worked off; the windows of the stage after the next are found at the same time.
#pragma once
#include "stack_quad.h"

// A block's share: `views` from `view` on, in each `pieces` times STACK_SIDE columns from `column` on, on the planes first ... last - 1,
// `planes` a stage, each with room for `voxels`.
struct stack_block {
  int32_t view, views, column, pieces, first, last, planes, voxels;
};

constexpr int STACK_MOST_VIEWS = 16;
constexpr int STACK_MOST_PLANES = 8; // of a stage
constexpr int STACK_OUTSIDE = 8;     // voxels that a quad may reach beyond the volume

struct stack_window {
  int32_t low, count; // voxels of a plane
};

template <int VEC> static inline size_t stack_forward_bytes(int32_t planes, int32_t voxels) {
  const size_t stages = (size_t)2 * planes * (voxels * 32 * VEC + STACK_WARPS * STACK_ENTRY) * sizeof(float);
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<VEC> * sizeof(float);
  return stages > tile ? stages : tile;
}

// upright: [chunk][y][outside + x + outside][lane]; sideways: [chunk][x][outside + y + outside][lane]; zero outside.
template <class Law, int VEC>
__global__ void __launch_bounds__(STACK_THREADS, 1)
    stack_forward(stack_plane plane, const stack_block *blocks, const float *upright, const float *sideways, stack_target target) {
  constexpr int WIDTH = 32 * VEC;
  RS_SHARED(float, rows);
  __shared__ stack_arrival arrivals[2];
  __shared__ stack_window windows[3][STACK_MOST_PLANES];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  stack_block block = blocks[blockIdx.x];
  const int64_t begin = block.first, height = block.last - block.first; // blocks that differ in blockIdx.z do a part of the planes each
  block.first = (int32_t)(begin + height * blockIdx.z / gridDim.z);
  block.last = (int32_t)(begin + height * (blockIdx.z + 1) / gridDim.z);
  const int32_t planes = block.planes, voxels = block.voxels;
  const bool is_upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = is_upright ? plane.nx : plane.ny, line = cross + 2 * STACK_OUTSIDE;
  const float *packed = (is_upright ? upright : sideways) + (chunk * (is_upright ? plane.ny : plane.nx) * line + STACK_OUTSIDE) * WIDTH;
  float *tables = rows + (size_t)2 * planes * voxels * WIDTH;
  const stack_view &view = plane.view[block.view + (warp < block.views * block.pieces ? warp / block.pieces : 0)]; // of this warp
  const bool reversed = view.column < 0;
  Law law;

  auto find = [&](int32_t from) { // the windows of a stage by a warp, four lanes a plane
    double least = STACK_FAR, most = -STACK_FAR;
    for (int v = lane % 4; v < block.views; v += 4)
      for (int end = 0; end < 2; end++) {
        const double p = stack_voxel_of(plane.view[block.view + v], block.column + end * (block.pieces * STACK_SIDE - 1), from + lane / 4);
        least = fmin(least, p);
        most = fmax(most, p);
      }
    int32_t low = (int32_t)floor(least - plane.slack), high = (int32_t)floor(most + plane.slack) + 2;
    for (int k = 1; k < 4; k *= 2) {
      const int32_t other_low = __shfl_xor_sync(0xffffffffu, low, k), other_high = __shfl_xor_sync(0xffffffffu, high, k);
      low = other_low < low ? other_low : low;
      high = other_high > high ? other_high : high;
    }
    low = low < -STACK_OUTSIDE ? -STACK_OUTSIDE : low;
    const int32_t end = high < cross + STACK_OUTSIDE ? high + 1 : cross + STACK_OUTSIDE;
    if (end - low < STACK_OUTSIDE) low = end > 0 ? end - STACK_OUTSIDE : -STACK_OUTSIDE; // quads that see nothing read from `low` on
    const int32_t count = end - low < STACK_OUTSIDE ? STACK_OUTSIDE : end - low;
    const bool there = lane / 4 < planes && from + lane / 4 < block.last;
    if (lane % 4 == 0) windows[(from - block.first) / planes % 3][lane / 4] = {low, !there ? 0 : count < voxels ? count : voxels};
  };
  auto send = [&](int32_t from) { // a lane sends the window of a plane
    const int32_t stage = (from - block.first) / planes, half = stage & 1;
    const stack_window window = lane < STACK_MOST_PLANES ? windows[stage % 3][lane] : stack_window{0, 0};
    stack_send(&arrivals[half], rows + (half * planes + lane) * voxels * WIDTH,
               packed + ((from + lane) * (int64_t)line + window.low) * WIDTH, window.count * WIDTH * (unsigned)sizeof(float));
  };
  auto make = [&](int32_t from, int k) { // the tables of two planes
    const int stage = (from - block.first) / planes, slot = (stage & 1) * planes + k + lane / 16;
    const int32_t s = from + k + lane / 16, column = block.column + warp % block.pieces * STACK_SIDE + lane % 16;
    const int32_t low = windows[stage % 3][k + lane / 16].low - slot * voxels;
    stack_make_quads(tables + (slot * STACK_WARPS + warp) * STACK_ENTRY, law.voxel_of(view, reversed ? column ^ 3 : column, s),
                     view.forward_kind, 0, cross, 1,
                     [&](int32_t first) { return (first == INT32_MIN ? slot * voxels : first - low) * WIDTH * (int32_t)sizeof(float); });
  };

  if (threadIdx.x == 0) stack_expect_lanes(&arrivals[0]), stack_expect_lanes(&arrivals[1]);
  if (warp < 2 && block.first < block.last) find(block.first + warp * planes);
  __syncthreads();
  rs_await();
  stack_vector<VEC> sum[4][4] = {}; // [quad][column]
  const bool busy = warp < block.views * block.pieces && block.first < block.last;
  if (warp == 0 && block.first < block.last) send(block.first);
  for (int k = 0; k < planes && busy; k += 2) make(block.first, k);
  for (int32_t from = block.first, n = 0; from < block.last; from += planes, n++) {
    const int half = n & 1;
    stack_wait(&arrivals[half], n >> 1 & 1);
    __syncthreads();
    if (warp == n % STACK_WARPS && from + planes < block.last) {
      send(from + planes);
      find(from + 2 * planes);
    }
    if (!busy) continue;
    const char *data = reinterpret_cast<const char *>(rows + lane * VEC);
#pragma unroll 1
    for (int k = 0; k < planes && from + k < block.last; k++) {
      if (k % 2 == 0 && from + planes < block.last) make(from + planes, k);
      const float *table = tables + ((half * planes + k) * STACK_WARPS + warp) * STACK_ENTRY;
      if (__float_as_int(table[11]) < 0) continue;
      switch (view.forward_kind) {
      case 0: stack_add_quads<VEC, 0>(sum, table, data); break;
      case 1: stack_add_quads<VEC, 1>(sum, table, data); break;
      case 2: stack_add_quads<VEC, 2>(sum, table, data); break;
      case 3: stack_add_quads<VEC, 3>(sum, table, data); break;
      case 4: stack_add_quads<VEC, 4>(sum, table, data); break;
      case 5: stack_add_quads<VEC, 5>(sum, table, data); break;
      case 6: stack_add_quads<VEC, 6>(sum, table, data); break;
      default: stack_add_quads<VEC, 7>(sum, table, data); break;
      }
    }
  }
  __syncthreads(); // the rows were read: their place takes the tile
#pragma unroll
  for (int n = 0; n < 16; n++)
    stack_store(rows + (warp * STACK_SIDE + (reversed ? n ^ 3 : n)) * STACK_TILE_STRIDE<VEC> + lane * VEC, sum[n / 4][n % 4]);
  __syncthreads();
  if (!stack_join<VEC>(target, rows)) return;
  auto first_column = [&](int row) { return block.column + row % block.pieces * STACK_SIDE; };
  stack_finish<VEC>(
      target, rows, block.views * block.pieces, chunk, [&](int row) { return plane.columns - first_column(row); },
      [&](int row) { return (size_t)plane.view[block.view + row / block.pieces].view * plane.columns + first_column(row); },
      [&](int row) { return plane.view[block.view + row / block.pieces].length; });
}
