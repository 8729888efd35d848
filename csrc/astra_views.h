// astra_views.h: where ASTRA's back projectors look for voxels on the detector, and what its 2D projectors refuse. Host code that the
// CPU and the CUDA family share.
#pragma once
#include "astra_texture.h"
#include "geometry.h"
#include "status.h"

#include <string.h>

// Where the columns and rows of one view lie, as affine functions of a voxel's (z, y, x, 1), scaled for rs_texture_place. Cone beams
// divide both by `depth`: the distance from the source, 1 at the detector.
//
// A curved detector has no such columns: there `column` and `depth` are a voxel's way from the source along u and towards the source, in
// radii, and `row` its way along v.
typedef struct {
  double column[4], row[4], depth[4];
  float column32[4], row32[4]; // of parallel beams: the same in pixels from the detector's corner, for (z, y, x) from the volume's middle
  double weight;
  double source[3]; // from the cylinder's axis, as above: along u, towards the source, along v
  double turn;      // angle from column to column; 0: flat
} astra_view;

static inline double astra_dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static inline void astra_cross(double *out, const double *a, const double *b) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

// out = scale (normal . (p - from)) as a function of p.
static inline void astra_set_affine(double *out, const double *normal, const double *from, double scale) {
  for (int k = 0; k < 3; k++) out[k] = scale * normal[k];
  out[3] = -scale * astra_dot(normal, from);
}

// ASTRA keeps these in float32 and counts voxels from the volume's middle.
static inline void astra_centre(float *out, const double *affine, const int32_t *shape) {
  double middle = affine[3];
  for (int k = 0; k < 3; k++) {
    middle += 0.5 * (shape[k] - 1) * affine[k];
    out[k] = (float)(affine[k] / RS_TEXTURE_SCALE);
  }
  out[3] = (float)(middle / RS_TEXTURE_SCALE + 0.5);
}

// Where the voxel at (z, y, x) lies. The order of the sums decides on 256ths, as in astra_aim.
RS_INLINE float astra_place32(const float *centred, float z, float y, float x) {
  return fmaf(z, centred[0], fmaf(y, centred[1], fmaf(x, centred[2], centred[3])));
}

// ASTRA places every sixth voxel of a column like this, and goes from there to the next ones in steps.
#define ASTRA_STEPS 6

static inline void astra_make_view(const rs_geometry *geometry, const rs_view *view, astra_view *out) {
  const int flat = geometry->law == RS_ASTRA_2D;
  const double s = geometry->supersampling, voxel = geometry->voxel[RS_X];
  double u[3], v[3], first[3], origin[3], normal[3], across[3], direction[3], area[3], world_u[3], world_v[3];
  // Back to whole pixels: `first` is the centre of pixel (0, 0). In 2D everything is in the plane, and v is along z.
  for (int k = 0; k < 3; k++) {
    const int out_of_plane = flat && k == RS_Z;
    u[k] = out_of_plane ? 0 : s * view->u[k];
    v[k] = flat ? k == RS_Z : s * view->v[k];
    first[k] = out_of_plane ? 0 : view->corner[k] + 0.5 * (s - 1) * (view->u[k] + (flat ? 0 : view->v[k]));
    origin[k] = out_of_plane ? 0 : view->origin[k];
    world_u[k] = u[k] * geometry->voxel[k];
    world_v[k] = v[k] * geometry->voxel[k];
    direction[k] = geometry->beam == RS_CONE ? first[k] - origin[k] : origin[k];
  }
  memset(out, 0, sizeof *out);
  out->turn = s * view->turn;
  if (view->turn != 0) {
    // Rows of a matrix that takes ways in voxels to ways along u and towards the source, in radii, and along v, in rows.
    double width = 0, height = 0, radius = 0, start[3], *rows[3] = {out->column, out->depth, out->row};
    for (int k = 0; k < 3; k++) {
      const double square = geometry->voxel[k] * geometry->voxel[k];
      width += square * u[k] * u[k], height += square * v[k] * v[k], radius += square * view->axis[k] * view->axis[k];
      start[k] = origin[k] - first[k] - 0.5 * (geometry->columns - 1) * u[k] - view->axis[k];
    }
    const double scale[3] = {1 / sqrt(width * radius), 1 / radius, RS_TEXTURE_SCALE / height};
    for (int n = 0; n < 3; n++) {
      const double *along = n == 0 ? u : n == 1 ? view->axis : v;
      double normal[3];
      for (int k = 0; k < 3; k++) normal[k] = geometry->voxel[k] * geometry->voxel[k] * along[k];
      astra_set_affine(rows[n], normal, origin, scale[n]);
      out->source[n] = scale[n] * astra_dot(normal, start);
    }
    out->weight = geometry->voxel[RS_Z] * geometry->voxel[RS_Y] * geometry->voxel[RS_X] / sqrt(width * height);
    return;
  }
  astra_cross(area, world_u, world_v);
  out->weight = geometry->voxel[RS_Z] * geometry->voxel[RS_Y] * geometry->voxel[RS_X] / sqrt(astra_dot(area, area));
  astra_cross(normal, u, v);
  double height = astra_dot(direction, normal);
  const double *from = geometry->beam == RS_CONE ? origin : first;
  astra_cross(across, v, direction);
  astra_set_affine(out->column, across, from, RS_TEXTURE_SCALE / height);
  astra_cross(across, direction, u);
  astra_set_affine(out->row, across, from, RS_TEXTURE_SCALE / height);
  astra_set_affine(out->depth, normal, from, 1 / height);
  astra_centre(out->column32, out->column, geometry->shape);
  astra_centre(out->row32, out->row, geometry->shape);
  if (geometry->beam == RS_PARALLEL) out->column[3] += RS_TEXTURE_OFFSET, out->row[3] += RS_TEXTURE_OFFSET;
  if (flat) // of the voxel across the beam: per column, and per distance between rays where u is oblique to them
    out->weight = geometry->beam == RS_CONE ? voxel / sqrt(astra_dot(u, u)) : voxel * sqrt(astra_dot(direction, direction)) / fabs(height);
}

static inline int64_t astra_image_floats(const rs_geometry *geometry) {
  return (int64_t)(geometry->rows + RS_TEXTURE_BORDER) * (geometry->columns + RS_TEXTURE_BORDER);
}

static inline int64_t astra_volume_floats(const rs_geometry *geometry) {
  const int32_t *shape = geometry->shape;
  return (int64_t)(shape[RS_Y] + RS_TEXTURE_BORDER) * (shape[RS_X] + RS_TEXTURE_BORDER) * (shape[RS_Z] + RS_TEXTURE_BORDER);
}

static inline int32_t astra_check(const rs_geometry *geometry) {
  const int32_t *shape = geometry->shape;
  if (astra_image_floats(geometry) > INT32_MAX)
    return rs_fail(RS_EARGUMENT, "a detector of %d x %d pixels: law astra takes at most %d", geometry->rows, geometry->columns, INT32_MAX);
  if (astra_volume_floats(geometry) > INT32_MAX)
    return rs_fail(RS_EARGUMENT, "a volume of %d x %d x %d voxels: law astra takes at most %d", shape[0], shape[1], shape[2], INT32_MAX);
  if (geometry->law != RS_ASTRA_2D) return RS_OK;
  const double *voxel = geometry->voxel;
  if (geometry->shape[RS_Z] != 1 || geometry->rows != 1)
    return rs_fail(RS_EARGUMENT, "law astra2d: %d slices and %d detector rows: expected one slice and one row", geometry->shape[RS_Z],
                   geometry->rows);
  if (fabs(voxel[RS_X] - voxel[RS_Y]) > 1e-5 * voxel[RS_X])
    return rs_fail(RS_EARGUMENT, "law astra2d: voxels of %g x %g along y and x: expected squares", voxel[RS_Y], voxel[RS_X]);
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *view = &geometry->view[i];
    double s = geometry->supersampling, middle = view->corner[RS_Z] + 0.5 * (s - 1) * view->v[RS_Z];
    if (view->turn != 0) return rs_fail(RS_EARGUMENT, "law astra2d: view %d has a curved detector: expected a flat one", i);
    double off = fabs(view->u[RS_Z]) + fabs(view->v[RS_Y]) + fabs(view->v[RS_X]) + fabs(view->origin[RS_Z]) + fabs(middle);
    if (off > 1e-6) return rs_fail(RS_EARGUMENT, "law astra2d: view %d leaves the plane of the slice, or its v is not along z", i);
  }
  return RS_OK;
}
