// general_rays.h: where the rays of one detector row cross a block of planes, for the `rs_general` family.
//
// A position on the other two axes is cell + fraction: whole cells in integers, and inside a block of planes a float32 offset that
// starts in [0, 1) and grows by the fractional part of the slope. So weights are accurate to 1e-6 whatever the size of the volume,
// and they are the same to the last bit in every task, forward and back.
#pragma once
#include "plan.h"
#include "raysum.h"
#include "simd.h"

#include <math.h>

#define GENERAL_PLANES 16  // most planes in a block: how far a float32 offset is followed
#define GENERAL_RAYS 128   // most rays that are set up at once
#define GENERAL_STEEP 1e6  // voxels a plane; flatter rays than this are left out

// Cell j lies between voxels j and j + 1, so the cells -1 ... n - 1 touch the voxels 0 ... n - 1. A box is a block of planes with all
// cells of the `cross` axis and a band of cells of the third axis, stored as [row][plane][cross], all of them from cell -1 or the
// band's first cell; the column behind the last cell's voxels belongs to no voxel either.
typedef struct {
  int32_t plane, planes;   // first plane, number of planes
  int32_t columns;         // cells -1 ... columns - 2 of the cross axis
  int32_t row, rows;       // cells row ... row + rows - 1 of the third axis
  int32_t pitch, stride;   // floats from plane to plane, from row to row
} general_box;

enum { GENERAL_MISSES, GENERAL_CUTS, GENERAL_INSIDE }; // no sample in the box, perhaps some, all

typedef struct {
  int32_t kind[GENERAL_RAYS];
  uint32_t index[GENERAL_RAYS], step[GENERAL_RAYS];            // of the cell on the first plane; from plane to plane
  int32_t column[GENERAL_RAYS], row[GENERAL_RAYS];             // the cell on the first plane
  int32_t column_step[GENERAL_RAYS], row_step[GENERAL_RAYS];   // whole cells from plane to plane
  float a[GENERAL_RAYS], b[GENERAL_RAYS];                      // offsets on the first plane (a: cross axis, b: third axis)
  float slope_a[GENERAL_RAYS], slope_b[GENERAL_RAYS];          // the rest of the steps, in [0, 1]
  float scale[GENERAL_RAYS];                                   // length between two planes, divided by the rays of a pixel
} general_rays;

static inline int general_third(const rs_view *view) { return RS_Z + RS_Y + RS_X - view->main - view->cross; }

// Clips the columns low ... high to those where p + q column > 0.
static inline void general_half(double p, double q, double *low, double *high) {
  double at = -p / q;
  if (q > 0) *low = at;
  else if (q < 0) *high = at;
  else if (!(p > 0)) *high = *low - 1;
}

// A range of fine columns first ... end - 1 of a fine row that holds every ray which has a sample in the box.
static inline void general_columns(const rs_geometry *geometry, const rs_view *view, const general_box *box, int32_t row, int32_t *first, int32_t *end) {
  const int m = view->main, axis[2] = {view->cross, general_third(view)};
  const int cone = geometry->beam == RS_CONE;
  const double slack = 0.01; // voxels, far above the rounding errors here
  const double from[2] = {-1 - slack, box->row - slack}, to[2] = {box->columns - 1 + slack, box->row + box->rows + slack};
  const double last = geometry->fine_columns - 1;
  double low = 0, high = last, d[3];
  for (int k = 0; k < 3; k++) d[k] = view->corner[k] + row * view->v[k] - (cone ? view->origin[k] : 0);
  *first = 0, *end = geometry->fine_columns;
  // A position on a plane is centre + (p + q column) / (d + e column).
  double denominator = cone ? d[m] : 1, slope = cone ? view->u[m] : 0;
  double sign = denominator > 0 ? 1 : -1;
  if (!(sign * denominator > 0 && sign * (denominator + last * slope) > 0)) return;
  for (int k = 0; k < 2; k++) {
    int a = axis[k];
    double limit[2] = {from[k], to[k]};
    for (int side = 0; side < 2; side++) {
      double side_low = INFINITY, side_high = -INFINITY;
      for (int at_end = 0; at_end < 2; at_end++) {
        double plane = box->plane + (at_end ? box->planes - 1 : 0), p, q, centre;
        if (cone) {
          centre = view->origin[a];
          p = (plane - view->origin[m]) * d[a];
          q = (plane - view->origin[m]) * view->u[a];
        } else {
          double ratio = view->origin[a] / view->origin[m];
          centre = 0;
          p = d[a] + (plane - d[m]) * ratio;
          q = view->u[a] - view->u[m] * ratio;
        }
        p -= (limit[side] - centre) * denominator;
        q -= (limit[side] - centre) * slope;
        double turn = side ? -sign : sign, half_low = -INFINITY, half_high = INFINITY;
        general_half(turn * p, turn * q, &half_low, &half_high);
        if (half_low <= half_high) {
          side_low = half_low < side_low ? half_low : side_low;
          side_high = half_high > side_high ? half_high : side_high;
        }
      }
      low = side_low > low ? side_low : low;
      high = side_high < high ? side_high : high;
    }
  }
  if (!(low <= high)) *end = 0;
  else *first = (int32_t)floor(low), *end = (int32_t)ceil(high) + 1;
  if (*end > geometry->fine_columns) *end = geometry->fine_columns;
}

// float64 vectors of the same size, and the vectors of half as many float32 and int32 lanes as rs_vf.
#define GENERAL_WIDE (RS_LANES / 2)
typedef double general_vd __attribute__((vector_size(GENERAL_WIDE * 8)));
typedef int64_t general_vl __attribute__((vector_size(GENERAL_WIDE * 8)));
typedef float general_hf __attribute__((vector_size(GENERAL_WIDE * 4)));
typedef int32_t general_hi __attribute__((vector_size(GENERAL_WIDE * 4)));
typedef uint32_t general_hu __attribute__((vector_size(GENERAL_WIDE * 4)));

// mask ? x : other
static inline general_vd general_select(general_vl mask, general_vd x, general_vd other) {
  return (general_vd)(((general_vl)x & mask) | ((general_vl)other & ~mask));
}
static inline general_vl general_small(general_vd x, double limit) { return (x < limit) & (x > -limit); }
// x is below 2^31 in size.
static inline general_vd general_floors(general_vd x) {
  general_vd whole = __builtin_convertvector(__builtin_convertvector(x, general_hi), general_vd);
  return whole - general_select(x < whole, (general_vd){0} + 1, (general_vd){0});
}

// What decides about one of the two axes of a box.
typedef struct {
  general_hi cell, step;     // on the first plane, from plane to plane
  general_hf offset, slope;  // the fractions
  general_hi touches, inside; // masks
} general_track;

// low ... high: the cells of the box.
static inline general_track general_follow(general_vd start, general_vd slope, int32_t planes, int32_t low, int32_t high) {
  const double far = 1e8; // further than this on the first plane means outside on all of them
  general_track track;
  general_vl seen = general_small(start, far) & general_small(slope, GENERAL_STEEP);
  start = general_select(seen, start, (general_vd){0} - far);
  slope = general_select(seen, slope, (general_vd){0});
  general_vd cell = general_floors(start), step = general_floors(slope);
  track.cell = __builtin_convertvector(cell, general_hi);
  track.step = __builtin_convertvector(step, general_hi);
  track.offset = __builtin_convertvector(start - cell, general_hf);
  track.slope = __builtin_convertvector(slope - step, general_hf);
  // The cells in float32 may differ from these by one.
  general_hi end = __builtin_convertvector(general_floors(start + (planes - 1) * slope), general_hi);
  general_hi first = track.cell, enters = (first >= low - 1) | (end >= low - 1), leaves = (first <= high + 1) | (end <= high + 1);
  track.touches = enters & leaves;
  track.inside = (first > low) & (end > low) & (first < high) & (end < high);
  return track;
}

// The rays of `count` fine columns of a fine row.
static inline void general_aim(const rs_geometry *geometry, const rs_view *view, const general_box *box, int32_t row, int32_t column, int count,
                               general_rays *rays) {
  const int m = view->main, a = view->cross, b = general_third(view), cone = geometry->beam == RS_CONE;
  const double *o = view->origin, *u = view->u;
  double at[3]; // of the ray through column 0: a point of the detector, or its way from the source
  for (int k = 0; k < 3; k++) at[k] = view->corner[k] + row * view->v[k] - (cone ? o[k] : 0);
  const double height = box->plane - o[m], ratio_a = o[a] / o[m], ratio_b = o[b] / o[m];
  const double start_a = at[a] + (box->plane - at[m]) * ratio_a, start_b = at[b] + (box->plane - at[m]) * ratio_b;
  const double pitch_a = u[a] - u[m] * ratio_a, pitch_b = u[b] - u[m] * ratio_b;
  const general_hi whole = (general_hi){0} - (box->planes == GENERAL_PLANES);
  const float v_m = (float)geometry->voxel[m], v_a = (float)geometry->voxel[a], v_b = (float)geometry->voxel[b];
  const float share = 1.0f / (float)(geometry->supersampling * geometry->supersampling);
  float squared[GENERAL_RAYS];
  // Columns count from 0, not from the first one wanted, so that every task finds the same positions.
  general_vd c;
  for (int k = 0; k < GENERAL_WIDE; k++) c[k] = column + k;
  for (int i = 0; i < count; i += GENERAL_WIDE, c += GENERAL_WIDE) {
    general_vd slope_a, slope_b, p_a, p_b;
    if (cone) {
      general_vd inverse = 1 / (at[m] + c * u[m]);
      slope_a = (at[a] + c * u[a]) * inverse;
      slope_b = (at[b] + c * u[b]) * inverse;
      p_a = o[a] + height * slope_a;
      p_b = o[b] + height * slope_b;
    } else {
      slope_a = (general_vd){0} + ratio_a;
      slope_b = (general_vd){0} + ratio_b;
      p_a = start_a + c * pitch_a;
      p_b = start_b + c * pitch_b;
    }
    general_track on_a = general_follow(p_a, slope_a, box->planes, -1, box->columns - 2);
    general_track on_b = general_follow(p_b, slope_b, box->planes, box->row, box->row + box->rows - 1);
    general_hi touches = on_a.touches & on_b.touches, inside = touches & on_a.inside & on_b.inside & whole;
    general_hi kind = -touches - inside;
    general_hu index = (general_hu)(on_b.cell - box->row) * (uint32_t)box->stride + (general_hu)(on_a.cell + 1);
    general_hu step = (general_hu)on_b.step * (uint32_t)box->stride + (general_hu)on_a.step + (uint32_t)box->pitch;
    memcpy(rays->kind + i, &kind, sizeof kind);
    memcpy(rays->index + i, &index, sizeof index);
    memcpy(rays->step + i, &step, sizeof step);
    memcpy(rays->column + i, &on_a.cell, sizeof on_a.cell);
    memcpy(rays->row + i, &on_b.cell, sizeof on_b.cell);
    memcpy(rays->column_step + i, &on_a.step, sizeof on_a.step);
    memcpy(rays->row_step + i, &on_b.step, sizeof on_b.step);
    memcpy(rays->a + i, &on_a.offset, sizeof on_a.offset);
    memcpy(rays->b + i, &on_b.offset, sizeof on_b.offset);
    memcpy(rays->slope_a + i, &on_a.slope, sizeof on_a.slope);
    memcpy(rays->slope_b + i, &on_b.slope, sizeof on_b.slope);
    general_hf world_a = __builtin_convertvector(slope_a, general_hf) * v_a, world_b = __builtin_convertvector(slope_b, general_hf) * v_b;
    general_hf square = v_m * v_m + world_a * world_a + world_b * world_b;
    memcpy(squared + i, &square, sizeof square);
  }
  for (int i = 0; i < count; i++) rays->scale[i] = sqrtf(squared[i]) * share;
}
