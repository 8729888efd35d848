// general_rays.h: where the rays of one detector row cross a block of planes, for the `rs_general` family.
//
// A position on the other two axes is whole cells, in integers, and a float32 offset from there that stays below 5 inside a block of
// planes: it counts from the block's middle plane and grows by what a slope has beside whole cells, at most 1/2 a plane. So weights
// are accurate to some 1e-7 whatever the size of the volume, and they are the same to the last bit in every task, forward and back.
#pragma once
#include "plan.h"
#include "raysum.h"
#include "simd.h"

#include <math.h>

#define GENERAL_PLANES 16 // most planes in a block
#define GENERAL_MIDDLE 8  // the plane of a block where offsets start
#define GENERAL_RAYS 128  // most rays that are set up at once
#define GENERAL_FAR 6e7   // voxels, or voxels a plane: a ray which is further away or flatter than this is left out
#define GENERAL_TURN 6.283185307179586

// Cell j lies between voxels j and j + 1, so the cells -1 ... n - 1 touch the voxels 0 ... n - 1. A box is a block of planes with all
// cells of the `cross` axis and a band of cells of the third axis, stored as [row][plane][cross], all of them from cell -1 or the
// band's first cell; the column behind the last cell's voxels belongs to no voxel either.
typedef struct {
  int32_t plane, planes; // first plane, number of planes
  int32_t columns;       // cells -1 ... columns - 2 of the cross axis
  int32_t row, rows;     // cells row ... row + rows - 1 of the third axis
  int32_t pitch, stride; // floats from plane to plane, from row to row
} general_box;

// The bits of 1.5 * 2^23, next to which float32 numbers have no room for fractions: a whole number added to it is added to its bits.
// That is how samples get their cells, so a ray's cells are kept less these bits, in arithmetic modulo 2^32.
#define GENERAL_BITS 0x4B400000u

// What a ray has in a box: no sample; perhaps some, and it may only graze the volume, with nothing but small weights, which are computed
// in float64; all samples; perhaps some, but it does not graze. Whether a ray grazes does not depend on the band, so that bands agree on
// where its samples are.
enum { GENERAL_MISSES = -2, GENERAL_GRAZES = -1, GENERAL_INSIDE = 0, GENERAL_CUTS = 1 };

typedef struct {
  int32_t kind[GENERAL_RAYS] __attribute__((aligned(64)));  // and so all the others
  uint32_t index[GENERAL_RAYS], step[GENERAL_RAYS];         // of the cell on the middle plane, see GENERAL_BITS; from plane to plane
  uint32_t column[GENERAL_RAYS], column_step[GENERAL_RAYS]; // the same for the column in the box
  uint32_t row[GENERAL_RAYS], row_step[GENERAL_RAYS];       // and the row
  float a[GENERAL_RAYS], b[GENERAL_RAYS];                   // offsets from the cell's middle there (a: cross axis, b: third axis)
  float slope_a[GENERAL_RAYS], slope_b[GENERAL_RAYS];       // the rest of the steps, -1/2 ... 1/2
  double exact_a[GENERAL_RAYS], exact_b[GENERAL_RAYS];      // positions on the middle plane, less 1/2
  double exact_slope_a[GENERAL_RAYS], exact_slope_b[GENERAL_RAYS];
  float scale[GENERAL_RAYS]; // length between two planes, divided by the rays of a pixel
} general_rays;

static inline int general_third(const rs_view *view) { return RS_Z + RS_Y + RS_X - view->main - view->cross; }

// float64 vectors of the same size, and the vectors of half as many float32 and int32 lanes as rs_vf.
#define GENERAL_WIDE (RS_LANES / 2)
typedef double general_vd __attribute__((vector_size(GENERAL_WIDE * 8)));
typedef int64_t general_vl __attribute__((vector_size(GENERAL_WIDE * 8)));
typedef float general_hf __attribute__((vector_size(GENERAL_WIDE * 4)));
typedef int32_t general_hi __attribute__((vector_size(GENERAL_WIDE * 4)));
typedef uint32_t general_hu __attribute__((vector_size(GENERAL_WIDE * 4)));

// The integer next to x, for x below 2^31 in size: what is left where doubles have no room for fractions.
static inline general_vd general_round(general_vd x, general_hi *whole) {
  const double room = 6755399441055744.0; // 1.5 * 2^52
  general_vd sum = x + room;
  *whole = __builtin_convertvector((general_vl)sum, general_hi); // the low bits
  return sum - room;
}

// rs_bend of a vector of columns: Taylor series, for angles below a quarter turn.
static inline void general_bend(const rs_view *view, int32_t columns, general_vd column, general_vd *along, general_vd *rise) {
  const double middle = 0.5 * (columns - 1);
  const general_vd from = column - middle, square = -(view->turn * view->turn) * from * from;
  general_vd sine = {0}, cosine = {0}; // less their first terms, divided by the square
#pragma GCC unroll 11
  for (int k = 22; k >= 2; k -= 2) {
    sine = (1 + square * sine) * (1.0 / (k * (k + 1)));
    cosine = (1 + square * cosine) * (1.0 / (k * (k - 1)));
  }
  *along = middle + from * (1 + square * sine);
  *rise = -square * cosine;
}

// The way along one of the two axes of a box.
typedef struct {
  general_hi cell, step;    // on the middle plane, from plane to plane
  general_hf offset, slope; // the fractions
  general_hi misses, cuts;  // below 0: no sample in the box, some outside
  general_hi first, last;   // below 0: the first, the last sample is at the volume's edge or outside
} general_track;

// low ... high: the cells of the box; -1 ... most: those of the volume. The middle of cell j is at j + 1/2.
static inline general_track general_follow(general_vd middle, general_vd slope, int32_t planes, int32_t low, int32_t high, int32_t most) {
  general_track track;
  general_hi first, last;
  middle -= 0.5;
  track.offset = __builtin_convertvector(middle - general_round(middle, &track.cell), general_hf);
  track.slope = __builtin_convertvector(slope - general_round(slope, &track.step), general_hf);
  general_round(middle - GENERAL_MIDDLE * slope, &first);
  general_round(middle + (planes - 1 - GENERAL_MIDDLE) * slope, &last);
  // Distances from the ends of the box. The cells in float32 may differ from these by one.
  general_hi first_low = first - low, last_low = last - low, first_high = high - first, last_high = high - last;
  track.misses = ((first_low + 1) & (last_low + 1)) | ((first_high + 1) & (last_high + 1));
  track.cuts = (first_low - 1) | (last_low - 1) | (first_high - 1) | (last_high - 1);
  track.first = first | (most - 1 - first);
  track.last = last | (most - 1 - last);
  return track;
}

// The rays of `count` fine columns of a fine row.
static inline void general_aim(const rs_geometry *geometry, const rs_view *view, const general_box *box, int32_t row, int32_t column,
                               int count, general_rays *rays) {
  const int m = view->main, a = view->cross, b = general_third(view), cone = geometry->beam == RS_CONE;
  const double *o = view->origin, *u = view->u, *axis = view->axis;
  double at[3]; // of the ray through column 0: a point of the detector, or its way from the source
  for (int k = 0; k < 3; k++) at[k] = view->corner[k] + row * view->v[k] - (cone ? o[k] : 0);
  const double middle = (double)box->plane + GENERAL_MIDDLE, ratio_a = o[a] / o[m], ratio_b = o[b] / o[m];
  const double start_a = at[a] + (middle - at[m]) * ratio_a, start_b = at[b] + (middle - at[m]) * ratio_b;
  const double pitch_a = u[a] - u[m] * ratio_a, pitch_b = u[b] - u[m] * ratio_b;
  const int32_t whole = box->planes == GENERAL_PLANES ? 0 : -1;
  const uint32_t stride = (uint32_t)box->stride, pitch = (uint32_t)box->pitch;
  const float v_m = (float)geometry->voxel[m], v_a = (float)geometry->voxel[a], v_b = (float)geometry->voxel[b];
  const float share = 1.0f / (float)(geometry->sub_rows * geometry->supersampling);
  float squared[GENERAL_RAYS];
  // Columns count from 0, not from the first one wanted, so that every task finds the same positions.
  general_vd c;
  for (int k = 0; k < GENERAL_WIDE; k++) c[k] = column + k;
  for (int i = 0; i < count; i += GENERAL_WIDE, c += GENERAL_WIDE) {
    general_vd slope_a, slope_b, p_a, p_b;
    if (cone) {
      general_vd along = c, rise = {0};
      if (view->turn != 0) general_bend(view, geometry->fine_columns, c, &along, &rise);
      general_vd inverse = 1 / (at[m] + along * u[m] + rise * axis[m]);
      slope_a = (at[a] + along * u[a] + rise * axis[a]) * inverse;
      slope_b = (at[b] + along * u[b] + rise * axis[b]) * inverse;
      p_a = o[a] + (middle - o[m]) * slope_a;
      p_b = o[b] + (middle - o[m]) * slope_b;
    } else {
      slope_a = (general_vd){0} + ratio_a;
      slope_b = (general_vd){0} + ratio_b;
      p_a = start_a + c * pitch_a;
      p_b = start_b + c * pitch_b;
    }
    general_track on_a = general_follow(p_a, slope_a, box->planes, -1, box->columns - 2, box->columns - 2);
    general_track on_b = general_follow(p_b, slope_b, box->planes, box->row, box->row + box->rows - 1, geometry->shape[b] - 1);
    general_vl seen = p_a * p_a + p_b * p_b + slope_a * slope_a + slope_b * slope_b < GENERAL_FAR * GENERAL_FAR;
    general_hi misses = on_a.misses | on_b.misses | ~__builtin_convertvector(seen, general_hi);
    general_hi missed = misses >> 31, cut = (misses | on_a.cuts | on_b.cuts | whole) >> 31;
    general_hi grazes = ((on_a.first | on_b.first) & (on_a.last | on_b.last)) >> 31;
    general_hi kind = missed + cut - 2 * (cut & ~grazes & ~missed);
    general_hu step = (general_hu)on_b.step * stride + (general_hu)on_a.step + pitch;
    general_hu row_in = (general_hu)(on_b.cell - box->row) - GENERAL_BITS, column_in = (general_hu)(on_a.cell + 1) - GENERAL_BITS;
    general_hu index = row_in * stride + column_in + GENERAL_MIDDLE * pitch;
    memcpy(rays->kind + i, &kind, sizeof kind);
    memcpy(rays->index + i, &index, sizeof index);
    memcpy(rays->step + i, &step, sizeof step);
    memcpy(rays->column + i, &column_in, sizeof column_in);
    memcpy(rays->column_step + i, &on_a.step, sizeof on_a.step);
    memcpy(rays->row + i, &row_in, sizeof row_in);
    memcpy(rays->row_step + i, &on_b.step, sizeof on_b.step);
    memcpy(rays->a + i, &on_a.offset, sizeof on_a.offset);
    memcpy(rays->b + i, &on_b.offset, sizeof on_b.offset);
    memcpy(rays->slope_a + i, &on_a.slope, sizeof on_a.slope);
    memcpy(rays->slope_b + i, &on_b.slope, sizeof on_b.slope);
    general_hf world_a = __builtin_convertvector(slope_a, general_hf) * v_a, world_b = __builtin_convertvector(slope_b, general_hf) * v_b;
    general_hf square = v_m * v_m + world_a * world_a + world_b * world_b;
    memcpy(squared + i, &square, sizeof square);
    p_a -= 0.5, p_b -= 0.5;
    memcpy(rays->exact_a + i, &p_a, sizeof p_a);
    memcpy(rays->exact_b + i, &p_b, sizeof p_b);
    memcpy(rays->exact_slope_a + i, &slope_a, sizeof slope_a);
    memcpy(rays->exact_slope_b + i, &slope_b, sizeof slope_b);
  }
  for (int i = 0; i < count; i++) rays->scale[i] = sqrtf(squared[i]) * share;
}
