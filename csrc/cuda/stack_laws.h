// stack_laws.h: where rays cross planes and on which columns voxels lie, in the two laws that the `rs_stack_cuda` kernels follow.
#pragma once
#include "../astra_rays.h"
#include "../astra_views.h"
#include "stack_plan.h"

// Where the ray of a fine column crosses a plane.
__host__ __device__ static inline double stack_voxel_of(const stack_view &view, int column, int plane) {
  const double p = view.start + view.column * column + view.plane * plane;
  return p < -STACK_FAR ? -STACK_FAR : p > STACK_FAR ? STACK_FAR : p;
}

// Law exact.
struct stack_exact {
  static constexpr bool ROUNDED = false;

  // For one column, whose planes are asked for in order.
  __device__ double voxel_of(const stack_view &view, int column, int plane) { return stack_voxel_of(view, column, plane); }

  __device__ static double column_of(const stack_view &view, int y, int x) {
    return fmin(fmax(view.origin + view.along_y * y + view.along_x * x, -STACK_FAR), STACK_FAR);
  }
};

// Law astra: positions are rounded to 256ths, halves up. Forward projection finds them in float32, in ASTRA's order.
struct stack_astra {
  static constexpr bool ROUNDED = true;
  static constexpr int SLAB = 32; // planes over which slopes are added up
  static constexpr double SLACK = 1 / 128.0;
  int at = -SLAB;
  float texel = 0;

  __device__ float voxel_of(const stack_view &view, int column, int plane) {
    if (at / SLAB != plane / SLAB || at < 0) {
      const stack_aim &aim = view.aim;
      const float along = fmaf((float)column, aim.u[0], aim.first[0]), across = fmaf((float)column, aim.u[1], aim.first[1]);
      at = plane / SLAB * SLAB;
      texel = astra_enter(fmaf(-aim.slope, along, across), aim.slope, (float)at, aim.count[0], aim.count[1]);
    }
    for (; at < plane; at++) texel += view.aim.slope;
    const float p = floorf(fmaf(texel, ASTRA_TEXTURE_SCALE, 0.5f)) * (float)(1 / RS_TEXTURE_SCALE) - 0.5f;
    return fminf(fmaxf(p, (float)-STACK_FAR), (float)STACK_FAR);
  }

  __device__ static double column_of(const stack_view &view, int y, int x) {
    const stack_aim &aim = view.aim;
    const double texel = astra_place32(aim.column32, 0, y - aim.middle[0], x - aim.middle[1]);
    return fmin(fmax(floor(RS_TEXTURE_SCALE * texel + 0.5) * (1 / RS_TEXTURE_SCALE) - 0.5, -STACK_FAR), STACK_FAR);
  }
};

// What law astra knows beyond law exact; its back projector has a weight of its own, and columns reach to the next ones.
static inline void stack_set_astra(const rs_geometry *geometry, stack_view *view) {
  const rs_view *from = &geometry->view[view->view];
  const astra_axes axes = astra_axes_of(geometry, from, view->main);
  const astra_frame frame = astra_frame_of(geometry, from, &axes);
  const astra_ray ray = astra_aim(&frame, 0, 0, 0);
  astra_view back;
  astra_make_view(geometry, from, &back);
  view->aim = {{frame.first[0], frame.first[1]}, {frame.u[0], frame.u[1]}, ray.slope[0], {axes.count[0], axes.count[1]}, {}, {}};
  for (int k = 0; k < 4; k++) view->aim.column32[k] = back.column32[k];
  for (int k = 0; k < 2; k++) view->aim.middle[k] = 0.5f * (float)(geometry->shape[RS_Y + k] - 1);
  view->length = ray.length;
  view->weight = (float)back.weight;
  view->pitch = 1;
}
