// upright_reach.h: which geometries the `rs_upright` family takes.
#pragma once
#include "upright_back.h"

namespace {

constexpr double STEEP = 4;   // most cells a plane
constexpr double BENT = 1e-7; // least angle from a column of a curved detector to the next: where points are seen, float64 tells better

// What the volume asks of back and forward; all 0 where a view is not for this family.
struct reach {
  double least;  // slices from row to row
  int32_t slots; // columns that a row of cells sees, and at least one more
};

// Of the parallelogram of two vectors in the plane.
double area(const double *a, const double *b) { return a[0] * b[1] - a[1] * b[0]; }

// In which column beside the middle start + b sin(angle) + c (1 - cos(angle)) is largest or smallest, or an end of the detector.
double extreme(const ray_view &rays, double b, double c) {
  const double angle = c != 0 ? atan(-b / c) : INFINITY;
  return rays.middle + fmin(fmax(angle / rays.turn, -rays.middle), rays.middle);
}

bool reach_of(const rs_geometry *geometry, const rs_view *view, reach &out) {
  if (view->main == RS_Z || hypot(view->v[RS_Y], view->v[RS_X]) > 1e-12 * fabs(view->v[RS_Z])) return false;
  const ray_view rays = rays_of(geometry, view);
  // The columns where the depth of the detector and the area between a ray and the tangent may have their extremes.
  double column[4] = {0, geometry->columns - 1.0};
  int columns = 2;
  if (rays.turn != 0) {
    const double middle[2] = {rays.way[0] + rays.middle * rays.u[0], rays.way[1] + rays.middle * rays.u[1]};
    const double way_u = area(middle, rays.u), way_axis = area(middle, rays.axis);
    if (rays.turn < BENT) return false;
    column[columns++] = extreme(rays, rays.u[0] / rays.turn, rays.axis[0]);
    column[columns++] = extreme(rays, way_axis * rays.turn, area(rays.u, rays.axis) - way_u);
  }
  const double top = geometry->rows - 1.0, up = fabs(rays.v[2]);
  double deepest = 0, smallest = INFINITY, steepest = 0;
  int signs = 0; // of depths and areas
  for (int k = 0; k < columns; k++) {
    double u[3], axis[3];
    const ray r = aim(rays, 0, rays.cone ? column[k] : 0);
    tangent(rays, column[k], u, axis);
    const double depth = r.way[0], between = area(r.way, u);
    const double rises = fmax(fabs(r.way[2]), rays.cone ? fabs(r.way[2] + top * rays.v[2]) : 0) / fabs(depth);
    signs |= (depth > 0 ? 1 : 2) | (between > 0 ? 4 : 8);
    deepest = fmax(deepest, fabs(depth)), smallest = fmin(smallest, fabs(between));
    steepest = fmax(steepest, fmax(fabs(r.way[1] / depth), rises));
  }
  if (signs % 4 == 3 || signs / 4 == 3 || !(steepest <= STEEP)) return false;
  // The share of the way from the source to a flat detector is affine in the plane, so its extremes are at the volume's corners. A curved
  // detector is nearer to the source than the flat one that touches it.
  double least = 1;
  if (rays.cone) {
    const double whole = area(rays.way, rays.u);
    least = INFINITY;
    for (int k = 0; k < 4; k++) {
      const double main = (k & 1 ? geometry->shape[view->main] - 1 : 0) - rays.point[0];
      const double cross = (k & 2 ? geometry->shape[view->cross] : -1) - rays.point[1];
      least = fmin(least, (main * rays.u[1] - cross * rays.u[0]) / whole);
    }
  }
  out.least = least * up;
  const double seen = (CELLS + 1) * deepest / (least * smallest) + 2; // smallest / deepest: cells from column to column at the detector
  if (!(out.least >= 0.5001 && seen < MOST)) return false;            // at most 4 rows a slice
  out.slots = seen < FEWEST ? FEWEST : MOST;
  return true;
}

bool reach_of_all(const rs_geometry *geometry, reach &out) {
  out = {INFINITY, FEWEST};
  for (int32_t i = 0; i < geometry->views; i++) {
    reach one;
    if (!reach_of(geometry, &geometry->view[i], one)) return false;
    out.least = fmin(out.least, one.least);
    if (out.slots < one.slots) out.slots = one.slots;
  }
  return true;
}

} // namespace
