// general_sight.h: which rays pass near a voxel, and how far from it, as a tile of voxels sees a view.
//
// The float64 work is done once a tile and view; voxels and pixels then count from one voxel and one pixel, in float32.
#pragma once
#include "bend.h"
#include "general_problem.h"

namespace {

constexpr int MARGIN = 8; // pixels of zeros around packed projections, and most pixels a side that a quick look covers

// A view as a tile of voxels sees it. Rows and columns count from a pixel near the tile's reference voxel, voxels (main, cross, third)
// from that voxel. Ray (r, c) is [(a + i way_a - j way_m) + r (...) + c (...)] / (way_m + r v_m + c u_m) voxels from voxel (i, j, k)
// along the cross axis, likewise along the third. Voxel (i, j, k) is seen at c = (c + i ... ) / (d + i ...) and at r likewise.
// A curved detector is described by its tangents in that pixel, and columns by where they are along u and the way to the axis.
struct sight {
  float way[3], v[3], u[3], axis[3];
  float a, a_row, a_column, a_axis, b, b_row, b_column, b_axis;
  float column[4], row[4], depth[4];
  float turn, across[4], above[4], source[2], middle; // curved: a voxel as rs_bend_angle wants it; the middle column
  int32_t first_row, first_column, main;
  // The source is (foot_row, foot_column) pixels along the tangents, and inverse^-1 radii towards the axis, from the pixel. What the
  // tangents show in column t is seen in column t + bend t^2, give or take `slack`, and 1 - (1 - cos(angle)) inverse times as many rows
  // from foot_row.
  float foot_row, foot_column, inverse, bend, slack;
  // Every footprint in the tile reaches this far from where its voxel is seen, so that this many pixels a side, or fewer, see the voxel.
  float reach_row, reach_column;
  int32_t near_rows, near_columns; // 0: not known
};

// The numerators and the denominator of where the point at `from` from the ray's own is seen.
__device__ void see(const ray_view &view, const double *u, const ray &r, const double *from, double &column, double &row, double &depth) {
  column = triple(from, view.v, r.way);
  row = -triple(from, u, r.way);
  depth = triple(view.cone ? from : r.way, u, view.v);
}

__device__ int32_t near_pixel(double at, double count) { return (int32_t)rint(fmin(fmax(at, 0.0), count - 1)); }

// How far apart two lines are along axis k, as a numerator: one with direction w, which moves the point or the direction (cone).
__device__ double moved(const ray_view &view, const double *from, const double *way, const double *move, int k) {
  return view.cone ? from[0] * move[k] - from[k] * move[0] : move[k] * way[0] - move[0] * way[k];
}

// rs_bend for columns within a radian, counted from the pixel: Taylor series of sin and 1 - cos.
__device__ inline void bend_near(const sight &s, float column, float &along, float &rise) {
  const float angle = s.turn * column, q = angle * angle;
  along = column - column * q * (1 / 6.0f - q * (1 / 120.0f - q * (1 / 5040.0f - q * (1 / 362880.0f))));
  rise = q * (0.5f - q * (1 / 24.0f - q * (1 / 720.0f - q * (1 / 40320.0f - q * (1 / 3628800.0f)))));
}

// Fills the last fields of a sight, for voxels whose coordinates are between -extent and extent.
__device__ void survey(sight &s, const float *extent) {
  float least = INFINITY, rows = 0, columns = 0, farthest = 0;
  s.near_rows = s.near_columns = 0;
  for (int corner = 0; corner < 8; corner++) {
    const float i = corner & 1 ? extent[0] : -extent[0], j = corner & 2 ? extent[1] : -extent[1], k = corner & 4 ? extent[2] : -extent[2];
    const float depth = s.depth[3] + i * s.depth[0] + j * s.depth[1] + k * s.depth[2];
    const float column = (s.column[3] + i * s.column[0] + j * s.column[1] + k * s.column[2]) / depth;
    const float row = (s.row[3] + i * s.row[0] + j * s.row[1] + k * s.row[2]) / depth;
    farthest = fmaxf(farthest, fabsf(column));
    columns = fmaxf(columns, fabsf(s.column[1] - column * s.depth[1]) + fabsf(s.column[2] - column * s.depth[2]));
    rows = fmaxf(rows, fabsf(s.row[1] - row * s.depth[1]) + fabsf(s.row[2] - row * s.depth[2]));
    const float nearest = fabsf(depth) - fabsf(s.depth[1]) - fabsf(s.depth[2]);
    if (!(depth * s.depth[3] > 0 && nearest > 1e-3f * fabsf(depth))) return; // the tile reaches to the plane of the source
    least = fminf(least, nearest);
  }
  s.reach_row = 1.0001f * rows / least + 1e-3f, s.reach_column = 1.0001f * columns / least + 1e-3f;
  float stretch = 1;
  s.slack = 0;
  if (s.turn != 0) {
    farthest += s.reach_column;
    s.bend = 0.5f * s.foot_column * s.turn * s.turn * s.inverse;
    // The columns `at` of the detector, where the tangents show them: what is left beside the square grows with the third power, so that
    // four samples find it, doubled.
    for (int k = -2; k <= 2; k++) {
      const float at = 0.625f * (float)k * farthest;
      float along, rise;
      bend_near(s, at, along, rise);
      const float shown = s.foot_column + (along - s.foot_column) / (1 - rise * s.inverse);
      s.slack = fmaxf(s.slack, 2 * fabsf(at - shown - s.bend * shown * shown));
      if (k * k == 4 && !(fabsf(shown) > farthest)) return;
    }
    stretch = 1 + 2 * fabsf(s.bend) * farthest;
    if (!(s.turn * farthest < 0.8f)) return;
  }
  const float wide = s.reach_column * stretch + s.slack;
  if (!(s.reach_row < 0.5f * MARGIN && wide < 0.5f * MARGIN)) return;
  s.near_rows = (int32_t)(2 * s.reach_row) + 1, s.near_columns = (int32_t)(2 * wide) + 1;
}

// `voxel`: in the middle of a tile that reaches deep, high and wide voxels to both sides.
__device__ __attribute__((noinline)) void look(const general_problem &p, const ray_view &view, const int32_t *voxel, float deep, float high,
                                               float wide, sight &out) {
  const int main = view.main, cross = main == RS_X ? RS_Y : RS_X, third = RS_Z + RS_Y + RS_X - main - cross;
  const double at[3] = {(double)voxel[main], (double)voxel[cross], (double)voxel[third]};
  double from[3], column, row, depth, u[3], axis[3], seen[2];
  ray r = aim(view, 0, 0);
  for (int k = 0; k < 3; k++) from[k] = at[k] - r.point[k];
  see(view, view.u, r, from, column, row, depth);
  out.first_row = near_pixel(row / depth, (double)p.rows * p.sub_rows);
  out.first_column = near_pixel(view.turn == 0 ? column / depth : bent_column(view, from), (double)p.columns * p.supersampling);
  out.main = main;
  r = aim(view, out.first_row, out.first_column);
  tangent(view, out.first_column, u, axis);
  for (int k = 0; k < 3; k++) from[k] = at[k] - r.point[k];
  see(view, u, r, from, column, row, depth);
  out.column[3] = (float)column, out.row[3] = (float)row, out.depth[3] = (float)depth;
  // Ways are in units of the ray's own along the main axis, where it has one: then what a voxel adds along its axis is exact.
  const double scale = 1 / fmax(fabs(r.way[0]), 1e-3 * (fabs(r.way[1]) + fabs(r.way[2])));
  for (int k = 0; k < 3; k++) {
    const double step[3] = {k == 0 ? 1.0 : 0.0, k == 1 ? 1.0 : 0.0, k == 2 ? 1.0 : 0.0};
    see(view, u, r, step, column, row, depth);
    out.column[k] = (float)column, out.row[k] = (float)row, out.depth[k] = view.cone ? (float)depth : 0;
    out.way[k] = (float)(r.way[k] * scale);
    out.v[k] = view.cone ? (float)(view.v[k] * scale) : 0;
    out.u[k] = view.cone ? (float)(u[k] * scale) : 0;
    out.axis[k] = (float)(axis[k] * scale);
    if (view.turn == 0) continue;
    unbend(view, step, seen);
    out.across[k] = (float)seen[0], out.above[k] = (float)seen[1];
  }
  out.a = (float)((from[0] * r.way[1] - from[1] * r.way[0]) * scale), out.b = (float)((from[0] * r.way[2] - from[2] * r.way[0]) * scale);
  out.a_row = (float)(moved(view, from, r.way, view.v, 1) * scale), out.b_row = (float)(moved(view, from, r.way, view.v, 2) * scale);
  out.a_column = (float)(moved(view, from, r.way, u, 1) * scale), out.b_column = (float)(moved(view, from, r.way, u, 2) * scale);
  out.a_axis = (float)(moved(view, from, r.way, axis, 1) * scale), out.b_axis = (float)(moved(view, from, r.way, axis, 2) * scale);
  out.turn = (float)view.turn;
  out.middle = (float)view.middle;
  if (view.turn != 0) {
    const double whole = triple(u, axis, view.v);
    out.foot_column = (float)(-triple(r.way, axis, view.v) / whole), out.foot_row = (float)(-triple(u, axis, r.way) / whole);
    out.inverse = (float)(-whole / triple(u, r.way, view.v));
    unbend(view, from, seen);
    out.across[3] = (float)seen[0], out.above[3] = (float)seen[1];
    source_of(view, seen);
    out.source[0] = (float)seen[0], out.source[1] = (float)seen[1];
  }
  const float extent[3] = {deep, high, wide}, turned[3] = {extent[main], extent[cross], extent[third]};
  survey(out, turned);
  if (p.rows * p.sub_rows == 1 && out.near_rows > 0) out.near_rows = 1; // the others would be margin
}

// Narrows low ... high, pixels counted from `first`, to those within `reach` of `centre`.
__device__ inline void bound(float centre, float reach, int32_t &low, int32_t &high) {
  low = max(__float2int_ru(centre - reach), low);
  high = min(__float2int_rd(centre + reach), high);
}

// The same for the columns of a curved detector in which the corners of a voxel's footprint are seen, give or take one.
__device__ void bound_curved(const sight &s, float i, float j, float k, int32_t &low, int32_t &high) {
  if (s.turn < 1e-6f) return; // float32 does not tell
  float least = INFINITY, most = -INFINITY;
  int below = 0, whole = 1;
  for (int corner = 0; corner < 4; corner++) {
    const float y = j + (corner & 1 ? 1 : -1), z = k + (corner & 2 ? 1 : -1);
    const float across = s.across[3] + i * s.across[0] + y * s.across[1] + z * s.across[2];
    const float above = s.above[3] + i * s.above[0] + y * s.above[1] + z * s.above[2];
    // rs_bend_angle
    const float square = across * across + above * above, middle = s.source[0] * across + s.source[1] * above;
    const float root = sqrtf(middle * middle - square * (s.source[0] * s.source[0] + s.source[1] * s.source[1] - 1));
    const float way = (-middle + (above < 0 ? root : -root)) / square;
    const float angle = atan2f(s.source[0] + way * across, -(s.source[1] + way * above));
    whole &= fabsf(angle) < 4; // no NaN
    below += above < 0;
    least = fminf(least, angle), most = fmaxf(most, angle);
  }
  if (!whole || below % 4 != 0) return; // the line misses the cylinder, or the footprint reaches beside the source
  const float centre = s.middle - (float)s.first_column;
  low = max(__float2int_rd(fmaxf(least / s.turn + centre, -1e9f)), low);
  high = min(__float2int_ru(fminf(most / s.turn + centre, 1e9f)), high);
}

// Narrows low ... high to the rows where start + row step is above 0, give or take one.
__device__ inline void above_zero(float start, float step, int32_t &low, int32_t &high) {
  const float edge = fminf(fmaxf(-start / step, -1e9f), 1e9f); // NaN: at the end that leaves all
  if (step > 0) low = max(__float2int_rd(edge), low);
  if (step < 0) high = min(__float2int_ru(edge), high);
}

} // namespace
