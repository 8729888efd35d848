// geometry.c: reads, checks and normalizes a projection geometry.
#include "geometry.h"

#include "status.h"

#include <math.h>
#include <stdlib.h>

#define MAX_COUNT 1048576.0 // voxels, pixels or views along one axis: keeps every index product inside 63 bits
#define MAX_SUPERSAMPLING 16.0

static int32_t read_count(const double *number, const char *what, double most, int32_t *out) {
  if (!(*number >= 1 && *number <= most && *number == floor(*number)))
    return rs_fail(RS_EARGUMENT, "%s is %g: expected a whole number from 1 to %.0f", what, *number, most);
  *out = (int32_t)*number;
  return RS_OK;
}

static double dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static void cross(double *out, const double *a, const double *b) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

// |sin| of an angle below which two directions count as parallel.
#define PARALLEL_SINE 1e-9
// |cos| of an angle below which two directions count as perpendicular.
#define PERPENDICULAR_COSINE 1e-5
#define PI 3.14159265358979323846

// Reads the cylinder of a curved detector. `normal` is perpendicular to the detector in its centre.
static int32_t bend_view(const rs_geometry *geometry, const double *numbers, const double *normal, int32_t index, rs_view *view) {
  const double *centre = numbers + 3, *v = numbers + 6, *u = numbers + 9, radius = numbers[12];
  const double width = sqrt(dot(u, u)), half = 0.5 * geometry->columns * width / radius;
  if (!(radius > 0) || geometry->beam != RS_CONE)
    return rs_fail(RS_EARGUMENT, "view %d: the radius of the detector is %g: expected 0 (flat), or above 0 in a cone beam", index, radius);
  if (!(fabs(dot(u, v)) <= PERPENDICULAR_COSINE * width * sqrt(dot(v, v))))
    return rs_fail(RS_EARGUMENT, "view %d: the detector vectors u and v of a curved detector must be perpendicular", index);
  if (!(half < 0.5 * PI))
    return rs_fail(RS_EARGUMENT, "view %d: %d columns of %g on a radius of %g: expected less than half a circle", index, geometry->columns,
                   width, radius);
  double source[3];
  for (int k = 0; k < 3; k++) source[k] = numbers[k] - centre[k];
  double up = dot(normal, source), size = (up > 0 ? 1 : -1) * radius / sqrt(dot(normal, normal));
  // Seen from the axis: the source is above the tangent of a column while across sin - above cos < radius. The worst column:
  double across = dot(u, source) / width, above = fabs(up) / sqrt(dot(normal, normal)) - radius;
  double worst = fmax(-half, fmin(half, atan2(across, -above)));
  if (!(across * sin(worst) - above * cos(worst) < radius))
    return rs_fail(RS_EARGUMENT, "view %d: the source does not see the inner side of the whole curved detector", index);
  view->turn = width / radius / geometry->supersampling;
  for (int k = 0; k < 3; k++) view->axis[k] = size * normal[k] / geometry->voxel[k];
  return RS_OK;
}

static int32_t read_view(const rs_geometry *geometry, const double *position, const double *numbers, int32_t index, rs_view *view) {
  const double *origin = numbers, *centre = numbers + 3, *v = numbers + 6, *u = numbers + 9;
  for (int k = 0; k < RS_VIEW; k++)
    if (!isfinite(numbers[k])) return rs_fail(RS_EARGUMENT, "view %d: number %d is %g: expected finite numbers", index, k, numbers[k]);
  double normal[3], direction[3];
  cross(normal, u, v);
  double area = sqrt(dot(normal, normal)), u_length = sqrt(dot(u, u)), v_length = sqrt(dot(v, v));
  if (!(area > PARALLEL_SINE * u_length * v_length))
    return rs_fail(RS_EARGUMENT, "view %d: the detector vectors u and v span no area", index);
  for (int k = 0; k < 3; k++) direction[k] = geometry->beam == RS_PARALLEL ? origin[k] : centre[k] - origin[k];
  double length = sqrt(dot(direction, direction));
  if (!(length > 0))
    return rs_fail(RS_EARGUMENT,
                   geometry->beam == RS_PARALLEL ? "view %d: the ray direction is zero" : "view %d: the source is at the detector centre",
                   index);
  if (!(fabs(dot(direction, normal)) > PARALLEL_SINE * area * length))
    return rs_fail(RS_EARGUMENT,
                   geometry->beam == RS_PARALLEL ? "view %d: the rays run inside the detector plane"
                                                 : "view %d: the source lies in the detector plane",
                   index);

  view->turn = view->axis[0] = view->axis[1] = view->axis[2] = 0;
  if (numbers[12] != 0 && bend_view(geometry, numbers, normal, index, view)) return RS_EARGUMENT;
  double fine_row = 1.0 / geometry->sub_rows, fine_column = 1.0 / geometry->supersampling;
  double steepest = 0;
  view->main = RS_X;
  for (int k = RS_X; k >= RS_Z; k--) { // ties go to x, then y, then z
    double steepness = fabs(direction[k] / geometry->voxel[k]);
    if (steepness > steepest) steepest = steepness, view->main = k;
  }
  view->cross = view->main == RS_X ? RS_Y : RS_X;
  for (int k = 0; k < 3; k++) {
    double scale = 1 / geometry->voxel[k], middle = 0.5 * (geometry->shape[k] - 1);
    view->v[k] = v[k] * scale * fine_row;
    view->u[k] = u[k] * scale * fine_column;
    view->corner[k] = (centre[k] - position[k]) * scale + middle - 0.5 * (geometry->fine_rows - 1) * view->v[k] -
                      0.5 * (geometry->fine_columns - 1) * view->u[k];
    view->origin[k] = geometry->beam == RS_PARALLEL ? origin[k] * scale : (origin[k] - position[k]) * scale + middle;
    if (!isfinite(view->v[k]) || !isfinite(view->u[k]) || !isfinite(view->corner[k]) || !isfinite(view->origin[k]))
      return rs_fail(RS_EARGUMENT, "view %d: in voxels of %g its numbers leave the range of float64", index, geometry->voxel[k]);
  }
  return RS_OK;
}

// Whether all rays through the middle of the pixels stay in the middle of the only slice.
static int in_one_slice(const rs_geometry *geometry, const double *numbers) {
  if (geometry->shape[RS_Z] > 1 || geometry->rows > 1) return 0;
  const double most = 1e-9 * geometry->voxel[RS_Z], z = numbers[RS_POSITION];
  for (int32_t i = 0; i < geometry->views; i++) {
    const double *origin = numbers + RS_HEADER + RS_VIEW * (int64_t)i, *centre = origin + 3, *v = origin + 6, *u = origin + 9;
    double off = geometry->beam == RS_CONE ? origin[RS_Z] - z : origin[RS_Z] / sqrt(dot(origin, origin)) * geometry->voxel[RS_Z];
    if (!(fabs(off) <= most && fabs(centre[RS_Z] - z) <= most && fabs(u[RS_Z]) * geometry->columns <= most)) return 0;
    if (!(hypot(v[RS_Y], v[RS_X]) <= 1e-12 * fabs(v[RS_Z]))) return 0;
  }
  return 1;
}

int32_t rs_geometry_read(rs_geometry *geometry, const double *numbers, int64_t count) {
  static const char *const axis[3] = {"z", "y", "x"};
  geometry->view = NULL;
  if (!numbers || count < RS_HEADER)
    return rs_fail(RS_EARGUMENT, "a geometry has at least %d numbers, not %lld", RS_HEADER, (long long)count);
  if (numbers[RS_BEAM] != RS_PARALLEL && numbers[RS_BEAM] != RS_CONE)
    return rs_fail(RS_EARGUMENT, "beam is %g: expected %d (parallel) or %d (cone)", numbers[RS_BEAM], RS_PARALLEL, RS_CONE);
  geometry->beam = (int32_t)numbers[RS_BEAM];
  if (numbers[RS_LAW] != RS_EXACT && numbers[RS_LAW] != RS_ASTRA && numbers[RS_LAW] != RS_ASTRA_2D)
    return rs_fail(RS_EARGUMENT, "law is %g: expected %d (exact), %d (astra) or %d (astra2d)", numbers[RS_LAW], RS_EXACT, RS_ASTRA,
                   RS_ASTRA_2D);
  geometry->law = (int32_t)numbers[RS_LAW];
  if (numbers[RS_PRECISION] != RS_PRECISION_FLOAT32 && numbers[RS_PRECISION] != RS_PRECISION_HIGH &&
      numbers[RS_PRECISION] != RS_PRECISION_HALF)
    return rs_fail(RS_EARGUMENT, "precision is %g: expected %d (float32), %d (high) or %d (half)", numbers[RS_PRECISION],
                   RS_PRECISION_FLOAT32, RS_PRECISION_HIGH, RS_PRECISION_HALF);
  geometry->precision = (int32_t)numbers[RS_PRECISION];
  for (int k = 0; k < 3; k++) {
    if (read_count(numbers + RS_SHAPE + k, "a count of voxels", MAX_COUNT, &geometry->shape[k])) return RS_EARGUMENT;
    geometry->voxel[k] = numbers[RS_VOXEL_SIZE + k];
    if (!(geometry->voxel[k] > 0 && isfinite(geometry->voxel[k])))
      return rs_fail(RS_EARGUMENT, "the voxel size along %s is %g: expected a positive length", axis[k], geometry->voxel[k]);
    if (!isfinite(numbers[RS_POSITION + k]))
      return rs_fail(RS_EARGUMENT, "the volume's position along %s is %g: expected a finite length", axis[k], numbers[RS_POSITION + k]);
  }
  if (read_count(numbers + RS_VIEWS, "the count of views", MAX_COUNT, &geometry->views) ||
      read_count(numbers + RS_ROWS, "the count of detector rows", MAX_COUNT, &geometry->rows) ||
      read_count(numbers + RS_COLUMNS, "the count of detector columns", MAX_COUNT, &geometry->columns) ||
      read_count(numbers + RS_DETECTOR_SUPERSAMPLING, "detector supersampling", MAX_SUPERSAMPLING, &geometry->supersampling) ||
      read_count(numbers + RS_VOXEL_SUPERSAMPLING, "voxel supersampling", MAX_SUPERSAMPLING, &geometry->voxel_supersampling))
    return RS_EARGUMENT;
  if (geometry->law == RS_EXACT && geometry->voxel_supersampling > 1)
    return rs_fail(RS_EARGUMENT, "voxel supersampling is %d in law exact: expected 1, it has no meaning for an exact transpose",
                   geometry->voxel_supersampling);
  const int64_t numbers_wanted = RS_HEADER + RS_VIEW * (int64_t)geometry->views;
  if (count != numbers_wanted)
    return rs_fail(RS_EARGUMENT, "a geometry of %d views has %lld numbers, not %lld", geometry->views, (long long)numbers_wanted,
                   (long long)count);
  geometry->sub_rows = geometry->law == RS_EXACT && in_one_slice(geometry, numbers) ? 1 : geometry->supersampling;
  geometry->fine_rows = geometry->rows * geometry->sub_rows;
  geometry->fine_columns = geometry->columns * geometry->supersampling;
  geometry->view = malloc((size_t)geometry->views * sizeof *geometry->view);
  if (!geometry->view) return rs_fail(RS_EMEMORY, "no host memory for the vectors of %d views", geometry->views);
  for (int32_t i = 0; i < geometry->views; i++) {
    int32_t status = read_view(geometry, numbers + RS_POSITION, numbers + RS_HEADER + RS_VIEW * (int64_t)i, i, &geometry->view[i]);
    if (status) {
      rs_geometry_release(geometry);
      return status;
    }
  }
  return RS_OK;
}

void rs_geometry_release(rs_geometry *geometry) {
  free(geometry->view);
  geometry->view = NULL;
}

double rs_ray_length(const rs_geometry *geometry, const rs_view *view, double row, double column) {
  double world = 0, main = 0, along, rise;
  rs_bend(view, geometry->fine_columns, column, &along, &rise);
  for (int k = 0; k < 3; k++) {
    double direction = view->origin[k];
    if (geometry->beam == RS_CONE)
      direction = view->corner[k] + row * view->v[k] + along * view->u[k] + rise * view->axis[k] - view->origin[k];
    world += direction * geometry->voxel[k] * direction * geometry->voxel[k];
    if (k == view->main) main = fabs(direction);
  }
  return main > 0 ? sqrt(world) / main : 0;
}
