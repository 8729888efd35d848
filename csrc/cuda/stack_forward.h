// stack_forward.h: forward projection where neighbouring columns lie at most two voxels apart.
//
// A block owns up to STACK_QUADS quads of four columns, of a group of views with similar slopes, for a chunk of lanes, in registers until
// the last plane. Stages of a few planes bring the voxels that the block's rays see into shared memory while the stage before is worked
// off; the voxels of the stage after the next are found at the same time.
#pragma once
#include "stack_quad.h"

// A block's share: `views` from `view` on, in each `pieces` times STACK_SIDE columns from `column` on, on the planes first ... last - 1.
struct stack_block {
  int32_t view, views, column, pieces, first, last;
};

constexpr int STACK_MOST_VIEWS = 16;
constexpr int STACK_MOST_PLANES = 8; // of a stage
constexpr int STACK_OUTSIDE = 8;     // rows that a quad may reach beyond the volume

struct stack_window {
  int32_t low, count; // voxels of a plane
};

template <int VEC> static inline size_t stack_forward_bytes(int32_t planes, int32_t voxels) {
  const size_t stages = 2 * planes * ((size_t)voxels * 128 * VEC + sizeof(stack_quads));
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<VEC> * sizeof(float);
  return stages > tile ? stages : tile;
}

__host__ __device__ static inline double stack_voxel_of(const stack_view &view, int column, int plane) {
  const double p = view.start + view.column * column + view.plane * plane;
  return p < -STACK_FAR ? -STACK_FAR : p > STACK_FAR ? STACK_FAR : p;
}

// planes: of a stage; voxels: room for those of a plane.
template <int VEC>
__global__ void __launch_bounds__(STACK_THREADS, 1)
    stack_forward(stack_plane plane, const stack_block *blocks, const float *packed, stack_target target, int32_t planes, int32_t voxels) {
  constexpr int WIDTH = 32 * VEC;
  RS_SHARED(char, shared);
  __shared__ stack_window windows[3][STACK_MOST_PLANES];
  float *rows = reinterpret_cast<float *>(shared);
  stack_quads *tables = reinterpret_cast<stack_quads *>(shared + (size_t)2 * planes * voxels * WIDTH * sizeof(float));
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  const stack_block block = blocks[blockIdx.x];
  const bool upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = upright ? plane.nx : plane.ny;
  const int64_t main_step = (int64_t)(upright ? plane.nx : 1) * WIDTH, cross_step = (int64_t)(upright ? 1 : plane.nx) * WIDTH;
  packed += chunk * plane.ny * plane.nx * WIDTH;

  // The windows of a stage, a warp a plane: lanes are views and both ends of the columns.
  auto find = [&](int32_t from) {
    if (warp >= planes) return;
    int32_t low = INT32_MAX, high = INT32_MIN;
    if (lane % STACK_MOST_VIEWS < block.views) {
      const int column = block.column + (lane < STACK_MOST_VIEWS ? 0 : block.pieces * STACK_SIDE - 1);
      low = high = (int32_t)floor(stack_voxel_of(plane.view[block.view + lane % STACK_MOST_VIEWS], column, from + warp));
    }
    for (int half = 16; half > 0; half /= 2) {
      const int32_t other_low = __shfl_xor_sync(0xffffffffu, low, half), other_high = __shfl_xor_sync(0xffffffffu, high, half);
      low = other_low < low ? other_low : low;
      high = other_high > high ? other_high : high;
    }
    low = low < -STACK_OUTSIDE ? -STACK_OUTSIDE : low;
    high = high + 1 > cross - 1 + STACK_OUTSIDE ? cross - 1 + STACK_OUTSIDE : high + 1;
    const int32_t count = high < low ? 0 : high - low + 1 < voxels ? high - low + 1 : voxels;
    if (lane == 0) windows[(from - block.first) / planes % 3][warp] = {low, count};
  };
  auto bring = [&](int32_t from) {
    const int32_t stage = (from - block.first) / planes;
    const stack_window *window = windows[stage % 3];
    const int half = stage & 1;
    const int32_t count = block.last - from < planes ? block.last - from : planes;
    for (int k = 0; k < count; k++)
      stack_copy_rows<VEC>(rows + (half * planes + k) * voxels * WIDTH, packed + (from + k) * main_step, cross_step, window[k].low,
                           window[k].count, cross);
    const int width = block.pieces * (STACK_SIDE / 4); // quads of a view
    for (int i = threadIdx.x; i < count * STACK_QUADS; i += STACK_THREADS) {
      const int k = i / STACK_QUADS, quad = i % STACK_QUADS;
      if (quad >= block.views * width) continue;
      const stack_view &view = plane.view[block.view + quad / width];
      double position[4];
      for (int n = 0; n < 4; n++) position[n] = stack_voxel_of(view, block.column + quad % width * 4 + n, from + k);
      stack_make_quad(&tables[half * planes + k], quad, position, view.column < 0 ? -1 : 1, view.pitch > 1, WIDTH * (int)sizeof(float),
                      window[k].low - k * voxels, 0, cross, [](float part, float &near, float &far) {
                        near = 1 - part;
                        far = part;
                      });
    }
  };

  stack_vector<VEC> sum[4][4] = {}; // [quad][column]
  const bool busy = warp < block.views * block.pieces;
  find(block.first);
  find(block.first + planes);
  __syncthreads();
  bring(block.first);
  for (int32_t from = block.first; from < block.last; from += planes) {
    stack_arrived();
    __syncthreads();
    if (from + planes < block.last) bring(from + planes);
    find(from + 2 * planes);
    const int half = (from - block.first) / planes & 1;
    const char *stage = reinterpret_cast<const char *>(rows + half * planes * voxels * WIDTH + lane * VEC);
    const int32_t count = !busy ? 0 : block.last - from < planes ? block.last - from : planes;
#pragma unroll 1
    for (int k = 0; k < count; k++) {
      const stack_quads *table = &tables[half * planes + k];
      const int4 code = *reinterpret_cast<const int4 *>(&table->code[warp * 4]);
      const float4 *near = reinterpret_cast<const float4 *>(table->near[warp * 4]);
      const float4 *far = reinterpret_cast<const float4 *>(table->far[warp * 4]);
      stack_add_quad<VEC, true>(sum[0][0], sum[0][1], sum[0][2], sum[0][3], code.x, stage, near[0], far[0]);
      stack_add_quad<VEC, true>(sum[1][0], sum[1][1], sum[1][2], sum[1][3], code.y, stage, near[1], far[1]);
      stack_add_quad<VEC, true>(sum[2][0], sum[2][1], sum[2][2], sum[2][3], code.z, stage, near[2], far[2]);
      stack_add_quad<VEC, true>(sum[3][0], sum[3][1], sum[3][2], sum[3][3], code.w, stage, near[3], far[3]);
    }
  }
  __syncthreads(); // the rows were read: their place takes the tile
#pragma unroll
  for (int n = 0; n < 16; n++) stack_store(rows + (warp * STACK_SIDE + n) * STACK_TILE_STRIDE<VEC> + lane * VEC, sum[n / 4][n % 4]);
  __syncthreads();
  auto first_column = [&](int row) { return block.column + row % block.pieces * STACK_SIDE; };
  stack_finish<VEC>(
      target, rows, block.views * block.pieces, chunk, [&](int row) { return plane.columns - first_column(row); },
      [&](int row) { return (size_t)plane.view[block.view + row / block.pieces].view * plane.columns + first_column(row); },
      [&](int row) { return plane.view[block.view + row / block.pieces].length; });
}
