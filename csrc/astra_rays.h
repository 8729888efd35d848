// astra_rays.h: rays through a volume as ASTRA's forward projectors aim them. Scalar arithmetic that CPU loops and CUDA kernels share.
#pragma once
#include "astra_texture.h"
#include "geometry.h"

#include <math.h>

// The axes of a view: the main one, and the two across it.
typedef struct {
  int axis[3];
  float count[3]; // of voxels along them
  int slab;       // planes along the main axis for which positions are added up
} astra_axes;

static inline astra_axes astra_axes_of(const rs_geometry *geometry, const rs_view *view, int main) {
  astra_axes axes = {{main, main == RS_X ? RS_Y : RS_X, main == RS_Z ? RS_Y : RS_Z}, {0, 0, 0}, 0};
  for (int i = 0; i < 3; i++) axes.count[i] = (float)geometry->shape[axes.axis[i]];
  axes.slab = geometry->law == RS_ASTRA_2D ? 64 : view->turn != 0 ? 16 : geometry->beam == RS_CONE ? 4 : 32;
  return axes;
}

static inline rs_texture_roles astra_roles(int main) { return main == RS_X ? RS_TEXTURE_YZ : main == RS_Y ? RS_TEXTURE_XZ : RS_TEXTURE_XY; }

// The main axis of a view: float32 settles what is a tie, and ties go to x, then y, then z; in 2D to y.
static inline int astra_main_axis(const rs_geometry *geometry, const rs_view *view) {
  float steep[3];
  for (int k = 0; k < 3; k++) {
    double direction = view->origin[k];
    if (geometry->beam == RS_CONE)
      direction -= view->corner[k] + 0.5 * (geometry->fine_rows - 1) * view->v[k] + 0.5 * (geometry->fine_columns - 1) * view->u[k];
    steep[k] = fabsf((float)direction);
  }
  if (geometry->law == RS_ASTRA_2D) return steep[RS_X] <= steep[RS_Y] ? RS_Y : RS_X;
  if (steep[RS_X] >= steep[RS_Y] && steep[RS_X] >= steep[RS_Z]) return RS_X;
  return steep[RS_Y] >= steep[RS_Z] ? RS_Y : RS_Z;
}

// In a 2D fan each ray has its own main axis. ASTRA compares the near edge of the pixel, half a voxel aside along x and (its y points
// the other way) y, with the source: the difference at the first column, and from column to column.
typedef struct {
  double y, x, u_y, u_x;
} astra_fan;

static inline astra_fan astra_fan_of(const rs_geometry *geometry, const rs_view *view) {
  const astra_fan fan = {view->corner[RS_Y] - 0.5 * view->u[RS_Y] - 0.5 - view->origin[RS_Y],
                         view->corner[RS_X] - 0.5 * view->u[RS_X] + 0.5 - view->origin[RS_X], geometry->supersampling * view->u[RS_Y],
                         geometry->supersampling * view->u[RS_X]};
  return fan;
}

RS_INLINE int astra_fan_axis(const astra_fan *fan, int32_t column) {
  return fabs(fan->y + column * fan->u_y) > fabs(fan->x + column * fan->u_x) ? RS_Y : RS_X;
}

// A view as its axes see it, in voxels from the volume's middle: the centre of pixel (0, 0), one column, one row, the ray direction
// or the source, the way to the axis of a curved detector; and the size of a voxel.
typedef struct {
  float first[3], u[3], v[3], origin[3], bend[3], size[3];
  int slab;
  double turn, middle; // angle from column to column, and the column in the middle; turn 0: flat
} astra_frame;

static inline astra_frame astra_frame_of(const rs_geometry *geometry, const rs_view *view, const astra_axes *axes) {
  const int s = geometry->supersampling;
  astra_frame frame;
  for (int n = 0; n < 3; n++) {
    const int d = axes->axis[n], out_of_plane = geometry->law == RS_ASTRA_2D && d == RS_Z;
    const double middle = 0.5 * (geometry->shape[d] - 1);
    frame.u[n] = out_of_plane ? 0 : (float)(view->u[d] * s);
    frame.v[n] = out_of_plane ? 0 : (float)(view->v[d] * s);
    frame.first[n] = out_of_plane ? 0 : (float)(view->corner[d] - 0.5 * (view->u[d] + view->v[d]) - middle);
    frame.first[n] = fmaf(0.5f, frame.v[n], fmaf(0.5f, frame.u[n], frame.first[n]));
    frame.origin[n] = out_of_plane ? 0 : (float)(geometry->beam == RS_CONE ? view->origin[d] - middle : view->origin[d]);
    frame.bend[n] = (float)view->axis[d];
    frame.size[n] = (float)geometry->voxel[d];
  }
  frame.slab = axes->slab;
  frame.turn = s * view->turn;
  frame.middle = 0.5 * (geometry->columns - 1);
  return frame;
}

// Where sub-pixel i of s of a pixel is, in pixels.
RS_INLINE float astra_sub_pixel(int32_t pixel, int i, int s) { return (float)pixel + ((float)i + 0.5f) / (float)s - 0.5f; }

#define ASTRA_FLAT 1e9f // slope of rays that run along the planes and are left out

// At height h along the main axis the ray is at start + h slope along the other two, in voxels from the volume's middle.
typedef struct {
  float start[2], slope[2];
  float length; // between two planes; 0: left out
} astra_ray;

// Everything is in float32 and in ASTRA's order: whose rounding decides on a 256th of a voxel, and two orders differ in a sample of a
// hundred.
RS_INLINE astra_ray astra_aim(const astra_frame *frame, int cone, float at_row, float at_column) {
  float at[3], direction[3], square = 1;
  double along = at_column, rise = 0;
  if (frame->turn != 0) {
    rs_bend_column(frame->turn, at_column - frame->middle, &along, &rise);
    along += frame->middle;
  }
  for (int n = 0; n < 3; n++) {
    at[n] = fmaf(at_row, frame->v[n], fmaf((float)along, frame->u[n], frame->first[n]));
    at[n] = fmaf((float)rise, frame->bend[n], at[n]);
    direction[n] = cone ? frame->origin[n] - at[n] : frame->origin[n];
  }
  const float slope[2] = {direction[1] / direction[0], direction[2] / direction[0]};
  const int seen = fabsf(slope[0]) < ASTRA_FLAT && fabsf(slope[1]) < ASTRA_FLAT;
  astra_ray ray;
  for (int n = 0; n < 2; n++) {
    const float *on = cone ? frame->origin : at, world = slope[n] * (frame->size[n + 1] / frame->size[0]);
    ray.slope[n] = seen ? slope[n] : 0;
    ray.start[n] = seen ? fmaf(-slope[n], on[0], on[n + 1]) : -ASTRA_FLAT;
    square += world * world;
  }
  ray.length = seen ? sqrtf(square) * frame->size[0] : 0;
  return ray;
}

// The planes first ... last of the main axis on which a ray may be in the volume, with half a voxel to spare; none where first > last.
RS_INLINE void astra_clip(const astra_ray *ray, const float *count, float *first, float *last) {
  const float middle = 0.5f * (count[0] - 1);
  *first = 0;
  *last = ray->length > 0 ? count[0] - 1 : -1;
  for (int n = 0; n < 2; n++) {
    const float start = ray->start[n], slope = ray->slope[n], most = 0.5f * count[n + 1] + 1;
    const float a = (-most - start) / slope + middle, b = (most - start) / slope + middle; // of rays without slope: infinite
    const float low = a < b ? a : b, high = a < b ? b : a;
    *first = low > *first ? low : *first;
    *last = high < *last ? high : *last;
  }
}

// Where a ray is on the first plane of a slab, in texels, halves at their centres.
RS_INLINE float astra_enter(float start, float slope, float slab, float count0, float count) {
  return fmaf(slope, slab - 0.5f * count0 + 0.5f, start) + 0.5f * count - 0.5f + 0.5f;
}

// Times this, such a position is one for rs_texture_place32.
#define ASTRA_TEXTURE_SCALE ((float)RS_TEXTURE_SCALE)
