// geometry.h: a projection geometry in voxel-index coordinates.
//
// World coordinates become p_k = (world_k - position_k) / voxel_k + (n_k - 1) / 2 for k = z, y, x: voxel centres are integers and
// the volume is where every p_k lies in (-1, n_k). One main axis a view, the one along which the central ray is steepest per voxel
// (ties: x, then y, then z); a ray is sampled where it crosses the integer planes of that axis, with linear interpolation in the
// other two (Joseph 1982). A forward projection is the sum of samples times the length of ray between two planes.
//
// Columns and rows are those of the supersampled ("fine") detector: S sub-columns a column, S sub-rows a row, averaged at the end. In
// law RS_EXACT a detector of one row whose rays stay in the middle of the only slice has one sub-row: others would leave the slice.
#pragma once
#include "inline.h"

#include <math.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RS_Z = 0, RS_Y = 1, RS_X = 2 };

typedef struct {
  int main;                     // the main axis
  int cross;                    // the in-plane axis across it: RS_X for main RS_Y, RS_Y for main RS_X, and RS_X for main RS_Z
  double origin[3];             // ray direction (parallel) or source (cone)
  double corner[3], v[3], u[3]; // centre of fine pixel (0, 0), one fine row up, one fine column sideways
  // A curved detector touches the one of `corner`, v and u in its middle.
  double turn;    // angle from one fine column to the next, seen from the axis of the cylinder; 0: flat
  double axis[3]; // from the middle of the detector to that axis; 0: flat
} rs_view;

typedef struct {
  int32_t beam, law, precision;
  int32_t shape[3]; // voxels
  double voxel[3];  // voxel size in world units
  int32_t views, rows, columns, supersampling;
  int32_t sub_rows;            // rays a pixel across its row: supersampling, or 1 in one slice
  int32_t voxel_supersampling; // sub-voxels a side, in laws other than RS_EXACT
  int32_t fine_rows, fine_columns;
  rs_view *view; // [views]
} rs_geometry;

// Reads and checks the numbers of rs_plan_create. RS_OK, or an error after which *geometry owns nothing.
int32_t rs_geometry_read(rs_geometry *geometry, const double *numbers, int64_t count);
void rs_geometry_release(rs_geometry *geometry);

// A column `turn` apart from its neighbours is at the middle column + *along u + *rise axis; `column` counts from the middle, too.
RS_INLINE void rs_bend_column(double turn, double column, double *along, double *rise) {
  const double half = sin(0.5 * turn * column);
  *along = turn == 0 ? column : sin(turn * column) / turn;
  *rise = 2 * half * half; // 1 - cos
}

// A fine column is at corner + row v + *along u + *rise axis. `columns`: of the fine detector.
static inline void rs_bend(const rs_view *view, int32_t columns, double column, double *along, double *rise) {
  const double middle = 0.5 * (columns - 1);
  rs_bend_column(view->turn, column - middle, along, rise);
  *along += middle;
}

// The angle at which the line from the source through a point meets a curved detector where it leaves the cylinder, or NaN. `p` is the
// way from the source to the point, `s` from the axis to the source, both (along u, towards the source) in units of the radius. *way: how
// many times as far as the point that is.
RS_INLINE double rs_bend_angle(const double *p, const double *s, double *way) {
  const double square = p[0] * p[0] + p[1] * p[1], middle = s[0] * p[0] + s[1] * p[1];
  const double root = sqrt(middle * middle - square * (s[0] * s[0] + s[1] * s[1] - 1));
  *way = (-middle + (p[1] < 0 ? root : -root)) / square; // the detector is below the source
  return atan2(s[0] + *way * p[0], -(s[1] + *way * p[1]));
}

// World length of ray between two planes of the main axis, for the fine pixel (row, column).
double rs_ray_length(const rs_geometry *geometry, const rs_view *view, double row, double column);

#ifdef __cplusplus
}
#endif
