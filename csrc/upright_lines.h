// upright_lines.h: the rays of the `rs_upright` family, and what it knows about a geometry before any data is seen.
//
// A view is handled as several "virtual views" with one ray a pixel: one for each sub-row and sub-column of a supersampled pixel, times
// one for each comb of every `combs`-th row where rows are dense.
#pragma once
#include "plan.h"
#include "simd.h"
#include "status.h"

#include <math.h>
#include <stdlib.h>

#define UPRIGHT_INLINE static inline __attribute__((always_inline))

// The rays of neighbouring rows meet a voxel column this far apart at most, in voxels: RS_LANES of them, with a neighbour each, lie
// in 2 RS_LANES voxels.
#define UPRIGHT_PITCH 1.99
#define UPRIGHT_COMBS 8 // most combs

typedef struct {
  int32_t parts;                        // sub-rows times sub-columns
  int32_t combs, comb_rows;             // of a detector; rows of a comb
  int32_t group;                        // views of a forward task
  int64_t column_floats, row_floats;    // forward: a voxel column with its zeros, and a row of them along x
  int64_t pixel_floats;                 // back: a column of a comb with its zeros
  int64_t volume_floats, packed_floats; // parts of the workspace
  int8_t *turned;                       // [views]: rows are counted from the last one, so that z rises with them
} upright_tables;

// A virtual view.
typedef struct {
  int32_t view, part, comb;
} upright_name;

static inline int64_t upright_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t upright_parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

// The rays of one detector column. On plane s of the main axis all of them are at cross + cross_step s on the cross axis, and row j is
// at z + z_step s + (pitch + pitch_step s) j.
typedef struct {
  double cross, cross_step, z, z_step, pitch, pitch_step;
} upright_line;

// Where column 0 and row 0 of a virtual view are among the fine ones, and the steps.
typedef struct {
  const rs_view *view;
  double column, column_step, row, row_step;
} upright_detector;

// The public row of row j of a comb, or -1 behind the last one.
static inline int64_t upright_row(const rs_geometry *geometry, const upright_tables *tables, const upright_name *name, int64_t j) {
  int64_t row = name->comb + tables->combs * j;
  if (row >= geometry->rows) return -1;
  return tables->turned[name->view] ? geometry->rows - 1 - row : row;
}

static upright_detector upright_detector_of(const rs_geometry *geometry, const upright_tables *tables, const upright_name *name) {
  int32_t supersampling = geometry->supersampling;
  upright_detector detector = {.view = &geometry->view[name->view], .column = name->part % supersampling, .column_step = supersampling};
  detector.row = name->part / supersampling + supersampling * (double)name->comb;
  detector.row_step = supersampling * (double)tables->combs;
  if (tables->turned[name->view]) {
    detector.row = geometry->fine_rows - 1 - detector.row;
    detector.row_step = -detector.row_step;
  }
  return detector;
}

static upright_line upright_line_of(const rs_geometry *geometry, const upright_detector *detector, int32_t column) {
  const rs_view *view = detector->view;
  const int m = view->main, c = view->cross;
  double i = detector->column + detector->column_step * column, along, rise, pixel[3];
  rs_bend(view, geometry->fine_columns, i, &along, &rise);
  for (int k = 0; k < 3; k++) pixel[k] = view->corner[k] + along * view->u[k] + rise * view->axis[k] + detector->row * view->v[k];
  double up = detector->row_step * view->v[RS_Z];
  upright_line line;
  if (geometry->beam == RS_CONE) {
    double depth = pixel[m] - view->origin[m], across = pixel[c] - view->origin[c], rise = pixel[RS_Z] - view->origin[RS_Z];
    // A ray inside a plane of the main axis, or nearly so, has no samples.
    if (!(fabs(depth) > 1e-12 * (fabs(across) + fabs(rise)))) return (upright_line){.cross = 1e12, .pitch = 1};
    double inverse = 1 / depth;
    line.cross_step = across * inverse;
    line.z_step = rise * inverse;
    line.pitch_step = up * inverse;
    line.cross = view->origin[c] - line.cross_step * view->origin[m];
    line.z = view->origin[RS_Z] - line.z_step * view->origin[m];
    line.pitch = -line.pitch_step * view->origin[m];
  } else {
    double inverse = 1 / view->origin[m];
    line.cross_step = view->origin[c] * inverse;
    line.z_step = view->origin[RS_Z] * inverse;
    line.pitch_step = 0;
    line.cross = pixel[c] - line.cross_step * pixel[m];
    line.z = pixel[RS_Z] - line.z_step * pixel[m];
    line.pitch = up;
  }
  return line;
}

// The fine column of a curved detector which is behind a point of the plane, seen from the source, and how far the point is from the
// source towards the detector; 0 for a point whose ray misses the cylinder.
static inline double upright_curved_column(const rs_geometry *geometry, const rs_view *view, double main, double cross, double *depth) {
  const double middle = 0.5 * (geometry->fine_columns - 1);
  double p[2] = {0}, s[2] = {0}, width = 0, radius = 0;
  for (int n = 0; n < 2; n++) {
    const int k = n ? view->cross : view->main;
    const double square = geometry->voxel[k] * geometry->voxel[k], u = square * view->u[k], axis = square * view->axis[k];
    const double way = (n ? cross : main) - view->origin[k],
                 start = view->origin[k] - view->corner[k] - middle * view->u[k] - view->axis[k];
    p[0] += way * u, p[1] += way * axis, s[0] += start * u, s[1] += start * axis;
    width += view->u[k] * u, radius += view->axis[k] * axis;
  }
  const double scale = 1 / sqrt(width * radius);
  p[0] *= scale, s[0] *= scale, p[1] /= radius, s[1] /= radius;
  double way;
  const double angle = rs_bend_angle(p, s, &way);
  *depth = isnan(angle) ? 0 : -p[1];
  return middle + angle / view->turn;
}

// World lengths of ray between two planes, for the rows from j on. The same number as rs_ray_length.
UPRIGHT_INLINE rs_vf upright_lengths(const rs_geometry *geometry, const rs_view *view, const upright_line *line, int32_t j, float scale) {
  double main = geometry->voxel[view->main], across = line->cross_step * geometry->voxel[view->cross], high = geometry->voxel[RS_Z];
  float flat = (float)(main * main + across * across), first = (float)((line->z_step + line->pitch_step * j) * high);
  float step = (float)(line->pitch_step * high), length[RS_LANES];
  for (int k = 0; k < RS_LANES; k++) {
    float rise = first + step * (float)k;
    length[k] = scale * sqrtf(flat + rise * rise);
  }
  return rs_load(length);
}

// x inside [low, high] as an integer; NaN becomes low.
static inline int32_t upright_integer(double x, int32_t low, int32_t high) { return x > low ? x < high ? (int32_t)x : high : low; }

// Narrows the planes [*first, *last) to those where position + step s is inside (low, high), give or take one.
static inline void upright_clip(double position, double step, double low, double high, int32_t *first, int32_t *last) {
  double a = position + step * *first, b = position + step * (*last - 1);
  if (a > low && a < high && b > low && b < high) return;
  if (!(fmax(a, b) > low && fmin(a, b) < high)) {
    *last = *first;
    return;
  }
  double enter = (low - position) / step, leave = (high - position) / step;
  int32_t begin = *first, end = *last;
  *first = upright_integer(fmin(enter, leave), begin, end);
  *last = upright_integer(fmax(enter, leave) + 2, begin, end);
}

// ---- which geometries

// The reach of the pitch of fine rows over the volume and a border of one voxel. The share t of the way from source to detector is
// affine in the plane, so that its extremes are at the corners. The outermost columns of a curved detector are the nearest to the source.
static void upright_pitch_range(const rs_geometry *geometry, const rs_view *view, double *low, double *high) {
  *low = *high = view->v[RS_Z];
  if (geometry->beam == RS_PARALLEL) return;
  const int m = view->main, c = view->cross;
  double area = (view->corner[m] - view->origin[m]) * view->u[c] - (view->corner[c] - view->origin[c]) * view->u[m];
  double along, rise;
  rs_bend(view, geometry->fine_columns, 0, &along, &rise);
  double nearest = 1 + rise * (view->axis[m] * view->u[c] - view->axis[c] * view->u[m]) / area;
  *low = INFINITY;
  *high = -INFINITY;
  for (int k = 0; k < 8; k++) {
    double main = k & 1 ? geometry->shape[m] - 1 : 0, cross = k & 2 ? geometry->shape[c] : -1, way = k & 4 ? nearest : 1;
    double t = way > 0 ? ((main - view->origin[m]) * view->u[c] - (cross - view->origin[c]) * view->u[m]) / area / way : INFINITY;
    *low = fmin(*low, t * view->v[RS_Z]);
    *high = fmax(*high, t * view->v[RS_Z]);
  }
}

static double upright_largest_pitch(const rs_geometry *geometry) {
  double largest = 0;
  for (int32_t i = 0; i < geometry->views; i++) {
    double low, high;
    upright_pitch_range(geometry, &geometry->view[i], &low, &high);
    largest = fmax(largest, fmax(-low, high));
  }
  return largest * geometry->supersampling;
}

static int upright_accepts(const rs_geometry *geometry) {
  // Lanes are rows (forward) and slices (back): with few of them most lanes would idle.
  if (geometry->rows < 8 || geometry->shape[RS_Z] < 8) return 0;
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *view = &geometry->view[i];
    if (view->main == RS_Z || hypot(view->v[RS_Y], view->v[RS_X]) > 1e-12 * fabs(view->v[RS_Z])) return 0;
  }
  return upright_largest_pitch(geometry) <= UPRIGHT_PITCH;
}
