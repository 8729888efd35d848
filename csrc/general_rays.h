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
#define GENERAL_RAYS 64   // most rays that are set up at once
#define GENERAL_FAR 6e7   // voxels, or voxels a plane: a ray which is further away or flatter than this is left out
#define GENERAL_TURN 6.283185307179586

// Cell j lies between voxels j and j + 1, so the cells -1 ... n - 1 touch the voxels 0 ... n - 1. A box is a block of planes with all
// cells of the `cross` axis and a band of cells of the third axis, stored as [row][plane][cross], one entry a cell. An entry is two
// numbers: that of the cell's first voxel and that of the voxel behind it in the next row, so that the four neighbours of a sample are
// two entries side by side. Around the cells there is room that belongs to no voxel, for rays that leave the box sideways: `margin` rows
// below and above, and the end of a plane's entries, which is also the beginning of the next plane's.
typedef struct {
  int32_t plane, planes; // first plane, number of planes
  int32_t columns;       // cells -1 ... columns - 2 of the cross axis
  int32_t row, rows;     // cells row ... row + rows - 1 of the third axis
  int32_t margin;        // rows
  int32_t pitch, stride; // entries from plane to plane, from row to row
  int32_t origin;        // entry of the first cell
} general_box;

// The bits of 1.5 * 2^23, next to which float32 numbers have no room for fractions: a whole number added to it is added to its bits.
// That is how samples get their cells, so a ray's cells are kept less these bits, in arithmetic modulo 2^32.
#define GENERAL_BITS 0x4B400000u
#define GENERAL_WHOLE 4194304 // the whole numbers for which that holds are below this in size

// What a ray has in a box: no sample; perhaps some, and it may only graze the volume, with nothing but small weights, or is far away or
// flat, so that samples are computed in float64; all samples in the box or the room around it; perhaps some, but it does not graze.
// Whether a ray grazes does not depend on the band, so that bands agree on where its samples are.
enum { GENERAL_MISSES = -2, GENERAL_GRAZES = -1, GENERAL_INSIDE = 0, GENERAL_CUTS = 1 };

typedef struct {
  int32_t kind[GENERAL_RAYS] __attribute__((aligned(64)));  // and so all the others
  uint32_t index[GENERAL_RAYS], way[GENERAL_RAYS];          // of the cell on the middle plane, see GENERAL_BITS; see general_ways
  uint32_t column[GENERAL_RAYS], column_step[GENERAL_RAYS]; // the same for the column in the box; from plane to plane
  uint32_t row[GENERAL_RAYS], row_step[GENERAL_RAYS];       // and the row
  float a[GENERAL_RAYS], b[GENERAL_RAYS];                   // offsets from the cell's middle there (a: cross axis, b: third axis)
  float slope_a[GENERAL_RAYS], slope_b[GENERAL_RAYS];       // the rest of the steps, -1/2 ... 1/2
  double exact_a[GENERAL_RAYS], exact_b[GENERAL_RAYS];      // positions on the middle plane
  double exact_slope_a[GENERAL_RAYS], exact_slope_b[GENERAL_RAYS];
  float scale[GENERAL_RAYS]; // length between two planes, divided by the rays of a pixel
} general_rays;

// Rays inside step at most so many whole cells from plane to plane. For each pair of steps, how many entries it is from the middle plane
// to the others.
#define GENERAL_STEPS 2
#define GENERAL_WAYS (2 * GENERAL_STEPS + 1)
typedef struct {
  uint32_t entries[GENERAL_WAYS * GENERAL_WAYS][GENERAL_PLANES] __attribute__((aligned(64)));
  float stride; // of the box
} general_ways;

static inline void general_pave(const general_box *box, general_ways *ways) {
  ways->stride = (float)box->stride;
  for (int way = 0; way < GENERAL_WAYS * GENERAL_WAYS; way++)
    for (int k = 0; k < GENERAL_PLANES; k++) {
      int rows = way / GENERAL_WAYS - GENERAL_STEPS, columns = way % GENERAL_WAYS - GENERAL_STEPS;
      ways->entries[way][k] = (uint32_t)((k - GENERAL_MIDDLE) * (rows * box->stride + columns + box->pitch));
    }
}

typedef uint32_t general_indexes __attribute__((vector_size(RS_LANES * 4)));

static inline int general_third(const rs_view *view) { return RS_Z + RS_Y + RS_X - view->main - view->cross; }

#if RS_LANES == 16
#define GENERAL_LANES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif RS_LANES == 8
#define GENERAL_LANES 0, 1, 2, 3, 4, 5, 6, 7
#else
#define GENERAL_LANES 0, 1, 2, 3
#endif

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

// x rounded down, and what is left, less 1/2: next to 1.5 * 2^20 doubles have room for 2^-32, so that their upper halves hold whole numbers
// and their lower halves fractions. Returns some of the bits GENERAL_LARGE where x is 2^19 or more in size, or not finite.
#define GENERAL_LARGE 0xFFF00000u
static inline rs_vi general_split(general_vd low, general_vd high, rs_vi *whole, rs_vf *rest) {
  rs_vi even;
  for (int k = 0; k < RS_LANES; k++) even[k] = 2 * k;
  low += 0x1.8p20, high += 0x1.8p20;
  rs_vi upper = (rs_vi)rs_pick((rs_vf)low, (rs_vf)high, even + 1), lower = (rs_vi)rs_pick((rs_vf)low, (rs_vf)high, even);
  *whole = upper - 0x41380000;
  *rest = __builtin_convertvector(lower ^ INT32_MIN, rs_vf) * 0x1p-32f;
  return upper ^ 0x41300000;
}

static inline rs_vf general_narrow(general_vd low, general_vd high) {
  return __builtin_shufflevector(__builtin_convertvector(low, general_hf), __builtin_convertvector(high, general_hf), GENERAL_LANES);
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

// As many rays as a vector has lanes, along one of the two axes of a box.
typedef struct {
  rs_vi cell, step;    // on the middle plane, from plane to plane
  rs_vf offset, slope; // the fractions
  rs_vf world;         // the whole slope
  rs_vi large;         // some of the bits GENERAL_LARGE: too large for the above and what follows
  rs_vi misses, cuts;  // below 0: no sample in the box, some neither there nor in the room around it
  rs_vi first, last;   // below 0: the first, the last sample is at the volume's edge or outside
} general_track;

// Cells low ... high are those of the box, low - below ... high + above those with the room around it, -1 ... most those of the volume.
static inline general_track general_follow(const general_vd *middle, const general_vd *slope, int32_t planes, int32_t low, int32_t high,
                                           int32_t below, int32_t above, int32_t most) {
  general_track track;
  track.world = general_narrow(slope[0], slope[1]);
  track.large = general_split(middle[0], middle[1], &track.cell, &track.offset);
  track.large |= general_split(slope[0] + 0.5, slope[1] + 0.5, &track.step, &track.slope);
  // In cells, whose middles are whole numbers; what is compared with limits may be wrong by half a cell and goes the safe way.
  rs_vf at = __builtin_convertvector(track.cell, rs_vf) + track.offset;
  rs_vf first = at - GENERAL_MIDDLE * track.world, last = at + (float)(planes - 1 - GENERAL_MIDDLE) * track.world;
  rs_vf first_low = first - (float)low, last_low = last - (float)low, first_high = (float)high - first, last_high = (float)high - last;
  track.misses = ((rs_vi)(first_low + 1) & (rs_vi)(last_low + 1)) | ((rs_vi)(first_high + 1) & (rs_vi)(last_high + 1));
  track.cuts = (rs_vi)(first_low + (float)below) | (rs_vi)(last_low + (float)below) | (rs_vi)(first_high + (float)above) |
               (rs_vi)(last_high + (float)above);
  track.first = (rs_vi)(first + 0.5f) | (rs_vi)((float)most - 0.5f - first);
  track.last = (rs_vi)(last + 0.5f) | (rs_vi)((float)most - 0.5f - last);
  return track;
}

// The rays of `count` fine columns of a fine row.
static inline void general_aim(const rs_geometry *geometry, const rs_view *view, const general_box *box, int32_t row, int32_t column,
                               int count, general_rays *rays) {
  const int m = view->main, a = view->cross, b = general_third(view), cone = geometry->beam == RS_CONE;
  const double *o = view->origin, *u = view->u, *axis = view->axis;
  double at[3]; // of the ray through column 0: a point of the detector, or its way from the source
  for (int k = 0; k < 3; k++) at[k] = view->corner[k] + row * view->v[k] - (cone ? o[k] : 0);
  const double middle = (double)box->plane + GENERAL_MIDDLE, ratio_a = cone ? 0 : o[a] / o[m], ratio_b = cone ? 0 : o[b] / o[m];
  const double start_a = at[a] + (middle - at[m]) * ratio_a, start_b = at[b] + (middle - at[m]) * ratio_b;
  const double pitch_a = u[a] - u[m] * ratio_a, pitch_b = u[b] - u[m] * ratio_b;
  const int32_t whole = box->planes == GENERAL_PLANES && box->stride < GENERAL_WHOLE / 8 ? 0 : -1;
  const int32_t spare = box->pitch - box->columns;
  const float v_m = (float)geometry->voxel[m], v_a = (float)geometry->voxel[a], v_b = (float)geometry->voxel[b];
  const float share = 1.0f / (float)(geometry->sub_rows * geometry->supersampling);
  float squared[GENERAL_RAYS];
  // Columns count from 0, not from the first one wanted, so that every task finds the same positions.
  static const double count_up[] = {0, 1, 2, 3, 4, 5, 6, 7};
  general_vd c;
  memcpy(&c, count_up, sizeof c);
  c += column;
  for (int i = 0; i < count; i += RS_LANES) {
    general_vd slope_a[2], slope_b[2], p_a[2], p_b[2];
    for (int k = 0; k < 2; k++, c += GENERAL_WIDE)
      if (cone) {
        general_vd along = c, rise = {0};
        if (view->turn != 0) general_bend(view, geometry->fine_columns, c, &along, &rise);
        general_vd inverse = 1 / (at[m] + along * u[m] + rise * axis[m]);
        slope_a[k] = (at[a] + along * u[a] + rise * axis[a]) * inverse;
        slope_b[k] = (at[b] + along * u[b] + rise * axis[b]) * inverse;
        p_a[k] = o[a] + (middle - o[m]) * slope_a[k];
        p_b[k] = o[b] + (middle - o[m]) * slope_b[k];
      } else {
        slope_a[k] = (general_vd){0} + ratio_a;
        slope_b[k] = (general_vd){0} + ratio_b;
        p_a[k] = start_a + c * pitch_a;
        p_b[k] = start_b + c * pitch_b;
      }
    general_track on_a = general_follow(p_a, slope_a, box->planes, -1, box->columns - 2, spare, spare, box->columns - 2);
    general_track on_b =
        general_follow(p_b, slope_b, box->planes, box->row, box->row + box->rows - 1, box->margin, box->margin, geometry->shape[b] - 1);
    rs_vi steps = (on_a.step + GENERAL_STEPS) | (on_b.step + GENERAL_STEPS) | (GENERAL_STEPS - on_a.step) | (GENERAL_STEPS - on_b.step);
    rs_vi large = ((on_a.large | on_b.large) & (int32_t)GENERAL_LARGE) != 0;
    rs_vi missed = (on_a.misses | on_b.misses) >> 31, cut = (on_a.cuts | on_b.cuts | steps | whole) >> 31;
    rs_vi grazes = ((on_a.first | on_b.first) & (on_a.last | on_b.last)) >> 31;
    rs_vi kind = large | (missed & GENERAL_MISSES) | (~missed & (grazes | (cut & GENERAL_CUTS)));
    general_indexes row_in = (general_indexes)(on_b.cell - box->row) - GENERAL_BITS;
    general_indexes column_in = (general_indexes)(on_a.cell + 1) - GENERAL_BITS;
    general_indexes index =
        (row_in + GENERAL_BITS) * (uint32_t)box->stride + column_in + (uint32_t)(box->origin + GENERAL_MIDDLE * box->pitch);
    rs_vi way = (on_b.step + GENERAL_STEPS) * GENERAL_WAYS + on_a.step + GENERAL_STEPS;
    memcpy(rays->kind + i, &kind, sizeof kind);
    memcpy(rays->index + i, &index, sizeof index);
    memcpy(rays->way + i, &way, sizeof way);
    memcpy(rays->column + i, &column_in, sizeof column_in);
    memcpy(rays->column_step + i, &on_a.step, sizeof on_a.step);
    memcpy(rays->row + i, &row_in, sizeof row_in);
    memcpy(rays->row_step + i, &on_b.step, sizeof on_b.step);
    rs_store(rays->a + i, on_a.offset);
    rs_store(rays->b + i, on_b.offset);
    rs_store(rays->slope_a + i, on_a.slope);
    rs_store(rays->slope_b + i, on_b.slope);
    rs_vf world_a = on_a.world * v_a, world_b = on_b.world * v_b;
    rs_store(squared + i, v_m * v_m + world_a * world_a + world_b * world_b);
    memcpy(rays->exact_a + i, p_a, sizeof p_a);
    memcpy(rays->exact_b + i, p_b, sizeof p_b);
    memcpy(rays->exact_slope_a + i, slope_a, sizeof slope_a);
    memcpy(rays->exact_slope_b + i, slope_b, sizeof slope_b);
  }
  for (int i = 0; i < (count + RS_LANES - 1) / RS_LANES * RS_LANES; i++) rays->scale[i] = sqrtf(squared[i]) * share;
}

// Whether a ray is near and steep enough to be followed in float64.
static inline int general_near(const general_rays *rays, int i) {
  const double a = rays->exact_a[i], b = rays->exact_b[i], slope_a = rays->exact_slope_a[i], slope_b = rays->exact_slope_b[i];
  return a * a + b * b + slope_a * slope_a + slope_b * slope_b < GENERAL_FAR * GENERAL_FAR;
}
