// astra_lanes.h: rays side by side, for the family `rs_astra` on the CPU.
#pragma once
#include "astra_rays.h"
#include "simd.h"

#define ASTRA_INLINE static inline __attribute__((always_inline))
#define ASTRA_LANES 16 // rays or voxels side by side

typedef struct {
  float start[2][ASTRA_LANES], slope[2][ASTRA_LANES], length[ASTRA_LANES]; // of an astra_ray each
} astra_rays;

// The rays through sub-row i and sub-column j of the pixels (row, column ...), and the planes from ... end - 1 on which one of them may
// be in the volume. Those that `out` names see nothing.
static inline void astra_aim_lanes(const rs_geometry *geometry, const astra_axes *axes, const astra_frame *frame, int32_t row,
                                   int32_t column, int i, int j, const int *out, astra_rays *rays, int32_t *from, int32_t *end) {
  const int cone = geometry->beam == RS_CONE, s = geometry->supersampling;
  float low = axes->count[0], high = -1;
  for (int k = 0; k < ASTRA_LANES; k++) {
    const astra_ray ray = astra_aim(frame, cone, astra_sub_pixel(row, i, s), astra_sub_pixel(column + k, j, s));
    for (int n = 0; n < 2; n++) {
      rays->slope[n][k] = out[k] ? 0 : ray.slope[n];
      rays->start[n][k] = out[k] ? -ASTRA_FLAT : ray.start[n];
    }
    rays->length[k] = out[k] ? 0 : ray.length;
    float first, last;
    astra_clip(&ray, axes->count, &first, &last);
    const int inside = !out[k] && first <= last;
    low = inside && first < low ? first : low;
    high = inside && last > high ? last : high;
  }
  *from = (int32_t)low;
  *end = high < low ? *from : (int32_t)fminf(high + 2, axes->count[0]);
}

// sum += 256 times what the rays find on the planes from ... end - 1. ASTRA computes positions anew for each slab of planes and adds
// up slopes inside it.
ASTRA_INLINE void astra_march(const float *packed, const astra_axes *axes, const int32_t *step, int32_t first_step,
                              const rs_texture_roles roles, const astra_rays *rays, int32_t from, int32_t end, float *sum) {
  const float last[2] = {(float)rs_texture_last((int32_t)axes->count[1]), (float)rs_texture_last((int32_t)axes->count[2])};
  const float scale = ASTRA_TEXTURE_SCALE;
  for (int32_t slab = from / axes->slab * axes->slab; slab < end; slab += axes->slab) {
    float part[ASTRA_LANES] = {0}, first[ASTRA_LANES], second[ASTRA_LANES];
    for (int k = 0; k < ASTRA_LANES; k++) {
      first[k] = astra_enter(rays->start[0][k], rays->slope[0][k], (float)slab, axes->count[0], axes->count[1]);
      second[k] = astra_enter(rays->start[1][k], rays->slope[1][k], (float)slab, axes->count[0], axes->count[2]);
    }
    for (int32_t s = slab; s < slab + axes->slab && s < end; s++) {
      const float *plane = packed + (int64_t)(s + 1) * step[0];
      for (int k = 0; k < ASTRA_LANES; k++) {
        int32_t a = rs_texture_place32(first[k] * scale, last[0]), b = rs_texture_place32(second[k] * scale, last[1]);
        part[k] += rs_texture_sample(plane, a, b, first_step, step[2], roles);
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
  const astra_fan fan = astra_fan_of(geometry, view);
  const astra_frame frame = astra_frame_of(geometry, view, &axes);
  const int32_t line = geometry->shape[RS_X] + RS_TEXTURE_BORDER, steps[3] = {line * (geometry->shape[RS_Y] + RS_TEXTURE_BORDER), line, 1};
  const int32_t step[3] = {steps[axes.axis[0]], steps[axes.axis[1]], steps[axes.axis[2]]}; // in floats
  int out[ASTRA_LANES], seen = 0;
  for (int k = 0; k < ASTRA_LANES; k++) {
    out[k] = k >= count || (flat && geometry->beam == RS_CONE && astra_fan_axis(&fan, column + k) != main);
    seen += !out[k];
  }
  if (!seen) return;
  for (int i = 0; i < sub_rows; i++)
    for (int j = 0; j < s; j++) {
      astra_rays rays;
      float found[ASTRA_LANES] = {0};
      int32_t from, end;
      astra_aim_lanes(geometry, &axes, &frame, row, column, i, j, out, &rays, &from, &end);
      if (main == RS_X)
        astra_march(packed, &axes, step, step[1], RS_TEXTURE_YZ, &rays, from, end, found);
      else if (main == RS_Y)
        astra_march(packed, &axes, step, 1, RS_TEXTURE_XZ, &rays, from, end, found);
      else
        astra_march(packed, &axes, step, 1, RS_TEXTURE_XY, &rays, from, end, found);
      for (int k = 0; k < ASTRA_LANES; k++) sum[k] += found[k] * (rays.length[k] / (float)(RS_TEXTURE_SCALE * sub_rows * s));
    }
}
