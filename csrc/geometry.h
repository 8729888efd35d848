// geometry.h: a projection geometry in voxel-index coordinates.
//
// World coordinates become p_k = (world_k - position_k) / voxel_k + (n_k - 1) / 2 for k = z, y, x: voxel centres are integers and
// the volume is where every p_k lies in (-1, n_k). One main axis a view, the one along which the central ray is steepest per voxel
// (ties: x, then y, then z); a ray is sampled where it crosses the integer planes of that axis, with linear interpolation in the
// other two (Joseph 1982). A forward projection is the sum of samples times the length of ray between two planes.
//
// Columns and rows are those of the supersampled ("fine") detector: S sub-columns a column, S sub-rows a row, averaged at the end.
#pragma once
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
} rs_view;

typedef struct {
  int32_t beam, law;
  int32_t shape[3]; // voxels
  double voxel[3];  // voxel size in world units
  int32_t views, rows, columns, supersampling;
  int32_t voxel_supersampling; // sub-voxels a side, in laws other than RS_EXACT
  int32_t fine_rows, fine_columns;
  rs_view *view; // [views]
} rs_geometry;

// Reads and checks the numbers of rs_plan_create. RS_OK, or an error after which *geometry owns nothing.
int32_t rs_geometry_read(rs_geometry *geometry, const double *numbers, int64_t count);
void rs_geometry_release(rs_geometry *geometry);

// World length of ray between two planes of the main axis, for the fine pixel (row, column).
double rs_ray_length(const rs_geometry *geometry, const rs_view *view, double row, double column);

#ifdef __cplusplus
}
#endif
