// stack_back.h: back projection where a voxel sees at most two columns of a view.
//
// A block owns STACK_SIDE x STACK_SIDE voxels of a chunk of lanes, a warp 4 x 4 of them, in registers until the last view. Stages of a few
// views bring the columns that the block sees into shared memory while the stage before is worked off. Quads are four voxels along the
// main axis, along which neighbours see nearly the same columns.
#pragma once
#include "stack_quad.h"

constexpr int STACK_STAGE_VIEWS = 4;

// Shared memory: the rows of two stages, [view][columns of a view], and their tables.
template <int VEC> static inline size_t stack_back_rows_bytes(int32_t columns) {
  return (size_t)columns * STACK_STAGE_VIEWS * 2 * 128 * VEC;
}
template <int VEC> static inline size_t stack_back_bytes(int32_t columns) {
  const size_t stages = stack_back_rows_bytes<VEC>(columns) + 2 * STACK_STAGE_VIEWS * sizeof(stack_quads);
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<VEC> * sizeof(float);
  return stages > tile ? stages : tile;
}

__device__ static inline double stack_column_of(const stack_view &view, int y, int x) {
  return fmin(fmax(view.origin + view.along_y * y + view.along_x * x, -STACK_FAR), STACK_FAR);
}

// The first column of a view that the block's voxels see.
__device__ static inline int32_t stack_first_column(const stack_view &view, int y, int x) {
  constexpr int LAST = STACK_SIDE - 1;
  return (int32_t)floor(stack_column_of(view, view.along_y < 0 ? y + LAST : y, view.along_x < 0 ? x + LAST : x));
}

template <int VEC>
__global__ void __launch_bounds__(STACK_THREADS, 1)
    stack_back(stack_plane plane, const float *packed, stack_target target, int32_t columns) {
  constexpr int WIDTH = 32 * VEC, STAGE = STACK_STAGE_VIEWS;
  RS_SHARED(char, shared);
  float *rows = reinterpret_cast<float *>(shared);
  stack_quads *tables = reinterpret_cast<stack_quads *>(shared + (size_t)columns * STAGE * 2 * WIDTH * sizeof(float));
  const int lane = threadIdx.x % 32 * VEC, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  const int tiles = (plane.nx + STACK_SIDE - 1) / STACK_SIDE;
  const int y = blockIdx.x / tiles * STACK_SIDE, x = blockIdx.x % tiles * STACK_SIDE;
  packed += chunk * plane.views * plane.columns * WIDTH;

  auto bring = [&](int32_t from) {
    const int half = from / STAGE & 1;
    for (int k = 0; k < STAGE && from + k < plane.views; k++) {
      const stack_view &view = plane.view[from + k];
      stack_copy_rows<VEC>(rows + (half * STAGE + k) * columns * WIDTH, packed + (int64_t)(from + k) * plane.columns * WIDTH, WIDTH,
                           stack_first_column(view, y, x), columns, plane.columns);
    }
    for (int i = threadIdx.x; i < STAGE * STACK_QUADS; i += STACK_THREADS) {
      const int k = i / STACK_QUADS, quad = i % STACK_QUADS, q = quad % 4;
      if (from + k >= plane.views) break;
      const stack_view &view = plane.view[from + k];
      const bool upright = view.main == RS_Y; // quads go along y
      const int top = y + quad / 16 * 4 + (upright ? 0 : q), left = x + quad / 4 % 4 * 4 + (upright ? q : 0);
      double position[4];
      for (int n = 0; n < 4; n++) position[n] = stack_column_of(view, top + (upright ? n : 0), left + (upright ? 0 : n));
      const float pitch = view.pitch;
      const int32_t first = stack_first_column(view, y, x) - k * columns;
      stack_make_quad(&tables[half * STAGE + k], quad, position, (upright ? view.along_y : view.along_x) < 0 ? -1 : 1, false,
                      WIDTH * (int)sizeof(float), first, 0, plane.columns, [&](float part, float &near, float &far) {
                        near = fmaxf(0, 1 - pitch * part);
                        far = fmaxf(0, 1 - pitch * (1 - part));
                      });
    }
  };

  stack_vector<VEC> sum[4][4] = {}; // [y][x]
  bring(0);
  for (int32_t from = 0; from < plane.views; from += STAGE) {
    stack_arrived();
    __syncthreads();
    if (from + STAGE < plane.views) bring(from + STAGE);
    const int half = from / STAGE & 1;
    const char *stage = reinterpret_cast<const char *>(rows + half * STAGE * columns * WIDTH + lane);
    const int32_t views = plane.views - from < STAGE ? plane.views - from : STAGE;
#pragma unroll 1
    for (int k = 0; k < views; k++) {
      const stack_quads *table = &tables[half * STAGE + k];
      const int4 code = *reinterpret_cast<const int4 *>(&table->code[warp * 4]);
      const float4 *near = reinterpret_cast<const float4 *>(table->near[warp * 4]);
      const float4 *far = reinterpret_cast<const float4 *>(table->far[warp * 4]);
      if (plane.view[from + k].main == RS_Y) {
        stack_add_quad<VEC, false>(sum[0][0], sum[1][0], sum[2][0], sum[3][0], code.x, stage, near[0], far[0]);
        stack_add_quad<VEC, false>(sum[0][1], sum[1][1], sum[2][1], sum[3][1], code.y, stage, near[1], far[1]);
        stack_add_quad<VEC, false>(sum[0][2], sum[1][2], sum[2][2], sum[3][2], code.z, stage, near[2], far[2]);
        stack_add_quad<VEC, false>(sum[0][3], sum[1][3], sum[2][3], sum[3][3], code.w, stage, near[3], far[3]);
      } else {
        stack_add_quad<VEC, false>(sum[0][0], sum[0][1], sum[0][2], sum[0][3], code.x, stage, near[0], far[0]);
        stack_add_quad<VEC, false>(sum[1][0], sum[1][1], sum[1][2], sum[1][3], code.y, stage, near[1], far[1]);
        stack_add_quad<VEC, false>(sum[2][0], sum[2][1], sum[2][2], sum[2][3], code.z, stage, near[2], far[2]);
        stack_add_quad<VEC, false>(sum[3][0], sum[3][1], sum[3][2], sum[3][3], code.w, stage, near[3], far[3]);
      }
    }
  }
  __syncthreads(); // the rows were read: their place takes the tile
#pragma unroll
  for (int n = 0; n < 16; n++)
    stack_store(rows + ((warp / 4 * 4 + n / 4) * STACK_SIDE + warp % 4 * 4 + n % 4) * STACK_TILE_STRIDE<VEC> + lane, sum[n / 4][n % 4]);
  __syncthreads();
  stack_finish<VEC>(
      target, rows, plane.ny - y < STACK_SIDE ? plane.ny - y : STACK_SIDE, chunk, [&](int) { return plane.nx - x; },
      [&](int row) { return (size_t)(y + row) * plane.nx + x; }, [](int) { return 1.0f; });
}
