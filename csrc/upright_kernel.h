// upright_kernel.h: the inner loops of the `rs_upright` family.
#pragma once
#include "upright_lines.h"

#define UPRIGHT_RUN 16    // planes that are worked off together
#define UPRIGHT_VECTORS 4 // vectors of rows or slices that are worked off together
#define UPRIGHT_SPAN (UPRIGHT_VECTORS * RS_LANES)
#define UPRIGHT_ZEROS (2 * RS_LANES + 2) // before and behind every packed column: what a vector may read outside

// Where one line meets UPRIGHT_RUN planes. Vector v reads 2 RS_LANES neighbours from `base` on, and lane k of it looks at place
// start + step k among them.
typedef struct {
  int32_t cell[UPRIGHT_RUN];                 // the nearer voxel across; the other one is the next
  float near[UPRIGHT_RUN], far[UPRIGHT_RUN]; // weights of both
  float step[UPRIGHT_RUN], pitch[UPRIGHT_RUN];
  int32_t base[UPRIGHT_VECTORS][UPRIGHT_RUN];
  float start[UPRIGHT_VECTORS][UPRIGHT_RUN];
} upright_samples;

// Tables of a run are made by loops over its planes, which the compiler turns into vectors: out of line it does so reliably.
#define UPRIGHT_TABLE static __attribute__((noinline))

UPRIGHT_INLINE rs_vi upright_whole(rs_vf x) { return __builtin_convertvector(x, rs_vi); } // of x >= 0
UPRIGHT_INLINE rs_vf upright_part(rs_vf x, rs_vi whole) { return x - __builtin_convertvector(whole, rs_vf); }
UPRIGHT_INLINE rs_vf upright_size(rs_vf x) { return (rs_vf)((rs_vi)x & 0x7fffffff); }
UPRIGHT_INLINE rs_vf upright_count(void) {
  rs_vf count;
  for (int k = 0; k < RS_LANES; k++) count[k] = (float)k;
  return count;
}

// Neighbours across: cell and weights for the planes from `plane` on, inside [low, high).
UPRIGHT_TABLE void upright_cross(const upright_line *line, int32_t plane, int32_t low, int32_t high, upright_samples *samples) {
  for (int n = 0; n < UPRIGHT_RUN; n++) {
    double p = line->cross + line->cross_step * (plane + n) - low;
    p = p > 0 ? p : 0; // rounding to zero is rounding down
    p = p < high - low ? p : high - low;
    int32_t cell = (int32_t)p;
    cell = cell < high - 1 - low ? cell : high - 1 - low;
    samples->cell[n] = cell + low;
    samples->far[n] = (float)(p - cell);
    samples->near[n] = (float)(1 - (p - cell));
  }
}

UPRIGHT_INLINE void upright_limit(double *x, double most) {
  for (int n = 0; n < UPRIGHT_RUN; n++) x[n] = x[n] > -most ? x[n] : -most;
  for (int n = 0; n < UPRIGHT_RUN; n++) x[n] = x[n] < most ? x[n] : most;
}

// Fills base and start from the place of the first lane of vector 0 and the distance to the next vector, on every plane. Vectors
// outside (low, high) are moved to its ends, where they read zeros. Returns a bit for every vector with something inside on any plane.
UPRIGHT_INLINE int upright_places(double *first, double *next, int32_t low, int32_t high, upright_samples *samples) {
  const double far = 1 << 24, most = 4 * RS_LANES; // added so that rounding to zero is rounding down
  upright_limit(first, far);
  upright_limit(next, most);
  int32_t base[UPRIGHT_RUN], whole[UPRIGHT_RUN], inside[UPRIGHT_RUN] = {0};
  float part[UPRIGHT_RUN], rest[UPRIGHT_RUN];
  for (int n = 0; n < UPRIGHT_RUN; n++) {
    int32_t i = (int32_t)(first[n] + far), j = (int32_t)(next[n] + most);
    base[n] = i - (int32_t)far;
    part[n] = (float)(first[n] - base[n]);
    whole[n] = j - (int32_t)most;
    rest[n] = (float)(next[n] - whole[n]);
  }
  for (int v = 0; v < UPRIGHT_VECTORS; v++)
    for (int n = 0; n < UPRIGHT_RUN; n++) {
      float p = part[n] + (float)v * rest[n];
      int32_t i = (int32_t)p, b = base[n] + v * whole[n] + i;
      inside[n] |= ((b > low) & (b < high)) << v;
      b = b > low ? b : low;
      samples->base[v][n] = b < high ? b : high;
      samples->start[v][n] = p - (float)i;
    }
  int any = 0;
  for (int n = 0; n < UPRIGHT_RUN; n++) any |= inside[n];
  return any;
}

// A bit for every vector with something in the first `count` lanes.
static inline int upright_mask(int32_t count) { return (1 << (int)upright_parts(count, RS_LANES)) - 1; }

// ---- forward: lanes are rows

// Below this pitch RS_LANES rows and their neighbours lie in RS_LANES voxels.
#define UPRIGHT_DENSE ((RS_LANES - 2.01) / (RS_LANES - 1))

// Rows from j on: their places along z.
UPRIGHT_TABLE int upright_forward_places(const upright_line *line, int32_t plane, int32_t j, int32_t slices, upright_samples *samples) {
  double first[UPRIGHT_RUN], next[UPRIGHT_RUN], turn[UPRIGHT_RUN];
  for (int n = 0; n < UPRIGHT_RUN; n++) {
    double pitch = line->pitch + line->pitch_step * (plane + n), back = pitch * (RS_LANES - 1);
    turn[n] = back < 0 ? back : 0; // where z falls with the rows the last lane is the lowest
    first[n] = line->z + line->z_step * (plane + n) + pitch * j + turn[n];
    next[n] = pitch * RS_LANES;
    samples->step[n] = (float)pitch;
  }
  int inside = upright_places(first, next, -UPRIGHT_ZEROS, slices, samples);
  for (int v = 0; v < UPRIGHT_VECTORS; v++)
    for (int n = 0; n < UPRIGHT_RUN; n++) samples->start[v][n] -= (float)turn[n];
  return inside;
}

// Adds to sums the samples of vector first + k over planes [from, to); `volume` is cell 0 of plane 0 of the run. Dense rows reach no
// further than the first RS_LANES slices.
UPRIGHT_INLINE void upright_gather(const int vectors, const int dense, int first, const upright_samples *samples, int from, int to,
                                   const float *volume, int64_t plane_step, int64_t cross_step, int64_t ahead, float *sums) {
  rs_vf count = upright_count(), total[UPRIGHT_VECTORS];
  for (int k = 0; k < vectors; k++) total[k] = (rs_vf){0};
  for (int n = from; n < to; n++) {
    const float *column = volume + n * plane_step + samples->cell[n] * cross_step;
    rs_vf near = rs_splat(samples->near[n]), far = rs_splat(samples->far[n]), ramp = rs_splat(samples->step[n]) * count;
    for (int k = 0; k < vectors; k++) {
      const float *a = column + samples->base[first + k][n], *b = a + cross_step;
      rs_vf low = near * rs_load(a) + far * rs_load(b), high = low;
      if (!dense) high = near * rs_load(a + RS_LANES) + far * rs_load(b + RS_LANES);
      __builtin_prefetch(a + ahead);
      rs_vf place = rs_splat(samples->start[first + k][n]) + ramp;
      rs_vi slice = upright_whole(place);
      rs_vf below = rs_pick(low, high, slice), above = rs_pick(low, high, slice + 1);
      total[k] += below + upright_part(place, slice) * (above - below);
    }
  }
  for (int k = 0; k < vectors; k++) rs_store(sums + k * RS_LANES, rs_load(sums + k * RS_LANES) + total[k]);
}

// ---- back: lanes are slices

// How many rows a slice may see at this pitch; three of them reach too far for short vectors. 0: more than any vector holds, or z does
// not rise.
static inline int upright_taps(float pitch) {
  if (pitch >= 0.9999999f) return 2;
  if (pitch >= 2 / 3.0f && RS_LANES > 4) return 3;
  return pitch >= 0.51f ? 4 : 0;
}

// What the lines of one virtual view share on UPRIGHT_RUN planes: the row at height z is a near + b far with numbers a and b of the line.
typedef struct {
  double near[UPRIGHT_RUN], far[UPRIGHT_RUN];
} upright_planes;

static upright_planes upright_planes_of(const rs_geometry *geometry, const rs_view *view, int32_t plane) {
  upright_planes planes;
  for (int n = 0; n < UPRIGHT_RUN; n++) {
    double depth = plane + n - view->origin[view->main];
    planes.near[n] = geometry->beam == RS_CONE ? 1 / (fabs(depth) > 1e-6 ? depth : 1e-6) : 1;
    planes.far[n] = geometry->beam == RS_CONE ? 1 : plane + n;
  }
  return planes;
}

// Slices from z on: the first row that each of them sees. Row j is nearer than one voxel to slice z where j > row at height z - 1. The
// places are those of the middle lane, and RS_LANES further than `base` says: float32 is finest around zero.
UPRIGHT_TABLE int upright_back_places(const rs_geometry *geometry, const rs_view *view, const upright_line *line,
                                      const upright_planes *planes, int32_t plane, int32_t z, int32_t rows, upright_samples *samples) {
  // Cone: z = source + (z_step + pitch_step j) depth. Parallel: z = line z + z_step s + pitch j.
  const int cone = geometry->beam == RS_CONE;
  double inverse = 1 / (cone ? line->pitch_step : line->pitch), a = (z - 1 - (cone ? view->origin[RS_Z] : line->z)) * inverse;
  double b = -line->z_step * inverse, first[UPRIGHT_RUN], next[UPRIGHT_RUN];
  for (int n = 0; n < UPRIGHT_RUN; n++) {
    samples->pitch[n] = (float)(line->pitch + line->pitch_step * (plane + n));
    samples->step[n] = (float)(inverse * planes->near[n]);
    next[n] = RS_LANES * inverse * planes->near[n];
    first[n] = a * planes->near[n] + b * planes->far[n] + 1 + next[n] / 2;
  }
  return upright_places(first, next, RS_LANES - UPRIGHT_ZEROS, rows + RS_LANES, samples);
}

// For every slice of vector v the rows of one column that it sees on plane n, weighted with 1 - |distance|.
UPRIGHT_INLINE rs_vf upright_rows(const int taps, int n, int v, const upright_samples *samples, const float *rows, rs_vf ramp) {
  const float *from = rows + samples->base[v][n] - RS_LANES;
  rs_vf pitch = rs_splat(samples->pitch[n]), place = rs_splat(samples->start[v][n]) + ramp;
  // Adding 1.5 * 2^23 rounds to the nearest integer, whose last bits are then those of the float: the place among low and high.
  const float shift = 12582912 + RS_LANES;
  rs_vf shifted = place + shift;
  rs_vi row = (rs_vi)shifted;
  rs_vf low = rs_load(from), high = rs_load(from + RS_LANES);
  // Half a row was taken off the place, so that the nearest integer is the one below it. Weight of the first row if it is above the slice:
  rs_vf first = 0.5f * pitch - pitch * (place - (shifted - shift));
  rs_vf here = rs_pick(low, high, row), next = rs_pick(low, high, row + 1);
  if (taps == 2) {
    rs_vf beyond = 1 - 0.5f * pitch - 0.5f * first; // half of a weight that may be negative: x + |x| is twice x, or zero
    return (1 - upright_size(1 - first)) * here + (beyond + upright_size(beyond)) * next;
  }
  rs_vf beyond = 1 - pitch - 0.5f * first, total = first * here + (1 - upright_size(1 - pitch - first)) * next;
  beyond += upright_size(beyond);
  if (taps == 3) return total + beyond * rs_pick(low, high, row + 2);
  // Four rows reach past 2 RS_LANES of them.
  rs_vf last = 1 - 1.5f * pitch - 0.5f * first;
  low = rs_load(from + 2);
  high = rs_load(from + 2 + RS_LANES);
  return total + beyond * rs_pick(low, high, row) + (last + upright_size(last)) * rs_pick(low, high, row + 1);
}

UPRIGHT_INLINE void upright_spread(const int taps, int n, int first, int last, const upright_samples *samples, const float *rows, float *a,
                                   float *b) {
  rs_vf near = rs_splat(samples->near[n]), far = rs_splat(samples->far[n]);
  rs_vf ramp = rs_splat(samples->step[n]) * (upright_count() - RS_LANES / 2) - 0.5f;
  for (int v = first; v < last; v++) {
    rs_vf sum = upright_rows(taps, n, v, samples, rows, ramp);
    rs_store(a + v * RS_LANES, rs_load(a + v * RS_LANES) + near * sum);
    rs_store(b + v * RS_LANES, rs_load(b + v * RS_LANES) + far * sum);
  }
}

// The same for any pitch, row by row. Sources inside or close to the volume only.
static inline void upright_spread_rows(const upright_line *line, int32_t plane, int32_t z, int32_t count, const float *rows, float near,
                                       float far, float *a, float *b) {
  double pitch = line->pitch + line->pitch_step * plane, start = line->z + line->z_step * plane - z;
  float sum[UPRIGHT_SPAN + 1] = {0};
  int32_t from = 0, to = count;
  upright_clip(start, pitch, -1, UPRIGHT_SPAN, &from, &to);
  for (int32_t j = from; j < to; j++) {
    double p = start + pitch * j + 1;
    if (!(p > 0 && p < UPRIGHT_SPAN + 1)) continue;
    int32_t i = (int32_t)p;
    float part = (float)(p - i);
    if (i > 0) sum[i - 1] += (1 - part) * rows[j];
    sum[i] += part * rows[j];
  }
  for (int k = 0; k < UPRIGHT_SPAN; k++) {
    a[k] += near * sum[k];
    b[k] += far * sum[k];
  }
}
