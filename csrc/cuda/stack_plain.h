// stack_plain.h: the kernels of the `rs_stack_cuda` family for any pitch and supersampling: each thread finds its own samples in device
// memory. A warp is one ray or voxel of a chunk of lanes, a block STACK_SIDE neighbours.
#pragma once
#include "stack_laws.h"
#include "stack_pack.h"

template <class Law, int VEC>
__global__ void __launch_bounds__(STACK_THREADS) stack_forward_plain(stack_plane plane, const float *packed, stack_target target) {
  constexpr int WIDTH = 32 * VEC;
  RS_SHARED(float, tile);
  const int lane = threadIdx.x % 32 * VEC, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  const int tiles = (plane.columns + STACK_SIDE - 1) / STACK_SIDE;
  const stack_view view = plane.view[blockIdx.x / tiles];
  const int32_t from = blockIdx.x % tiles * STACK_SIDE, column = from + warp;
  const int32_t main_count = view.main == RS_Y ? plane.ny : plane.nx, cross_count = view.main == RS_Y ? plane.nx : plane.ny;
  const int64_t row = plane.nx * WIDTH, main_step = view.main == RS_Y ? row : WIDTH, cross_step = view.main == RS_Y ? WIDTH : row;
  packed += chunk * plane.ny * row + lane;
  stack_vector<VEC> sum = {};
  Law law;
  if (column < plane.columns)
    for (int32_t s = 0; s < main_count; s++)
      for (int32_t q = 0; q < plane.supersampling; q++) {
        const auto position = law.voxel_of(view, column * plane.supersampling + q, s);
        if (!(position > -1 && position < cross_count)) continue;
        const int32_t cell = (int32_t)floor(position);
        const float part = (float)(position - cell);
        const float *voxel = packed + s * main_step + cell * cross_step;
        if (cell >= 0) stack_add(sum, 1 - part, stack_load<VEC>(voxel));
        if (cell + 1 < cross_count) stack_add(sum, part, stack_load<VEC>(voxel + cross_step));
      }
  stack_store(tile + warp * STACK_TILE_STRIDE<VEC> + lane, sum);
  __syncthreads();
  stack_finish<VEC>(
      target, tile, 1, chunk, [&](int) { return plane.columns - from; }, [&](int) { return (size_t)view.view * plane.columns + from; },
      [&](int) { return view.length; });
}

template <class Law, int VEC>
__global__ void __launch_bounds__(STACK_THREADS) stack_back_plain(stack_plane plane, const float *packed, stack_target target) {
  constexpr int WIDTH = 32 * VEC;
  RS_SHARED(float, tile);
  const int lane = threadIdx.x % 32 * VEC, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  const int tiles = (plane.nx + STACK_SIDE - 1) / STACK_SIDE;
  const int32_t y = blockIdx.x / tiles, from = blockIdx.x % tiles * STACK_SIDE, x = from + warp;
  packed += chunk * plane.views * plane.columns * WIDTH + lane;
  stack_vector<VEC> sum = {};
  if (x < plane.nx)
    for (int32_t v = 0; v < plane.views; v++, packed += (int64_t)plane.columns * WIDTH) {
      const stack_view *view = plane.view + v;
      const double centre = Law::column_of(*view, y, x), reach = 1 / (double)view->pitch;
      const double last = fmin(centre + reach, (double)plane.columns * plane.supersampling - 1);
      for (double i = ceil(fmax(centre - reach, 0.)); i <= last; i++) {
        const float weight = 1 - view->pitch * (float)fabs(i - centre);
        if (weight > 0) stack_add(sum, weight, stack_load<VEC>(packed + (int32_t)i / plane.supersampling * (int64_t)WIDTH));
      }
    }
  stack_store(tile + warp * STACK_TILE_STRIDE<VEC> + lane, sum);
  __syncthreads();
  stack_finish<VEC>(
      target, tile, 1, chunk, [&](int) { return plane.nx - from; }, [&](int) { return (size_t)y * plane.nx + from; },
      [](int) { return 1.0f; });
}
