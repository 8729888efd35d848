// bend.h: curved detectors, for the CUDA families that look for the rays near a voxel.
#pragma once
#include "rays.h"

__device__ static inline double triple(const double *a, const double *b, const double *c) {
  return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
}

// The tangent of a detector in a column, and the way from there to the axis: what u and axis are in the middle. Flat: u and zeros.
__host__ __device__ static inline void tangent(const ray_view &view, double column, double *u, double *axis) {
  for (int k = 0; k < 3; k++) u[k] = view.u[k], axis[k] = 0;
  if (view.turn == 0) return;
  const double turn = view.turn * (column - view.middle), sine = sin(turn), cosine = cos(turn);
  for (int k = 0; k < 3; k++) {
    u[k] = cosine * view.u[k] + view.turn * sine * view.axis[k];
    axis[k] = cosine * view.axis[k] - sine / view.turn * view.u[k];
  }
}

// A vector in the plane across the axis of a curved detector: along u and towards the source, in units of the radius.
__device__ static inline void unbend(const ray_view &view, const double *vector, double *out) {
  const double volume = triple(view.u, view.axis, view.v);
  out[0] = triple(vector, view.axis, view.v) * view.turn / volume;
  out[1] = triple(view.u, vector, view.v) / volume;
}

// The same from the axis to the source.
__device__ static inline void source_of(const ray_view &view, double *out) {
  double back[3];
  for (int k = 0; k < 3; k++) back[k] = -view.way[k] - view.middle * view.u[k] - view.axis[k];
  unbend(view, back, out);
}

// In which column of a curved detector the point at `from` from the source is seen; the middle one where it is the source. Where the line
// through both misses the cylinder, the point of it next to the axis decides, which is beyond the ends of every detector.
__device__ static inline double bent_column(const ray_view &view, const double *from) {
  double point[2], source[2];
  unbend(view, from, point);
  source_of(view, source);
  // rs_bend_angle
  const double square = point[0] * point[0] + point[1] * point[1], middle = source[0] * point[0] + source[1] * point[1];
  const double root = sqrt(fmax(middle * middle - square * (source[0] * source[0] + source[1] * source[1] - 1), 0.0));
  const double way = (-middle + (point[1] < 0 ? root : -root)) / square;
  const double column = view.middle + atan2(source[0] + way * point[0], -(source[1] + way * point[1])) / view.turn;
  return isfinite(column) ? column : view.middle;
}
