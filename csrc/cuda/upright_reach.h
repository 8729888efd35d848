// upright_reach.h: which geometries the `rs_upright` family takes.
#pragma once
#include "upright_back.h"

namespace {

constexpr double STEEP = 4; // most cells a plane

// What the volume asks of back and forward; all 0 where a view is not for this family.
struct reach {
  double least, most; // slices from row to row
  int32_t slots;      // columns that a row of cells sees, and at least one more
};

bool reach_of(const rs_geometry *geometry, const rs_view *view, reach &out) {
  if (view->main == RS_Z || view->turn != 0 || hypot(view->v[RS_Y], view->v[RS_X]) > 1e-12 * fabs(view->v[RS_Z])) return false;
  const ray_view rays = rays_of(geometry, view);
  const double edge[2] = {0, geometry->columns - 1.0}, top = geometry->rows - 1.0, up = fabs(rays.v[2]);
  double depth[2], across = INFINITY, steepest = 0; // columns apart, in cells, at the detector (cone) or everywhere
  for (int k = 0; k < 2; k++) {
    const double c = rays.cone ? edge[k] : 0;
    depth[k] = rays.way[0] + c * rays.u[0];
    const double slope = (rays.way[1] + c * rays.u[1]) / depth[k], rise = rays.way[2] + c * rays.u[2];
    const double rises = fmax(fabs(rise), rays.cone ? fabs(rise + top * rays.v[2]) : 0) / fabs(depth[k]);
    across = fmin(across, fabs(rays.u[1] - slope * rays.u[0]));
    steepest = fmax(steepest, fmax(fabs(slope), rises));
  }
  if (!(depth[0] * depth[1] > 0) || !(steepest <= STEEP)) return false;
  // The share of the way from the source to the detector is affine in the plane, so its extremes are at the volume's corners.
  double least = 1, most = 1;
  if (rays.cone) {
    const double area = rays.way[0] * rays.u[1] - rays.way[1] * rays.u[0];
    least = INFINITY, most = -INFINITY;
    for (int k = 0; k < 4; k++) {
      const double main = (k & 1 ? geometry->shape[view->main] - 1 : 0) - rays.point[0];
      const double cross = (k & 2 ? geometry->shape[view->cross] : -1) - rays.point[1];
      const double share = (main * rays.u[1] - cross * rays.u[0]) / area;
      least = fmin(least, share), most = fmax(most, share);
    }
  }
  out.least = least * up, out.most = most * up;
  const double columns = (CELLS + 1) / (least * across) + 2;
  if (!(out.least >= 0.5001 && columns < MOST)) return false; // at most 4 rows a slice
  out.slots = columns < FEWEST ? FEWEST : MOST;
  return true;
}

bool reach_of_all(const rs_geometry *geometry, reach &out) {
  out = {INFINITY, 0, FEWEST};
  for (int32_t i = 0; i < geometry->views; i++) {
    reach one;
    if (!reach_of(geometry, &geometry->view[i], one)) return false;
    out.least = fmin(out.least, one.least), out.most = fmax(out.most, one.most);
    if (out.slots < one.slots) out.slots = one.slots;
  }
  return true;
}

} // namespace
