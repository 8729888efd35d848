// astra_rays.h: rays through a volume as ASTRA's forward projectors follow them, for the `rs_astra` family.
#pragma once
#include "astra_texture.h"
#include "plan.h"
#include "raysum.h"
#include "simd.h"

#include <math.h>

#define ASTRA_INLINE static inline __attribute__((always_inline))
#define ASTRA_LANES 16 // rays or voxels side by side

// Rays side by side: at height h along the main axis ray k is at start + h slope along the other two, in voxels from the volume's
// middle.
typedef struct {
  float start[2][ASTRA_LANES], slope[2][ASTRA_LANES];
  float length[ASTRA_LANES]; // between two planes
} astra_rays;

// How the volume is sampled for a main axis: its axes, and steps in floats and numbers of voxels along them.
typedef struct {
  int axis[3];
  int32_t step[3];
  float count[3];
  int slab;
} astra_axes;

static inline astra_axes astra_axes_of(const rs_geometry *geometry, const rs_view *view, int main) {
  astra_axes axes = {.axis = {main, main == RS_X ? RS_Y : RS_X, main == RS_Z ? RS_Y : RS_Z}};
  int32_t row = geometry->shape[RS_X] + RS_TEXTURE_BORDER, step[3] = {row * (geometry->shape[RS_Y] + RS_TEXTURE_BORDER), row, 1};
  for (int i = 0; i < 3; i++) axes.step[i] = step[axes.axis[i]], axes.count[i] = (float)geometry->shape[axes.axis[i]];
  axes.slab = geometry->law == RS_ASTRA_2D ? 64 : view->turn != 0 ? 16 : geometry->beam == RS_CONE ? 4 : 32;
  return axes;
}

// The main axis of a view: float32 settles what is a tie, and ties go to x, then y, then z; in 2D to y.
static inline int astra_main_axis(const rs_geometry *geometry, const rs_view *view) {
  float steep[3];
  for (int k = 0; k < 3; k++) {
    double direction = view->origin[k];
    if (geometry->beam == RS_CONE)
      direction -= view->corner[k] + 0.5 * (geometry->fine_rows - 1) * view->v[k] + 0.5 * (geometry->fine_columns - 1) * view->u[k];
    steep[k] = fabsf((float)direction);
  }
  if (geometry->law == RS_ASTRA_2D) return steep[RS_X] <= steep[RS_Y] ? RS_Y : RS_X;
  if (steep[RS_X] >= steep[RS_Y] && steep[RS_X] >= steep[RS_Z]) return RS_X;
  return steep[RS_Y] >= steep[RS_Z] ? RS_Y : RS_Z;
}

// In a 2D fan each ray has its own. ASTRA compares the near edge of the pixel, half a voxel aside along x and (its y points the other
// way) y, with the source.
static inline int astra_fan_axis(const rs_geometry *geometry, const rs_view *view, int32_t column) {
  double at = (double)column * geometry->supersampling - 0.5;
  double x = view->corner[RS_X] + at * view->u[RS_X] + 0.5 - view->origin[RS_X];
  double y = view->corner[RS_Y] + at * view->u[RS_Y] - 0.5 - view->origin[RS_Y];
  return fabs(y) > fabs(x) ? RS_Y : RS_X;
}

#define ASTRA_FLAT 1e9f // slope of rays that run along the planes and are left out

// The rays through sub-row i and sub-column j of the pixels (row, column ...); those that `out` names see nothing. Everything is in
// float32 and in ASTRA's order: whose rounding decides on a 256th of a voxel, and two orders differ in a sample of a hundred.
static inline void astra_aim(const rs_geometry *geometry, const rs_view *view, const astra_axes *axes, int32_t row, int32_t column, int i,
                             int j, const int *out, astra_rays *rays) {
  const int cone = geometry->beam == RS_CONE, flat = geometry->law == RS_ASTRA_2D, s = geometry->supersampling;
  float first[3], u[3], v[3], bend[3], origin[3], size[3]; // of whole pixels, along the main axis and the two others
  for (int n = 0; n < 3; n++) {
    const int d = axes->axis[n], out_of_plane = flat && d == RS_Z;
    const double middle = 0.5 * (geometry->shape[d] - 1);
    first[n] = out_of_plane ? 0 : (float)(view->corner[d] + 0.5 * (s - 1) * (view->u[d] + view->v[d]) - middle);
    u[n] = out_of_plane ? 0 : (float)(view->u[d] * s);
    v[n] = out_of_plane ? 0 : (float)(view->v[d] * s);
    bend[n] = (float)view->axis[d];
    origin[n] = out_of_plane ? 0 : (float)(cone ? view->origin[d] - middle : view->origin[d]);
    size[n] = (float)geometry->voxel[d];
  }
  const float at_row = flat ? 0 : (float)row + ((float)i + 0.5f) / (float)s - 0.5f;
  for (int k = 0; k < ASTRA_LANES; k++) {
    const float at_column = (float)(column + k) + ((float)j + 0.5f) / (float)s - 0.5f;
    double along = at_column, rise = 0;
    if (view->turn != 0) {
      const double middle = 0.5 * (s - 1); // of a pixel, in fine columns
      rs_bend(view, geometry->fine_columns, s * at_column + middle, &along, &rise);
      along = (along - middle) / s;
    }
    float at[3], direction[3];
    for (int n = 0; n < 3; n++) {
      at[n] = fmaf(at_row, v[n], fmaf((float)along, u[n], first[n]));
      at[n] = fmaf((float)rise, bend[n], at[n]);
      direction[n] = cone ? origin[n] - at[n] : origin[n];
    }
    float slope[2] = {direction[1] / direction[0], direction[2] / direction[0]};
    const int seen = !out[k] && fabsf(slope[0]) < ASTRA_FLAT && fabsf(slope[1]) < ASTRA_FLAT;
    float square = 1;
    for (int n = 0; n < 2; n++) {
      const float *on = cone ? origin : at, world = slope[n] * (size[n + 1] / size[0]);
      rays->slope[n][k] = seen ? slope[n] : 0;
      rays->start[n][k] = seen ? fmaf(-slope[n], on[0], on[n + 1]) : -ASTRA_FLAT;
      square += world * world;
    }
    rays->length[k] = seen ? sqrtf(square) * size[0] : 0;
  }
}

// The planes from ... end - 1 on which one of the rays may be in the volume.
static inline void astra_find_planes(const astra_axes *axes, const astra_rays *rays, int32_t *from, int32_t *end) {
  const double middle = 0.5 * (axes->count[0] - 1);
  double low = axes->count[0], high = -1;
  for (int k = 0; k < ASTRA_LANES; k++) {
    double first = 0, last = axes->count[0] - 1;
    for (int n = 0; n < 2; n++) {
      const double start = rays->start[n][k], slope = rays->slope[n][k], most = 0.5 * axes->count[n + 1] + 1;
      const double a = (-most - start) / slope + middle, b = (most - start) / slope + middle; // of rays without slope: infinite
      first = (a < b ? a : b) > first ? (a < b ? a : b) : first;
      last = (a < b ? b : a) < last ? (a < b ? b : a) : last;
    }
    if (first <= last) {
      low = first < low ? first : low;
      high = last > high ? last : high;
    }
  }
  *from = (int32_t)low;
  *end = high < low ? *from : (int32_t)fmin(high + 2, axes->count[0]);
}

// sum += 256 times what the rays find on the planes from ... end - 1. ASTRA computes positions anew for each slab of planes and adds
// up slopes inside it.
ASTRA_INLINE void astra_march(const float *packed, const astra_axes *axes, int32_t first_step, int32_t second_step,
                              const rs_texture_roles roles, const astra_rays *rays, int32_t from, int32_t end, float *sum) {
  const float last[2] = {(float)rs_texture_last((int32_t)axes->count[1]), (float)rs_texture_last((int32_t)axes->count[2])};
  const float scale = (float)RS_TEXTURE_SCALE, offset = (float)(RS_TEXTURE_OFFSET - 0.5 * RS_TEXTURE_SCALE); // centres are at halves here
  for (int32_t slab = from / axes->slab * axes->slab; slab < end; slab += axes->slab) {
    const float height = (float)slab - 0.5f * axes->count[0] + 0.5f;
    float part[ASTRA_LANES] = {0}, first[ASTRA_LANES], second[ASTRA_LANES];
    for (int k = 0; k < ASTRA_LANES; k++) {
      first[k] = fmaf(rays->slope[0][k], height, rays->start[0][k]) + 0.5f * axes->count[1] - 0.5f + 0.5f;
      second[k] = fmaf(rays->slope[1][k], height, rays->start[1][k]) + 0.5f * axes->count[2] - 0.5f + 0.5f;
    }
    for (int32_t s = slab; s < slab + axes->slab && s < end; s++) {
      const float *plane = packed + (int64_t)(s + 1) * axes->step[0];
      for (int k = 0; k < ASTRA_LANES; k++) {
        int32_t a = rs_texture_place32(first[k] * scale + offset, last[0]), b = rs_texture_place32(second[k] * scale + offset, last[1]);
        part[k] += rs_texture_sample(plane, a, b, first_step, second_step, roles);
        first[k] += rays->slope[0][k];
        second[k] += rays->slope[1][k];
      }
    }
    for (int k = 0; k < ASTRA_LANES; k++) sum[k] += part[k];
  }
}

// sum += the values of ASTRA_LANES columns of a row, of which `count` exist and have this main axis.
static inline void astra_project(const rs_geometry *geometry, const rs_view *view, int main, const float *packed, int32_t row,
                                 int32_t column, int count, float *sum) {
  const int flat = geometry->law == RS_ASTRA_2D, s = geometry->supersampling, sub_rows = flat ? 1 : s;
  const astra_axes axes = astra_axes_of(geometry, view, main);
  int out[ASTRA_LANES], seen = 0;
  for (int k = 0; k < ASTRA_LANES; k++) {
    out[k] = k >= count || (flat && geometry->beam == RS_CONE && astra_fan_axis(geometry, view, column + k) != main);
    seen += !out[k];
  }
  if (!seen) return;
  for (int i = 0; i < sub_rows; i++)
    for (int j = 0; j < s; j++) {
      astra_rays rays;
      float found[ASTRA_LANES] = {0};
      int32_t from, end;
      astra_aim(geometry, view, &axes, row, column, i, j, out, &rays);
      astra_find_planes(&axes, &rays, &from, &end);
      if (main == RS_X)
        astra_march(packed, &axes, axes.step[1], axes.step[2], rs_texture_yz, &rays, from, end, found);
      else if (main == RS_Y)
        astra_march(packed, &axes, 1, axes.step[2], rs_texture_xz, &rays, from, end, found);
      else
        astra_march(packed, &axes, 1, axes.step[2], rs_texture_xy, &rays, from, end, found);
      for (int k = 0; k < ASTRA_LANES; k++) sum[k] += found[k] * (rays.length[k] / (float)(RS_TEXTURE_SCALE * sub_rows * s));
    }
}
